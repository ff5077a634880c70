//! ACLs on a real server: how the scripts keep, change and pass them on.

#![allow(clippy::unwrap_used, reason = "a test that fails shall panic")]

mod fixture;

use fixture::*;
use proptest::prelude::*;
use ringfs_base::{Errno, InodeId};
use ringfs_meta::*;

const ROOT: InodeId = InodeId::ROOT;
const NO: u32 = u32::MAX;

/// Entries in the kernel's form: tag, permissions, id.
fn acl(entries: &[(u16, u16, u32)]) -> Acl {
    let mut out = 2u32.to_le_bytes().to_vec();
    for (tag, perm, id) in entries {
        out.extend(tag.to_le_bytes());
        out.extend(perm.to_le_bytes());
        out.extend(id.to_le_bytes());
    }
    Acl::parse(&out).unwrap().unwrap()
}

/// With a named user or without, with a mask or without, whatever the permissions.
fn any_acl() -> impl Strategy<Value = Acl> {
    let perm = || 0u16..8;
    let named = proptest::option::of((perm(), perm(), proptest::option::of(perm())));
    (perm(), perm(), perm(), named).prop_map(|(owner, group, others, named)| {
        let mut entries = vec![(1, owner, NO)];
        if let Some((user, _, _)) = named {
            entries.push((2, user, 1000));
        }
        entries.push((4, group, NO));
        if let Some((_, mask, other_group)) = named {
            if let Some(perm) = other_group {
                entries.push((8, perm, 50));
            }
            entries.push((0x10, mask, NO));
        }
        entries.push((0x20, others, NO));
        acl(&entries)
    })
}

/// The ACL with owner, group class and others changed; the reference for what the scripts do.
fn changed(old: &Acl, perm: u16, change: impl Fn(u16, u16) -> u16) -> Acl {
    let masked = old.entries().iter().any(|entry| entry.tag == AclTag::Mask);
    let mut bytes = old.encode();
    for (i, entry) in old.entries().iter().enumerate() {
        let bits = match entry.tag {
            AclTag::Owner => perm >> 6,
            AclTag::OwningGroup if !masked => perm >> 3,
            AclTag::Mask => perm >> 3,
            AclTag::Others => perm,
            _ => continue,
        };
        bytes[4 + 8 * i + 2] = change(entry.perm, bits & 7) as u8;
    }
    Acl::parse(&bytes).unwrap().unwrap()
}

fn stored(s: &Session, attr: &Attr, kind: AclKind) -> Option<Acl> {
    match s.getxattr(attr.ino, kind.xattr()) {
        Ok(value) => Some(Acl::parse(&value).unwrap().unwrap()),
        Err(e) => {
            assert_eq!(posix(e), Errno::ENODATA);
            None
        }
    }
}

/// Flags, key and permission bits agree.
fn assert_sound(s: &Session, attr: &Attr) {
    assert_eq!(s.getattr(attr.ino).unwrap(), *attr);
    let (access, default) = (stored(s, attr, AclKind::Access), stored(s, attr, AclKind::Default));
    assert_eq!(attr.flags.has(AttrFlags::ACL_ACCESS), access.is_some());
    assert_eq!(attr.flags.has(AttrFlags::ACL_DEFAULT), default.is_some());
    assert_eq!(attr.flags.has(AttrFlags::XATTRS), access.is_some() || default.is_some());
    if let Some(access) = access {
        assert!(!access.is_mode());
        assert_eq!(access.perm(), attr.perm & 0o777);
    }
}

#[test]
fn an_access_acl_and_the_permission_bits_follow_each_other() {
    let f = Fixture::new();
    let s = &f.session;
    let file = s.create(ROOT, b"f", &NewInode { perm: 0o2644, ..file() }, t(1)).unwrap().attr.ino;
    let list = acl(&[(1, 6, NO), (2, 7, 1000), (4, 4, NO), (0x10, 5, NO), (0x20, 1, NO)]);
    let attr = s.set_acl(file, AclKind::Access, Some(&list), false, t(2)).unwrap();
    assert_eq!(attr.perm, 0o2651);
    assert_sound(s, &attr);
    let change = SetAttr { perm: Some(0o2720), ..SetAttr::default() };
    let attr = s.setattr(file, &change, t(3)).unwrap().attr;
    assert_sound(s, &attr);
    let now = stored(s, &attr, AclKind::Access).unwrap();
    assert_eq!(now, changed(&list, 0o720, |_, bits| bits));
    let attr = s.set_acl(file, AclKind::Access, Some(&list), true, t(4)).unwrap();
    assert_eq!(attr.perm, 0o651, "who is not in the group loses the set-group-id bit");
    let plain = acl(&[(1, 6, NO), (4, 0, NO), (0x20, 4, NO)]);
    let attr = s.set_acl(file, AclKind::Access, Some(&plain), false, t(5)).unwrap();
    assert_eq!((attr.perm, attr.flags.0 & 0xfff4), (0o604, 0), "a list like the bits is not kept");
    assert_sound(s, &attr);
    s.set_acl(file, AclKind::Access, Some(&list), false, t(6)).unwrap();
    let attr = s.set_acl(file, AclKind::Access, None, false, t(7)).unwrap();
    assert_eq!(attr.perm, 0o651, "removing it leaves the bits");
    assert_sound(s, &attr);
    assert_sound(s, &s.set_acl(file, AclKind::Access, None, false, t(8)).unwrap());
}

