//! Server-side scripts, run by hash.

use crate::cmd::Cmd;
use sha1::{Digest, Sha1};
use std::borrow::Cow;
use std::fmt::Write;
use std::sync::OnceLock;

/// A Lua script with a name for messages and statistics. Its hash is computed once.
#[derive(Debug)]
pub struct Script {
    /// What the script is called in messages.
    pub name: &'static str,
    body: Cow<'static, str>,
    sha: OnceLock<String>,
}

impl Script {
    /// A script whose text was composed at run time.
    pub fn new(name: &'static str, body: impl Into<Cow<'static, str>>) -> Script {
        Script { name, body: body.into(), sha: OnceLock::new() }
    }

    /// A script whose text is known when we are compiled.
    pub const fn from_static(name: &'static str, body: &'static str) -> Script {
        Script { name, body: Cow::Borrowed(body), sha: OnceLock::new() }
    }

    /// The text.
    pub fn body(&self) -> &str {
        &self.body
    }

    /// The hash by which the server knows the script: 40 hexadecimal digits.
    pub fn sha(&self) -> &str {
        self.sha.get_or_init(|| {
            let mut hex = String::with_capacity(40);
            for byte in Sha1::digest(self.body.as_bytes()) {
                write!(hex, "{byte:02x}").expect("writing to a String cannot fail");
            }
            hex
        })
    }

    /// The command that runs it, for [`crate::gather`] and pipelines, whose caller then handles
    /// `NOSCRIPT` (see [`crate::Conn::load`]). Large arguments are not copied.
    pub fn evalsha<'a>(&self, keys: &[&'a [u8]], args: &[&'a [u8]]) -> Cmd<'a> {
        let mut cmd = Cmd::new("EVALSHA").arg(self.sha()).int(keys.len() as i64);
        for value in keys.iter().chain(args) {
            cmd = cmd.payload(value);
        }
        cmd
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_is_the_one_that_redis_computes() {
        static ONE: Script = Script::from_static("one", "return 1");
        assert_eq!(ONE.sha(), "e0e1f9fabfc9d4800c877a703b823ac0578ff8db");
    }
}
