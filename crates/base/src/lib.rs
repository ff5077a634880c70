//! What every RingFS crate agrees on and nothing more: newtypes for ids, the limits of the
//! format, POSIX error numbers, and the seams through which time and randomness enter.
//!
//! This crate knows no I/O, no Redis and no configuration, so that a type defined here can be
//! used from the pure ring mathematics up to the FUSE frontend.

mod clock;
mod errno;
mod histogram;
mod ids;
pub mod limits;

pub use clock::{Clock, ManualClock, SystemClock, Timestamp};
pub use errno::Errno;
pub use histogram::{HISTOGRAM_BOUNDS_US, Histogram, HistogramCounts};
pub use ids::{
    BlockId, Epoch, InodeId, NodeName, NodeNameError, SessionId, SliceId, VolumeName,
    VolumeNameError, VolumeUuid, ZoneName, ZoneNameError,
};
