//! Listening to channels on a connection of its own.
//!
//! A listener cannot tell silence from a dead connection, and what it listens for (invalidations)
//! makes that a question of correctness. So a silent connection is asked for a sign of life every
//! second, and a missing answer is an error.

use crate::cmd::Cmd;
use crate::conn::{Conn, Timeouts};
use crate::endpoint::Endpoint;
use crate::error::LinkError;
use crate::reply::Reply;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Silence after which we ask.
const ASK_AFTER: Duration = Duration::from_secs(1);
/// Messages kept while a further subscription awaits its confirmation.
const EARLY_MESSAGES_MAX: usize = 65_536;

/// A pub/sub connection. After an error it is of no further use: messages may have been lost.
#[derive(Debug)]
pub struct Subscriber {
    conn: Conn,
    early: VecDeque<Vec<u8>>,
    heard: Instant,
    asked: Option<Instant>,
}

enum Heard {
    Message(Vec<u8>),
    Confirmed,
    Other,
}

impl Subscriber {
    /// Connects; nothing is subscribed to yet.
    pub fn open(ep: &Endpoint, t: &Timeouts) -> Result<Subscriber, LinkError> {
        let conn = Conn::open(ep, t)?;
        Ok(Subscriber { conn, early: VecDeque::new(), heard: Instant::now(), asked: None })
    }

    /// Subscribes to one more channel. What is published after this has returned will be heard.
    pub fn subscribe(&mut self, channel: &[u8]) -> Result<(), LinkError> {
        let limit = self.conn.timeouts().reply;
        let deadline = Instant::now() + limit;
        self.conn.send(&Cmd::new("SUBSCRIBE").arg(channel), deadline)?;
        loop {
            match self.hear(deadline)? {
                Some(Heard::Confirmed) => return Ok(()),
                Some(Heard::Message(_)) if self.early.len() >= EARLY_MESSAGES_MAX => {
                    return Err(LinkError::unexpected("no end of messages before a confirmation")
                        .at(self.conn.name()));
                }
                Some(Heard::Message(message)) => self.early.push_back(message),
                Some(Heard::Other) => {}
                None => return Err(self.conn.timed_out()),
            }
        }
    }

    /// The next message on any of the channels; `None` if none comes within `timeout`. An error
    /// means that messages may have been missed.
    pub fn next(&mut self, timeout: Duration) -> Result<Option<Vec<u8>>, LinkError> {
        if let Some(message) = self.early.pop_front() {
            return Ok(Some(message));
        }
        let deadline = Instant::now() + timeout;
        loop {
            let due = match self.asked {
                Some(at) => at + self.conn.timeouts().reply,
                None => self.heard + ASK_AFTER,
            };
            match self.hear(due.min(deadline))? {
                Some(Heard::Message(message)) => return Ok(Some(message)),
                Some(Heard::Confirmed | Heard::Other) => {}
                // What was asked long ago may be answered in the meantime: first it was looked for.
                None if Instant::now() >= due && self.asked.is_some() => {
                    return Err(self.conn.timed_out());
                }
                None if Instant::now() >= due => {
                    let now = Instant::now();
                    self.conn.send(&Cmd::new("PING"), now + self.conn.timeouts().reply)?;
                    self.asked = Some(now);
                }
                None => return Ok(None),
            }
        }
    }

    fn hear(&mut self, deadline: Instant) -> Result<Option<Heard>, LinkError> {
        let Some(reply) = self.conn.recv_unasked(deadline)? else { return Ok(None) };
        self.heard = Instant::now();
        self.asked = None;
        let items = match reply {
            Reply::Error(line) => return Err(LinkError::from_reply(self.conn.name(), &line)),
            Reply::Push(items) | Reply::Array(items) => items,
            _ => return Ok(Some(Heard::Other)),
        };
        Ok(Some(match items.as_slice() {
            [kind, _, Reply::Bulk(payload)] if kind.as_bytes() == Some(b"message") => {
                Heard::Message(payload.to_vec())
            }
            [kind, ..] if kind.as_bytes() == Some(b"subscribe") => Heard::Confirmed,
            _ => Heard::Other,
        }))
    }
}
