//! Extended attributes through a real mount: name spaces, flags, limits, and the errors that ext4
//! gives.

#![allow(clippy::unwrap_used, reason = "what fails ends the test")]

mod mounted;
mod people;

use mounted::Volume;
use people::{ALICE, ROOT, may_be_anybody, open_to_all};
use rustix::fs::{getxattr, listxattr};
use rustix::io::Errno;

#[test]
fn flags_and_limits_are_those_of_a_local_file_system() {
    let volume = Volume::format(1, 1);
    let mount = volume.mount();
    ROOT.finds(
        &mount,
        &[
            ("make('f')", "ok"),
            ("os.setxattr('f', 'user.a', b'1', os.XATTR_REPLACE)", "ENODATA"),
            ("os.setxattr('f', 'user.a', b'1', os.XATTR_CREATE | os.XATTR_REPLACE)", "ENODATA"),
            ("os.setxattr('f', 'user.a', b'1', os.XATTR_CREATE)", "ok"),
            ("os.setxattr('f', 'user.a', b'2', os.XATTR_CREATE)", "EEXIST"),
            ("os.setxattr('f', 'user.a', b'2', os.XATTR_CREATE | os.XATTR_REPLACE)", "EEXIST"),
            ("os.setxattr('f', 'user.a', b'2', 4)", "EINVAL"),
            ("os.getxattr('f', 'user.a')", "b'1'"),
            ("os.setxattr('f', 'user.a', b'', os.XATTR_REPLACE)", "ok"),
            ("os.getxattr('f', 'user.a')", "b''"),
            ("os.removexattr('f', 'user.a')", "ok"),
            ("os.removexattr('f', 'user.a')", "ENODATA"),
            ("os.getxattr('f', 'user.a')", "ENODATA"),
            ("os.listxattr('f')", "[]"),
            // Names and values of the largest size, and one byte more.
            ("os.setxattr('f', 'user.' + 'n' * 250, bytes(65536))", "ok"),
            ("len(os.getxattr('f', 'user.' + 'n' * 250))", "65536"),
            ("os.setxattr('f', 'user.' + 'n' * 251, b'')", "ERANGE"),
            ("os.getxattr('f', 'user.' + 'n' * 251)", "ERANGE"),
            ("os.removexattr('f', 'user.' + 'n' * 251)", "ERANGE"),
            ("os.setxattr('f', 'user.big', bytes(65537))", "E2BIG"),
            ("os.setxattr('f', 'user.', b'')", "EINVAL"),
            ("os.setxattr('f', 'nowhere.a', b'')", "ENOTSUP"),
            ("[len(name) for name in os.listxattr('f')]", "[255]"),
        ],
    );
    // Whatever the program's buffer.
    let (path, name) = (mount.path("f"), format!("user.{}", "n".repeat(250)));
    let small = getxattr(&path, name.as_str(), &mut [0u8; 9][..]);
    assert_eq!(small.unwrap_err(), Errno::RANGE);
    assert_eq!(listxattr(&path, &mut [0u8; 255][..]).unwrap_err(), Errno::RANGE);
    assert_eq!(listxattr(&path, &mut [0u8; 256][..]).unwrap(), 256);
    drop(mount);
    volume.assert_fsck_clean();
}

#[test]
fn as_many_names_as_a_list_can_hold() {
    let volume = Volume::format(1, 1);
    let mount = volume.mount();
    ROOT.finds(
        &mount,
        &[
            ("make('f')", "ok"),
            ("[os.setxattr('f', f'user.{i:0250}', b'') for i in range(256)] and None", "ok"),
            ("os.setxattr('f', 'user.more', b'')", "ENOSPC"),
            ("os.setxattr('f', f'user.{7:0250}', b'new')", "ok"),
            ("len(os.listxattr('f'))", "256"),
            ("os.unlink('f')", "ok"),
        ],
    );
    drop(mount);
    volume.assert_fsck_clean();
}

#[test]
fn every_name_space_is_kept_and_guarded() {
    if !may_be_anybody() {
        return;
    }
    let volume = Volume::format(1, 1);
    let mount = open_to_all(&volume, &[]);
    ROOT.finds(
        &mount,
        &[
            ("make('f', 0o666)", "ok"),
            ("os.chmod('f', 0o666)", "ok"),
            ("os.setxattr('f', 'user.a', b'u')", "ok"),
            ("os.setxattr('f', 'trusted.a', b't')", "ok"),
            ("os.setxattr('f', 'security.a', b's')", "ok"),
            ("os.listxattr('f')", "['security.a', 'trusted.a', 'user.a']"),
            ("os.symlink('f', 'l')", "ok"),
            ("os.setxattr('l', 'user.a', b'', follow_symlinks=False)", "EPERM"),
            ("os.setxattr('l', 'trusted.a', b'', follow_symlinks=False)", "ok"),
            ("os.mkfifo('p')", "ok"),
            ("os.setxattr('p', 'user.a', b'')", "EPERM"),
            ("os.mkdir('sticky'); os.chmod('sticky', 0o1777)", "ok"),
        ],
    );
    ALICE.finds(
        &mount,
        &[
            ("os.listxattr('f')", "['security.a', 'user.a']"),
            ("os.getxattr('f', 'trusted.a')", "ENODATA"),
            ("os.setxattr('f', 'trusted.a', b'')", "EPERM"),
            ("os.setxattr('f', 'security.a', b'')", "EPERM"),
            ("os.getxattr('f', 'security.a')", "b's'"),
            ("os.setxattr('f', 'user.a', b'mine')", "ok"),
            ("os.setxattr('sticky', 'user.a', b'')", "EPERM"),
        ],
    );
    drop(mount);
    let mount = open_to_all(&volume, &[]);
    ROOT.finds(&mount, &[("os.getxattr('f', 'trusted.a')", "b't'")]);
    drop(mount);
    volume.assert_fsck_clean();
}

/// `cap_net_raw=ep`, as setcap stores it.
const SET_CAPABILITY: &str = "os.setxattr('f', 'security.capability', bytes.fromhex('0100000200200000000000000000000000000000'))";

#[test]
fn file_capabilities_survive_until_somebody_writes_or_changes_the_owner() {
    if !may_be_anybody() {
        return;
    }
    let volume = Volume::format(1, 1);
    let (mount, other) = (open_to_all(&volume, &[]), open_to_all(&volume, &[]));
    let has = ("len(os.getxattr('f', 'security.capability'))", "20");
    let has_not = ("os.getxattr('f', 'security.capability')", "ENODATA");
    ROOT.finds(
        &mount,
        &[
            ("make('f', 0o777); write('f', 'program')", "ok"),
            (SET_CAPABILITY, "ok"),
            has,
            ("os.chmod('f', 0o777)", "ok"),
            ("os.rename('f', 'g'); os.link('g', 'f')", "ok"),
            has,
        ],
    );
    ROOT.finds(&other, &[has, ("write('f', 'other')", "ok"), has_not]);
    ROOT.finds(
        &mount,
        &[
            has_not,
            (SET_CAPABILITY, "ok"),
            ("os.truncate('f', 3)", "ok"),
            has_not,
            (SET_CAPABILITY, "ok"),
            ("os.chown('f', 0, 50)", "ok"),
            has_not,
            ("fd = os.open('f', os.O_WRONLY); os.write(fd, b'x')", "ok"),
            (SET_CAPABILITY, "ok"),
            ("os.close(fd)", "ok"),
            has,
        ],
    );
    drop((mount, other));
    volume.assert_fsck_clean();
}
