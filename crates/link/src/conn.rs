//! One connection, used by one thread at a time.
//!
//! After any error but a server's own answer the connection is broken for good: nobody can tell
//! which reply would come next. Every later call repeats the error that broke it.

use crate::cmd::Cmd;
use crate::decode::{Decoder, Head};
use crate::endpoint::Endpoint;
use crate::error::{LinkError, ServerName};
use crate::faults::{Fault, Faults};
use crate::reply::Reply;
use crate::script::Script;
use crate::tls::tls_cause;
use crate::transport::{Outbox, Transport, Wait, reason};
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

mod handshake;

pub use handshake::{ServerKind, ServerVersion};

/// How long we wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For the connection, and then again for TLS and the handshake together.
    pub connect: Duration,
    /// For one reply, counted from the beginning of the send.
    pub reply: Duration,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts { connect: Duration::from_secs(1), reply: Duration::from_secs(2) }
    }
}

/// A connection to one server.
pub struct Conn {
    endpoint: Endpoint,
    transport: Transport,
    decoder: Decoder,
    timeouts: Timeouts,
    version: ServerVersion,
    /// Replies that are still to come.
    pending: usize,
    /// The handshake is over: from now on commands may have been executed.
    greeted: bool,
    /// When the oldest pending command was sent.
    since: Instant,
    broken: Option<LinkError>,
    faults: Option<Arc<dyn Faults>>,
    /// The names of pending commands; kept for `faults` only.
    names: VecDeque<&'static str>,
}

impl Conn {
    /// Connects, authenticates and selects the database.
    pub fn open(ep: &Endpoint, t: &Timeouts) -> Result<Conn, LinkError> {
        Conn::open_with(ep, t, None)
    }

    /// [`Self::open`], with faults injected into every command after the handshake.
    pub fn open_with(
        ep: &Endpoint,
        t: &Timeouts,
        faults: Option<Arc<dyn Faults>>,
    ) -> Result<Conn, LinkError> {
        let transport = Transport::connect(ep, t.connect, t.reply)?;
        let mut conn = Conn {
            endpoint: ep.clone(),
            transport,
            decoder: Decoder::new(),
            timeouts: *t,
            version: ServerVersion::UNKNOWN,
            pending: 0,
            greeted: false,
            since: Instant::now(),
            broken: None,
            faults: None,
            names: VecDeque::new(),
        };
        handshake::run(&mut conn, Instant::now() + t.connect)?;
        conn.greeted = true;
        conn.faults = faults;
        Ok(conn)
    }

    /// Sends a command and waits for its reply. A server's error reply is [`LinkError::Server`] and
    /// leaves the connection usable.
    pub fn call(&mut self, cmd: &Cmd<'_>) -> Result<Reply, LinkError> {
        self.call_within(cmd, self.timeouts.reply)
    }

    /// [`Self::call`] with a time limit of its own.
    pub fn call_within(&mut self, cmd: &Cmd<'_>, limit: Duration) -> Result<Reply, LinkError> {
        let deadline = Instant::now() + limit;
        self.send(cmd, deadline)?;
        self.recv(deadline)
    }

