//! `--root-squash`: root of such a mount has no privileges in the volume.

#![allow(clippy::unwrap_used, reason = "what fails ends the test")]

mod mounted;
mod people;

use mounted::{RINGFS, Volume, succeed, text};
use people::{ALICE, Person, ROOT, may_be_anybody, open_to_all};
use std::process::Command;

#[test]
fn root_acts_as_nobody() {
    if !may_be_anybody() {
        return;
    }
    let volume = Volume::format(1, 1);
    let trusting = open_to_all(&volume, &[]);
    ROOT.finds(
        &trusting,
        &[
            ("os.mkdir('home'); os.chown('home', 1000, 1000)", "ok"),
            ("os.mkdir('t'); os.chmod('t', 0o1777)", "ok"),
            ("os.mkdir('all'); os.chmod('all', 0o777)", "ok"),
            ("os.mkdir('shared'); os.chown('shared', 0, 50); os.chmod('shared', 0o2777)", "ok"),
            ("make('root', 0o600); os.setxattr('root', 'trusted.a', b'1')", "ok"),
        ],
    );
    ALICE.finds(&trusting, &[
        ("os.chdir('home'); make('f', 0o600); write('f', 'secret'); make('g'); write('g', 'all')", "ok"),
        ("os.mkdir('private', 0o700); make('private/f', 0o666); make('x', 0o711)", "ok"),
        ("os.chdir('..'); make('t/alice', 0o666); make('all/alice', 0o644)", "ok"),
        ("make('all/open', 0o666); os.chmod('all/open', 0o6777)", "ok"),
        ("make('all/acl'); os.setxattr('all/acl', ACCESS, acl('u=6 U65534=6 g=0 m=6 o=0'))", "ok"),
    ]);
    let mount = open_to_all(&volume, &["--root-squash"]);
    ROOT.finds(
        &mount,
        &[
            // What belongs to root in the volume is not this root's.
            ("read('root')", "EACCES"),
            ("write('root')", "EACCES"),
            ("os.chmod('root', 0o666)", "EPERM"),
            ("os.unlink('root')", "EACCES"),
            ("make('new')", "EACCES"),
            ("os.mkdir('new')", "EACCES"),
            ("os.rename('root', 'new')", "EACCES"),
            ("os.getxattr('root', 'trusted.a')", "ENODATA"),
            ("os.listxattr('root')", "[]"),
            ("os.setxattr('all/alice', 'trusted.b', b'')", "EPERM"),
            ("os.setxattr('all/alice', 'user.b', b'')", "EACCES"),
            // Nor what belongs to Alice.
            ("read('home/f')", "EACCES"),
            ("read('home/g')", "all"),
            ("write('home/g')", "EACCES"),
            ("os.open('home/g', os.O_RDWR)", "EACCES"),
            ("os.truncate('home/g', 0)", "EACCES"),
            ("read('home/private/f')", "EACCES"),
            ("os.listdir('home/private')", "EACCES"),
            ("sorted(os.listdir('home'))", "['f', 'g', 'private', 'x']"),
            ("os.chown('home/f', 0, 0)", "EPERM"),
            ("os.chmod('home/f', 0o777)", "EPERM"),
            ("os.utime('home/f', (1, 1))", "EPERM"),
            ("os.utime('home/f')", "EACCES"),
            ("os.setxattr('home/f', ACCESS, acl('u=6 g=6 o=6'))", "EPERM"),
            ("os.unlink('home/g')", "EACCES"),
            // Where everybody may, it may too; in a sticky directory with what is its own.
            ("os.unlink('t/alice')", "EPERM"),
            ("os.rename('t/alice', 't/mine')", "EPERM"),
            ("os.rename('t/alice', 'all/mine')", "EPERM"),
            ("os.rename('all/alice', 't/alice')", "EPERM"),
            ("make('t/mine'); write('t/mine'); os.unlink('t/mine')", "ok"),
            ("make('all/mine', 0o600); write('all/mine', 'x')", "ok"),
            ("owner('all/mine')", "65534:65534"),
            ("os.chmod('all/mine', 0o640); os.utime('all/mine', (1, 1))", "ok"),
            ("os.chown('all/mine', 0, 0)", "EPERM"),
            ("os.chown('all/mine', 1000, -1)", "EPERM"),
            ("os.mknod('all/null', 0o666 | stat.S_IFCHR, os.makedev(1, 3))", "EPERM"),
            ("os.mknod('all/pipe', 0o666 | stat.S_IFIFO)", "ok"),
            ("os.unlink('all/alice')", "ok"),
            ("make('shared/s', 0o2755); mode('shared/s')", "ok"),
            ("mode('shared/s') + ' ' + owner('shared/s')", "755 65534:50"),
            // Set-id bits go as for everybody, and an ACL may name it.
            ("write('all/open'); mode('all/open')", "ok"),
            ("mode('all/open')", "777"),
            ("write('all/acl', 'by acl'); read('all/acl')", "ok"),
            ("os.stat('home/f').st_size", "6"),
            ("fd = os.open('all/kept', os.O_RDWR | os.O_CREAT, 0o000)", "ok"),
            ("os.write(fd, b'open'); os.pread(fd, 9, 0); os.ftruncate(fd, 2); os.fsync(fd)", "ok"),
            ("os.open('all/kept', os.O_RDONLY)", "EACCES"),
        ],
    );
    // Others are not concerned, nor are other mounts.
    ALICE.finds(&mount, &[("read('home/f')", "secret"), ("write('home/f', 'S')", "ok")]);
    ROOT.finds(&trusting, &[("read('home/f')", "Secret"), ("os.chown('all/mine', 0, 0)", "ok")]);
    drop((mount, trusting));
    volume.assert_fsck_clean();
}

