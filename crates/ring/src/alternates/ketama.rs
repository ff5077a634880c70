//! Memcached's ketama (Jones, 2007): 40 digests a server, four 32-bit points of each. SHA-1
//! stands in for its MD5, which changes the points but not how they are spread.

use super::{MeanWeight, Placement, Scheme, walk};
use crate::member::Member;
use crate::optimiser::PlanError;
use sha1::{Digest, Sha1};

/// Digests of a server of mean weight; each gives four points.
const DIGESTS_EACH: u32 = 40;

/// The ring of 32-bit points.
#[derive(Clone, Debug)]
pub struct Ketama {
    members: Vec<Member>,
    ring: Vec<(u32, u16)>,
}

impl Ketama {
    /// Throws the points.
    pub fn new(members: &[Member]) -> Ketama {
        let mean = MeanWeight::of(members);
        let mut ring = Vec::new();
        for (index, member) in members.iter().enumerate() {
            for i in 0..mean.points(member.weight, DIGESTS_EACH) {
                let digest = Sha1::digest(format!("{}-{i}", member.name));
                for four in digest.chunks_exact(4).take(4) {
                    let point = u32::from_le_bytes([four[0], four[1], four[2], four[3]]);
                    ring.push((point, index as u16));
                }
            }
        }
        ring.sort_unstable();
        Ketama { members: members.to_vec(), ring }
    }
}

impl Placement for Ketama {
    fn name(&self) -> &'static str {
        Scheme::Ketama.name()
    }

    fn members(&self) -> &[Member] {
        &self.members
    }

    fn owners_at(&self, point: u64, replicas: u8, out: &mut Vec<u16>) {
        let point = (point >> 32) as u32;
        walk(&self.ring, self.ring.partition_point(|(p, _)| *p < point), replicas, out);
    }

    fn changed(&self, members: &[Member]) -> Result<Box<dyn Placement>, PlanError> {
        Ok(Box::new(Ketama::new(members)))
    }

    fn is_weighted(&self) -> bool {
        true
    }
}
