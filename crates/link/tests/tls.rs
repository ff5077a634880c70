//! Trust is all or nothing: a connection that cannot be trusted is refused and nothing is sent in
//! the clear.

use ringfs_link::{Cmd, Conn, Endpoint, LinkError, Reply, Subscriber, Timeouts, TlsFiles, gather};
use ringfs_testkit::{CertKind, Proxy, RedisServer, ServerOptions, TlsOptions};
use std::time::{Duration, Instant};

const PATIENT: Timeouts =
    Timeouts { connect: Duration::from_secs(10), reply: Duration::from_secs(20) };

fn start(cert: CertKind, ask_client: bool) -> RedisServer {
    RedisServer::start(ServerOptions {
        tls: Some(TlsOptions { cert, ask_client }),
        password: Some("pw-canary".into()),
        ..ServerOptions::default()
    })
}

#[test]
fn small_and_large_values_pubsub_and_gather() {
    let servers = [start(CertKind::Good, true), start(CertKind::Good, false)];
    let mut conns: Vec<Conn> =
        servers.iter().map(|s| Conn::open(&s.endpoint(), &PATIENT).unwrap()).collect();
    for conn in &mut conns {
        assert_eq!(conn.call(&Cmd::new("PING")), Ok(Reply::Text("PONG".into())));
        for size in [0, 10, 20_000, 255 * 4096, 9 << 20] {
            let value: Vec<u8> = (0..size).map(|i: usize| (i ^ (i >> 8)) as u8).collect();
            conn.call(&Cmd::new("SET").arg("k").payload(&value)).unwrap();
            assert!(
                conn.call(&Cmd::new("GET").arg("k")).unwrap().into_some_bytes().unwrap() == value
            );
            let (mut buf, deadline) = (vec![0; size], Instant::now() + PATIENT.reply);
            conn.send(&Cmd::new("GET").arg("k"), deadline).unwrap();
            assert_eq!(conn.recv_into(&mut buf, deadline), Ok(Some(size)));
            assert!(buf == value && conn.is_reusable());
        }
    }
    let value = vec![9; 8 << 20];
    for cmd in [Cmd::new("SET").arg("k").payload(&value), Cmd::new("GET").arg("k")] {
        let mut targets: Vec<(&mut Conn, &Cmd<'_>)> =
            conns.iter_mut().map(|conn| (conn, &cmd)).collect();
        for reply in gather(&mut targets, Instant::now() + PATIENT.reply) {
            let bytes = reply.unwrap().into_some_bytes().unwrap();
            assert!(bytes == "OK" || bytes == value);
        }
    }
    let mut heard = Subscriber::open(&servers[0].endpoint(), &PATIENT).unwrap();
    heard.subscribe(b"c").unwrap();
    conns[0].call(&Cmd::new("PUBLISH").arg("c").arg("m")).unwrap();
    assert_eq!(heard.next(PATIENT.reply), Ok(Some(b"m".to_vec())));
}

#[test]
fn bad_certificates_are_refused_with_their_reason() {
    for (kind, reason) in [
        (CertKind::Expired, "has expired"),
        (CertKind::WrongHost, "for another host"),
        (CertKind::WrongAuthority, "not trusted"),
    ] {
        let server = start(kind, false);
        // On the first and on every later connection.
        for _ in 0..2 {
            let e = Conn::open(&server.endpoint(), &PATIENT).unwrap_err();
            assert!(matches!(&e, LinkError::Tls { cause, .. } if cause.contains(reason)), "{e:?}");
            assert!(e.not_sent() && !e.retryable());
        }
    }
}

#[test]
fn a_missing_client_certificate_and_missing_files_are_named() {
    let server = start(CertKind::Good, true);
    let files = server.tls_files().unwrap();
    let without = TlsFiles { cert: None, key: None, ..files.clone() };
    let e = Conn::open(&server.endpoint().with_tls(without), &PATIENT).unwrap_err();
    assert!(
        matches!(&e, LinkError::Tls { cause, .. } if cause.contains("client certificate")),
        "{e:?}"
    );
    for files in [
        TlsFiles { ca: Some("/nonexistent/ca.pem".into()), ..files.clone() },
        TlsFiles { key: None, ..files.clone() },
        TlsFiles { ca: files.key.clone(), ..files.clone() },
    ] {
        let e = Conn::open(&server.endpoint().with_tls(files), &PATIENT).unwrap_err();
        assert!(matches!(e, LinkError::Tls { .. }), "{e:?}");
    }
}

#[test]
fn plain_and_tls_do_not_mix() {
    let plain = RedisServer::start_default();
    let tls = start(CertKind::Good, false);
    // Each server waits for the rest of what it takes for a greeting.
    let short = Timeouts { connect: Duration::from_millis(200), ..PATIENT };
    let as_tls = plain.endpoint().with_tls(tls.tls_files().unwrap());
    let e = Conn::open(&as_tls, &short).unwrap_err();
    assert!(e.not_sent(), "{e:?}");
    let url = format!("redis://{}:{}", tls.address().0, tls.address().1);
    assert!(Conn::open(&Endpoint::parse(&url).unwrap(), &short).is_err());
}

#[test]
fn nothing_readable_is_on_the_wire() {
    let canary = b"canary-canary-canary";
    for encrypted in [false, true] {
        let server =
            if encrypted { start(CertKind::Good, false) } else { RedisServer::start_default() };
        let proxy = Proxy::start(server.address());
        proxy.record();
        let mut ep = Endpoint::parse(&proxy.url()).unwrap();
        if let Some(files) = server.tls_files() {
            ep = ep
                .with_tls(files)
                .with_credentials(None, Some(ringfs_link::Secret::new("pw-canary")));
        }
        let mut conn = Conn::open(&ep, &PATIENT).unwrap();
        conn.call(&Cmd::new("SET").arg("k").arg(canary)).unwrap();
        assert_eq!(conn.call(&Cmd::new("GET").arg("k")), Ok(Reply::Bulk(canary[..].into())));
        assert_eq!(proxy.recorded(canary), !encrypted);
        assert!(!proxy.recorded(b"pw-canary"));
    }
}
