//! A server as the ring sees it. Its address is nobody's business here: a server that moves
//! to another machine keeps its name and therefore its arcs.

use crate::hash::point_of;
use ringfs_base::{NodeName, ZoneName};

/// Most servers in a table. Rows hold 16-bit indices and one value means "nobody yet".
pub const MEMBERS_MAX: usize = u16::MAX as usize;

/// One server of the ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// What placement hashes.
    pub name: NodeName,
    /// Its share relative to the others', in any unit (gigabytes, say). 0 drains it: it is
    /// known, but owns nothing.
    pub weight: u32,
    /// Servers of one zone may fail together, so copies avoid sharing it. A server without
    /// one is a zone of its own.
    pub zone: Option<ZoneName>,
}

impl Member {
    /// A server of weight 1 that is a zone of its own.
    pub fn new(name: NodeName) -> Member {
        Member { name, weight: 1, zone: None }
    }

    /// The same with another weight.
    pub fn weighing(self, weight: u32) -> Member {
        Member { weight, ..self }
    }

    /// The same in a zone.
    pub fn in_zone(self, zone: ZoneName) -> Member {
        Member { zone: Some(zone), ..self }
    }

    /// The point of its name, from which all its scores come.
    pub(crate) fn point(&self) -> u64 {
        point_of(self.name.as_str().as_bytes())
    }
}
