//! When acknowledged metadata are safe: the barrier behind fsync.

use super::Volume;
use crate::config::Durability;
use crate::error::MetaError;
use crate::shard::{Shard, is_passing};
use ringfs_base::Errno;
use ringfs_link::{Cmd, Conn, LinkError};
use std::time::Duration;

impl Volume {
    /// Returns when everything acknowledged so far is safe at the volume's durability level.
    pub fn barrier(&self) -> Result<(), MetaError> {
        let level = self.config().durability;
        for shard in self.shards() {
            match level {
                Durability::Memory => {}
                Durability::Replica(count) => wait(shard, i64::from(count), None)?,
                Durability::Disk => wait(shard, 0, Some(1))?,
            }
        }
        Ok(())
    }
}

/// Raises a counter and waits, on the same connection, until so many replicas have it (WAIT), or
/// this server's disk has (WAITAOF). The counter is a write of ours: some servers answer a WAIT
/// at once on a connection that has not written. EIO if it takes too long: not known to be safe.
fn wait(shard: &Shard, replicas: i64, disks: Option<i64>) -> Result<(), MetaError> {
    let counter = shard.prefix.key("barrier");
    let limit = shard.pool.timeouts().reply.max(Duration::from_millis(1));
    // The server gives up a little before we would.
    let server_limit = i64::try_from(limit.as_millis() * 9 / 10).unwrap_or(i64::MAX).max(1);
    let safe = shard.repeat(|conn| {
        if disks.is_some() && !conn.server_version().at_least(7, 2) {
            return writes_through(conn, &counter);
        }
        conn.call(&Cmd::new("INCR").arg(&counter))?;
        let (cmd, wanted) = match disks {
            Some(disks) => (Cmd::new("WAITAOF").int(disks), disks),
            None => (Cmd::new("WAIT"), replicas),
        };
        let mut reply = conn.call(&cmd.int(replicas).int(server_limit))?;
        if disks.is_some() {
            let both = reply.into_array()?;
            reply = both.into_iter().next().ok_or_else(|| LinkError::unexpected("no count"))?;
        }
        Ok(reply.into_int()? >= wanted)
    });
    match safe {
        Ok(true) => Ok(()),
        Ok(false) => Err(Errno::EIO.into()),
        Err(MetaError::Unavailable(e)) if !is_passing(&e) && e.code() == Some("ERR") => {
            // WAITAOF on a server without an append-only file.
            Err(Errno::EIO.into())
        }
        Err(e) => Err(e),
    }
}

/// Servers before 7.2 cannot be asked to wait for their disk; with `appendfsync always` every
/// reply has waited already.
fn writes_through(conn: &mut Conn, counter: &str) -> Result<bool, LinkError> {
    let mut get = |name: &str| -> Result<bool, LinkError> {
        let pairs = conn.call(&Cmd::new("CONFIG").arg("GET").arg(name))?.into_map()?;
        Ok(pairs.iter().any(|(_, value)| matches!(value.as_bytes(), Some(b"yes" | b"always"))))
    };
    let through = get("appendonly")? && get("appendfsync")?;
    conn.call(&Cmd::new("INCR").arg(counter))?;
    Ok(through)
}
