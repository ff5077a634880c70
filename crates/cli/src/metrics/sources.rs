//! Every metric: its name, its text, and where its value comes from. Names are stable; docs/metrics.md
//! has the same list, and a test holds them together.

use super::exposition::{Labels, Source, Writer};
use super::fuse_meter::FuseMeter;
use super::process::ProcessFacts;
use super::watch::{NodeSeen, Recorded, Watch};
use parking_lot::Mutex;
use ringfs_cluster::health::{NodeHealth, Standing};
use ringfs_cluster::workers::{WorkerState, WorkerStatus};
use ringfs_cluster::{Keeper, KeeperSnapshot, Membership, Ring};
use ringfs_store::Store;
use ringfs_vfs::{Vfs, VfsStats};
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Instant;

/// The process itself.
pub struct ProcessSource;

/// The process's keeper, if it has one now. It is not kept alive by being measured.
#[derive(Clone, Default)]
pub struct KeeperSlot(Arc<Mutex<Weak<Keeper>>>);

impl KeeperSlot {
    /// From now on this one is measured.
    pub fn set(&self, keeper: &Arc<Keeper>) {
        *self.0.lock() = Arc::downgrade(keeper);
    }

    fn snapshot(&self) -> Option<KeeperSnapshot> {
        let keeper = self.0.lock().upgrade()?;
        Some(keeper.snapshot())
    }
}

/// A mount's own part.
pub struct MountSource {
    /// The mounted volume.
    pub vfs: Arc<Vfs>,
    /// What the kernel asked for.
    pub meter: Arc<FuseMeter>,
    /// Where it is mounted.
    pub mountpoint: String,
}

/// The volume, as a mount or an agent sees it.
pub struct VolumeSource {
    /// Its ring and its store.
    pub membership: Arc<Membership>,
    /// What is asked in the background.
    pub watch: Watch,
    /// The mount, in a process that has one.
    pub mount: Option<MountSource>,
    /// Who watches the nodes, while somebody does.
    pub keeper: KeeperSlot,
}

/// One number of a record.
type ValueOf<T> = fn(&T) -> f64;

impl Source for ProcessSource {
    fn write(&self, to: &mut Writer<'_>) -> fmt::Result {
        let facts = ProcessFacts::read();
        let number = |value: Option<u64>| value.map(|value| value as f64);
        to.counters(
            "process_cpu_seconds_total",
            "CPU time of the process.",
            facts.cpu_seconds.map(|seconds| (Labels::new(), seconds)),
        )?;
        for (name, help, value) in [
            ("process_resident_memory_bytes", "Memory in RAM.", number(facts.resident_bytes)),
            ("process_virtual_memory_bytes", "Memory mapped.", number(facts.virtual_bytes)),
            ("process_threads", "Threads.", number(facts.threads)),
            ("process_open_fds", "File descriptors in use.", number(facts.open_fds)),
            ("process_max_fds", "Most file descriptors.", number(facts.max_fds)),
            ("process_start_time_seconds", "When it began, since 1970.", facts.start_seconds),
        ] {
            to.gauge_if_known(name, help, value)?;
        }
        Ok(())
    }
}

