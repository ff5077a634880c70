//! Changes of the ring: which servers there are, how much each holds, how many copies there are.
//!
//! [`propose`] is pure: from the ring as it is to the table that would be, with what moves and how
//! the shares are afterwards, or why it cannot be. [`commit`] puts it in force if the ring is still
//! the one that the proposal was made for; from then on new blocks go to the new owners, and the
//! worker `move` brings the old ones after them. Of two changes proposed for the same ring one wins,
//! and the other is told.

use crate::membership::Ring;
use crate::mover::MoveRecord;
use ringfs_base::{Epoch, NodeName, ZoneName};
use ringfs_link::Endpoint;
use ringfs_meta::{MetaError, NodeRecord, RingChange, Token, Volume};
use ringfs_ring::{Member, MovePlan, PlanError, Shares, Table, plan};
use std::collections::BTreeSet;
use std::fmt;
use std::time::SystemTime;

/// Tables before the one in force in which readers look for blocks.
pub const FORMER_MAX: u8 = 4;
/// Largest weight of a node.
pub const WEIGHT_MAX: u32 = 1_000_000;

/// One change of the ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A new server.
    Add {
        /// Its name, which no other has.
        name: NodeName,
        /// Its URL without a password.
        url: String,
        /// Its share relative to the others'.
        weight: u32,
        /// What it may fail together with.
        zone: Option<ZoneName>,
    },
    /// A server gives its blocks to the others and stays in the list.
    Drain(NodeName),
    /// A server gives its blocks to the others and leaves the list.
    Remove(NodeName),
    /// Another share; 0 drains.
    Weight(NodeName, u32),
    /// Another zone, or none.
    Zone(NodeName, Option<ZoneName>),
    /// A new server takes the share and the zone of an old one, which leaves.
    Replace {
        /// Who leaves.
        old: NodeName,
        /// The name of who comes.
        name: NodeName,
        /// Its URL without a password.
        url: String,
    },
    /// Another number of copies of each block.
    Replicas(u8),
    /// Twice as many arcs; nothing moves.
    Split,
    /// A server that has been down for too long: its copies are rebuilt on the others. It stays in
    /// the list. The only change that may be made while blocks are being moved.
    Out(NodeName),
    /// A server that was out gets blocks again.
    In {
        /// Which.
        name: NodeName,
        /// Its share.
        weight: u32,
    },
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::Add { name, .. } => write!(f, "add {name}"),
            Change::Drain(name) => write!(f, "drain {name}"),
            Change::Remove(name) => write!(f, "remove {name}"),
            Change::Weight(name, weight) => write!(f, "weight of {name}: {weight}"),
            Change::Zone(name, Some(zone)) => write!(f, "zone of {name}: {zone}"),
            Change::Zone(name, None) => write!(f, "zone of {name}: none"),
            Change::Replace { old, name, .. } => write!(f, "replace {old} by {name}"),
            Change::Replicas(1) => write!(f, "1 copy"),
            Change::Replicas(copies) => write!(f, "{copies} copies"),
            Change::Split => write!(f, "twice as many arcs"),
            Change::Out(name) => write!(f, "{name} is out"),
            Change::In { name, .. } => write!(f, "{name} is in again"),
        }
    }
}

