//! POSIX ACLs through real mounts: enforced, inherited, kept in step with permission bits, and
//! seen by other mounts.

#![allow(clippy::unwrap_used, reason = "what fails ends the test")]

mod mounted;
mod people;

use mounted::{RINGFS, Volume, eventually, succeed};
use people::{ALICE, BOB, Person, ROOT, may_be_anybody, open_to_all};
use std::process::Command;

#[test]
fn acls_decide_who_may_do_what() {
    if !may_be_anybody() {
        return;
    }
    let volume = Volume::format(1, 1);
    let mount = open_to_all(&volume, &[]);
    ROOT.finds(
        &mount,
        &[
            ("make('f', 0o640)", "ok"),
            ("write('f', 'secret')", "ok"),
            ("os.setxattr('f', ACCESS, acl('u=6 U1000=6 g=0 G50=4 m=6 o=0'))", "ok"),
            ("mode('f')", "660"),
            ("shown('f')", "u=6 U1000=6 g=0 G50=4 m=6 o=0"),
            ("sorted(os.listxattr('f'))", "['system.posix_acl_access']"),
        ],
    );
    ALICE.finds(&mount, &[("read('f')", "secret"), ("write('f', 'S')", "ok")]);
    BOB.finds(&mount, &[("read('f')", "EACCES"), ("write('f')", "EACCES")]);
    let member = Person { groups: &[50], ..BOB };
    member.finds(
        &mount,
        &[
            ("read('f')", "Secret"),
            ("write('f')", "EACCES"),
            ("os.setxattr('f', ACCESS, acl('u=6 g=6 o=6'))", "EPERM"),
            ("os.removexattr('f', ACCESS)", "EPERM"),
        ],
    );
    // chmod changes the mask, and the mask takes away what users have.
    ROOT.finds(
        &mount,
        &[("os.chmod('f', 0o640)", "ok"), ("shown('f')", "u=6 U1000=6 g=0 G50=4 m=4 o=0")],
    );
    ALICE.finds(&mount, &[("read('f')", "Secret"), ("write('f')", "EACCES")]);
    // A list that says what the bits say is not kept.
    ROOT.finds(
        &mount,
        &[
            ("os.setxattr('f', ACCESS, acl('u=6 g=0 o=4'))", "ok"),
            ("mode('f')", "604"),
            ("os.getxattr('f', ACCESS)", "ENODATA"),
            ("os.listxattr('f')", "[]"),
            ("os.removexattr('f', ACCESS)", "ok"),
        ],
    );
    BOB.finds(&mount, &[("read('f')", "Secret")]);
    drop(mount);
    volume.assert_fsck_clean();
}

#[test]
fn default_acls_are_inherited_instead_of_the_umask() {
    if !may_be_anybody() {
        return;
    }
    let volume = Volume::format(1, 1);
    let mount = open_to_all(&volume, &[]);
    ROOT.finds(
        &mount,
        &[
            ("os.umask(0o077)", "18"),
            ("os.mkdir('plain')", "ok"),
            ("mode('plain')", "700"),
            ("make('plain/f')", "ok"),
            ("mode('plain/f')", "600"),
            ("os.mkdir('d')", "ok"),
            ("os.chmod('d', 0o755)", "ok"),
            ("os.setxattr('d', DEFAULT, acl('u=7 U1000=7 g=5 m=7 o=5'))", "ok"),
            ("mode('d')", "755"),
            ("make('d/f')", "ok"),
            ("mode('d/f')", "664"),
            ("shown('d/f')", "u=6 U1000=7 g=5 m=6 o=4"),
            ("os.getxattr('d/f', DEFAULT)", "ENODATA"),
            ("os.mkdir('d/e', 0o750)", "ok"),
            ("mode('d/e')", "750"),
            ("shown('d/e')", "u=7 U1000=7 g=5 m=5 o=0"),
            ("shown('d/e', DEFAULT)", "u=7 U1000=7 g=5 m=7 o=5"),
            ("os.mknod('d/n', 0o666 | stat.S_IFIFO)", "ok"),
            ("shown('d/n')", "u=6 U1000=7 g=5 m=6 o=4"),
            ("fd = os.open('d', os.O_TMPFILE | os.O_WRONLY, 0o666)", "ok"),
            ("os.link(f'/proc/self/fd/{fd}', 'd/t', src_dir_fd=fd); os.close(fd)", "ok"),
            ("mode('d/t') + ' ' + shown('d/t')", "664 u=6 U1000=7 g=5 m=6 o=4"),
            ("fd = os.open('plain', os.O_TMPFILE | os.O_WRONLY, 0o666)", "ok"),
            ("os.link(f'/proc/self/fd/{fd}', 'plain/t', src_dir_fd=fd); os.close(fd)", "ok"),
            ("mode('plain/t')", "600"),
            ("os.symlink('f', 'd/l')", "ok"),
            ("os.getxattr('d/l', ACCESS, follow_symlinks=False)", "ENOTSUP"),
            // Moving and linking inherit nothing.
            ("os.rename('plain/f', 'd/moved')", "ok"),
            ("os.getxattr('d/moved', ACCESS)", "ENODATA"),
            ("os.removexattr('d', DEFAULT)", "ok"),
            ("make('d/g')", "ok"),
            ("mode('d/g')", "600"),
            ("os.setxattr('d/f', DEFAULT, acl('u=7 g=5 o=5'))", "EACCES"),
        ],
    );
    ALICE.finds(&mount, &[("write('d/f')", "ok"), ("read('d/moved')", "EACCES")]);
    // A clone has all of it, and everything is on the server.
    succeed(Command::new(RINGFS).arg("clone").arg(mount.path("d")).arg(mount.path("copy")));
    drop(mount);
    let mount = open_to_all(&volume, &[]);
    ROOT.finds(
        &mount,
        &[
            ("shown('d/e', DEFAULT)", "u=7 U1000=7 g=5 m=7 o=5"),
            ("shown('copy/e', DEFAULT)", "u=7 U1000=7 g=5 m=7 o=5"),
            ("mode('copy/f') + ' ' + shown('copy/f')", "664 u=6 U1000=7 g=5 m=6 o=4"),
        ],
    );
    drop(mount);
    volume.assert_fsck_clean();
}

