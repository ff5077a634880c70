//! `ringfs mount` and `ringfs umount`.

mod allocator;
mod background;
mod record;
mod umount;

pub use umount::{UmountArguments, run as umount};

use crate::compose::{self, Patience, RingPlacements};
use crate::failure::{Exit, Failure};
use crate::keeping::KeepingArguments;
use crate::metrics::{self, FuseMeter, HttpServer, KeeperSlot, MountSource};
use crate::output::{Surroundings, warn};
use crate::quantity::{parse_bytes, parse_duration};
use crate::volume_url::{VolumeUrl, shown};
use clap::Args;
use parking_lot::Mutex;
use ringfs_base::SystemClock;
use ringfs_cluster::Keeper;
use ringfs_fuse::{FuseMount, FuseOptions};
use ringfs_fusewire::Meter;
use ringfs_meta::SessionInfo;
use ringfs_store::Store;
use ringfs_vfs::{Caller, Vfs, VfsConfig};
use signal_hook::consts::{SIGINT, SIGTERM};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

/// Mount a volume on a directory
///
/// Stays in the foreground until the volume is unmounted (`ringfs umount`, SIGTERM or Ctrl-C); with -d
/// it returns as soon as the mount answers. What has been written is saved before it ends.
///
/// Example:
///   ringfs mount -d redis://meta:6379/demo /mnt/demo
///   RINGFS_REDIS_PASSWORD_FILE=/etc/ringfs/password ringfs mount redis://meta:6379/demo /mnt/demo
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct MountArguments {
    /// The volume, such as redis://meta:6379/demo.
    url: String,
    /// The directory to mount on.
    mountpoint: PathBuf,
    /// Return when the mount answers, and go on in the background.
    #[arg(short = 'd', long = "daemon")]
    background: bool,
    /// Let all users in; as another user than root this needs user_allow_other in /etc/fuse.conf.
    #[arg(long)]
    allow_other: bool,
    /// Refuse changes.
    #[arg(long)]
    read_only: bool,
    /// Root of this mount has no privileges in the volume and acts as this user and group
    /// [without a value: 65534:65534].
    #[arg(long, value_name = "UID:GID", num_args = 0..=1, require_equals = true,
          default_missing_value = "65534:65534", value_parser = parse_caller)]
    root_squash: Option<Caller>,
    /// Memory for what is written and not yet on the nodes.
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes, default_value = "256MiB")]
    write_buffer: u64,
    /// Memory for blocks that were read.
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes, default_value = "256MiB")]
    block_cache: u64,
    /// How long the kernel may use names and attributes without asking. Changes by other mounts are
    /// told at once; this is for the case that the connection that tells them is cut.
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "10s")]
    ttl: Duration,
    /// Written data are saved after this time at the latest, also without fsync or close.
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "5s")]
    write_back: Duration,
    /// Most threads that serve the kernel.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: u16,
    /// Threads that send blocks.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=256))]
    upload_threads: u16,
    /// Threads that fetch blocks ahead of who reads a file from its beginning.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=256))]
    read_ahead_threads: u16,
    /// Serve metrics for Prometheus at http://ADDRESS:PORT/metrics; only a port means this machine
    /// only [default: none are served].
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = metrics::parse_address)]
    metrics: Option<SocketAddr>,
    #[command(flatten)]
    keeping: KeepingArguments,
    /// With -d: where messages go [default: mount.log in the state directory].
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// This is the background process: the URL comes on stdin, and stdout tells when all is ready.
    #[arg(long, hide = true)]
    in_background: bool,
}

/// Runs `mount`.
pub fn run(arguments: &MountArguments, surroundings: &Surroundings) -> Result<(), Failure> {
    if arguments.in_background {
        let url = background::read_url()?;
        let url = crate::volume_url::MetaUrl::parse(&url)?.require_volume()?;
        let endpoint = surroundings.credentials.for_meta(url.endpoint)?;
        return serve(arguments, &VolumeUrl { endpoint, ..url }, surroundings);
    }
    let url = surroundings.volume_url(&arguments.url)?;
    if arguments.background {
        check_mountpoint(&arguments.mountpoint)?;
        return background::start(arguments, &url, surroundings);
    }
    serve(arguments, &url, surroundings)
}