/// Why a change cannot be made. Nothing has been changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// No such node.
    #[error("there is no node \"{0}\"; `ringfs node list` shows which there are")]
    Unknown(NodeName),
    /// A node that is on its way out of the list.
    #[error("node {0} is being removed already; `ringfs rebalance status` shows how far that is")]
    Leaving(NodeName),
    /// Somebody has the name.
    #[error(
        "there is a node \"{0}\" already; give the new one another name, or put it in the other's \
         place with `ringfs node replace`"
    )]
    NameTaken(NodeName),
    /// Somebody has the address.
    #[error(
        "node {other} has the address {url} already; two copies there would be lost together, so \
         give node {name} a server of its own"
    )]
    AddressTaken {
        /// The new node.
        name: NodeName,
        /// Who has the address.
        other: NodeName,
        /// The address.
        url: String,
    },
    /// No address.
    #[error("node {name}: {cause}")]
    Address {
        /// The new node.
        name: NodeName,
        /// What is wrong.
        cause: String,
    },
    /// A weight beyond what is possible.
    #[error("a weight is a number up to {max}, and 0 drains the node", max = WEIGHT_MAX)]
    Weight,
    /// A node that gets data needs a weight.
    #[error("node {0} needs a weight above 0 to hold data")]
    NoWeight(NodeName),
    /// Nobody would be left.
    #[error("{0} is the last node that holds data; add another before it goes")]
    Last(NodeName),
    /// Fewer servers than copies.
    #[error(
        "{copies} copies of each block need as many nodes that hold data, and there would be {nodes}; \
         add a node first, or lower the copies with `ringfs ring replicas`"
    )]
    TooFew {
        /// Nodes with weight that would be left.
        nodes: usize,
        /// Copies wanted.
        copies: u8,
    },
    /// It is so already.
    #[error("that is so already: {0}; nothing was changed")]
    Nothing(String),
    /// The ring cannot do it.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// No more arcs are possible.
    #[error("the ring has {0} arcs, which is the most there can be")]
    Arcs(u32),
}

/// A change as it would be.
#[derive(Clone, Debug)]
pub struct Proposal {
    /// What was asked for.
    pub changes: Vec<Change>,
    /// The new table.
    pub table: Table,
    /// The servers while blocks are being moved.
    pub nodes: Vec<NodeRecord>,
    /// Those of them that leave when everything is in its place.
    pub leaving: Vec<NodeName>,
    /// Copies of each block, if that changes.
    pub replicas: Option<u8>,
    /// What moves.
    pub plan: MovePlan,
    /// Who holds how much now.
    pub before: Shares,
    /// Who will.
    pub after: Shares,
    /// What the operator should know before.
    pub warnings: Vec<String>,
}

impl Proposal {
    /// The part of all copies that must be made, 0 to 1.
    pub fn fraction_moved(&self) -> f64 {
        self.plan.fraction_moved()
    }

    /// It may be made while blocks are being moved.
    fn may_interrupt(&self) -> bool {
        self.changes.iter().all(|change| matches!(change, Change::Out(_)))
    }
}

/// The ring under construction.
struct Draft {
    members: Vec<Member>,
    nodes: Vec<NodeRecord>,
    leaving: Vec<NodeName>,
    replicas: u8,
    arcs: u32,
    /// Nothing but the arcs has been changed.
    only_split: bool,
}

/// What the ring would be after `changes`, made in their order and at once.
///
/// # Errors
/// Why it cannot be, for the operator to read.
pub fn propose(ring: &Ring, changes: &[Change]) -> Result<Proposal, ChangeError> {
    let record = ring.state.moving.as_deref().map(MoveRecord::decode).unwrap_or_default();
    let known = |name: &NodeName| record.leaving.iter().any(|left| left == name.as_str());
    let mut draft = Draft {
        members: ring.table.members().to_vec(),
        nodes: ring.state.nodes.clone(),
        leaving: ring.names().into_iter().filter(known).collect(),
        replicas: ring.table.replicas(),
        arcs: ring.table.arcs(),
        only_split: true,
    };
    for change in changes {
        draft.apply(change)?;
    }
    let holding = draft.members.iter().filter(|member| member.weight > 0).count();
    if holding == 0 {
        let last = ring.table.members().iter().find(|member| member.weight > 0);
        return Err(last.map_or(PlanError::Nobody.into(), |m| ChangeError::Last(m.name.clone())));
    }
    if holding < usize::from(draft.replicas) {
        return Err(ChangeError::TooFew { nodes: holding, copies: draft.replicas });
    }
    let table = match draft.only_split {
        // Planning anew might even out what rounding left, and move something.
        true if draft.arcs == ring.table.arcs().saturating_mul(2) => {
            ring.table.split().ok_or(ChangeError::Arcs(ring.table.arcs()))?
        }
        _ => plan(Some(&ring.table), &draft.members, draft.replicas, draft.arcs)?,
    };
    let moves = MovePlan::between(&ring.table, &table);
    let replicas = Some(draft.replicas).filter(|copies| *copies != ring.table.replicas());
    Ok(Proposal {
        changes: changes.to_vec(),
        warnings: warnings(&table),
        before: ring.table.shares(),
        after: table.shares(),
        table,
        nodes: draft.nodes,
        leaving: draft.leaving,
        replicas,
        plan: moves,
    })
}

