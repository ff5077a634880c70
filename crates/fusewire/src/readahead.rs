//! How far the kernel reads ahead of a sequential reader.
//!
//! The protocol can only lower it: a new FUSE mount has 128 KiB, whatever the daemon asks for, and
//! so a sequential reader costs eight requests a MiB. What may be raised is the setting of the
//! mount's backing device, by root.

use std::fs;

/// Raises the read-ahead of the mount `device` ("major:minor") to `bytes`, where permitted.
/// It is never lowered: an administrator may have a rule that sets more.
pub(crate) fn widen(device: &str, bytes: u32) {
    let path = format!("/sys/class/bdi/{device}/read_ahead_kb");
    let wanted = u64::from(bytes >> 10);
    let now = fs::read_to_string(&path).ok().and_then(|text| text.trim().parse::<u64>().ok());
    if now.is_some_and(|now| now >= wanted) {
        return;
    }
    if let Err(error) = fs::write(&path, wanted.to_string()) {
        tracing::debug!(%error, path, "the kernel keeps its own read-ahead");
    }
}
