//! Mutations take effect exactly once, and never for a session that was given up.

#![allow(clippy::unwrap_used, reason = "a test that fails shall panic")]

mod fixture;

use fixture::*;
use ringfs_base::{Errno, InodeId};
use ringfs_meta::*;
use ringfs_testkit::{Direction, Proxy};
use std::time::Duration;

const ROOT: InodeId = InodeId::ROOT;

/// Waits until the server has run one more script than `before`.
fn until_run(f: &Fixture, before: u64) {
    let limit = std::time::Instant::now() + Duration::from_secs(20);
    while f.server.commandstats().get("evalsha").copied().unwrap_or(0) <= before {
        assert!(std::time::Instant::now() < limit, "the script did not run");
        std::thread::yield_now();
    }
}

#[test]
fn a_reply_that_was_lost_is_given_again() {
    let f = Fixture::new();
    let proxy = Proxy::start(f.server.address());
    let patience = Duration::from_secs(20);
    let volume = f.volume_at(&proxy.url(), Duration::from_secs(20), patience);
    let s = volume.start_session(&SessionInfo::default()).unwrap();
    // All scripts and a lane are there.
    let warm = s.create(ROOT, b"warm", &file(), t(1)).unwrap().attr.ino;
    let append = |data: &'static [u8]| s.commit(warm, &request(CommitData::AppendInline(data), 2));
    append(b"0").unwrap();
    s.unlink(ROOT, b"none", Victim::Unknown, t(1)).unwrap_err();

    let cut = |op: &(dyn Fn() + Sync)| {
        let before = f.server.commandstats()["evalsha"];
        proxy.block(Direction::ToClient);
        std::thread::scope(|scope| {
            let running = scope.spawn(op);
            until_run(&f, before);
            proxy.cut();
            proxy.restore();
            running.join().unwrap();
        });
        assert!(f.server.commandstats()["evalsha"] >= before + 2, "it was not sent again");
    };
    cut(&|| assert!(s.create(ROOT, b"a", &file(), t(3)).unwrap().created));
    cut(&|| assert_eq!(done(append(b"x").unwrap()).placed_at, 1));
    cut(&|| {
        let gone = s.unlink(ROOT, b"a", Victim::Unknown, t(4)).unwrap();
        assert_eq!(gone.removed.fate, Fate::Orphaned);
    });
    cut(&|| {
        let moved =
            s.rename(ROOT, b"warm", ROOT, b"cold", RenameMode::NoReplace, Victim::Unknown, t(5));
        assert_eq!(moved.unwrap().attr.ino, warm);
    });
    // Locks: a wait takes one place, and the reply that tells of a grant is given again.
    let ask = |owner, wait: Option<u64>| LockAsk {
        kind: LockKind::Posix,
        owner: LockOwner(owner),
        range: LockRange::WHOLE,
        exclusive: true,
        pid: 1,
        wait: wait.map(LockTicket),
    };
    let unlock = |owner| s.unlock(warm, LockKind::Posix, LockOwner(owner), LockRange::WHOLE);
    s.lock(warm, &ask(1, None)).unwrap();
    unlock(1).unwrap();
    cut(&|| assert!(matches!(s.lock(warm, &ask(1, None)).unwrap().state, LockState::Granted(_))));
    cut(&|| assert_eq!(s.lock(warm, &ask(2, Some(7))).unwrap().state, LockState::Waiting));
    cut(&|| {
        let grants = unlock(1).unwrap().grants;
        assert_eq!(grants.iter().map(|grant| grant.ticket).collect::<Vec<_>>(), [LockTicket(7)]);
    });
    assert!(unlock(2).unwrap().grants.is_empty());
    assert_eq!(s.open(warm, None).unwrap().attr.size, 2);
    assert_eq!(s.lookup(ROOT, b"cold").unwrap().parent.entries, 1);
}

