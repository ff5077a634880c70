//! Asking one server again and again, in a thread of its own: one that hangs holds up nobody.

use super::snapshot::{ServerLine, ServerState};
use parking_lot::{Condvar, Mutex};
use ringfs_link::{Cmd, Conn, Endpoint, LinkError, Timeouts};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A server that lets us wait for longer than this is shown as silent; one that fails sooner as down.
const SILENT_AFTER: Duration = Duration::from_millis(800);

/// What INFO tells of interest. Fields that a server does not have are 0.
#[derive(Clone, Debug, Default, PartialEq)]
struct Info {
    run_id: String,
    loading: bool,
    memory_used: u64,
    memory_max: u64,
    commands: u64,
    bytes_in: u64,
    bytes_out: u64,
}

impl Info {
    fn parse(text: &str) -> Info {
        let field = |name: &str| {
            text.lines().find_map(|line| line.trim_end().strip_prefix(name)?.strip_prefix(':'))
        };
        let number = |name: &str| field(name).and_then(|value| value.parse().ok()).unwrap_or(0);
        Info {
            run_id: field("run_id").unwrap_or_default().to_owned(),
            loading: field("loading") == Some("1"),
            memory_used: number("used_memory"),
            memory_max: number("maxmemory"),
            commands: number("total_commands_processed"),
            bytes_in: number("total_net_input_bytes"),
            bytes_out: number("total_net_output_bytes"),
        }
    }
}

/// One answer.
#[derive(Clone, Debug)]
struct Answer {
    at: Instant,
    info: Info,
    latency: Duration,
}

#[derive(Default)]
struct State {
    last: Option<Answer>,
    before: Option<Answer>,
    /// A question is under way since then.
    asking: Option<Instant>,
    /// How the last question failed, and after how long.
    failure: Option<(LinkError, Duration)>,
    rounds: u64,
    stopped: bool,
}

/// A server that is asked in the background until this is dropped. The thread is not waited for: it
/// may be waiting for a server that hangs.
pub struct Post {
    /// Its name.
    pub name: String,
    endpoint: Endpoint,
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    stop: Condvar,
}

impl Post {
    /// Begins to ask, every `interval`.
    pub fn start(
        name: String,
        endpoint: Endpoint,
        timeouts: Timeouts,
        interval: Duration,
    ) -> std::io::Result<Post> {
        let shared = Arc::new(Shared { state: Mutex::default(), stop: Condvar::new() });
        let (asker, server) = (shared.clone(), endpoint.clone());
        std::thread::Builder::new()
            .name(format!("top-{name}"))
            .spawn(move || asker.run(&server, timeouts, interval))?;
        Ok(Post { name, endpoint, shared })
    }

    /// Whether this asks that server.
    pub fn is_for(&self, name: &str, endpoint: &Endpoint) -> bool {
        self.name == name && self.endpoint == *endpoint
    }

    /// How often the server was asked to the end.
    pub fn rounds(&self) -> u64 {
        self.shared.state.lock().rounds
    }

    /// How it is now. `verdict` is what the ring says, if that is not "up".
    pub fn line(&self, verdict: Option<ServerState>) -> ServerLine {
        let state = self.shared.state.lock();
        let now = Instant::now();
        let waiting = state.asking.map(|since| now - since).filter(|since| *since > SILENT_AFTER);
        let (condition, cause) = condition(&state, waiting);
        let answer = state.last.as_ref().filter(|_| condition >= ServerState::Loading);
        let rates =
            answer.zip(state.before.as_ref()).and_then(|(last, before)| rates(before, last));
        ServerLine {
            name: self.name.clone(),
            address: self.endpoint.to_string(),
            state: verdict.map_or(condition, |verdict| verdict.min(condition)),
            cause,
            memory_used: answer.map(|answer| answer.info.memory_used),
            memory_max: answer.map(|answer| answer.info.memory_max),
            ops_per_second: rates.map(|rates| rates[0]),
            in_per_second: rates.map(|rates| rates[1]),
            out_per_second: rates.map(|rates| rates[2]),
            latency_us: answer.map(|answer| answer.latency.as_micros() as u64),
        }
    }
}

impl Drop for Post {
    fn drop(&mut self) {
        self.shared.state.lock().stopped = true;
        self.shared.stop.notify_all();
    }
}

impl Shared {
    fn run(&self, endpoint: &Endpoint, timeouts: Timeouts, interval: Duration) {
        let mut conn = None;
        loop {
            let begun = Instant::now();
            {
                let mut state = self.state.lock();
                if state.stopped {
                    return;
                }
                state.asking = Some(begun);
            }
            // An idle connection may have been cut long ago: that says nothing about the server.
            let result = ask(&mut conn, endpoint, timeouts).or_else(|error| match error {
                LinkError::Lost { .. } => ask(&mut conn, endpoint, timeouts),
                error => Err(error),
            });
            let mut state = self.state.lock();
            state.asking = None;
            state.rounds += 1;
            match result {
                Ok(answer) => {
                    state.before = state.last.replace(answer);
                    state.failure = None;
                }
                Err(error) => {
                    // Rates over a time in which it did not answer say nothing.
                    (state.last, state.before) = (None, None);
                    state.failure = Some((error, begun.elapsed()));
                }
            }
            while !state.stopped {
                if self.stop.wait_until(&mut state, begun + interval).timed_out() {
                    break;
                }
            }
        }
    }
}

