//! A volume seen by tools: making it, its record, its ring, its sessions.

mod barrier;
mod lost;
mod quotas;
mod ring;
mod scan;
mod trash;
mod tree;

pub use lost::{LOST_FILES_MAX, LostFile};
pub use ring::{Observed, Report, RingChange, RingState, Token};
pub use scan::{ChunkFound, EntryFound};

use crate::attr::{Attr, AttrFlags, FileKind};
use crate::config::VolumeConfig;
use crate::error::MetaError;
use crate::reply::Reader;
use crate::schema::FIRST_INODE;
use crate::scripts;
use crate::session::Session;
use crate::shard::{PATIENCE, Shard};
use crate::types::{MetaTraffic, SessionInfo, SessionRecord, SlicesInFlight, Usage};
use parking_lot::RwLock;
use ringfs_base::limits::FORMAT_VERSION;
use ringfs_base::{Epoch, Errno, InodeId, SessionId, SliceId, Timestamp, VolumeName};
use ringfs_link::{Cmd, Endpoint, Timeouts};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// An open volume. Cheap to clone.
#[derive(Clone)]
pub struct Volume {
    inner: Arc<Inner>,
}

struct Inner {
    name: VolumeName,
    config: RwLock<Arc<VolumeConfig>>,
    /// By number. An inode's shard is in its own number, so nobody assumes that there is one only.
    shards: Vec<Arc<Shard>>,
}

impl Volume {
    /// Makes a new volume with an empty root directory (mode 0755, owned by `uid`, `gid`).
    /// [`MetaError::VolumeExists`] if the name is taken. The ring is empty, at epoch 0.
    pub fn format(
        endpoint: &Endpoint,
        timeouts: Timeouts,
        config: &VolumeConfig,
        uid: u32,
        gid: u32,
        now: Timestamp,
    ) -> Result<Volume, MetaError> {
        let shard = Shard::new(&config.name, 0, endpoint, timeouts, PATIENCE);
        let root = Attr {
            ino: InodeId::ROOT,
            kind: FileKind::Directory,
            perm: 0o755,
            flags: AttrFlags::default(),
            nlink: 2,
            uid,
            gid,
            size: 0,
            mtime: now,
            ctime: now,
            atime: now,
            btime: now,
            rdev: 0,
            parent: Some(InodeId::ROOT),
            entries: 0,
            buckets: 1,
        };
        let mut args = vec![
            root.pack(),
            FIRST_INODE.to_string().into_bytes(),
            config.inodes_max.to_string().into_bytes(),
            config.bytes_max.to_string().into_bytes(),
        ];
        for (field, value) in config.encode() {
            args.push(field.into());
            args.push(value.into_bytes());
        }
        let args: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
        match shard.ask(&scripts::FORMAT, &args) {
            Ok(_) => {}
            Err(e) if e.is(Errno::EEXIST) => {
                // Repeated after a lost reply, the script finds what it made itself.
                let found = read_config(&shard, &config.name)?;
                if found.uuid != config.uuid {
                    let (name, server) = (config.name.clone(), shard.server());
                    return Err(MetaError::VolumeExists { name, server });
                }
            }
            Err(e) => return Err(e),
        }
        Ok(Volume::of(config.clone(), shard))
    }

    /// Opens a volume. [`MetaError::NoSuchVolume`], [`MetaError::NewerFormat`].
    pub fn open(
        endpoint: &Endpoint,
        timeouts: Timeouts,
        name: &VolumeName,
    ) -> Result<Volume, MetaError> {
        Volume::open_with_patience(endpoint, timeouts, name, PATIENCE)
    }

    /// The same, with another limit for how long an operation is repeated while the server does
    /// not answer.
    pub fn open_with_patience(
        endpoint: &Endpoint,
        timeouts: Timeouts,
        name: &VolumeName,
        patience: Duration,
    ) -> Result<Volume, MetaError> {
        let shard = Shard::new(name, 0, endpoint, timeouts, patience);
        let config = read_config(&shard, name)?;
        Ok(Volume::of(config, shard))
    }

    fn of(config: VolumeConfig, shard: Shard) -> Volume {
        let name = config.name.clone();
        let config = RwLock::new(Arc::new(config));
        Volume { inner: Arc::new(Inner { name, config, shards: vec![Arc::new(shard)] }) }
    }

    pub(crate) fn shards(&self) -> &[Arc<Shard>] {
        &self.inner.shards
    }

    /// The shard that holds the volume's record, its ring and its sessions.
    fn home(&self) -> &Shard {
        &self.inner.shards[0]
    }

