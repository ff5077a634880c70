//! Fills a volume with empty files through the real API and prints what they cost: time, server
//! time per script run, bytes of memory per file.
//!
//! `cargo run --release -p ringfs-meta --example fill -- [files] [directories] [threads]`

use ringfs_base::{InodeId, Timestamp, VolumeName, VolumeUuid};
use ringfs_link::Timeouts;
use ringfs_meta::{
    Codec, Durability, FileKind, NewInode, SessionInfo, Victim, Volume, VolumeConfig,
};
use ringfs_testkit::{RedisServer, ServerOptions};
use std::time::Instant;

const ROOT: InodeId = InodeId::ROOT;

fn config() -> VolumeConfig {
    VolumeConfig {
        name: VolumeName::new("fill").expect("a valid name"),
        uuid: VolumeUuid([1; 16]),
        created: 0,
        replicas: 1,
        block_bytes: ringfs_base::limits::BLOCK_BYTES,
        codec: Codec::None,
        segment_bytes: 32_768,
        inline_max: 8192,
        durability: Durability::Memory,
        inodes_max: 0,
        bytes_max: 0,
        nodes: Vec::new(),
    }
}

fn inode(kind: FileKind) -> NewInode<'static> {
    NewInode { kind, perm: 0o644, umask: 0, uid: 1000, gid: 1000, rdev: 0, target: b"" }
}

fn report(server: &RedisServer, what: &str, count: usize, begun: Instant) {
    let seconds = begun.elapsed().as_secs_f64();
    let stats = server.info("commandstats");
    let script = stats.get("cmdstat_evalsha").map_or("", String::as_str);
    println!("{what}: {count} in {seconds:.1} s, {:.0}/s; {script}", count as f64 / seconds);
    server.reset_stats();
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1).map(|text| text.parse::<usize>());
    let mut next = |default| args.next().unwrap_or(Ok(default));
    let (files, dirs, threads) = (next(1_000_000)?, next(1_000)?, next(4)?);
    let options = ServerOptions { unix_socket: true, ..ServerOptions::default() };
    let server = RedisServer::start(options);
    let now = Timestamp(1_700_000_000_123_456_789);
    let timeouts = Timeouts::default();
    let volume = Volume::format(&server.endpoint(), timeouts, &config(), 0, 0, now)?;
    let session = volume.start_session(&SessionInfo::default())?;
    let before = server.used_memory();
    let mut parents = Vec::new();
    for i in 0..dirs {
        let name = format!("directory-{i:06}");
        parents.push(session.create(ROOT, name.as_bytes(), &inode(FileKind::Directory), now)?.attr);
    }
    let each = files / dirs;
    let name = |i: usize| format!("file-{i:011}");

    let phase = |what: &str, op: &(dyn Fn(InodeId, &[u8]) + Sync)| {
        server.reset_stats();
        let begun = Instant::now();
        std::thread::scope(|scope| {
            for thread in 0..threads {
                let parents = &parents;
                scope.spawn(move || {
                    for parent in parents.iter().skip(thread).step_by(threads) {
                        for i in 0..each {
                            op(parent.ino, name(i).as_bytes());
                        }
                    }
                });
            }
        });
        report(&server, what, each * dirs, begun);
    };
    phase("create", &|parent, name| {
        session.create(parent, name, &inode(FileKind::File), now).expect("create");
    });
    let used = server.used_memory() - before;
    println!("memory: {used} bytes, {:.1} a file", used as f64 / (each * dirs) as f64);
    phase("lookup", &|parent, name| {
        session.lookup(parent, name).expect("lookup");
    });
    phase("open", &|parent, name| {
        session.open(InodeId(parent.0 + name.len() as u64), None).expect("open");
    });
    let begun = Instant::now();
    let mut names = 0;
    for parent in &parents {
        let mut after = Some(0);
        while let Some(cookie) = after {
            let page = session.readdir(parent.ino, cookie, 512, true)?;
            names += page.items.len();
            after = page.next;
        }
    }
    report(&server, "readdir, names with attributes", names, begun);
    phase("unlink", &|parent, name| {
        session.unlink(parent, name, Victim::Unknown, now).expect("unlink");
    });
    session.end()?;
    Ok(())
}