/// Mounts, serves until it is unmounted, and saves everything.
fn serve(
    arguments: &MountArguments,
    url: &VolumeUrl,
    surroundings: &Surroundings,
) -> Result<(), Failure> {
    allocator::tune();
    let mountpoint = check_mountpoint(&arguments.mountpoint)?;
    let listening = arguments.metrics.map(metrics::listen).transpose()?;
    let open = compose::open(url, surroundings, Patience::Mount)?;
    let membership = open.membership(surroundings)?;
    check_nodes(membership.store())?;

    let mount = FuseMount::prepare(FuseOptions {
        mountpoint: mountpoint.clone(),
        fsname: shown(&url.endpoint, &url.volume),
        allow_other: arguments.allow_other,
        read_only: arguments.read_only,
        root_is: arguments.root_squash,
        workers_max: usize::from(arguments.threads),
    })
    .map_err(|e| Failure::plain(format!("{e}; see `ringfs doctor`")))?;
    let session = open.volume.start_session(&SessionInfo {
        host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        pid: std::process::id(),
        place: mountpoint.display().to_string(),
    })?;
    let session_id = session.id();
    let vfs = Vfs::start(
        session,
        membership.store().clone(),
        Box::new(RingPlacements(membership.clone())),
        Arc::new(SystemClock),
        config(arguments),
        mount.kernel_cache(),
    )?;
    let keeper = Arc::new(arguments.keeping.start(&open, &membership, session_id, surroundings));
    let meter = listening.is_some().then(|| Arc::new(FuseMeter::new()));
    let endpoint = match (listening, &meter) {
        (Some(listening), Some(meter)) => {
            let (vfs, meter) = (vfs.clone(), meter.clone());
            let source = MountSource { vfs, meter, mountpoint: mountpoint.display().to_string() };
            let slot = KeeperSlot::default();
            slot.set(&keeper);
            Some(metrics::serve(listening, membership.clone(), Some(source), slot)?)
        }
        _ => None,
    };
    if let Some(endpoint) = endpoint.as_ref().filter(|_| !arguments.in_background) {
        metrics::tell(endpoint.address());
    }
    let record = record::write(&mountpoint);
    if let Err(failure) = &record {
        warn(format_args!("`ringfs umount` will not wait until everything is saved: {failure}"));
    }
    // Whoever holds it saves everything and ends; the keeper goes before the session does.
    let ending = Arc::new(Mutex::new(Some(keeper)));
    end_on_signals(&mount, vfs.clone(), ending.clone())?;
    if arguments.in_background {
        let metrics = endpoint.as_ref().map(HttpServer::address);
        background::announce_when_answering(&mountpoint, arguments.log.clone(), metrics)?;
    }

    let meter = meter.map(|meter| meter as Arc<dyn Meter>);
    let served = mount.serve_measured(vfs.clone(), meter);
    drop(endpoint);
    let mut ending = ending.lock();
    drop(ending.take());
    // Whatever ended the serving, what was written is saved.
    let saved = save(&vfs, &mountpoint);
    served
        .map_err(|e| Failure::plain(format!("the mount on {} broke: {e}", mountpoint.display())))?;
    saved
}

/// After this long it is told what is being waited for.
const SAVE_QUIET: Duration = Duration::from_secs(1);

