//! The trash for people: what is in it, putting it back, emptying it.

use crate::error::ClusterError;
use crate::job::Job;
use crate::leftovers::{Alive, empty, now};
use crate::subject::Subject;
use ringfs_base::{Errno, InodeId};
use ringfs_meta::{MetaError, RenameMode, Session, SessionInfo, TrashItem, Victim, Volume};
use serde::Serialize;
use std::collections::HashMap;
use std::sync::Arc;

/// Directories above one another that a path may have; more are a circle.
const DEPTH_MAX: usize = 4096;

/// One inode in the trash, with the path that it had.
#[derive(Clone, Debug)]
pub struct Deleted {
    /// The inode.
    pub item: TrashItem,
    /// Its path; `None` if the directory that it was in is gone for good.
    pub path: Option<Vec<u8>>,
}

/// What [`restore_trash`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Restored {
    /// Paths that are there again; one that was taken has `.deleted-` and its inode number behind it.
    pub paths: Vec<String>,
    /// What stays in the trash, and why.
    pub left: Vec<(String, String)>,
}

/// Everything in the trash, what was deleted last first. Nothing if there is none.
///
/// # Errors
/// When the metadata cannot be read.
pub fn list_trash(volume: &Volume) -> Result<Vec<Deleted>, ClusterError> {
    let Some(trash) = volume.trash()? else { return Ok(Vec::new()) };
    let mut items = Vec::new();
    for slot in volume.trash_slots(&trash)? {
        match volume.trash_items(&slot) {
            Ok(found) => items.extend(found),
            // It has expired since.
            Err(error) if error.is(Errno::ESTALE) => {}
            Err(error) => return Err(error.into()),
        }
    }
    items.sort_by_key(|item| (std::cmp::Reverse(item.attr.ctime), item.attr.ino));
    let by_ino: HashMap<InodeId, &TrashItem> =
        items.iter().map(|item| (item.attr.ino, item)).collect();
    let mut known: HashMap<InodeId, Option<Vec<u8>>> = HashMap::new();
    let mut out = Vec::with_capacity(items.len());
    for item in &items {
        out.push(Deleted {
            item: item.clone(),
            path: old_path(volume, item, &by_ino, &mut known)?,
        });
    }
    Ok(out)
}

fn old_path(
    volume: &Volume,
    item: &TrashItem,
    by_ino: &HashMap<InodeId, &TrashItem>,
    known: &mut HashMap<InodeId, Option<Vec<u8>>>,
) -> Result<Option<Vec<u8>>, ClusterError> {
    let (mut names, mut parent) = (vec![item.name.clone()], item.parent);
    while let Some(above) = by_ino.get(&parent) {
        if names.len() > DEPTH_MAX {
            return Ok(None);
        }
        names.push(above.name.clone());
        parent = above.parent;
    }
    let top = match known.get(&parent) {
        Some(path) => path.clone(),
        None => {
            let path = match volume.path_of(parent) {
                Ok(path) => Some(path),
                Err(MetaError::Posix(_)) => None,
                Err(error) => return Err(error.into()),
            };
            known.insert(parent, path.clone());
            path
        }
    };
    Ok(top.map(|mut path| {
        for name in names.iter().rev() {
            if path.last() != Some(&b'/') {
                path.push(b'/');
            }
            path.extend_from_slice(name);
        }
        path
    }))
}

