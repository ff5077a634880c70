//! What can go wrong between us and a server, sorted by what the caller may conclude from it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The address of a server for messages: `host:port` or a socket path, never a secret.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ServerName(Option<Arc<str>>);

impl ServerName {
    /// A server shown as `address`.
    pub fn new(address: &str) -> ServerName {
        ServerName(Some(address.into()))
    }
    /// For replies that no longer know where they came from.
    pub const UNKNOWN: ServerName = ServerName(None);
}

impl fmt::Display for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_deref().unwrap_or("(unnamed)"))
    }
}

impl fmt::Debug for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A failure of one command, or of getting a connection for it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// No connection could be had, or the pool's gate is closed: the command was not sent.
    #[error("Redis server {server} cannot be reached: {cause}")]
    Unavailable {
        /// Which server.
        server: ServerName,
        /// Why, in words.
        cause: String,
    },
    /// The connection was cut after at least a part of the command was sent: nobody knows
    /// whether it took effect.
    #[error("the connection to Redis server {server} was lost: {cause}")]
    Lost {
        /// Which server.
        server: ServerName,
        /// Why, in words.
        cause: String,
    },
    /// No complete reply in time: nobody knows whether the command took or will take effect.
    #[error("Redis server {server} did not answer within {} ms", after.as_millis())]
    TimedOut {
        /// Which server.
        server: ServerName,
        /// How long we waited.
        after: Duration,
    },
    /// The server refuses our name or password. Nothing was executed.
    #[error("Redis server {server} refuses our credentials: {text}")]
    Auth {
        /// Which server.
        server: ServerName,
        /// What the server said.
        text: String,
    },
    /// No trusted TLS connection could be made. Nothing was executed.
    #[error("no trusted TLS connection to Redis server {server}: {cause}")]
    Tls {
        /// Which server.
        server: ServerName,
        /// Why, in words.
        cause: String,
    },
    /// The server's answer is not what the protocol (or this command) allows.
    #[error("server {server} does not answer as a Redis server should: {what}")]
    Protocol {
        /// Which server.
        server: ServerName,
        /// What was wrong.
        what: String,
    },
    /// The server executed nothing, or a part of a script, and says why.
    #[error("Redis server {server} answered {code}: {text}")]
    Server {
        /// Which server.
        server: ServerName,
        /// The first word of the error, such as `OOM` or `NOSCRIPT`.
        code: String,
        /// The rest of it.
        text: String,
    },
}

impl LinkError {
    /// A reply of an unexpected shape, from a server to be named with [`Self::at`].
    pub fn unexpected(what: impl Into<String>) -> LinkError {
        LinkError::Protocol { server: ServerName::UNKNOWN, what: what.into() }
    }

    /// Splits a server's error line into code and text.
    pub(crate) fn from_reply(server: &ServerName, line: &[u8]) -> LinkError {
        let line = String::from_utf8_lossy(line);
        let (code, text) = match line.split_once(' ') {
            Some((code, text)) => (code, text),
            None => (&*line, ""),
        };
        let (server, code, text) = (server.clone(), code.to_owned(), text.to_owned());
        match code.as_str() {
            "NOAUTH" | "WRONGPASS" | "DENIED" => LinkError::Auth { server, text },
            _ => LinkError::Server { server, code, text },
        }
    }

    /// The same error, with the server named where it was not known.
    pub fn at(mut self, name: &ServerName) -> LinkError {
        let server = self.server_mut();
        if *server == ServerName::UNKNOWN {
            *server = name.clone();
        }
        self
    }

    /// The server concerned.
    pub fn server(&self) -> &ServerName {
        match self {
            LinkError::Unavailable { server, .. }
            | LinkError::Lost { server, .. }
            | LinkError::TimedOut { server, .. }
            | LinkError::Auth { server, .. }
            | LinkError::Tls { server, .. }
            | LinkError::Protocol { server, .. }
            | LinkError::Server { server, .. } => server,
        }
    }

    fn server_mut(&mut self) -> &mut ServerName {
        match self {
            LinkError::Unavailable { server, .. }
            | LinkError::Lost { server, .. }
            | LinkError::TimedOut { server, .. }
            | LinkError::Auth { server, .. }
            | LinkError::Tls { server, .. }
            | LinkError::Protocol { server, .. }
            | LinkError::Server { server, .. } => server,
        }
    }

    /// The command certainly did not reach the server's executor.
    pub fn not_sent(&self) -> bool {
        matches!(
            self,
            LinkError::Unavailable { .. } | LinkError::Auth { .. } | LinkError::Tls { .. }
        )
    }

    /// The command may or may not have taken effect, now or later.
    pub fn outcome_unknown(&self) -> bool {
        matches!(
            self,
            LinkError::Lost { .. } | LinkError::TimedOut { .. } | LinkError::Protocol { .. }
        )
    }

    /// Repeating an idempotent command on a fresh connection may help at once.
    pub fn retryable(&self) -> bool {
        match self {
            LinkError::Lost { .. } | LinkError::Unavailable { .. } => true,
            LinkError::Server { code, .. } => {
                matches!(code.as_str(), "LOADING" | "TRYAGAIN" | "BUSY")
            }
            _ => false,
        }
    }

    /// The connection that gave this error can no longer be used.
    pub fn breaks_connection(&self) -> bool {
        !matches!(self, LinkError::Server { .. })
    }

    /// The server's error code, such as `OOM`.
    pub fn code(&self) -> Option<&str> {
        match self {
            LinkError::Server { code, .. } => Some(code),
            _ => None,
        }
    }

    /// The server has reached `maxmemory` and may not evict.
    pub fn is_oom(&self) -> bool {
        // A script that hits the limit in its middle gets the code inside the text in Redis 6.
        match self {
            LinkError::Server { code, text, .. } => {
                code == "OOM" || text.contains("OOM command not allowed")
            }
            _ => false,
        }
    }

    /// The server is still reading its data set from disk.
    pub fn is_loading(&self) -> bool {
        self.code() == Some("LOADING")
    }

    /// The server is a replica and takes no writes.
    pub fn is_readonly(&self) -> bool {
        self.code() == Some("READONLY")
    }

    /// The server cannot persist and is configured to refuse writes then.
    pub fn is_misconf(&self) -> bool {
        self.code() == Some("MISCONF")
    }

    /// The server does not have the script that EVALSHA named; nothing ran.
    pub fn is_noscript(&self) -> bool {
        self.code() == Some("NOSCRIPT")
    }

    /// The ACL user may not do this.
    pub fn is_noperm(&self) -> bool {
        self.code() == Some("NOPERM")
    }
}