/// Saves everything and leaves the volume. What fails is left for `ringfs umount` to tell.
fn save(vfs: &Vfs, mountpoint: &Path) -> Result<(), Failure> {
    let (files, bytes) = vfs.dirty();
    let (saved, is_saved) = std::sync::mpsc::channel::<()>();
    std::thread::scope(|scope| {
        // Ends with the sender.
        scope.spawn(move || {
            if is_saved.recv_timeout(SAVE_QUIET) == Err(RecvTimeoutError::Timeout) {
                warn(format_args!(
                    "still waiting for the servers; {bytes} bytes of {files} files were not saved \
                     when the mount ended, and are given up when no server answers for 10 s"
                ));
            }
        });
        let result = vfs.stop().map_err(|e| {
            Failure::plain(format!("not everything that was written could be saved: {e}"))
        });
        drop(saved);
        result.inspect_err(|failure| record::leave_failure(mountpoint, &failure.message))
    })
}

fn config(arguments: &MountArguments) -> VfsConfig {
    VfsConfig {
        write_buffer_bytes: usize::try_from(arguments.write_buffer).unwrap_or(usize::MAX),
        block_cache_bytes: usize::try_from(arguments.block_cache).unwrap_or(usize::MAX),
        upload_threads: usize::from(arguments.upload_threads),
        read_ahead_threads: usize::from(arguments.read_ahead_threads),
        kernel_ttl: arguments.ttl,
        write_back_age: arguments.write_back,
        ..VfsConfig::default()
    }
}

/// `UID:GID`. User 0 would be root again.
fn parse_caller(text: &str) -> Result<Caller, String> {
    let ids = text.split_once(':').and_then(|(uid, gid)| {
        let caller = Caller { uid: uid.parse().ok()?, gid: gid.parse().ok()? };
        // The largest number means "nobody" in system calls.
        (caller.uid != u32::MAX && caller.gid != u32::MAX).then_some(caller)
    });
    match ids {
        Some(caller) if caller.uid != 0 => Ok(caller),
        Some(_) => Err("user 0 is root; name another, such as 65534:65534".to_owned()),
        None => {
            Err(format!("\"{text}\" is no user and group; write two numbers, such as 65534:65534"))
        }
    }
}

/// The canonical path, if something can be mounted there.
fn check_mountpoint(path: &Path) -> Result<PathBuf, Failure> {
    let shown = path.display();
    let found = match std::fs::metadata(path) {
        Ok(found) => found,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return Err(Failure::usage(format!(
                "the directory {shown} to mount on does not exist; make it first (mkdir -p {shown})"
            )));
        }
        Err(e) if e.raw_os_error() == Some(libc::ENOTCONN) => {
            return Err(Failure::plain(format!(
                "the process that served {shown} has died; unmount it first (ringfs umount {shown})"
            )));
        }
        Err(e) => return Err(Failure::io(format_args!("mount on {shown}"), &e)),
    };
    if !found.is_dir() {
        return Err(Failure::usage(format!("{shown} is no directory; mount on one")));
    }
    let canonical =
        path.canonicalize().map_err(|e| Failure::io(format_args!("mount on {shown}"), &e))?;
    if mounted_by_us(&canonical)? {
        return Err(Failure::refused(format!(
            "a volume is mounted on {shown} already; unmount it first (ringfs umount {shown}), or \
             choose another directory"
        )));
    }
    Ok(canonical)
}

/// Whether a volume is mounted on exactly this directory.
fn mounted_by_us(path: &Path) -> Result<bool, Failure> {
    let text = std::fs::read_to_string("/proc/self/mountinfo")
        .map_err(|e| Failure::io("read /proc/self/mountinfo", &e))?;
    let wanted = path.to_string_lossy();
    Ok(text.lines().any(|line| {
        let Some((place, kind)) = line.split_once(" - ") else { return false };
        kind.starts_with("fuse.ringfs ")
            && place.split(' ').nth(4).is_some_and(|field| unescape(field) == wanted)
    }))
}

