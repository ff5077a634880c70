//! Extended attributes, and the ACLs that are kept among them.

use super::Session;
use crate::acl::{Acl, AclKind};
use crate::attr::Attr;
use crate::error::MetaError;
use crate::reply::Reader;
use crate::scripts;
use crate::shard::done;
use crate::types::XattrMode;
use bytes::Bytes;
use ringfs_base::limits::{XATTR_NAME_BYTES_MAX, XATTR_VALUE_BYTES_MAX};
use ringfs_base::{Errno, InodeId, Timestamp};
use ringfs_link::Cmd;

fn checked(name: &[u8]) -> Result<(), MetaError> {
    match name.len() {
        0 => Err(Errno::EINVAL.into()),
        1..=XATTR_NAME_BYTES_MAX => Ok(()),
        _ => Err(Errno::ERANGE.into()),
    }
}

impl Session {
    /// An extended attribute; ENODATA.
    pub fn getxattr(&self, ino: InodeId, name: &[u8]) -> Result<Bytes, MetaError> {
        checked(name)?;
        let shard = &self.of(ino)?.shard;
        let key = shard.prefix.of_inode('e', ino.local());
        let reply = shard.call(&Cmd::new("HGET").arg(key).arg(name))?;
        let value = reply.into_bytes().map_err(MetaError::Unavailable)?;
        Ok(value.ok_or(Errno::ENODATA)?)
    }

    /// Sets one; EEXIST, ENODATA by `mode`.
    pub fn setxattr(
        &self,
        ino: InodeId,
        name: &[u8],
        value: &[u8],
        mode: XattrMode,
        now: Timestamp,
    ) -> Result<Attr, MetaError> {
        checked(name)?;
        if value.len() > XATTR_VALUE_BYTES_MAX {
            return Err(Errno::E2BIG.into());
        }
        let mode = match mode {
            XattrMode::Either => 0,
            XattrMode::Create => 1,
            XattrMode::Replace => 2,
            XattrMode::CreateAndReplace => 3,
        };
        let request = [&ino.to_bytes()[..], &now.0.to_be_bytes(), &[mode]].concat();
        let args = [&request, name, value];
        let rest = done(self.of(ino)?.lanes.mutate(&scripts::SETXATTR, &args)?)?;
        Reader::new("setxattr", rest).sized_attr(ino)
    }

    /// Sets an ACL, or removes it. An access ACL sets the permission bits, and is not kept if it
    /// says no more than they. `kill_sgid`: the caller may not keep the set-group-id bit.
    /// EOPNOTSUPP for a symbolic link, EACCES for a default ACL of what is no directory.
    pub fn set_acl(
        &self,
        ino: InodeId,
        kind: AclKind,
        acl: Option<&Acl>,
        kill_sgid: bool,
        now: Timestamp,
    ) -> Result<Attr, MetaError> {
        let access = kind == AclKind::Access;
        let kept = acl.filter(|acl| !(access && acl.is_mode())).map(Acl::encode);
        let request = [
            &ino.to_bytes()[..],
            &now.0.to_be_bytes(),
            &[if access { 1 } else { 2 }, u8::from(access && acl.is_some())],
            &acl.map_or(0, Acl::perm).to_be_bytes(),
            &[u8::from(kill_sgid && access)],
        ]
        .concat();
        let args: [&[u8]; 2] = [&request, kept.as_deref().unwrap_or_default()];
        let rest = done(self.of(ino)?.lanes.mutate(&scripts::SETACL, &args)?)?;
        Reader::new("setacl", rest).sized_attr(ino)
    }

    /// Their names.
    pub fn listxattr(&self, ino: InodeId) -> Result<Vec<Vec<u8>>, MetaError> {
        let shard = &self.of(ino)?.shard;
        let key = shard.prefix.of_inode('e', ino.local());
        let names = shard.call(&Cmd::new("HKEYS").arg(key))?.into_array();
        let mut out = Vec::new();
        for name in names.map_err(MetaError::Unavailable)? {
            out.push(name.into_some_bytes().map_err(MetaError::Unavailable)?.to_vec());
        }
        out.sort_unstable();
        Ok(out)
    }

    /// Removes one; ENODATA.
    pub fn removexattr(
        &self,
        ino: InodeId,
        name: &[u8],
        now: Timestamp,
    ) -> Result<Attr, MetaError> {
        checked(name)?;
        let request = [ino.to_bytes(), now.0.to_be_bytes()].concat();
        let args = [&request, name];
        let rest = done(self.of(ino)?.lanes.mutate(&scripts::REMOVEXATTR, &args)?)?;
        Reader::new("removexattr", rest).sized_attr(ino)
    }
}
