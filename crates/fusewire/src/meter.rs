//! The seam through which a mount is measured: every answered request is told to a [`Meter`], if
//! there is one. Without one nothing is measured, and not even the time is asked for.

use crate::errno::Errno;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A request that was answered.
#[derive(Clone, Copy, Debug)]
pub struct Served {
    /// Its number in the protocol; see [`request_name`].
    pub opcode: u32,
    /// From when it was read to when its answer was written. For a lock that was waited for, until
    /// it was granted or refused.
    pub took: Duration,
    /// How it failed.
    pub error: Option<Errno>,
    /// Bytes of a file that it read.
    pub bytes_read: usize,
    /// Bytes of a file that it wrote.
    pub bytes_written: usize,
}

/// Whoever measures. Called on the thread that answered, for every request: it must be quick.
pub trait Meter: Send + Sync {
    /// A request was answered (or needed no answer).
    fn served(&self, served: &Served);
}

/// No request has a larger number.
pub const REQUEST_MAX: u32 = crate::opcode::MAX;

/// The word for a request by its number, such as `create`; `None` for one that is not known.
pub fn request_name(opcode: u32) -> Option<&'static str> {
    crate::opcode::name(opcode)
}

/// A request whose time is being taken.
#[derive(Clone, Copy)]
pub(crate) struct Taking {
    opcode: u32,
    begun: Instant,
}

impl Taking {
    pub(crate) fn begin(opcode: u32) -> Taking {
        Taking { opcode, begun: Instant::now() }
    }

    pub(crate) fn end(self, meter: &dyn Meter, error: Option<Errno>, read: usize, written: usize) {
        meter.served(&Served {
            opcode: self.opcode,
            took: self.begun.elapsed(),
            error,
            bytes_read: read,
            bytes_written: written,
        });
    }
}

/// A request that is answered later, by whoever has this.
pub(crate) type TakingLater = (Arc<dyn Meter>, Taking);
