//! Random histories of membership: whatever happens, every table keeps every promise, and no
//! table could have been reached with fewer moves.

#![allow(clippy::unwrap_used, reason = "a test that panics is a test that fails")]

mod oracle;

use oracle::{least_moves, zone_bounds};
use proptest::prelude::*;
use ringfs_ring::{ArcIndex, Member, MovePlan, NodeName, Table, ZoneName, plan};

const ARCS: u32 = 32;

#[derive(Clone, Debug)]
enum Event {
    Add { id: u8, weight: u32, zone: u8 },
    Remove { pick: usize },
    Reweight { pick: usize, weight: u32 },
    Rezone { pick: usize, zone: u8 },
    Replicas(u8),
}

fn weight() -> impl Strategy<Value = u32> {
    prop_oneof![4 => Just(10), 3 => 1..40u32, 1 => Just(0), 1 => 200..100_000u32]
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (any::<u8>(), weight(), 0..6u8)
            .prop_map(|(id, weight, zone)| Event::Add { id, weight, zone }),
        3 => any::<usize>().prop_map(|pick| Event::Remove { pick }),
        2 => (any::<usize>(), weight()).prop_map(|(pick, weight)| Event::Reweight { pick, weight }),
        1 => (any::<usize>(), 0..6u8).prop_map(|(pick, zone)| Event::Rezone { pick, zone }),
        1 => (1..=5u8).prop_map(Event::Replicas),
    ]
}

fn member(id: u8, weight: u32, zone: Option<ZoneName>) -> Member {
    Member { name: NodeName::new(&format!("node-{id}")).unwrap(), weight, zone }
}

/// Zone 0 is none; the zones used here are few, so that they are often fewer than the copies.
fn zone(number: u8) -> Option<ZoneName> {
    (number > 0).then(|| ZoneName::new(&format!("z{number}")).unwrap())
}

fn apply(members: &mut Vec<Member>, replicas: &mut u8, event: &Event, zoned: bool) {
    let picked = |pick: usize, len: usize| (len > 0).then(|| pick % len);
    match event {
        Event::Add { id, weight, zone: z } => {
            let new = member(*id, *weight, if zoned { zone(*z) } else { None });
            if members.len() < 9 && members.iter().all(|m| m.name != new.name) {
                members.push(new);
            }
        }
        Event::Remove { pick } => {
            if let Some(i) = picked(*pick, members.len()) {
                members.remove(i);
            }
        }
        Event::Reweight { pick, weight } => {
            if let Some(i) = picked(*pick, members.len()) {
                members[i].weight = *weight;
            }
        }
        Event::Rezone { pick, zone: z } if zoned => {
            if let Some(i) = picked(*pick, members.len()) {
                members[i].zone = zone(*z);
            }
        }
        Event::Rezone { .. } => {}
        Event::Replicas(r) => *replicas = *r,
    }
}

fn copies(table: &Table) -> Vec<(i64, i64)> {
    table.shares().nodes.iter().map(|n| (i64::from(n.copies), i64::from(n.copies))).collect()
}

fn check_rows(table: &Table) {
    let members = table.members();
    let eligible = members.iter().filter(|m| m.weight > 0).count();
    assert_eq!(usize::from(table.width()), eligible.min(usize::from(table.replicas())));
    let (zone_of, zones) = zone_bounds(members, usize::from(table.replicas()));
    for arc in (0..table.arcs()).map(ArcIndex) {
        let row = table.owners(arc);
        let mut in_zone = vec![0i64; zones.len()];
        for (i, owner) in row.iter().enumerate() {
            assert!(!row[..i].contains(owner), "a server twice in {arc:?}: {row:?}");
            in_zone[zone_of[usize::from(*owner)].expect("a drained server owns nothing")] += 1;
        }
        for (count, (low, high)) in in_zone.iter().zip(&zones) {
            assert!((low..=high).contains(&count), "{arc:?} {row:?} {in_zone:?} {zones:?}");
        }
    }
    let width = u32::from(table.width());
    for node in table.shares().nodes {
        let due = node.copies / width..=node.copies.div_ceil(width);
        assert!(due.contains(&node.primaries), "primaries: {node:?}");
    }
}

/// Where no cap and no zone binds, copies are the weight's share, rounded either way.
fn check_weights(table: &Table) -> Option<Vec<(i64, i64)>> {
    let total: u64 = table.members().iter().map(|m| u64::from(m.weight)).sum();
    let slots = u64::from(table.arcs()) * u64::from(table.width());
    let due = |m: &Member| (slots * u64::from(m.weight), total);
    let capped = table.members().iter().any(|m| {
        let (share, total) = due(m);
        share > u64::from(table.arcs()) * total
    });
    if capped {
        return None;
    }
    let ranges: Vec<(i64, i64)> = table
        .members()
        .iter()
        .map(|m| {
            let (share, total) = due(m);
            ((share / total) as i64, share.div_ceil(total) as i64)
        })
        .collect();
    for (node, (low, high)) in table.shares().nodes.iter().zip(&ranges) {
        assert!((*low..=*high).contains(&i64::from(node.copies)), "{node:?} {low}..={high}");
    }
    Some(ranges)
}

fn run_history(events: &[Event], zoned: bool, slack: f64) {
    let mut members = vec![member(0, 10, None), member(1, 10, None)];
    let mut replicas = 2;
    let mut table = plan(None, &members, replicas, ARCS).unwrap();
    check_rows(&table);
    for event in events {
        let (old_members, old_replicas) = (members.clone(), replicas);
        apply(&mut members, &mut replicas, event, zoned);
        if members.iter().all(|m| m.weight == 0) {
            (members, replicas) = (old_members, old_replicas);
            continue;
        }
        let next = plan(Some(&table), &members, replicas, ARCS).unwrap();
        check_rows(&next);
        let moved = MovePlan::between(&table, &next).copies_gained() as i64;
        let r = usize::from(replicas);
        let exact = least_moves(&table, next.members(), r, &copies(&next))
            .expect("the plan itself meets all bounds");
        assert!(
            moved as f64 <= exact as f64 * slack,
            "moved {moved}, for this balance {exact} do; {event:?}\n{:?}\n{:?}",
            table.members(),
            next.members()
        );
        if !zoned && let Some(ranges) = check_weights(&next) {
            let best = least_moves(&table, next.members(), r, &ranges).expect("feasible");
            assert!(moved as f64 <= best as f64 * slack, "moved {moved}, optimum {best}");
        }
        // The same again changes nothing, and the order of the list means nothing.
        let mut reversed = members.clone();
        reversed.reverse();
        let same = plan(Some(&next), &reversed, replicas, ARCS).unwrap();
        assert!(same.places_like(&next), "planning twice moved something after {event:?}");
        assert_eq!(Table::decode(&next.encode()).as_ref(), Ok(&next));
        table = next;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn histories_without_zones_move_the_optimum(events in prop::collection::vec(event(), 1..24)) {
        run_history(&events, false, 1.0);
    }

    #[test]
    fn histories_with_zones_keep_every_bound(events in prop::collection::vec(event(), 1..24)) {
        run_history(&events, true, 1.0);
    }
}