    fn shard_of(&self, ino: InodeId) -> Result<&Shard, MetaError> {
        Ok(self.inner.shards.get(usize::from(ino.shard())).ok_or(Errno::ESTALE)?)
    }

    /// The record as it was when the volume was opened or last [`Self::reload`]ed.
    pub fn config(&self) -> Arc<VolumeConfig> {
        Arc::clone(&self.inner.config.read())
    }

    /// Reads the record again (limits, nodes).
    pub fn reload(&self) -> Result<Arc<VolumeConfig>, MetaError> {
        let config = Arc::new(read_config(self.home(), &self.inner.name)?);
        *self.inner.config.write() = Arc::clone(&config);
        Ok(config)
    }

    /// Changes the limits (0 = none).
    pub fn set_limits(&self, inodes_max: u64, bytes_max: u64) -> Result<(), MetaError> {
        for shard in self.shards() {
            let cmd = Cmd::new("HSET").arg(&shard.control).arg("max_inodes");
            let cmd = cmd.arg(inodes_max.to_string()).arg("max_bytes").arg(bytes_max.to_string());
            shard.call(&cmd)?;
        }
        self.reload().map(|_| ())
    }

    /// What was asked of the metadata servers through this and its clones so far.
    pub fn traffic(&self) -> MetaTraffic {
        let mut all = MetaTraffic::default();
        for shard in self.shards() {
            all.round_trips.add(&shard.traffic.round_trips.counts());
            all.failures += shard.traffic.failures.load(Ordering::Relaxed);
        }
        all
    }

    /// Registers a session.
    pub fn start_session(&self, info: &SessionInfo) -> Result<Arc<Session>, MetaError> {
        let text = info.write();
        let mut id = SessionId(0);
        let mut began = (0, Epoch(0), 0);
        for shard in self.shards() {
            let args = [&id.to_bytes()[..], text.as_bytes()];
            let rest = shard.ask(&scripts::SESSION_START, &args)?;
            let mut reply = Reader::new("session_start", rest);
            id = SessionId(reply.u64()?);
            let this = (reply.u32()?, Epoch(reply.u64()?), reply.u64()?);
            if shard.number == 0 {
                began = this;
            }
        }
        Ok(Arc::new(Session::new(self.clone(), id, began.0, began.1, began.2)))
    }

    /// The registered sessions.
    pub fn sessions(&self) -> Result<Vec<SessionRecord>, MetaError> {
        let home = self.home();
        let now = home.call(&Cmd::new("TIME"))?.into_array().map_err(MetaError::Unavailable)?;
        let now = match now.into_iter().next() {
            Some(seconds) => seconds.into_int().map_err(MetaError::Unavailable)? as u64,
            None => return Err(Errno::EPROTO.into()),
        };
        let ids = home.call(&Cmd::new("ZRANGE").arg(home.prefix.key("b")).int(0).int(-1))?;
        let mut sessions = Vec::new();
        for id in ids.into_array().map_err(MetaError::Unavailable)? {
            let id = id.into_some_bytes().map_err(MetaError::Unavailable)?;
            let cmd = Cmd::new("HMGET").arg(&home.control);
            let cmd = cmd.arg([b"s", &id[..]].concat()).arg([b"i", &id[..]].concat());
            let reply = home.call(&cmd)?.into_array().map_err(MetaError::Unavailable)?;
            let mut values = Vec::new();
            for value in reply {
                values.push(value.into_bytes().map_err(MetaError::Unavailable)?);
            }
            // One that has left meanwhile has no record any more.
            if let [Some(record), Some(info)] = values.as_slice() {
                let mut id = Reader::new("sessions", id);
                let mut record = Reader::new("sessions", record.clone());
                record.u64()?;
                let heartbeat = record.u64()?;
                record.u64()?;
                sessions.push(SessionRecord {
                    id: SessionId(id.u64()?),
                    info: SessionInfo::read(info),
                    idle_seconds: now.saturating_sub(heartbeat),
                    epoch: Epoch(record.u64()?),
                });
            }
        }
        Ok(sessions)
    }

    /// Gives up the sessions that sent no heartbeat for longer than `lease` (whole seconds), by
    /// the server's clock. From then on they can change nothing. At most 64 a call.
    pub fn reap(&self, lease: Duration) -> Result<Vec<SessionId>, MetaError> {
        let mut gone = Vec::new();
        for shard in self.shards() {
            let lease = lease.as_secs().to_string();
            let mut reply = Reader::new("reap", shard.ask(&scripts::REAP, &[lease.as_bytes()])?);
            while !reply.is_empty() {
                gone.push(SessionId(reply.u64()?));
            }
        }
        gone.sort_unstable();
        gone.dedup();
        Ok(gone)
    }

