//! Whether the servers of a ring do their work: how it is found out, and what follows.
//!
//! - [`probe`]: one server asked once, by each observer once a second.
//! - [`report`]: what an observer tells the others.
//! - [`verdict`]: what follows from all reports; pure.
//! - [`record`]: what is remembered of each server, for everybody to read.
//!
//! The thread that does all this is [`crate::Keeper`].

pub mod probe;
pub mod record;
pub mod report;
pub mod verdict;

pub use probe::{Condition, Evidence, Generation};
pub use record::{NodeHealth, Standing, node_health};
pub use report::{NodeSeen, SeenReport};
