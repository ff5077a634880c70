//! `ringfs local stop`, `kill` and `restart`.

use super::directory::{Condition, Directory, ServerState, State};
use super::{running, supervisor};
use crate::failure::Failure;
use rustix::process::Signal;
use std::fs;
use std::time::{Duration, Instant};

/// How long the supervisor may take to notice, and a server to start or end.
const CHANGE_LIMIT: Duration = Duration::from_secs(30);
const LOOK_PAUSE: Duration = Duration::from_millis(20);

/// Stops the supervisor, which stops the servers.
pub fn run(directory: &Directory, delete: bool) -> Result<(), Failure> {
    match directory.state()? {
        None if !delete => {
            return Err(Failure::plain(format!(
                "no servers were ever started in {directory}; `ringfs local start` does"
            )));
        }
        None => {}
        Some(state) => {
            supervisor::end(&state.supervisor)?;
            // A supervisor that had been killed could not stop them.
            for process in state.servers.iter().filter_map(|server| server.process.as_ref()) {
                supervisor::end(process)?;
            }
        }
    }
    if delete { remove(directory) } else { Ok(()) }
}

/// Removes what we wrote, and the directory if nothing else is in it.
fn remove(directory: &Directory) -> Result<(), Failure> {
    let failed = |e: &std::io::Error| Failure::io(format_args!("delete in {directory}"), e);
    let Some(layout) = directory.layout()? else { return Ok(()) };
    for server in &layout.servers {
        match fs::remove_dir_all(directory.server(&server.name)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(failed(&e)),
            _ => {}
        }
    }
    for name in ["state.json", "supervisor.log", "lock", "layout.json"] {
        match fs::remove_file(directory.path().join(name)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(failed(&e)),
            _ => {}
        }
    }
    match fs::remove_dir(directory.path()) {
        Err(e) if e.kind() != std::io::ErrorKind::DirectoryNotEmpty => Err(failed(&e)),
        _ => Ok(()),
    }
}

/// Kills a server. The supervisor starts it again unless it is to be kept down.
pub fn kill(directory: &Directory, name: &str, keep_down: bool) -> Result<(), Failure> {
    let (_, before) = find(directory, name)?;
    if keep_down {
        let held = directory.held(name);
        fs::write(&held, "")
            .map_err(|e| Failure::io(format_args!("write {}", held.display()), &e))?;
    }
    if let Some(process) = &before.process {
        process
            .signal(Signal::KILL)
            .map_err(|e| Failure::io(format_args!("kill process {}", process.pid), &e))?;
    }
    wait(directory, name, |now| match keep_down {
        true => now.condition == Condition::Held,
        false => now.process != before.process,
    })
}

/// Starts a server again, whether it is running or was killed.
pub fn restart(directory: &Directory, name: &str) -> Result<(), Failure> {
    let (state, before) = find(directory, name)?;
    release(directory, name)?;
    match &before.process {
        Some(process) => supervisor::end(process)?,
        None => {
            state
                .supervisor
                .signal(Signal::HUP)
                .map_err(|e| Failure::io("signal the supervisor", &e))?;
        }
    }
    wait(directory, name, |now| now.condition == Condition::Up && now.process != before.process)
}

/// Takes away what keeps a server down.
pub fn release(directory: &Directory, name: &str) -> Result<(), Failure> {
    let held = directory.held(name);
    match fs::remove_file(&held) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(Failure::io(format_args!("remove {}", held.display()), &e))
        }
        _ => Ok(()),
    }
}

fn find(directory: &Directory, name: &str) -> Result<(State, ServerState), Failure> {
    let Some(state) = running(directory)? else {
        return Err(Failure::plain(format!(
            "no servers are running in {directory}; `ringfs local start` starts them"
        )));
    };
    match state.server(name).cloned() {
        Some(server) => Ok((state, server)),
        None => {
            let names: Vec<&str> = state.servers.iter().map(|s| s.name.as_str()).collect();
            Err(Failure::usage(format!(
                "there is no server \"{}\" in {directory}; there are {}",
                name.escape_debug(),
                names.join(", ")
            )))
        }
    }
}

fn wait(
    directory: &Directory,
    name: &str,
    done: impl Fn(&ServerState) -> bool,
) -> Result<(), Failure> {
    let limit = Instant::now() + CHANGE_LIMIT;
    loop {
        let (_, server) = find(directory, name)?;
        if done(&server) {
            return Ok(());
        }
        if Instant::now() > limit {
            return Err(Failure::plain(format!(
                "server {name} is still {}; see {}",
                server.condition.word(),
                directory.server(name).join("redis.log").display()
            )));
        }
        std::thread::sleep(LOOK_PAUSE);
    }
}
