//! Mounting without privileges, through the setuid helper `fusermount3`.

use std::{
    io::{self, IoSliceMut},
    mem::MaybeUninit,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::process::CommandExt,
    },
    path::Path,
    process::{Command, Output, Stdio},
};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketFlags, SocketType,
    recvmsg, socketpair,
};

use crate::{device::Device, mount::MountError, mountoption::MountOptions};

const PROGRAM: &str = "fusermount3";
/// The variable that tells fusermount3 where to send the descriptor.
const COMMFD: &str = "_FUSE_COMMFD";

/// Lets fusermount3 mount and receives the `/dev/fuse` descriptor from it.
pub(crate) fn mount(mountpoint: &Path, options: &MountOptions) -> io::Result<Device> {
    let (ours, theirs) =
        socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    let mut command = Command::new(PROGRAM);
    command.arg("-o").arg(options.fusermount()).arg("--").arg(mountpoint);
    command.env(COMMFD, theirs.as_raw_fd().to_string());
    let number = theirs.as_raw_fd();
    // SAFETY: runs in the child between fork and exec; fcntl is async-signal-safe. Only there
    // may the descriptor lose close-on-exec, or other children would inherit it.
    unsafe {
        command.pre_exec(move || {
            if libc::fcntl(number, libc::F_SETFD, 0) < 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(())
        });
    }
    let output = run(&mut command, mountpoint)?;
    drop(theirs);
    if !output.status.success() {
        return Err(refused(mountpoint, &output));
    }
    receive(&ours)?.map(Device::from_fd).ok_or_else(|| {
        io::Error::other(MountError::Helper {
            mountpoint: mountpoint.into(),
            message: "it sent no descriptor".into(),
        })
    })
}

/// Unmounts through fusermount3.
pub(crate) fn unmount(mountpoint: &Path, lazy: bool) -> io::Result<()> {
    let mut command = Command::new(PROGRAM);
    command.arg("-u").args(lazy.then_some("-z")).arg("--").arg(mountpoint);
    let output = run(&mut command, mountpoint)?;
    if output.status.success() { Ok(()) } else { Err(refused(mountpoint, &output)) }
}

fn run(command: &mut Command, mountpoint: &Path) -> io::Result<Output> {
    command.stdin(Stdio::null()).output().map_err(|error| {
        io::Error::new(
            error.kind(),
            MountError::Helper {
                mountpoint: mountpoint.into(),
                message: format!("cannot run it: {error}; install the package fuse3"),
            },
        )
    })
}

fn refused(mountpoint: &Path, output: &Output) -> io::Error {
    let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    let message = if message.is_empty() { output.status.to_string() } else { message };
    let kind = if message.contains("busy") {
        io::ErrorKind::ResourceBusy
    } else {
        io::ErrorKind::PermissionDenied
    };
    io::Error::new(kind, MountError::Helper { mountpoint: mountpoint.into(), message })
}

/// The descriptor, sent with one byte of payload. `None`: the other side closed without it.
fn receive(socket: &OwnedFd) -> io::Result<Option<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    loop {
        let mut payload = [IoSliceMut::new(&mut byte)];
        match recvmsg(socket, &mut payload, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
            Ok(_) => break,
        }
    }
    let sent = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    Ok(sent)
}
