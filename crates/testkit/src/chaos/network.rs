//! The network between each client process and each server, so that it can be broken for one pair.
//!
//! A volume's record names one address for each server, and all mounts read the same record. So each
//! mount gets a network namespace of its own, in which proxies listen at exactly those addresses; the
//! proxies themselves, and their connections to the servers, live outside. A listening socket stays
//! in the namespace in which it was made. Making namespaces needs privileges; without them all
//! clients share one proxy for each server, and a partition cuts all of them off.

use crate::proxy::Proxy;
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};
use std::ffi::CString;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;

/// In the environment, it makes all clients share their proxies, as they do without privileges.
const ONE_NETWORK: &str = "RINGFS_CHAOS_ONE_NETWORK";

/// Where a server really is.
pub type Place = (Ipv4Addr, u16);

/// What one client process sees of the network.
pub struct Ground {
    /// One for each server, in their order: the block servers, then the metadata server.
    pub proxies: Vec<Arc<Proxy>>,
    /// Its network namespace, if it has its own.
    space: Option<OwnedFd>,
}

/// The addresses by which clients know the servers.
pub struct Network {
    servers: Vec<Place>,
    fronts: Vec<Arc<Proxy>>,
    /// Why clients cannot have namespaces of their own.
    shared: Option<String>,
}

impl Network {
    /// For these servers.
    pub fn new(servers: &[Place]) -> Network {
        let fronts = servers.iter().map(|server| Arc::new(Proxy::start(*server))).collect();
        let shared = match std::env::var_os(ONE_NETWORK) {
            Some(_) => Some(format!("{ONE_NETWORK} is set")),
            None => open_space(&[]).err().map(|e| e.to_string()),
        };
        Network { servers: servers.to_vec(), fronts, shared }
    }

    /// The address of a server in the volume's record; it is never broken for tools.
    pub fn url(&self, server: usize) -> String {
        self.fronts[server].url()
    }

    /// Why one-way partitions are between a server and all clients, if they are.
    pub fn shared(&self) -> Option<&str> {
        self.shared.as_deref()
    }

    /// For one more client process.
    pub fn ground(&self) -> Ground {
        if self.shared.is_some() {
            return Ground { proxies: self.fronts.clone(), space: None };
        }
        let ports: Vec<u16> = self.fronts.iter().map(|front| front.address().port()).collect();
        let (space, listeners) = open_space(&ports).expect("it worked before");
        let proxies = listeners
            .into_iter()
            .zip(&self.servers)
            .map(|(listener, server)| Arc::new(Proxy::listen(listener, *server)))
            .collect();
        Ground { proxies, space: Some(space) }
    }
}

impl Ground {
    /// Makes the process of this command live here.
    pub fn enter(&self, command: &mut Command) {
        let Some(space) = &self.space else { return };
        // By path: the thread that starts children does not have our descriptors.
        let path = format!("/proc/{}/fd/{}", std::process::id(), space.as_raw_fd());
        let path = CString::new(path).expect("no NUL");
        // SAFETY: system calls and nothing else.
        unsafe {
            command.pre_exec(move || {
                let space = rustix::fs::open(&path, OFlags::CLOEXEC, Mode::empty())?;
                let kind = Some(LinkNameSpaceType::Network);
                move_into_link_name_space(space.as_fd(), kind).map_err(io::Error::from)
            });
        }
    }

    /// Everything works again.
    pub fn heal(&self) {
        self.proxies.iter().for_each(|proxy| proxy.restore());
    }
}

/// A new network namespace with listeners on these ports of its loopback address.
fn open_space(ports: &[u16]) -> io::Result<(OwnedFd, Vec<TcpListener>)> {
    let ports = ports.to_vec();
    // The thread moves into the namespace and ends there; its sockets stay.
    let made = std::thread::spawn(move || {
        // SAFETY: only this thread moves, and it has no descriptors of its own to lose.
        unsafe { unshare_unsafe(UnshareFlags::NEWNET)? };
        raise_loopback()?;
        let space = std::fs::File::open("/proc/thread-self/ns/net")?.into();
        let listen = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port));
        let listeners = ports.iter().map(listen).collect::<io::Result<Vec<_>>>()?;
        Ok((space, listeners))
    });
    made.join().expect("nothing there panics")
}

/// A new namespace's loopback interface is down.
fn raise_loopback() -> io::Result<()> {
    let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    // SAFETY: all-zero bytes are a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    let fd = std::os::fd::AsRawFd::as_raw_fd(&socket);
    // SAFETY: the request is as SIOCSIFFLAGS wants it and outlives the call.
    match unsafe { libc::ioctl(fd, libc::SIOCSIFFLAGS, &request) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