#[test]
fn a_commit_of_unknown_outcome_is_repeated_as_the_same_one() {
    let f = Fixture::new();
    let proxy = Proxy::start(f.server.address());
    let short = Duration::from_millis(200);
    let volume = f.volume_at(&proxy.url(), short, short);
    let s = volume.start_session(&SessionInfo::default()).unwrap();
    let ino = s.create(ROOT, b"a", &file(), t(1)).unwrap().attr.ino;
    let x = request(CommitData::AppendInline(b"x"), 2);
    done(s.commit(ino, &x).unwrap());

    // It took effect, but nobody hears of it for longer than anybody repeats.
    proxy.block(Direction::ToClient);
    let failed = s.commit_surely(ino, &x).unwrap_err();
    let failed = s.commit_again(failed.undecided.unwrap()).unwrap_err();
    assert!(matches!(failed.error, MetaError::Unavailable(_)), "{}", failed.error);
    proxy.cut();
    proxy.restore();
    let c = s.commit_again(failed.undecided.unwrap()).unwrap();
    assert_eq!(done(c).placed_at, 1);
    assert_eq!(s.getattr(ino).unwrap().size, 2, "the append is there once");

    // It did not arrive, and then cannot take effect: it was refused, and a copy that is late
    // finds the lane sealed.
    proxy.block(Direction::ToServer);
    let failed = s.commit_surely(ino, &x).unwrap_err();
    proxy.cut();
    proxy.restore();
    f.session.unlink(ROOT, b"a", Victim::Unknown, t(3)).unwrap();
    for _ in 0..3 {
        f.session.heartbeat(&Beat::default()).unwrap();
        s.heartbeat(&Beat::default()).unwrap();
    }
    f.session.purge(ino).unwrap();
    let failed = s.commit_again(failed.undecided.unwrap()).unwrap_err();
    assert!(failed.error.is(Errno::ESTALE) && failed.undecided.is_none(), "{}", failed.error);
    // Its lane is in use again.
    assert!(s.create(ROOT, b"b", &file(), t(4)).unwrap().created);
}

#[test]
fn a_copy_that_is_late_does_nothing_after_its_sender_was_told_of_an_error() {
    let f = Fixture::new();
    let proxy = Proxy::start(f.server.address());
    let volume = f.volume_at(&proxy.url(), Duration::from_millis(300), Duration::from_secs(20));
    let s = volume.start_session(&SessionInfo::default()).unwrap();
    s.create(ROOT, b"a", &file(), t(1)).unwrap();
    s.unlink(ROOT, b"none", Victim::Unknown, t(1)).unwrap_err();
    // The request is stuck in a frozen server; it is sent again, and both arrive when it thaws.
    // Whatever their order, the name is removed once and the answer is "removed".
    f.server.stop();
    std::thread::scope(|scope| {
        let running = scope.spawn(|| s.unlink(ROOT, b"a", Victim::Unknown, t(2)));
        let connections = proxy.connections();
        let limit = std::time::Instant::now() + Duration::from_secs(20);
        while proxy.connections() == connections {
            assert!(std::time::Instant::now() < limit, "it was not sent again");
            std::thread::yield_now();
        }
        f.server.cont();
        running.join().unwrap().unwrap();
    });
    assert!(s.create(ROOT, b"a", &file(), t(3)).unwrap().created);
    assert_eq!(s.lookup(ROOT, b"a").unwrap().parent.entries, 1);
}

/// Scripts as the sessions send them, for copies that arrive when a test wants them to.
const COMMIT: &str = concat!(
    include_str!("../scripts/begin.lua"),
    include_str!("../scripts/inode.lua"),
    include_str!("../scripts/size.lua"),
    include_str!("../scripts/quota.lua"),
    include_str!("../scripts/set_id.lua"),
    include_str!("../scripts/commit.lua"),
);
const SEAL: &str =
    concat!(include_str!("../scripts/begin.lua"), include_str!("../scripts/seal.lua"));

/// The number of what a session's first lane did last.
fn last_in_lane(f: &Fixture, s: &Session) -> u64 {
    let field = [b"l", &s.id().to_bytes()[..], &[0, 0]].concat();
    let cmd = ringfs_link::Cmd::new("HGET").arg("rfs:{demo/0}:c").arg(field);
    let value = f.server.conn().call(&cmd).unwrap().into_some_bytes().unwrap();
    u64::from_be_bytes(value[..8].try_into().unwrap())
}

/// A copy of a request of the first lane arrives; the first byte of the reply.
fn arrives(f: &Fixture, s: &Session, script: &str, seq: u64, after: u64, args: &[&[u8]]) -> u8 {
    let header =
        [&s.id().to_bytes()[..], &[0, 0], &seq.to_be_bytes(), &after.to_be_bytes()].concat();
    let cmd = ringfs_link::Cmd::new("EVAL").arg(script).int(1).arg("rfs:{demo/0}:c").arg(header);
    f.server.conn().call(&cmd.args(args)).unwrap().into_some_bytes().unwrap()[0]
}

