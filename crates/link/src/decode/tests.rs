use super::*;
use proptest::prelude::*;

fn decode_all(bytes: &[u8]) -> Result<Vec<Reply>, Violation> {
    super::decode_all(bytes, 0)
}

fn bulk(bytes: &'static [u8]) -> Reply {
    Reply::Bulk(Bytes::from_static(bytes))
}

#[test]
fn every_type_of_resp2_and_resp3() {
    let wire = b"+OK\r\n-ERR no\r\n:-42\r\n$3\r\na\r\n\r\n$-1\r\n*-1\r\n*2\r\n:1\r\n$0\r\n\r\n_\r\n#t\r\n,1.5\r\n,inf\r\n\
        (123\r\n!5\r\nERR x\r\n=6\r\ntxt:hi\r\n%1\r\n+k\r\n:1\r\n~1\r\n:2\r\n>1\r\n+m\r\n|1\r\n+a\r\n:9\r\n:3\r\n*0\r\n|0\r\n:4\r\n";
    let expected = vec![
        Reply::Text("OK".into()),
        Reply::Error("ERR no".into()),
        Reply::Int(-42),
        bulk(b"a\r\n"),
        Reply::Nil,
        Reply::Nil,
        Reply::Array(vec![Reply::Int(1), bulk(b"")]),
        Reply::Nil,
        Reply::Bool(true),
        Reply::Double(1.5),
        Reply::Double(f64::INFINITY),
        Reply::Text("123".into()),
        Reply::Error("ERR x".into()),
        bulk(b"hi"),
        Reply::Map(vec![(Reply::Text("k".into()), Reply::Int(1))]),
        Reply::Array(vec![Reply::Int(2)]),
        Reply::Push(vec![Reply::Text("m".into())]),
        Reply::Int(3),
        Reply::Array(vec![]),
        Reply::Int(4),
    ];
    assert_eq!(decode_all(wire), Ok(expected));
}

#[test]
fn nonsense_is_refused_at_once() {
    for bytes in [
        &b"HTTP/1.1 400 Bad Request\r\n"[..],
        b"SSH-2.0-OpenSSH\r\n",
        b"\0\0\0\0",
        b"\r\n",
        b"+\n",
        b"$99999999999\r\n",
        b"$536870913\r\n",
        b"$-2\r\n",
        b"$1x\r\n",
        b"$?\r\n",
        b"$1\r\nab\r\n",
        b"*999999999\r\n",
        b"*4194304\r\n*4194304\r\n",
        b"%2097153\r\n",
        b":\r\n",
        b":99999999999999999999\r\n",
        b"#x\r\n",
        b",nope\r\n",
        b"*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n",
    ] {
        assert!(decode_all(bytes).is_err(), "{}", bytes.escape_ascii());
    }
    assert!(decode_all(&[b'+'; LINE_BYTES_MAX + 1]).is_err());
}

#[test]
fn a_huge_announcement_allocates_only_a_head_start() {
    let mut decoder = Decoder::new();
    decoder.target().extend_from_slice(b"$536870912\r\nabc");
    assert_eq!(decoder.next(), Ok(None));
    assert!(decoder.target().capacity() <= HEAD_START_BYTES_MAX + 64);
}

/// Feeds `bytes` in pieces of the given sizes, over and over.
fn decode_in_pieces(bytes: &[u8], sizes: &[usize]) -> Result<Vec<Reply>, Violation> {
    let mut decoder = Decoder::new();
    let mut replies = Vec::new();
    let mut rest = bytes;
    for &size in sizes.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, after) = rest.split_at(size.clamp(1, rest.len()));
        // As a socket does: never more than the spare capacity.
        let room = {
            let target = decoder.target();
            target.capacity() - target.len()
        };
        assert!(room > 0);
        let (piece, again) = piece.split_at(piece.len().min(room));
        decoder.target().extend_from_slice(piece);
        rest = if again.is_empty() { after } else { &rest[piece.len()..] };
        while let Some(reply) = decoder.next()? {
            replies.push(reply);
        }
    }
    Ok(replies)
}