    /// How much it holds.
    pub fn usage(&self) -> Result<Usage, MetaError> {
        let mut total = Usage::default();
        for shard in self.shards() {
            let mut reply = Reader::new("usage", shard.ask(&scripts::USAGE, &[])?);
            total.inodes += reply.u64()?;
            total.bytes += reply.u64()?;
            total.inodes_max = reply.u64()?;
            total.bytes_max = reply.u64()?;
        }
        Ok(total)
    }

    /// Attributes; ESTALE if there is no such inode.
    pub fn getattr(&self, ino: InodeId) -> Result<Attr, MetaError> {
        let shard = self.shard_of(ino)?;
        let (key, field) = shard.prefix.attr(ino.local());
        let reply = shard.call(&Cmd::new("HGET").arg(key).int(field as i64))?;
        let bytes = reply.into_bytes().map_err(MetaError::Unavailable)?.ok_or(Errno::ESTALE)?;
        Reader::new("HGET", bytes).last_attr(ino)
    }

    /// Grows with every copy that lets a chunk show slices of another: while it stays, no slice gets
    /// another owner.
    pub fn shares(&self) -> Result<u64, MetaError> {
        let mut sum = 0u64;
        for shard in self.shards() {
            let reply = shard.call(&Cmd::new("HGET").arg(&shard.control).arg("shares"))?;
            let text = reply.into_bytes().map_err(MetaError::Unavailable)?.unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            let count = if text.is_empty() { Some(0) } else { text.parse().ok() };
            let unreadable = || MetaError::Corrupt("the counter \"shares\" is no number".into());
            sum = sum.wrapping_add(count.ok_or_else(unreadable)?);
        }
        Ok(sum)
    }

    /// Which slices may be under way: ask before scanning the extents.
    pub fn slices_in_flight(&self) -> Result<SlicesInFlight, MetaError> {
        let home = self.home();
        // The ranges first: one that is handed out afterwards lies beyond `next`, or is below it
        // and then its slices are not written yet.
        let next = Cmd::new("HGET").arg(&home.control).arg("next_slice");
        let next = home.call(&next)?.into_int().map_err(MetaError::Unavailable)? as u64;
        let all = home.call(&Cmd::new("HVALS").arg(home.prefix.key("g")))?;
        let mut ranges = Vec::new();
        for list in all.into_array().map_err(MetaError::Unavailable)? {
            let list = list.into_some_bytes().map_err(MetaError::Unavailable)?;
            let mut reader = Reader::new("slices", list);
            while !reader.is_empty() {
                let (from, count) = (reader.u64()?, reader.u64()?);
                ranges.push((SliceId(from), SliceId(from.saturating_add(count))));
            }
        }
        Ok(SlicesInFlight { ranges, next: SliceId(next) })
    }
}

fn read_config(shard: &Shard, name: &VolumeName) -> Result<VolumeConfig, MetaError> {
    let record = shard.call(&Cmd::new("HGETALL").arg(shard.prefix.key("v")))?;
    let mut fields = BTreeMap::new();
    for (field, value) in record.into_map().map_err(MetaError::Unavailable)? {
        let text = |reply: ringfs_link::Reply| {
            let bytes = reply.into_some_bytes().map_err(MetaError::Unavailable)?;
            String::from_utf8(bytes.to_vec()).map_err(|_| {
                MetaError::Corrupt(format!("the record of volume \"{name}\" is no text"))
            })
        };
        fields.insert(text(field)?, text(value)?);
    }
    if fields.is_empty() {
        return Err(MetaError::NoSuchVolume { name: name.clone(), server: shard.server() });
    }
    let found = fields.get("format").and_then(|text| text.parse().ok()).unwrap_or(0);
    if found > FORMAT_VERSION {
        return Err(MetaError::NewerFormat { name: name.clone(), found, known: FORMAT_VERSION });
    }
    let cmd = Cmd::new("HMGET").arg(&shard.control).arg("max_inodes").arg("max_bytes");
    let mut limits = [0; 2];
    let values = shard.call(&cmd)?.into_array().map_err(MetaError::Unavailable)?;
    for (limit, value) in limits.iter_mut().zip(values) {
        *limit = value.into_int().map_err(MetaError::Unavailable)? as u64;
    }
    VolumeConfig::decode(&fields, (limits[0], limits[1])).map_err(|field| {
        MetaError::Corrupt(format!("the record of volume \"{name}\" has no valid \"{field}\""))
    })
}
