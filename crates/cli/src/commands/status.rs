//! `ringfs status`: how a volume is.

use crate::failure::Failure;
use crate::output::{Surroundings, print, print_json};
use crate::quantity::{bytes, count, duration};
use crate::table::TextTable;
use crate::target::Target;
use clap::Args;
use ringfs_cluster::health::Standing;
use ringfs_cluster::status::{MoveReport, NodeReport, NodeState, WorkerReport};
use ringfs_cluster::workers::WorkerState;
use ringfs_cluster::{COMPACT, GC, SCRUB, VolumeStatus};
use serde_json::json;
use std::time::{Duration, SystemTime};

/// Unreadable files that are named; `--json` has them all.
const UNREADABLE_SHOWN: usize = 20;
/// Columns that a line of text may have.
const COLUMNS: usize = 80;

/// Show how a volume is: servers, ring, background work, files that cannot be read, who mounts it
///
/// The exit code is 3 if blocks have fewer copies within reach than they should.
///
/// Example:
///   ringfs status redis://meta:6379/demo
///   ringfs status /mnt/demo
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct StatusArguments {
    /// The volume's URL, or a path where it is mounted.
    volume: String,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(arguments: &StatusArguments, surroundings: &Surroundings) -> Result<(), Failure> {
    let open = Target::open(&arguments.volume, surroundings)?.open;
    let status = ringfs_cluster::status(&open.subject(surroundings)?)?;
    if arguments.json {
        let mut document = serde_json::to_value(&status)
            .map_err(|e| Failure::plain(format!("cannot write JSON: {e}")))?;
        document["degraded"] = json!(status.is_degraded());
        print_json(&document);
    } else {
        print(text(&status));
    }
    if status.is_degraded() { Err(Failure::problems()) } else { Ok(()) }
}

fn text(status: &VolumeStatus) -> String {
    let now = now();
    let limit = |value: String, max: u64, shown: String| match max {
        0 => value,
        _ => format!("{value} of {shown}"),
    };
    let mut out = String::new();
    let mut line = |name: &str, value: String| {
        out.push_str(&format!("{name:<13}{}\n", wrapped(&value, 13)));
    };
    line("volume", format!("{} ({})", status.volume, status.uuid));
    line("state", status.state.clone());
    for advice in &status.advice {
        line("to do", advice.clone());
    }
    line("copies", format!("{} of each block", status.replicas));
    line("ring", format!("epoch {}, {} arcs", status.epoch, count(status.arcs.into())));
    if let Some(moving) = &status.moving {
        line("moving", moving_text(moving, now));
    }
    line(
        "coordinator",
        match &status.coordinator {
            Some(who) => format!("{}, process {} (session {})", who.host, who.pid, who.session),
            None => "nobody now".to_owned(),
        },
    );
    line("durability", status.durability.clone());
    line("inodes", limit(count(status.inodes), status.inodes_max, count(status.inodes_max)));
    line("bytes", limit(bytes(status.bytes), status.bytes_max, bytes(status.bytes_max)));
    if status.orphans > 0 {
        line("open", format!("{} files have no name any more", status.orphans));
    }

    let mut table =
        TextTable::new(&["server", "state", ">memory", ">limit", ">copies", ">latency", "address"]);
    for node in std::iter::once(&status.metadata).chain(&status.nodes) {
        table.row(row(node));
    }
    out.push('\n');
    out.push_str(&table.render());
    for node in std::iter::once(&status.metadata).chain(&status.nodes) {
        if let Some(cause) = cause(node, now) {
            out.push_str(&format!("\n{}\n", wrapped(&format!("{}: {cause}", node.name), 2)));
        }
    }
    if !status.workers.is_empty() {
        let mut table = TextTable::new(&["worker", "state", "what"]);
        for worker in &status.workers {
            let (state, what) = work(status, worker, now);
            table.row([worker.name.clone(), state, what]);
        }
        out.push('\n');
        out.push_str(&table.render());
    }
    if !status.unreadable.is_empty() {
        let files = count(status.unreadable.len() as u64);
        out.push_str(&format!("\nfiles that cannot be read: {files}\n"));
        for file in status.unreadable.iter().take(UNREADABLE_SHOWN) {
            let path = file.path.clone().unwrap_or_else(|| format!("(inode {})", file.inode));
            out.push_str(&format!("  {path}\n"));
            let why = format!("for {}: {}", ago(file.since, now), file.why);
            out.push_str(&format!("    {}\n", wrapped(&why, 4)));
        }
        if status.unreadable.len() > UNREADABLE_SHOWN {
            out.push_str("  ... and more, which --json names\n");
        }
    }
    if !status.sessions.is_empty() {
        let mut table =
            TextTable::new(&[">session", "host", ">process", "place", ">last sign", ">epoch"]);
        for session in &status.sessions {
            table.row([
                session.id.to_string(),
                session.host.clone(),
                session.pid.to_string(),
                session.place.clone(),
                format!("{} ago", duration(Duration::from_secs(session.idle_seconds))),
                session.epoch.to_string(),
            ]);
        }
        out.push('\n');
        out.push_str(&table.render());
    }
    out
}

fn row(node: &NodeReport) -> [String; 7] {
    let share = |value: Option<f64>| value.map_or(String::new(), |v| format!("{:.1}%", v * 100.0));
    let address = node.address.strip_prefix("redis://").unwrap_or(&node.address);
    [
        node.name.clone(),
        standing(node),
        node.memory_used.map_or(String::new(), bytes),
        match node.memory_max {
            Some(0) => "none".to_owned(),
            Some(max) => bytes(max),
            None => String::new(),
        },
        share(node.copies_share),
        node.latency_us.map_or(String::new(), |us| duration(Duration::from_micros(us))),
        address.trim_end_matches('/').to_owned(),
    ]
}

/// How a server is, in a word or two.
fn standing(node: &NodeReport) -> String {
    match (node.standing(), node.state) {
        (Standing::Out, NodeState::Down) => "out",
        (Standing::Out, _) => "out, answers",
        (_, NodeState::Down) => "down",
        (Standing::Down, _) => "coming back",
        (Standing::Up, NodeState::Suspect) => "in doubt",
        (Standing::Up, NodeState::Up) if node.marked_down => "coming back",
        (Standing::Up, NodeState::Up) if node.refilling => "refilling",
        (Standing::Up, NodeState::Up) => "up",
    }
    .to_owned()
}

/// What there is to say of a server that is not simply up.
fn cause(node: &NodeReport, now: u64) -> Option<String> {
    let health = node.health.as_ref();
    let mut parts: Vec<String> = Vec::new();
    if let Some(health) = health {
        match health.state {
            Standing::Up => {}
            Standing::Down => parts.push(format!("down for {}", ago(health.since, now))),
            Standing::Out => parts.push(format!("out for {}", ago(health.since, now))),
        }
        parts.extend(health.condition.words().map(str::to_owned));
        parts.extend(health.cause.clone());
        if health.up_not_before > now {
            let left = Duration::from_secs(health.up_not_before - now);
            parts.push(format!("up again in {} if it goes on to answer", duration(left)));
        }
    }
    // What we see ourselves, if nobody said the like.
    if parts.len() < 2 {
        parts.extend(node.cause.clone());
    }
    (!parts.is_empty()).then(|| parts.join("; "))
}

fn moving_text(moving: &MoveReport, now: u64) -> String {
    let mut text = format!("{}, for {}", moving.what, ago(moving.began, now));
    if moving.total > 0 {
        let percent = moving.done as f64 * 100.0 / moving.total as f64;
        text.push_str(&format!("; {} {percent:.0}%", moving.step));
    }
    text.push_str(&format!("; {} copied", bytes(moving.bytes)));
    if let Some(rate) = moving.bytes_per_second {
        text.push_str(&format!(", {}/s", bytes(rate)));
    }
    if let Some(left) = moving.seconds_left {
        text.push_str(&format!(", {} left", duration(Duration::from_secs(left))));
    }
    if moving.paused {
        text.push_str("; paused");
    }
    if !moving.waiting.is_empty() {
        text.push_str(&format!("; waits for {}", moving.waiting.join(", ")));
    }
    text
}

/// The state of a worker, and what it does or has done.
fn work(status: &VolumeStatus, worker: &WorkerReport, now: u64) -> (String, String) {
    let it = &worker.status;
    let state = match it.state {
        WorkerState::Paused => "paused",
        _ if worker.asleep => "asleep",
        WorkerState::Idle => "idle",
        WorkerState::Working => "working",
        WorkerState::Failed => "failed",
    };
    let mut what = match it.state {
        WorkerState::Failed => it.error.clone().unwrap_or_default(),
        WorkerState::Working if it.total > 0 => {
            let (done, total) = (count(it.done), count(it.total));
            format!("{}: {done} of {total}, {}", it.what, bytes(it.bytes))
        }
        WorkerState::Working => format!("{}: {}", it.what, count(it.done)),
        WorkerState::Idle | WorkerState::Paused => past(status, &worker.name, now),
    };
    if it.bytes_per_second > 0 && it.state == WorkerState::Working {
        what.push_str(&format!(" (at most {}/s)", bytes(it.bytes_per_second)));
    }
    (state.to_owned(), what)
}

/// What a worker has done at last.
fn past(status: &VolumeStatus, worker: &str, now: u64) -> String {
    match worker {
        SCRUB if status.scrub.passes > 0 => {
            let last = &status.scrub.last;
            format!(
                "{} ago: {} copies read, {} bad, {} missing, {} rebuilt, {} lost",
                ago(status.scrub.ended, now),
                count(last.copies),
                count(last.bad),
                count(last.missing),
                count(last.rebuilt),
                count(last.lost)
            )
        }
        GC if status.gc.runs > 0 => format!(
            "{} ago: {} blocks and {} nameless files removed",
            ago(status.gc.ended, now),
            count(status.gc.removed_blocks),
            count(status.gc.orphans)
        ),
        COMPACT if status.compaction.runs > 0 => format!(
            "{} ago: {} chunks, {} records made {}",
            ago(status.compaction.ended, now),
            count(status.compaction.chunks),
            count(status.compaction.records_before),
            count(status.compaction.records_after)
        ),
        SCRUB | GC | COMPACT => "not yet done".to_owned(),
        _ => String::new(),
    }
}

fn ago(then: u64, now: u64) -> String {
    duration(Duration::from_secs(now.saturating_sub(then)))
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Lines of at most [`COLUMNS`] columns, all but the first indented.
fn wrapped(text: &str, indent: usize) -> String {
    let mut out = String::new();
    let mut column = indent;
    for word in text.split_whitespace() {
        let len = word.chars().count();
        if column > indent && column + 1 + len > COLUMNS {
            out.push('\n');
            out.push_str(&" ".repeat(indent));
            column = indent;
        } else if column > indent {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += len;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_sentences_are_broken_between_words() {
        let text = "word ".repeat(40);
        let lines: Vec<String> = wrapped(&text, 13).lines().map(str::to_owned).collect();
        assert!(lines.len() > 2 && lines[1].starts_with("             word"));
        assert!(lines.iter().skip(1).all(|line| line.len() <= COLUMNS), "{lines:#?}");
        assert!(lines[0].len() + 13 <= COLUMNS);
        assert_eq!(wrapped("one", 2), "one");
    }
}
