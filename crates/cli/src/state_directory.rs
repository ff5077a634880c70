//! Where the program keeps what it must remember on this machine.

use crate::failure::Failure;
use std::path::PathBuf;

/// `ringfs` in `$XDG_STATE_HOME`, or in `~/.local/state`.
pub fn base() -> Result<PathBuf, Failure> {
    let variable = |name| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    variable("XDG_STATE_HOME")
        .or_else(|| Some(variable("HOME")?.join(".local/state")))
        .map(|state| state.join("ringfs"))
        .ok_or_else(|| {
            Failure::usage(
                "neither XDG_STATE_HOME nor HOME is set, so there is no place to remember things; set \
                 one of them",
            )
        })
}