#[test]
fn a_refusal_is_undecided_until_the_lane_is_sealed() {
    let f = Fixture::new();
    let proxy = Proxy::start(f.server.address());
    let volume = f.volume_at(&proxy.url(), Duration::from_millis(300), Duration::from_secs(20));
    let s = volume.start_session(&SessionInfo::default()).unwrap();
    let ino = s.create(ROOT, b"a", &file(), t(1)).unwrap().attr.ino;
    let x = request(CommitData::AppendInline(b"x"), 2);
    done(s.commit(ino, &x).unwrap());
    let head = [&ino.to_bytes()[..], &[2, 0], &[0; 8], &2u64.to_be_bytes(), &8192u32.to_be_bytes()];
    let append = [&head.concat()[..], b"x"];
    let size = || s.getattr(ino).unwrap().size;
    let seal_may_be_set = |yes: bool| {
        f.server.command(&["ACL", "SETUSER", "default", if yes { "+hset" } else { "-hset" }]);
    };
    // Copies of the append are refused, for there is no room; then the lane cannot be sealed.
    let refused = || {
        f.volume.set_limits(0, size()).unwrap();
        seal_may_be_set(false);
        f.server.stop();
        let failed = std::thread::scope(|scope| {
            let running = scope.spawn(|| s.commit_surely(ino, &x).unwrap_err());
            let connections = proxy.connections();
            let limit = std::time::Instant::now() + Duration::from_secs(20);
            while proxy.connections() == connections {
                assert!(std::time::Instant::now() < limit, "it was not sent again");
                std::thread::yield_now();
            }
            f.server.cont();
            running.join().unwrap()
        });
        assert!(matches!(failed.error, MetaError::Unavailable(_)), "{}", failed.error);
        // Nor later, until it can.
        let failed = s.commit_again(failed.undecided.unwrap()).unwrap_err();
        seal_may_be_set(true);
        f.volume.set_limits(0, 0).unwrap();
        failed.undecided.unwrap()
    };

    // There is room now, and the first copy arrives after all.
    let undecided = refused();
    let last = last_in_lane(&f, &s);
    assert_eq!(arrives(&f, &s, COMMIT, last + 1, last, &append), 0);
    assert_eq!(done(s.commit_again(undecided).unwrap()).placed_at, 1);
    assert_eq!(size(), 2, "the append is there once");

    // Nothing arrives: the same request takes effect now.
    let undecided = refused();
    assert_eq!(done(s.commit_again(undecided).unwrap()).placed_at, 2);
    assert_eq!(size(), 3);

    // The seal was set, and only its reply was lost: it stays refused, and no copy does anything.
    let undecided = refused();
    let last = last_in_lane(&f, &s);
    assert_eq!(arrives(&f, &s, SEAL, last + 2, last, &[]), 0);
    let failed = s.commit_again(undecided).unwrap_err();
    assert!(failed.error.is(Errno::ENOSPC) && failed.undecided.is_none(), "{}", failed.error);
    assert_eq!(arrives(&f, &s, COMMIT, last + 1, last, &append), 251);
    assert_eq!(size(), 3);
    assert_eq!(done(s.commit(ino, &x).unwrap()).placed_at, 3);
    assert_eq!(last_in_lane(&f, &s), last + 3, "the lane is in use again");

    // The first copy overtakes the seal: then it is done, not refused.
    f.volume.set_limits(0, size()).unwrap();
    let last = last_in_lane(&f, &s);
    assert_eq!(arrives(&f, &s, COMMIT, last + 1, last, &append), 28);
    f.volume.set_limits(0, 0).unwrap();
    assert_eq!(arrives(&f, &s, COMMIT, last + 1, last, &append), 0);
    assert_eq!(arrives(&f, &s, SEAL, last + 2, last, &[]), 251);
    assert_eq!(arrives(&f, &s, COMMIT, last + 1, last, &append), 0);
    assert_eq!(size(), 5);
}

