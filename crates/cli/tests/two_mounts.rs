//! Two mounts of one volume, as two machines see it.

mod mounted;

use mounted::{Volume, eventually, noise};
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;

#[test]
fn what_one_closes_the_other_reads_at_its_next_open() {
    let volume = Volume::format(3, 2);
    let (a, b) = (volume.mount(), volume.mount());
    fs::write(a.path("f"), "0").unwrap();
    for round in 0..300u64 {
        // Inline, one block, several blocks; shrinking and growing.
        let size = [10, 9_000, 100_000, 2_500_000][(round % 4) as usize];
        let data = noise(round, size);
        let (writer, reader) = if round % 2 == 0 { (&a, &b) } else { (&b, &a) };
        fs::write(writer.path("f"), &data).unwrap();
        assert!(fs::read(reader.path("f")).unwrap() == data, "round {round}");
    }
}

#[test]
fn names_and_attributes_are_pushed() {
    let volume = Volume::format(1, 1);
    let (a, b) = (volume.mount_with(&["--ttl", "60s"]), volume.mount_with(&["--ttl", "60s"]));
    // Let each learn of the other: the first heartbeat tells.
    assert!(!b.path("new").exists());
    fs::write(a.path("new"), "x").unwrap();
    eventually("a name that was missing appears", || b.path("new").exists());
    let before = fs::metadata(b.path("new")).unwrap();
    assert_eq!(before.len(), 1);
    fs::write(a.path("new"), "longer").unwrap();
    eventually("the new size is seen", || fs::metadata(b.path("new")).unwrap().len() == 6);
    fs::rename(a.path("new"), a.path("moved")).unwrap();
    eventually("the old name goes", || !b.path("new").exists());
    eventually("the new name comes", || b.path("moved").exists());
    fs::remove_file(a.path("moved")).unwrap();
    eventually("a removed name goes", || !b.path("moved").exists());
}

#[test]
fn a_file_unlinked_elsewhere_lives_until_it_is_closed_here() {
    let volume = Volume::format(3, 2);
    let (a, b) = (volume.mount(), volume.mount());
    let data = noise(4, 5 << 20);
    fs::write(a.path("f"), &data).unwrap();
    let mut open = File::open(b.path("f")).unwrap();
    fs::remove_file(a.path("f")).unwrap();
    // Long enough for the heartbeats of both to acknowledge the removal.
    let usage = || volume.tool("status", &["--json"]);
    let begin = std::time::Instant::now();
    while begin.elapsed() < std::time::Duration::from_secs(5) {
        usage();
    }
    let mut found = Vec::new();
    open.read_to_end(&mut found).unwrap();
    assert!(found == data);
    drop(open);
    eventually("the memory of the file comes free", || volume.block_keys() == 0);
    drop((a, b));
    volume.assert_fsck_clean();
}

#[test]
fn appends_of_two_mounts_lose_and_tear_nothing() {
    let volume = Volume::format(3, 2);
    let mounts = [volume.mount(), volume.mount()];
    File::create(mounts[0].path("log")).unwrap();
    const LINES: usize = 200;
    std::thread::scope(|scope| {
        for (who, mount) in mounts.iter().enumerate() {
            scope.spawn(move || {
                for line in 0..LINES {
                    // Each line by an open of its own, as a shell's >> does.
                    let text = format!("{who} {line:05} {}\n", "x".repeat(line % 90));
                    OpenOptions::new()
                        .append(true)
                        .open(mount.path("log"))
                        .unwrap()
                        .write_all(text.as_bytes())
                        .unwrap();
                }
            });
        }
    });
    for mount in &mounts {
        let text = fs::read_to_string(mount.path("log")).unwrap();
        for who in 0..2 {
            let own: Vec<usize> = text
                .lines()
                .map(|line| {
                    let mut words = line.split(' ');
                    let id: usize = words.next().unwrap().parse().unwrap();
                    let number: usize = words.next().unwrap().parse().unwrap();
                    assert_eq!(words.next().unwrap().len(), number % 90, "a torn line");
                    (id, number)
                })
                .filter(|(id, _)| *id == who)
                .map(|(_, number)| number)
                .collect();
            assert_eq!(own, (0..LINES).collect::<Vec<_>>(), "lines of mount {who}");
        }
    }
}

#[test]
fn exclusive_creation_has_one_winner() {
    let volume = Volume::format(1, 1);
    let mounts = [volume.mount(), volume.mount()];
    for round in 0..100 {
        let winners: usize = std::thread::scope(|scope| {
            let tries: Vec<_> = mounts
                .iter()
                .map(|mount| {
                    let path = mount.path(&format!("lock{round}"));
                    scope.spawn(move || usize::from(File::create_new(path).is_ok()))
                })
                .collect();
            tries.into_iter().map(|t| t.join().unwrap()).sum()
        });
        assert_eq!(winners, 1, "round {round}");
    }
    let ino = |m: &mounted::Mounted| fs::metadata(m.path("lock7")).unwrap().ino();
    assert_eq!(ino(&mounts[0]), ino(&mounts[1]));
}

#[test]
fn who_creates_what_the_other_has_just_created_truncates_it() {
    let volume = Volume::format(1, 1);
    let (a, b) = (volume.mount(), volume.mount());
    for round in 0..100 {
        let name = format!("f{round}");
        // The kernel remembers that there is no such name, and the push comes when it comes.
        assert!(!b.path(&name).exists());
        fs::write(a.path(&name), "a long text").unwrap();
        fs::write(b.path(&name), "short").unwrap();
        assert_eq!(fs::read(b.path(&name)).unwrap(), b"short", "round {round}");
    }
}