impl Source for VolumeSource {
    fn write(&self, to: &mut Writer<'_>) -> fmt::Result {
        to.gauges(
            "ringfs_build_info",
            "1; the version is a label.",
            [(vec![("version", env!("CARGO_PKG_VERSION"))], 1.0)],
        )?;
        if let Some(mount) = &self.mount {
            mount.write(to)?;
        }
        let traffic = self.membership.volume().traffic();
        to.histograms(
            "ringfs_metadata_round_trip_seconds",
            "Round trips to the metadata server that brought an answer.",
            [(Labels::new(), traffic.round_trips)],
        )?;
        to.counter(
            "ringfs_metadata_failures_total",
            "Attempts to ask the metadata server that brought none.",
            traffic.failures,
        )?;
        write_store(self.membership.store(), to)?;
        let ring = self.membership.ring();
        write_ring(&ring, to)?;
        let (recorded, failures) = self.watch.recorded();
        let nodes = self.watch.nodes();
        let now = Instant::now();
        let age = |at: Option<Instant>| at.map(|at| (now - at).as_secs_f64());
        let ages = [
            ("nodes", age(nodes.as_ref().map(|learnt| learnt.at))),
            ("records", age(recorded.as_ref().map(|learnt| learnt.at))),
        ];
        to.gauges(
            "ringfs_metrics_age_seconds",
            "Since what is asked in the background was last answered.",
            ages.into_iter().filter_map(|(of, age)| Some((vec![("of", of)], age?))),
        )?;
        to.counter(
            "ringfs_metrics_failures_total",
            "How often the volume's records could not be read for metrics.",
            failures,
        )?;
        let recorded = recorded.map(|learnt| learnt.what).unwrap_or_default();
        let kept = self.keeper.snapshot();
        write_keeper(kept.as_ref(), to)?;
        write_nodes(&ring, &nodes.map(|n| n.what).unwrap_or_default(), &recorded, to)?;
        write_workers(&recorded, to)?;
        write_usage(&recorded, to)
    }
}

impl MountSource {
    fn write(&self, to: &mut Writer<'_>) -> fmt::Result {
        let session = self.vfs.session().id().to_string();
        to.gauges(
            "ringfs_mount_info",
            "1; the mount point and the session are labels.",
            [(vec![("mountpoint", self.mountpoint.as_str()), ("session", &session)], 1.0)],
        )?;
        let kinds = self.meter.kinds();
        to.histograms(
            "ringfs_fuse_request_duration_seconds",
            "Requests of the kernel, from read to answered.",
            kinds.iter().map(|kind| (vec![("op", kind.name)], kind.took)),
        )?;
        to.counters(
            "ringfs_fuse_request_errors_total",
            "Requests that were answered with an error; ENOENT is mostly an answer like any other.",
            kinds.iter().flat_map(|kind| {
                let one = |(error, count): &(&'static str, u64)| {
                    (vec![("op", kind.name), ("error", *error)], *count as f64)
                };
                kind.errors.iter().map(one).collect::<Vec<_>>()
            }),
        )?;
        let (read, written) = self.meter.bytes();
        to.counter("ringfs_fuse_read_bytes_total", "Bytes that the kernel read.", read)?;
        to.counter("ringfs_fuse_written_bytes_total", "Bytes that the kernel wrote.", written)?;
        write_vfs(&self.vfs.stats(), to)
    }
}

fn write_vfs(stats: &VfsStats, to: &mut Writer<'_>) -> fmt::Result {
    for (name, help, value) in [
        (
            "ringfs_write_buffer_used_bytes",
            "Written and not yet on block servers.",
            stats.write_buffer_used_bytes,
        ),
        (
            "ringfs_write_buffer_limit_bytes",
            "Most of them: writers wait beyond.",
            stats.write_buffer_limit_bytes,
        ),
        ("ringfs_dirty_files", "Files with data that are not committed.", stats.dirty_files),
        ("ringfs_dirty_bytes", "Bytes of them.", stats.dirty_bytes),
        (
            "ringfs_block_cache_used_bytes",
            "Blocks in memory for readers.",
            stats.block_cache_used_bytes,
        ),
        ("ringfs_block_cache_limit_bytes", "Most of them.", stats.block_cache_limit_bytes),
        ("ringfs_inodes_known", "Inodes of which something is in memory.", stats.inodes_known),
        ("ringfs_session_fenced", "1 if others have ended the session.", stats.fenced.into()),
    ] {
        to.gauge(name, help, value as f64)?;
    }
    to.gauge(
        "ringfs_session_heartbeat_age_seconds",
        "Since the session's last sign of life that was acknowledged.",
        stats.heartbeat_age.as_secs_f64(),
    )?;
    for (name, help, value) in [
        (
            "ringfs_session_heartbeat_failures_total",
            "Signs of life that failed.",
            stats.heartbeat_failures,
        ),
        (
            "ringfs_block_cache_hits_total",
            "Blocks for readers that were in memory.",
            stats.block_cache_hits,
        ),
        (
            "ringfs_block_cache_misses_total",
            "Blocks for readers that were fetched, whole or in part.",
            stats.block_cache_misses,
        ),
        (
            "ringfs_watch_losses_total",
            "How often the connection that tells of other mounts' changes was lost.",
            stats.watch_losses,
        ),
    ] {
        to.counter(name, help, value)?;
    }
    to.counters(
        "ringfs_kernel_invalidations_total",
        "What the kernel was told to forget, since another mount changed it.",
        [("inode", stats.invalidations_inode), ("entry", stats.invalidations_entry)]
            .map(|(of, count)| (vec![("of", of)], count as f64)),
    )
}

