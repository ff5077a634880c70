//! From a decoded operation to the file system's method and back to reply bytes.

use bytes::Bytes;

use crate::{
    attr::Entry,
    body::Body,
    data::Data,
    decode::{Header, Operation},
    device::{Delivery, Device},
    directory::{DirPlusSink, DirSink, looked_up},
    errno::{Errno, FsResult},
    filesystem::{FileLock, Filesystem, OpenHow, Opened, Release, Request},
};

/// Slices of one `writev` (IOV_MAX is 1024, one is the header); a read in more is copied.
const SLICES_MAX: usize = 1023;

/// What to write back.
#[expect(
    clippy::large_enum_variant,
    reason = "lives for one request on the stack; boxing would allocate on every getattr"
)]
pub(crate) enum Outcome {
    /// The kernel expects no answer.
    Silent,
    /// A fixed structure (or nothing but success).
    Fixed(Body),
    /// Payload.
    Payload(Data),
    /// The listing in the worker's scratch buffer.
    Listing,
}

/// What an answer has put into the kernel's books, to be taken back when it never got there.
pub(crate) enum Owed {
    Nothing,
    Lookup(u64),
    File(u64, u64, i32),
    Dir(u64, u64, i32),
    LookupAndFile(u64, u64, i32),
    Listing,
}

type Answer = FsResult<(Outcome, Owed)>;

fn done(body: Body) -> Answer {
    Ok((Outcome::Fixed(body), Owed::Nothing))
}

fn empty((): ()) -> Answer {
    done(Body::new())
}

fn entry(entry: Entry) -> Answer {
    let owed = if entry.ino == 0 { Owed::Nothing } else { Owed::Lookup(entry.ino) };
    Ok((Outcome::Fixed(entry.encode(Body::new())), owed))
}

fn opened(body: Body, opened: Opened) -> Body {
    body.u64(opened.fh).u32(opened.flags.bits()).zeros(4)
}

fn created((entry, file): (Entry, Opened), how: OpenHow) -> Answer {
    let body = opened(entry.encode(Body::new()), file);
    Ok((Outcome::Fixed(body), Owed::LookupAndFile(entry.ino, file.fh, how.flags)))
}

fn lock(lock: FileLock) -> Body {
    Body::new().u64(lock.start).u64(lock.end).u32(lock.kind.to_raw()).u32(lock.pid)
}

/// Answers an xattr request: its size when `size` is 0, else the bytes if they fit.
fn sized(value: Bytes, size: u32) -> Answer {
    let len = u32::try_from(value.len()).map_err(|_| Errno::E2BIG)?;
    match size {
        0 => done(Body::new().u32(len).zeros(4)),
        size if len > size => Err(Errno::ERANGE),
        _ => Ok((Outcome::Payload(value.into()), Owed::Nothing)),
    }
}

