//! The figures that the ring promises, on rings of real size. Bounds on time are wide, because
//! tests run unoptimised and beside others; `examples/simulate.rs` prints the true figures.

#![allow(clippy::unwrap_used, reason = "a test that panics is a test that fails")]

use ringfs_ring::simulate::Scenario;
use ringfs_ring::{
    ARCS_DEFAULT, ArcIndex, Member, MovePlan, NodeName, PlanError, StatusOverlay, Table, ZoneName,
    plan,
};
use std::time::{Duration, Instant};

fn servers(n: usize) -> Vec<Member> {
    (0..n).map(|i| Member::new(NodeName::new(&format!("n{i:04}")).unwrap())).collect()
}

fn in_zones(n: usize, zones: usize) -> Vec<Member> {
    let zone = |i: usize| ZoneName::new(&format!("z{}", i % zones)).unwrap();
    servers(n).into_iter().enumerate().map(|(i, m)| m.in_zone(zone(i))).collect()
}

fn first(members: &[Member], replicas: u8) -> Table {
    plan(None, members, replicas, ARCS_DEFAULT).unwrap()
}

fn next(table: &Table, members: &[Member]) -> Table {
    plan(Some(table), members, table.replicas(), table.arcs()).unwrap()
}

#[test]
fn a_hundred_equal_servers_are_balanced_to_one_percent() {
    let shares = first(&servers(100), 3).shares();
    assert!(shares.copies_max_over_mean() <= 1.01, "{}", shares.copies_max_over_mean());
    assert!(shares.primaries_max_over_mean() <= 1.01, "{}", shares.primaries_max_over_mean());
    let zoned = first(&in_zones(100, 5), 3).shares();
    assert!(zoned.copies_max_over_mean() <= 1.01 && zoned.primaries_max_over_mean() <= 1.01);
}

#[test]
fn weights_are_kept_within_three_percent() {
    let members: Vec<Member> =
        servers(60).into_iter().enumerate().map(|(i, m)| m.weighing(50 + i as u32 * 5)).collect();
    let table = first(&members, 3);
    let total: u32 = members.iter().map(|m| m.weight).sum();
    for node in table.shares().nodes {
        let due = f64::from(node.weight) / f64::from(total);
        assert!((node.fraction / due - 1.0).abs() <= 0.03, "{node:?}, due {due}");
    }
}

/// What must move when one of equal servers leaves is what it held; when one comes, what it
/// gets. Both are reached exactly, and survivors exchange nothing.
#[test]
fn removing_or_adding_one_of_a_hundred_moves_the_optimum() {
    for members in [servers(100), in_zones(100, 5)] {
        let table = first(&members, 3);
        let held = table.shares().nodes[41].copies;
        let mut fewer = members.clone();
        let gone = fewer.remove(41);
        let moves = MovePlan::between(&table, &next(&table, &fewer));
        assert_eq!(moves.copies_gained(), u64::from(held));
        for (name, node) in moves.nodes.iter().zip(moves.by_node()) {
            assert!(node.lost == 0 || *name == gone.name, "a survivor lost a copy");
        }

        let mut more = members.clone();
        let new = Member { name: NodeName::new("n0100").unwrap(), ..members[0].clone() };
        more.push(new.clone());
        let grown = next(&table, &more);
        let moves = MovePlan::between(&table, &grown);
        let got = grown.shares().nodes[100].copies;
        assert_eq!(moves.copies_gained(), u64::from(got));
        for (name, node) in moves.nodes.iter().zip(moves.by_node()) {
            assert!(node.gained == 0 || *name == new.name, "a survivor gained a copy");
        }
    }
}

#[test]
fn a_removed_server_s_load_spreads_over_all_others() {
    let table = first(&servers(100), 3);
    let moves = MovePlan::between(&table, &next(&table, &servers(100)[1..]));
    let most = moves.by_node().iter().map(|n| n.gained).max().unwrap();
    assert!(most <= 3, "one survivor gets {most} of 123 copies");
}

#[test]
fn a_thousand_servers_are_planned_in_time() {
    let begin = Instant::now();
    let table = first(&servers(1000), 3);
    let limit = Duration::from_secs(if cfg!(debug_assertions) { 20 } else { 2 });
    assert!(begin.elapsed() < limit, "{:?}", begin.elapsed());
    let begin = Instant::now();
    next(&table, &servers(999));
    assert!(begin.elapsed() < limit, "{:?}", begin.elapsed());
}

