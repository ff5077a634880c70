use super::*;
use bytes::Bytes;
use ringfs_meta::RingState;
use ringfs_ring::StatusOverlay;
use std::sync::Arc;

fn name(text: &str) -> NodeName {
    NodeName::new(text).unwrap()
}

fn url(of: &str) -> String {
    format!("redis://{of}.example:6379")
}

pub(crate) fn ring(names: &[&str], replicas: u8) -> Ring {
    let members: Vec<Member> = names.iter().map(|n| Member::new(name(n))).collect();
    let table = Arc::new(plan(None, &members, replicas, 64).unwrap());
    let nodes = names.iter().map(|n| NodeRecord { name: name(n), url: url(n) }).collect();
    let state = RingState {
        epoch: table.epoch(),
        version: 1,
        overlay_version: 0,
        floor: Epoch(0),
        table: Bytes::from(table.encode()),
        former: Vec::new(),
        overlay: Bytes::new(),
        nodes,
        replicas,
        moving: None,
    };
    Ring { state, table, former: Vec::new(), overlay: StatusOverlay::default() }
}

/// The ring after a proposal, while its blocks are being moved.
pub(crate) fn after(ring: &Ring, proposal: &Proposal) -> Ring {
    let mut next = ring.clone();
    next.former.insert(0, ring.table.clone());
    next.former.truncate(usize::from(FORMER_MAX));
    next.table = Arc::new(proposal.table.clone());
    next.state.epoch = proposal.table.epoch();
    next.state.nodes.clone_from(&proposal.nodes);
    next.state.moving = record(ring, proposal, "test").map(|record| record.encode());
    next
}

fn add(of: &str) -> Change {
    Change::Add { name: name(of), url: url(of), weight: 1, zone: None }
}

fn refusal(ring: &Ring, changes: &[Change]) -> ChangeError {
    propose(ring, changes).unwrap_err()
}

#[test]
fn a_node_that_comes_takes_its_share_and_nothing_else_moves() {
    let ring = ring(&["a", "b", "c"], 2);
    let proposal = propose(&ring, &[add("d")]).unwrap();
    assert_eq!(proposal.table.epoch(), Epoch(2));
    assert_eq!(proposal.plan.copies_gained(), 32, "a quarter of 128 copies");
    assert!(proposal.plan.by_node().iter().filter(|n| n.gained > 0).count() == 1);
    assert_eq!((proposal.nodes.len(), proposal.leaving.len()), (4, 0));
    assert!((proposal.fraction_moved() - 0.25).abs() < 1e-9);
    assert_eq!(proposal.after.nodes[3].copies, 32);
    assert!(proposal.warnings.is_empty());
    let record = record(&ring, &proposal, "me").unwrap();
    assert_eq!((record.what.as_slice(), record.whole), (&["add d".to_owned()][..], false));
}

#[test]
fn drained_nodes_stay_and_removed_ones_leave_at_the_end() {
    let ring = ring(&["a", "b", "c"], 2);
    let drained = propose(&ring, &[Change::Drain(name("a"))]).unwrap();
    assert_eq!(drained.after.nodes[0].copies, 0);
    assert!(drained.leaving.is_empty() && drained.nodes.len() == 3);
    assert_eq!(drained.table.members().len(), 3);
    let by_weight = propose(&ring, &[Change::Weight(name("a"), 0)]).unwrap();
    assert_eq!(by_weight.table, drained.table);
    let out = propose(&ring, &[Change::Out(name("a"))]).unwrap();
    assert_eq!(out.table, drained.table);

    let removed = propose(&ring, &[Change::Remove(name("a"))]).unwrap();
    assert_eq!((removed.leaving.as_slice(), removed.nodes.len()), (&[name("a")][..], 3));
    assert_eq!(removed.table.members().len(), 2);
    assert_eq!(removed.plan.copies_gained(), drained.plan.copies_gained());

    // Drained before, it has nothing to give, but may hold what it took for others.
    let mut drained = after(&ring, &drained);
    drained.state.moving = None;
    let removed = propose(&drained, &[Change::Remove(name("a"))]).unwrap();
    assert!(removed.plan.is_empty());
    assert_eq!(record(&drained, &removed, "").unwrap().leaving, ["a"]);
    let back = propose(&drained, &[Change::In { name: name("a"), weight: 1 }]).unwrap();
    assert!(back.after.nodes[0].copies > 0);
}

