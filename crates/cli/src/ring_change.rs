//! Changing the ring from the command line: the plan is shown, somebody agrees, it is put in force, and
//! whoever wants to can watch.

use crate::compose::OpenVolume;
use crate::failure::Failure;
use crate::move_progress;
use crate::output::{print, print_json, warn};
use crate::quantity::{bytes, count, duration};
use crate::table::TextTable;
use clap::Args;
use ringfs_cluster::change::{Change, ChangeError, Proposal, commit, propose};
use ringfs_cluster::mover::{LIMIT, MoveRecord, WORKER};
use ringfs_cluster::workers::{WorkerWish, wish};
use ringfs_meta::MetaError;
use ringfs_ring::{NodeShare, Shares};
use serde_json::{Value, json};
use std::io::{BufRead, IsTerminal, Write};
use std::time::Duration;

/// What all commands that change the ring take.
#[derive(Clone, Debug, Args)]
pub struct Consent {
    /// Do not ask.
    #[arg(long)]
    yes: bool,
    /// Only show the plan.
    #[arg(long, conflicts_with_all = ["yes", "wait"])]
    dry_run: bool,
    /// Wait until everything is in its place, with a progress bar on a terminal.
    #[arg(long)]
    wait: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What a plan costs.
struct Estimate {
    /// Bytes of files, each once, by their sizes.
    stored: u64,
    /// Bytes to be copied.
    copied: u64,
    /// What is wanted of the worker.
    wish: WorkerWish,
    /// Sessions of the volume.
    sessions: usize,
}

impl Estimate {
    fn of(open: &OpenVolume, proposal: &Proposal) -> Result<Estimate, Failure> {
        let stored = open.volume.usage()?.bytes;
        Ok(Estimate {
            stored,
            copied: proposal.plan.bytes_to_copy_of(stored),
            wish: wish(&open.volume, WORKER)?,
            sessions: open.volume.sessions()?.len(),
        })
    }

    /// Bytes a second; 0 = no limit.
    fn limit(&self) -> u64 {
        self.wish.bytes_per_second.unwrap_or(LIMIT)
    }

    /// How long it takes at that rate, if that is known.
    fn time(&self) -> Option<Duration> {
        let rate = Some(self.limit()).filter(|limit| *limit > 0)?;
        Some(Duration::from_secs_f64(self.copied as f64 / rate as f64))
    }

    fn of_arcs(&self, proposal: &Proposal, arcs: u32) -> u64 {
        let part = f64::from(arcs) / f64::from(proposal.plan.arcs.max(1));
        (self.stored as f64 * part) as u64
    }
}

/// Shows what `changes` would do, asks, does it, and waits if that is wanted. `notes` are warnings of
/// the caller's.
pub fn carry_out(
    open: &OpenVolume,
    changes: &[Change],
    mut notes: Vec<String>,
    consent: &Consent,
) -> Result<(), Failure> {
    let ring = &open.ring;
    if let Some(moving) = &ring.state.moving {
        return Err(busy(moving));
    }
    let proposal = propose(ring, changes).map_err(refusal)?;
    let estimate = Estimate::of(open, &proposal)?;
    notes.extend(proposal.warnings.iter().cloned());
    if estimate.sessions == 0 && moves(&proposal) {
        notes.push(
            "no mount and no agent uses the volume, so nobody would move the blocks: start \
             `ringfs mount` or `ringfs agent` somewhere"
                .to_owned(),
        );
    }
    if estimate.wish.paused && moves(&proposal) {
        notes.push("moving is paused; `ringfs rebalance resume` lets it go on".to_owned());
    }
    if !consent.json {
        print(text(&proposal, &estimate));
        notes.iter().for_each(warn);
    }
    if consent.dry_run {
        if consent.json {
            print_json(&document(&proposal, &estimate, &notes, None));
        }
        return Ok(());
    }
    if !consent.yes {
        ask()?;
    }
    let by = format!("{}, process {}", host_name(), std::process::id());
    let epoch = commit(&open.volume, ring, &proposal, &by, None).map_err(|error| match error {
        MetaError::RingConflict { found } => Failure::refused(format!(
            "somebody else changed the ring meanwhile (it has epoch {found} now); look at the plan \
             anew; nothing was changed"
        )),
        MetaError::RingBusy(moving) => busy(&moving),
        error => error.into(),
    })?;
    if consent.json {
        print_json(&document(&proposal, &estimate, &notes, Some(epoch.0)));
    } else if moves(&proposal) {
        print(format_args!(
            "The ring has epoch {epoch}, and blocks are being moved; `ringfs rebalance status` shows \
             how far that is.\n"
        ));
    } else {
        print(format_args!("The ring has epoch {epoch}; nothing had to be moved.\n"));
    }
    if consent.wait && moves(&proposal) {
        move_progress::wait(&open.volume)?;
        if !consent.json {
            print("Everything is in its place.\n");
        }
    }
    Ok(())
}

/// Whether there is anything for the mover to do.
fn moves(proposal: &Proposal) -> bool {
    !proposal.plan.is_empty() || !proposal.leaving.is_empty()
}

/// What somebody wanted cannot be.
pub fn refusal(error: ChangeError) -> Failure {
    match error {
        ChangeError::Weight
        | ChangeError::NoWeight(_)
        | ChangeError::Unknown(_)
        | ChangeError::Address { .. }
        | ChangeError::Plan(_) => Failure::usage(error.to_string()),
        ChangeError::Nothing(_) => Failure::refused(error.to_string()),
        error => Failure::refused(format!("{error}; nothing was changed")),
    }
}

/// Somebody else's change is still under way.
fn busy(moving: &str) -> Failure {
    let record = MoveRecord::decode(moving);
    Failure::refused(format!(
        "blocks are still being moved for another change of the ring ({}{}); `ringfs rebalance status \
         --watch` shows when that is done; nothing was changed",
        record.describe(),
        if record.by.is_empty() { String::new() } else { format!(", by {}", record.by) }
    ))
}

fn ask() -> Result<(), Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::refused(
            "there is no terminal to ask at; add --yes if that is what you want; nothing was changed",
        ));
    }
    let mut terminal = std::io::stderr();
    write!(terminal, "\nGo on? [y/N] ").and_then(|()| terminal.flush()).ok();
    let mut answer = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut answer)
        .map_err(|e| Failure::io("read an answer", &e))?;
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Failure::refused("nothing was changed")),
    }
}

