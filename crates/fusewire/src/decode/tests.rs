use proptest::prelude::*;

use super::*;

/// A request as the kernel would lay it out.
fn request(opcode: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&((HEADER_BYTES + body.len()) as u32).to_ne_bytes());
    bytes.extend_from_slice(&opcode.to_ne_bytes());
    bytes.extend_from_slice(&77u64.to_ne_bytes());
    bytes.extend_from_slice(&1u64.to_ne_bytes());
    for word in [1000u32, 100, 4242, 0] {
        bytes.extend_from_slice(&word.to_ne_bytes());
    }
    bytes.extend_from_slice(body);
    bytes
}

/// With `ext` as extensions, whose length the header counts in units of eight bytes.
fn request_ext(opcode: u32, body: &[u8], ext: &[u8]) -> Vec<u8> {
    let mut bytes = request(opcode, &[body, ext].concat());
    bytes[36..38].copy_from_slice(&((ext.len() / 8) as u16).to_ne_bytes());
    bytes
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

fn longs(longs: &[u64]) -> Vec<u8> {
    longs.iter().flat_map(|long| long.to_ne_bytes()).collect()
}

#[test]
fn two_names_and_flags_of_a_rename() {
    let body = [longs(&[9]), words(&[1, 0]), b"old\0new\0".to_vec()].concat();
    let bytes = request(opcode::RENAME2, &body);
    let (header, operation) = parse(&bytes, Dialect::default()).expect("well formed");
    assert_eq!((header.unique, header.nodeid, header.uid, header.pid), (77, 1, 1000, 4242));
    assert_eq!(
        operation,
        Operation::Rename { name: b"old", newparent: 9, newname: b"new", flags: 1 }
    );
}

#[test]
fn setattr_takes_only_what_is_marked_valid() {
    // MODE | SIZE | MTIME_NOW | CTIME | ATIME
    let valid = 1 | 1 << 3 | 1 << 5 | 1 << 8 | 1 << 10 | 1 << 4;
    let body = [
        words(&[valid, 0]),
        longs(&[5, 4096, 6, 100, 200, u64::MAX]),
        words(&[1, 2, 3, 0o644, 0, 7, 8, 0]),
    ]
    .concat();
    let bytes = request(opcode::SETATTR, &body);
    let (_, operation) = parse(&bytes, Dialect::default()).expect("well formed");
    let expected = SetAttr {
        mode: Some(0o644),
        size: Some(4096),
        atime: Some(TimeOrNow::At(Time { secs: 100, nanos: 1 })),
        mtime: Some(TimeOrNow::Now),
        ctime: Some(Time { secs: -1, nanos: 3 }),
        ..SetAttr::default()
    };
    assert_eq!(operation, Operation::SetAttr(expected));
}

#[test]
fn setxattr_follows_the_agreed_dialect() {
    let tail = b"user.a\0xyz";
    let short = request(opcode::SETXATTR, &[words(&[3, 1]), tail.to_vec()].concat());
    let long = request(opcode::SETXATTR, &[words(&[3, 1, 1, 0]), tail.to_vec()].concat());
    for (bytes, setxattr_ext) in [(short, false), (long, true)] {
        let (_, operation) = parse(&bytes, Dialect { setxattr_ext }).expect("well formed");
        assert_eq!(
            operation,
            Operation::SetXAttr {
                name: b"user.a",
                value: b"xyz",
                flags: 1,
                acl_kill_sgid: setxattr_ext
            }
        );
    }
}

#[test]
fn the_group_list_is_found_behind_the_arguments() {
    let ext = words(&[16, EXT_GROUPS, 1, 555]);
    let bytes =
        request_ext(opcode::MKDIR, &[words(&[0o755, 0o22]), b"d\0".to_vec()].concat(), &ext);
    let (header, operation) = parse(&bytes, Dialect::default()).expect("well formed");
    assert_eq!(operation, Operation::MkDir { name: b"d", mode: 0o755, umask: 0o22 });
    assert_eq!(header.groups, 555u32.to_ne_bytes());
}

#[test]
fn lengths_that_lie_are_refused() {
    let lookup = request(opcode::LOOKUP, b"no-end");
    let (header, error) = parse(&lookup, Dialect::default()).expect_err("no NUL");
    assert_eq!((header.map(|h| h.unique), error), (Some(77), Malformed::Unterminated));

    let forget = request(opcode::BATCH_FORGET, &words(&[u32::MAX, 0]));
    let (_, error) = parse(&forget, Dialect::default()).expect_err("count too large");
    assert_eq!(error, Malformed::Truncated);

    let mut longer = request(opcode::READLINK, &[]);
    longer.push(0);
    let (_, error) = parse(&longer, Dialect::default()).expect_err("length differs");
    assert_eq!(error, Malformed::Length { said: 40, got: 41 });

    let ext = request_ext(opcode::READLINK, &[], &words(&[u32::MAX, EXT_GROUPS]));
    let (_, error) = parse(&ext, Dialect::default()).expect_err("extension too long");
    assert_eq!(error, Malformed::Truncated);
}

/// Uses every part of a decoded request.
fn touch(bytes: &[u8], dialect: Dialect) {
    if let Ok((header, operation)) = parse(bytes, dialect) {
        let shown = format!("{header:?} {operation:?}");
        assert!(!shown.is_empty());
        if let Operation::BatchForget(list) = operation {
            assert!(list.iter().count() <= bytes.len() / 16);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    #[test]
    fn any_bytes_are_decoded_without_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        setxattr_ext: bool,
    ) {
        touch(&bytes, Dialect { setxattr_ext });
    }

    /// With a sound header, so that every operation's decoder is reached.
    #[test]
    fn any_arguments_are_decoded_without_panic(
        opcode in 0u32..60,
        body in proptest::collection::vec(prop_oneof![Just(0u8), any::<u8>()], 0..200),
        ext in proptest::collection::vec(prop_oneof![Just(0u8), any::<u8>()], 0..64),
        setxattr_ext: bool,
    ) {
        touch(&request(opcode, &body), Dialect { setxattr_ext });
        touch(&request_ext(opcode, &body, &ext), Dialect { setxattr_ext });
    }
}
