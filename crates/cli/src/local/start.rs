//! `ringfs local start`: chooses ports, writes the layout, starts the supervisor, and waits until
//! all servers answer.

use super::directory::{Condition, Directory, Layout, META, ServerPlan, State};
use super::{StartArguments, running, show, supervisor};
use crate::failure::Failure;
use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const DEFAULT_PORT: u16 = 7400;
const DEFAULT_NODES: u16 = 3;

/// How long servers may take to answer; one with much data reads it first.
const START_LIMIT: Duration = Duration::from_secs(60);
const LOOK_PAUSE: Duration = Duration::from_millis(20);

/// A server that ends so often before it answers will not answer.
const FAILED_STARTS_MAX: u32 = 3;

/// Runs the command.
pub fn run(directory: &Directory, arguments: &StartArguments) -> Result<(), Failure> {
    let before = directory.layout()?;
    if let (Some(state), Some(layout)) = (running(directory)?, &before) {
        check_same(layout, arguments, directory)?;
        show::print(layout, &state, arguments.json);
        return Ok(());
    }
    if directory.state()?.is_some() {
        // A supervisor that was killed left its servers running, on the ports that we want.
        super::stop::run(directory, false)?;
    }
    let layout = match before {
        None => new_layout(arguments)?,
        Some(before) => continued_layout(before, arguments, directory)?,
    };
    directory.create()?;
    directory.write_layout(&layout)?;
    for server in &layout.servers {
        // A start starts all of them, also those that were killed before the stop.
        super::stop::release(directory, &server.name)?;
    }
    let mut supervisor = start_supervisor(directory)?;
    let state = wait_until_up(directory, &mut supervisor, &layout)?;
    show::print(&layout, &state, arguments.json);
    if !arguments.json {
        crate::output::print(format_args!(
            "\nNow make a volume on them:\n  {}\n",
            example(&layout)
        ));
    }
    Ok(())
}

/// The command that makes a volume on all of them.
fn example(layout: &Layout) -> String {
    let (meta, nodes) = layout.servers.split_first().expect("a layout has a metadata server");
    let nodes: Vec<String> =
        nodes.iter().map(|node| format!("--node {}={}", node.name, node.url())).collect();
    let replicas = nodes.len().min(2);
    format!("ringfs format {} demo --replicas {replicas} {}", meta.url(), nodes.join(" "))
}

fn new_layout(arguments: &StartArguments) -> Result<Layout, Failure> {
    let program = server_program()?;
    let maxmemory = arguments.maxmemory.unwrap_or(0);
    let mut layout = Layout::new(program, maxmemory, arguments.memory_only);
    let names = std::iter::once(META.to_owned())
        .chain((1..=arguments.nodes.unwrap_or(DEFAULT_NODES)).map(|n| format!("node-{n}")));
    // All listeners are held until the end, so that no port is chosen twice.
    let mut listeners = Vec::new();
    let mut port = arguments.port.unwrap_or(DEFAULT_PORT);
    for name in names {
        let (listener, found) = free_port(port)?;
        listeners.push(listener);
        layout.servers.push(ServerPlan { name, port: found });
        if port != 0 {
            port = port.checked_add(1).ok_or_else(|| {
                Failure::usage("there are not enough ports above the one given with --port")
            })?;
        }
    }
    Ok(layout)
}

/// What is asked for must be what is running.
fn check_same(
    layout: &Layout,
    arguments: &StartArguments,
    directory: &Directory,
) -> Result<(), Failure> {
    let nodes = layout.servers.len() - 1;
    let port = layout.servers.first().map_or(0, |meta| meta.port);
    let other_nodes = arguments.nodes.is_some_and(|n| usize::from(n) != nodes);
    let other_port = arguments.port.is_some_and(|p| p != 0 && p != port);
    if other_nodes || other_port {
        return Err(Failure::refused(format!(
            "other servers are running in {directory} already ({nodes} nodes, ports from {port} on); \
             stop them first with `ringfs local stop`, or name another directory with --dir"
        )));
    }
    Ok(())
}

