//! One server asked once: does it answer, is it the one it was, can it take data?
//!
//! A server that answers PING may have come back empty, may be loading, or be another volume's. So it
//! is asked for more, in one round trip: our mark on it (its *generation*: which volume it serves, and
//! a count that we raise now and then), and what it says of its process, memory, persistence and role.

use ringfs_base::{NodeName, VolumeName, VolumeUuid};
use ringfs_link::{Cmd, Conn, Endpoint, LinkError, Reply, Timeouts};
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// What a server that answers says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// It can do its work.
    #[default]
    Good,
    /// It reads its data from disk, and refuses everything until it is done.
    Loading,
    /// It is a replica and takes no writes.
    ReadOnly,
    /// Its memory is full: it takes no writes.
    Full,
    /// It cannot save its data and may therefore refuse writes.
    CannotSave,
    /// It has the mark of another volume of the same name.
    Foreign,
}

impl Condition {
    /// In words, as in "node a ..."; `None` if there is nothing to say.
    pub fn words(self) -> Option<&'static str> {
        match self {
            Condition::Good => None,
            Condition::Loading => Some("is loading its data"),
            Condition::ReadOnly => Some("is a replica, which takes no writes"),
            Condition::Full => Some("has no memory left"),
            Condition::CannotSave => Some("cannot save its data"),
            Condition::Foreign => Some("serves another volume of the same name"),
        }
    }
}

/// Our mark on a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    /// The volume that it serves.
    pub uuid: String,
    /// Raised now and then: a server that shows a smaller one has lost what came after.
    pub count: u64,
}

impl Generation {
    /// The key that holds it.
    pub fn key(volume: &VolumeName) -> String {
        format!("rfg:{volume}")
    }

    /// Takes it away: the volume is no more.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub fn remove(
        volume: &VolumeName,
        server: &Endpoint,
        timeouts: Timeouts,
    ) -> Result<(), LinkError> {
        let mut conn = Conn::open(server, &timeouts)?;
        conn.call(&Cmd::new("DEL").arg(Generation::key(volume))).map(|_| ())
    }

    fn encode(&self) -> String {
        format!("{} {}", self.uuid, self.count)
    }

    /// What is no mark counts as one of nobody.
    fn decode(text: &str) -> Generation {
        let (uuid, count) = text.split_once(' ').unwrap_or((text, ""));
        let uuid: String = uuid.chars().take(UUID_CHARS).collect();
        Generation { uuid, count: count.parse().unwrap_or(0) }
    }
}

const UUID_CHARS: usize = 36;
/// Redis makes run ids of 40 characters.
const RUN_ID_CHARS_MAX: usize = 64;

/// What came of one probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// It answered.
    Answers(Answer),
    /// It cannot be used.
    Silent {
        /// Why, in words.
        cause: String,
    },
}

/// What a server answered.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Answer {
    /// Its process.
    pub run_id: String,
    /// Our mark on it; `None` if it has none, or cannot show it now.
    pub generation: Option<Generation>,
    /// Whether it could be asked for the mark.
    pub shows_generation: bool,
    /// Time of the round trip, in microseconds.
    pub latency_us: u64,
    /// Bytes in use.
    pub memory_used: u64,
    /// Its limit in bytes; 0 if it has none.
    pub memory_max: u64,
    /// How it is.
    pub condition: Condition,
}

/// One server, with a connection that is used for nothing else, so that no other traffic holds up a
/// probe.
pub struct Probe {
    name: NodeName,
    endpoint: Endpoint,
    timeouts: Timeouts,
    key: String,
    uuid: String,
    conn: Option<Conn>,
}

impl Probe {
    /// Connects with the first probe. `within` limits the connection, and then each answer.
    pub fn new(
        volume: &VolumeName,
        uuid: VolumeUuid,
        name: NodeName,
        endpoint: Endpoint,
        within: Duration,
    ) -> Probe {
        let timeouts = Timeouts { connect: within, reply: within };
        let (key, uuid) = (Generation::key(volume), uuid.to_string());
        Probe { name, endpoint, timeouts, key, uuid, conn: None }
    }

    /// The server's name.
    pub fn name(&self) -> &NodeName {
        &self.name
    }

    /// Where it is.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The longest that [`Self::ask`] takes if this thread is not held up.
    pub fn longest(&self) -> Duration {
        // Connection, handshake, answer; an old connection may have been cut, and one answer more
        // been waited for.
        self.timeouts.connect * 2 + self.timeouts.reply * 2
    }

    /// Asks; before that, sets our mark to `mark` if there is one.
    pub fn ask(&mut self, mark: Option<u64>) -> Evidence {
        let asked = match self.conn.take() {
            // The server may have closed it, as it does when it restarts.
            Some(conn) => match self.ask_on(conn, mark) {
                Err(LinkError::Lost { .. } | LinkError::Unavailable { .. }) => self.ask_anew(mark),
                other => other,
            },
            None => self.ask_anew(mark),
        };
        match asked {
            Ok(answer) => Evidence::Answers(answer),
            Err(error) => Evidence::Silent { cause: error.to_string() },
        }
    }

