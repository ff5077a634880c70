//! Idle connections to one server, and the gate that spares everyone a dead server's time-out.
//!
//! After a connection failure or a time-out the server is suspect: for 100 ms, doubling to 2 s with
//! every further failure, [`Pool::get`] fails at once. Then one caller may try while the others go
//! on failing at once; its success opens the gate.

use crate::cmd::Cmd;
use crate::conn::{Conn, Timeouts};
use crate::endpoint::Endpoint;
use crate::error::LinkError;
use crate::faults::Faults;
use parking_lot::Mutex;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How many idle connections a pool keeps. One is in use per thread, so this is about threads.
pub const IDLE_CONNECTIONS_MAX: usize = 64;

const SUSPECT_AT_FIRST: Duration = Duration::from_millis(100);
const SUSPECT_AT_MOST: Duration = Duration::from_secs(2);
/// A connection idle for less is handed out without asking the kernel whether it was closed.
const TRUSTED_IDLE: Duration = Duration::from_millis(10);

/// What the pool thinks of its server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// Nothing speaks against it.
    Up,
    /// The last contact failed.
    Suspect {
        /// When it first failed.
        since: Instant,
        /// The latest failure.
        cause: LinkError,
    },
}

struct Gate {
    since: Instant,
    /// Nobody tries before.
    until: Instant,
    back_off: Duration,
    cause: LinkError,
}

#[derive(Default)]
struct State {
    idle: Vec<(Conn, Instant)>,
    gate: Option<Gate>,
}

struct Inner {
    endpoint: Endpoint,
    timeouts: Timeouts,
    faults: Option<Arc<dyn Faults>>,
    state: Mutex<State>,
}

/// Connections to one server. Cloning gives another handle on the same pool.
#[derive(Clone)]
pub struct Pool {
    inner: Arc<Inner>,
}

impl Pool {
    /// A pool that has not connected yet.
    pub fn new(endpoint: Endpoint, timeouts: Timeouts) -> Pool {
        Pool::with_faults(endpoint, timeouts, None)
    }

    /// A pool whose connections are subject to `faults`.
    pub fn with_faults(
        endpoint: Endpoint,
        timeouts: Timeouts,
        faults: Option<Arc<dyn Faults>>,
    ) -> Pool {
        Pool { inner: Arc::new(Inner { endpoint, timeouts, faults, state: Mutex::default() }) }
    }

    /// A connection, idle or new. It goes back to the pool when dropped.
    pub fn get(&self) -> Result<PooledConn, LinkError> {
        if let Some(conn) = self.take_idle() {
            return Ok(conn);
        }
        self.pass_gate()?;
        self.open()
    }

    /// The server.
    pub fn endpoint(&self) -> &Endpoint {
        &self.inner.endpoint
    }

    /// The time limits of its connections.
    pub fn timeouts(&self) -> &Timeouts {
        &self.inner.timeouts
    }

    /// What is thought of the server now.
    pub fn health(&self) -> Health {
        match &self.inner.state.lock().gate {
            None => Health::Up,
            Some(gate) => Health::Suspect { since: gate.since, cause: gate.cause.clone() },
        }
    }

    /// Tells of a failure seen by the caller. Broken connections tell of theirs themselves when
    /// they are dropped; telling twice does no harm.
    pub fn report_failure(&self, e: &LinkError) {
        self.inner.failed(e);
    }

    /// Tells that the server is well: opens the gate.
    pub fn report_success(&self) {
        self.inner.state.lock().gate = None;
    }

    /// Asks the server for a sign of life whatever the gate says; returns the round trip's time.
    /// The gate follows the result.
    pub fn probe(&self) -> Result<Duration, LinkError> {
        if let Some(mut conn) = self.take_idle() {
            let begun = Instant::now();
            match conn.call(&Cmd::new("PING")) {
                // The server may have closed just this one.
                Err(LinkError::Lost { .. } | LinkError::Unavailable { .. }) => {}
                other => return other.map(|_| begun.elapsed()),
            }
        }
        let mut conn = self.open()?;
        let begun = Instant::now();
        conn.call(&Cmd::new("PING")).map(|_| begun.elapsed())
    }

