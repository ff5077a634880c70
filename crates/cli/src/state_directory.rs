//! Where the program keeps what it must remember on this machine.

use std::path::PathBuf;

/// For services, which often have neither HOME nor XDG_STATE_HOME.
const OF_THE_SYSTEM: &str = "/var/lib/ringfs";

/// `ringfs` in `$XDG_STATE_HOME`, or in `~/.local/state`, or in `/var/lib`.
pub fn base() -> PathBuf {
    let variable = |name| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    let state = variable("XDG_STATE_HOME").or_else(|| Some(variable("HOME")?.join(".local/state")));
    state.map_or_else(|| PathBuf::from(OF_THE_SYSTEM), |state| state.join("ringfs"))
}
