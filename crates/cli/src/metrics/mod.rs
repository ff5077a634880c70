//! `--metrics`: what a mount (or an agent) does and sees, for Prometheus.
//!
//! The way of a number: counters are atomics where things happen (`fuse_meter`, `Vfs::stats`,
//! `Store::stats`, `Volume::traffic`); what only servers know is asked for in the background
//! (`watch`); `sources` names them all, `exposition` writes them, `http` and `request` serve the
//! page. A scrape reads memory and /proc, and waits for nothing.

mod exposition;
mod fuse_meter;
mod http;
mod process;
mod request;
mod sources;
mod watch;

pub use fuse_meter::FuseMeter;
pub use http::{HttpServer, Listening};
pub use sources::{KeeperSlot, MountSource};

use crate::failure::Failure;
use exposition::{Exposition, plain};
use request::{Format, Page};
use ringfs_cluster::Membership;
use ringfs_vfs::Vfs;
use sources::{ProcessSource, VolumeSource};
use std::fmt;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use watch::Watch;

/// Reads `ADDRESS:PORT`, or only a port (or `:PORT`), which means this machine only.
pub fn parse_address(text: &str) -> Result<SocketAddr, String> {
    let port = text.strip_prefix(':').unwrap_or(text);
    if let Ok(port) = port.parse::<u16>() {
        return Ok((Ipv4Addr::LOCALHOST, port).into());
    }
    let found = text.to_socket_addrs().ok().and_then(|mut all| all.next());
    found.ok_or_else(|| {
        format!(
            "\"{text}\" is no address and port; write such as 127.0.0.1:9567, or only a port, or \
             0.0.0.0:9567 to let other machines in"
        )
    })
}

/// Takes the port. Nothing is answered before [`serve`].
pub fn listen(address: SocketAddr) -> Result<Listening, Failure> {
    Listening::bind(address).map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => Failure::plain(format!(
            "cannot serve metrics on {address}: another program listens there; choose another port \
             (--metrics), one for each mount, or port 0 for any that is free"
        )),
        std::io::ErrorKind::AddrNotAvailable => Failure::plain(format!(
            "cannot serve metrics on {address}: this machine has no such address; give one that \
             it has, or 0.0.0.0 for all"
        )),
        std::io::ErrorKind::PermissionDenied => Failure::plain(format!(
            "cannot serve metrics on {address}: only root may listen on ports below 1024; choose \
             a larger one"
        )),
        _ => Failure::io(format_args!("serve metrics on {address}"), &error),
    })
}

/// Says where the metrics are.
pub fn tell(address: SocketAddr) {
    // Nobody may be listening; that is no reason to stop.
    writeln!(std::io::stderr(), "ringfs: metrics are at http://{address}/metrics").ok();
}

/// Begins to answer with the metrics of a volume, and of a mount of it if there is one.
pub fn serve(
    listening: Listening,
    membership: Arc<Membership>,
    mount: Option<MountSource>,
    keeper: KeeperSlot,
) -> Result<HttpServer, Failure> {
    let failed = |error: std::io::Error| Failure::io("serve metrics", &error);
    let name = membership.volume().config().name.to_string();
    let vfs = mount.as_ref().map(|mount| mount.vfs.clone());
    let watch = Watch::start(membership.clone()).map_err(failed)?;
    let volume = VolumeSource { membership, watch, mount, keeper };
    let page = Metrics { exposition: Exposition::new(ProcessSource, &name, volume), vfs };
    listening.serve(Box::new(page)).map_err(failed)
}

struct Metrics {
    exposition: Exposition,
    vfs: Option<Arc<Vfs>>,
}

impl Page for Metrics {
    fn metrics(&self, format: Format) -> Result<String, fmt::Error> {
        let text = self.exposition.open_metrics()?;
        Ok(match format {
            Format::OpenMetrics => text,
            Format::Plain => plain(&text),
        })
    }

    fn health(&self) -> Result<(), String> {
        let Some(vfs) = &self.vfs else { return Ok(()) };
        let (stats, lease) = (vfs.stats(), vfs.config().session_lease);
        if stats.fenced {
            return Err("the session was ended by others: unmount and mount again".to_owned());
        }
        if stats.heartbeat_age > lease {
            let seconds = stats.heartbeat_age.as_secs();
            return Err(format!("the metadata server has not answered for {seconds} s"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_this_machine_unless_one_is_given() {
        for (text, address) in [
            ("9567", "127.0.0.1:9567"),
            (":9567", "127.0.0.1:9567"),
            ("0.0.0.0:9567", "0.0.0.0:9567"),
            ("[::1]:9567", "[::1]:9567"),
            ("0", "127.0.0.1:0"),
        ] {
            assert_eq!(parse_address(text), Ok(address.parse().unwrap()), "{text}");
        }
        for bad in ["", "x", "127.0.0.1", "127.0.0.1:70000", "70000", "http://127.0.0.1:1"] {
            let error = parse_address(bad).unwrap_err();
            assert!(error.contains("is no address and port; write such as"), "{error}");
        }
    }

    #[test]
    fn a_port_that_is_taken_is_told_in_one_sentence() {
        let taken = listen(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = taken.address().unwrap();
        let failure = listen(address).err().unwrap();
        assert_eq!(
            failure.message,
            format!(
                "cannot serve metrics on {address}: another program listens there; choose another \
                 port (--metrics), one for each mount, or port 0 for any that is free"
            )
        );
        // An address of a network for documentation.
        let failure = listen(SocketAddr::from(([192, 0, 2, 1], 0))).err().unwrap();
        assert!(failure.message.contains("this machine has no such address"), "{failure}");
    }
}
