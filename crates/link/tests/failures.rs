//! What callers learn when servers die, hang, refuse or talk nonsense, and how soon.

use ringfs_link::{
    Bystander, Cmd, Conn, Endpoint, Fault, Faults, Health, LinkError, Pool, Reply, Secret,
    ServerName, Timeouts, gather, set_bystander, wait_any,
};
use ringfs_testkit::{
    AclUser, Direction, Nonsense, NonsenseServer, Proxy, RedisServer, ServerOptions,
};
use std::sync::Arc;
use std::time::{Duration, Instant};

const SHORT: Timeouts =
    Timeouts { connect: Duration::from_millis(300), reply: Duration::from_millis(300) };
/// Far more than anything here takes on a loaded machine.
const LIMIT: Duration = Duration::from_secs(20);

fn ping() -> Cmd<'static> {
    Cmd::new("PING")
}

fn open(url: &str) -> Result<Conn, LinkError> {
    Conn::open(&Endpoint::parse(url).expect("a good URL"), &SHORT)
}

/// Repeats until the pool gives a connection that answers.
fn recovers(pool: &Pool) {
    let limit = Instant::now() + LIMIT;
    loop {
        match pool.get().and_then(|mut conn| conn.call(&ping())) {
            Ok(_) => return,
            Err(e) => assert!(Instant::now() < limit, "{e}"),
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn wrong_credentials_are_refused_without_being_shown() {
    let server = RedisServer::start(ServerOptions {
        password: Some("right".into()),
        ..ServerOptions::default()
    });
    for (user, password) in
        [(None, None), (None, Some("hunter2")), (Some("nobody"), Some("hunter2"))]
    {
        let ep =
            server.endpoint().with_credentials(user.map(str::to_owned), password.map(Secret::new));
        let e = Conn::open(&ep, &SHORT).unwrap_err();
        assert!(matches!(e, LinkError::Auth { .. }), "{e:?}");
        assert!(e.not_sent() && !e.outcome_unknown() && !e.retryable());
        let shown = format!("{e} {e:?} {ep} {ep:?}");
        assert!(
            shown.contains(&server.address().1.to_string()) && !shown.contains("hunter2"),
            "{shown}"
        );
    }
    assert!(Conn::open(&Endpoint::parse(&server.url()).unwrap(), &SHORT).is_ok());
}

#[test]
fn acl_users_can_do_what_they_may() {
    let user =
        AclUser { name: "vol".into(), password: "p%:/@w".into(), rules: "~rfb:* +get +set".into() };
    let options = ServerOptions {
        password: Some("admin".into()),
        users: vec![user],
        ..ServerOptions::default()
    };
    let server = RedisServer::start(options);
    let mut conn = Conn::open(&server.endpoint_as("vol"), &SHORT).unwrap();
    assert_eq!(conn.call(&Cmd::new("SET").arg("rfb:a").arg("1")), Ok(Reply::Text("OK".into())));
    assert!(conn.call(&Cmd::new("GET").arg("other")).unwrap_err().is_noperm());
    assert!(conn.call(&Cmd::new("FLUSHALL")).unwrap_err().is_noperm());
    let url = format!("redis://vol:p%25%3A%2F%40w@{}:{}", server.address().0, server.address().1);
    assert!(open(&url).is_ok());
}

#[test]
fn databases_are_selected() {
    let server = RedisServer::start_default();
    let mut conn = open(&format!("{}/3", server.url())).unwrap();
    conn.call(&Cmd::new("SET").arg("k").arg("v")).unwrap();
    assert_eq!(server.command(&["GET", "k"]), Reply::Nil);
    assert_eq!(open(&format!("{}/999", server.url())).unwrap_err().code(), Some("ERR"));
}

#[test]
fn a_full_server_is_recognised() {
    let server =
        RedisServer::start(ServerOptions { maxmemory: Some(1), ..ServerOptions::default() });
    let mut conn = server.conn();
    let e = conn.call(&Cmd::new("SET").arg("k").arg("v")).unwrap_err();
    assert!(e.is_oom() && !e.outcome_unknown() && !e.breaks_connection(), "{e:?}");
    let script = ringfs_link::Script::new("set", "return redis.call('SET', KEYS[1], 'v')");
    assert!(conn.eval(&script, &[b"k"], &[]).unwrap_err().is_oom());
    assert!(conn.call(&ping()).is_ok());
}

#[test]
fn a_frozen_server_costs_one_time_out_and_then_nothing() {
    let server = RedisServer::start_default();
    let pool = Pool::new(server.endpoint(), SHORT);
    let mut conn = pool.get().unwrap();
    let spare = pool.get().unwrap();
    drop(spare);
    server.stop();
    let begun = Instant::now();
    let e = conn.call(&ping()).unwrap_err();
    assert!(
        matches!(&e, LinkError::TimedOut { after, .. } if *after >= SHORT.reply * 7 / 8),
        "{e:?}"
    );
    assert!(e.outcome_unknown() && !e.not_sent());
    assert!(begun.elapsed() < SHORT.reply * 3, "{:?}", begun.elapsed());
    let e = conn.call(&ping()).unwrap_err();
    assert!(e.not_sent(), "{e:?}");
    drop(conn);
    let begun = Instant::now();
    let e = pool.get().unwrap_err();
    assert!(
        e.not_sent() && begun.elapsed() < Duration::from_millis(80),
        "{e} {:?}",
        begun.elapsed()
    );
    assert!(matches!(pool.health(), Health::Suspect { .. }));
    // An attempt after the gate's time fails in the handshake, not in anybody's command.
    let e = pool.probe().unwrap_err();
    assert!(
        matches!(&e, LinkError::Unavailable { cause, .. } if cause.contains("did not answer")),
        "{e:?}"
    );
    server.cont();
    recovers(&pool);
    assert_eq!(pool.health(), Health::Up);
}

#[test]
fn a_killed_server_is_noticed_and_its_return_too() {
    let mut server = RedisServer::start_default();
    let pool = Pool::new(server.endpoint(), SHORT);
    let mut conn = pool.get().unwrap();
    drop(pool.get().unwrap());
    server.kill9();
    let e = conn.call(&ping()).unwrap_err();
    assert!(
        matches!(e, LinkError::Lost { .. } | LinkError::Unavailable { .. }) && e.retryable(),
        "{e:?}"
    );
    drop(conn);
    let e = pool.get().unwrap_err();
    assert!(
        matches!(&e, LinkError::Unavailable { cause, .. } if cause.contains("refused")),
        "{e:?}"
    );
    assert!(e.to_string().contains(&server.endpoint().to_string()), "{e}");
    server.restart();
    recovers(&pool);
    assert_eq!(pool.health(), Health::Up);
    assert!(pool.probe().is_ok());
}

#[test]
fn an_idle_connection_that_was_closed_is_not_handed_out() {
    let server = RedisServer::start_default();
    let pool = Pool::new(server.endpoint(), SHORT);
    drop(pool.get().unwrap());
    server.command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(pool.get().unwrap().call(&ping()), Ok(Reply::Text("PONG".into())));
}

#[test]
fn the_gate_lets_few_attempts_through() {
    let server = RedisServer::start_default();
    let proxy = Proxy::start(server.address());
    let pool = Pool::new(Endpoint::parse(&proxy.url()).unwrap(), SHORT);
    proxy.refuse();
    assert!(pool.get().unwrap_err().not_sent());
    let Health::Suspect { since, .. } = pool.health() else { panic!("the server is suspect") };
    let mut refused_at_once = 0u64;
    while since.elapsed() < Duration::from_millis(900) {
        assert!(pool.get().unwrap_err().not_sent());
        refused_at_once += 1;
    }
    // At 0, 100, 300 and 700 ms, or later.
    let attempts = proxy.connections();
    assert!((2..=4).contains(&attempts) && refused_at_once > 100, "{attempts} {refused_at_once}");
    assert!(matches!(pool.health(), Health::Suspect { since: still, .. } if still == since));
    proxy.restore();
    pool.report_success();
    assert_eq!(pool.health(), Health::Up);
    assert!(pool.get().is_ok());
    pool.report_failure(&LinkError::TimedOut { server: ServerName::new("x"), after: LIMIT });
    assert!(pool.get().unwrap_err().not_sent());
}

#[test]
fn a_cut_after_sending_leaves_the_outcome_unknown() {
    let server = RedisServer::start_default();
    let proxy = Proxy::start(server.address());
    let mut conn =
        Conn::open(&Endpoint::parse(&proxy.url()).unwrap(), &Timeouts::default()).unwrap();
    proxy.block(Direction::ToClient);
    conn.send(&Cmd::new("SET").arg("k").arg("v"), Instant::now() + LIMIT).unwrap();
    while server.command(&["GET", "k"]) == Reply::Nil {}
    proxy.cut();
    let e = conn.recv(Instant::now() + LIMIT).unwrap_err();
    assert!(matches!(e, LinkError::Lost { .. }) && e.outcome_unknown(), "{e:?}");
    assert!(!conn.is_reusable());
    proxy.refuse();
    let e = open(&proxy.url()).unwrap_err();
    assert!(e.not_sent(), "{e:?}");
    proxy.restore();
    assert!(open(&proxy.url()).is_ok());
    assert!(proxy.connections() >= 3 && proxy.bytes_to_server() > 0 && proxy.bytes_to_client() > 0);
}

#[test]
fn one_dead_server_does_not_hold_up_the_others() {
    let servers: Vec<RedisServer> = (0..3).map(|_| RedisServer::start_default()).collect();
    let value = vec![1; 8 << 20];
    let mut conns: Vec<Conn> = servers.iter().map(RedisServer::conn).collect();
    servers[1].stop();
    let set = Cmd::new("SET").arg("k").payload(&value);
    let mut targets: Vec<(&mut Conn, &Cmd<'_>)> =
        conns.iter_mut().map(|conn| (conn, &set)).collect();
    let begun = Instant::now();
    let replies = gather(&mut targets, Instant::now() + Duration::from_millis(1500));
    assert!(begun.elapsed() < Duration::from_millis(3000));
    assert!(replies[0].is_ok() && replies[2].is_ok());
    assert!(matches!(replies[1], Err(LinkError::TimedOut { .. })), "{:?}", replies[1]);
    // A broken connection fails alone, at once, and says that nothing was sent.
    let mut targets: Vec<(&mut Conn, &Cmd<'_>)> =
        conns.iter_mut().map(|conn| (conn, &set)).collect();
    let replies = gather(&mut targets, Instant::now() + LIMIT);
    assert!(replies[0].is_ok() && replies[2].is_ok());
    assert!(replies[1].as_ref().unwrap_err().not_sent());
    servers[1].cont();
}

#[test]
fn the_first_of_several_to_answer_is_found() {
    let servers: Vec<RedisServer> = (0..2).map(|_| RedisServer::start_default()).collect();
    let mut conns: Vec<Conn> = servers.iter().map(RedisServer::conn).collect();
    let deadline = Instant::now() + LIMIT;
    servers[0].stop();
    for conn in &mut conns {
        conn.send(&ping(), deadline).unwrap();
    }
    assert_eq!(wait_any(&[&conns[0]], Instant::now() + Duration::from_millis(30)), Ok(None));
    assert_eq!(wait_any(&[&conns[0], &conns[1]], deadline), Ok(Some(1)));
    assert!(conns[1].recv(deadline).is_ok());
    servers[0].cont();
    assert_eq!(wait_any(&[&conns[0], &conns[1]], deadline), Ok(Some(0)));
    assert!(conns[0].recv(deadline).is_ok());
}

#[test]
fn servers_that_are_none_are_refused_promptly() {
    let kinds = [Nonsense::Http, Nonsense::Garbage, Nonsense::HugeLength, Nonsense::DeepNesting];
    for nonsense in kinds
        .into_iter()
        .chain([Nonsense::Bytes(b":1\r\n".to_vec()), Nonsense::Bytes(b"\r\n".to_vec())])
    {
        let server = NonsenseServer::start(nonsense.clone());
        let begun = Instant::now();
        let e = open(&server.url()).unwrap_err();
        assert!(matches!(e, LinkError::Protocol { .. }), "{nonsense:?}: {e:?}");
        assert!(begun.elapsed() < SHORT.connect, "{nonsense:?}: {:?}", begun.elapsed());
        assert!(e.to_string().contains(&server.address().to_string()), "{e}");
    }
    let http = open(&NonsenseServer::start(Nonsense::Http).url()).unwrap_err().to_string();
    assert!(http.contains("HTTP/1.1 400"), "{http}");
    for nonsense in [Nonsense::Silence, Nonsense::HugeArray, Nonsense::Hangup] {
        let server = NonsenseServer::start(nonsense.clone());
        let e = open(&server.url()).unwrap_err();
        assert!(matches!(e, LinkError::Unavailable { .. }), "{nonsense:?}: {e:?}");
    }
    let e = open("unix:///nonexistent/redis.sock").unwrap_err();
    assert!(e.not_sent() && e.to_string().contains("no such socket"), "{e}");
    let e = open("redis://no-such-host.invalid").unwrap_err();
    assert!(e.not_sent() && e.to_string().contains("cannot be resolved"), "{e}");
}

/// Tells what became of its pipe.
struct Watcher {
    pipe: std::os::fd::OwnedFd,
    told: Arc<std::sync::atomic::AtomicBool>,
}

impl Bystander for Watcher {
    fn watched(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        let told = self.told.load(std::sync::atomic::Ordering::SeqCst);
        (!told).then(|| std::os::fd::AsFd::as_fd(&self.pipe))
    }
    fn ready(&self) {
        self.told.store(true, std::sync::atomic::Ordering::SeqCst);
    }
}

#[test]
fn a_server_that_stops_within_a_payload_holds_up_no_bystander() {
    let server = RedisServer::start_default();
    let value = vec![7u8; 16 << 20];
    let set = Cmd::new("SET").arg("large").arg(&value);
    server.conn().call(&set).unwrap();
    let get = Cmd::new("GET").arg("large");
    for into_a_slice in [false, true] {
        let proxy = Proxy::start(server.address());
        let endpoint = Endpoint::parse(&proxy.url()).unwrap();
        let patient = Timeouts { connect: LIMIT, reply: 2 * LIMIT };
        let (reader, writer) = std::io::pipe().unwrap();
        let told = Arc::new(std::sync::atomic::AtomicBool::new(false));
        // Each piece of the reply takes a while, so that there is a middle.
        proxy.delay(Duration::from_millis(5));
        std::thread::scope(|scope| {
            let receiving = scope.spawn(|| {
                let mut conn = Conn::open(&endpoint, &patient).unwrap();
                set_bystander(std::rc::Rc::new(Watcher {
                    pipe: reader.try_clone().unwrap().into(),
                    told: Arc::clone(&told),
                }));
                if !into_a_slice {
                    return conn.call(&get).unwrap().into_some_bytes().unwrap().to_vec();
                }
                let deadline = Instant::now() + 2 * LIMIT;
                conn.send(&get, deadline).unwrap();
                let mut buffer = vec![0; 16 << 20];
                conn.recv_into(&mut buffer, deadline).unwrap();
                buffer
            });
            let limit = Instant::now() + LIMIT;
            let until = |done: &dyn Fn() -> bool| {
                while !done() && Instant::now() < limit {
                    std::thread::yield_now();
                }
                done()
            };
            assert!(until(&|| proxy.bytes_to_client() > 1 << 20));
            proxy.block(Direction::ToClient);
            std::io::Write::write_all(&mut &writer, b"x").unwrap();
            let handed_over = until(&|| told.load(std::sync::atomic::Ordering::SeqCst));
            proxy.restore();
            assert!(receiving.join().unwrap() == value);
            assert!(handed_over, "nobody was told while the server stopped");
        });
    }
}

#[test]
fn replies_in_slow_small_pieces_arrive() {
    let server = RedisServer::start_default();
    let value = vec![3; 1 << 20];
    server.conn().call(&Cmd::new("SET").arg("k").payload(&value)).unwrap();
    let proxy = Proxy::start(server.address());
    proxy.delay(Duration::from_millis(2));
    let t = Timeouts { connect: LIMIT, reply: LIMIT };
    let mut conn = Conn::open(&Endpoint::parse(&proxy.url()).unwrap(), &t).unwrap();
    let deadline = Instant::now() + LIMIT;
    assert!(conn.call(&Cmd::new("GET").arg("k")).unwrap().into_some_bytes().unwrap() == value);
    let mut buf = vec![0; value.len()];
    conn.send(&Cmd::new("GET").arg("k"), deadline).unwrap();
    assert_eq!(conn.recv_into(&mut buf, deadline), Ok(Some(value.len())));
    assert!(buf == value);
}

#[test]
fn a_string_that_does_not_fit_is_a_protocol_error() {
    let server = RedisServer::start_default();
    server.command(&["SET", "k", "0123456789"]);
    let mut conn = server.conn();
    let deadline = Instant::now() + LIMIT;
    conn.send(&Cmd::new("GET").arg("k"), deadline).unwrap();
    let e = conn.recv_into(&mut [0; 9], deadline).unwrap_err();
    assert!(matches!(e, LinkError::Protocol { .. }) && !conn.is_reusable(), "{e:?}");
    let mut conn = server.conn();
    conn.send(&Cmd::new("LPUSH").arg("k").arg("x"), deadline).unwrap();
    assert_eq!(conn.recv_into(&mut [0; 9], deadline).unwrap_err().code(), Some("WRONGTYPE"));
    assert!(conn.is_reusable());
}

/// Does one thing to every SET and another after every INCR.
struct OnPurpose;

impl Faults for OnPurpose {
    fn before_send(&self, _: &ServerName, command: &str) -> Option<Fault> {
        match command {
            "SET" => Some(Fault::Error("OOM no memory".into())),
            "APPEND" => Some(Fault::Cut),
            "GETDEL" => Some(Fault::TimeOut),
            "PING" => Some(Fault::Delay(Duration::from_millis(30))),
            _ => None,
        }
    }
    fn after_recv(&self, _: &ServerName, command: &str) -> Option<Fault> {
        (command == "INCR").then_some(Fault::Cut)
    }
}

#[test]
fn injected_faults_look_like_real_ones() {
    let server = RedisServer::start_default();
    let pool = Pool::with_faults(server.endpoint(), SHORT, Some(Arc::new(OnPurpose)));
    let mut conn = pool.get().unwrap();
    assert!(conn.call(&Cmd::new("SET").arg("k").arg("v")).unwrap_err().is_oom());
    let begun = Instant::now();
    assert!(conn.call(&ping()).is_ok() && begun.elapsed() >= Duration::from_millis(30));
    assert!(matches!(conn.call(&Cmd::new("INCR").arg("n")), Err(LinkError::Lost { .. })));
    drop(conn);
    assert_eq!(server.command(&["GET", "n"]), Reply::Bulk("1".into()));
    assert_eq!(server.command(&["GET", "k"]), Reply::Nil);
    let e = pool.get().unwrap().call(&Cmd::new("APPEND").arg("k").arg("v")).unwrap_err();
    assert!(e.not_sent());
    let e = pool.get().unwrap().call(&Cmd::new("GETDEL").arg("n")).unwrap_err();
    assert!(matches!(e, LinkError::TimedOut { .. }));
    assert!(matches!(pool.health(), Health::Suspect { .. }));
}