/// Zones of very different size, the largest at its cap of one copy a row, and weights that
/// differ: the case in which direct replacements do not suffice.
#[test]
fn uneven_zones_meet_their_quotas_in_time() {
    let zone_of = |i: usize| match i {
        0..60 => "large",
        60..85 => "middle",
        85..95 => "small",
        _ => "tiny",
    };
    let members: Vec<Member> = servers(100)
        .into_iter()
        .enumerate()
        .map(|(i, m)| {
            m.weighing(100 + i as u32 % 7 * 20).in_zone(ZoneName::new(zone_of(i)).unwrap())
        })
        .collect();
    let begin = Instant::now();
    let table = first(&members, 3);
    let mut fewer = members.clone();
    fewer.remove(90);
    let after = next(&table, &fewer);
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
    for table in [&table, &after] {
        let mut by_zone = std::collections::BTreeMap::new();
        for (node, member) in table.shares().nodes.iter().zip(table.members()) {
            *by_zone.entry(member.zone.clone().unwrap().to_string()).or_insert(0) += node.copies;
        }
        assert_eq!(by_zone["large"], ARCS_DEFAULT, "{by_zone:?}");
        for arc in (0..table.arcs()).map(ArcIndex) {
            let row = table.owners(arc);
            assert!(
                !(table.same_zone(row[0], row[1])
                    || table.same_zone(row[0], row[2])
                    || table.same_zone(row[1], row[2]))
            );
        }
    }
}

