//! `ringfs local supervise`: a process of our own that keeps the local servers running.
//!
//! It starts them, starts those again that die (unless they are held), writes what it sees into
//! `state.json`, and stops them when it gets SIGTERM. SIGHUP makes it look again at who is held.
//! It wakes on signals, and on time only while a server is starting or waiting to be started.

use super::configuration;
use super::directory::{Condition, Directory, Layout, ServerPlan, ServerState, State};
use crate::failure::Failure;
use crate::process::ProcessIdentity;
use crate::server_facts;
use ringfs_link::{Endpoint, Timeouts};
use rustix::fs::FlockOperation;
use rustix::process::Signal;
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::fs::{self, File};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// Between two looks at a server that is starting.
const START_LOOK: Duration = Duration::from_millis(30);

/// The pause before a server that died early is started again, doubled each time up to the second.
const RETRY_PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// How long a server may take to stop (it writes its file) before it is killed.
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// A busy machine may be slow; nothing but the answer to one look hangs on this.
const LOOK_TIMEOUTS: Timeouts =
    Timeouts { connect: Duration::from_millis(300), reply: Duration::from_millis(500) };

struct Kept {
    plan: ServerPlan,
    child: Option<Child>,
    state: ServerState,
    retry_at: Option<Instant>,
    started_before: bool,
}

/// Runs until SIGTERM or SIGINT.
pub fn run(directory: &Directory) -> Result<(), Failure> {
    // Of a terminal that goes away we do not want to hear. It fails only for the leader of a
    // process group, who was started by somebody who has seen to that.
    rustix::process::setsid().ok();
    let Some(layout) = directory.layout()? else {
        return Err(Failure::plain(format!("there is no layout.json in {directory}")));
    };
    let _lock = lock(directory)?;
    let signals = signals()?;
    stop_leftovers(directory)?;

    let me = ProcessIdentity::of(std::process::id())
        .ok_or_else(|| Failure::plain("cannot read /proc/self/stat"))?;
    let mut kept: Vec<Kept> = layout.servers.iter().map(|plan| Kept::new(plan.clone())).collect();
    loop {
        for server in &mut kept {
            server.look(directory, &layout)?;
        }
        write_state(directory, &me, &kept)?;
        match next_signal(&signals, kept.iter().filter_map(Kept::wake_at).min()) {
            Some(SIGTERM | SIGINT) => break,
            _ => continue,
        }
    }
    for server in &mut kept {
        server.stop()?;
    }
    write_state(directory, &me, &kept)
}

fn lock(directory: &Directory) -> Result<File, Failure> {
    let path = directory.lock();
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|e| Failure::io(format_args!("open {}", path.display()), &e))?;
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
        Failure::refused(format!("the servers in {directory} have a supervisor already"))
    })?;
    Ok(file)
}

/// Signals arrive on a channel, so that waiting for one can have a time limit.
fn signals() -> Result<Receiver<i32>, Failure> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP, SIGCHLD])
        .map_err(|e| Failure::io("receive signals", &e))?;
    let (sender, receiver) = channel();
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            for signal in signals.forever() {
                if sender.send(signal).is_err() {
                    return;
                }
            }
        })
        .map_err(|e| Failure::io("start a thread", &e))?;
    Ok(receiver)
}

fn next_signal(signals: &Receiver<i32>, until: Option<Instant>) -> Option<i32> {
    match until {
        None => signals.recv().ok(),
        Some(until) => signals.recv_timeout(until.saturating_duration_since(Instant::now())).ok(),
    }
}

/// A supervisor that was killed leaves its servers running. They hold our ports.
fn stop_leftovers(directory: &Directory) -> Result<(), Failure> {
    let Some(state) = directory.state()? else { return Ok(()) };
    for server in state.servers {
        if let Some(process) = server.process {
            end(&process)?;
        }
    }
    Ok(())
}

/// Ends a process that need not be our child: SIGTERM, and SIGKILL if that does not help.
pub fn end(process: &ProcessIdentity) -> Result<(), Failure> {
    for signal in [Signal::TERM, Signal::KILL] {
        let sent = process.signal(signal);
        let sent =
            sent.map_err(|e| Failure::io(format_args!("stop process {}", process.pid), &e))?;
        if !sent {
            return Ok(());
        }
        let limit = Instant::now() + STOP_LIMIT;
        while process.is_alive() && Instant::now() < limit {
            std::thread::sleep(START_LOOK);
        }
    }
    if process.is_alive() {
        return Err(Failure::plain(format!("process {} does not end", process.pid)));
    }
    Ok(())
}

