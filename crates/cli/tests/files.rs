//! Files and directories through the real mount, as a program sees them.

mod mounted;

use mounted::{RINGFS, Volume, noise, succeed};
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::process::Command;

#[test]
fn files_are_made_read_changed_and_removed() {
    let volume = Volume::format(3, 2);
    let mount = volume.mount();
    let file = mount.path("a.txt");
    fs::write(&file, "hello").unwrap();
    assert_eq!(fs::read(&file).unwrap(), b"hello");
    OpenOptions::new().append(true).open(&file).unwrap().write_all(b" world").unwrap();
    assert_eq!(fs::read(&file).unwrap(), b"hello world");
    OpenOptions::new().write(true).open(&file).unwrap().write_all_at(b"J", 0).unwrap();
    assert_eq!(fs::read(&file).unwrap(), b"Jello world");
    fs::remove_file(&file).unwrap();
    assert_eq!(fs::read(&file).unwrap_err().kind(), ErrorKind::NotFound);
    drop(mount);
    volume.assert_fsck_clean();
}

#[test]
fn large_files_survive_a_remount() {
    let volume = Volume::format(3, 2);
    // Around the borders of inline data, segments, blocks and chunks.
    let sizes = [0, 1, 8191, 8192, 8193, 32 << 10, 255 * 4096, 255 * 4096 + 1, 3 << 20, 65 << 20];
    {
        let mount = volume.mount();
        for (seed, size) in sizes.iter().enumerate() {
            fs::write(mount.path(&format!("f{size}")), noise(seed as u64, *size)).unwrap();
        }
    }
    let mount = volume.mount();
    for (seed, size) in sizes.iter().enumerate() {
        let found = fs::read(mount.path(&format!("f{size}"))).unwrap();
        assert!(found == noise(seed as u64, *size), "file of {size} bytes");
    }
    drop(mount);
    volume.assert_fsck_clean();
}

#[test]
fn holes_truncation_and_random_writes_read_as_posix_says() {
    let volume = Volume::format(3, 2);
    let mount = volume.mount();
    let file =
        OpenOptions::new().read(true).write(true).create_new(true).open(mount.path("f")).unwrap();
    let mut model = vec![0u8; 3 << 20];
    for step in 0..400u64 {
        let at = (step * 7_919_993 % (model.len() as u64 - 5000)) as usize;
        let data = noise(step, 1 + (step * 37 % 5000) as usize);
        file.write_all_at(&data, at as u64).unwrap();
        model[at..at + data.len()].copy_from_slice(&data);
        if step % 97 == 0 {
            file.sync_all().unwrap();
        }
    }
    let len = file.metadata().unwrap().len() as usize;
    let mut found = vec![0; len];
    file.read_exact_at(&mut found, 0).unwrap();
    assert!(found == model[..len], "after random writes");
    file.set_len(1_000_000).unwrap();
    file.set_len(2_000_000).unwrap();
    model[1_000_000..].fill(0);
    let mut found = vec![1; 2_000_000];
    file.read_exact_at(&mut found, 0).unwrap();
    assert!(found == model[..2_000_000], "after cutting and extending");
    file.write_all_at(b"far", 1 << 40).unwrap();
    file.sync_all().unwrap();
    assert_eq!(file.metadata().unwrap().len(), (1 << 40) + 3);
    let mut far = [0; 5];
    file.read_exact_at(&mut far, (1 << 40) - 2).unwrap();
    assert_eq!(&far, b"\0\0far");
    drop(file);
    drop(mount);
    volume.assert_fsck_clean();
}

#[test]
fn names_may_be_any_bytes_up_to_255() {
    let volume = Volume::format(1, 1);
    let mount = volume.mount();
    let longest = "n".repeat(255);
    fs::write(mount.path(&longest), "x").unwrap();
    let error = fs::write(mount.path(&"n".repeat(256)), "x").unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENAMETOOLONG));
    let odd: [&[u8]; 6] = [b"\xff\xfe", b"a}b{c", b"\r\n", b"*?[a]", b" ", b"\x01\x7f"];
    for name in odd {
        fs::write(mount.place.join(OsStr::from_bytes(name)), name).unwrap();
    }
    let mut listed: Vec<Vec<u8>> = fs::read_dir(&mount.place)
        .unwrap()
        .map(|e| e.unwrap().file_name().as_bytes().to_vec())
        .collect();
    listed.sort();
    let mut expected: Vec<Vec<u8>> = odd.iter().map(|n| n.to_vec()).collect();
    expected.push(longest.into_bytes());
    expected.sort();
    assert_eq!(listed, expected);
    for name in odd {
        assert_eq!(fs::read(mount.place.join(OsStr::from_bytes(name))).unwrap(), name);
    }
}

#[test]
fn large_directories_list_every_name_once() {
    let volume = Volume::format(1, 1);
    let mount = volume.mount();
    let dir = mount.path("d");
    fs::create_dir(&dir).unwrap();
    for i in 0..3000 {
        File::create(dir.join(format!("file-{i:05}"))).unwrap();
    }
    let mut names: Vec<String> = fs::read_dir(&dir)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let expected: Vec<String> = (0..3000).map(|i| format!("file-{i:05}")).collect();
    assert_eq!(names, expected);
    fs::remove_dir_all(&dir).unwrap();
    assert!(!dir.exists());
    drop(mount);
    volume.assert_fsck_clean();
}

