//! Moving blocks to where the ring's table has them.

mod record;

pub use record::MoveRecord;
