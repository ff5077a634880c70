//! `ringfs mount -d`: a second process of this program mounts; the first one waits until the mount
//! answers, or passes on why it does not.
//!
//! The second process is started afresh and not forked, so that its arguments (which everybody can
//! read) are ours to choose: a password in the URL goes to it through a pipe.

use super::MountArguments;
use crate::failure::{Exit, Failure};
use crate::metrics;
use crate::output::Surroundings;
use crate::volume_url::{VolumeUrl, shown};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What the second process writes to stdout when the mount answers; then where its metrics are, if
/// it serves some.
const READY: &str = "ready";

/// More of an error message than this is nobody's reading.
const MESSAGE_BYTES_MAX: u64 = 16 << 10;

/// Starts the second process and waits for it.
pub fn start(
    arguments: &MountArguments,
    url: &VolumeUrl,
    surroundings: &Surroundings,
) -> Result<(), Failure> {
    let me = std::env::current_exe().map_err(|e| Failure::io("find this program", &e))?;
    let absolute = |path: &Path| {
        std::path::absolute(path)
            .map_err(|e| Failure::io(format_args!("use {}", path.display()), &e))
    };
    let log = match &arguments.log {
        Some(log) => absolute(log)?,
        None => default_log()?,
    };
    let mut command = Command::new(me);
    command
        .args(["mount", "--in-background"])
        .arg("--log")
        .arg(log)
        .args(["--write-buffer", &arguments.write_buffer.to_string()])
        .args(["--block-cache", &arguments.block_cache.to_string()])
        .args(["--ttl", &arguments.ttl.as_secs_f64().to_string()])
        .args(["--write-back", &arguments.write_back.as_secs_f64().to_string()])
        .args(["--threads", &arguments.threads.to_string()])
        .args(["--upload-threads", &arguments.upload_threads.to_string()])
        .args(["--read-ahead-threads", &arguments.read_ahead_threads.to_string()])
        .args(arguments.keeping.words())
        .args(arguments.allow_other.then_some("--allow-other"))
        .args(arguments.read_only.then_some("--read-only"))
        .args(arguments.metrics.map(|address| format!("--metrics={address}")))
        .args(arguments.root_squash.map(|who| format!("--root-squash={}:{}", who.uid, who.gid)));
    if let Some(file) = &surroundings.password_file {
        command.arg("--password-file").arg(absolute(file)?);
    }
    command
        .arg(shown(&url.endpoint, &url.volume))
        .arg(absolute(&arguments.mountpoint)?)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    for (name, path) in surroundings.credentials.absolute_files() {
        command.env(name, path);
    }
    let failed = |e: &std::io::Error| Failure::io("start the background process", e);
    let mut child = command.spawn().map_err(|e| failed(&e))?;
    if let Some(mut stdin) = child.stdin.take() {
        // If it is gone already, its stderr says why.
        writeln!(stdin, "{}", arguments.url).ok();
    }
    let mut word = String::new();
    if let Some(stdout) = child.stdout.take() {
        BufReader::new(stdout).read_line(&mut word).map_err(|e| failed(&e))?;
    }
    if let Some(rest) = word.trim_end().strip_prefix(READY) {
        if let Ok(address) = rest.trim_start().parse() {
            metrics::tell(address);
        }
        return Ok(());
    }
    let mut message = String::new();
    if let Some(stderr) = child.stderr.take() {
        stderr.take(MESSAGE_BYTES_MAX).read_to_string(&mut message).map_err(|e| failed(&e))?;
    }
    let status = child.wait().map_err(|e| failed(&e))?;
    Err(passed_on(&message, status.code()))
}

/// The second process's failure as ours.
fn passed_on(message: &str, code: Option<i32>) -> Failure {
    let exit = match code {
        Some(2) => Exit::Usage,
        Some(3) => Exit::Problems,
        Some(4) => Exit::Unreachable,
        Some(5) => Exit::Refused,
        _ => Exit::Failure,
    };
    let (last, before) = match message.trim_end().rsplit_once('\n') {
        Some((before, last)) => (last, before),
        None => (message.trim_end(), ""),
    };
    for line in before.lines() {
        eprintln!("{line}");
    }
    let text = last.trim_start_matches("ringfs: ");
    let text = if text.is_empty() { "the background process ended without a word" } else { text };
    Failure::new(exit, text)
}

fn default_log() -> Result<PathBuf, Failure> {
    let directory = crate::state_directory::base();
    std::fs::create_dir_all(&directory)
        .map_err(|e| Failure::io(format_args!("make {}", directory.display()), &e))?;
    Ok(directory.join("mount.log"))
}

/// The URL, in the second process.
pub fn read_url() -> Result<String, Failure> {
    let mut line = String::new();
    std::io::stdin()
        .take(MESSAGE_BYTES_MAX)
        .read_to_string(&mut line)
        .map_err(|e| Failure::io("read the URL from stdin", &e))?;
    Ok(line.trim_end().to_owned())
}

/// In the second process: as soon as the mount answers, tells the first one and lets go of the
/// terminal. The asking thread waits in the kernel until the mount is served.
pub fn announce_when_answering(
    mountpoint: &Path,
    log: Option<PathBuf>,
    metrics: Option<SocketAddr>,
) -> Result<(), Failure> {
    let mountpoint = mountpoint.to_owned();
    // Fails only for the leader of a process group, who has no terminal to lose.
    rustix::process::setsid().ok();
    std::thread::Builder::new()
        .name("announce".to_owned())
        .spawn(move || {
            if let Err(e) = std::fs::metadata(&mountpoint) {
                eprintln!("ringfs: warning: the mount does not answer: {e}");
                return;
            }
            let file =
                log.and_then(|path| File::options().create(true).append(true).open(path).ok());
            let file = file.or_else(|| File::create("/dev/null").ok());
            println!("{READY} {}", metrics.map_or(String::new(), |address| address.to_string()));
            if let Some(file) = file {
                let replaced = rustix::stdio::dup2_stderr(&file)
                    .and_then(|()| rustix::stdio::dup2_stdout(&file));
                if let Err(e) = replaced {
                    tracing::warn!(%e, "messages cannot be sent to the log");
                }
            }
        })
        .map(|_| ())
        .map_err(|e| Failure::io("start a thread", &e))
}