/// Files of all owners, groups and permission bits, with ACLs and without; then what may be done.
const MAKE: &str = "\
import random; R = random.Random(seed)
os.mkdir('z'); os.chmod('z', 0o777)
for i in range(150):
    name = f'z/{i}'
    if i % 5 == 0: os.mkdir(name); make(name + '/in')
    else: make(name)
    users = ' '.join(f'U{u}={R.randrange(8)}' for u in (1000, 65534) if R.random() < 0.5)
    groups = ' '.join(f'G{g}={R.randrange(8)}' for g in (50, 65534) if R.random() < 0.5)
    p = [R.randrange(8) for _ in range(4)]
    if i % 3: os.setxattr(name, ACCESS, acl(f'u={p[0]} {users} g={p[1]} {groups} m={p[2]} o={p[3]}'))
    else: os.chmod(name, R.randrange(0o2000))
    os.chown(name, R.choice([1000, 65534]), R.choice([50, 65534]))";
const TRY: &str = "\
result = []
def attempt(f):
    try: f(); result.append('ok')
    except OSError as e: result.append(errno.errorcode[e.errno])
for i in range(150):
    name = f'z/{i}'
    if i % 5 == 0:
        attempt(lambda: os.listdir(name))
        attempt(lambda: make(name + '/new'))
        attempt(lambda: os.unlink(name + '/in'))
        attempt(lambda: os.unlink(name + '/new'))
    else:
        for how in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR):
            attempt(lambda: os.close(os.open(name, how)))
        attempt(lambda: os.truncate(name, 1))
        attempt(lambda: os.getxattr(name, 'user.x'))
        attempt(lambda: os.setxattr(name, 'user.x', b''))
    attempt(lambda: os.utime(name))
    attempt(lambda: os.utime(name, (1, 1)))
    attempt(lambda: os.setxattr(name, ACCESS, acl('u=7 g=7 o=7')))
    attempt(lambda: os.chown(name, -1, 50))
    attempt(lambda: os.chown(name, -1, 65534))
    attempt(lambda: os.chmod(name, 0o2777)); result.append(mode(name))";

#[test]
fn root_may_what_the_kernel_lets_that_user_do() {
    if !may_be_anybody() {
        return;
    }
    let nobody = Person { uid: 65534, gid: 65534, groups: &[] };
    for seed in ["seed = 1", "seed = 2"] {
        let answers = [("", nobody), ("--root-squash", ROOT)].map(|(option, who)| {
            let volume = Volume::format(1, 1);
            let trusting = open_to_all(&volume, &[]);
            ROOT.finds(&trusting, &[(seed, "ok"), (MAKE, "ok")]);
            drop(trusting);
            let options = if option.is_empty() { &[][..] } else { &[option][..] };
            let mount = open_to_all(&volume, options);
            who.does(&mount, &[TRY, "' '.join(result)"])[1].clone()
        });
        let [kernel, ours] = answers.each_ref().map(|all| all.split(' ').collect::<Vec<_>>());
        assert!(kernel.contains(&"EACCES") && kernel.contains(&"EPERM"));
        let differ: Vec<_> = (0..kernel.len()).filter(|i| kernel[*i] != ours[*i]).collect();
        assert!(differ.is_empty(), "{seed}, at {differ:?}:\n{kernel:?}\n{ours:?}");
    }
}

#[test]
fn root_acts_as_whom_the_option_names_also_in_the_background() {
    if !may_be_anybody() {
        return;
    }
    let volume = Volume::format(1, 1);
    let trusting = open_to_all(&volume, &[]);
    ROOT.finds(
        &trusting,
        &[("os.mkdir('d'); os.chown('d', 1000, 1000); os.chmod('d', 0o700)", "ok")],
    );
    let mount = open_to_all(&volume, &["--root-squash=1000:1000"]);
    ROOT.finds(&mount, &[("make('d/f', 0o600)", "ok"), ("owner('d/f')", "1000:1000")]);
    let place = volume.dir.path().join("background");
    std::fs::create_dir(&place).unwrap();
    let log = volume.dir.path().join("background.log");
    let mut command = Command::new(RINGFS);
    command.args(["mount", "-d", &volume.url()]).arg(&place).arg("--log").arg(log);
    succeed(command.arg("--root-squash=1001:1001"));
    let refused = std::fs::create_dir(place.join("d/new")).unwrap_err();
    let found = std::fs::metadata(place.join("d")).unwrap();
    succeed(Command::new(RINGFS).arg("umount").arg(&place));
    assert_eq!(refused.kind(), std::io::ErrorKind::PermissionDenied);
    assert!(found.is_dir());
    for bad in ["0:0", "1000", "x:y", "4294967295:1"] {
        let mut command = Command::new(RINGFS);
        command.args(["mount", &volume.url()]).arg(&place);
        let out = command.arg(format!("--root-squash={bad}")).output().unwrap();
        assert_eq!(out.status.code(), Some(2), "{bad}: {}", text(&out));
    }
}
