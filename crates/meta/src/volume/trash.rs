//! Setting and listing the trash.

use super::Volume;
use crate::error::MetaError;
use crate::reply::Reader;
use crate::schema::NameHash;
use crate::scripts;
use crate::trash::{Trash, TrashItem, TrashSlot, decode_entry};
use ringfs_base::{Errno, InodeId, SessionId, Timestamp};
use ringfs_link::Cmd;
use std::time::Duration;

/// Bit of the field `extras`, see `schema`.
const TRASH_ON: u64 = 4;
/// Names asked for at once.
const PAGE_NAMES: u32 = 1024;

impl Volume {
    /// Keeps what is deleted for so long (whole seconds), or deletes at once again (zero). EEXIST if
    /// the root has a `.trash` that is none, EINVAL if it is longer than 136 years.
    pub fn set_trash(&self, keep: Duration, now: Timestamp) -> Result<(), MetaError> {
        let seconds = match keep.as_secs() {
            0 if !keep.is_zero() => 1,
            seconds => u32::try_from(seconds).map_err(|_| Errno::EINVAL)?,
        };
        let hash = NameHash::of(b".trash").bucket_bits.to_be_bytes();
        let args = [seconds.to_string().into_bytes(), now.0.to_be_bytes().to_vec(), hash.to_vec()];
        let args: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
        self.home().ask(&scripts::TRASH_SET, &args).map(|_| ())
    }

    /// The trash, if there ever was one.
    pub fn trash(&self) -> Result<Option<Trash>, MetaError> {
        let home = self.home();
        let cmd = Cmd::new("HMGET").arg(&home.control).arg("trash").arg("extras");
        let mut values = Vec::new();
        for value in home.call(&cmd)?.into_array().map_err(MetaError::Unavailable)? {
            values.push(value.into_bytes().map_err(MetaError::Unavailable)?.unwrap_or_default());
        }
        let [trash, extras] = values.as_slice() else { return Err(Errno::EPROTO.into()) };
        if trash.is_empty() {
            return Ok(None);
        }
        let extras: u64 = String::from_utf8_lossy(extras).parse().unwrap_or(0);
        let mut reply = Reader::new("trash", trash.clone());
        let directory = reply.ino()?;
        let keep = Duration::from_secs(u64::from(reply.u32()?));
        Ok(Some(Trash { directory, keep, on: extras & TRASH_ON != 0 }))
    }

    /// What expires when, in no order.
    pub fn trash_slots(&self, trash: &Trash) -> Result<Vec<TrashSlot>, MetaError> {
        let mut slots = Vec::new();
        let mut after = Some(0);
        while let Some(cookie) = after {
            let page = self.readdir(trash.directory, cookie, PAGE_NAMES, true)?;
            for item in page.items {
                let expires = std::str::from_utf8(&item.name).ok().and_then(|t| t.parse().ok());
                // What people put there by hand is theirs.
                if let Some(expires) = expires.filter(|_| item.attr.is_some_and(|a| a.is_dir())) {
                    slots.push(TrashSlot { directory: item.ino, name: item.name, expires });
                }
            }
            after = page.next;
        }
        Ok(slots)
    }

    /// What is in one slot.
    pub fn trash_items(&self, slot: &TrashSlot) -> Result<Vec<TrashItem>, MetaError> {
        let mut items = Vec::new();
        let mut after = Some(0);
        while let Some(cookie) = after {
            let page = self.readdir(slot.directory, cookie, PAGE_NAMES, true)?;
            for item in page.items {
                let Some(attr) = item.attr else { continue };
                let shard = self.shard_of(item.ino)?;
                let (parent, name) = match decode_entry(&item.name) {
                    Some((parent, name)) => (shard.inode(parent), name.to_vec()),
                    None => (InodeId(0), item.name.clone()),
                };
                let (slot, expires) = (slot.directory, slot.expires);
                items.push(TrashItem { slot, entry: item.name, parent, name, attr, expires });
            }
            after = page.next;
        }
        Ok(items)
    }

    /// Whether it is this session's turn, for so long (whole seconds), to remove what has expired;
    /// and the server's time in seconds.
    pub fn trash_turn(
        &self,
        session: SessionId,
        lasts: Duration,
    ) -> Result<(bool, u64), MetaError> {
        let lasts = lasts.as_secs().max(1).to_string();
        let args = [&session.to_bytes()[..], lasts.as_bytes()];
        let mut reply = Reader::new("trash_turn", self.home().ask(&scripts::TRASH_TURN, &args)?);
        Ok((reply.u8()? == 1, reply.u64()?))
    }
}
