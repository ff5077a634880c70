//! Times through a real mount, to the nanosecond.

#![allow(clippy::unwrap_used, reason = "what fails ends the test")]

mod mounted;
mod people;

use mounted::Volume;
use people::{ALICE, ROOT, may_be_anybody, open_to_all};
use rustix::fs::{
    AtFlags, CWD, StatxFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, statx, utimensat,
};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::{SystemTime, UNIX_EPOCH};

#[test]
fn birth_time_is_when_the_inode_was_made_and_never_changes() {
    let volume = Volume::format(1, 1);
    let mount = volume.mount();
    let path = mount.path("f");
    let born = || {
        let wanted = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
        let found = statx(CWD, &path, AtFlags::SYMLINK_NOFOLLOW, wanted).unwrap();
        let told = StatxFlags::from_bits_retain(found.stx_mask).contains(StatxFlags::BTIME);
        told.then_some((found.stx_btime.tv_sec, found.stx_btime.tv_nsec))
    };
    let before = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    fs::write(&path, "x").unwrap();
    let after = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let Some(made) = born() else {
        println!("skipped: this kernel does not ask FUSE for birth times (Linux 6.6 does)");
        return;
    };
    let at = i128::from(made.0) * 1_000_000_000 + i128::from(made.1);
    assert!((before.as_nanos() as i128..=after.as_nanos() as i128).contains(&at));
    fs::write(&path, "y").unwrap();
    ROOT.finds(
        &mount,
        &[
            ("os.chmod('f', 0o600)", "ok"),
            ("os.utime('f', ns=(1, 1))", "ok"),
            ("os.rename('f', 'g'); os.rename('g', 'f')", "ok"),
        ],
    );
    assert_eq!(born(), Some(made));
}

#[test]
fn times_are_kept_to_the_nanosecond_before_1970_and_far_ahead() {
    let volume = Volume::format(1, 1);
    let mount = volume.mount();
    // The last second of 2261, the first of 1678, one nanosecond around 1970.
    let times: [i64; 6] = [
        9_214_646_399_999_999_999,
        -9_214_560_000_000_000_000,
        -1,
        0,
        1,
        1_700_000_000_123_456_789,
    ];
    ROOT.finds(&mount, &[("make('f')", "ok")]);
    for time in times {
        let set = format!("os.utime('f', ns=({time}, {}))", time - 7);
        let answers =
            ROOT.does(&mount, &[&set, "os.stat('f').st_atime_ns", "os.stat('f').st_mtime_ns"]);
        assert_eq!(answers, ["ok".to_owned(), time.to_string(), (time - 7).to_string()]);
    }
    drop(mount);
    let mount = volume.mount();
    let last = times[5].to_string();
    ROOT.finds(&mount, &[("os.stat('f').st_atime_ns", &last)]);
    // Beyond what 64 bits of nanoseconds hold, the nearest time that can be kept.
    ROOT.finds(
        &mount,
        &[
            ("os.utime('f', (20000000000, -20000000000))", "ok"),
            ("os.stat('f').st_atime_ns", "9223372036854775807"),
            ("os.stat('f').st_mtime_ns", "-9223372036854775808"),
        ],
    );
}

#[test]
fn utime_now_and_utime_omit() {
    let volume = Volume::format(1, 1);
    let mount = open_to_all(&volume, &[]);
    let path = mount.path("f");
    fs::write(&path, "").unwrap();
    let at = |tv_sec, tv_nsec| Timespec { tv_sec, tv_nsec };
    let (now, omit) = (at(0, UTIME_NOW), at(0, UTIME_OMIT));
    let set = |last_access, last_modification| {
        let times = Timestamps { last_access, last_modification };
        utimensat(CWD, &path, &times, AtFlags::empty()).unwrap();
        let found = fs::metadata(&path).unwrap();
        let nanoseconds = |seconds: i64, nanoseconds: i64| seconds * 1_000_000_000 + nanoseconds;
        [
            nanoseconds(found.atime(), found.atime_nsec()),
            nanoseconds(found.mtime(), found.mtime_nsec()),
            nanoseconds(found.ctime(), found.ctime_nsec()),
        ]
    };
    let both = set(at(5, 6), at(7, 8));
    assert_eq!(both[..2], [5_000_000_006, 7_000_000_008]);
    let one = set(omit, at(9, 0));
    assert_eq!(one[..2], [5_000_000_006, 9_000_000_000]);
    assert!(one[2] > both[2]);
    assert_eq!(set(omit, omit), one);
    let before = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as i64;
    let other = set(now, omit);
    assert!(other[0] >= before && other[1] == 9_000_000_000);
    if !may_be_anybody() {
        return;
    }
    // Who may write may set the time to now, and only the owner to another.
    ROOT.finds(&mount, &[("os.chmod('f', 0o666)", "ok")]);
    ALICE.finds(
        &mount,
        &[
            ("os.utime('f')", "ok"),
            ("os.utime('f', (1, 1))", "EPERM"),
            ("os.stat('f').st_mtime_ns > 9000000000", "True"),
        ],
    );
}
