//! The classic consistent hash ring (Karger et al., 1997; Dynamo, Cassandra before 4): each
//! server owns many random points, a key belongs to the next points clockwise.

use super::{MeanWeight, Placement, Scheme, walk};
use crate::hash::point_of;
use crate::member::Member;
use crate::optimiser::PlanError;

/// Points of a server of mean weight.
const POINTS_EACH: u32 = 100;

/// The ring of random points.
#[derive(Clone, Debug)]
pub struct VirtualNodes {
    members: Vec<Member>,
    ring: Vec<(u64, u16)>,
    /// Of the first members. Were it recomputed, every server's points would change with the
    /// weight of one.
    mean: MeanWeight,
}

impl VirtualNodes {
    /// Throws the points.
    pub fn new(members: &[Member]) -> VirtualNodes {
        VirtualNodes::scaled(members, MeanWeight::of(members))
    }

    fn scaled(members: &[Member], mean: MeanWeight) -> VirtualNodes {
        let mut ring = Vec::new();
        for (index, member) in members.iter().enumerate() {
            for i in 0..mean.points(member.weight, POINTS_EACH) {
                ring.push((point_of(format!("{}#{i}", member.name).as_bytes()), index as u16));
            }
        }
        ring.sort_unstable();
        VirtualNodes { members: members.to_vec(), ring, mean }
    }
}

impl Placement for VirtualNodes {
    fn name(&self) -> &'static str {
        Scheme::VirtualNodes.name()
    }

    fn members(&self) -> &[Member] {
        &self.members
    }

    fn owners_at(&self, point: u64, replicas: u8, out: &mut Vec<u16>) {
        walk(&self.ring, self.ring.partition_point(|(p, _)| *p < point), replicas, out);
    }

    fn changed(&self, members: &[Member]) -> Result<Box<dyn Placement>, PlanError> {
        Ok(Box::new(VirtualNodes::scaled(members, self.mean)))
    }

    fn is_weighted(&self) -> bool {
        true
    }
}
