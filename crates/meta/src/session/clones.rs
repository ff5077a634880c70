//! Copies that move no data, and inodes without a name, of which clones are made.

use super::Session;
use crate::attr::{ATTR_BYTES, Attr, AttrFlags, FileKind};
use crate::error::MetaError;
use crate::extents::ExtentRecord;
use crate::reply::Reader;
use crate::schema::NameHash;
use crate::scripts;
use crate::shard::done;
use crate::types::{CloneItem, Cloned, Committed, NewInode, ShareRequest, Shared};
use ringfs_base::limits::{CHUNK_BYTES, FILE_BYTES_MAX, NAME_BYTES_MAX};
use ringfs_base::{Errno, InodeId, SliceId, Timestamp};
use sha1::{Digest, Sha1};
use std::collections::HashSet;

/// First byte of share's reply that says that the source is another than the caller read.
const CHANGED: u8 = 245;

/// Most inodes of one [`Session::clone_inodes`].
pub(crate) const CLONES_MAX: usize = 64;

impl Session {
    /// Lets a file show slices of another. EINVAL (no file, or a record that cannot be), EFBIG.
    pub fn share(&self, request: &ShareRequest<'_>, now: Timestamp) -> Result<Shared, MetaError> {
        let ShareRequest { source, version, read, destination, records, end, writer } = request;
        if *end > FILE_BYTES_MAX {
            return Err(Errno::EFBIG.into());
        }
        if source.shard() != destination.shard() {
            return Err(Errno::EXDEV.into());
        }
        let known: HashSet<SliceId> =
            read.iter().flat_map(|(_, all)| all.iter().map(|record| record.slice)).collect();
        let shown = |record: &ExtentRecord| record.is_hole() || known.contains(&record.slice);
        let sound = records
            .iter()
            .flat_map(|(_, list)| list)
            .all(|record| record.end() <= CHUNK_BYTES && shown(record));
        if !sound {
            return Err(Errno::EINVAL.into());
        }
        let mut head = [
            source.to_bytes(),
            version.0.to_be_bytes(),
            destination.to_bytes(),
            end.to_be_bytes(),
            now.0.to_be_bytes(),
        ]
        .concat();
        head.push(u8::from(writer.privileged) | u8::from(writer.kill_suid) << 1);
        let mut args = vec![head, read.len().to_string().into_bytes()];
        for (chunk, all) in *read {
            args.push(chunk.to_string().into_bytes());
            args.push(hex(&Sha1::digest(ExtentRecord::pack_all(all))));
        }
        for (chunk, list) in *records {
            args.push(chunk.to_string().into_bytes());
            args.push(ExtentRecord::pack_all(list));
        }
        let args: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
        let (code, rest) = self.of(*destination)?.lanes.mutate(&scripts::SHARE, &args)?;
        if code == CHANGED {
            return Ok(Shared::Changed);
        }
        let mut reply = Reader::new("share", done((code, rest))?);
        let attr = reply.attr(*destination, ATTR_BYTES)?;
        let previous = Timestamp(reply.u64()? as i64);
        let records = reply.u32()?;
        Ok(Shared::Done(Committed {
            attr,
            previous,
            placed_at: *end,
            records,
            epoch: self.epoch(),
        }))
    }

    /// Makes a file that has no name (`O_TMPFILE`), or a directory that has none: a place to build
    /// what shall appear at once. This session holds it until [`Session::release_hold`];
    /// [`Session::link`] gives a file its first name.
    pub fn create_nameless(
        &self,
        parent: InodeId,
        new: &NewInode<'_>,
        now: Timestamp,
    ) -> Result<Attr, MetaError> {
        let is_dir = match new.kind {
            FileKind::File => false,
            FileKind::Directory => true,
            _ => return Err(Errno::EINVAL.into()),
        };
        let of = self.of(parent)?;
        let ino = self.alloc_inode(parent)?;
        let linkable = if is_dir { 0 } else { AttrFlags::NAMELESS };
        let attr = Attr {
            ino,
            kind: new.kind,
            perm: new.perm & 0o7777 & !(new.umask & 0o777),
            flags: AttrFlags(AttrFlags::ORPHAN | linkable),
            nlink: if is_dir { 2 } else { 0 },
            uid: new.uid,
            gid: new.gid,
            size: 0,
            mtime: now,
            ctime: now,
            atime: now,
            btime: now,
            rdev: 0,
            parent: is_dir.then_some(ino),
            entries: 0,
            buckets: u32::from(is_dir),
        };
        let asked = (new.perm & 0o777).to_be_bytes();
        let request = [&parent.to_bytes()[..], &ino.to_bytes(), &asked].concat();
        let reply = of.lanes.mutate(&scripts::TMPFILE, &[&request, &attr.pack()]);
        // Any answer but "done" means that the number is free; no answer means nothing.
        if !matches!(&reply, Ok((0, _)) | Err(_)) {
            self.give_back(ino);
        }
        Reader::new("tmpfile", done(reply?)?).last_attr(ino)
    }

    /// Copies inodes (at most 64) into a directory, each as it is at the moment; tells what became
    /// of the first of them, at least one: go on with the rest. Limits of owners do
    /// not stop the `privileged`. EEXIST, ENOSPC, EDQUOT.
    pub fn clone_inodes(
        &self,
        directory: InodeId,
        items: &[CloneItem<'_>],
        privileged: bool,
        now: Timestamp,
    ) -> Result<Vec<Cloned>, MetaError> {
        if items.is_empty() || items.len() > CLONES_MAX {
            return Err(Errno::EINVAL.into());
        }
        let of = self.of(directory)?;
        let mut head = [directory.to_bytes(), now.0.to_be_bytes()].concat();
        head.push(u8::from(privileged));
        let mut args = vec![head];
        let mut copies = Vec::with_capacity(items.len());
        for item in items {
            if item.source.shard() != directory.shard() {
                return Err(Errno::EXDEV.into());
            }
            if item.name.is_empty() || item.name.len() > NAME_BYTES_MAX {
                return Err(Errno::EINVAL.into());
            }
            let copy = self.alloc_inode(directory)?;
            copies.push(copy);
            let hash = NameHash::of(item.name).bucket_bits.to_be_bytes();
            args.push([&item.source.to_bytes()[..], &copy.to_bytes(), &hash].concat());
            args.push(item.name.to_vec());
        }
        let args: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
        let reply = of.lanes.mutate(&scripts::CLONE, &args);
        if !matches!(&reply, Ok((0, _)) | Err(_)) {
            copies.iter().for_each(|copy| self.give_back(*copy));
        }
        let rest = done(reply?)?;
        let dealt_with = rest.len().saturating_sub(crate::attr::ATTR_BYTES_WITH_AUX);
        let mut reply = Reader::new("clone", rest);
        let mut out = Vec::with_capacity(dealt_with);
        for copy in copies.iter().take(dealt_with) {
            out.push(match reply.u8()? {
                1 => Cloned::Done(*copy),
                2 => Cloned::Gone,
                3 => Cloned::Empty(*copy),
                _ => return Err(Errno::EPROTO.into()),
            });
        }
        for (copy, cloned) in copies.iter().zip(&out) {
            if *cloned == Cloned::Gone {
                self.give_back(*copy);
            }
        }
        copies[out.len()..].iter().for_each(|copy| self.give_back(*copy));
        if out.is_empty() {
            return Err(Errno::EPROTO.into());
        }
        Ok(out)
    }
}

fn hex(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().flat_map(|byte| format!("{byte:02x}").into_bytes()).collect()
}
