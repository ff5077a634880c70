//! The commands that are one file each.

pub mod agent;
pub mod clone;
pub mod completions;
pub mod destroy;
pub mod format;
pub mod jobs;
pub mod man;
pub mod node;
pub mod quota;
pub mod rebalance;
pub mod ring;
pub mod status;
pub mod trash;
pub mod volumes;
pub mod worker;
