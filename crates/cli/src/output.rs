//! What every command needs from its surroundings: where passwords are, and how to warn.

use crate::credentials::Credentials;
use crate::failure::Failure;
use crate::volume_url::{MetaUrl, VolumeUrl};
use ringfs_link::Timeouts;
use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};

/// The surroundings of one command.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// Where passwords are.
    pub credentials: Credentials,
    /// The file given with `--password-file`.
    pub password_file: Option<PathBuf>,
    /// How long to wait for servers.
    pub timeouts: Timeouts,
}

impl Surroundings {
    /// From the environment and the options that all commands share.
    pub fn new(password_file: Option<&Path>) -> Result<Surroundings, Failure> {
        Ok(Surroundings {
            credentials: Credentials::from_environment(password_file)?,
            password_file: password_file.map(Path::to_path_buf),
            timeouts: Timeouts::default(),
        })
    }

    /// Reads the URL of a metadata server, with or without a volume, and finds its password.
    pub fn meta_url(&self, text: &str) -> Result<MetaUrl, Failure> {
        let url = MetaUrl::parse(text)?;
        if url.password_in_url {
            warn(
                "everybody on this machine can read the password in the URL in the list of \
                 processes; better give it in RINGFS_REDIS_PASSWORD or with --password-file",
            );
        }
        Ok(MetaUrl { endpoint: self.credentials.for_meta(url.endpoint)?, ..url })
    }

    /// Reads the URL of a volume and finds its password.
    pub fn volume_url(&self, text: &str) -> Result<VolumeUrl, Failure> {
        self.meta_url(text)?.require_volume()
    }
}

/// Prints a warning.
pub fn warn(text: impl fmt::Display) {
    // Nobody reads a warning when stderr is closed; that is no reason to stop.
    writeln!(std::io::stderr(), "ringfs: warning: {text}").ok();
}

/// Prints a result. The reader of a pipe may have left (`ringfs ... | head`); that is no failure.
pub fn print(text: impl fmt::Display) {
    write!(std::io::stdout(), "{text}").ok();
}

/// Prints a JSON document.
pub fn print_json(value: &serde_json::Value) {
    print(format_args!("{value:#}\n"));
}