fn write_store(store: &Store, to: &mut Writer<'_>) -> fmt::Result {
    let stats = store.stats();
    for (name, help, value) in [
        ("ringfs_store_blocks_written_total", "Blocks written.", stats.blocks_written),
        ("ringfs_store_written_bytes_total", "Their raw bytes.", stats.bytes_written),
        (
            "ringfs_store_sent_bytes_total",
            "Bytes sent to nodes: compressed, and for each copy.",
            stats.bytes_sent,
        ),
        ("ringfs_store_blocks_read_total", "Blocks read, whole or in part.", stats.blocks_read),
        ("ringfs_store_read_bytes_total", "Their raw bytes.", stats.bytes_read),
        ("ringfs_store_received_bytes_total", "Bytes received from nodes.", stats.bytes_received),
        (
            "ringfs_store_copies_on_stand_ins_total",
            "Copies written to a stand-in instead of an owner.",
            stats.copies_on_stand_ins,
        ),
        (
            "ringfs_store_copies_short_total",
            "Copies that no node could take when their block was written.",
            stats.copies_short,
        ),
        (
            "ringfs_store_fall_overs_total",
            "Reads that the first node could not serve.",
            stats.fall_overs,
        ),
        (
            "ringfs_store_hedges_total",
            "Second nodes asked because the first was late.",
            stats.hedges,
        ),
        (
            "ringfs_store_hedges_won_total",
            "Hedges in which the second node was first.",
            stats.hedges_won,
        ),
        (
            "ringfs_store_bad_copies_total",
            "Copies found bad: checksum, length, identity.",
            stats.bad_copies,
        ),
        (
            "ringfs_store_missing_copies_total",
            "Copies found missing on an owner.",
            stats.missing_copies,
        ),
        ("ringfs_store_copies_repaired_total", "Copies put right.", stats.copies_repaired),
        (
            "ringfs_store_copies_dropped_total",
            "Copies taken from nodes that need not hold them.",
            stats.copies_dropped,
        ),
        (
            "ringfs_store_repairs_failed_total",
            "Repairs that failed or were not begun.",
            stats.repairs_failed,
        ),
        (
            "ringfs_store_removals_failed_total",
            "Copies that could not be removed.",
            stats.removals_failed,
        ),
    ] {
        to.counter(name, help, value)?;
    }
    to.gauge(
        "ringfs_store_repairs_outstanding",
        "Repairs found necessary and not done yet.",
        store.repairs_outstanding() as f64,
    )
}

fn write_ring(ring: &Ring, to: &mut Writer<'_>) -> fmt::Result {
    for (name, help, value) in [
        ("ringfs_ring_epoch", "The epoch of the ring's table.", ring.epoch().0),
        ("ringfs_ring_version", "Grows with every change of the ring.", ring.state.version),
        ("ringfs_ring_replicas", "Copies wanted of each block.", ring.state.replicas.into()),
        ("ringfs_ring_nodes", "Nodes of the ring.", ring.state.nodes.len() as u64),
        (
            "ringfs_ring_moving",
            "1 while blocks are being moved to where a new table has them.",
            ring.state.moving.is_some().into(),
        ),
    ] {
        to.gauge(name, help, value as f64)?;
    }
    Ok(())
}