/// Calls the file system. `scratch` receives a directory listing.
pub(crate) fn call<F: Filesystem>(
    fs: &F,
    header: &Header<'_>,
    mut operation: Operation<'_>,
    scratch: &mut Vec<u8>,
) -> Answer {
    use Operation as Op;
    let mut req = Request {
        unique: header.unique,
        uid: header.uid,
        gid: header.gid,
        pid: header.pid,
        groups: header.groups,
    };
    let ino = header.nodeid;
    fs.admit(&mut req, ino, &mut operation)?;
    let req = &req;
    match operation {
        Op::Lookup { name } => fs.lookup(req, ino, name).and_then(entry),
        Op::Forget { nlookup } => {
            fs.forget(ino, nlookup);
            Ok((Outcome::Silent, Owed::Nothing))
        }
        Op::BatchForget(list) => {
            list.iter().for_each(|(ino, nlookup)| fs.forget(ino, nlookup));
            Ok((Outcome::Silent, Owed::Nothing))
        }
        Op::GetAttr { fh } => done(fs.getattr(req, ino, fh)?.encode()),
        Op::SetAttr(set) => done(fs.setattr(req, ino, &set)?.encode()),
        Op::Statx { fh, flags, mask } => done(fs.statx(req, ino, fh, flags, mask)?.encode()),
        Op::ReadLink => Ok((Outcome::Payload(fs.readlink(req, ino)?.into()), Owed::Nothing)),
        Op::Symlink { name, target } => fs.symlink(req, ino, name, target).and_then(entry),
        Op::MkNod { name, mode, umask, rdev } => {
            fs.mknod(req, ino, name, mode, umask, rdev).and_then(entry)
        }
        Op::MkDir { name, mode, umask } => fs.mkdir(req, ino, name, mode, umask).and_then(entry),
        Op::Unlink { name } => fs.unlink(req, ino, name).and_then(empty),
        Op::RmDir { name } => fs.rmdir(req, ino, name).and_then(empty),
        Op::Rename { name, newparent, newname, flags } => {
            fs.rename(req, ino, name, newparent, newname, flags).and_then(empty)
        }
        // In LINK the header names the new parent.
        Op::Link { ino: target, newname } => fs.link(req, target, ino, newname).and_then(entry),
        Op::Open(how) => {
            let file = fs.open(req, ino, how)?;
            Ok((Outcome::Fixed(opened(Body::new(), file)), Owed::File(ino, file.fh, how.flags)))
        }
        Op::OpenDir(how) => {
            let dir = fs.opendir(req, ino, how)?;
            Ok((Outcome::Fixed(opened(Body::new(), dir)), Owed::Dir(ino, dir.fh, how.flags)))
        }
        Op::Create { name, mode, umask, how } => {
            created(fs.create(req, ino, name, mode, umask, how)?, how)
        }
        Op::TmpFile { mode, umask, how } => created(fs.tmpfile(req, ino, mode, umask, how)?, how),
        Op::Read(at) => {
            let mut data = fs.read(req, ino, at)?;
            data.truncate(at.size as usize);
            Ok((Outcome::Payload(data), Owed::Nothing))
        }
        Op::Write(at) => done(Body::new().u32(fs.write(req, ino, at)?).zeros(4)),
        Op::StatFs => done(fs.statfs(req, ino)?.encode()),
        Op::Release(release) => fs.release(req, ino, release).and_then(empty),
        Op::ReleaseDir(release) => fs.releasedir(req, ino, release).and_then(empty),
        Op::Flush { fh, lock_owner } => fs.flush(req, ino, fh, lock_owner).and_then(empty),
        Op::FSync { fh, datasync } => fs.fsync(req, ino, fh, datasync).and_then(empty),
        Op::FSyncDir { fh, datasync } => fs.fsyncdir(req, ino, fh, datasync).and_then(empty),
        Op::SetXAttr { name, value, flags, acl_kill_sgid } => {
            fs.setxattr(req, ino, name, value, flags, acl_kill_sgid).and_then(empty)
        }
        Op::GetXAttr { name, size } => sized(fs.getxattr(req, ino, name)?, size),
        Op::ListXAttr { size } => sized(fs.listxattr(req, ino)?, size),
        Op::RemoveXAttr { name } => fs.removexattr(req, ino, name).and_then(empty),
        Op::ReadDir { fh, offset, size } => {
            let mut sink = DirSink::new(scratch, size as usize);
            fs.readdir(req, ino, fh, offset, &mut sink)?;
            Ok((Outcome::Listing, Owed::Nothing))
        }
        Op::ReadDirPlus { fh, offset, size } => {
            let mut sink = DirPlusSink::new(scratch, size as usize);
            fs.readdirplus(req, ino, fh, offset, &mut sink)?;
            Ok((Outcome::Listing, Owed::Listing))
        }
        Op::Access { mask } => fs.access(req, ino, mask).and_then(empty),
        Op::GetLk(request) => done(lock(fs.getlk(req, ino, &request)?)),
        Op::FAllocate { fh, offset, length, mode } => {
            fs.fallocate(req, ino, fh, offset, length, mode).and_then(empty)
        }
        Op::LSeek { fh, offset, whence } => {
            done(Body::new().u64(fs.lseek(req, ino, fh, offset, whence)?))
        }
        Op::CopyFileRange { range, wide_reply: true } => {
            done(Body::new().u64(fs.copy_file_range(req, ino, range)?))
        }
        Op::CopyFileRange { mut range, wide_reply: false } => {
            // The older reply counts in 32 bits.
            range.len = range.len.min(u64::from(u32::MAX));
            let copied = fs.copy_file_range(req, ino, range)?;
            let copied = u32::try_from(copied).map_err(|_| Errno::EIO)?;
            done(Body::new().u32(copied).zeros(4))
        }
        Op::SyncFs => fs.syncfs(req, ino).and_then(empty),
        // Session-level requests and those for locks never get here; polling, ioctl and bmap are not served.
        Op::Init { .. }
        | Op::Destroy
        | Op::Interrupt { .. }
        | Op::SetLk(_)
        | Op::SetLkWait(_)
        | Op::NotifyReply
        | Op::Unsupported { .. } => Err(Errno::ENOSYS),
    }
}

/// Writes an answer; takes back what the kernel never heard of.
pub(crate) fn deliver<F: Filesystem>(
    fs: &F,
    device: &Device,
    header: &Header<'_>,
    answer: Answer,
    scratch: &[u8],
) {
    let (outcome, owed) = match answer {
        Ok(answer) => answer,
        Err(errno) => {
            device.answer(header.unique, errno.to_wire(), &[]);
            return;
        }
    };
    let delivery = match &outcome {
        Outcome::Silent => return,
        Outcome::Fixed(body) => device.answer(header.unique, 0, &[body.as_slice()]),
        Outcome::Listing => device.answer(header.unique, 0, &[scratch]),
        Outcome::Payload(data) => payload(device, header.unique, data),
    };
    if delivery != Delivery::Taken {
        take_back(fs, header, owed, scratch);
    }
}

fn payload(device: &Device, unique: u64, data: &Data) -> Delivery {
    match data.parts() {
        [one] => device.answer(unique, 0, &[one]),
        parts if parts.len() <= SLICES_MAX => {
            let parts: Vec<&[u8]> = parts.iter().map(|part| &part[..]).collect();
            device.answer(unique, 0, &parts)
        }
        _ => device.answer(unique, 0, &[&data.concat()]),
    }
}

fn take_back<F: Filesystem>(fs: &F, header: &Header<'_>, owed: Owed, listing: &[u8]) {
    let req =
        &Request { unique: 0, uid: header.uid, gid: header.gid, pid: header.pid, groups: &[] };
    let closed = |fh, flags| Release { fh, flags, ..Release::default() };
    let result = match owed {
        Owed::Nothing => Ok(()),
        Owed::Lookup(ino) => {
            fs.forget(ino, 1);
            Ok(())
        }
        Owed::Listing => {
            looked_up(listing).for_each(|ino| fs.forget(ino, 1));
            Ok(())
        }
        Owed::File(ino, fh, flags) => fs.release(req, ino, closed(fh, flags)),
        Owed::Dir(ino, fh, flags) => fs.releasedir(req, ino, closed(fh, flags)),
        Owed::LookupAndFile(ino, fh, flags) => {
            let result = fs.release(req, ino, closed(fh, flags));
            fs.forget(ino, 1);
            result
        }
    };
    if let Err(errno) = result
        && errno != Errno::ENOSYS
    {
        tracing::warn!(%errno, "releasing a handle the kernel never received failed");
    }
}
