//! The socket under a connection.
//!
//! Sockets stay in blocking mode, with a receive and a send time-out set once, so that a small
//! command costs two system calls. Where a wait must end earlier, or several sockets are waited
//! for, single calls are made non-blocking by flag, after `poll`.

use crate::bystander;
use crate::endpoint::{Address, Endpoint};
use crate::error::LinkError;
use crate::tls::{TlsSession, tls_cause};
use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendFlags, SocketAddrUnix, SocketFlags,
    SocketType, connect, recv, send, sendmsg, socket_with, sockopt,
};
use std::io::{self, IoSlice};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::Path;
use std::time::{Duration, Instant};

/// How many slices one system call takes.
const SLICES_PER_SEND: usize = 64;

/// How long a payload may pause before a waiting thread's bystander is watched too.
const PAYLOAD_QUIET: Duration = Duration::from_millis(2);

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
    tls: Option<Box<TlsSession>>,
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
        // A connect takes as long as `limit` if the server's machine is gone.
        bystander::about_to_wait();
        let fd: OwnedFd = match ep.address() {
            Address::Unix(path) => {
                connect_unix(path, limit).map_err(|e| unavailable(reason(&e)))?
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
        let mut transport = Transport { fd, wait, tls: None };
        if let Some(setup) = ep.tls() {
            transport.tls = Some(Box::new(TlsSession::new(ep, setup)?));
            transport.shake_hands(ep, Instant::now() + limit)?;
        }
        Ok(transport)
    }

    fn shake_hands(&mut self, ep: &Endpoint, deadline: Instant) -> Result<(), LinkError> {
        let failed = |e: io::Error| match tls_cause(&e) {
            Some(cause) => LinkError::Tls { server: ep.name().clone(), cause },
            None => LinkError::Unavailable { server: ep.name().clone(), cause: reason(&e) },
        };
        while let Some(tls) = self.tls.as_mut().filter(|tls| tls.is_handshaking()) {
            let write = tls.has_unsent();
            let fd = self.fd.as_fd();
            let step = if write {
                tls.flush(fd, Wait::No.send_flags())
            } else {
                tls.feed(fd, Wait::No.recv_flags())
            };
            match step {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    if !self.ready(write, deadline).map_err(failed)? {
                        let cause =
                            "it accepts connections but did not complete the TLS handshake in time";
                        return Err(LinkError::Unavailable {
                            server: ep.name().clone(),
                            cause: cause.into(),
                        });
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => other.map_err(failed)?,
            }
        }
        Ok(())
    }

    /// Whether a call may block in the kernel without missing `deadline` by more than an eighth of
    /// the socket's time-out; otherwise `poll` has to guard it.
    pub(crate) fn wait_for(&self, deadline: Instant) -> Wait {
        let left = deadline.saturating_duration_since(Instant::now());
        if left >= self.wait - self.wait / 8 { Wait::Yes } else { Wait::No }
    }

    /// Writes one slice; returns how much was taken.
    pub(crate) fn send(&mut self, bytes: &[u8], wait: Wait) -> io::Result<usize> {
        let (fd, flags) = (self.fd.as_fd(), wait.send_flags());
        match &mut self.tls {
            None => retry(|| Ok(send(fd, bytes, flags)?)),
            Some(tls) => retry(|| tls.send(fd, &[IoSlice::new(bytes)], flags)),
        }
    }

    /// Writes from `outbox` what the socket takes in one call.
    pub(crate) fn send_from(&mut self, outbox: &mut Outbox<'_>, wait: Wait) -> io::Result<()> {
        let mut window = [IoSlice::new(&[]); SLICES_PER_SEND];
        let window = outbox.window(&mut window);
        let (fd, flags) = (self.fd.as_fd(), wait.send_flags());
        let taken = match &mut self.tls {
            None => retry(|| Ok(sendmsg(fd, window, &mut SendAncillaryBuffer::default(), flags)?)),
            Some(tls) => retry(|| tls.send(fd, window, flags)),
        }?;
        outbox.advance(taken);
        Ok(())
    }

    /// Bytes were accepted that the kernel has not been given yet.
    pub(crate) fn has_unsent(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.has_unsent())
    }

    /// Hands over what [`Self::has_unsent`] tells of.
    pub(crate) fn flush(&mut self, wait: Wait) -> io::Result<()> {
        match &mut self.tls {
            None => Ok(()),
            Some(tls) => retry(|| tls.flush(self.fd.as_fd(), wait.send_flags())),
        }
    }

    /// Bytes can be received without the kernel's help.
    pub(crate) fn has_buffered(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.has_buffered())
    }

    /// Appends to `buf` what has arrived, up to its capacity; 0 means that the peer has closed.
    /// With `fill`, waits until the capacity is used up, where that saves system calls.
    pub(crate) fn recv(&mut self, buf: &mut Vec<u8>, wait: Wait, fill: bool) -> io::Result<usize> {
        let wait = match wait {
            Wait::Yes if fill => self.wait_within_payload()?,
            Wait::Yes => {
                self.wait_watching()?;
                wait
            }
            Wait::No => wait,
        };
        let (fd, mut flags) = (self.fd.as_fd(), wait.recv_flags());
        match &mut self.tls {
            None => {
                if fill && wait == Wait::Yes {
                    flags |= RecvFlags::WAITALL;
                }
                retry(|| Ok(recv(fd, spare_capacity(buf), flags).map(|(count, _)| count)?))
            }
            Some(tls) => retry(|| tls.recv(fd, buf, flags)),
        }
    }

    /// Receives into `buf`, all of which is known to be coming, so a call that may wait waits for
    /// all of it.
    pub(crate) fn recv_slice(&mut self, buf: &mut [u8], wait: Wait) -> io::Result<usize> {
        let wait = if wait == Wait::Yes { self.wait_within_payload()? } else { wait };
        let (fd, flags) = (self.fd.as_fd(), wait.recv_flags());
        if let Some(tls) = &mut self.tls {
            return retry(|| tls.recv_slice(fd, buf, flags));
        }
        let flags = if wait == Wait::Yes { flags | RecvFlags::WAITALL } else { flags };
        retry(|| Ok(recv(fd, &mut *buf, flags).map(|(count, _)| count)?))
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
        Ok(poll_watching(vec![PollFd::new(&self.fd, flags)], deadline)?.is_some())
    }

    /// Before a receiving call that may wait: if this thread has a bystander, waits here, where
    /// both are watched, until bytes have come or the bystander was told.
    fn wait_watching(&self) -> io::Result<()> {
        let Some(bystander) = bystander::current() else { return Ok(()) };
        let mut fds = [PollFd::new(&self.fd, PollFlags::IN)].into_iter().collect::<Vec<_>>();
        fds.extend(bystander::slot(bystander.as_ref()));
        // Nothing within the time-out: the receiving call says so, by its own.
        poll_until(&mut fds, Instant::now() + self.wait)?;
        if fds.get(1).is_some_and(|besides| !besides.revents().is_empty()) {
            bystander.ready();
        }
        Ok(())
    }

    /// Before a receiving call that may wait for the rest of a payload, and how that call is to be
    /// made. The bytes mostly follow each other closely; but if this thread has a bystander it
    /// must not wait for them in the kernel, where only the socket is watched: a server may stop
    /// in the middle.
    fn wait_within_payload(&self) -> io::Result<Wait> {
        if bystander::current().is_none() || self.has_buffered() {
            return Ok(Wait::Yes);
        }
        let mut socket = [PollFd::new(&self.fd, PollFlags::IN)];
        if !poll_until(&mut socket, Instant::now() + PAYLOAD_QUIET)? {
            self.wait_watching()?;
        }
        Ok(Wait::No)
    }
}

