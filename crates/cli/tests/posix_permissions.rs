//! Permissions through a real mount, as several users: set-id bits, sticky directories,
//! supplementary groups, umask and inherited groups.

#![allow(clippy::unwrap_used, reason = "what fails ends the test")]

mod mounted;
mod people;

use mounted::Volume;
use people::{ALICE, BOB, Person, ROOT, may_be_anybody, open_to_all};

#[test]
fn set_id_bits_go_when_somebody_without_privileges_writes_truncates_or_changes_the_group() {
    if !may_be_anybody() {
        return;
    }
    let volume = Volume::format(1, 1);
    let mount = open_to_all(&volume, &[]);
    let member = Person { groups: &[50], ..ALICE };
    ROOT.finds(&mount, &[("make('f'); write('f', 'abc'); os.chown('f', 1000, 1000)", "ok")]);
    for (what, perm, left) in [
        ("write('f')", "6777", "777"),
        ("write('f')", "6767", "2767"),
        ("write('f', 'x', os.O_WRONLY | os.O_APPEND)", "6777", "777"),
        ("os.truncate('f', 1)", "6777", "777"),
        ("fd = os.open('f', os.O_WRONLY); os.ftruncate(fd, 9); os.close(fd)", "6777", "777"),
        ("os.close(os.open('f', os.O_WRONLY | os.O_TRUNC))", "6777", "777"),
        ("os.chown('f', -1, 50)", "6777", "777"),
        ("os.chown('f', -1, 50)", "6767", "2767"),
        ("os.utime('f')", "6777", "6777"),
        ("read('f')", "6777", "6777"),
        ("os.rename('f', 'f')", "6777", "6777"),
    ] {
        let set = format!("os.chown('f', 1000, 1000); os.chmod('f', 0o{perm})");
        ROOT.finds(&mount, &[(&set, "ok"), ("mode('f')", perm)]);
        let answers = member.does(&mount, &[what, "mode('f')"]);
        assert_eq!(answers[1], left, "{what} with {perm}");
    }
    // Root keeps them when it writes, and takes them away by changing the owner.
    ROOT.finds(
        &mount,
        &[
            ("os.chmod('f', 0o6777); write('f'); os.truncate('f', 0)", "ok"),
            ("mode('f')", "6777"),
            ("os.chown('f', 1001, 1001)", "ok"),
            ("mode('f')", "777"),
            // A directory's bit means inheritance and stays.
            ("os.mkdir('d'); os.chmod('d', 0o2777); os.chown('d', 1000, 1000)", "ok"),
            ("mode('d')", "2777"),
        ],
    );
    drop(mount);
    volume.assert_fsck_clean();
}

#[test]
fn set_group_id_is_for_members_of_the_group() {
    if !may_be_anybody() {
        return;
    }
    let volume = Volume::format(1, 1);
    let mount = open_to_all(&volume, &[]);
    ROOT.finds(
        &mount,
        &[
            ("make('f', 0o755); os.chown('f', 1000, 50)", "ok"),
            ("os.mkdir('shared'); os.chown('shared', 0, 50); os.chmod('shared', 0o2777)", "ok"),
        ],
    );
    let member = Person { groups: &[50, 60], ..ALICE };
    member.finds(&mount, &[("os.chmod('f', 0o2755)", "ok"), ("mode('f')", "2755")]);
    ALICE.finds(&mount, &[("os.chmod('f', 0o2755)", "ok"), ("mode('f')", "755")]);
    ALICE.finds(
        &mount,
        &[
            ("make('shared/f')", "ok"),
            ("owner('shared/f')", "1000:50"),
            ("os.mkdir('shared/d')", "ok"),
            ("owner('shared/d')", "1000:50"),
            ("mode('shared/d')", "2755"),
            ("os.symlink('f', 'shared/l')", "ok"),
            ("owner('shared/l')", "1000:50"),
            ("os.mkfifo('shared/p')", "ok"),
            ("owner('shared/p')", "1000:50"),
            // A program of a group that one is not in.
            ("make('shared/s', 0o2755)", "ok"),
            ("mode('shared/s')", "755"),
        ],
    );
    member.finds(&mount, &[("make('shared/m', 0o2755)", "ok"), ("mode('shared/m')", "2755")]);
}