#[test]
fn links_renames_and_attributes_behave() {
    let volume = Volume::format(1, 1);
    let mount = volume.mount();
    let p = |name: &str| mount.path(name);
    fs::write(p("a"), "one").unwrap();
    fs::hard_link(p("a"), p("b")).unwrap();
    assert_eq!(fs::metadata(p("b")).unwrap().nlink(), 2);
    fs::write(p("b"), "two").unwrap();
    assert_eq!(fs::read(p("a")).unwrap(), b"two");
    std::os::unix::fs::symlink("a", p("s")).unwrap();
    assert_eq!(fs::read_link(p("s")).unwrap().as_os_str(), "a");
    assert_eq!(fs::read(p("s")).unwrap(), b"two");
    fs::rename(p("a"), p("c")).unwrap();
    assert!(!p("a").exists());
    fs::create_dir(p("d")).unwrap();
    fs::create_dir(p("d/e")).unwrap();
    let error = fs::rename(p("d"), p("d/e/f")).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
    let error = fs::remove_dir(p("d")).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENOTEMPTY));
    assert_eq!(fs::metadata(p("d")).unwrap().nlink(), 3);
    fs::set_permissions(p("c"), fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(fs::metadata(p("c")).unwrap().mode() & 0o7777, 0o640);
    let when = std::time::UNIX_EPOCH + std::time::Duration::from_nanos(1_234_567_890_123_456_789);
    File::options().write(true).open(p("c")).unwrap().set_modified(when).unwrap();
    assert_eq!(fs::metadata(p("c")).unwrap().modified().unwrap(), when);
    drop(mount);
    volume.assert_fsck_clean();
}

#[test]
fn an_unlinked_file_lives_until_its_last_close() {
    let volume = Volume::format(3, 2);
    let mount = volume.mount();
    let data = noise(1, 3 << 20);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(mount.path("gone"))
        .unwrap();
    file.write_all(&data).unwrap();
    file.sync_all().unwrap();
    fs::remove_file(mount.path("gone")).unwrap();
    file.write_all(b"more").unwrap();
    file.seek(SeekFrom::Start(0)).unwrap();
    let mut found = Vec::new();
    file.read_to_end(&mut found).unwrap();
    assert!(found[..data.len()] == data[..] && &found[data.len()..] == b"more");
    drop(file);
    drop(mount);
    let out = volume.tool("fsck", &["--deep"]);
    assert!(out.status.success(), "{}", mounted::text(&out));
}

#[test]
fn xattrs_are_kept() {
    let volume = Volume::format(1, 1);
    let mount = volume.mount();
    let file = mount.path("f");
    fs::write(&file, "x").unwrap();
    let path = file.to_str().unwrap();
    let script = format!(
        "import os\n\
         p={path:?}\n\
         assert os.listxattr(p)==[]\n\
         os.setxattr(p,'user.a',b'1')\n\
         os.setxattr(p,'user.b',b'x'*60000)\n\
         assert sorted(os.listxattr(p))==['user.a','user.b']\n\
         assert os.getxattr(p,'user.b')==b'x'*60000\n\
         os.removexattr(p,'user.a')\n\
         try: os.getxattr(p,'user.a'); assert False\n\
         except OSError as e: assert e.errno==61\n\
         try: os.setxattr(p,'user.b',b'',os.XATTR_CREATE); assert False\n\
         except OSError as e: assert e.errno==17\n"
    );
    succeed(Command::new("python3").arg("-c").arg(script));
}

#[test]
fn programs_work_as_on_a_local_disk() {
    let volume = Volume::format(3, 2);
    let mount = volume.mount();
    let place = mount.place.to_str().unwrap();
    let script = format!(
        "set -eu; cd {place}; \
         git init -q repo; cd repo; git config user.email t@t; git config user.name t; \
         for i in $(seq 100); do mkdir -p d$((i % 7)); echo $i > d$((i % 7))/$i; done; \
         git add -A; git commit -qm one; git status --porcelain; git fsck --strict; \
         cd ..; git clone -q repo copy; diff -r --exclude=.git repo copy; \
         tar cf t.tar repo; mkdir x; tar xf t.tar -C x; diff -r repo x/repo; \
         cp -a repo r2; rm -rf repo; diff -r r2 x/repo; rm -rf r2 x copy"
    );
    succeed(Command::new("sh").arg("-c").arg(script));
    drop(mount);
    volume.assert_fsck_clean();
}

#[test]
fn a_path_where_it_is_mounted_names_a_volume() {
    let volume = Volume::format(1, 1);
    let mount = volume.mount();
    std::fs::create_dir(mount.path("below")).unwrap();
    for command in ["status", "fsck", "gc", "repair"] {
        succeed(Command::new(RINGFS).arg(command).arg(mount.path("below")));
    }
}
