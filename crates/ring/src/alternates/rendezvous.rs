//! Rendezvous hashing, or highest random weight (Thaler and Ravishankar, 1996), with weights:
//! every server draws a number for the key, the best R win. Optimal in movement and good in
//! balance, but a lookup asks every server.

use super::{Placement, Scheme};
use crate::hash::{score, weighted_rank};
use crate::member::Member;
use crate::optimiser::PlanError;
use ringfs_base::limits::REPLICAS_MAX;

/// The servers and the points of their names.
#[derive(Clone, Debug)]
pub struct Rendezvous {
    members: Vec<Member>,
    points: Vec<u64>,
}

impl Rendezvous {
    /// Nothing to prepare but the names' hashes.
    pub fn new(members: &[Member]) -> Rendezvous {
        let points = members.iter().map(Member::point).collect();
        Rendezvous { members: members.to_vec(), points }
    }
}

impl Placement for Rendezvous {
    fn name(&self) -> &'static str {
        Scheme::Rendezvous.name()
    }

    fn members(&self) -> &[Member] {
        &self.members
    }

    fn owners_at(&self, point: u64, replicas: u8, out: &mut Vec<u16>) {
        out.clear();
        let wanted = usize::from(replicas.min(REPLICAS_MAX));
        let mut best = [(f64::INFINITY, u16::MAX); REPLICAS_MAX as usize + 1];
        let mut found = 0;
        for (index, member) in self.members.iter().enumerate().filter(|(_, m)| m.weight > 0) {
            let rank = weighted_rank(score(self.points[index], point), member.weight);
            // Insertion into a short sorted list.
            let mut place = found;
            while place > 0 && best[place - 1].0 > rank {
                best[place] = best[place - 1];
                place -= 1;
            }
            best[place] = (rank, index as u16);
            found = (found + 1).min(wanted);
        }
        out.extend(best[..found].iter().map(|(_, index)| *index));
    }

    fn changed(&self, members: &[Member]) -> Result<Box<dyn Placement>, PlanError> {
        Ok(Box::new(Rendezvous::new(members)))
    }

    fn is_weighted(&self) -> bool {
        true
    }
}
