//! A process that can be told apart from a later one with the same number.
//!
//! A process id alone is not enough to signal by: it is reused. The kernel's start time of the
//! process and the id of the boot make it unique, and a pidfd keeps it the same between the check
//! and the signal.

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};
use std::fs;

/// One process for all time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessIdentity {
    /// The number.
    pub pid: u32,
    /// Clock ticks from the boot to its start.
    start_ticks: u64,
    /// Which boot.
    boot_id: String,
}

impl ProcessIdentity {
    /// The process that has this number now.
    pub fn of(pid: u32) -> Option<ProcessIdentity> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        Some(ProcessIdentity { pid, start_ticks: start_ticks(&stat)?, boot_id: boot_id()? })
    }

    /// Whether it is running. A zombie is not.
    pub fn is_alive(&self) -> bool {
        ProcessIdentity::of(self.pid).as_ref() == Some(self)
    }

    /// Signals it, and never another process. False if it is gone.
    pub fn signal(&self, signal: Signal) -> std::io::Result<bool> {
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else {
            return Ok(false);
        };
        let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else { return Ok(false) };
        // The handle is of whoever has the number now; once it is known to be ours it stays ours.
        if !self.is_alive() {
            return Ok(false);
        }
        match pidfd_send_signal(handle, signal) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::SRCH) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// Field 22 of /proc/PID/stat; `None` for a zombie. The name in field 2 may hold anything.
fn start_ticks(stat: &str) -> Option<u64> {
    let after_name = &stat[stat.rfind(')')? + 1..];
    let mut fields = after_name.split_ascii_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

fn boot_id() -> Option<String> {
    Some(fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn names_with_parentheses_do_not_shift_the_fields() {
        let mut stat = "12 (a) b) c) S".to_owned();
        for field in 4..=52 {
            stat.push_str(&format!(" {field}"));
        }
        assert_eq!(start_ticks(&stat), Some(22));
        assert_eq!(start_ticks(&stat.replace(" S ", " Z ")), None);
        assert_eq!(start_ticks("garbage"), None);
    }

    #[test]
    fn a_process_is_signalled_and_a_stranger_with_its_number_is_not() {
        let mut child =
            Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().expect("sleep");
        let identity = ProcessIdentity::of(child.id()).unwrap();
        assert!(identity.is_alive());
        let stranger =
            ProcessIdentity { start_ticks: identity.start_ticks + 1, ..identity.clone() };
        assert!(!stranger.is_alive());
        assert!(!stranger.signal(Signal::TERM).unwrap());
        assert!(identity.is_alive());
        assert!(identity.signal(Signal::TERM).unwrap());
        child.wait().unwrap();
        assert!(!identity.is_alive());
        assert!(!identity.signal(Signal::TERM).unwrap());
    }
}