fn write_state(directory: &Directory, me: &ProcessIdentity, kept: &[Kept]) -> Result<(), Failure> {
    let servers = kept.iter().map(|server| server.state.clone()).collect();
    let state = State::new(me.clone(), servers);
    // Unchanged most of the time; do not wear the disk out.
    if directory.state()?.as_ref() != Some(&state) {
        directory.write_state(&state)?;
    }
    Ok(())
}

impl Kept {
    fn new(plan: ServerPlan) -> Kept {
        let state = ServerState {
            name: plan.name.clone(),
            condition: Condition::Down,
            process: None,
            run_id: None,
            restarts: 0,
            failed_starts: 0,
        };
        Kept { plan, child: None, state, retry_at: None, started_before: false }
    }

    /// When to look again without a signal.
    fn wake_at(&self) -> Option<Instant> {
        match self.state.condition {
            Condition::Starting => Some(Instant::now() + START_LOOK),
            Condition::Down => self.retry_at,
            _ => None,
        }
    }

    fn look(&mut self, directory: &Directory, layout: &Layout) -> Result<(), Failure> {
        if let Some(child) = &mut self.child {
            match child.try_wait() {
                Ok(None) if self.state.condition == Condition::Starting => self.look_for_answer(),
                Ok(None) => {}
                Ok(Some(status)) => self.note_end(&status.to_string()),
                Err(e) => {
                    let doing = format_args!("wait for {}", self.plan.name).to_string();
                    return Err(Failure::io(doing, &e));
                }
            }
        }
        if self.child.is_some() {
            return Ok(());
        }
        if directory.held(&self.plan.name).exists() {
            self.state.condition = Condition::Held;
            return Ok(());
        }
        if self.state.condition == Condition::Held {
            self.retry_at = None;
        }
        if self.retry_at.is_none_or(|at| at <= Instant::now()) {
            self.start(directory, layout)?;
        }
        Ok(())
    }

    fn note_end(&mut self, status: &str) {
        eprintln!("{} ended ({status})", self.plan.name);
        if self.state.condition == Condition::Starting {
            self.state.failed_starts += 1;
            let doubled = RETRY_PAUSE.0 * 2u32.saturating_pow(self.state.failed_starts.min(16) - 1);
            self.retry_at = Some(Instant::now() + doubled.min(RETRY_PAUSE.1));
        } else {
            self.retry_at = None;
        }
        self.child = None;
        self.state.condition = Condition::Down;
        self.state.process = None;
        self.state.run_id = None;
    }

    fn start(&mut self, directory: &Directory, layout: &Layout) -> Result<(), Failure> {
        let config = configuration::write(directory, layout, &self.plan)?;
        let output = directory.server(&self.plan.name).join("output.log");
        let file = File::create(&output)
            .and_then(|file| Ok((file.try_clone()?, file)))
            .map_err(|e| Failure::io(format_args!("write {}", output.display()), &e))?;
        let mut command = Command::new(&layout.program);
        command.arg(&config).stdin(Stdio::null()).stdout(file.0).stderr(file.1);
        // Servers need no password of ours, and anything that runs as this user could read it.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("RINGFS_") {
                command.env_remove(name);
            }
        }
        let child = command
            .spawn()
            .map_err(|e| Failure::io(format_args!("start {}", layout.program.display()), &e))?;
        self.state.restarts += u64::from(std::mem::replace(&mut self.started_before, true));
        self.state.process = ProcessIdentity::of(child.id());
        self.state.condition = Condition::Starting;
        self.child = Some(child);
        Ok(())
    }

    fn look_for_answer(&mut self) {
        let Ok(endpoint) = Endpoint::parse(&self.plan.url()) else { return };
        let Ok((_, facts)) = server_facts::look(&endpoint, &LOOK_TIMEOUTS) else { return };
        // Who answers may be a stranger that took the port before our server could.
        if facts.process_id == self.state.process.as_ref().map(|p| p.pid) {
            self.state.condition = Condition::Up;
            self.state.run_id = Some(facts.run_id);
            self.state.failed_starts = 0;
        }
    }

    fn stop(&mut self) -> Result<(), Failure> {
        if let Some(child) = &mut self.child {
            let process = self.state.process.clone();
            // A child that we do not wait for stays a zombie, which does not count as alive.
            if let Some(process) = process {
                end(&process)?;
            }
            child.wait().map_err(|e| Failure::io("wait for a server", &e))?;
        }
        self.child = None;
        self.state.condition = Condition::Stopped;
        self.state.process = None;
        self.state.run_id = None;
        Ok(())
    }
}

/// The last lines of a log, for an error message.
pub fn last_line(path: &std::path::Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    text.lines().rev().find(|line| !line.trim().is_empty()).map(|line| line.trim().to_owned())
}