/// The states that a node can be in, for the metric: exactly one of them is 1.
const NODE_STATES: [&str; 4] = ["up", "suspect", "down", "out"];

fn write_nodes(
    ring: &Ring,
    seen: &[NodeSeen],
    recorded: &Recorded,
    to: &mut Writer<'_>,
) -> fmt::Result {
    let names: Vec<&str> = ring.state.nodes.iter().map(|node| node.name.as_str()).collect();
    let find = |name: &str| seen.iter().find(|node| node.name.as_str() == name);
    to.gauges(
        "ringfs_node_state",
        "1 for the state that a node is in, 0 for the others.",
        names.iter().flat_map(|name| {
            let record = recorded.node_states.get(*name);
            let is_down = ring.overlay.down.iter().any(|down| down.as_str() == *name);
            let state = state_of(record, is_down, find(name).map(|node| node.is_well));
            NODE_STATES.map(|one| {
                (vec![("node", *name), ("state", one)], if one == state { 1.0 } else { 0.0 })
            })
        }),
    )?;
    let each = |value: fn(&NodeSeen) -> Option<f64>| {
        let known = names.iter().filter_map(|name| Some((*name, value(find(name)?)?)));
        known.map(|(name, value)| (vec![("node", name)], value)).collect::<Vec<_>>()
    };
    to.gauges(
        "ringfs_node_read_latency_seconds",
        "Smoothed time of one read from the node by this process.",
        each(|node| Some(node.read_latency?.as_secs_f64())),
    )?;
    to.gauges(
        "ringfs_node_memory_used_bytes",
        "Memory in use on the node.",
        each(|node| Some(node.memory?.used as f64)),
    )?;
    to.gauges(
        "ringfs_node_memory_max_bytes",
        "The node's limit; 0 = none.",
        each(|node| Some(node.memory?.max as f64)),
    )?;
    let values: [(&str, &str, ValueOf<NodeHealth>); 2] = [
        (
            "ringfs_node_incarnation",
            "Grows each time the node came back, or may have lost data otherwise.",
            |health| health.incarnation as f64,
        ),
        (
            "ringfs_node_needs_person",
            "1 if the node should be out, and so many others are that a person must decide.",
            |health| if health.needs_person { 1.0 } else { 0.0 },
        ),
    ];
    for (name, help, value) in values {
        let known = names.iter().filter_map(|name| {
            Some((vec![("node", *name)], value(recorded.node_states.get(*name)?)))
        });
        to.gauges(name, help, known)?;
    }
    Ok(())
}

/// What the ring's record says counts first, then what this process sees. A node that was not asked
/// yet is as good as the record says.
fn state_of(record: Option<&NodeHealth>, is_down: bool, is_well: Option<bool>) -> &'static str {
    match record.map(|record| record.state) {
        Some(Standing::Out) => "out",
        Some(Standing::Down) => "down",
        _ if is_down => "down",
        _ if is_well == Some(false) => "suspect",
        _ => "up",
    }
}

fn write_keeper(kept: Option<&KeeperSnapshot>, to: &mut Writer<'_>) -> fmt::Result {
    let flag = |value: bool| if value { 1.0 } else { 0.0 };
    to.gauge_if_known(
        "ringfs_keeper_coordinator",
        "1 if this process coordinates: judges the nodes and runs the background workers.",
        kept.map(|kept| flag(kept.coordinates)),
    )?;
    to.gauge_if_known(
        "ringfs_keeper_blind",
        "1 if this observer was held up lately and distrusts itself.",
        kept.map(|kept| flag(kept.blind)),
    )?;
    to.counters(
        "ringfs_keeper_beats_total",
        "Reports of this observer that the metadata server took.",
        kept.map(|kept| (Labels::new(), kept.beats as f64)),
    )?;
    let nodes = kept.map_or(&[][..], |kept| &kept.nodes);
    to.gauges(
        "ringfs_node_probe_latency_seconds",
        "Round trip of this observer's last probe, if it was answered.",
        nodes.iter().filter_map(|node| {
            Some((vec![("node", node.name.as_str())], node.latency?.as_secs_f64()))
        }),
    )?;
    to.gauges(
        "ringfs_node_probe_misses",
        "This observer's probes without an answer in a row.",
        nodes.iter().map(|node| (vec![("node", node.name.as_str())], f64::from(node.misses))),
    )
}

