//! Blocks move while they are read, written and removed: nothing is lost, and in the end each is
//! where the ring has it.

#![allow(clippy::unwrap_used, reason = "what fails ends the test")]

mod lab;

use lab::{Host, Lab, Shared, Workload, fill, name};
use ringfs_base::{BlockId, Epoch};
use ringfs_cluster::change::{Change, commit, propose};
use ringfs_cluster::mover::MoveRecord;
use ringfs_meta::MetaError;
use ringfs_store::{NodeIndex, Placement};
use std::sync::Arc;
use std::time::Duration;

const BLOCK: u32 = 4096;
/// Slow enough to be in the middle for a while.
const SLOW: u64 = 100 << 10;

/// A lab with some data and a workload on it.
fn at_work(nodes: usize, replicas: u8) -> (Lab, Workload) {
    let lab = Lab::new(nodes, replicas, BLOCK);
    let shared = fill(&lab, 300, BLOCK * 2);
    let workload = Workload::start(&lab, shared);
    (lab, workload)
}

#[track_caller]
fn end(lab: &Lab, workload: Workload) -> Arc<Shared> {
    lab.settle();
    let shared = workload.end();
    assert!(shared.writes.load(std::sync::atomic::Ordering::Relaxed) > 300);
    lab.assert_sound();
    shared
}

#[test]
fn nodes_come_and_go_under_a_workload() {
    let (lab, workload) = at_work(3, 2);
    let _host = lab.mover();
    lab.change(&[lab.add("n3")]);
    lab.settle();
    lab.change(&[Change::Weight(name("n0"), 3)]);
    lab.settle();
    lab.change(&[Change::Drain(name("n1"))]);
    lab.settle();
    assert_eq!(lab.ring().names().len(), 4, "a drained node stays");
    lab.change(&[Change::Remove(name("n2")), lab.add("n4")]);
    lab.settle();
    assert!(!lab.ring().names().contains(&name("n2")), "a removed one leaves");
    let url = lab.serve("n5");
    lab.change(&[Change::Replace { old: name("n0"), name: name("n5"), url }]);
    lab.settle();
    lab.change(&[Change::Remove(name("n1"))]);
    end(&lab, workload);
    assert_eq!(lab.ring().names(), ["n3", "n4", "n5"].map(name));
    assert!(lab.ring().former.is_empty());
}

#[test]
fn copies_go_up_and_down_and_arcs_double_under_a_workload() {
    let (lab, workload) = at_work(4, 2);
    let _host = lab.mover();
    lab.change(&[Change::Replicas(3)]);
    lab.settle();
    assert_eq!(lab.volume.reload().unwrap().replicas, 3);
    lab.change(&[Change::Split]);
    assert!(lab.is_settled(), "nothing moves");
    lab.change(&[Change::Replicas(1)]);
    lab.settle();
    lab.change(&[Change::Replicas(2), lab.add("n4")]);
    end(&lab, workload);
    assert_eq!(lab.ring().table.arcs(), 2048);
}

#[test]
fn the_worker_dies_in_the_middle_and_another_goes_on() {
    let (lab, workload) = at_work(3, 2);
    lab.throttle(SLOW);
    lab.change(&[lab.add("n3")]);
    let mut tokens = Vec::new();
    for _ in 0..3 {
        let host = lab.mover();
        lab.in_the_middle();
        tokens.push(host.token);
        drop(host);
        assert!(!lab.is_settled(), "it was stopped in the middle");
    }
    assert!(tokens[0] < tokens[1] && tokens[1] < tokens[2]);
    lab.throttle(0);
    let _host = lab.mover();
    end(&lab, workload);
}

#[test]
fn who_does_not_coordinate_any_more_changes_nothing() {
    let lab = Lab::new(3, 2, BLOCK);
    let shared = fill(&lab, 200, BLOCK * 2);
    lab.throttle(SLOW);
    lab.change(&[lab.add("n3")]);
    let before: Host = lab.mover();
    lab.in_the_middle();
    // Its session has been given up by the others, and it does not know that yet.
    lab.volume.reap(Duration::ZERO).unwrap();
    let now = lab.mover();
    assert!(now.token > before.token);
    let stale = lab.volume.note_move(before.token, lab.ring().epoch(), "{}");
    assert!(matches!(stale, Err(MetaError::NotCoordinator)), "{stale:?}");
    let stale = lab.volume.end_move(before.token, lab.ring().epoch(), None);
    assert!(matches!(stale, Err(MetaError::NotCoordinator)), "{stale:?}");
    lab.throttle(0);
    lab.settle();
    shared.assert_all_there();
    lab.assert_sound();
    std::mem::forget(before);
}

