//! Jump consistent hash (Lamping and Veach, 2014): no memory and good balance, but servers are
//! numbers: only the last can leave cheaply, weights do not exist, and copies need a rehash.

use super::{Placement, Scheme};
use crate::hash::mix;
use crate::member::Member;
use crate::optimiser::PlanError;

/// Rehashes for a distinct copy before the next number is taken instead.
const REHASHES_MAX: u64 = 64;

/// The servers in the order of their numbers.
#[derive(Clone, Debug)]
pub struct Jump {
    members: Vec<Member>,
}

impl Jump {
    /// Numbers the servers in the order given.
    pub fn new(members: &[Member]) -> Jump {
        Jump { members: members.to_vec() }
    }
}

/// The bucket of a key among `buckets`, as the paper has it.
fn jump(mut key: u64, buckets: u32) -> u32 {
    let (mut bucket, mut next) = (0i64, 0i64);
    while next < i64::from(buckets) {
        bucket = next;
        key = key.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(1);
        let ratio = (1u64 << 31) as f64 / ((key >> 33) + 1) as f64;
        next = ((bucket + 1) as f64 * ratio) as i64;
    }
    bucket as u32
}

impl Placement for Jump {
    fn name(&self) -> &'static str {
        Scheme::Jump.name()
    }

    fn members(&self) -> &[Member] {
        &self.members
    }

    fn owners_at(&self, point: u64, replicas: u8, out: &mut Vec<u16>) {
        out.clear();
        let servers = self.members.len() as u32;
        let wanted = usize::from(replicas).min(self.members.len());
        for attempt in 0..REHASHES_MAX {
            if out.len() == wanted {
                return;
            }
            let key = if attempt == 0 { point } else { mix(point ^ mix(attempt)) };
            let server = jump(key, servers) as u16;
            if !out.contains(&server) {
                out.push(server);
            }
        }
        for server in 0..servers as u16 {
            if out.len() < wanted && !out.contains(&server) {
                out.push(server);
            }
        }
    }

    /// The last server takes the number of one that leaves, which is the least movement that
    /// numbers allow.
    fn changed(&self, members: &[Member]) -> Result<Box<dyn Placement>, PlanError> {
        let mut order = self.members.clone();
        for i in (0..order.len()).rev() {
            match members.iter().find(|m| m.name == order[i].name) {
                Some(member) => order[i] = member.clone(),
                None => {
                    order.swap_remove(i);
                }
            }
        }
        let new: Vec<Member> =
            members.iter().filter(|m| order.iter().all(|o| o.name != m.name)).cloned().collect();
        order.extend(new);
        Ok(Box::new(Jump { members: order }))
    }

    fn is_weighted(&self) -> bool {
        false
    }
}
