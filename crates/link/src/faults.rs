//! The seam where tests break connections on purpose.

use crate::error::ServerName;
use std::time::Duration;

/// What shall happen to a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It happens later.
    Delay(Duration),
    /// The connection is cut: before a send, nothing was sent; after a receive, the reply is lost
    /// although the command took effect.
    Cut,
    /// Time is up without an answer: before a send, nothing was sent.
    TimeOut,
    /// The server answers with this error line, such as `OOM no memory`. Before a send, the command
    /// is not sent at all.
    Error(String),
}

/// Asked by every connection of a pool that was made with it. Production has none, at no cost.
pub trait Faults: Send + Sync {
    /// Asked before `command` is sent to `server`.
    fn before_send(&self, server: &ServerName, command: &str) -> Option<Fault>;
    /// Asked after a complete reply came from `server` for `command`.
    fn after_recv(&self, server: &ServerName, command: &str) -> Option<Fault>;
}