#[test]
fn source_and_target_are_killed_in_the_middle_and_return() {
    for victim in ["n1", "n3"] {
        let (lab, workload) = at_work(3, 2);
        lab.throttle(SLOW);
        let host = lab.mover();
        lab.change(&[lab.add("n3")]);
        lab.in_the_middle();
        lab.kill9(victim);
        lab.throttle(0);
        std::thread::sleep(Duration::from_millis(300));
        assert!(!lab.is_settled(), "without {victim} not all can be in its place");
        lab.restart(victim);
        host.wake();
        lab.settle();
        // What was written meanwhile is on stand-ins: whoever judges nodes says so.
        lab.came_back(host.token, victim, 1);
        let refilled = || {
            let workers = lab.volume.workers().unwrap();
            workers.get("move.filled").is_some_and(|text| text.contains(victim))
        };
        until(&lab, refilled);
        end(&lab, workload);
    }
}

#[track_caller]
fn until(lab: &Lab, done: impl Fn() -> bool) {
    let limit = std::time::Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(std::time::Instant::now() < limit, "{}", lab.story());
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_dead_target_that_is_out_is_not_waited_for() {
    let (lab, workload) = at_work(4, 2);
    lab.throttle(SLOW);
    let host = lab.mover();
    lab.change(&[lab.add("n4")]);
    lab.in_the_middle();
    lab.kill9("n4");
    lab.throttle(0);
    let ring = lab.ring();
    let proposal = propose(&ring, &[Change::Out(name("n4"))]).unwrap();
    commit(&lab.volume, &ring, &proposal, "keeper", Some(host.token)).unwrap();
    let record = MoveRecord::decode(&lab.volume.ring_state().unwrap().moving.unwrap());
    assert_eq!(record.what, ["add n4", "n4 is out"]);
    host.wake();
    until(&lab, || lab.volume.ring_state().unwrap().moving.is_none());
    assert!(lab.ring().names().contains(&name("n4")), "it may return");
    lab.restart("n4");
    host.wake();
    // What it took before it died is surplus now.
    lab.came_back(host.token, "n4", 1);
    until(&lab, || lab.held("n4") == 0);
    end(&lab, workload);
}

#[test]
fn a_node_that_comes_back_empty_is_filled_and_stand_ins_are_emptied() {
    let lab = Lab::new(4, 2, BLOCK);
    let shared = fill(&lab, 200, BLOCK * 2);
    let host = lab.mover();
    lab.kill9("n2");
    let session = lab.session();
    (0..50).for_each(|_| shared.write(&session, BLOCK));
    session.end().unwrap();
    lab.restart_empty("n2");
    let before = lab.held("n2");
    assert!(before < 60, "{before}");
    lab.came_back(host.token, "n2", 1);
    host.wake();
    until(&lab, || lab.volume.workers().unwrap().contains_key("move.filled"));
    lab.settle();
    shared.assert_all_there();
    lab.assert_sound();
}

#[test]
fn of_two_proposals_one_wins_and_during_a_move_nobody() {
    let lab = Lab::new(3, 2, BLOCK);
    fill(&lab, 50, BLOCK);
    let ring = lab.ring();
    let one = propose(&ring, &[lab.add("n3")]).unwrap();
    let other = propose(&ring, &[Change::Weight(name("n0"), 2)]).unwrap();
    let outcomes = std::thread::scope(|scope| {
        let both = [&one, &other]
            .map(|proposal| scope.spawn(|| commit(&lab.volume, &ring, proposal, "op", None)));
        both.map(|thread| thread.join().unwrap())
    });
    let won = outcomes.iter().filter(|outcome| matches!(outcome, Ok(Epoch(2)))).count();
    let told = outcomes.iter().filter(|outcome| {
        matches!(outcome, Err(MetaError::RingConflict { found: 2 } | MetaError::RingBusy(_)))
    });
    assert_eq!((won, told.count()), (1, 1), "{outcomes:?}");
    let now = lab.ring();
    let third = propose(&now, &[Change::Weight(name("n1"), 5)]).unwrap();
    let busy = commit(&lab.volume, &now, &third, "op", None);
    assert!(matches!(busy, Err(MetaError::RingBusy(_))), "{busy:?}");
    let _host = lab.mover();
    lab.settle();
    lab.assert_sound();
}

#[test]
fn bad_copies_are_not_moved_and_a_bad_new_copy_does_not_replace_an_old_one() {
    let lab = Lab::new(3, 2, BLOCK);
    let shared = fill(&lab, 100, BLOCK * 2);
    // One of two copies of every fifth block is damaged, in a place that no header shows.
    let placement = lab.ring().placement();
    let names = lab.ring().names();
    for (number, file) in shared.files.lock().iter().filter(|(number, _)| *number % 5 == 0) {
        let block = BlockId { slice: file.slice, index: 0 };
        let owners = placement.owners(block);
        lab.flip(names[owners[*number as usize % 2].0].as_str(), block);
    }
    // And the new node has copies already, all of them damaged.
    let ring = lab.ring();
    let proposal = propose(&ring, &[lab.add("n3")]).unwrap();
    commit(&lab.volume, &ring, &proposal, "op", None).unwrap();
    let now = lab.ring();
    let new = now.placement();
    let mut planted = 0;
    for file in shared.files.lock().values() {
        let block = BlockId { slice: file.slice, index: 1 };
        if new.owners(block).contains(&NodeIndex(3)) {
            let from = names[placement.owners(block)[0].0].as_str();
            lab.copy(block, from, "n3");
            lab.flip("n3", block);
            planted += 1;
        }
    }
    assert!(planted > 5);
    let _host = lab.mover();
    lab.settle();
    shared.assert_all_there();
    // Damage on nodes that keep what they had is the scrub's to find; what was copied is good.
    for file in shared.files.lock().values() {
        for index in 0..2 {
            let block = BlockId { slice: file.slice, index };
            if new.owners(block).contains(&NodeIndex(3)) {
                assert!(lab.is_good("n3", block, &file.bytes()[index as usize * 4096..][..4096]));
            }
        }
    }
}

#[test]
fn a_node_that_leaves_gives_what_nobody_else_has() {
    let lab = Lab::new(4, 1, BLOCK);
    let shared = fill(&lab, 100, BLOCK * 2);
    let host = lab.mover();
    // Written while an owner was away: on a stand-in only.
    lab.kill9("n0");
    let session = lab.session();
    (0..80).for_each(|_| shared.write(&session, BLOCK));
    session.end().unwrap();
    lab.restart("n0");
    lab.change(&[Change::Remove(name("n1"))]);
    lab.settle();
    lab.came_back(host.token, "n0", 1);
    host.wake();
    until(&lab, || lab.volume.workers().unwrap().contains_key("move.filled"));
    lab.settle();
    lab.servers.lock().remove("n1");
    shared.assert_all_there();
    lab.assert_sound();
}

#[test]
fn a_dead_node_leaves_once_its_losses_are_accepted() {
    let lab = Lab::new(3, 1, BLOCK);
    let shared = fill(&lab, 60, BLOCK);
    let host = lab.mover();
    lab.kill9("n1");
    lab.change(&[Change::Remove(name("n1"))]);
    let waits = || {
        let moving = lab.volume.ring_state().unwrap().moving;
        MoveRecord::decode(&moving.unwrap()).out_of_reach > 0
    };
    until(&lab, waits);
    ringfs_cluster::mover::abandon(&lab.volume, &["n1".to_owned()]).unwrap();
    host.wake();
    until(&lab, || lab.volume.ring_state().unwrap().moving.is_none());
    assert_eq!(lab.ring().names(), ["n0", "n2"].map(name));
    let lost = shared.files.lock().values().filter(|file| shared.check(file).is_err()).count();
    assert!((10..40).contains(&lost), "{lost}: a third was there alone");
}