const WORKER_STATES: [(&str, WorkerState); 4] = [
    ("idle", WorkerState::Idle),
    ("working", WorkerState::Working),
    ("paused", WorkerState::Paused),
    ("failed", WorkerState::Failed),
];

fn write_workers(recorded: &Recorded, to: &mut Writer<'_>) -> fmt::Result {
    let workers = &recorded.workers;
    to.gauges(
        "ringfs_worker_state",
        "1 for the state that a background worker is in, 0 for the others.",
        workers.iter().flat_map(|(name, status)| {
            WORKER_STATES.map(|(word, state)| {
                let value = if status.state == state { 1.0 } else { 0.0 };
                (vec![("worker", name.as_str()), ("state", word)], value)
            })
        }),
    )?;
    let values: [(&str, &str, ValueOf<WorkerStatus>); 6] = [
        ("ringfs_worker_units_done", "Units done of the worker's run.", |s| s.done as f64),
        ("ringfs_worker_units", "Units of the run; 0 = not known.", |s| s.total as f64),
        ("ringfs_worker_moved_bytes", "Bytes moved in the run.", |s| s.bytes as f64),
        ("ringfs_worker_problems", "Problems found in the run.", |s| s.problems as f64),
        ("ringfs_worker_limit_bytes_per_second", "The worker's throttle; 0 = none.", |s| {
            s.bytes_per_second as f64
        }),
        (
            "ringfs_worker_finished_timestamp_seconds",
            "When its last complete run ended, since 1970; 0 = none yet.",
            |s| s.finished as f64,
        ),
    ];
    for (name, help, value) in values {
        let samples = workers.iter();
        to.gauges(
            name,
            help,
            samples.map(|(name, status)| (vec![("worker", name.as_str())], value(status))),
        )?;
    }
    Ok(())
}

fn write_usage(recorded: &Recorded, to: &mut Writer<'_>) -> fmt::Result {
    let usage = recorded.usage;
    for (name, help, value) in [
        ("ringfs_volume_inodes", "Inodes of the volume.", usage.inodes),
        ("ringfs_volume_inodes_limit", "Most inodes; 0 = no limit.", usage.inodes_max),
        ("ringfs_volume_bytes", "Bytes of files by their sizes.", usage.bytes),
        ("ringfs_volume_limit_bytes", "Most bytes; 0 = no limit.", usage.bytes_max),
        ("ringfs_volume_sessions", "Sessions that are registered.", recorded.sessions),
        (
            "ringfs_volume_unreadable_files",
            "Files with blocks of which no good copy can be had.",
            recorded.unreadable,
        ),
    ] {
        to.gauge(name, help, value as f64)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_counts_before_what_is_seen() {
        assert_eq!(state_of(None, false, None), "up");
        assert_eq!(state_of(None, false, Some(false)), "suspect");
        assert_eq!(state_of(None, true, Some(true)), "down");
        let record = |state| NodeHealth { state, ..NodeHealth::default() };
        assert_eq!(state_of(Some(&record(Standing::Out)), true, Some(true)), "out");
        assert_eq!(state_of(Some(&record(Standing::Down)), false, Some(true)), "down");
        assert_eq!(state_of(Some(&record(Standing::Up)), false, Some(true)), "up");
    }
}
