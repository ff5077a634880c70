//! Volumes as tools see them, what other sessions hear, and the barrier behind fsync.
#![allow(clippy::unwrap_used, reason = "a test that fails shall panic")]

mod fixture;

use fixture::*;
use ringfs_base::{Epoch, Errno, InodeId, NodeName, VolumeName, VolumeUuid};
use ringfs_meta::*;
use ringfs_testkit::{AppendFsync, Proxy, RedisServer, ServerOptions};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

const ROOT: InodeId = InodeId::ROOT;
const SOON: Duration = Duration::from_secs(20);

#[test]
fn a_volume_is_made_once_found_listed_and_removed() {
    let f = Fixture::new();
    let endpoint = f.server.endpoint();
    let again = VolumeConfig { uuid: VolumeUuid([9; 16]), ..config("demo") };
    let error = Volume::format(&endpoint, PATIENT, &again, 0, 0, t(1)).err().unwrap();
    assert!(matches!(&error, MetaError::VolumeExists { .. }));
    let (address, port) = f.server.address();
    assert_eq!(
        error.to_string(),
        format!("volume \"demo\" exists on {address}:{port} already; nothing was changed")
    );
    let other = VolumeName::new("other").unwrap();
    let error = Volume::open(&endpoint, PATIENT, &other).err().unwrap();
    assert!(matches!(error, MetaError::NoSuchVolume { .. }), "{error}");
    assert_eq!(
        Volume::open(&endpoint, PATIENT, &f.volume.config().name).unwrap().config(),
        f.volume.config()
    );

    Volume::format(&endpoint, PATIENT, &config("other"), 5, 6, t(1)).unwrap();
    let names = Volume::list(&endpoint, PATIENT).unwrap();
    assert_eq!(names.iter().map(VolumeName::as_str).collect::<Vec<_>>(), ["demo", "other"]);
    let opened = Volume::open(&endpoint, PATIENT, &other).unwrap();
    let root = opened.getattr(ROOT).unwrap();
    assert_eq!((root.uid, root.gid, root.perm, root.nlink), (5, 6, 0o755, 2));
    let nodes = [NodeRecord { name: NodeName::new("n1").unwrap(), url: "redis://h:1".into() }];
    opened.set_ring(Epoch(0), b"\0table\xff", &nodes).unwrap();
    assert_eq!(opened.reload().unwrap().nodes, nodes);
    f.session.create(ROOT, b"kept", &file(), t(2)).unwrap();
    opened.destroy().unwrap();
    let error = Volume::open(&endpoint, PATIENT, &other).err().unwrap();
    assert!(matches!(error, MetaError::NoSuchVolume { .. }), "{error}");
    assert_eq!(f.session.lookup(ROOT, b"kept").unwrap().parent.entries, 1);
    let keys = f.server.command(&["KEYS", "*other*"]).into_array().unwrap();
    assert!(keys.is_empty(), "{keys:?}");

    f.server.command(&["HSET", "rfs:{demo/0}:v", "format", "99"]);
    let error = Volume::open(&endpoint, PATIENT, &f.volume.config().name).err().unwrap();
    assert!(matches!(error, MetaError::NewerFormat { found: 99, .. }), "{error}");
}

#[test]
fn sessions_are_listed_with_who_they_are() {
    let f = Fixture::new();
    let info = SessionInfo { host: "h".into(), pid: 7, place: "/mnt/a\nb".into() };
    let s = f.volume.start_session(&info).unwrap();
    s.heartbeat(&Beat { epoch: Epoch(3), ..Beat::default() }).unwrap();
    let records = f.volume.sessions().unwrap();
    let record = records.iter().find(|record| record.id == s.id()).unwrap();
    assert_eq!((&record.info, record.epoch), (&info, Epoch(3)));
    assert!(record.idle_seconds < 60);
    s.end().unwrap();
    assert_eq!(f.volume.sessions().unwrap().len(), 1);
    assert!(matches!(s.heartbeat(&Beat::default()), Err(MetaError::Fenced)));
}

fn next(heard: &Receiver<Event>) -> Event {
    heard.recv_timeout(SOON).unwrap()
}