fn text(proposal: &Proposal, estimate: &Estimate) -> String {
    let what: Vec<String> = proposal.changes.iter().map(ToString::to_string).collect();
    let mut out = format!("Plan: {}\n\n", what.join(", "));
    let titles = ["node", ">weight", ">share now", ">after", ">gets", ">gives"];
    let mut table = TextTable::new(&titles);
    let moved = proposal.plan.by_node();
    for (name, moves) in proposal.plan.nodes.iter().zip(moved) {
        let find = |shares: &Shares| shares.nodes.iter().find(|n| n.name == *name).cloned();
        let (before, after) = (find(&proposal.before), find(&proposal.after));
        let percent = |share: &Option<NodeShare>| {
            share.as_ref().map_or(String::new(), |share| format!("{:.2}%", share.fraction * 100.0))
        };
        let amount = |arcs: u32| match arcs {
            0 => String::new(),
            arcs => bytes(estimate.of_arcs(proposal, arcs)),
        };
        table.row([
            name.to_string(),
            after.as_ref().map_or("leaves".to_owned(), |share| share.weight.to_string()),
            percent(&before),
            percent(&after),
            amount(moves.gained),
            amount(moves.lost),
        ]);
    }
    out.push_str(&table.render());
    out.push('\n');
    if proposal.plan.copies_gained() == 0 {
        out.push_str("Nothing has to be copied");
        if proposal.plan.copies_lost() > 0 {
            out.push_str("; copies that are too many are removed");
        }
        out.push_str(".\n");
    } else {
        out.push_str(&format!(
            "About {} are copied ({:.1}% of all copies)",
            bytes(estimate.copied),
            proposal.fraction_moved() * 100.0
        ));
        out.push_str(&match estimate.time() {
            Some(time) => format!(
                ", which takes about {} at {} a second.\n",
                duration(time.max(Duration::from_secs(1))),
                bytes(estimate.limit())
            ),
            None => ", as fast as the servers can.\n".to_owned(),
        });
    }
    let (arcs, replicas) = (proposal.table.arcs(), proposal.table.replicas());
    out.push_str(&format!(
        "Afterwards: {} arcs, {}; the fullest node has {:.4} of what it is due (now {:.4}).\n",
        count(arcs.into()),
        Change::Replicas(replicas),
        fullest_over_due(&proposal.after),
        fullest_over_due(&proposal.before)
    ));
    out
}

fn document(
    proposal: &Proposal,
    estimate: &Estimate,
    notes: &[String],
    epoch: Option<u64>,
) -> Value {
    let moved = proposal.plan.by_node();
    let nodes: Vec<Value> = proposal
        .plan
        .nodes
        .iter()
        .zip(moved)
        .map(|(name, moves)| {
            let share = |shares: &Shares| {
                shares.nodes.iter().find(|n| n.name == *name).map_or(0.0, |n| n.fraction)
            };
            json!({
                "name": name.as_str(),
                "share_before": share(&proposal.before), "share_after": share(&proposal.after),
                "bytes_gets": estimate.of_arcs(proposal, moves.gained),
                "bytes_gives": estimate.of_arcs(proposal, moves.lost),
            })
        })
        .collect();
    json!({
        "changes": proposal.changes.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "committed": epoch.is_some(),
        "epoch": epoch,
        "bytes_copied": estimate.copied,
        "fraction_copied": proposal.fraction_moved(),
        "seconds": estimate.time().map(|time| time.as_secs_f64()),
        "bytes_per_second": estimate.limit(),
        "arcs": proposal.table.arcs(),
        "replicas": proposal.table.replicas(),
        "fullest_over_due_before": fullest_over_due(&proposal.before),
        "fullest_over_due_after": fullest_over_due(&proposal.after),
        "nodes": nodes,
        "warnings": notes,
    })
}

/// The largest share relative to the node's weight; 1 is perfect. Above it where few nodes and many
/// copies, or zones, force some nodes to hold more.
pub fn fullest_over_due(shares: &Shares) -> f64 {
    let weights: f64 = shares.nodes.iter().map(|node| f64::from(node.weight)).sum();
    let over = |node: &NodeShare| node.fraction * weights / f64::from(node.weight);
    shares.nodes.iter().filter(|node| node.weight > 0).map(over).fold(0.0, f64::max)
}

fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "unknown".to_owned(), |name| name.trim().to_owned())
}
