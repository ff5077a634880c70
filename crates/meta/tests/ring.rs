//! The ring's state: who may change it, what is kept of tables before, and what commits are taken.
#![allow(clippy::unwrap_used, reason = "a test that fails shall panic")]

mod fixture;

use fixture::*;
use ringfs_base::{Epoch, Errno, InodeId, NodeName, SessionId};
use ringfs_meta::*;
use std::time::{Duration, Instant};

const ROOT: InodeId = InodeId::ROOT;
const LONG: Duration = Duration::from_secs(60);
const NO: Duration = Duration::ZERO;

fn change(expected: u64, table: &[u8]) -> RingChange<'_> {
    RingChange {
        expected: Epoch(expected),
        table,
        nodes: &[],
        replicas: None,
        moving: None,
        former_max: 0,
        token: None,
        while_moving: false,
    }
}

fn node(name: &str) -> NodeName {
    NodeName::new(name).unwrap()
}

#[test]
fn one_observer_coordinates_until_it_leaves_or_falls_silent() {
    let f = Fixture::new();
    let (a, b) = (f.session.id(), f.another_session());
    let see = |who: SessionId, lease, seen: &[u8]| f.volume.observe(who, lease, seen).unwrap();
    let first = see(b.id(), NO, b"b sees");
    assert_eq!((first.coordinator, first.reports.len()), (None, 0), "nobody wanted to");
    let mine = see(a, LONG, b"a sees");
    assert_eq!((mine.coordinator, mine.token), (Some(a), Token(1)));
    let mut seen: Vec<(SessionId, Vec<u8>)> =
        mine.reports.iter().map(|report| (report.observer, report.seen.to_vec())).collect();
    seen.sort();
    let mut all = vec![(a, b"a sees".to_vec()), (b.id(), b"b sees".to_vec())];
    all.sort();
    assert_eq!(seen, all);
    assert!(mine.reports.iter().all(|report| report.age < Duration::from_secs(30)));
    let theirs = see(b.id(), LONG, b"");
    assert_eq!((theirs.coordinator, theirs.token), (Some(a), Token(1)), "it is taken");
    assert!(theirs.reports.is_empty(), "only the coordinator needs them");
    assert_eq!(see(a, LONG, b"").token, Token(1), "renewed, not taken anew");

    // Given up by the others: another may at once, with a larger token.
    f.session.end().unwrap();
    assert!(matches!(f.volume.observe(a, LONG, b""), Err(MetaError::Fenced)));
    let theirs = see(b.id(), Duration::from_millis(1), b"");
    assert_eq!((theirs.coordinator, theirs.token), (Some(b.id()), Token(2)));
    assert_eq!(theirs.reports.len(), 1, "the report of who left went with it");

    // A lease that ran out; its holder may change things until somebody else holds it.
    let c = f.another_session();
    let begun = Instant::now();
    let next = loop {
        let next = see(c.id(), LONG, b"");
        if next.coordinator == Some(c.id()) {
            break next;
        }
        assert!(begun.elapsed() < LONG, "the lease never ends");
    };
    assert_eq!(next.token, Token(3));
    let old = f.volume.set_node_states(Token(2), 0, Some(b"overlay"), &[]);
    assert!(matches!(old, Err(MetaError::NotCoordinator)));
}

#[test]
fn verdicts_follow_each_other_and_are_told_to_all() {
    let f = Fixture::new();
    f.volume.set_ring(Epoch(0), b"table", &[]).unwrap();
    let token = f.volume.observe(f.session.id(), LONG, b"").unwrap().token;
    let (heard, events) = std::sync::mpsc::channel();
    let other = f.another_session();
    let _watch = other.watch(Box::new(move |event| heard.send(event).unwrap())).unwrap();
    let before = f.volume.ring_state().unwrap();
    assert_eq!((before.overlay_version, before.overlay.len()), (0, 0));

    let (a, b) = (node("a"), node("b"));
    let states = [(&a, Some("down")), (&b, Some("up"))];
    f.volume.set_node_states(token, 0, Some(b"a is down"), &states).unwrap();
    let event = events.recv_timeout(Duration::from_secs(20)).unwrap();
    assert!(matches!(event, Event::Ring(Epoch(1))), "{event:?}");
    let after = f.volume.ring_state().unwrap();
    assert_eq!((after.overlay_version, &after.overlay[..]), (1, &b"a is down"[..]));
    assert!(after.version > before.version);
    assert_eq!(f.volume.observe(other.id(), NO, b"").unwrap().version, after.version);
    // The same again, as after a lost reply, or by one who does not know of it.
    let again = f.volume.set_node_states(token, 0, Some(b"x"), &[]);
    assert!(matches!(again, Err(MetaError::RingConflict { found: 1 })));
    // Records alone change no overlay.
    f.volume.set_node_states(token, 1, None, &[(&a, None), (&b, Some("odd"))]).unwrap();
    assert_eq!(f.volume.ring_state().unwrap(), after);
    let states = f.volume.node_states().unwrap();
    assert_eq!(states.into_iter().collect::<Vec<_>>(), [("b".to_owned(), "odd".to_owned())]);
}