#[test]
fn other_sessions_hear_of_changes_and_of_a_lost_connection() {
    let f = Fixture::new();
    let proxy = Proxy::start(f.server.address());
    let volume = f.volume_at(&proxy.url(), SOON, SOON);
    let listener = volume.start_session(&SessionInfo::default()).unwrap();
    let (tell, heard) = channel();
    let watch = listener.watch(Box::new(move |event| tell.send(event).unwrap())).unwrap();
    // Its own changes are not told.
    let own = listener.create(ROOT, b"own", &file(), t(1)).unwrap().attr.ino;
    let a = f.session.create(ROOT, b"}{", &file(), t(1)).unwrap().attr.ino;
    assert_eq!(next(&heard), Event::Attr(ROOT));
    assert_eq!(next(&heard), Event::Entry(ROOT, b"}{".to_vec()));
    f.session.setattr(own, &SetAttr::default(), t(2)).unwrap();
    assert_eq!(next(&heard), Event::Attr(own));
    f.session.unlink(ROOT, b"}{", Victim::Unknown, t(3)).unwrap();
    assert_eq!([next(&heard), next(&heard)], [Event::Attr(ROOT), Event::Attr(a)]);
    assert_eq!(next(&heard), Event::Entry(ROOT, b"}{".to_vec()));
    f.volume.set_ring(Epoch(0), b"x", &[]).unwrap();
    assert_eq!(next(&heard), Event::Ring(Epoch(1)));

    // Told when it is lost, and again when it is back.
    proxy.cut();
    assert_eq!([next(&heard), next(&heard)], [Event::Deaf, Event::Reset]);
    f.session.create(ROOT, b"b", &file(), t(4)).unwrap();
    assert_eq!(next(&heard), Event::Attr(ROOT));
    drop(watch);
    while heard.recv_timeout(SOON).is_ok() {}
}

fn with_durability(durability: Durability, options: ServerOptions) -> Fixture {
    Fixture::with(options, &VolumeConfig { durability, ..config("demo") })
}

#[test]
fn the_barrier_waits_for_what_the_volume_promises() {
    let f = with_durability(Durability::Memory, ServerOptions::default());
    f.server.reset_stats();
    f.session.barrier().unwrap();
    assert!(!f.server.commandstats().contains_key("incr"));

    let always =
        ServerOptions { appendfsync: Some(AppendFsync::Always), ..ServerOptions::default() };
    with_durability(Durability::Disk, always).session.barrier().unwrap();
    let error = with_durability(Durability::Disk, ServerOptions::default()).session.barrier();
    assert_eq!(posix(error.unwrap_err()), Errno::EIO);
}

#[test]
fn the_barrier_of_level_replica_needs_the_replica() {
    let f = with_durability(Durability::Replica(1), ServerOptions::default());
    let volume = f.volume_at(&f.server.url(), Duration::from_millis(200), SOON);
    assert_eq!(posix(volume.barrier().unwrap_err()), Errno::EIO);
    let (address, port) = f.server.address();
    let extra =
        vec![format!("replicaof {address} {port}"), "repl-diskless-load on-empty-db".into()];
    f.server.config_set("repl-diskless-sync-delay", "0");
    let _replica = RedisServer::start(ServerOptions { extra, ..ServerOptions::default() });
    let limit = std::time::Instant::now() + SOON;
    while f.server.info("replication")["connected_slaves"] != "1" || volume.barrier().is_err() {
        assert!(std::time::Instant::now() < limit, "the replica does not follow");
        std::thread::yield_now();
    }
}

#[test]
fn files_that_cannot_be_read_are_noted_until_they_can() {
    let f = Fixture::new();
    let a = f.session.create(ROOT, b"a", &file(), t(1)).unwrap().attr.ino;
    let b = f.session.create(ROOT, b"b", &file(), t(1)).unwrap().attr.ino;
    assert!(f.volume.note_lost(b, &"ü".repeat(1000)).unwrap());
    assert!(f.volume.note_lost(a, "block 1.0 is nowhere").unwrap());
    let lost = f.volume.lost().unwrap();
    assert_eq!(lost.iter().map(|lost| lost.ino).collect::<Vec<_>>(), [a, b]);
    assert_eq!(lost[0].why, "block 1.0 is nowhere");
    assert_eq!(lost[1].why, "ü".repeat(250), "cut, but no letter in two");
    // What fails once more after it was found again stays.
    loop {
        assert!(f.volume.note_lost(a, "again").unwrap());
        let now = &f.volume.lost().unwrap()[0];
        assert_eq!((now.first_ms, &*now.why), (lost[0].first_ms, "again"));
        if now.last_ms > lost[0].last_ms {
            break;
        }
    }
    assert!(!f.volume.clear_lost(&lost[0]).unwrap());
    assert!(f.volume.clear_lost(&lost[1]).unwrap());
    assert!(!f.volume.clear_lost(&lost[1]).unwrap());
    assert_eq!(f.volume.lost().unwrap().len(), 1);
    // A file that is gone is not noted, nor more of them than people read.
    f.session.unlink(ROOT, b"b", Victim::NotOpen(b), t(2)).unwrap();
    assert!(!f.volume.note_lost(b, "gone").unwrap());
    for i in 0..LOST_FILES_MAX {
        let name = format!("f{i}");
        let ino = f.session.create(ROOT, name.as_bytes(), &file(), t(3)).unwrap().attr.ino;
        assert_eq!(f.volume.note_lost(ino, "full").unwrap(), i + 1 < LOST_FILES_MAX);
    }
    assert_eq!(f.volume.lost().unwrap().len(), LOST_FILES_MAX as usize);
}
