//! Scatter-gather: commands to several servers at once, from one thread.
//!
//! Writing and reading are interleaved over all sockets by one `poll` loop. No server's slowness
//! holds up another's bytes, and a server that answers before it has read everything cannot
//! deadlock with us.

use crate::cmd::Cmd;
use crate::conn::Conn;
use crate::error::LinkError;
use crate::reply::Reply;
use crate::transport::{Outbox, Wait, poll_watching, reason};
use rustix::event::{PollFd, PollFlags};
use std::io;
use std::time::Instant;

/// One connection and the commands for it.
#[derive(Debug)]
pub struct Job<'a> {
    /// Has to be without pending replies.
    pub conn: &'a mut Conn,
    /// Sent in this order, in one go.
    pub cmds: &'a [Cmd<'a>],
}

struct Task<'a> {
    conn: &'a mut Conn,
    outbox: Outbox<'a>,
    begun: bool,
    wanted: usize,
    got: Vec<Result<Reply, LinkError>>,
}

/// Sends one command on each connection and waits for the reply to each, until `deadline`.
pub fn gather(
    targets: &mut [(&mut Conn, &Cmd<'_>)],
    deadline: Instant,
) -> Vec<Result<Reply, LinkError>> {
    let jobs = targets.iter_mut().map(|(conn, cmd)| (&mut **conn, std::slice::from_ref(*cmd)));
    run(jobs, deadline)
        .into_iter()
        .map(|mut replies| replies.pop().expect("one command, one result"))
        .collect()
}

/// Several commands on each connection; as many results as commands.
pub fn gather_some(
    targets: &mut [(&mut Conn, &[Cmd<'_>])],
    deadline: Instant,
) -> Vec<Vec<Result<Reply, LinkError>>> {
    run(targets.iter_mut().map(|(conn, cmds)| (&mut **conn, *cmds)), deadline)
}

/// [`gather_some`] with named parts.
pub fn gather_jobs(jobs: &mut [Job<'_>], deadline: Instant) -> Vec<Vec<Result<Reply, LinkError>>> {
    run(jobs.iter_mut().map(|job| (&mut *job.conn, job.cmds)), deadline)
}

/// The index of a connection on which bytes have arrived (or its end); `None` when `deadline`
/// passes first. For asking a second server when the first is slow.
pub fn wait_any(conns: &[&Conn], deadline: Instant) -> Result<Option<usize>, LinkError> {
    if let Some(at) = conns
        .iter()
        .position(|c| c.is_midway() || c.transport().has_buffered() || c.broken().is_some())
    {
        return Ok(Some(at));
    }
    let fds = conns.iter().map(|c| PollFd::new(c.transport(), PollFlags::IN)).collect();
    match poll_watching(fds, deadline) {
        Ok(Some(events)) => Ok(events.iter().position(|events| !events.is_empty())),
        Ok(None) => Ok(None),
        Err(e) => Err(LinkError::unexpected(format!("poll failed: {}", reason(&e)))),
    }
}

fn run<'a>(
    jobs: impl Iterator<Item = (&'a mut Conn, &'a [Cmd<'a>])>,
    deadline: Instant,
) -> Vec<Vec<Result<Reply, LinkError>>> {
    let mut tasks: Vec<Task<'a>> = jobs.map(|(conn, cmds)| Task::begin(conn, cmds)).collect();
    let mut waiting: Vec<usize> = (0..tasks.len()).collect();
    loop {
        waiting.retain(|&at| !tasks[at].is_done());
        if waiting.is_empty() {
            break;
        }
        let fds = waiting.iter().map(|&at| tasks[at].poll_fd()).collect();
        match poll_watching(fds, deadline) {
            Ok(Some(events)) => {
                for (&at, events) in waiting.iter().zip(events) {
                    tasks[at].proceed(events);
                }
            }
            Ok(None) => {
                for &at in &waiting {
                    let e = tasks[at].conn.timed_out();
                    tasks[at].fail(e);
                }
            }
            Err(e) => {
                for &at in &waiting {
                    let e = tasks[at].conn.read_failed(&e);
                    tasks[at].fail(e);
                }
            }
        }
    }
    tasks.into_iter().map(|task| task.got).collect()
}

impl<'a> Task<'a> {
    /// Takes the commands and writes what the socket takes at once.
    fn begin(conn: &'a mut Conn, cmds: &'a [Cmd<'a>]) -> Task<'a> {
        let outbox = Outbox::new(cmds.iter().flat_map(Cmd::slices).collect());
        let mut task = Task {
            conn,
            outbox,
            begun: false,
            wanted: cmds.len(),
            got: Vec::with_capacity(cmds.len()),
        };
        match task.conn.begin(cmds) {
            Ok(()) => task.push(),
            Err(e) => task.fail(e),
        }
        task
    }

    fn is_done(&self) -> bool {
        self.got.len() == self.wanted
    }

    /// All results that are still missing become `e`.
    fn fail(&mut self, e: LinkError) {
        self.got.resize(self.wanted, Err(e));
    }

    fn has_unsent(&self) -> bool {
        !self.outbox.is_empty() || self.conn.transport().has_unsent()
    }

    fn poll_fd(&self) -> PollFd<'_> {
        let write = if self.has_unsent() { PollFlags::OUT } else { PollFlags::empty() };
        PollFd::new(self.conn.transport(), PollFlags::IN | write)
    }

    fn proceed(&mut self, events: PollFlags) {
        if events.contains(PollFlags::OUT) {
            self.push();
        }
        if !self.is_done() && events.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
            self.pull();
        }
    }

    fn push(&mut self) {
        while self.has_unsent() {
            let step = if self.outbox.is_empty() {
                self.conn.transport_mut().flush(Wait::No)
            } else {
                self.conn.transport_mut().send_from(&mut self.outbox, Wait::No)
            };
            self.begun |= !self.outbox.is_untouched();
            match step {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                // The server may have said why before it closed; that is read first.
                Err(e) => {
                    let e = self.conn.write_failed(&e, self.begun);
                    return self.fail(e);
                }
            }
        }
    }

    fn pull(&mut self) {
        if let Err(e) = self.receive() {
            self.fail(e);
        }
    }

    /// Receives until nothing is left at the socket or all replies are there.
    fn receive(&mut self) -> Result<(), LinkError> {
        while self.conn.pull()? {
            while !self.is_done() {
                match self.conn.next_arrived()? {
                    Some(reply) => self.got.push(reply),
                    None => break,
                }
            }
            if self.is_done() {
                break;
            }
        }
        Ok(())
    }
}