#[test]
fn a_session_that_was_given_up_can_change_nothing() {
    let f = Fixture::new();
    let s = f.another_session();
    let a = s.create(ROOT, b"a", &file(), t(1)).unwrap().attr.ino;
    s.unlink(ROOT, b"a", Victim::Open(a), t(2)).unwrap();
    let b = s.create(ROOT, b"b", &file(), t(1)).unwrap().attr.ino;
    s.setxattr(b, b"user.x", b"", XattrMode::Either, t(2)).unwrap();
    assert!(f.volume.reap(Duration::from_secs(3600)).unwrap().is_empty());
    assert_eq!(f.volume.sessions().unwrap().len(), 2);
    // Its last heartbeat is made old: a lease cannot be waited for.
    let key = "rfs:{demo/0}:b";
    let id = s.id().to_bytes();
    f.server.conn().call(&ringfs_link::Cmd::new("ZADD").arg(key).int(5).arg(id)).unwrap();
    assert_eq!(f.volume.reap(Duration::from_secs(3600)).unwrap(), [s.id()]);
    assert_eq!(f.volume.sessions().unwrap().len(), 1);

    let before = f.session.usage().unwrap();
    let u = Victim::Unknown;
    let plain = RenameMode::Replace;
    let records = [extent(0, 1, 1)];
    let results: Vec<(&str, Result<(), MetaError>)> = vec![
        ("create", s.create(ROOT, b"c", &file(), t(9)).map(drop)),
        ("link", s.link(b, ROOT, b"c", t(9)).map(drop)),
        ("unlink", s.unlink(ROOT, b"b", u, t(9)).map(drop)),
        ("rmdir", s.rmdir(ROOT, b"b", u, t(9)).map(drop)),
        ("rename", s.rename(ROOT, b"b", ROOT, b"c", plain, u, t(9)).map(drop)),
        ("setattr", s.setattr(b, &SetAttr::default(), t(9)).map(drop)),
        ("commit", s.commit(b, &request(CommitData::AppendInline(b"x"), 9)).map(drop)),
        ("compact", s.compact(b, 0, &records, &[], ringfs_base::Epoch(0)).map(drop)),
        ("setxattr", s.setxattr(b, b"user.y", b"", XattrMode::Either, t(9)).map(drop)),
        ("removexattr", s.removexattr(b, b"user.x", t(9)).map(drop)),
        ("purge", s.purge(a).map(drop)),
        ("release_hold", s.release_hold(a).map(drop)),
        ("heartbeat", s.heartbeat(&Beat::default()).map(drop)),
    ];
    for (name, result) in results {
        assert!(matches!(result, Err(MetaError::Fenced)), "{name}: {result:?}");
    }
    assert_eq!(f.session.usage().unwrap(), before);
    assert_eq!(f.session.lookup(ROOT, b"b").unwrap().attr.nlink, 1);
    // Its hold went with it.
    f.session.heartbeat(&Beat::default()).unwrap();
    f.session.heartbeat(&Beat::default()).unwrap();
    assert_eq!(f.session.purgeable(9).unwrap(), [a]);
}

#[test]
fn a_server_that_came_back_with_older_data_is_found_out() {
    let mut f = Fixture::new();
    f.session.create(ROOT, b"a", &file(), t(1)).unwrap();
    f.session.heartbeat(&Beat::default()).unwrap();
    f.server.command(&["SAVE"]);
    f.session.create(ROOT, b"b", &file(), t(2)).unwrap();
    f.session.heartbeat(&Beat::default()).unwrap();
    f.server.restart();
    let lost = f.session.create(ROOT, b"c", &file(), t(3));
    assert!(matches!(lost, Err(MetaError::Lost(_))), "{lost:?}");
    assert_eq!(lost.unwrap_err().errno(), Errno::EIO);
    let beat = f.session.heartbeat(&Beat::default());
    assert!(matches!(beat, Err(MetaError::Lost(_))), "{beat:?}");

    // Empty: the session is unknown there.
    f.server.restart_empty();
    let gone = f.session.create(ROOT, b"c", &file(), t(3));
    assert!(matches!(gone, Err(MetaError::Fenced)), "{gone:?}");
}

#[test]
fn orphans_live_until_every_session_has_closed_them() {
    let f = Fixture::new();
    let (s, other) = (&f.session, f.another_session());
    let a = s.create(ROOT, b"a", &file(), t(1)).unwrap().attr.ino;
    let records = [extent(0, 100, 5)];
    done(s.commit(a, &request(CommitData::Extents(&[(0, &records)]), 2)).unwrap());
    // With two sessions the word of one is not enough.
    let gone = s.unlink(ROOT, b"a", Victim::NotOpen(a), t(3)).unwrap();
    assert_eq!(gone.removed.fate, Fate::Orphaned);
    assert_eq!(s.purge(a).unwrap(), Purge::Held);
    let pulse = other.heartbeat(&Beat::default()).unwrap();
    assert_eq!((pulse.orphans, pulse.sessions), (vec![a], 2));
    let pulse = other.heartbeat(&Beat { holds: &[a], ..Beat::default() }).unwrap();
    assert!(pulse.orphans.is_empty());
    assert_eq!(s.heartbeat(&Beat::default()).unwrap().orphans, [a]);
    s.heartbeat(&Beat::default()).unwrap();
    assert_eq!(s.purgeable(9).unwrap(), []);
    assert_eq!(s.purge(a).unwrap(), Purge::Held);
    assert!(other.open(a, None).is_ok());
    assert_eq!(posix(s.open(a, None).unwrap_err()), Errno::ESTALE);
    assert!(other.release_hold(a).unwrap());
    assert_eq!(s.purgeable(9).unwrap(), [a]);
    assert_eq!(s.purge(a).unwrap(), Purge::Done(records.to_vec()));
    assert_eq!(s.usage().unwrap().inodes, 1);
}
