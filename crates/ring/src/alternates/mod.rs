//! Placements that one could have had instead of the table, for comparison.
//!
//! All answer the same question through one trait, [`Placement`], so that
//! [`crate::simulate`] can put them side by side. None is used to store anything.

mod jump;
mod ketama;
mod rendezvous;
mod table_ring;
mod textbook;
mod virtual_nodes;

pub use jump::Jump;
pub use ketama::Ketama;
pub use rendezvous::Rendezvous;
pub use table_ring::TableRing;
pub use textbook::Textbook;
pub use virtual_nodes::VirtualNodes;

use crate::hash::point_of;
use crate::member::Member;
use crate::optimiser::PlanError;

/// A way to place keys on servers.
pub trait Placement {
    /// What to call it.
    fn name(&self) -> &'static str;

    /// The servers; [`Self::owners_at`] answers in indices of this list.
    fn members(&self) -> &[Member];

    /// The servers of a point of the ring, the primary first, at most `replicas` and fewer only
    /// if there are not so many. `out` is cleared first; nothing is allocated if it has room.
    fn owners_at(&self, point: u64, replicas: u8, out: &mut Vec<u16>);

    /// The same placement after a change of membership.
    fn changed(&self, members: &[Member]) -> Result<Box<dyn Placement>, PlanError>;

    /// Whether it heeds weights.
    fn is_weighted(&self) -> bool;

    /// The servers of a key.
    fn owners(&self, key: &[u8], replicas: u8) -> Vec<u16> {
        let mut out = Vec::with_capacity(usize::from(replicas));
        self.owners_at(point_of(key), replicas, &mut out);
        out
    }
}

/// The placements by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// The partition table of this crate.
    Table,
    /// The classic ring with 100 points a server.
    VirtualNodes,
    /// Memcached's ring with 160 points a server.
    Ketama,
    /// Highest random weight.
    Rendezvous,
    /// Jump consistent hash.
    Jump,
    /// `(x mod N) mod M`.
    Textbook,
}

impl Scheme {
    /// All of them, ours first.
    pub const ALL: [Scheme; 6] = [
        Scheme::Table,
        Scheme::VirtualNodes,
        Scheme::Ketama,
        Scheme::Rendezvous,
        Scheme::Jump,
        Scheme::Textbook,
    ];

    /// The name that [`Placement::name`] gives and a command line takes.
    pub fn name(self) -> &'static str {
        match self {
            Scheme::Table => "table",
            Scheme::VirtualNodes => "virtual-nodes",
            Scheme::Ketama => "ketama",
            Scheme::Rendezvous => "rendezvous",
            Scheme::Jump => "jump",
            Scheme::Textbook => "textbook",
        }
    }

    /// The scheme of a name.
    pub fn by_name(name: &str) -> Option<Scheme> {
        Scheme::ALL.into_iter().find(|s| s.name() == name)
    }

    /// Places on these servers. `replicas` and `arcs` concern the table only.
    pub fn build(
        self,
        members: &[Member],
        replicas: u8,
        arcs: u32,
    ) -> Result<Box<dyn Placement>, PlanError> {
        Ok(match self {
            Scheme::Table => Box::new(TableRing::new(members, replicas, arcs)?),
            Scheme::VirtualNodes => Box::new(VirtualNodes::new(members)),
            Scheme::Ketama => Box::new(Ketama::new(members)),
            Scheme::Rendezvous => Box::new(Rendezvous::new(members)),
            Scheme::Jump => Box::new(Jump::new(members)),
            Scheme::Textbook => Box::new(Textbook::new(members, arcs)),
        })
    }
}

/// The mean weight, by which points are dealt out.
#[derive(Clone, Copy, Debug)]
struct MeanWeight {
    total: u64,
    servers: u64,
}

impl MeanWeight {
    fn of(members: &[Member]) -> MeanWeight {
        MeanWeight {
            total: members.iter().map(|m| u64::from(m.weight)).sum(),
            servers: members.iter().filter(|m| m.weight > 0).count() as u64,
        }
    }

    /// Points for a server of this weight, if one of mean weight gets `each`.
    fn points(self, weight: u32, each: u32) -> u32 {
        if self.total == 0 {
            return 0;
        }
        let points = u128::from(weight) * u128::from(each) * u128::from(self.servers);
        let rounded = (points + u128::from(self.total) / 2) / u128::from(self.total);
        u32::try_from(rounded).unwrap_or(u32::MAX).clamp(u32::from(weight > 0), POINTS_MAX)
    }
}

/// Most points of one server, whatever its weight.
const POINTS_MAX: u32 = 100_000;

/// Walks a sorted ring of points clockwise from `position` and takes the first distinct servers.
fn walk<P>(ring: &[(P, u16)], position: usize, replicas: u8, out: &mut Vec<u16>) {
    out.clear();
    for (_, server) in ring[position..].iter().chain(&ring[..position]) {
        if out.len() == usize::from(replicas) {
            break;
        }
        if !out.contains(server) {
            out.push(*server);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringfs_base::NodeName;

    #[test]
    fn every_scheme_names_distinct_servers_and_as_many_as_there_are() {
        for n in [1usize, 2, 3, 10] {
            let members: Vec<Member> =
                (0..n).map(|i| Member::new(NodeName::new(&format!("n{i}")).unwrap())).collect();
            for scheme in Scheme::ALL {
                let placement = scheme.build(&members, 3, 256).unwrap();
                assert_eq!(placement.name(), scheme.name());
                for key in 0..500u32 {
                    let mut owners = placement.owners(&key.to_be_bytes(), 3);
                    assert_eq!(owners, placement.owners(&key.to_be_bytes(), 3));
                    owners.sort_unstable();
                    owners.dedup();
                    assert_eq!(owners.len(), n.min(3), "{} with {n}", scheme.name());
                    assert!(owners.iter().all(|o| usize::from(*o) < n));
                }
            }
        }
    }

    #[test]
    fn schemes_are_found_by_name() {
        for scheme in Scheme::ALL {
            assert_eq!(Scheme::by_name(scheme.name()), Some(scheme));
        }
        assert_eq!(Scheme::by_name("random"), None);
    }
}
