//! How a command ends badly: one sentence that says what happened, why and what to do, and an exit
//! code that a script can tell apart.

use ringfs_link::{EndpointError, LinkError};
use std::fmt;

/// The exit codes. They are part of the interface: never renumber them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Something did not work.
    Failure = 1,
    /// The command line makes no sense. (clap uses the same number.)
    Usage = 2,
    /// The command worked and found problems.
    Problems = 3,
    /// A server cannot be reached, or does not let us in, or is no Redis server.
    Unreachable = 4,
    /// Nothing was done because it would do harm: the volume exists, the server may evict, the
    /// format is newer.
    Refused = 5,
}

/// Why a command failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// What happened and why; then what to do. Never a secret. Empty when everything has been
    /// printed already.
    pub message: String,
}

impl Failure {
    /// A failure of some kind.
    pub fn new(exit: Exit, message: impl Into<String>) -> Failure {
        Failure { exit, message: message.into() }
    }

    /// Something did not work.
    pub fn plain(message: impl Into<String>) -> Failure {
        Failure::new(Exit::Failure, message)
    }

    /// The command line makes no sense.
    pub fn usage(message: impl Into<String>) -> Failure {
        Failure::new(Exit::Usage, message)
    }

    /// Doing it would do harm.
    pub fn refused(message: impl Into<String>) -> Failure {
        Failure::new(Exit::Refused, message)
    }

    /// Problems were found and printed.
    pub fn problems() -> Failure {
        Failure::new(Exit::Problems, "")
    }

    /// A system call failed: what we were doing, and to what.
    pub fn io(doing: impl fmt::Display, error: &std::io::Error) -> Failure {
        Failure::plain(format!("cannot {doing}: {}", words_of(error)))
    }

    /// The same failure, said to have happened in a larger whole.
    #[must_use]
    pub fn about(mut self, what: impl fmt::Display) -> Failure {
        self.message = format!("{what}: {}", self.message);
        self
    }
}

/// The system's words without "(os error 2)".
fn words_of(error: &std::io::Error) -> String {
    let text = error.to_string();
    match text.rfind(" (os error") {
        Some(at) => text[..at].to_lowercase(),
        None => text,
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl From<EndpointError> for Failure {
    fn from(error: EndpointError) -> Failure {
        // Its text is a sentence; ours follows "ringfs: ".
        let text = error.to_string();
        let mut letters = text.trim_end_matches('.').chars();
        let first = letters.next().map(|c| c.to_ascii_lowercase());
        Failure::usage(first.into_iter().chain(letters).collect::<String>())
    }
}

impl From<LinkError> for Failure {
    fn from(error: LinkError) -> Failure {
        from_link(&error)
    }
}

/// What the user can do about a failed exchange with a server.
pub fn from_link(error: &LinkError) -> Failure {
    let (exit, advice) = match error {
        LinkError::Unavailable { .. } => {
            (Exit::Unreachable, "start it, or check the address and the firewall")
        }
        LinkError::Lost { .. } | LinkError::TimedOut { .. } => {
            (Exit::Unreachable, "see `ringfs doctor`, then try again")
        }
        LinkError::Auth { .. } => (
            Exit::Unreachable,
            "give the right password in RINGFS_REDIS_PASSWORD, or in the file that \
             RINGFS_REDIS_PASSWORD_FILE or --password-file names",
        ),
        LinkError::Tls { .. } => {
            (Exit::Unreachable, "check the certificate, and cacert= in the rediss:// URL")
        }
        LinkError::Protocol { .. } => {
            (Exit::Unreachable, "check that the port is that of a Redis server")
        }
        LinkError::Server { .. } if error.is_oom() => {
            (Exit::Failure, "delete files, raise maxmemory or add nodes")
        }
        LinkError::Server { .. } if error.is_loading() => {
            (Exit::Unreachable, "it is still reading its data from disk: wait and try again")
        }
        LinkError::Server { .. } if error.is_readonly() => {
            (Exit::Unreachable, "give the address of the primary, not of a replica")
        }
        LinkError::Server { .. } if error.is_misconf() => {
            (Exit::Failure, "it cannot write to its disk: make room there")
        }
        LinkError::Server { .. } if error.is_noperm() => {
            (Exit::Failure, "give its ACL user the rights that RingFS needs")
        }
        LinkError::Server { .. } => (Exit::Failure, "see the server's log"),
    };
    let what = match error {
        // The server's own words are about its protocol.
        LinkError::Auth { server, text } if asks_for_password(text) => {
            format!("Redis server {server} asks for a password")
        }
        _ => error.to_string(),
    };
    Failure::new(exit, format!("{}; {advice}", what.trim_end_matches('.')))
}

fn asks_for_password(text: &str) -> bool {
    text.starts_with("HELLO must be called") || text.starts_with("Authentication required")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_words_are_kept_and_its_number_dropped() {
        let error = std::io::Error::from_raw_os_error(2);
        assert_eq!(
            Failure::io("read /x", &error).message,
            "cannot read /x: no such file or directory"
        );
    }
}