    fn take_idle(&self) -> Option<PooledConn> {
        loop {
            let (conn, since) = self.inner.state.lock().idle.pop()?;
            if since.elapsed() < TRUSTED_IDLE || conn.is_silent() {
                return Some(PooledConn { conn: Some(conn), inner: Arc::clone(&self.inner) });
            }
        }
    }

    fn pass_gate(&self) -> Result<(), LinkError> {
        let mut state = self.inner.state.lock();
        let Some(gate) = &mut state.gate else { return Ok(()) };
        let now = Instant::now();
        if now < gate.until {
            return Err(LinkError::Unavailable {
                server: self.inner.endpoint.name().clone(),
                cause: match &gate.cause {
                    LinkError::Unavailable { cause, .. } => cause.clone(),
                    other => other.to_string(),
                },
            });
        }
        // We are the one that tries; connection and handshake each have this limit.
        gate.until = now + 2 * self.inner.timeouts.connect;
        Ok(())
    }

    fn open(&self) -> Result<PooledConn, LinkError> {
        let inner = &self.inner;
        match Conn::open_with(&inner.endpoint, &inner.timeouts, inner.faults.clone()) {
            Ok(conn) => {
                self.report_success();
                Ok(PooledConn { conn: Some(conn), inner: Arc::clone(inner) })
            }
            Err(e) => {
                inner.attempt_failed(&e);
                Err(e)
            }
        }
    }
}

impl Inner {
    /// A connection broke, or could not be made.
    fn failed(&self, e: &LinkError) {
        match e {
            LinkError::TimedOut { .. } | LinkError::Unavailable { .. } => self.suspect(e, false),
            // The others of the same age have probably been cut too.
            LinkError::Lost { .. } => self.state.lock().idle.clear(),
            LinkError::Auth { .. }
            | LinkError::Tls { .. }
            | LinkError::Protocol { .. }
            | LinkError::Server { .. } => {}
        }
    }

    fn attempt_failed(&self, e: &LinkError) {
        match e {
            LinkError::TimedOut { .. } | LinkError::Unavailable { .. } => self.suspect(e, true),
            // It answers, if only to refuse us: no time is wasted on it, so nothing is gated.
            _ => self.state.lock().gate = None,
        }
    }

    /// `tried`: this is the outcome of an attempt that passed the gate, not another report of a
    /// failure that the gate knows already.
    fn suspect(&self, e: &LinkError, tried: bool) {
        let now = Instant::now();
        let mut state = self.state.lock();
        state.idle.clear();
        match &mut state.gate {
            Some(gate) if now < gate.until && !tried => {}
            Some(gate) => {
                gate.back_off = (gate.back_off * 2).min(SUSPECT_AT_MOST);
                gate.until = now + gate.back_off;
                gate.cause = e.clone();
            }
            None => {
                let (since, until) = (now, now + SUSPECT_AT_FIRST);
                state.gate =
                    Some(Gate { since, until, back_off: SUSPECT_AT_FIRST, cause: e.clone() });
            }
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pool({})", self.inner.endpoint)
    }
}

/// A connection on loan from a [`Pool`].
pub struct PooledConn {
    /// Taken only on drop.
    conn: Option<Conn>,
    inner: Arc<Inner>,
}

impl Deref for PooledConn {
    type Target = Conn;
    fn deref(&self) -> &Conn {
        self.conn.as_ref().expect("only drop takes it")
    }
}

impl DerefMut for PooledConn {
    fn deref_mut(&mut self) -> &mut Conn {
        self.conn.as_mut().expect("only drop takes it")
    }
}

impl fmt::Debug for PooledConn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl Drop for PooledConn {
    fn drop(&mut self) {
        let Some(conn) = self.conn.take() else { return };
        if let Some(e) = conn.broken() {
            // A command that could not be written found an old connection closed; that says
            // nothing about the server until a new one fails.
            match e {
                LinkError::Unavailable { .. } => self.inner.state.lock().idle.clear(),
                e => self.inner.failed(e),
            }
        } else if conn.is_reusable() {
            let mut state = self.inner.state.lock();
            // While the gate is closed this connection is as doubtful as the ones that were dropped.
            if state.gate.is_none() && state.idle.len() < IDLE_CONNECTIONS_MAX {
                state.idle.push((conn, Instant::now()));
            }
        }
    }
}