#[test]
fn only_owners_remove_from_a_sticky_directory() {
    if !may_be_anybody() {
        return;
    }
    let volume = Volume::format(1, 1);
    let mount = open_to_all(&volume, &[]);
    ROOT.finds(
        &mount,
        &[
            (
                "os.mkdir('t'); os.chmod('t', 0o1777); os.mkdir('own'); os.chmod('own', 0o1777)",
                "ok",
            ),
            ("os.chown('own', 1001, 1001)", "ok"),
        ],
    );
    ALICE.finds(&mount, &[("make('t/a', 0o666); make('own/a'); os.mkdir('t/d')", "ok")]);
    BOB.finds(
        &mount,
        &[
            ("os.unlink('t/a')", "EPERM"),
            ("os.rename('t/a', 't/b')", "EPERM"),
            ("os.rmdir('t/d')", "EPERM"),
            ("make('t/b')", "ok"),
            ("os.rename('t/b', 't/a')", "EPERM"),
            ("os.rename('t/b', 't/c')", "ok"),
            ("os.unlink('t/c')", "ok"),
            // The directory's owner may.
            ("os.unlink('own/a')", "ok"),
        ],
    );
    ALICE.finds(&mount, &[("os.rmdir('t/d'); os.unlink('t/a')", "ok")]);
}

#[test]
fn owner_group_supplementary_groups_and_others() {
    if !may_be_anybody() {
        return;
    }
    let volume = Volume::format(1, 1);
    let mount = open_to_all(&volume, &[]);
    ROOT.finds(
        &mount,
        &[
            ("make('f'); write('f', 'text'); os.chown('f', 1000, 50); os.chmod('f', 0o460)", "ok"),
            (
                "os.mkdir('d'); os.chown('d', 1000, 50); os.chmod('d', 0o750); make('d/f', 0o644)",
                "ok",
            ),
        ],
    );
    // The owner's bits count for the owner, even where the group has more.
    let owner = Person { groups: &[50], ..ALICE };
    owner.finds(&mount, &[("read('f')", "text"), ("write('f')", "EACCES")]);
    let many: Vec<u32> = (2000..2100).chain([50]).collect();
    let member = Person { groups: &many, ..BOB };
    member.finds(
        &mount,
        &[
            ("read('f')", "text"),
            ("write('f', 'T')", "ok"),
            ("read('d/f')", ""),
            ("make('d/g')", "EACCES"),
            ("os.unlink('d/f')", "EACCES"),
            ("os.chmod('f', 0o777)", "EPERM"),
            ("os.chown('f', 1001, -1)", "EPERM"),
        ],
    );
    BOB.finds(
        &mount,
        &[
            ("read('f')", "EACCES"),
            ("os.stat('d/f')", "EACCES"),
            ("os.listdir('d')", "EACCES"),
            ("os.access('f', os.R_OK)", "False"),
        ],
    );
    // The owner may give it to a group that it is in, and to nobody else.
    owner.finds(
        &mount,
        &[
            ("os.chown('f', 1001, -1)", "EPERM"),
            ("os.chown('f', -1, 60)", "EPERM"),
            ("os.chown('f', -1, 1000)", "ok"),
            ("owner('f')", "1000:1000"),
        ],
    );
    ALICE.finds(
        &mount,
        &[
            ("os.umask(0o077)", "18"),
            ("os.chdir('d'); make('u'); os.mkdir('v'); os.mkfifo('w')", "ok"),
            ("mode('u') + mode('v') + mode('w')", "600700600"),
            ("os.chmod('u', 0o666)", "ok"),
            ("mode('u')", "666"),
        ],
    );
}