    fn ask_anew(&mut self, mark: Option<u64>) -> Result<Answer, LinkError> {
        let conn = Conn::open(&self.endpoint, &self.timeouts)?;
        self.ask_on(conn, mark)
    }

    fn ask_on(&mut self, mut conn: Conn, mark: Option<u64>) -> Result<Answer, LinkError> {
        let mut cmds = Vec::new();
        if let Some(count) = mark {
            let mark = Generation { uuid: self.uuid.clone(), count };
            cmds.push(Cmd::new("SET").arg(&self.key).arg(mark.encode()));
        }
        cmds.push(Cmd::new("GET").arg(&self.key));
        for section in ["server", "memory", "persistence", "replication"] {
            cmds.push(Cmd::new("INFO").arg(section));
        }
        let begun = Instant::now();
        let mut replies = conn.pipeline(&cmds)?.into_iter();
        let latency = begun.elapsed();
        if mark.is_some() {
            // A server that takes no writes shows that by its condition.
            if let Some(Err(error)) = replies.next() {
                tracing::debug!(node = %self.name, %error, "not marked");
            }
        }
        let generation = replies.next().unwrap_or(Ok(Reply::Nil)).and_then(Reply::into_bytes);
        let mut info = String::new();
        for reply in replies {
            info.push_str(&String::from_utf8_lossy(&reply?.into_some_bytes()?));
            info.push('\n');
        }
        self.conn = Some(conn);
        let mut answer = judge(&info)?;
        answer.latency_us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        // An error here (it is loading, or refuses this key to our user) says nothing of the mark.
        if let Ok(value) = generation {
            answer.shows_generation = true;
            answer.generation =
                value.map(|text| Generation::decode(&String::from_utf8_lossy(&text)));
        }
        if answer.generation.as_ref().is_some_and(|found| found.uuid != self.uuid) {
            answer.condition = Condition::Foreign;
        }
        Ok(answer)
    }
}

/// Reads what `INFO` says.
fn judge(info: &str) -> Result<Answer, LinkError> {
    let text = |field: &str| info.lines().find_map(|line| Some(line.strip_prefix(field)?.trim()));
    let number = |field: &str| text(field).and_then(|value| value.parse().ok()).unwrap_or(0);
    let run_id = text("run_id:").unwrap_or_default();
    if run_id.is_empty() || run_id.len() > RUN_ID_CHARS_MAX {
        return Err(LinkError::unexpected("an INFO without a run_id"));
    }
    let (memory_used, memory_max) = (number("used_memory:"), number("maxmemory:"));
    let condition = if text("loading:").is_some_and(|value| value != "0") {
        Condition::Loading
    } else if text("role:") == Some("slave") && text("slave_read_only:") != Some("0") {
        Condition::ReadOnly
    } else if memory_max > 0 && memory_used >= memory_max {
        Condition::Full
    } else if text("aof_last_write_status:") == Some("err")
        || text("rdb_last_bgsave_status:") == Some("err")
    {
        Condition::CannotSave
    } else {
        Condition::Good
    };
    let run_id = run_id.to_owned();
    Ok(Answer { run_id, memory_used, memory_max, condition, ..Answer::default() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WELL: &str = "run_id:abc\r\nused_memory:10\r\nmaxmemory:20\r\nloading:0\r\n\
                        rdb_last_bgsave_status:ok\r\naof_last_write_status:ok\r\nrole:master\r\n";

    #[test]
    fn a_server_is_what_it_says() {
        let condition = |info: &str| judge(info).unwrap().condition;
        assert_eq!(condition(WELL), Condition::Good);
        assert_eq!(condition(&WELL.replace("loading:0", "loading:1")), Condition::Loading);
        assert_eq!(condition(&WELL.replace("memory:10", "memory:20")), Condition::Full);
        assert_eq!(condition(&WELL.replace("status:ok", "status:err")), Condition::CannotSave);
        let replica = WELL.replace("role:master", "role:slave\r\nslave_read_only:1");
        assert_eq!(condition(&replica), Condition::ReadOnly);
        assert_eq!(condition(&replica.replace("only:1", "only:0")), Condition::Good);
        assert!(judge("role:master").is_err());
    }

    #[test]
    fn a_mark_reads_what_it_wrote() {
        let mark = Generation { uuid: VolumeUuid([7; 16]).to_string(), count: 12 };
        assert_eq!(Generation::decode(&mark.encode()), mark);
        assert_eq!(Generation::decode("x"), Generation { uuid: "x".into(), count: 0 });
    }

    proptest! {
        #[test]
        fn any_answer_is_judged(info in "(?s).{0,200}", mark in "(?s).{0,80}") {
            judge(&info).ok();
            prop_assert!(Generation::decode(&mark).uuid.chars().count() <= UUID_CHARS);
        }
    }
}