/// Puts back what had one of the paths, or lay below one; everything if there are none. Directories in
/// the trash that lead there come back, too.
///
/// # Errors
/// When the metadata cannot be changed. What cannot be put back is no error, but told.
pub fn restore_trash(
    subject: &Subject,
    paths: &[Vec<u8>],
    job: &Job,
) -> Result<Restored, ClusterError> {
    job.begin("restoring", 0)?;
    let all = list_trash(&subject.volume)?;
    let wanted = |path: &[u8]| {
        paths.is_empty()
            || paths.iter().any(|wanted| {
                let rest = path.strip_prefix(wanted.as_slice());
                rest.is_some_and(|rest| rest.is_empty() || rest[0] == b'/' || wanted == b"/")
            })
    };
    let by_ino: HashMap<InodeId, &Deleted> =
        all.iter().map(|deleted| (deleted.item.attr.ino, deleted)).collect();
    let mut report = Restored::default();
    with_session(subject, |alive| {
        let mut done: HashMap<InodeId, bool> = HashMap::new();
        for deleted in
            all.iter().filter(|d| paths.is_empty() || d.path.as_deref().is_some_and(wanted))
        {
            // The directories that it was in first, from the top.
            let mut way = vec![deleted];
            while let Some(above) = by_ino.get(&way[way.len() - 1].item.parent) {
                if way.len() > DEPTH_MAX || done.contains_key(&above.item.attr.ino) {
                    break;
                }
                way.push(above);
            }
            for one in way.into_iter().rev() {
                if done.contains_key(&one.item.attr.ino) {
                    continue;
                }
                alive.beat()?;
                job.advance(1)?;
                // Below a directory that stays in the trash it would still be there.
                let back = if done.get(&one.item.parent) == Some(&false) {
                    Err("the directory that it was in stays in the trash".to_owned())
                } else {
                    put_back(alive.session, &one.item)?
                };
                done.insert(one.item.attr.ino, back.is_ok());
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                let shown = one.path.as_deref().map_or_else(|| text(&one.item.name), text);
                match back {
                    Ok(suffix) => report.paths.push(shown + &suffix),
                    Err(why) => report.left.push((shown, why)),
                }
            }
        }
        Ok(())
    })?;
    Ok(report)
}

/// Gives an inode its name again; returns what was put behind it, or why it stays.
fn put_back(session: &Session, item: &TrashItem) -> Result<Result<String, String>, ClusterError> {
    let suffix = format!(".deleted-{:x}", item.attr.ino.local());
    for suffix in ["", &suffix] {
        let mut name = item.name.clone();
        name.truncate(ringfs_base::limits::NAME_BYTES_MAX - suffix.len());
        name.extend_from_slice(suffix.as_bytes());
        let (mode, victim) = (RenameMode::NoReplace, Victim::Unknown);
        let moved = session.rename(item.slot, &item.entry, item.parent, &name, mode, victim, now());
        return Ok(match moved {
            Ok(_) => Ok(suffix.to_owned()),
            Err(MetaError::Posix(Errno::EEXIST)) if suffix.is_empty() => continue,
            Err(MetaError::Posix(Errno::ESTALE)) => {
                Err("the directory that it was in is gone; move it out of .trash by hand"
                    .to_owned())
            }
            Err(MetaError::Posix(errno)) => Err(errno.text().to_owned()),
            Err(error) => return Err(error.into()),
        });
    }
    Ok(Err("its name is taken".to_owned()))
}

/// Removes everything in the trash for good; returns how many inodes.
///
/// # Errors
/// When the metadata cannot be changed.
pub fn empty_trash(subject: &Subject, job: &Job) -> Result<u64, ClusterError> {
    job.begin("emptying the trash", 0)?;
    let Some(trash) = subject.volume.trash()? else { return Ok(0) };
    let mut count = 0;
    with_session(subject, |alive| {
        for slot in subject.volume.trash_slots(&trash)? {
            count += u64::from(alive.session.getattr(slot.directory)?.entries);
            empty(subject, alive, slot.directory, job)?;
            let victim = Victim::NotOpen(slot.directory);
            match alive.session.rmdir(trash.directory, &slot.name, victim, now()) {
                // Something was deleted into it just now.
                Ok(_) | Err(MetaError::Posix(Errno::ENOTEMPTY | Errno::ENOENT)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    })?;
    Ok(count)
}

fn with_session(
    subject: &Subject,
    work: impl FnOnce(&mut Alive<'_>) -> Result<(), ClusterError>,
) -> Result<(), ClusterError> {
    let info = SessionInfo {
        host: crate::gc::host_name(),
        pid: std::process::id(),
        place: "trash".to_owned(),
    };
    let session: Arc<Session> = subject.volume.start_session(&info)?;
    let done = work(&mut Alive::new(&session));
    let ended = session.end();
    done?;
    Ok(ended?)
}