fn ask(
    conn: &mut Option<Conn>,
    endpoint: &Endpoint,
    timeouts: Timeouts,
) -> Result<Answer, LinkError> {
    // Kept for the next time only if nothing went wrong.
    let mut usable = match conn.take() {
        Some(conn) => conn,
        None => Conn::open(endpoint, &timeouts)?,
    };
    let answer = ask_on(&mut usable)?;
    *conn = Some(usable);
    Ok(answer)
}

fn ask_on(conn: &mut Conn) -> Result<Answer, LinkError> {
    let info = conn.call(&Cmd::new("INFO"))?.into_some_bytes()?;
    let begun = Instant::now();
    match conn.call(&Cmd::new("PING")) {
        Ok(_) => {}
        Err(error) if error.is_loading() => {}
        Err(error) => return Err(error),
    }
    let (at, latency) = (Instant::now(), begun.elapsed());
    Ok(Answer { at, info: Info::parse(&String::from_utf8_lossy(&info)), latency })
}

/// How the server seems, and why if it is not up. Pure.
fn condition(state: &State, waiting: Option<Duration>) -> (ServerState, Option<String>) {
    match (&state.failure, &state.last, waiting) {
        (Some((error, _)), ..) if error.is_loading() => {
            (ServerState::Loading, Some("it reads its data from disk".to_owned()))
        }
        (Some((error, after)), ..) if *after > SILENT_AFTER => {
            (ServerState::Silent, Some(error.to_string()))
        }
        (Some((error, _)), ..) => (ServerState::Down, Some(error.to_string())),
        (None, _, Some(since)) => {
            (ServerState::Silent, Some(format!("no answer for {:.1} s", since.as_secs_f64())))
        }
        (None, Some(last), None) if last.info.loading => {
            (ServerState::Loading, Some("it reads its data from disk".to_owned()))
        }
        (None, Some(_), None) => (ServerState::Up, None),
        (None, None, None) => (ServerState::Unknown, None),
    }
}

/// Commands, bytes received and bytes sent in a second; `None` if it is not the same run of the
/// server. Pure.
fn rates(before: &Answer, last: &Answer) -> Option<[f64; 3]> {
    let seconds = last.at.saturating_duration_since(before.at).as_secs_f64();
    if before.info.run_id != last.info.run_id || seconds <= 0.0 {
        return None;
    }
    let counters = |info: &Info| [info.commands, info.bytes_in, info.bytes_out];
    let (old, new) = (counters(&before.info), counters(&last.info));
    let rate = |i: usize| new[i].checked_sub(old[i]).map(|grown| grown as f64 / seconds);
    Some([rate(0)?, rate(1)?, rate(2)?])
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringfs_testkit::RedisServer;

    fn answer(at: Instant, run_id: &str, commands: u64) -> Answer {
        let info = Info { run_id: run_id.to_owned(), commands, ..Info::default() };
        Answer { at, info, latency: Duration::from_micros(50) }
    }

    #[test]
    fn rates_are_those_of_one_run_of_the_server() {
        let then = Instant::now();
        let now = then + Duration::from_secs(2);
        assert_eq!(rates(&answer(then, "a", 100), &answer(now, "a", 300)).unwrap()[0], 100.0);
        assert_eq!(rates(&answer(then, "a", 100), &answer(now, "b", 300)), None);
        assert_eq!(rates(&answer(then, "a", 300), &answer(now, "a", 100)), None);
        assert_eq!(rates(&answer(now, "a", 1), &answer(now, "a", 2)), None);
    }

    #[test]
    fn the_verdict_of_the_ring_counts_if_it_is_worse() {
        assert!(ServerState::Down.min(ServerState::Up) == ServerState::Down);
        assert!(ServerState::Out.min(ServerState::Silent) == ServerState::Out);
    }

    fn wait_for(post: &Post, what: ServerState) -> ServerLine {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let line = post.line(None);
            if line.state == what && (what != ServerState::Up || line.ops_per_second.is_some()) {
                return line;
            }
            assert!(Instant::now() < deadline, "{line:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn a_server_that_lives_hangs_dies_and_returns_is_seen_so() {
        let mut server = RedisServer::start_default();
        let timeouts =
            Timeouts { connect: Duration::from_secs(2), reply: Duration::from_millis(1500) };
        let interval = Duration::from_millis(50);
        let post = Post::start("a".into(), server.endpoint(), timeouts, interval).unwrap();
        let line = wait_for(&post, ServerState::Up);
        assert!(line.memory_used.unwrap() > 100_000 && line.ops_per_second.unwrap() > 0.0);
        assert!(line.latency_us.is_some() && line.cause.is_none());
        server.stop();
        let line = wait_for(&post, ServerState::Silent);
        assert!(line.cause.is_some() && line.ops_per_second.is_none());
        server.cont();
        wait_for(&post, ServerState::Up);
        server.kill9();
        wait_for(&post, ServerState::Down);
        server.restart();
        wait_for(&post, ServerState::Up);
        assert_eq!(post.line(Some(ServerState::Out)).state, ServerState::Out);
    }
}