    /// Sends all commands at once, then receives all replies. The inner errors are the server's
    /// answers, the outer error a broken connection.
    pub fn pipeline(
        &mut self,
        cmds: &[Cmd<'_>],
    ) -> Result<Vec<Result<Reply, LinkError>>, LinkError> {
        let deadline = Instant::now() + self.timeouts.reply;
        self.send_all(cmds, deadline)?;
        let mut replies = Vec::with_capacity(cmds.len());
        for _ in cmds {
            match self.recv(deadline) {
                Err(e) if e.breaks_connection() => return Err(e),
                reply => replies.push(reply),
            }
        }
        Ok(replies)
    }

    /// Sends a command; its reply is to be fetched with [`Self::recv`].
    pub fn send(&mut self, cmd: &Cmd<'_>, deadline: Instant) -> Result<(), LinkError> {
        self.begin(std::slice::from_ref(cmd))?;
        if let Some(bytes) = cmd.as_one_slice() {
            let wait = self.transport.wait_for(deadline);
            match self.transport.send(bytes, wait) {
                Ok(taken) if taken == bytes.len() && !self.transport.has_unsent() => return Ok(()),
                Ok(taken) => {
                    let mut rest = Outbox::new(vec![&bytes[taken..]]);
                    return self.write_out(&mut rest, taken > 0, deadline);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Err(self.write_failed(&e, false)),
            }
        }
        self.write_out(&mut Outbox::new(cmd.slices().collect()), false, deadline)
    }

    /// Sends several commands in one go; a reply to each is to be fetched.
    pub fn send_all(&mut self, cmds: &[Cmd<'_>], deadline: Instant) -> Result<(), LinkError> {
        self.begin(cmds)?;
        let mut outbox = Outbox::new(cmds.iter().flat_map(Cmd::slices).collect());
        self.write_out(&mut outbox, false, deadline)
    }

    /// Waits for the next reply.
    pub fn recv(&mut self, deadline: Instant) -> Result<Reply, LinkError> {
        loop {
            if let Some(reply) = self.recv_message(deadline)? {
                return self.finish(reply);
            }
        }
    }

    /// Like [`Self::recv`] for a string (or nil: `None`) that is received straight into `buf`.
    /// Returns its length; a string longer than `buf` is a protocol error. Over TCP this costs
    /// more CPU than [`Self::recv`], see docs/decisions/0002-own-redis-codec.md.
    pub fn recv_into(
        &mut self,
        buf: &mut [u8],
        deadline: Instant,
    ) -> Result<Option<usize>, LinkError> {
        let length = loop {
            self.usable()?;
            match self.decoder.head() {
                Ok(Head::Bulk(length)) => break length,
                Ok(Head::Incomplete) => self.fill(deadline)?,
                Ok(Head::Other) => {
                    return match self.recv(deadline)?.into_bytes().map_err(|e| e.at(self.name()))? {
                        None => Ok(None),
                        Some(bytes) if bytes.len() <= buf.len() => {
                            buf[..bytes.len()].copy_from_slice(&bytes);
                            Ok(Some(bytes.len()))
                        }
                        Some(bytes) => Err(self.too_long(bytes.len(), buf.len())),
                    };
                }
                Err(what) => return Err(self.violation(what)),
            }
        };
        if length > buf.len() {
            return Err(self.too_long(length, buf.len()));
        }
        let mut have = self.decoder.take(&mut buf[..length]);
        while have < length {
            let wait = self.transport.wait_for(deadline);
            match self.transport.recv_slice(&mut buf[have..length], wait) {
                Ok(0) => return Err(self.read_failed(&io::ErrorKind::UnexpectedEof.into())),
                Ok(count) => have += count,
                Err(e) => self.await_more(&e, deadline)?,
            }
        }
        while !self.decoder.take_line_break().map_err(|what| self.violation(what))? {
            self.fill(deadline)?;
        }
        // The bytes are in the caller's buffer; what `finish` sees is only that a reply came.
        self.finish(Reply::Bool(true)).map(|_| Some(length))
    }

    /// Runs a script by its hash; a server that does not know it yet is given it first.
    pub fn eval(
        &mut self,
        script: &Script,
        keys: &[&[u8]],
        args: &[&[u8]],
    ) -> Result<Reply, LinkError> {
        let cmd = script.evalsha(keys, args);
        match self.call(&cmd) {
            Err(e) if e.is_noscript() => {
                self.load(script)?;
                self.call(&cmd)
            }
            other => other,
        }
    }

    /// Gives a script to the server.
    pub fn load(&mut self, script: &Script) -> Result<(), LinkError> {
        self.call(&Cmd::new("SCRIPT").arg("LOAD").payload(script.body().as_bytes())).map(|_| ())
    }

    /// What the server says it is.
    pub fn server_version(&self) -> ServerVersion {
        self.version
    }

    /// The server this is a connection to.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The server's address, for messages.
    pub fn name(&self) -> &ServerName {
        self.endpoint.name()
    }

    /// The time limits in force.
    pub fn timeouts(&self) -> &Timeouts {
        &self.timeouts
    }

    /// How many replies are still to come.
    pub fn pending(&self) -> usize {
        self.pending
    }

    /// The error that broke the connection, if it is broken.
    pub fn broken(&self) -> Option<&LinkError> {
        self.broken.as_ref()
    }

    /// The connection may carry another command: not broken, and no reply outstanding.
    pub fn is_reusable(&self) -> bool {
        self.broken.is_none() && self.pending == 0 && !self.decoder.is_midway()
    }

    /// Nothing has arrived unasked, not even the connection's end. One system call.
    pub(crate) fn is_silent(&self) -> bool {
        self.transport.is_silent()
    }

    pub(crate) fn transport(&self) -> &Transport {
        &self.transport
    }

    pub(crate) fn transport_mut(&mut self) -> &mut Transport {
        &mut self.transport
    }

    /// A part of a message has been received already.
    pub(crate) fn is_midway(&self) -> bool {
        self.decoder.is_midway()
    }

    fn usable(&self) -> Result<(), LinkError> {
        match &self.broken {
            Some(e) => Err(e.clone()),
            None => Ok(()),
        }
    }

    /// Everything that precedes the first byte of commands.
    pub(crate) fn begin(&mut self, cmds: &[Cmd<'_>]) -> Result<(), LinkError> {
        if let Some(e) = &self.broken {
            // This command was not sent, whatever became of the one that broke the connection.
            return Err(LinkError::Unavailable {
                server: self.name().clone(),
                cause: e.to_string(),
            });
        }
        if let Some(faults) = &self.faults {
            let faults = Arc::clone(faults);
            for cmd in cmds {
                match faults.before_send(self.name(), cmd.name()) {
                    None => {}
                    Some(Fault::Delay(time)) => std::thread::sleep(time),
                    Some(Fault::Cut) => {
                        let cause = "the connection was cut on purpose".to_owned();
                        let server = self.name().clone();
                        return Err(self.break_with(LinkError::Unavailable { server, cause }));
                    }
                    Some(Fault::TimeOut) => {
                        let (server, after) = (self.name().clone(), self.timeouts.reply);
                        return Err(self.break_with(LinkError::TimedOut { server, after }));
                    }
                    Some(Fault::Error(line)) => {
                        return Err(LinkError::from_reply(self.name(), line.as_bytes()));
                    }
                }
            }
            self.names.extend(cmds.iter().map(Cmd::name));
        }
        if self.pending == 0 {
            self.since = Instant::now();
        }
        self.pending += cmds.len();
        Ok(())
    }

    fn write_out(
        &mut self,
        outbox: &mut Outbox<'_>,
        mut begun: bool,
        deadline: Instant,
    ) -> Result<(), LinkError> {
        loop {
            let wait = self.transport.wait_for(deadline);
            let step = if !outbox.is_empty() {
                self.transport.send_from(outbox, wait)
            } else if self.transport.has_unsent() {
                self.transport.flush(wait)
            } else {
                return Ok(());
            };
            begun |= !outbox.is_untouched();
            match step {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    if wait == Wait::No
                        && !self
                            .transport
                            .ready(true, deadline)
                            .map_err(|e| self.write_failed(&e, begun))?
                    {
                        return Err(self.timed_out());
                    }
                }
                Err(e) => return Err(self.write_failed(&e, begun)),
            }
        }
    }

    /// The next message, taken from what has arrived; for [`crate::gather`].
    pub(crate) fn next_arrived(&mut self) -> Result<Option<Result<Reply, LinkError>>, LinkError> {
        self.usable()?;
        loop {
            match self.decoder.next() {
                Ok(Some(Reply::Push(_))) => {}
                Ok(Some(reply)) => return Ok(Some(self.finish(reply))),
                Ok(None) => return Ok(None),
                Err(what) => return Err(self.violation(what)),
            }
        }
    }

    /// Receives what has arrived at the socket, without waiting; `false` if nothing has.
    pub(crate) fn pull(&mut self) -> Result<bool, LinkError> {
        match self.transport.recv(self.decoder.target(), Wait::No, false) {
            Ok(0) => Err(self.read_failed(&io::ErrorKind::UnexpectedEof.into())),
            Ok(_) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(e) => Err(self.read_failed(&e)),
        }
    }

    /// The next message that is a reply; `None` after one that is not.
    fn recv_message(&mut self, deadline: Instant) -> Result<Option<Reply>, LinkError> {
        self.usable()?;
        loop {
            match self.decoder.next() {
                Ok(Some(Reply::Push(_))) => return Ok(None),
                Ok(Some(reply)) => return Ok(Some(reply)),
                Ok(None) => self.fill(deadline)?,
                Err(what) => return Err(self.violation(what)),
            }
        }
    }

    /// The next message of any kind; `None` when `deadline` passes, which breaks nothing.
    pub(crate) fn recv_unasked(&mut self, deadline: Instant) -> Result<Option<Reply>, LinkError> {
        self.usable()?;
        loop {
            match self.decoder.next() {
                Ok(Some(reply)) => {
                    // Subscriptions and their like are answered by any number of messages.
                    self.pending = 0;
                    return Ok(Some(reply));
                }
                Ok(None) => {}
                Err(what) => return Err(self.violation(what)),
            }
            if !self.pull()?
                && !self.transport.ready(false, deadline).map_err(|e| self.read_failed(&e))?
            {
                return Ok(None);
            }
        }
    }

    /// Receives some bytes or fails.
    fn fill(&mut self, deadline: Instant) -> Result<(), LinkError> {
        loop {
            let wait = self.transport.wait_for(deadline);
            let missing = self.decoder.missing();
            let target = self.decoder.target();
            let fill = target.capacity() - target.len() <= missing;
            match self.transport.recv(target, wait, fill) {
                Ok(0) => return Err(self.read_failed(&io::ErrorKind::UnexpectedEof.into())),
                Ok(_) => return Ok(()),
                Err(e) => self.await_more(&e, deadline)?,
            }
        }
    }

    /// After a receive that gave nothing: waits until there is something, or fails.
    fn await_more(&mut self, e: &io::Error, deadline: Instant) -> Result<(), LinkError> {
        if e.kind() != io::ErrorKind::WouldBlock {
            return Err(self.read_failed(e));
        }
        match self.transport.ready(false, deadline) {
            Ok(true) => Ok(()),
            Ok(false) => Err(self.timed_out()),
            Err(e) => Err(self.read_failed(&e)),
        }
    }

    /// A complete reply has come.
    fn finish(&mut self, reply: Reply) -> Result<Reply, LinkError> {
        if self.pending == 0 {
            return Err(self.violation("a reply came that nobody asked for".into()));
        }
        self.pending -= 1;
        if self.faults.is_some() {
            self.injected_after_recv()?;
        }
        match reply {
            Reply::Error(line) => Err(LinkError::from_reply(self.name(), &line)),
            reply => Ok(reply),
        }
    }

    fn injected_after_recv(&mut self) -> Result<(), LinkError> {
        let Some(faults) = self.faults.clone() else { return Ok(()) };
        let command = self.names.pop_front().unwrap_or("");
        match faults.after_recv(self.name(), command) {
            None => Ok(()),
            Some(Fault::Delay(time)) => {
                std::thread::sleep(time);
                Ok(())
            }
            Some(Fault::Cut) => {
                let cause = "the connection was cut on purpose".to_owned();
                let server = self.name().clone();
                Err(self.break_with(LinkError::Lost { server, cause }))
            }
            Some(Fault::TimeOut) => Err(self.timed_out()),
            Some(Fault::Error(line)) => Err(LinkError::from_reply(self.name(), line.as_bytes())),
        }
    }

    fn break_with(&mut self, e: LinkError) -> LinkError {
        self.broken = Some(e.clone());
        e
    }

    fn violation(&mut self, what: String) -> LinkError {
        let server = self.name().clone();
        self.break_with(LinkError::Protocol { server, what })
    }

    fn too_long(&mut self, length: usize, room: usize) -> LinkError {
        self.violation(format!(
            "a string of {length} bytes came where at most {room} were expected"
        ))
    }

    pub(crate) fn timed_out(&mut self) -> LinkError {
        let (server, after) = (self.name().clone(), self.since.elapsed());
        self.break_with(LinkError::TimedOut { server, after })
    }

    pub(crate) fn read_failed(&mut self, e: &io::Error) -> LinkError {
        let server = self.name().clone();
        if let Some(cause) = tls_cause(e).filter(|_| !self.greeted) {
            return self.break_with(LinkError::Tls { server, cause });
        }
        self.break_with(LinkError::Lost { server, cause: reason(e) })
    }

    /// `begun`: some bytes of the command were handed to the kernel.
    pub(crate) fn write_failed(&mut self, e: &io::Error, begun: bool) -> LinkError {
        let (server, cause) = (self.name().clone(), reason(e));
        self.break_with(if begun || self.pending > 1 {
            LinkError::Lost { server, cause }
        } else {
            LinkError::Unavailable { server, cause }
        })
    }
}

impl fmt::Debug for Conn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conn")
            .field("server", self.name())
            .field("version", &self.version)
            .field("pending", &self.pending)
            .field("broken", &self.broken)
            .finish_non_exhaustive()
    }
}
