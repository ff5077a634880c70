//! The endpoint: one thread, a few connections, and a time after which each of them ends.
//!
//! Nobody who connects can hold up anybody: sockets do not block, one `poll` waits for all of them, a
//! request has a largest size and a connection a longest life. When there are too many connections
//! the oldest one goes.

use super::request::{self, Page};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Connections at once; the oldest one makes room for a new one.
const CONNECTIONS_MAX: usize = 16;
/// A connection ends after this long, whatever it does.
const CONNECTION_LIFE_MAX: Duration = Duration::from_secs(10);
/// Pause after a failure to accept: there may be no file descriptors left for a while.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A served endpoint; ends when dropped.
pub struct HttpServer {
    address: SocketAddr,
    /// Closed to end the thread.
    stop: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

/// A socket that listens and is not served yet.
pub struct Listening(TcpListener);

impl Listening {
    /// Takes the port.
    pub fn bind(address: SocketAddr) -> io::Result<Listening> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(Listening(listener))
    }

    /// Where it listens; with port 0 asked for, the one that was free.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// Begins to answer.
    pub fn serve(self, page: Box<dyn Page>) -> io::Result<HttpServer> {
        let address = self.address()?;
        let (stop, stopped) = UnixStream::pair()?;
        let server = Server { listener: self.0, stopped, page, connections: Vec::new() };
        let thread = std::thread::Builder::new()
            .name("ringfs-metrics".to_owned())
            .spawn(move || server.run())?;
        Ok(HttpServer { address, stop: Some(stop), thread: Some(thread) })
    }
}

impl HttpServer {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that answers requests for metrics has panicked");
        }
    }
}

struct Server {
    listener: TcpListener,
    stopped: UnixStream,
    page: Box<dyn Page>,
    /// Oldest first.
    connections: Vec<Connection>,
}

struct Connection {
    stream: TcpStream,
    stage: Stage,
    until: Instant,
}

enum Stage {
    /// The request so far.
    Reading(Vec<u8>),
    /// The answer, and how much of it is sent.
    Writing(Vec<u8>, usize),
    /// All is said; until the other side has closed, or the answer might be lost.
    Closing,
}

impl Server {
    fn run(mut self) {
        loop {
            let now = Instant::now();
            self.connections.retain(|connection| connection.until > now);
            let ready = match self.wait() {
                Ok(Some(ready)) => ready,
                Ok(None) => return,
                Err(error) => {
                    tracing::error!(%error, "no metrics any more: cannot wait for connections");
                    return;
                }
            };
            let mut place = 0;
            let page = &*self.page;
            self.connections.retain_mut(|connection| {
                place += 1;
                !ready.connections[place - 1] || connection.go_on(page)
            });
            if ready.listener {
                self.accept();
            }
        }
    }

    /// Waits until there is something to do; `None` at the end.
    fn wait(&self) -> io::Result<Option<Ready>> {
        let mut fds = vec![
            PollFd::new(&self.stopped, PollFlags::IN),
            PollFd::new(&self.listener, PollFlags::IN),
        ];
        for connection in &self.connections {
            let flags = match connection.stage {
                Stage::Reading(_) | Stage::Closing => PollFlags::IN,
                Stage::Writing(..) => PollFlags::OUT,
            };
            fds.push(PollFd::from_borrowed_fd(connection.stream.as_fd(), flags));
        }
        let next = self.connections.iter().map(|connection| connection.until).min();
        let timeout = next.map(|at| at.saturating_duration_since(Instant::now()));
        let timeout = timeout.and_then(|left| Timespec::try_from(left).ok());
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut ready = fds.iter().map(|fd| !fd.revents().is_empty());
        if ready.next() == Some(true) {
            return Ok(None);
        }
        let listener = ready.next() == Some(true);
        Ok(Some(Ready { listener, connections: ready.collect() }))
    }

