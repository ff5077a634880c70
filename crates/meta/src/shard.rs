//! One metadata shard: a server and a key prefix; and calls that may be repeated.

use crate::error::MetaError;
use crate::schema::Prefix;
use bytes::Bytes;
use parking_lot::Mutex;
use ringfs_base::{Errno, Histogram, InodeId, VolumeName};
use ringfs_link::{Cmd, Conn, Endpoint, LinkError, Pool, Reply, Script, Timeouts};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long an operation is repeated while the server does not answer, before it fails.
pub const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE_AT_FIRST: Duration = Duration::from_millis(5);
const PAUSE_AT_MOST: Duration = Duration::from_millis(200);

/// A shard.
#[derive(Debug)]
pub struct Shard {
    pub number: u16,
    pub prefix: Prefix,
    /// The key of the control record, the one key that scripts are given.
    pub control: String,
    pub pool: Pool,
    pub patience: Duration,
    /// Nothing is repeated after this moment: the program is about to end.
    closing: Mutex<Option<Instant>>,
    pub traffic: Traffic,
}

/// What was asked of the server, for whoever watches.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Round trips that brought an answer, also one that refuses.
    pub round_trips: Histogram,
    /// Attempts that brought none, or that the server could not serve then.
    pub failures: AtomicU64,
}

impl Traffic {
    /// Makes one attempt and counts it.
    pub fn count<T>(&self, attempt: impl FnOnce() -> Result<T, LinkError>) -> Result<T, LinkError> {
        let begun = Instant::now();
        let result = attempt();
        match &result {
            Err(e) if is_passing(e) || e.breaks_connection() => {
                self.failures.fetch_add(1, Ordering::Relaxed);
            }
            _ => self.round_trips.record(begun.elapsed()),
        }
        result
    }
}

impl Shard {
    pub fn new(
        volume: &VolumeName,
        number: u16,
        endpoint: &Endpoint,
        timeouts: Timeouts,
        patience: Duration,
    ) -> Shard {
        let prefix = Prefix::new(volume, number);
        let control = prefix.key("c");
        Shard {
            number,
            prefix,
            control,
            pool: Pool::new(endpoint.clone(), timeouts),
            patience,
            closing: Mutex::default(),
            traffic: Traffic::default(),
        }
    }

    /// Nothing is repeated after `until`, also of what has begun; one attempt is always made.
    pub fn close_by(&self, until: Instant) {
        *self.closing.lock() = Some(until);
    }

    /// Address of the server, for messages.
    pub fn server(&self) -> String {
        self.pool.endpoint().to_string()
    }

    /// The full number of an inode of this shard.
    pub fn inode(&self, local: u64) -> InodeId {
        InodeId(u64::from(self.number) << ringfs_base::limits::INODE_LOCAL_BITS | local)
    }

    /// Does something that may be done twice, until the server answers or patience ends.
    pub fn repeat<T>(
        &self,
        mut attempt: impl FnMut(&mut Conn) -> Result<T, LinkError>,
    ) -> Result<T, MetaError> {
        let mut patience = Patience::new(self);
        loop {
            let once = || self.pool.get().and_then(|mut conn| attempt(&mut conn));
            match self.traffic.count(once) {
                Ok(value) => return Ok(value),
                Err(e) if is_passing(&e) && patience.pause() => {}
                Err(e) => return Err(refused(e)),
            }
        }
    }

    /// One command that may be sent twice.
    pub fn call(&self, cmd: &Cmd<'_>) -> Result<Reply, MetaError> {
        self.repeat(|conn| conn.call(cmd))
    }

    /// A script that may run twice: its reply's first byte and the rest.
    pub fn run(&self, script: &Script, args: &[&[u8]]) -> Result<(u8, Bytes), MetaError> {
        let keys = [self.control.as_bytes()];
        split(script, self.repeat(|conn| conn.eval(script, &keys, args))?)
    }

    /// The same where every first byte but 0 is an error.
    pub fn ask(&self, script: &Script, args: &[&[u8]]) -> Result<Bytes, MetaError> {
        done(self.run(script, args)?)
    }
}

/// First byte and the rest of a script's reply.
pub fn split(script: &Script, reply: Reply) -> Result<(u8, Bytes), MetaError> {
    let mut bytes = reply.into_some_bytes().map_err(MetaError::Unavailable)?;
    if bytes.is_empty() {
        return Err(MetaError::Corrupt(format!("script \"{}\" gave no reply", script.name)));
    }
    let code = bytes.split_to(1)[0];
    Ok((code, bytes))
}

/// First byte of a reply: the session has been given up.
pub const FENCED: u8 = 250;
/// First byte of a reply: the server forgot what it had acknowledged.
pub const LOST: u8 = 251;

/// First byte of a mutation's reply: nothing had to be done, so the server does not remember it.
pub const UNCHANGED: u8 = 246;

/// Turns every first byte but 0 into its error.
pub fn done((code, rest): (u8, Bytes)) -> Result<Bytes, MetaError> {
    match code {
        0 => Ok(rest),
        FENCED => Err(MetaError::Fenced),
        LOST => Err(MetaError::Lost(
            "it came back with older data; look for a replica or a backup that has them, then \
             run `ringfs fsck`"
                .to_owned(),
        )),
        errno => Err(MetaError::Posix(Errno(errno))),
    }
}

/// Whether the same request may succeed soon.
pub fn is_passing(e: &LinkError) -> bool {
    match e {
        LinkError::Unavailable { .. } | LinkError::Lost { .. } | LinkError::TimedOut { .. } => true,
        // What a server says that is starting, changing its role, or busy.
        LinkError::Server { code, .. } => matches!(
            code.as_str(),
            "LOADING" | "BUSY" | "TRYAGAIN" | "READONLY" | "MASTERDOWN" | "CLUSTERDOWN"
        ),
        LinkError::Auth { .. } | LinkError::Tls { .. } | LinkError::Protocol { .. } => false,
    }
}

/// The error for a request that the server refused or never got.
pub fn refused(e: LinkError) -> MetaError {
    if e.is_oom() { MetaError::Posix(Errno::ENOSPC) } else { MetaError::Unavailable(e) }
}

/// Pauses between attempts, longer each time, until a deadline.
pub struct Patience<'a> {
    shard: &'a Shard,
    until: Instant,
    pause: Duration,
    first: bool,
}

impl Patience<'_> {
    pub fn new(shard: &Shard) -> Patience<'_> {
        let until = Instant::now() + shard.patience;
        Patience { shard, until, pause: PAUSE_AT_FIRST, first: true }
    }

    /// Waits before another attempt; false if there shall be none. The first comes at once: mostly
    /// an idle connection had been closed.
    pub fn pause(&mut self) -> bool {
        let (closing, now) = (*self.shard.closing.lock(), Instant::now());
        if std::mem::take(&mut self.first) {
            return closing.is_none_or(|closing| now < closing);
        }
        let until = closing.map_or(self.until, |closing| closing.min(self.until));
        let left = until.saturating_duration_since(now);
        if left.is_zero() {
            return false;
        }
        ringfs_link::about_to_wait();
        std::thread::sleep(self.pause.min(left));
        self.pause = (self.pause * 2).min(PAUSE_AT_MOST);
        true
    }
}