/// The URL, without a password, of the volume whose files have this device number; `path` is one of
/// them, for messages.
pub fn volume_mounted_as(device: u64, path: &Path) -> Result<String, Failure> {
    let text = std::fs::read_to_string("/proc/self/mountinfo")
        .map_err(|e| Failure::io("read /proc/self/mountinfo", &e))?;
    let number = format!("{}:{}", libc::major(device), libc::minor(device));
    let found = text.lines().find_map(|line| {
        let (place, kind) = line.split_once(" - ")?;
        let mut kind = kind.split(' ');
        let is_it = place.split(' ').nth(2) == Some(&number) && kind.next() == Some("fuse.ringfs");
        is_it.then(|| kind.next().map(unescape)).flatten()
    });
    found.ok_or_else(|| Failure::usage(format!("{} is not in a mounted volume", path.display())))
}

/// Spaces and the like are in octal in mountinfo.
fn unescape(field: &str) -> String {
    ["\\040", "\\011", "\\012", "\\134"]
        .iter()
        .zip([" ", "\t", "\n", "\\"])
        .fold(field.to_owned(), |text, (code, c)| text.replace(code, c))
}

/// One dead node is what copies are for; if all are dead something else is wrong.
fn check_nodes(store: &Store) -> Result<(), Failure> {
    let nodes = store.nodes();
    let mut failures = nodes.iter().filter_map(|node| Some((node, node.memory.as_ref().err()?)));
    if nodes.iter().all(|node| node.memory.is_err()) {
        let why = failures.next().map_or(String::new(), |(_, e)| format!(": {e}"));
        return Err(Failure::new(
            Exit::Unreachable,
            format!("none of the volume's nodes can be used{why}; see `ringfs doctor`"),
        ));
    }
    for (node, error) in failures {
        warn(format_args!("node {} cannot be used now: {error}", node.name));
    }
    Ok(())
}

/// SIGTERM and SIGINT unmount. If programs have files open, everything they have written is saved and
/// the process ends all the same: it is on its way down, with the machine perhaps.
fn end_on_signals(
    mount: &FuseMount,
    vfs: Arc<Vfs>,
    ending: Arc<Mutex<Option<Arc<Keeper>>>>,
) -> Result<(), Failure> {
    let unmounter = mount.unmounter();
    let mut signals = signal_hook::iterator::Signals::new([SIGTERM, SIGINT])
        .map_err(|e| Failure::io("receive signals", &e))?;
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            let Some(_) = signals.forever().next() else { return };
            let place = unmounter.mountpoint().to_owned();
            if let Err(e) = sync(&place) {
                warn(format_args!("pages that programs have mapped may not be saved: {e}"));
            }
            if unmounter.unmount().is_ok() {
                return;
            }
            let mut ending = ending.lock();
            warn(format_args!(
                "programs lose the files that they have open in {}",
                place.display()
            ));
            if let Err(e) = unmounter.unmount_lazy() {
                warn(format_args!("cannot unmount {}: {e}", place.display()));
            }
            drop(ending.take());
            let code = match save(&vfs, &place) {
                Ok(()) => 0,
                Err(failure) => {
                    eprintln!("ringfs: {failure}");
                    failure.exit as i32
                }
            };
            std::process::exit(code);
        })
        .map(|_| ())
        .map_err(|e| Failure::io("start a thread", &e))
}

/// Makes the kernel hand over the pages that programs changed through memory maps.
fn sync(mountpoint: &Path) -> std::io::Result<()> {
    Ok(rustix::fs::syncfs(std::fs::File::open(mountpoint)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mountpoint_must_be_a_directory_that_exists() {
        let dir = tempfile::tempdir().unwrap();
        assert!(check_mountpoint(dir.path()).is_ok());
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(
            check_mountpoint(&file).unwrap_err().message.ends_with("is no directory; mount on one")
        );
        assert!(
            check_mountpoint(&dir.path().join("none")).unwrap_err().message.contains("mkdir -p")
        );
    }

    #[test]
    fn mountinfo_is_unescaped() {
        assert_eq!(unescape("/mnt/a\\040b\\134c"), "/mnt/a b\\c");
    }
}