/// Servers that were stopped are started as they were, perhaps with some more nodes.
fn continued_layout(
    mut layout: Layout,
    arguments: &StartArguments,
    directory: &Directory,
) -> Result<Layout, Failure> {
    let nodes = layout.servers.len() - 1;
    let wanted = arguments.nodes.map_or(nodes, usize::from);
    if wanted < nodes {
        return Err(Failure::refused(format!(
            "{directory} has {nodes} nodes with data; start all of them, or name another directory \
             with --dir"
        )));
    }
    let first = layout.servers.first().map_or(0, |meta| meta.port);
    if arguments.port.is_some_and(|port| port != 0 && port != first) {
        return Err(Failure::refused(format!(
            "the servers in {directory} have had port {first} and the next ones so far, and volumes \
             name them so; leave --port away, or name another directory with --dir"
        )));
    }
    for server in &layout.servers {
        free_port(server.port)?;
    }
    if let Some(maxmemory) = arguments.maxmemory {
        layout.maxmemory = maxmemory;
    }
    layout.memory_only |= arguments.memory_only;
    layout.program = server_program()?;
    let mut listeners = Vec::new();
    for number in nodes + 1..=wanted {
        let last = layout.servers.last().map_or(0, |server| server.port);
        let next = if arguments.port == Some(0) { 0 } else { last.saturating_add(1) };
        let (listener, port) = free_port(next)?;
        listeners.push(listener);
        layout.servers.push(ServerPlan { name: format!("node-{number}"), port });
    }
    Ok(layout)
}

fn free_port(port: u16) -> Result<(TcpListener, u16), Failure> {
    let taken = |_| {
        Failure::plain(format!(
            "port {port} of 127.0.0.1 is taken by another program; choose another with --port, or \
             any free ones with --port 0"
        ))
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(taken)?;
    let found = listener.local_addr().map_err(taken)?.port();
    Ok((listener, found))
}

fn server_program() -> Result<PathBuf, Failure> {
    if let Some(path) = std::env::var_os("RINGFS_REDIS_SERVER") {
        return Ok(path.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut found = ["redis-server", "valkey-server"].into_iter().flat_map(|name| {
        std::env::split_paths(&path).map(move |dir| dir.join(name)).filter(|p| p.is_file())
    });
    found.next().ok_or_else(|| {
        Failure::plain(
            "neither redis-server nor valkey-server is in PATH; install one (on Debian: apt install \
             redis-server) or name it in RINGFS_REDIS_SERVER",
        )
    })
}

fn start_supervisor(directory: &Directory) -> Result<Child, Failure> {
    let me = std::env::current_exe().map_err(|e| Failure::io("find this program", &e))?;
    let log = directory.log();
    let file = File::create(&log)
        .and_then(|file| Ok((file.try_clone()?, file)))
        .map_err(|e| Failure::io(format_args!("write {}", log.display()), &e))?;
    Command::new(me)
        .args(["local", "supervise", "--dir"])
        .arg(directory.path())
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(file.0)
        .stderr(file.1)
        .spawn()
        .map_err(|e| Failure::io("start the supervisor", &e))
}

fn wait_until_up(
    directory: &Directory,
    supervisor: &mut Child,
    layout: &Layout,
) -> Result<State, Failure> {
    let limit = Instant::now() + START_LIMIT;
    loop {
        let ended =
            supervisor.try_wait().map_err(|e| Failure::io("wait for the supervisor", &e))?;
        if ended.is_some() {
            let why = supervisor::last_line(&directory.log())
                .map_or(String::new(), |line| format!(": {}", line.trim_start_matches("ringfs: ")));
            return Err(Failure::plain(format!("the supervisor ended{why}")));
        }
        let state = directory.state()?.filter(|state| state.supervisor.pid == supervisor.id());
        if let Some(state) = state {
            if state.servers.iter().all(|server| server.condition == Condition::Up) {
                return Ok(state);
            }
            let failing = |s: &&super::directory::ServerState| s.failed_starts >= FAILED_STARTS_MAX;
            let late = Instant::now() > limit;
            let failing =
                state.servers.iter().find(failing).or_else(|| {
                    state.servers.iter().find(|s| late && s.condition != Condition::Up)
                });
            if let Some(server) = failing {
                let port =
                    layout.servers.iter().find(|s| s.name == server.name).map_or(0, |s| s.port);
                let home = directory.server(&server.name);
                let why = supervisor::last_line(&home.join("redis.log"))
                    .or_else(|| supervisor::last_line(&home.join("output.log")))
                    .unwrap_or_default();
                let name = server.name.clone();
                super::stop::run(directory, false)?;
                return Err(Failure::plain(format!(
                    "server {name} on port {port} does not start; see {}: {why}",
                    home.join("redis.log").display()
                )));
            }
        } else if Instant::now() > limit {
            return Err(Failure::plain(format!(
                "the supervisor does nothing; see {}",
                directory.log().display()
            )));
        }
        std::thread::sleep(LOOK_PAUSE);
    }
}
