//! Servers and mounts that die while programs work.

mod mounted;

use mounted::{RINGFS, Volume, eventually, noise, succeed, text};
use ringfs_testkit::ServerOptions;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

#[test]
fn a_killed_node_fails_no_command_and_repair_makes_it_whole() {
    let mut volume = Volume::format(3, 2);
    let mount = volume.mount();
    let source = volume.dir.path().join("source");
    fs::create_dir(&source).unwrap();
    for i in 0..120u64 {
        let dir = source.join(format!("d{}", i % 8));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(format!("f{i}")), noise(i, (i * 13_331 % 400_000) as usize)).unwrap();
    }
    fs::write(source.join("large"), noise(7, 40 << 20)).unwrap();
    let copied = AtomicUsize::new(0);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let copier = scope.spawn(|| {
            for round in 0.. {
                let target = mount.path(&format!("copy{round}"));
                succeed(Command::new("cp").arg("-a").arg(&source).arg(&target));
                succeed(Command::new("diff").arg("-r").arg(&source).arg(&target));
                copied.fetch_add(1, Ordering::SeqCst);
                if stop.load(Ordering::SeqCst) {
                    break;
                }
            }
        });
        let rounds = |at_least: usize| {
            while copied.load(Ordering::SeqCst) < at_least && !copier.is_finished() {
                std::thread::yield_now();
            }
        };
        rounds(1);
        volume.nodes[1].kill9();
        let now = copied.load(Ordering::SeqCst);
        rounds(now + 2);
        stop.store(true, Ordering::SeqCst);
        copier.join().unwrap();
    });
    // With its data it lacks what was written meanwhile; say so, then make it whole.
    volume.nodes[1].restart();
    let out = volume.tool("fsck", &[]);
    assert!(!out.status.success() && text(&out).contains("missing"), "{}", text(&out));
    let out = volume.tool("repair", &[]);
    assert!(out.status.success(), "{}", text(&out));
    volume.assert_fsck_clean();
    // The same when it comes back empty.
    volume.nodes[2].kill9();
    volume.nodes[2].restart_empty();
    succeed(Command::new("diff").arg("-r").arg(&source).arg(mount.path("copy0")));
    let out = volume.tool("repair", &[]);
    assert!(out.status.success(), "{}", text(&out));
    volume.assert_fsck_clean();
    succeed(Command::new("diff").arg("-r").arg(&source).arg(mount.path("copy1")));
}

#[test]
fn git_tar_and_cargo_go_on_when_a_node_dies() {
    let mut volume = Volume::format(3, 2);
    let mount = volume.mount();
    let place = mount.place.to_str().unwrap();
    let make = format!(
        "set -eu; cd {place}; mkdir -p app/src; cd app; \
         printf '[package]\nname = \"app\"\nversion = \"0.1.0\"\nedition = \"2021\"\n' > Cargo.toml; \
         for i in $(seq 60); do echo \"pub fn f$i() -> u32 {{ $i }}\" > src/m$i.rs; done; \
         for i in $(seq 60); do echo \"mod m$i;\"; done > src/main.rs; \
         echo 'fn main() {{ println!(\"{{}}\", m60::f60()); }}' >> src/main.rs; \
         git init -q; git config user.email t@t; git config user.name t; git add -A; git commit -qm one"
    );
    succeed(Command::new("sh").arg("-c").arg(make));
    let work = format!(
        "set -eu; cd {place}; \
         for round in 1 2 3; do \
           git clone -q app clone; diff -r --exclude=.git app clone; \
           tar cf t.tar app; mkdir x; tar xf t.tar -C x; diff -r app x/app; \
           (cd clone && CARGO_TARGET_DIR=target cargo build --quiet --offline 2>/dev/null && \
            test \"$(target/debug/app)\" = 60); \
           rm -rf clone x t.tar; touch done$round; \
         done"
    );
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| succeed(Command::new("sh").arg("-c").arg(work)));
        eventually("the first round", || mount.path("done1").exists() || worker.is_finished());
        volume.nodes[0].kill9();
        worker.join().unwrap();
    });
    assert!(mount.path("done3").exists());
    volume.nodes[0].restart();
    drop(mount);
    let out = volume.tool("repair", &[]);
    assert!(out.status.success(), "{}", text(&out));
    // What was removed while the node was dead is back with it.
    let out = volume.tool("gc", &["--delete"]);
    assert!(out.status.success(), "{}", text(&out));
    volume.assert_fsck_clean();
}