#[test]
fn one_move_at_a_time_and_readers_know_the_tables_before() {
    let f = Fixture::new();
    let nodes = [NodeRecord { name: node("a"), url: "redis://h:1".into() }];
    let v = &f.volume;
    v.change_ring(&RingChange { nodes: &nodes, ..change(0, b"one") }).unwrap();
    let token = v.observe(f.session.id(), LONG, b"").unwrap().token;
    let drain = RingChange {
        nodes: &nodes,
        moving: Some("drain a"),
        former_max: 2,
        replicas: Some(3),
        ..change(1, b"two")
    };
    assert!(matches!(v.note_move(token, Epoch(1), "x"), Err(MetaError::Posix(Errno::ENOENT))));
    assert_eq!(v.change_ring(&drain).unwrap(), Epoch(2));
    let state = v.ring_state().unwrap();
    assert_eq!((&state.table[..], state.replicas, &state.nodes[..]), (&b"two"[..], 3, &nodes[..]));
    assert_eq!(state.former, [&b"one"[..]]);
    assert_eq!(state.moving.as_deref(), Some("drain a"));

    // Another operator is told; the coordinator may go on over it, with a valid token.
    let second = change(2, b"three");
    match v.change_ring(&second).unwrap_err() {
        MetaError::RingBusy(what) => assert_eq!(what, "drain a"),
        other => panic!("{other}"),
    }
    let over = RingChange { former_max: 2, nodes: &nodes, while_moving: true, ..second };
    let wrong = v.change_ring(&RingChange { token: Some(Token(token.0 + 1)), ..over });
    assert!(matches!(wrong, Err(MetaError::NotCoordinator)));
    let over = RingChange { token: Some(token), ..over };
    assert_eq!(v.change_ring(&over).unwrap(), Epoch(3));
    assert_eq!(v.change_ring(&RingChange { expected: Epoch(3), ..over }).unwrap(), Epoch(4));
    let state = v.ring_state().unwrap();
    assert_eq!(state.former, [&b"three"[..], b"two"], "no more than asked for");

    assert!(matches!(v.note_move(Token(0), Epoch(4), ""), Err(MetaError::NotCoordinator)));
    let late = v.note_move(token, Epoch(3), "");
    assert!(matches!(late, Err(MetaError::RingConflict { found: 4 })));
    v.note_move(token, Epoch(4), "half").unwrap();
    assert_eq!(v.ring_state().unwrap().moving.as_deref(), Some("half"));
    v.raise_floor(token, Epoch(4)).unwrap();
    let others = [NodeRecord { name: node("b"), url: "redis://h:2".into() }];
    v.end_move(token, Epoch(4), Some(&others)).unwrap();
    let state = v.ring_state().unwrap();
    assert_eq!((state.moving, state.former.len(), &state.nodes[..]), (None, 0, &others[..]));
    assert_eq!(state.floor, Epoch(4));
}

#[test]
fn blocks_written_under_an_epoch_below_the_floor_are_not_committed() {
    let f = Fixture::new();
    let ino = f.session.create(ROOT, b"a", &file(), t(1)).unwrap().attr.ino;
    f.volume.set_ring(Epoch(0), b"one", &[]).unwrap();
    let moving = RingChange { moving: Some("x"), former_max: 1, ..change(1, b"two") };
    f.volume.change_ring(&moving).unwrap();
    let extents = [extent(0, 10, 3)];
    let chunks: &[(u64, &[ExtentRecord])] = &[(0, &extents)];
    let written_under = |epoch| CommitRequest {
        epoch: Epoch(epoch),
        ..request(CommitData::Extents(chunks), epoch as i64 + 2)
    };
    // While the new table is being filled, whoever began under the one before may finish.
    done(f.session.commit(ino, &written_under(1)).unwrap());
    let token = f.volume.observe(f.session.id(), LONG, b"").unwrap().token;
    f.volume.raise_floor(token, Epoch(2)).unwrap();
    let late = f.session.commit(ino, &written_under(1)).unwrap();
    assert_eq!(late, Commit::StaleEpoch(Epoch(2)));
    done(f.session.commit(ino, &written_under(2)).unwrap());
}

#[test]
fn workers_have_records_and_wishes() {
    let f = Fixture::new();
    f.volume.set_worker("move", Some("busy")).unwrap();
    f.volume.set_worker("move.want", Some("pause")).unwrap();
    let all: Vec<_> = f.volume.workers().unwrap().into_iter().collect();
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(all, [pair("move", "busy"), pair("move.want", "pause")]);
    f.volume.set_worker("move", None).unwrap();
    assert_eq!(f.volume.workers().unwrap().len(), 1);
}
