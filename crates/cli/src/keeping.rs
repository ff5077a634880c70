//! The options by which `mount` and `agent` keep a volume's ring, and the keeper that they make.

use crate::compose::OpenVolume;
use crate::output::Surroundings;
use crate::quantity::parse_duration;
use clap::Args;
use ringfs_base::SessionId;
use ringfs_cluster::health::verdict::Rules;
use ringfs_cluster::{Keeper, KeeperOptions, KeeperSettings, Membership};
use std::sync::Arc;
use std::time::Duration;

/// Probing more often than this is load without use.
const PROBE_EVERY_MIN: Duration = Duration::from_millis(50);
/// More seldom than this, failures would not be found out.
const PROBE_EVERY_MAX: Duration = Duration::from_secs(60);

/// How the nodes are watched.
#[derive(Debug, Args)]
pub struct KeepingArguments {
    /// How often each node is asked whether it is well; three times without an answer make a
    /// suspicion.
    #[arg(long, value_name = "TIME", value_parser = parse_probe_every, default_value = "1s")]
    probe_every: Duration,
    /// After this time the others take over what a dead node had, if this process coordinates and
    /// nobody has wished otherwise for all of them; 0: only when somebody says so.
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "10m")]
    out_after: Duration,
    /// How long a node that was dead must answer before it is used again.
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "5s", hide = true)]
    hold: Duration,
    /// How long the coordinator's lease lasts.
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "5s", hide = true)]
    lease: Duration,
}

impl KeepingArguments {
    fn settings(&self) -> KeeperSettings {
        let rules = Rules {
            out_after: Some(self.out_after).filter(|after| !after.is_zero()),
            hold_min: self.hold,
            ..Rules::default()
        };
        KeeperSettings {
            probe_every: self.probe_every,
            lease: self.lease,
            rules,
            ..KeeperSettings::default()
        }
    }

    /// The same as words, for a process of our own.
    pub fn words(&self) -> Vec<String> {
        let times = [
            ("--probe-every", self.probe_every),
            ("--out-after", self.out_after),
            ("--hold", self.hold),
            ("--lease", self.lease),
        ];
        times.iter().map(|(name, time)| format!("{name}={}", time.as_secs_f64())).collect()
    }

    /// Starts a keeper for a session.
    pub fn start(
        &self,
        open: &OpenVolume,
        membership: &Arc<Membership>,
        session: SessionId,
        surroundings: &Surroundings,
    ) -> Keeper {
        Keeper::start(KeeperOptions {
            membership: membership.clone(),
            session,
            meta: open.endpoint.clone(),
            timeouts: surroundings.timeouts,
            settings: self.settings(),
        })
    }
}

fn parse_probe_every(text: &str) -> Result<Duration, String> {
    let every = parse_duration(text)?;
    if (PROBE_EVERY_MIN..=PROBE_EVERY_MAX).contains(&every) {
        Ok(every)
    } else {
        Err("nodes are asked every 50ms to 60s; write 1s if you are not sure".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        keeping: KeepingArguments,
    }

    #[test]
    fn the_words_for_another_process_say_the_same() {
        let line = Line::parse_from(["x", "--probe-every=250ms", "--out-after=0", "--hold=2s"]);
        let words = [vec!["x".to_owned()], line.keeping.words()].concat();
        let again = Line::parse_from(words);
        assert_eq!(format!("{:?}", again.keeping), format!("{:?}", line.keeping));
        let settings = again.keeping.settings();
        assert_eq!(settings.rules.out_after, None);
        assert_eq!(settings.probe_every, Duration::from_millis(250));
        assert!(Line::try_parse_from(["x", "--probe-every=1ms"]).is_err());
    }
}
