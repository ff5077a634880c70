//! Everyday use against a real server, over TCP and over a Unix socket.

use ringfs_link::{Cmd, Conn, Pool, Reply, Script, Timeouts, gather, gather_some};
use ringfs_testkit::{RedisServer, ServerOptions};
use std::time::{Duration, Instant};

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

fn servers() -> [RedisServer; 2] {
    let unix = ServerOptions { unix_socket: true, ..ServerOptions::default() };
    [RedisServer::start_default(), RedisServer::start(unix)]
}

#[test]
fn commands_pipelines_and_scripts() {
    static ADD: Script =
        Script::from_static("add", "return redis.call('INCRBY', KEYS[1], ARGV[1])");
    for server in servers() {
        let mut conn = Conn::open(&server.endpoint(), &Timeouts::default()).unwrap();
        assert!(conn.server_version().at_least(6, 0));
        assert_eq!(conn.call(&Cmd::new("PING")), Ok(Reply::Text("PONG".into())));
        assert_eq!(conn.call(&Cmd::new("GET").arg("nothing")), Ok(Reply::Nil));
        let replies = conn
            .pipeline(&[
                Cmd::new("SET").arg("k").arg("v"),
                Cmd::new("LPUSH").arg("k").arg("x"),
                Cmd::new("GET").arg("k"),
            ])
            .unwrap();
        assert_eq!(replies[0], Ok(Reply::Text("OK".into())));
        assert_eq!(replies[1].as_ref().unwrap_err().code(), Some("WRONGTYPE"));
        assert_eq!(replies[2], Ok(Reply::Bulk("v".into())));
        for sum in [5, 10] {
            assert_eq!(conn.eval(&ADD, &[b"n"], &[b"5"]), Ok(Reply::Int(sum)));
        }
        assert_eq!(server.commandstats()["script|load"], 1);
        assert!(conn.is_reusable());
    }
}

#[test]
fn large_values_travel_unharmed() {
    for server in servers() {
        let mut conn = server.conn();
        for size in [0, 1, 4095, 4096, 4097, 8190, 16 << 10, 255 * 4096, 9 << 20, 40 << 20] {
            let value: Vec<u8> = (0..size).map(|i: usize| (i ^ (i >> 8)) as u8).collect();
            let (a, b) = value.split_at(size / 3);
            conn.call(&Cmd::new("SET").arg("k").payload_parts(&[a, b])).unwrap();
            let reply =
                conn.call(&Cmd::new("GET").arg("k")).unwrap().into_bytes().unwrap().unwrap();
            assert!(reply == value, "{size}");
            let mut buf = vec![0; size + 1];
            conn.send(&Cmd::new("GET").arg("k"), soon()).unwrap();
            conn.send(&Cmd::new("GET").arg("missing"), soon()).unwrap();
            assert_eq!(conn.recv_into(&mut buf, soon()), Ok(Some(size)));
            assert!(buf[..size] == value, "{size}");
            assert_eq!(conn.recv_into(&mut buf, soon()), Ok(None));
            assert!(conn.is_reusable());
        }
    }
}

#[test]
fn a_pool_reuses_connections() {
    let server = RedisServer::start_default();
    let pool = Pool::new(server.endpoint(), Timeouts::default());
    let id = |conn: &mut Conn| conn.call(&Cmd::new("CLIENT").arg("ID")).unwrap();
    let first = id(&mut pool.get().unwrap());
    assert_eq!(id(&mut pool.get().unwrap()), first);
    let (mut a, mut b) = (pool.get().unwrap(), pool.get().unwrap());
    assert_ne!(id(&mut a), id(&mut b));
}

#[test]
fn gather_writes_large_values_to_all_servers_at_once() {
    let servers: Vec<RedisServer> = (0..4).map(|_| RedisServer::start_default()).collect();
    let value = vec![7; 8 << 20];
    let mut conns: Vec<Conn> = servers.iter().map(RedisServer::conn).collect();
    let set = Cmd::new("SET").arg("k").payload(&value);
    let mut targets: Vec<(&mut Conn, &Cmd<'_>)> =
        conns.iter_mut().map(|conn| (conn, &set)).collect();
    for reply in gather(&mut targets, soon()) {
        assert_eq!(reply, Ok(Reply::Text("OK".into())));
    }
    let gets = [Cmd::new("GET").arg("k"), Cmd::new("STRLEN").arg("k"), Cmd::new("LLEN").arg("k")];
    let mut targets: Vec<(&mut Conn, &[Cmd<'_>])> =
        conns.iter_mut().map(|conn| (conn, &gets[..])).collect();
    for replies in gather_some(&mut targets, soon()) {
        assert!(replies[0].clone().unwrap().into_some_bytes().unwrap() == value);
        assert_eq!(replies[1], Ok(Reply::Int(8 << 20)));
        assert_eq!(replies[2].as_ref().unwrap_err().code(), Some("WRONGTYPE"));
    }
    assert!(conns.iter().all(Conn::is_reusable));
}