#[test]
fn a_lookup_is_a_hash_and_an_index() {
    let mut scenario = Scenario::equal_servers(100, 3, ARCS_DEFAULT);
    scenario.points = 1 << 15;
    let report = scenario.run().unwrap();
    let ours = &report.schemes[0];
    assert_eq!(ours.name, "table");
    let limit = if cfg!(debug_assertions) { 5_000.0 } else { 500.0 };
    assert!(ours.lookup_ns < limit, "{} ns", ours.lookup_ns);
    for change in &ours.changes {
        assert!(change.moved <= change.optimum * 1.05, "{change:?}");
    }
    let textbook = report.schemes.last().unwrap();
    assert!(textbook.changes[0].moved > 0.9, "the textbook moves nearly all");
    assert!(report.to_text().lines().count() == 11, "{}", report.to_text());
    assert!(report.to_json().starts_with(r#"{"servers":100,"replicas":3,"arcs":4096,"#));
}

#[test]
fn doubling_the_arcs_moves_nothing() {
    let table = first(&in_zones(10, 3), 3);
    let split = table.split().unwrap();
    assert_eq!(split.arcs(), table.arcs() * 2);
    assert!(MovePlan::between(&table, &split).is_empty());
    assert!(split.places_like(&table));
    for key in 0..2000u32 {
        assert_eq!(table.owners_of(&key.to_be_bytes()), split.owners_of(&key.to_be_bytes()));
    }
}

#[test]
fn changing_the_number_of_copies_keeps_what_there_is() {
    for members in [servers(20), in_zones(20, 5)] {
        let two = first(&members, 2);
        let three = plan(Some(&two), &members, 3, ARCS_DEFAULT).unwrap();
        let up = MovePlan::between(&two, &three);
        assert_eq!((up.copies_gained(), up.copies_lost()), (u64::from(ARCS_DEFAULT), 0));
        let back = plan(Some(&three), &members, 2, ARCS_DEFAULT).unwrap();
        let down = MovePlan::between(&three, &back);
        assert_eq!((down.copies_gained(), down.copies_lost()), (0, u64::from(ARCS_DEFAULT)));
        assert!(down.primaries_changed <= ARCS_DEFAULT / 100, "{}", down.primaries_changed);
        assert!(back.shares().copies_max_over_mean() <= 1.01);
    }
}

#[test]
fn with_fewer_servers_than_copies_rows_are_short_and_grow_later() {
    let table = first(&servers(2), 3);
    assert_eq!((table.width(), table.replicas(), table.is_short()), (2, 3, true));
    let grown = next(&table, &servers(3));
    assert_eq!((grown.width(), grown.is_short()), (3, false));
    assert_eq!(MovePlan::between(&table, &grown).copies_gained(), u64::from(ARCS_DEFAULT));
}

#[test]
fn draining_moves_like_removing_and_keeps_the_name() {
    let table = first(&servers(10), 2);
    let mut members = servers(10);
    members[3].weight = 0;
    let drained = next(&table, &members);
    assert_eq!(drained.shares().nodes[3].copies, 0);
    assert_eq!(drained.members().len(), 10);
    let moved = MovePlan::between(&table, &drained).copies_gained();
    assert_eq!(moved, u64::from(table.shares().nodes[3].copies));
}

#[test]
fn moves_name_sources_that_hold_the_arc() {
    let table = first(&servers(5), 2);
    let moves = MovePlan::between(&table, &next(&table, &servers(5)[1..]));
    assert_eq!(moves.bytes_to_copy(|_| 10), moves.copies_gained() * 10);
    assert_eq!(moves.bytes_to_copy_of(4096), moves.copies_gained());
    for change in &moves.moves {
        let source = &moves.nodes[usize::from(change.sources[0])];
        assert_ne!(source.as_str(), "n0000", "who stays is asked first");
        let held = table.owners(change.arc).contains(&table.index_of(source).unwrap());
        assert!(held);
    }
}

#[test]
fn a_server_that_is_down_is_stood_in_for_in_another_zone() {
    let table = first(&in_zones(12, 4), 3);
    let dead = table.members()[5].name.clone();
    let overlay = StatusOverlay::default().marking_down(&dead).unwrap();
    assert_eq!(overlay.version, 1);
    assert_eq!(overlay.marking_down(&dead), None);
    let down = overlay.resolve(&table);
    let mut stood_in = 0;
    for arc in (0..table.arcs()).map(ArcIndex) {
        let owners = table.owners(arc);
        let effective = table.effective_owners(arc, &down);
        assert_eq!(effective.len(), 3);
        for (i, owner) in effective.iter().enumerate() {
            assert!(!down.contains(owner.server));
            for other in &effective[..i] {
                assert_ne!(owner.server, other.server);
                assert!(!table.same_zone(owner.server, other.server));
            }
            match owner.stands_in_for {
                None => assert!(owners.contains(&owner.server)),
                Some(absent) => {
                    assert_eq!(absent, 5);
                    assert!(table.stand_ins(arc).contains(&owner.server));
                    stood_in += 1;
                }
            }
        }
    }
    assert_eq!(stood_in, table.shares().nodes[5].copies);
    let up = overlay.marking_up(&dead).unwrap();
    assert!(up.resolve(&table).is_empty());
}

#[test]
fn stand_ins_are_all_others_other_zones_first() {
    let table = first(&in_zones(12, 4), 2);
    let mut leaders = std::collections::BTreeSet::new();
    for arc in (0..table.arcs()).map(ArcIndex) {
        let (owners, order) = (table.owners(arc), table.stand_ins(arc));
        let mut all: Vec<u16> = order.iter().chain(owners).copied().collect();
        all.sort_unstable();
        assert_eq!(all, (0..12).collect::<Vec<u16>>());
        let shares = |s: &u16| owners.iter().any(|o| table.same_zone(*o, *s));
        assert!(order.is_sorted_by_key(shares));
        leaders.insert(order[0]);
    }
    assert_eq!(leaders.len(), 12, "everybody stands in somewhere");
}

#[test]
fn who_is_lost_leaves_room_in_the_own_zone() {
    // Two zones only: beside the survivor there is none but that of the one that is lost.
    let table = first(&in_zones(8, 2), 2);
    for arc in (0..table.arcs()).map(ArcIndex) {
        let owners = table.owners(arc);
        let order = table.stand_ins_without(arc, &owners[..1]);
        assert!(table.same_zone(order[0], owners[0]) && !table.same_zone(order[0], owners[1]));
        assert_eq!(order.len(), 6);
        assert!(table.stand_ins_without(arc, &[]).len() == 6);
        let mut all: Vec<u16> = order.iter().chain(owners).copied().collect();
        all.sort_unstable();
        assert_eq!(all, (0..8).collect::<Vec<u16>>());
    }
    // The same that the overlay would choose, also for two that are lost.
    let table = first(&in_zones(12, 4), 3);
    for arc in (0..table.arcs()).map(ArcIndex) {
        let lost = &table.owners(arc)[1..];
        let mut down = ringfs_ring::DownSet::none(&table);
        lost.iter().for_each(|server| down.insert(*server));
        let effective = table.effective_owners(arc, &down);
        let chosen: Vec<u16> = effective.iter().skip(1).map(|owner| owner.server).collect();
        assert_eq!(table.stand_ins_without(arc, lost)[..2], chosen);
    }
}

#[test]
fn with_too_many_down_what_is_left_is_used() {
    let table = first(&servers(3), 3);
    let mut overlay = StatusOverlay::default();
    for i in [0, 1] {
        overlay = overlay.marking_down(&table.members()[i].name).unwrap();
    }
    let down = overlay.resolve(&table);
    let owners = table.effective_owners(ArcIndex(7), &down);
    assert_eq!(owners.iter().map(|o| o.server).collect::<Vec<_>>(), [2]);
}

#[test]
fn impossible_plans_say_what_to_do() {
    let mut twice = servers(2);
    twice.push(twice[0].clone());
    let nobody: Vec<Member> = servers(2).into_iter().map(|m| m.weighing(0)).collect();
    let table = first(&servers(2), 2);
    let cases: [(Result<Table, PlanError>, &str); 6] = [
        (
            plan(None, &nobody, 2, 64),
            "no server has a weight above 0, so nobody could hold the data: keep or add one",
        ),
        (plan(None, &twice, 2, 64), "two servers are named \"n0000\": give each a name of its own"),
        (plan(None, &servers(2), 0, 64), "0 copies are not possible: choose 1 to 7"),
        (plan(None, &servers(2), 8, 64), "8 copies are not possible: choose 1 to 7"),
        (
            plan(None, &servers(2), 2, 100),
            "100 arcs are not possible: choose a power of two up to 1048576",
        ),
        (
            plan(Some(&table), &servers(2), 2, 64),
            "the ring has 4096 arcs and cannot go back to 64: arcs only double",
        ),
    ];
    for (result, text) in cases {
        assert_eq!(result.unwrap_err().to_string(), text);
    }
}

#[test]
fn a_simulation_that_leaves_nobody_is_refused() {
    let alone = Scenario::equal_servers(1, 1, 64);
    assert_eq!(alone.run(), Err(PlanError::Nobody));
}
