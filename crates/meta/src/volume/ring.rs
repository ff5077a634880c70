//! The ring of block servers as the metadata server keeps it: its table, who is down, what is being
//! moved; and the one process that may change all this by itself, the coordinator.
//!
//! Overlay, reports, and records of nodes, moves and workers are opaque here: `ringfs-cluster` writes
//! and reads them.

use super::Volume;
use crate::config::{NodeRecord, decode_nodes, encode_nodes};
use crate::error::MetaError;
use crate::reply::Reader;
use crate::scripts;
use crate::shard::done;
use bytes::Bytes;
use ringfs_base::{Epoch, Errno, NodeName, SessionId};
use ringfs_link::Cmd;
use std::collections::BTreeMap;
use std::time::Duration;

/// Proof of coordinating: one holding of the lease. Larger ones are later.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Token(pub u64);

/// The ring and all that belongs to it, as of one moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RingState {
    /// The epoch of the table.
    pub epoch: Epoch,
    /// Grows with every change of anything here.
    pub version: u64,
    /// Grows with every change of the overlay.
    pub overlay_version: u64,
    /// Blocks written under an epoch before this one cannot be committed any more.
    pub floor: Epoch,
    /// The encoded table; empty at epoch 0.
    pub table: Bytes,
    /// The tables before it, newest first, while blocks may still be where they had them.
    pub former: Vec<Bytes>,
    /// The encoded overlay of nodes that are down; empty if none ever was.
    pub overlay: Bytes,
    /// The block servers.
    pub nodes: Vec<NodeRecord>,
    /// Copies wanted of each block.
    pub replicas: u8,
    /// What is being moved, while something is.
    pub moving: Option<String>,
}

/// A change of the ring's table.
#[derive(Clone, Copy, Debug)]
pub struct RingChange<'a> {
    /// The epoch that the ring must have; the new table gets the next one.
    pub expected: Epoch,
    /// The new encoded table.
    pub table: &'a [u8],
    /// The block servers from now on.
    pub nodes: &'a [NodeRecord],
    /// Copies wanted from now on, if that changes.
    pub replicas: Option<u8>,
    /// What is to be moved now; `None` if nothing is.
    pub moving: Option<&'a str>,
    /// Most tables before the new one in which readers look for blocks; 0 if nothing moves.
    pub former_max: u8,
    /// It is the coordinator who changes it.
    pub token: Option<Token>,
    /// Changes it even while blocks are being moved for an earlier change.
    pub while_moving: bool,
}

/// What an observer saw.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// The session of the observer.
    pub observer: SessionId,
    /// How long ago, by the server's clock.
    pub age: Duration,
    /// What it saw.
    pub seen: Bytes,
}

/// What an observer learns in return.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Observed {
    /// The server's clock, in milliseconds since 1970.
    pub now_ms: u64,
    /// The ring's epoch.
    pub epoch: Epoch,
    /// See [`RingState::version`].
    pub version: u64,
    /// Who coordinates.
    pub coordinator: Option<SessionId>,
    /// Its token, or the one of who did last.
    pub token: Token,
    /// What all observers see; only for the coordinator.
    pub reports: Vec<Report>,
}

impl Volume {
    /// The ring's epoch and encoded table (empty at epoch 0).
    pub fn ring(&self) -> Result<(Epoch, Bytes), MetaError> {
        let state = self.ring_state()?;
        Ok((state.epoch, state.table))
    }

    /// Everything about the ring, as of one moment.
    pub fn ring_state(&self) -> Result<RingState, MetaError> {
        let mut reply = Reader::new("ring", self.home().ask(&scripts::RING, &[])?);
        let (epoch, version) = (Epoch(reply.u64()?), reply.u64()?);
        let (overlay_version, floor) = (reply.u64()?, Epoch(reply.u64()?));
        let table = sized(&mut reply)?;
        let mut all = Reader::new("ring", sized(&mut reply)?);
        let mut former = Vec::new();
        while !all.is_empty() {
            former.push(sized(&mut all)?);
        }
        let overlay = sized(&mut reply)?;
        let damaged =
            |what| MetaError::Corrupt(format!("the volume's record has no valid \"{what}\""));
        let nodes = decode_nodes(&text(sized(&mut reply)?)).ok_or_else(|| damaged("nodes"))?;
        let replicas = text(sized(&mut reply)?).parse().map_err(|_| damaged("replicas"))?;
        let moving = Some(text(sized(&mut reply)?)).filter(|record| !record.is_empty());
        Ok(RingState {
            epoch,
            version,
            overlay_version,
            floor,
            table,
            former,
            overlay,
            nodes,
            replicas,
            moving,
        })
    }