#[test]
fn what_is_no_acl_is_refused() {
    let volume = Volume::format(1, 1);
    let mount = volume.mount();
    ROOT.finds(
        &mount,
        &[
            ("make('f', 0o644)", "ok"),
            ("os.setxattr('f', ACCESS, b'')", "ok"),
            ("os.setxattr('f', ACCESS, b'\\2')", "EINVAL"),
            ("os.setxattr('f', ACCESS, b'\\1\\0\\0\\0')", "ENOTSUP"),
            ("os.setxattr('f', ACCESS, acl('u=7 g=5'))", "EINVAL"),
            ("os.setxattr('f', ACCESS, acl('u=7 U5=5 g=5 o=5'))", "EINVAL"),
            ("os.setxattr('f', ACCESS, acl('u=9 g=5 o=5'))", "EINVAL"),
            ("os.setxattr('f', 'system.other', b'x')", "ENOTSUP"),
            ("os.setxattr('f', ACCESS, acl('u=7 U5=5 g=5 m=7 o=5'))", "ok"),
            ("os.setxattr('f', ACCESS, acl(''))", "ok"),
            ("os.getxattr('f', ACCESS)", "ENODATA"),
            ("mode('f')", "775"),
        ],
    );
}

#[test]
fn the_set_group_id_bit_goes_when_a_stranger_sets_an_acl() {
    if !may_be_anybody() {
        return;
    }
    let volume = Volume::format(1, 1);
    let mount = open_to_all(&volume, &[]);
    ROOT.finds(
        &mount,
        &[
            ("make('f', 0o755)", "ok"),
            ("os.chown('f', 1000, 50)", "ok"),
            ("os.chmod('f', 0o2755)", "ok"),
        ],
    );
    let list = ("os.setxattr('f', ACCESS, acl('u=7 U7=5 g=5 m=5 o=5'))", "ok");
    let member = Person { groups: &[50], ..ALICE };
    member.finds(&mount, &[list, ("mode('f')", "2755")]);
    ALICE.finds(&mount, &[list, ("mode('f')", "755")]);
}

#[test]
fn acls_set_by_one_mount_hold_on_the_other() {
    if !may_be_anybody() {
        return;
    }
    let volume = Volume::format(1, 1);
    let (one, two) = (open_to_all(&volume, &[]), open_to_all(&volume, &[]));
    ROOT.finds(&one, &[("os.mkdir('d')", "ok"), ("os.chmod('d', 0o777)", "ok")]);
    ROOT.finds(&one, &[("make('f', 0o600)", "ok")]);
    ALICE.finds(&two, &[("make('d/before')", "ok"), ("mode('d/before')", "644")]);
    ALICE.finds(&two, &[("read('f')", "EACCES")]);
    // At once: the next create asks nobody but the server that has the ACL.
    ROOT.finds(&one, &[("os.setxattr('d', DEFAULT, acl('u=7 U1001=6 g=7 m=7 o=0'))", "ok")]);
    ALICE.finds(
        &two,
        &[
            ("make('d/after')", "ok"),
            ("mode('d/after')", "660"),
            ("shown('d/after')", "u=6 U1001=6 g=7 m=6 o=0"),
        ],
    );
    ROOT.finds(&one, &[("os.setxattr('f', ACCESS, acl('u=6 U1000=4 g=0 m=4 o=0'))", "ok")]);
    eventually("Alice's permission on the other mount", || {
        ALICE.does(&two, &["read('f')"]) == [""]
    });
    ROOT.finds(&one, &[("os.setxattr('f', ACCESS, acl('u=6 U1000=0 g=0 m=4 o=0'))", "ok")]);
    eventually("its end", || ALICE.does(&two, &["read('f')"]) == ["EACCES"]);
    drop((one, two));
    volume.assert_fsck_clean();
}