impl Draft {
    fn apply(&mut self, change: &Change) -> Result<(), ChangeError> {
        self.only_split &= matches!(change, Change::Split);
        match change {
            Change::Add { name, url, weight, zone } => {
                let member = Member { name: name.clone(), weight: *weight, zone: zone.clone() };
                self.add(member, url)
            }
            Change::Drain(name) | Change::Out(name) => self.set_weight(name, 0),
            Change::Weight(name, weight) => self.set_weight(name, *weight),
            Change::In { name, weight: 0 } => Err(ChangeError::NoWeight(name.clone())),
            Change::In { name, weight } => self.set_weight(name, *weight),
            Change::Remove(name) => self.remove(name).map(|_| ()),
            Change::Zone(name, zone) => {
                let member = self.member(name)?;
                if member.zone == *zone {
                    let zone = zone.as_ref().map_or("none".to_owned(), ToString::to_string);
                    return Err(ChangeError::Nothing(format!("the zone of node {name} is {zone}")));
                }
                member.zone.clone_from(zone);
                Ok(())
            }
            Change::Replace { old, name, url } => {
                let member = self.remove(old)?;
                if member.weight == 0 {
                    return Err(ChangeError::NoWeight(old.clone()));
                }
                self.add(Member { name: name.clone(), ..member }, url)
            }
            Change::Replicas(copies) if *copies == self.replicas => {
                Err(ChangeError::Nothing(format!("each block has {}", Change::Replicas(*copies))))
            }
            Change::Replicas(copies) => {
                self.replicas = *copies;
                Ok(())
            }
            Change::Split => {
                let doubled = self.arcs.checked_mul(2).filter(|a| *a <= ringfs_ring::ARCS_MAX);
                self.arcs = doubled.ok_or(ChangeError::Arcs(self.arcs))?;
                Ok(())
            }
        }
    }

    fn member(&mut self, name: &NodeName) -> Result<&mut Member, ChangeError> {
        if self.leaving.contains(name) {
            return Err(ChangeError::Leaving(name.clone()));
        }
        let found = self.members.iter_mut().find(|member| member.name == *name);
        found.ok_or_else(|| ChangeError::Unknown(name.clone()))
    }

    fn set_weight(&mut self, name: &NodeName, weight: u32) -> Result<(), ChangeError> {
        if weight > WEIGHT_MAX {
            return Err(ChangeError::Weight);
        }
        let member = self.member(name)?;
        if member.weight == weight {
            return Err(ChangeError::Nothing(match weight {
                0 => format!("node {name} is drained and holds no data"),
                _ => format!("node {name} has weight {weight}"),
            }));
        }
        member.weight = weight;
        Ok(())
    }

    fn add(&mut self, member: Member, url: &str) -> Result<(), ChangeError> {
        let name = member.name.clone();
        if member.weight == 0 {
            return Err(ChangeError::NoWeight(name));
        }
        if member.weight > WEIGHT_MAX {
            return Err(ChangeError::Weight);
        }
        if self.nodes.iter().any(|node| node.name == name) {
            return Err(ChangeError::NameTaken(name));
        }
        let normal = |url: &str| Endpoint::parse(url).map(|e| e.to_url_without_password());
        let url = match normal(url) {
            Ok(url) => url,
            Err(cause) => return Err(ChangeError::Address { name, cause: cause.to_string() }),
        };
        let same = |node: &&NodeRecord| {
            node.url == url || normal(&node.url).is_ok_and(|theirs| theirs == url)
        };
        if let Some(other) = self.nodes.iter().find(same) {
            return Err(ChangeError::AddressTaken { name, other: other.name.clone(), url });
        }
        self.nodes.push(NodeRecord { name, url });
        self.members.push(member);
        Ok(())
    }