    /// Puts a first table, or one that moves nothing, in place of the one with epoch `expected`; see
    /// [`Self::change_ring`].
    pub fn set_ring(
        &self,
        expected: Epoch,
        table: &[u8],
        nodes: &[NodeRecord],
    ) -> Result<Epoch, MetaError> {
        self.change_ring(&RingChange {
            expected,
            table,
            nodes,
            replicas: None,
            moving: None,
            former_max: 0,
            token: None,
            while_moving: false,
        })
    }

    /// Puts a new table in place of the one with epoch `expected`, whose epoch becomes
    /// `expected + 1`, and the node list with it, in one step.
    ///
    /// # Errors
    /// [`MetaError::RingConflict`] if the ring has another epoch, also if it is this very change that
    /// took effect before its reply was lost: read the ring. [`MetaError::RingBusy`] while blocks are
    /// being moved for an earlier change. [`MetaError::NotCoordinator`].
    pub fn change_ring(&self, change: &RingChange<'_>) -> Result<Epoch, MetaError> {
        let mut head = change.expected.to_bytes().to_vec();
        head.extend(change.token.map_or(0, |token| token.0).to_be_bytes());
        head.extend([change.former_max, u8::from(change.while_moving)]);
        let nodes = encode_nodes(change.nodes);
        let replicas = change.replicas.map(|copies| copies.to_string()).unwrap_or_default();
        let moving = change.moving.unwrap_or_default();
        let args = [&head, change.table, nodes.as_bytes(), replicas.as_bytes(), moving.as_bytes()];
        let rest = ring_reply(self.home().run(&scripts::SET_RING, &args)?)?;
        Ok(Epoch(Reader::new("set_ring", rest).u64()?))
    }

    /// An observer's sign of life with what it sees of the nodes. `lease` is for how long it would
    /// like to coordinate, counted from now; zero: not at all.
    ///
    /// # Errors
    /// [`MetaError::Fenced`] if the session has been given up.
    pub fn observe(
        &self,
        observer: SessionId,
        lease: Duration,
        seen: &[u8],
    ) -> Result<Observed, MetaError> {
        let lease = u64::try_from(lease.as_millis()).unwrap_or(u64::MAX);
        let head = [observer.to_bytes(), lease.to_be_bytes()].concat();
        let mut reply = Reader::new("observe", self.home().ask(&scripts::OBSERVE, &[&head, seen])?);
        let (now_ms, epoch, version) = (reply.u64()?, Epoch(reply.u64()?), reply.u64()?);
        let coordinator = Some(reply.u64()?).filter(|id| *id != 0).map(SessionId);
        let token = Token(reply.u64()?);
        let mut reports = Vec::new();
        while !reply.is_empty() {
            let (observer, age) = (SessionId(reply.u64()?), Duration::from_millis(reply.u64()?));
            reports.push(Report { observer, age, seen: sized(&mut reply)? });
        }
        Ok(Observed { now_ms, epoch, version, coordinator, token, reports })
    }

    /// The session that coordinates now, as those see it who only look.
    pub fn coordinator(&self) -> Result<Option<SessionId>, MetaError> {
        let home = self.home();
        let cmd = Cmd::new("HGET").arg(home.prefix.key("m")).arg("lease");
        let lease = home.call(&cmd)?.into_bytes().map_err(MetaError::Unavailable)?;
        let Some(lease) = lease else { return Ok(None) };
        let mut lease = Reader::new("lease", lease);
        let (holder, _token, until_ms) = (lease.u64()?, lease.u64()?, lease.u64()?);
        let time = home.call(&Cmd::new("TIME"))?.into_array().map_err(MetaError::Unavailable)?;
        let seconds = match time.into_iter().next() {
            Some(seconds) => seconds.into_int().map_err(MetaError::Unavailable)? as u64,
            None => return Err(Errno::EPROTO.into()),
        };
        let holds = holder != 0 && until_ms >= seconds.saturating_mul(1000);
        Ok(holds.then_some(SessionId(holder)))
    }

