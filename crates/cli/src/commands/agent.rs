//! `ringfs agent`.

use crate::compose::{self, OpenVolume, Patience};
use crate::failure::Failure;
use crate::keeping::KeepingArguments;
use crate::metrics::{self, KeeperSlot};
use crate::output::{Surroundings, warn};
use clap::Args;
use ringfs_cluster::Membership;
use ringfs_meta::{Beat, MetaError, Session, SessionInfo};
use signal_hook::consts::{SIGINT, SIGTERM};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

/// Watch a volume's servers and keep its ring whole, without mounting it
///
/// Every mount does this as well; an agent does it on a machine that mounts nothing, so that the ring
/// heals itself while nobody has it mounted, and so that there is one more to agree that a server is
/// dead. Run one on two or three machines. It stays in the foreground until SIGTERM or Ctrl-C, and
/// keeps nothing on disk: let a service manager start it again.
///
/// Example:
///   ringfs agent redis://meta:6379/demo
///   ringfs agent redis://meta:6379/demo --out-after 30m
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct AgentArguments {
    /// The volume, such as redis://meta:6379/demo.
    url: String,
    /// Serve metrics for Prometheus at http://ADDRESS:PORT/metrics; only a port means this machine
    /// only [default: none are served].
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = metrics::parse_address)]
    metrics: Option<SocketAddr>,
    #[command(flatten)]
    keeping: KeepingArguments,
}

/// Time between two signs of life of the session, as of a mount.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// With new orphans to acknowledge the next one comes sooner: others wait for it to remove them.
const HEARTBEAT_SOON: Duration = Duration::from_millis(200);
/// A session that gave no sign of life for this long may be ended by any other, as by a mount.
const SESSION_LEASE: Duration = Duration::from_secs(60);
/// Heartbeats between two looks for sessions whose lease has ended.
const BEATS_PER_REAP: u64 = 10;
/// How long it tries to leave the volume before it ends all the same.
const LEAVE_WITHIN: Duration = Duration::from_secs(2);

/// Runs the command.
pub fn run(arguments: &AgentArguments, surroundings: &Surroundings) -> Result<(), Failure> {
    let url = surroundings.volume_url(&arguments.url)?;
    let listening = arguments.metrics.map(metrics::listen).transpose()?;
    let open = compose::open(&url, surroundings, Patience::Mount)?;
    let membership = open.membership(surroundings)?;
    let slot = KeeperSlot::default();
    let serve = |socket| metrics::serve(socket, membership.clone(), None, slot.clone());
    let endpoint = listening.map(serve).transpose()?;
    if let Some(endpoint) = &endpoint {
        metrics::tell(endpoint.address());
    }
    let asked_to_end = end_on_signals()?;
    let mut news = format!("watching volume \"{}\"", url.volume);
    loop {
        let session = open.volume.start_session(&SessionInfo {
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            pid: std::process::id(),
            place: SessionInfo::AGENT.to_owned(),
        })?;
        let keeper =
            Arc::new(arguments.keeping.start(&open, &membership, session.id(), surroundings));
        slot.set(&keeper);
        eprintln!("ringfs: {news}");
        let life = live(&open, &membership, &session, &asked_to_end);
        drop(keeper);
        match life {
            Life::Ended => {
                session.close_by(Instant::now() + LEAVE_WITHIN);
                return Ok(session.end()?);
            }
            // The machine slept, or was cut off, and the others have given this session up. There is
            // nothing to lose: begin anew, if there is still a volume.
            Life::Fenced => {
                open.volume.reload()?;
                news = "the others had given this agent up; it begins anew".to_owned();
            }
        }
    }
}

/// How a session ended.
enum Life {
    Ended,
    Fenced,
}

/// Sends heartbeats until it is asked to end.
fn live(
    open: &OpenVolume,
    membership: &Membership,
    session: &Session,
    asked_to_end: &Receiver<()>,
) -> Life {
    let mut beats = 0u64;
    let mut troubled = false;
    loop {
        let pause = match beat(membership, session) {
            Ok(pause) => {
                troubled = false;
                pause
            }
            Err(MetaError::Fenced) => return Life::Fenced,
            Err(error) => {
                if !std::mem::replace(&mut troubled, true) {
                    warn(format_args!("no sign of life can be given: {error}; trying on"));
                }
                HEARTBEAT
            }
        };
        beats += 1;
        if beats % BEATS_PER_REAP == 1
            && !troubled
            && let Err(error) = open.volume.reap(SESSION_LEASE)
        {
            tracing::debug!(%error, "could not look for dead sessions");
        }
        if asked_to_end.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
            return Life::Ended;
        }
    }
}

/// One heartbeat; how long to wait for the next. An agent has nothing open, so that each acknowledges
/// the orphans that the one before brought.
fn beat(membership: &Membership, session: &Session) -> Result<Duration, MetaError> {
    let epoch = membership.ring().epoch();
    let beat = Beat { holds: &[], oldest_slice: Some(session.oldest_slice()?), epoch };
    let pulse = session.heartbeat(&beat)?;
    if pulse.epoch != epoch {
        membership.refresh()?;
    }
    Ok(if pulse.orphans.is_empty() { HEARTBEAT } else { HEARTBEAT_SOON })
}

/// What SIGTERM and SIGINT are told by.
fn end_on_signals() -> Result<Receiver<()>, Failure> {
    let mut signals = signal_hook::iterator::Signals::new([SIGTERM, SIGINT])
        .map_err(|e| Failure::io("receive signals", &e))?;
    let (tell, told) = sync_channel(1);
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            if signals.forever().next().is_some() {
                // Told already, or over already.
                tell.try_send(()).ok();
            }
            // A second signal ends a process that does not end.
            if signals.forever().next().is_some() {
                std::process::exit(130);
            }
        })
        .map_err(|e| Failure::io("start a thread", &e))?;
    Ok(told)
}
