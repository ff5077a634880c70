//! `ringfs local status`.

use super::directory::{Condition, Directory, Layout, State};
use super::running;
use crate::failure::Failure;
use crate::quantity::{bytes, count, duration};
use crate::server_facts::{self, ServerFacts};
use crate::table::TextTable;
use ringfs_link::{Endpoint, Timeouts};
use serde_json::json;

/// Runs the command.
pub fn run(directory: &Directory, json: bool) -> Result<(), Failure> {
    let layout = directory.layout()?;
    let (Some(layout), Some(state)) = (layout, running(directory)?) else {
        if json {
            crate::output::print_json(&json!({ "running": false, "servers": [] }));
        }
        return Err(Failure::new(
            crate::failure::Exit::Problems,
            format!("no servers are running in {directory}; `ringfs local start` starts them"),
        ));
    };
    print(&layout, &state, json);
    match state.servers.iter().all(|server| server.condition == Condition::Up) {
        true => Ok(()),
        false => Err(Failure::problems()),
    }
}

/// Prints the servers.
pub fn print(layout: &Layout, state: &State, json: bool) {
    let rows = layout.servers.iter().filter_map(|plan| Some((plan, state.server(&plan.name)?)));
    let facts = |url: &str| -> Option<ServerFacts> {
        let endpoint = Endpoint::parse(url).ok()?;
        Some(server_facts::look(&endpoint, &Timeouts::default()).ok()?.1)
    };
    if json {
        let servers: Vec<_> = rows
            .map(|(plan, server)| {
                json!({
                    "name": plan.name, "url": plan.url(), "port": plan.port,
                    "state": server.condition.word(),
                    "pid": server.process.as_ref().map(|p| p.pid),
                    "run_id": server.run_id, "restarts": server.restarts,
                    "used_memory_bytes": facts(&plan.url()).map(|f| f.used_memory),
                })
            })
            .collect();
        crate::output::print_json(&json!({
            "running": true, "supervisor_pid": state.supervisor.pid, "servers": servers,
        }));
        return;
    }
    let mut table =
        TextTable::new(&["server", "url", "state", ">pid", ">up", ">memory", ">keys", ">restarts"]);
    for (plan, server) in rows {
        let up = server.condition == Condition::Up;
        let facts = if up { facts(&plan.url()) } else { None };
        let fact = |f: &dyn Fn(&ServerFacts) -> String| facts.as_ref().map_or(String::new(), f);
        table.row([
            plan.name.clone(),
            plan.url(),
            server.condition.word().to_owned(),
            server.process.as_ref().map_or(String::new(), |p| p.pid.to_string()),
            fact(&|f| duration(f.uptime)),
            fact(&|f| bytes(f.used_memory)),
            fact(&|f| count(f.keys)),
            server.restarts.to_string(),
        ]);
    }
    crate::output::print(table.render());
}
