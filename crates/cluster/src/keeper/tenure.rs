//! Coordinating: what one process does for the volume while it has the lease.

use super::KeeperSettings;
use super::watch::Watch;
use crate::change::{self, Change};
use crate::health::verdict::{Rules, Scene, Turn, Verdict, judge};
use crate::health::{NodeHealth, SeenReport, node_health};
use crate::membership::{Membership, Ring};
use crate::workers::{Site, Workers};
use ringfs_base::{NodeName, SessionId};
use ringfs_meta::{MetaError, Observed, Token, Volume};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// After the table could not be changed it is tried again after this long.
const TURN_RETRY: Duration = Duration::from_secs(5);
/// How often marks on nodes are raised.
const RAISE_EVERY: Duration = Duration::from_secs(60);
/// How often it is looked what operators wish.
const WISH_EVERY: Duration = Duration::from_secs(5);
/// Time between two judgements counts as no more than this many periods: what was not watched is not
/// known.
const ELAPSED_PERIODS_MAX: u32 = 3;
/// An observer counts for how many must agree until it has been gone for this many times the age up to
/// which a report is fresh.
const GONE_AFTER: u32 = 2;
/// The record of [`KeeperWish`].
const WISH: &str = "keeper.want";

/// What operators wish of all keepers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KeeperWish {
    /// A node that has been down for so long is out; 0: never. Instead of each keeper's own setting.
    pub out_after_seconds: Option<u64>,
}

/// What is wished of keepers.
///
/// # Errors
/// When the metadata server cannot be asked.
pub fn keeper_wish(volume: &Volume) -> Result<KeeperWish, MetaError> {
    let all = volume.workers()?;
    // Nothing is wished while nobody has said so, or it cannot be read.
    Ok(all.get(WISH).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default())
}

/// Lets it be known to the keeper that coordinates, wherever it is.
///
/// # Errors
/// When the metadata server cannot be asked.
pub fn set_keeper_wish(volume: &Volume, wish: KeeperWish) -> Result<(), MetaError> {
    let text = serde_json::to_string(&wish).expect("plain numbers can be written");
    volume.set_worker(WISH, Some(&text))
}

/// One holding of the lease.
pub(super) struct Tenure {
    pub(super) token: Token,
    began: Instant,
    me: SessionId,
    site: Arc<Site>,
    workers: Workers,
    /// As written; `None` when that is not sure.
    records: Option<BTreeMap<NodeName, NodeHealth>>,
    /// When each observer's report was fresh last.
    observers: BTreeMap<SessionId, Instant>,
    judged: Instant,
    raised: Instant,
    turn_not_before: Instant,
    wish: KeeperWish,
    wish_read: Option<Instant>,
}

impl Tenure {
    pub(super) fn begin(site: Arc<Site>, me: SessionId, settings: &KeeperSettings) -> Tenure {
        tracing::info!(token = site.token.0, "this process coordinates the volume now");
        let now = Instant::now();
        Tenure {
            token: site.token,
            began: now,
            me,
            workers: Workers::start(site.clone(), (settings.workers)()),
            site,
            records: None,
            observers: BTreeMap::new(),
            judged: now,
            raised: now,
            turn_not_before: now,
            wish: KeeperWish::default(),
            wish_read: None,
        }
    }

    /// What is recorded of the nodes, if that is sure.
    pub(super) fn records(&self) -> Option<&BTreeMap<NodeName, NodeHealth>> {
        self.records.as_ref()
    }

    /// Ends it; returns what must be waited for before another begins.
    pub(super) fn end(self) -> Workers {
        tracing::info!(
            token = self.token.0,
            "this process does not coordinate the volume any more"
        );
        self.workers.stop();
        self.workers
    }

