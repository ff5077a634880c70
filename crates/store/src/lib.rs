//! Blocks of file data on a ring of Redis servers.
#![warn(missing_docs)]
pub mod frame;
