//! A TCP proxy in front of a server that breaks the network on command.
//!
//! A blocked direction delivers nothing, but keeps what comes: as on a network that loses packets,
//! the bytes arrive once the way is free again.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{JoinHandle, spawn};
use std::time::Duration;

/// Which bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server.
    ToServer,
    /// From the server to the client.
    ToClient,
    /// All of them.
    Both,
}

#[derive(Default)]
struct State {
    to_server_blocked: bool,
    to_client_blocked: bool,
    refusing: bool,
    closing: bool,
    delay: Duration,
    recording: bool,
    recorded: Vec<u8>,
    streams: Vec<TcpStream>,
    pumps: Vec<JoinHandle<()>>,
    /// Counts cuts, so that a pump that waits notices that its connection is gone.
    cuts: u64,
    /// Connections accepted before this many were are frozen.
    frozen_below: u64,
}

struct Shared {
    server: SocketAddr,
    state: Mutex<State>,
    changed: Condvar,
    to_server: AtomicU64,
    to_client: AtomicU64,
    connections: AtomicU64,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// A running proxy.
pub struct Proxy {
    shared: Arc<Shared>,
    address: SocketAddr,
    /// Another handle on the socket that the acceptor waits at.
    listener: TcpListener,
    acceptor: Option<JoinHandle<()>>,
}

impl Proxy {
    /// A proxy on a free port of 127.0.0.1 for the server at `server`.
    pub fn start(server: (Ipv4Addr, u16)) -> Proxy {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("free port");
        Proxy::listen(listener, server)
    }

    /// A proxy that takes its connections from `listener`, which may be of another network namespace.
    pub fn listen(listener: TcpListener, server: (Ipv4Addr, u16)) -> Proxy {
        let address = listener.local_addr().expect("address");
        let shared = Arc::new(Shared {
            server: server.into(),
            state: Mutex::default(),
            changed: Condvar::new(),
            to_server: AtomicU64::new(0),
            to_client: AtomicU64::new(0),
            connections: AtomicU64::new(0),
        });
        let acceptor = Some(spawn({
            let shared = Arc::clone(&shared);
            let listener = listener.try_clone().expect("a second handle");
            move || accept(&listener, &shared)
        }));
        Proxy { shared, address, listener, acceptor }
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A `redis://` URL of the proxy, without credentials.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Cuts all connections; new ones are possible.
    pub fn cut(&self) {
        let mut state = self.shared.state();
        state.cuts += 1;
        for stream in state.streams.drain(..) {
            // One that is closed already is as good.
            stream.shutdown(Shutdown::Both).ok();
        }
        self.shared.changed.notify_all();
    }

    /// Cuts all connections and closes every new one at once, until [`Self::restore`].
    pub fn refuse(&self) {
        self.shared.state().refusing = true;
        self.cut();
    }

    /// Delivers nothing more in this direction, until [`Self::restore`].
    pub fn block(&self, direction: Direction) {
        let mut state = self.shared.state();
        state.to_server_blocked |= direction != Direction::ToClient;
        state.to_client_blocked |= direction != Direction::ToServer;
    }

    /// Delivers nothing more on the connections that exist now, until they are cut or all is
    /// restored; new ones work.
    pub fn freeze_existing(&self) {
        let mut state = self.shared.state();
        state.frozen_below = self.shared.connections.load(Ordering::SeqCst) + 1;
    }

    /// Delivers every piece later by this much, in both directions.
    pub fn delay(&self, by: Duration) {
        self.shared.state().delay = by;
    }

    /// Everything works again, and what was held up is delivered.
    pub fn restore(&self) {
        let mut state = self.shared.state();
        state.to_server_blocked = false;
        state.to_client_blocked = false;
        state.refusing = false;
        state.frozen_below = 0;
        state.delay = Duration::ZERO;
        self.shared.changed.notify_all();
    }

    /// Keeps a copy of all bytes from now on.
    pub fn record(&self) {
        self.shared.state().recording = true;
    }

    /// Whether the recorded bytes hold `canary`.
    pub fn recorded(&self, canary: &[u8]) -> bool {
        self.shared.state().recorded.windows(canary.len()).any(|window| window == canary)
    }

    /// Bytes delivered to the server so far.
    pub fn bytes_to_server(&self) -> u64 {
        self.shared.to_server.load(Ordering::SeqCst)
    }

    /// Bytes delivered to clients so far.
    pub fn bytes_to_client(&self) -> u64 {
        self.shared.to_client.load(Ordering::SeqCst)
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.state().closing = true;
        self.cut();
        // Wakes the acceptor; a connection would not reach it in another network namespace.
        rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both).ok();
        if let Some(acceptor) = self.acceptor.take() {
            acceptor.join().ok();
        }
        let pumps = std::mem::take(&mut self.shared.state().pumps);
        for pump in pumps {
            pump.join().ok();
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for client in listener.incoming() {
        if shared.state().closing {
            return;
        }
        let Ok(client) = client else { continue };
        let number = shared.connections.fetch_add(1, Ordering::SeqCst) + 1;
        if shared.state().refusing {
            continue;
        }
        let Ok(server) = TcpStream::connect(shared.server) else { continue };
        let ends = [&client, &server].map(|stream| {
            stream.set_nodelay(true).expect("nodelay");
            stream.try_clone().expect("a second handle")
        });
        let [client_too, server_too] = ends;
        let mut state = shared.state();
        let cuts = state.cuts;
        state.streams.push(client.try_clone().expect("a second handle"));
        state.streams.push(server.try_clone().expect("a second handle"));
        let (a, b) = (Arc::clone(shared), Arc::clone(shared));
        // Threads that have ended keep their stacks until their handles go.
        state.pumps.retain(|pump| !pump.is_finished());
        state.pumps.push(spawn(move || pump(client, server, &a, true, (number, cuts))));
        state.pumps.push(spawn(move || pump(server_too, client_too, &b, false, (number, cuts))));
    }
}

/// `of`: the connection's number, and how many cuts there had been when it began.
fn pump(mut from: TcpStream, mut to: TcpStream, shared: &Shared, to_server: bool, of: (u64, u64)) {
    let (number, cuts) = of;
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let mut state = shared.state();
        while state.cuts == cuts
            && (number < state.frozen_below
                || if to_server { state.to_server_blocked } else { state.to_client_blocked })
        {
            state = shared.changed.wait(state).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
        if state.cuts != cuts {
            break;
        }
        if state.recording {
            state.recorded.extend_from_slice(&buffer[..count]);
        }
        let delay = state.delay;
        drop(state);
        if !delay.is_zero() {
            std::thread::sleep(delay);
        }
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
        let counter = if to_server { &shared.to_server } else { &shared.to_client };
        counter.fetch_add(count as u64, Ordering::SeqCst);
    }
    // The other end learns that this one is gone; it may know already.
    to.shutdown(Shutdown::Both).ok();
    from.shutdown(Shutdown::Both).ok();
}
