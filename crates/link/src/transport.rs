//! The socket under a connection.
//!
//! Sockets stay in blocking mode, with a receive and a send time-out set once, so that a small
//! command costs two system calls. Where a wait must end earlier, or several sockets are waited
//! for, single calls are made non-blocking by flag, after `poll`.

use crate::endpoint::{Address, Endpoint};
use crate::error::LinkError;
use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendFlags, recv, recvmsg, send, sendmsg,
    sockopt,
};
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// How many slices one system call takes.
const SLICES_PER_SEND: usize = 64;

/// Whether a call may wait, up to the socket's own time-out.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    Yes,
    No,
}

impl Wait {
    fn send_flags(self) -> SendFlags {
        match self {
            Wait::Yes => SendFlags::NOSIGNAL,
            Wait::No => SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
        }
    }
    fn recv_flags(self) -> RecvFlags {
        match self {
            Wait::Yes => RecvFlags::empty(),
            Wait::No => RecvFlags::DONTWAIT,
        }
    }
}

/// What is still to be written.
pub(crate) struct Outbox<'a> {
    slices: Vec<&'a [u8]>,
    at: usize,
    offset: usize,
}

impl<'a> Outbox<'a> {
    pub(crate) fn new(slices: Vec<&'a [u8]>) -> Outbox<'a> {
        Outbox { slices, at: 0, offset: 0 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.at == self.slices.len()
    }

    pub(crate) fn is_untouched(&self) -> bool {
        self.at == 0 && self.offset == 0
    }

    fn window<'w>(&self, out: &'w mut [IoSlice<'a>; SLICES_PER_SEND]) -> &'w [IoSlice<'a>] {
        let mut offset = self.offset;
        let mut count = 0;
        for (to, from) in out.iter_mut().zip(&self.slices[self.at..]) {
            *to = IoSlice::new(&from[offset..]);
            offset = 0;
            count += 1;
        }
        &out[..count]
    }

    fn advance(&mut self, mut bytes: usize) {
        while bytes > 0 {
            let left = self.slices[self.at].len() - self.offset;
            if bytes < left {
                self.offset += bytes;
                return;
            }
            bytes -= left;
            self.at += 1;
            self.offset = 0;
        }
    }
}

/// A connected socket.
pub(crate) struct Transport {
    fd: OwnedFd,
    wait: Duration,
}

impl Transport {
    /// Connects within `limit`; afterwards one waiting call waits at most `wait`.
    pub(crate) fn connect(
        ep: &Endpoint,
        limit: Duration,
        wait: Duration,
    ) -> Result<Transport, LinkError> {
        let unavailable =
            |cause: String| LinkError::Unavailable { server: ep.name().clone(), cause };
        let fd: OwnedFd = match ep.address() {
            Address::Unix(path) => {
                UnixStream::connect(path).map_err(|e| unavailable(reason(&e)))?.into()
            }
            Address::Tcp { host, port } => {
                let deadline = Instant::now() + limit;
                let found = (host.as_str(), *port)
                    .to_socket_addrs()
                    .map_err(|e| unavailable(format!("its name cannot be resolved ({e})")))?;
                let mut failure = "its name has no address".to_owned();
                let mut stream = None;
                for address in found {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        break;
                    }
                    match TcpStream::connect_timeout(&address, left) {
                        Ok(connected) => {
                            stream = Some(connected);
                            break;
                        }
                        Err(e) => failure = reason(&e),
                    }
                }
                let stream = stream.ok_or_else(|| unavailable(failure))?;
                stream.set_nodelay(true).map_err(|e| unavailable(reason(&e)))?;
                stream.into()
            }
        };
        for which in [sockopt::Timeout::Recv, sockopt::Timeout::Send] {
            sockopt::set_socket_timeout(&fd, which, Some(wait))
                .map_err(|e| unavailable(reason(&e.into())))?;
        }
        Ok(Transport { fd, wait })
    }

    /// Whether a call may block in the kernel without missing `deadline` by more than an eighth of
    /// the socket's time-out; otherwise `poll` has to guard it.
    pub(crate) fn wait_for(&self, deadline: Instant) -> Wait {
        let left = deadline.saturating_duration_since(Instant::now());
        if left >= self.wait - self.wait / 8 { Wait::Yes } else { Wait::No }
    }

    /// Writes one slice; returns how much was taken.
    pub(crate) fn send(&mut self, bytes: &[u8], wait: Wait) -> io::Result<usize> {
        retry(|| send(&self.fd, bytes, wait.send_flags()))
    }

    /// Writes from `outbox` what the socket takes in one call.
    pub(crate) fn send_from(&mut self, outbox: &mut Outbox<'_>, wait: Wait) -> io::Result<()> {
        let mut window = [IoSlice::new(&[]); SLICES_PER_SEND];
        let window = outbox.window(&mut window);
        let taken = retry(|| {
            sendmsg(&self.fd, window, &mut SendAncillaryBuffer::default(), wait.send_flags())
        })?;
        outbox.advance(taken);
        Ok(())
    }

    /// Bytes were accepted that the kernel has not been given yet.
    pub(crate) fn has_unsent(&self) -> bool {
        false
    }

    /// Hands over what [`Self::has_unsent`] tells of.
    pub(crate) fn flush(&mut self, _wait: Wait) -> io::Result<()> {
        Ok(())
    }

    /// Bytes can be received without the kernel's help.
    pub(crate) fn has_buffered(&self) -> bool {
        false
    }

    /// Appends to `buf` what has arrived, up to its capacity; 0 means that the peer has closed.
    /// With `fill`, waits until the capacity is used up.
    pub(crate) fn recv(&mut self, buf: &mut Vec<u8>, wait: Wait, fill: bool) -> io::Result<usize> {
        let mut flags = wait.recv_flags();
        if fill && wait == Wait::Yes {
            flags |= RecvFlags::WAITALL;
        }
        retry(|| recv(&self.fd, spare_capacity(buf), flags).map(|(count, _)| count))
    }

    /// Receives into `buf` and, once that is full, into `spill`; returns the sum.
    pub(crate) fn recv_two(
        &mut self,
        buf: &mut [u8],
        spill: &mut [u8],
        wait: Wait,
    ) -> io::Result<usize> {
        let mut parts = [IoSliceMut::new(buf), IoSliceMut::new(spill)];
        let flags = wait.recv_flags();
        retry(|| {
            recvmsg(&self.fd, &mut parts, &mut RecvAncillaryBuffer::default(), flags)
                .map(|got| got.bytes)
        })
    }

    /// An idle connection is usable if nothing has arrived on it, not even its end.
    pub(crate) fn is_silent(&self) -> bool {
        let mut byte = [0u8; 1];
        matches!(
            recv(&self.fd, &mut byte, RecvFlags::PEEK | RecvFlags::DONTWAIT),
            Err(Errno::AGAIN)
        )
    }

    /// Waits until the socket can be read (or written, if `write`); `false` when `deadline` passed.
    pub(crate) fn ready(&self, write: bool, deadline: Instant) -> io::Result<bool> {
        let flags = if write { PollFlags::OUT } else { PollFlags::IN };
        let mut fds = [PollFd::new(&self.fd, flags)];
        poll_until(&mut fds, deadline)
    }
}

impl AsFd for Transport {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Waits until one of `fds` is ready; `false` when `deadline` passed first.
pub(crate) fn poll_until(fds: &mut [PollFd<'_>], deadline: Instant) -> io::Result<bool> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let limit = Timespec {
            tv_sec: left.as_secs().min(i32::MAX as u64) as i64,
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        match poll(fds, Some(&limit)) {
            Ok(0) => return Ok(false),
            Ok(_) => return Ok(true),
            Err(Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> io::Result<T> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            other => return other.map_err(io::Error::from),
        }
    }
}

/// An error in words that a user understands.
pub(crate) fn reason(e: &io::Error) -> String {
    match e.kind() {
        io::ErrorKind::ConnectionRefused => {
            "the connection was refused, so no server listens there".into()
        }
        io::ErrorKind::TimedOut => "the connection could not be made in time".into(),
        io::ErrorKind::NotFound => "there is no such socket".into(),
        io::ErrorKind::UnexpectedEof => "the server closed the connection".into(),
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
            "the server cut the connection".into()
        }
        _ => e.to_string(),
    }
}
