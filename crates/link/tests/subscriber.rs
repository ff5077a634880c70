//! Listening, and noticing that there is nothing to listen to any more.

use ringfs_link::{Cmd, Endpoint, LinkError, Subscriber, Timeouts};
use ringfs_testkit::{Direction, Proxy, RedisServer};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(20);
const SHORT: Timeouts =
    Timeouts { connect: Duration::from_secs(5), reply: Duration::from_millis(300) };

#[test]
fn messages_arrive_in_order_with_any_bytes() {
    let server = RedisServer::start_default();
    let mut heard = Subscriber::open(&server.endpoint(), &Timeouts::default()).unwrap();
    heard.subscribe(b"inv").unwrap();
    heard.subscribe(b"more").unwrap();
    assert_eq!(heard.next(Duration::ZERO), Ok(None));
    let mut conn = server.conn();
    let large = vec![0xee; 300_000];
    for message in [&b"a"[..], b"", b"\r\n\0", &large] {
        conn.call(&Cmd::new("PUBLISH").arg("inv").payload(message)).unwrap();
    }
    conn.call(&Cmd::new("PUBLISH").arg("elsewhere").arg("no")).unwrap();
    conn.call(&Cmd::new("PUBLISH").arg("more").arg("last")).unwrap();
    for message in [&b"a"[..], b"", b"\r\n\0", &large, b"last"] {
        assert_eq!(heard.next(LIMIT), Ok(Some(message.to_vec())));
    }
    // Through a time of silence with a question and its answer.
    assert_eq!(heard.next(Duration::from_millis(2300)), Ok(None));
    assert_eq!(server.commandstats()["ping"], 2);
    conn.call(&Cmd::new("PUBLISH").arg("inv").arg("again")).unwrap();
    assert_eq!(heard.next(LIMIT), Ok(Some(b"again".to_vec())));
}

#[test]
fn a_cut_and_a_frozen_server_are_errors() {
    let server = RedisServer::start_default();
    let proxy = Proxy::start(server.address());
    let ep = Endpoint::parse(&proxy.url()).unwrap();
    let mut heard = Subscriber::open(&ep, &SHORT).unwrap();
    heard.subscribe(b"inv").unwrap();
    proxy.cut();
    assert!(matches!(heard.next(LIMIT), Err(LinkError::Lost { .. })));

    let mut heard = Subscriber::open(&ep, &SHORT).unwrap();
    heard.subscribe(b"inv").unwrap();
    proxy.block(Direction::ToServer);
    let begun = Instant::now();
    assert!(matches!(heard.next(LIMIT), Err(LinkError::TimedOut { .. })));
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
}