    /// Judges once, and makes it so. An error is of the metadata server; nothing is lost by it.
    pub(super) fn preside(
        &mut self,
        volume: &Volume,
        observed: &Observed,
        watch: &Watch,
        settings: &KeeperSettings,
    ) -> Result<(), MetaError> {
        let membership = self.site.membership.clone();
        let ring = membership.ring();
        self.read_wish(volume);
        let records = match self.records.take() {
            Some(records) => records,
            None => by_name(node_health(volume)?),
        };
        let (reports, observers) = self.fresh_reports(observed, settings);
        let now = Instant::now();
        let elapsed = (now - self.judged).min(settings.probe_every * ELAPSED_PERIODS_MAX);
        let raise = now - self.raised >= RAISE_EVERY;
        self.judged = now;
        let rules = match self.wish.out_after_seconds {
            None => settings.rules,
            Some(0) => Rules { out_after: None, ..settings.rules },
            Some(seconds) => {
                Rules { out_after: Some(Duration::from_secs(seconds)), ..settings.rules }
            }
        };
        let scene = Scene {
            reports: &reports,
            observers,
            me: self.me,
            asked: &watch.asked_since(self.began),
            records: &records,
            nodes: &ring.names(),
            table: &ring.table,
            overlay: &ring.overlay,
            now: observed.now_ms / 1000,
            elapsed,
            may_turn: now >= self.turn_not_before,
            raise,
        };
        let verdict = judge(&scene, &rules);
        if raise {
            self.raised = now;
        }
        for (node, count) in &verdict.marks {
            watch.mark(node, *count);
        }
        let written = self.write(volume, &ring, &verdict);
        // If it failed, nobody knows whether it was done: read again then.
        if written.is_ok() {
            self.records = Some(verdict.records.clone());
        }
        if verdict.overlay.is_some() {
            membership.refresh()?;
        }
        written?;
        for event in &verdict.events {
            tracing::warn!("{event}");
        }
        if verdict.refill {
            self.workers.wake("move");
        }
        self.turn(volume, &membership, &verdict.turns)
    }

    fn write(&self, volume: &Volume, ring: &Ring, verdict: &Verdict) -> Result<(), MetaError> {
        if !verdict.is_news() {
            return Ok(());
        }
        let texts: Vec<(&NodeName, Option<String>)> = verdict
            .write
            .iter()
            .filter_map(|name| Some((name, Some(verdict.records.get(name)?.encode()))))
            .chain(verdict.forget.iter().map(|name| (name, None)))
            .collect();
        let states: Vec<(&NodeName, Option<&str>)> =
            texts.iter().map(|(name, text)| (*name, text.as_deref())).collect();
        let overlay = verdict.overlay.as_ref().map(ringfs_ring::StatusOverlay::encode);
        volume.set_node_states(self.token, ring.state.overlay_version, overlay.as_deref(), &states)
    }

    /// Changes the table. What cannot be done now is done a while later.
    fn turn(
        &mut self,
        volume: &Volume,
        membership: &Membership,
        turns: &[Turn],
    ) -> Result<(), MetaError> {
        for turn in turns {
            let change = match turn.clone() {
                Turn::Out(name) => Change::Out(name),
                Turn::In { name, weight } => Change::In { name, weight },
            };
            let ring = membership.ring();
            let proposal = match change::propose(&ring, &[change]) {
                Ok(proposal) => proposal,
                Err(error) => {
                    tracing::warn!(?turn, %error, "the ring cannot be changed now");
                    self.turn_not_before = Instant::now() + TURN_RETRY;
                    continue;
                }
            };
            match change::commit(volume, &ring, &proposal, "coordinator", Some(self.token)) {
                Ok(epoch) => {
                    tracing::warn!(?turn, %epoch, "the ring was changed");
                    membership.refresh()?;
                    self.workers.wake("move");
                }
                Err(MetaError::NotCoordinator) => return Err(MetaError::NotCoordinator),
                Err(error) => {
                    tracing::info!(?turn, %error, "the ring cannot be changed now");
                    self.turn_not_before = Instant::now() + TURN_RETRY;
                }
            }
        }
        Ok(())
    }

    /// The reports that count, and how many observers there are.
    fn fresh_reports(
        &mut self,
        observed: &Observed,
        settings: &KeeperSettings,
    ) -> (BTreeMap<SessionId, SeenReport>, usize) {
        let mut reports = BTreeMap::new();
        let now = Instant::now();
        for report in observed.reports.iter().filter(|report| report.age < settings.fresh()) {
            if let Some(seen) = SeenReport::decode(&report.seen).filter(|seen| !seen.blind) {
                reports.insert(report.observer, seen);
                self.observers.insert(report.observer, now);
            }
        }
        // A session that ended takes its report with it: that one does not come again.
        let listed = |who: &SessionId| observed.reports.iter().any(|one| one.observer == *who);
        let gone = settings.fresh() * GONE_AFTER;
        self.observers.retain(|who, last| now - *last < gone && listed(who));
        (reports, self.observers.len())
    }

    fn read_wish(&mut self, volume: &Volume) {
        if self.wish_read.is_some_and(|read| read.elapsed() < WISH_EVERY) {
            return;
        }
        self.wish_read = Some(Instant::now());
        match keeper_wish(volume) {
            Ok(wish) => self.wish = wish,
            Err(error) => tracing::debug!(%error, "what is wished of keepers cannot be read"),
        }
    }
}

/// Records by names that are names.
pub(super) fn by_name(records: BTreeMap<String, NodeHealth>) -> BTreeMap<NodeName, NodeHealth> {
    let named = |(name, record): (String, NodeHealth)| Some((NodeName::new(&name).ok()?, record));
    records.into_iter().filter_map(named).collect()
}