#[test]
fn acls_stand_where_they_can_only() {
    let f = Fixture::new();
    let s = &f.session;
    let list = acl(&[(1, 6, NO), (4, 0, NO), (0x20, 4, NO)]);
    let file = s.create(ROOT, b"f", &file(), t(1)).unwrap().attr;
    let refused = s.set_acl(file.ino, AclKind::Default, Some(&list), false, t(2)).unwrap_err();
    assert_eq!(posix(refused), Errno::EACCES);
    assert_eq!(s.set_acl(file.ino, AclKind::Default, None, false, t(2)).unwrap(), file);
    let link = NewInode { kind: FileKind::Symlink, target: b"t", ..fixture::file() };
    let link = s.create(ROOT, b"l", &link, t(1)).unwrap().attr.ino;
    let refused = s.set_acl(link, AclKind::Access, Some(&list), false, t(2)).unwrap_err();
    assert_eq!(posix(refused), Errno::EOPNOTSUPP);
    let gone = s.set_acl(InodeId(9999), AclKind::Access, Some(&list), false, t(2)).unwrap_err();
    assert_eq!(posix(gone), Errno::ESTALE);
    // They are among the extended attributes and go with them.
    let d = s.create(ROOT, b"d", &dir(), t(1)).unwrap().attr.ino;
    s.setxattr(d, b"user.a", b"1", XattrMode::Either, t(2)).unwrap();
    s.set_acl(d, AclKind::Default, Some(&list), false, t(3)).unwrap();
    assert_eq!(s.listxattr(d).unwrap(), [ACL_DEFAULT_XATTR, b"user.a"]);
    let attr = s.removexattr(d, b"user.a", t(4)).unwrap();
    assert_sound(s, &attr);
    s.rmdir(ROOT, b"d", Victim::NotOpen(d), t(5)).unwrap();
    let keys = f.server.command(&["KEYS", "*:e*"]).into_array().unwrap();
    assert!(keys.is_empty());
}

#[test]
fn the_umask_counts_where_no_default_acl_is() {
    let f = Fixture::new();
    let s = &f.session;
    let new = NewInode { perm: 0o2666, umask: 0o027, ..file() };
    assert_eq!(s.create(ROOT, b"a", &new, t(1)).unwrap().attr.perm, 0o2640);
    let open = acl(&[(1, 7, NO), (4, 7, NO), (0x20, 7, NO)]);
    s.set_acl(ROOT, AclKind::Default, Some(&open), false, t(2)).unwrap();
    let made = s.create(ROOT, b"b", &new, t(3)).unwrap();
    assert_eq!(made.attr.perm, 0o2666);
    assert_sound(s, &made.attr);
    assert_eq!(s.create(ROOT, b"b", &new, t(4)).unwrap().attr, made.attr);
    // A symbolic link inherits nothing.
    let link = NewInode { kind: FileKind::Symlink, perm: 0o777, target: b"t", ..file() };
    let link = s.create(ROOT, b"l", &link, t(5)).unwrap().attr;
    assert_eq!((link.perm, link.flags.0), (0o777, AttrFlags::INLINE));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]
    #[test]
    fn what_is_made_inherits_and_chmod_is_followed(
        rounds in proptest::collection::vec((any_acl(), 0u16..0o1000, 0u16..0o1000, any::<bool>()), 40)
    ) {
        let f = Fixture::new();
        let s = &f.session;
        for (i, (list, perm, chmod, is_dir)) in rounds.iter().enumerate() {
            let parent = s.create(ROOT, format!("p{i}").as_bytes(), &dir(), t(1)).unwrap().attr.ino;
            let attr = s.set_acl(parent, AclKind::Default, Some(list), false, t(2)).unwrap();
            prop_assert_eq!(attr.perm, 0o755);
            assert_sound(s, &attr);
            let kind = if *is_dir { FileKind::Directory } else { FileKind::File };
            let new = NewInode { kind, perm: *perm, umask: 0o077, ..file() };
            let made = s.create(parent, b"x", &new, t(3)).unwrap();
            assert_sound(s, &made.attr);
            let expected = changed(list, *perm, |has, bits| has & bits);
            prop_assert_eq!(made.attr.perm, expected.perm());
            let access = stored(s, &made.attr, AclKind::Access);
            prop_assert_eq!(access.clone(), (!expected.is_mode()).then_some(expected));
            let default = stored(s, &made.attr, AclKind::Default);
            prop_assert_eq!(default, is_dir.then(|| list.clone()));
            let change = SetAttr { perm: Some(*chmod), ..SetAttr::default() };
            let attr = s.setattr(made.attr.ino, &change, t(4)).unwrap().attr;
            assert_sound(s, &attr);
            let now = stored(s, &attr, AclKind::Access);
            prop_assert_eq!(now, access.map(|acl| changed(&acl, *chmod, |_, bits| bits)));
        }
    }
}