    /// Records which nodes are down (`overlay`, encoded, following version `expected`; `None` leaves
    /// it) and what is known of some of them (`None` forgets).
    ///
    /// # Errors
    /// [`MetaError::NotCoordinator`]; [`MetaError::RingConflict`] with the version that the overlay
    /// has.
    pub fn set_node_states(
        &self,
        token: Token,
        expected: u64,
        overlay: Option<&[u8]>,
        states: &[(&NodeName, Option<&str>)],
    ) -> Result<(), MetaError> {
        let head = [token.0.to_be_bytes(), expected.to_be_bytes()].concat();
        let mut args: Vec<&[u8]> = vec![&head, overlay.unwrap_or_default()];
        for (node, state) in states {
            args.push(node.as_str().as_bytes());
            args.push(state.unwrap_or_default().as_bytes());
        }
        ring_reply(self.home().run(&scripts::VERDICT, &args)?).map(|_| ())
    }

    /// What [`Self::set_node_states`] recorded of each node.
    pub fn node_states(&self) -> Result<BTreeMap<String, String>, MetaError> {
        let all = self.texts("m")?;
        let named =
            |(field, value): (String, String)| Some((field.strip_prefix('n')?.to_owned(), value));
        Ok(all.into_iter().filter_map(named).collect())
    }

    /// Records how far the moving of blocks is. See [`Self::change_ring`] for the errors.
    pub fn note_move(&self, token: Token, epoch: Epoch, record: &str) -> Result<(), MetaError> {
        self.step_move(token, epoch, 0, record.as_bytes())
    }

    /// From now on nothing can be committed that was written under an epoch before this one.
    pub fn raise_floor(&self, token: Token, epoch: Epoch) -> Result<(), MetaError> {
        self.step_move(token, epoch, 1, b"")
    }

    /// All blocks are where the table has them: the tables before are forgotten, and the nodes that
    /// are not in the list (`None` leaves it).
    pub fn end_move(
        &self,
        token: Token,
        epoch: Epoch,
        nodes: Option<&[NodeRecord]>,
    ) -> Result<(), MetaError> {
        let nodes = nodes.map(encode_nodes).unwrap_or_default();
        self.step_move(token, epoch, 2, nodes.as_bytes())
    }

    /// [`Errno::ENOENT`] if nothing is being moved.
    fn step_move(
        &self,
        token: Token,
        epoch: Epoch,
        what: u8,
        text: &[u8],
    ) -> Result<(), MetaError> {
        let head = [&token.0.to_be_bytes()[..], &epoch.to_bytes(), &[what]].concat();
        ring_reply(self.home().run(&scripts::MOVE, &[&head, text])?).map(|_| ())
    }

    /// What the background workers' records say: how each is (`NAME`), what is wanted of it
    /// (`NAME.want`).
    pub fn workers(&self) -> Result<BTreeMap<String, String>, MetaError> {
        self.texts("wk")
    }

    /// Writes one of them; `None` removes it. [`Errno::ENOENT`] if the volume is no more.
    pub fn set_worker(&self, name: &str, record: Option<&str>) -> Result<(), MetaError> {
        let args = [name.as_bytes(), record.unwrap_or_default().as_bytes()];
        self.home().ask(&scripts::WORKER, &args).map(|_| ())
    }

    /// Fields and values of a hash of texts.
    fn texts(&self, key: &str) -> Result<BTreeMap<String, String>, MetaError> {
        let home = self.home();
        let all = home.call(&Cmd::new("HGETALL").arg(home.prefix.key(key)))?;
        let mut found = BTreeMap::new();
        for (field, value) in all.into_map().map_err(MetaError::Unavailable)? {
            let field = field.into_some_bytes().map_err(MetaError::Unavailable)?;
            let value = value.into_some_bytes().map_err(MetaError::Unavailable)?;
            found.insert(text(field), text(value));
        }
        Ok(found)
    }
}

/// Bytes with their length (4) before them.
fn sized(reply: &mut Reader) -> Result<Bytes, MetaError> {
    let length = reply.u32()?;
    reply.take(length as usize)
}

/// What people may read; what cannot be read shows as such.
fn text(bytes: Bytes) -> String {
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The errors of scripts that change the ring.
fn ring_reply((code, rest): (u8, Bytes)) -> Result<Bytes, MetaError> {
    match Errno(code) {
        Errno::EEXIST => Err(MetaError::RingConflict { found: Reader::new("ring", rest).u64()? }),
        Errno::EBUSY => Err(MetaError::RingBusy(text(rest))),
        Errno::EPERM => Err(MetaError::NotCoordinator),
        _ => done((code, rest)),
    }
}
