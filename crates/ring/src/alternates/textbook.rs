//! The formula of the textbooks, `(x mod N) mod M`: N places on the ring dealt out to M servers
//! in turn, copies on the servers that follow. Kept to show what it costs when M changes.

use super::{Placement, Scheme};
use crate::member::Member;
use crate::optimiser::PlanError;

/// The servers by number.
#[derive(Clone, Debug)]
pub struct Textbook {
    members: Vec<Member>,
    places: u32,
}

impl Textbook {
    /// Numbers the servers in the order given, over `places` places (N).
    pub fn new(members: &[Member], places: u32) -> Textbook {
        Textbook { members: members.to_vec(), places: places.max(1) }
    }
}

impl Placement for Textbook {
    fn name(&self) -> &'static str {
        Scheme::Textbook.name()
    }

    fn members(&self) -> &[Member] {
        &self.members
    }

    fn owners_at(&self, point: u64, replicas: u8, out: &mut Vec<u16>) {
        out.clear();
        let servers = self.members.len();
        let first = (point % u64::from(self.places)) as usize;
        for copy in 0..usize::from(replicas).min(servers) {
            out.push(((first + copy) % servers) as u16);
        }
    }

    fn changed(&self, members: &[Member]) -> Result<Box<dyn Placement>, PlanError> {
        Ok(Box::new(Textbook::new(members, self.places)))
    }

    fn is_weighted(&self) -> bool {
        false
    }
}
