use super::*;
use crate::attr::{AttrFlags, FileKind};
use proptest::prelude::*;
use ringfs_base::{InodeId, Timestamp};

/// An ACL in the kernel's form: tag, permissions, id.
fn bytes(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut out = 2u32.to_le_bytes().to_vec();
    for (tag, perm, id) in entries {
        out.extend(tag.to_le_bytes());
        out.extend(perm.to_le_bytes());
        out.extend(id.to_le_bytes());
    }
    out
}

const NO: u32 = u32::MAX;

fn owned_by(uid: u32, gid: u32) -> Attr {
    let zero = Timestamp(0);
    Attr {
        ino: InodeId(1),
        kind: FileKind::File,
        perm: 0,
        flags: AttrFlags(0),
        nlink: 1,
        uid,
        gid,
        size: 0,
        mtime: zero,
        ctime: zero,
        atime: zero,
        btime: zero,
        rdev: 0,
        parent: None,
        entries: 0,
        buckets: 0,
    }
}

#[test]
fn lists_are_refused_as_the_kernel_refuses_them() {
    let minimal = [(1, 7, NO), (4, 5, NO), (0x20, 4, NO)];
    assert!(Acl::parse(&bytes(&minimal)).unwrap().unwrap().is_mode());
    assert_eq!(Acl::parse(&bytes(&[])), Ok(None));
    assert_eq!(Acl::parse(&[2, 0, 0]), Err(Errno::EINVAL));
    assert_eq!(Acl::parse(&[3, 0, 0, 0]), Err(Errno::EOPNOTSUPP));
    assert_eq!(Acl::parse(&[2, 0, 0, 0, 1]), Err(Errno::EINVAL));
    for bad in [
        &[(1, 7, NO), (4, 5, NO)][..],
        &[(1, 7, NO), (1, 7, NO), (4, 5, NO), (0x20, 4, NO)],
        &[(4, 5, NO), (1, 7, NO), (0x20, 4, NO)],
        &[(1, 7, NO), (2, 7, 5), (4, 5, NO), (0x20, 4, NO)],
        &[(1, 7, NO), (2, 7, NO), (4, 5, NO), (0x10, 7, NO), (0x20, 4, NO)],
        &[(1, 8, NO), (4, 5, NO), (0x20, 4, NO)],
        &[(1, 7, NO), (4, 5, NO), (0x40, 4, NO), (0x20, 4, NO)],
        &[(1, 7, NO), (4, 5, NO), (0x10, 4, NO), (0x10, 4, NO), (0x20, 4, NO)],
    ] {
        assert_eq!(Acl::parse(&bytes(bad)), Err(Errno::EINVAL), "{bad:?}");
    }
    let mut long = vec![(1, 7, NO)];
    long.extend((0..ACL_ENTRIES_MAX as u32).map(|id| (2, 7, id)));
    long.extend([(4, 5, NO), (0x10, 7, NO), (0x20, 4, NO)]);
    assert_eq!(Acl::parse(&bytes(&long)), Err(Errno::E2BIG));
}

#[test]
fn users_groups_and_mask_decide_as_acl_5_says() {
    let acl = bytes(&[
        (1, 0, NO),
        (2, 7, 1000),
        (2, 0, 1001),
        (4, 4, NO),
        (8, 2, 50),
        (0x10, 6, NO),
        (0x20, 1, NO),
    ]);
    let acl = Acl::parse(&acl).unwrap().unwrap();
    assert_eq!((acl.perm(), acl.is_mode()), (0o061, false));
    let file = owned_by(7, 70);
    let may = |user, groups: &[u32], want| acl.permits(&file, user, |g| groups.contains(&g), want);
    assert!(!may(7, &[70, 50], 4), "the owner's entry alone counts for the owner");
    assert!(may(1000, &[], 6) && !may(1000, &[], 1), "a user, within the mask");
    assert!(!may(1001, &[70], 4), "a user's entry wins over groups");
    assert!(may(8, &[70], 4) && may(8, &[50], 2));
    assert!(!may(8, &[70, 50], 6), "one entry must allow all that is wanted");
    assert!(!may(8, &[70], 1), "whoever is in a group is none of the others");
    assert!(may(8, &[9], 1) && !may(8, &[9], 4));
}

proptest! {
    #[test]
    fn any_bytes_are_refused_or_survive_a_round_trip(
        version in prop_oneof![Just(2u32), any::<u32>()],
        entries in proptest::collection::vec(
            (prop::sample::select(vec![1u16, 2, 4, 8, 16, 32, 64]), 0u16..9, any::<u32>()), 0..8),
        tail in proptest::collection::vec(any::<u8>(), 0..9),
    ) {
        let mut value = bytes(&entries);
        value[..4].copy_from_slice(&version.to_le_bytes());
        value.extend(tail);
        if let Ok(Some(acl)) = Acl::parse(&value) {
            prop_assert_eq!(acl.encode().len(), value.len());
            prop_assert_eq!(Acl::parse(&acl.encode()), Ok(Some(acl)));
        }
    }

    #[test]
    fn foreign_bytes_never_panic(value in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _parsed = Acl::parse(&value);
    }
}