    fn accept(&mut self) {
        match self.listener.accept() {
            Ok((stream, _)) => {
                if let Err(error) = stream.set_nonblocking(true) {
                    return tracing::debug!(%error, "a connection for metrics cannot be used");
                }
                if self.connections.len() >= CONNECTIONS_MAX {
                    self.connections.remove(0);
                }
                let until = Instant::now() + CONNECTION_LIFE_MAX;
                self.connections.push(Connection {
                    stream,
                    stage: Stage::Reading(Vec::new()),
                    until,
                });
            }
            // It has gone again.
            Err(error) if is_passing(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "a connection for metrics was not accepted");
                std::thread::sleep(ACCEPT_PAUSE);
            }
        }
    }
}

/// What can go on.
struct Ready {
    listener: bool,
    connections: Vec<bool>,
}

impl Connection {
    /// Does what can be done without waiting; false: it is over.
    fn go_on(&mut self, page: &dyn Page) -> bool {
        match self.step(page) {
            Ok(goes_on) => goes_on,
            Err(error) if is_passing(&error) => true,
            Err(error) => {
                tracing::debug!(%error, "a connection for metrics broke");
                false
            }
        }
    }

    fn step(&mut self, page: &dyn Page) -> io::Result<bool> {
        let mut buffer = [0; 4096];
        match &mut self.stage {
            Stage::Reading(request) => {
                let got = self.stream.read(&mut buffer)?;
                if got == 0 {
                    return Ok(false);
                }
                request.extend_from_slice(&buffer[..got]);
                let Some(answer) = request::answer(request, page) else { return Ok(true) };
                self.stage = Stage::Writing(answer, 0);
                self.step(page)
            }
            Stage::Writing(answer, sent) => {
                while *sent < answer.len() {
                    match self.stream.write(&answer[*sent..])? {
                        0 => return Ok(false),
                        more => *sent += more,
                    }
                }
                self.stream.shutdown(Shutdown::Write)?;
                self.stage = Stage::Closing;
                Ok(true)
            }
            Stage::Closing => Ok(self.stream.read(&mut buffer)? > 0),
        }
    }
}

fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed;

    impl Page for Fixed {
        fn metrics(&self, _: request::Format) -> Result<String, std::fmt::Error> {
            Ok("x 1\n# EOF\n".repeat(100_000))
        }
        fn health(&self) -> Result<(), String> {
            Ok(())
        }
    }

    fn serve() -> HttpServer {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        Listening::bind(any).unwrap().serve(Box::new(Fixed)).unwrap()
    }

    fn connect(server: &HttpServer) -> TcpStream {
        let stream = TcpStream::connect(server.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    fn get(mut stream: TcpStream) -> String {
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn a_page_larger_than_the_sockets_buffers_arrives_whole() {
        let server = serve();
        assert_eq!(get(connect(&server)).matches("x 1\n").count(), 100_000);
    }

    #[test]
    fn clients_that_say_nothing_and_clients_that_do_not_read_hold_up_nobody() {
        let server = serve();
        let _silent: Vec<TcpStream> = (0..CONNECTIONS_MAX).map(|_| connect(&server)).collect();
        let _deaf: Vec<TcpStream> = (0..CONNECTIONS_MAX)
            .map(|_| {
                let mut stream = connect(&server);
                stream.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").unwrap();
                stream
            })
            .collect();
        let begun = Instant::now();
        assert!(get(connect(&server)).ends_with("# EOF\n"));
        assert!(begun.elapsed() < CONNECTION_LIFE_MAX, "{:?}", begun.elapsed());
    }

    #[test]
    fn the_oldest_connection_makes_room() {
        let server = serve();
        let mut oldest = connect(&server);
        let _others: Vec<TcpStream> = (0..CONNECTIONS_MAX).map(|_| connect(&server)).collect();
        // It ends before its time.
        let begun = Instant::now();
        assert_eq!(oldest.read(&mut [0; 1]).unwrap_or(0), 0);
        assert!(begun.elapsed() < CONNECTION_LIFE_MAX / 2);
    }

    #[test]
    fn a_request_may_come_in_pieces() {
        let server = serve();
        let mut stream = connect(&server);
        stream.set_nodelay(true).unwrap();
        for byte in b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" {
            stream.write_all(&[*byte]).unwrap();
        }
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
    }
}
