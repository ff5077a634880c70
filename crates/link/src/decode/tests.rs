use super::*;

fn decode_all(bytes: &[u8]) -> Result<Vec<Reply>, Violation> {
    let mut decoder = Decoder::new();
    decoder.append(bytes);
    let mut replies = Vec::new();
    while let Some(reply) = decoder.next()? {
        replies.push(reply);
    }
    Ok(replies)
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
    decoder.append(b"$536870912\r\nabc");
    assert_eq!(decoder.next(), Ok(None));
    assert!(decoder.target().capacity() <= HEAD_START_BYTES_MAX + 64);
}