fn encode(reply: &Reply, out: &mut Vec<u8>) {
    let mut head =
        |sigil: char, n: usize| out.extend_from_slice(format!("{sigil}{n}\r\n").as_bytes());
    match reply {
        Reply::Nil => out.extend_from_slice(b"_\r\n"),
        Reply::Int(value) => out.extend_from_slice(format!(":{value}\r\n").as_bytes()),
        Reply::Double(value) => out.extend_from_slice(format!(",{value}\r\n").as_bytes()),
        Reply::Bool(value) => out.extend_from_slice(if *value { b"#t\r\n" } else { b"#f\r\n" }),
        Reply::Text(text) => out.extend_from_slice(&[b"+", &text[..], b"\r\n"].concat()),
        Reply::Error(text) => out.extend_from_slice(&[b"-", &text[..], b"\r\n"].concat()),
        Reply::Bulk(data) => {
            head('$', data.len());
            out.extend_from_slice(data);
            out.extend_from_slice(b"\r\n");
        }
        Reply::Array(items) => {
            head('*', items.len());
            items.iter().for_each(|item| encode(item, out));
        }
        Reply::Push(items) => {
            head('>', items.len());
            items.iter().for_each(|item| encode(item, out));
        }
        Reply::Map(pairs) => {
            head('%', pairs.len());
            pairs.iter().for_each(|(key, value)| {
                encode(key, out);
                encode(value, out);
            });
        }
    }
}

fn replies() -> impl Strategy<Value = Reply> {
    let line = prop::collection::vec(32u8..127, 0..40);
    let data = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..100),
        (any::<u8>(), 0..40_000usize).prop_map(|(byte, size)| vec![byte; size]),
    ];
    let leaf = prop_oneof![
        Just(Reply::Nil),
        any::<i64>().prop_map(Reply::Int),
        any::<bool>().prop_map(Reply::Bool),
        any::<i32>().prop_map(|value| Reply::Double(f64::from(value) / 8.0)),
        line.clone().prop_map(|text| Reply::Text(text.into())),
        line.prop_map(|text| Reply::Error(text.into())),
        data.prop_map(|data| Reply::Bulk(data.into())),
    ];
    leaf.prop_recursive(4, 40, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Reply::Array),
            prop::collection::vec(inner.clone(), 0..8).prop_map(Reply::Push),
            prop::collection::vec((inner.clone(), inner), 0..4).prop_map(Reply::Map),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn replies_survive_however_they_are_cut(
        expected in prop::collection::vec(replies(), 1..5),
        sizes in prop::collection::vec(1..20_000usize, 1..6),
        small in prop::collection::vec(1..40usize, 1..6),
    ) {
        let mut wire = Vec::new();
        expected.iter().for_each(|reply| encode(reply, &mut wire));
        prop_assert_eq!(decode_in_pieces(&wire, &sizes), Ok(expected.clone()));
        prop_assert_eq!(decode_in_pieces(&wire, &small), Ok(expected));
    }

    #[test]
    fn any_bytes_give_replies_or_a_violation(
        bytes in prop::collection::vec(
            prop_oneof![4 => prop::sample::select(&b"+-:$*_#,(!=%~>|0123456789\r\n"[..]), 1 => any::<u8>()],
            0..200,
        ),
        sizes in prop::collection::vec(1..20usize, 1..6),
    ) {
        let whole = decode_in_pieces(&bytes, &[usize::MAX]);
        let pieces = decode_in_pieces(&bytes, &sizes);
        prop_assert_eq!(whole.is_ok(), pieces.is_ok());
        if let (Ok(whole), Ok(pieces)) = (whole, pieces) {
            prop_assert_eq!(format!("{whole:?}"), format!("{pieces:?}"));
        }
    }

    #[test]
    fn a_damaged_stream_never_panics(
        expected in replies(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut wire = Vec::new();
        encode(&expected, &mut wire);
        let at = at.index(wire.len());
        wire[at] = byte;
        // Whether it is noticed depends on the byte; that it is survived does not.
        drop(decode_in_pieces(&wire, &[7, 4096]));
    }
}
