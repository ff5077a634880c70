//! The commands that are one file each.

pub mod completions;
pub mod man;