#[test]
fn a_killed_mount_loses_nothing_that_was_synced() {
    let volume = Volume::format(3, 2);
    let mount = volume.mount();
    let synced = noise(1, 5 << 20);
    let mut file = File::create(mount.path("synced")).unwrap();
    file.write_all(&synced).unwrap();
    file.sync_all().unwrap();
    fs::write(mount.path("closed"), noise(2, 5 << 20)).unwrap();
    let mut open = OpenOptions::new().append(true).open(mount.path("synced")).unwrap();
    open.write_all(&noise(3, 20 << 20)).unwrap();
    mount.kill9();
    let mount = volume.mount();
    let found = fs::read(mount.path("synced")).unwrap();
    assert!(found.len() >= synced.len() && found[..synced.len()] == synced[..]);
    assert!(fs::read(mount.path("closed")).unwrap() == noise(2, 5 << 20));
    drop(mount);
    // The dead session's blocks that no file has are garbage, and nothing else is wrong.
    let out = volume.tool("fsck", &["--deep"]);
    assert!(out.status.success(), "{}", text(&out));
    let out = volume.tool("gc", &["--delete", "--dead-after", "0s"]);
    assert!(out.status.success(), "{}", text(&out));
    volume.assert_fsck_clean();
}

#[test]
fn sigterm_writes_back_what_is_buffered() {
    let volume = Volume::format(3, 2);
    let mount = volume.mount();
    let data = noise(9, 3 << 20);
    let mut file = File::create(mount.path("f")).unwrap();
    file.write_all(&data).unwrap();
    // The file stays open: neither close nor fsync has been called.
    let leaked = std::mem::ManuallyDrop::new(file);
    let status = mount.terminate();
    assert!(status.success(), "{status}");
    drop(std::mem::ManuallyDrop::into_inner(leaked));
    let mount = volume.mount();
    assert!(fs::read(mount.path("f")).unwrap() == data);
    drop(mount);
    volume.assert_fsck_clean();
}

/// Closing tells of full servers too, but `fs::write` does not look.
fn write_synced(path: &std::path::Path, data: &[u8]) -> std::io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(data)?;
    file.sync_all()
}

#[test]
fn full_nodes_give_enospc_and_deleting_makes_room() {
    let options = ServerOptions { maxmemory: Some(24 << 20), ..ServerOptions::default() };
    let volume = Volume::format_with(options, 2, 1, &["--codec", "none"]);
    let mount = volume.mount();
    let mut written = Vec::new();
    let error = loop {
        let path = mount.path(&format!("f{}", written.len()));
        match write_synced(&path, &noise(written.len() as u64, 4 << 20)) {
            Ok(()) => written.push(path),
            Err(error) => {
                fs::remove_file(path).unwrap();
                break error;
            }
        }
        assert!(written.len() < 100, "never full");
    };
    assert_eq!(error.raw_os_error(), Some(libc::ENOSPC), "{error}");
    for (seed, path) in written.iter().enumerate() {
        assert!(fs::read(path).unwrap() == noise(seed as u64, 4 << 20));
    }
    for path in &written[..3] {
        fs::remove_file(path).unwrap();
    }
    eventually("room after deleting", || {
        write_synced(&mount.path("again"), &noise(99, 4 << 20)).is_ok()
    });
    assert!(fs::read(mount.path("again")).unwrap() == noise(99, 4 << 20));
}

#[test]
fn the_mount_process_stays_within_its_memory_limit() {
    let volume = Volume::format(3, 1);
    let mount = volume.mount_with(&["--write-buffer", "32MiB", "--block-cache", "32MiB"]);
    let before = mount.resident_bytes();
    let mut file = File::create(mount.path("large")).unwrap();
    let piece = vec![b'x'; 1 << 20];
    let mut most = 0;
    for _ in 0..600 {
        file.write_all(&piece).unwrap();
        most = most.max(mount.resident_bytes());
    }
    file.sync_all().unwrap();
    let read = fs::read(mount.path("large")).unwrap();
    assert_eq!(read.len(), 600 << 20);
    most = most.max(mount.resident_bytes());
    // Buffers, cache, request buffers of the worker threads, and what the allocator keeps.
    assert!(most < before + (192 << 20), "{} MiB over {} MiB", most >> 20, before >> 20);
}

#[test]
fn a_stopped_metadata_server_is_an_error_that_names_it_and_not_a_hang() {
    let mut volume = Volume::format(1, 1);
    let mount = volume.mount();
    fs::write(mount.path("f"), "x").unwrap();
    volume.meta.kill9();
    let begin = std::time::Instant::now();
    let error = fs::write(mount.path("g"), "x").unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EIO));
    assert!(begin.elapsed() < std::time::Duration::from_secs(30));
    let (address, port) = volume.meta.address();
    assert!(mount.log().contains(&format!("{address}:{port}")), "{}", mount.log());
    // With its data back everything goes on, without a remount.
    volume.meta.restart();
    eventually("work goes on", || fs::write(mount.path("h"), "y").is_ok());
    assert_eq!(fs::read(mount.path("h")).unwrap(), b"y");
}

#[test]
fn quickstart_binary_explains_itself() {
    let out = Command::new(RINGFS).arg("--help").output().unwrap();
    assert!(out.status.success());
    for word in ["format", "mount", "status", "fsck", "repair"] {
        assert!(text(&out).contains(word), "--help does not mention {word}");
    }
}