impl AsFd for Transport {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Waits until one of `fds` is ready and tells what each is ready for; `None` when `deadline`
/// passed first. The thread's bystander is watched and told meanwhile.
pub(crate) fn poll_watching(
    fds: Vec<PollFd<'_>>,
    deadline: Instant,
) -> io::Result<Option<Vec<PollFlags>>> {
    let bystander = bystander::current();
    let wanted = fds.len();
    let mut fds: Vec<PollFd<'_>> = fds;
    fds.extend(bystander.as_ref().and_then(|b| bystander::slot(b.as_ref())));
    loop {
        if !poll_until(&mut fds, deadline)? {
            return Ok(None);
        }
        if let (Some(besides), Some(bystander)) = (fds.get(wanted), &bystander)
            && !besides.revents().is_empty()
        {
            bystander.ready();
            fds.truncate(wanted);
        }
        let events: Vec<PollFlags> = fds.iter().take(wanted).map(PollFd::revents).collect();
        if events.iter().any(|events| !events.is_empty()) {
            return Ok(Some(events));
        }
    }
}

/// Waits until one of `fds` is ready; `false` when `deadline` passed first.
fn poll_until(fds: &mut [PollFd<'_>], deadline: Instant) -> io::Result<bool> {
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

fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// A listener whose queue is full makes a connect wait; the send time-out bounds that too.
fn connect_unix(path: &Path, limit: Duration) -> io::Result<OwnedFd> {
    let fd = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_timeout(&fd, sockopt::Timeout::Send, Some(limit))?;
    let address = SocketAddrUnix::new(path)?;
    match connect(&fd, &address) {
        Err(Errno::AGAIN) => Err(io::ErrorKind::TimedOut.into()),
        other => other.map(|()| fd).map_err(io::Error::from),
    }
}

/// An error in words that a user understands.
pub(crate) fn reason(e: &io::Error) -> String {
    if let Some(cause) = tls_cause(e) {
        return cause;
    }
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