    fn remove(&mut self, name: &NodeName) -> Result<Member, ChangeError> {
        let member = self.member(name)?.clone();
        self.members.retain(|other| other.name != *name);
        self.leaving.push(name.clone());
        Ok(member)
    }
}

/// What is possible but not as good as it looks.
fn warnings(table: &Table) -> Vec<String> {
    let holding = || table.members().iter().filter(|member| member.weight > 0);
    let zones: BTreeSet<_> = holding().filter_map(|member| member.zone.as_ref()).collect();
    let alone = holding().filter(|member| member.zone.is_none()).count();
    let groups = zones.len() + alone;
    let mut warnings = Vec::new();
    if !zones.is_empty() && groups < usize::from(table.replicas()) {
        warnings.push(format!(
            "{} copies in {groups} zones: several copies of a block are in one zone and may be lost \
             together",
            table.replicas()
        ));
    }
    if table.replicas() == 1 {
        warnings.push(
            "each block has 1 copy: what is on a node is lost with it, and cannot be read while it \
             is down"
                .to_owned(),
        );
    }
    warnings
}

/// Puts a proposal in force if `ring`, for which it was made, still is; the new epoch. `by` says who
/// wanted it; `token` is that of the coordinator if it is not an operator who does.
///
/// # Errors
/// [`MetaError::RingConflict`] if somebody else changed the ring first, [`MetaError::RingBusy`] (with
/// the [`MoveRecord`]) while blocks are being moved; then nothing was changed.
pub fn commit(
    volume: &Volume,
    ring: &Ring,
    proposal: &Proposal,
    by: &str,
    token: Option<Token>,
) -> Result<Epoch, MetaError> {
    let record = record(ring, proposal, by).map(|record| record.encode());
    let table = proposal.table.encode();
    let done = volume.change_ring(&RingChange {
        expected: ring.epoch(),
        table: &table,
        nodes: &proposal.nodes,
        replicas: proposal.replicas,
        moving: record.as_deref(),
        former_max: if record.is_some() { FORMER_MAX } else { 0 },
        token,
        while_moving: proposal.may_interrupt(),
    });
    match done {
        Err(MetaError::RingConflict { found }) if found == ring.epoch().0 + 1 => {
            // It may be ours: then its reply was lost.
            let now = volume.ring_state()?;
            let ours = now.epoch.0 == found && now.table == table && now.moving == record;
            if ours { Ok(now.epoch) } else { Err(MetaError::RingConflict { found }) }
        }
        other => other,
    }
}

/// What is to be moved; `None` if everything is in its place already.
fn record(ring: &Ring, proposal: &Proposal, by: &str) -> Option<MoveRecord> {
    let before = ring.state.moving.as_deref().map(MoveRecord::decode);
    if proposal.plan.is_empty() && proposal.leaving.is_empty() && before.is_none() {
        return None;
    }
    let before = before.unwrap_or_default();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let mut what = before.what;
    what.extend(proposal.changes.iter().map(ToString::to_string));
    Some(MoveRecord {
        what,
        by: by.to_owned(),
        began: now.map_or(0, |since| since.as_secs()),
        leaving: proposal.leaving.iter().map(ToString::to_string).collect(),
        whole: before.whole || ring.former.len() >= usize::from(FORMER_MAX),
        fraction: proposal.fraction_moved(),
        copies: before.copies,
        bytes: before.bytes,
        ..MoveRecord::default()
    })
}

#[cfg(test)]
pub(crate) mod tests;