#[test]
fn what_cannot_be_is_refused_with_a_reason() {
    let two = ring(&["a", "b", "c"], 2);
    let unknown = ChangeError::Unknown(name("x"));
    for change in [
        Change::Drain(name("x")),
        Change::Remove(name("x")),
        Change::Weight(name("x"), 2),
        Change::Zone(name("x"), None),
        Change::Out(name("x")),
        Change::In { name: name("x"), weight: 1 },
        Change::Replace { old: name("x"), name: name("d"), url: url("d") },
    ] {
        assert_eq!(refusal(&two, &[change]), unknown);
    }
    assert_eq!(refusal(&two, &[add("b")]), ChangeError::NameTaken(name("b")));
    let taken = |e: ChangeError| matches!(e, ChangeError::AddressTaken { .. });
    let twice = Change::Add { name: name("d"), url: url("b"), weight: 1, zone: None };
    assert!(taken(refusal(&two, &[twice])));
    // The port is the usual one, and the address the same.
    let twice =
        Change::Add { name: name("d"), url: "redis://b.example".into(), weight: 1, zone: None };
    assert!(taken(refusal(&two, &[twice])));
    let twice = Change::Replace { old: name("a"), name: name("d"), url: url("a") };
    assert!(taken(refusal(&two, &[twice])), "who leaves still has its server");
    let broken = Change::Add { name: name("d"), url: "http://d".into(), weight: 1, zone: None };
    assert!(matches!(refusal(&two, &[broken]), ChangeError::Address { .. }));
    let nothing = Change::Add { name: name("d"), url: url("d"), weight: 0, zone: None };
    assert_eq!(refusal(&two, &[nothing]), ChangeError::NoWeight(name("d")));
    assert_eq!(refusal(&two, &[Change::Weight(name("a"), WEIGHT_MAX + 1)]), ChangeError::Weight);

    let drains = [Change::Drain(name("a")), Change::Drain(name("b"))];
    assert_eq!(refusal(&two, &drains), ChangeError::TooFew { nodes: 1, copies: 2 });
    assert_eq!(refusal(&two, &[Change::Replicas(4)]), ChangeError::TooFew { nodes: 3, copies: 4 });
    assert!(matches!(refusal(&two, &[Change::Replicas(0)]), ChangeError::Plan(_)));
    let one = ring(&["a"], 1);
    assert_eq!(refusal(&one, &[Change::Remove(name("a"))]), ChangeError::Last(name("a")));
    assert_eq!(refusal(&one, &[Change::Drain(name("a"))]), ChangeError::Last(name("a")));
    // A way that is possible: lower the copies with it.
    assert!(propose(&two, &[&drains[..], &[Change::Replicas(1)]].concat()).is_ok());

    for same in [
        Change::Weight(name("a"), 1),
        Change::Zone(name("a"), None),
        Change::Replicas(2),
        Change::In { name: name("a"), weight: 1 },
    ] {
        assert!(matches!(refusal(&two, &[same]), ChangeError::Nothing(_)));
    }
}

#[test]
fn who_replaces_gets_exactly_what_the_other_had() {
    let ring = ring(&["a", "b", "c", "d"], 2);
    let change = Change::Replace { old: name("b"), name: name("e"), url: url("e") };
    let proposal = propose(&ring, &[change]).unwrap();
    let gained = proposal.plan.copies_gained();
    assert_eq!(gained, u64::from(proposal.before.nodes[1].copies));
    let gains = |n: &NodeName| {
        let at = proposal.plan.nodes.iter().position(|known| known == n).unwrap();
        proposal.plan.by_node()[at].gained
    };
    assert_eq!(u64::from(gains(&name("e"))), gained);
    assert_eq!(proposal.leaving, [name("b")]);
}

#[test]
fn arcs_double_without_a_move_and_copies_go_up_and_down() {
    let ring = ring(&["a", "b", "c"], 2);
    let split = propose(&ring, &[Change::Split]).unwrap();
    assert!(split.plan.is_empty() && split.table.arcs() == 128);
    assert!(record(&ring, &split, "").is_none());
    let more = propose(&ring, &[Change::Replicas(3)]).unwrap();
    assert_eq!((more.replicas, more.plan.copies_gained()), (Some(3), 64));
    let fewer = propose(&ring, &[Change::Replicas(1)]).unwrap();
    assert_eq!((fewer.plan.copies_gained(), fewer.plan.copies_lost()), (0, 64));
    assert!(record(&ring, &fewer, "").is_some(), "what is too much has to go");
    assert_eq!(fewer.warnings.len(), 1);
}

#[test]
fn zones_that_are_too_few_are_told() {
    let ring = ring(&["a", "b", "c"], 2);
    let zone = Some(ZoneName::new("rack").unwrap());
    let all: Vec<Change> =
        ["a", "b", "c"].iter().map(|n| Change::Zone(name(n), zone.clone())).collect();
    assert_eq!(propose(&ring, &all).unwrap().warnings.len(), 1);
    assert!(propose(&ring, &all[..2]).unwrap().warnings.is_empty());
}

#[test]
fn a_node_may_go_out_in_the_middle_of_a_move_and_tables_pile_up() {
    let mut now = ring(&["a", "b", "c", "d", "e", "f", "g", "h"], 2);
    let first = propose(&now, &[Change::Remove(name("h"))]).unwrap();
    assert!(!first.may_interrupt());
    now = after(&now, &first);
    assert_eq!(refusal(&now, &[Change::Out(name("h"))]), ChangeError::Leaving(name("h")));
    for (out, whole) in [("a", false), ("b", false), ("c", false), ("d", true), ("e", true)] {
        let proposal = propose(&now, &[Change::Out(name(out))]).unwrap();
        assert!(proposal.may_interrupt());
        assert_eq!(proposal.leaving, [name("h")], "still on its way");
        let record = record(&now, &proposal, "").unwrap();
        assert_eq!((record.whole, record.leaving.len()), (whole, 1), "{out}");
        now = after(&now, &proposal);
    }
    let record = MoveRecord::decode(now.state.moving.as_deref().unwrap());
    assert_eq!(record.what.len(), 6);
}
