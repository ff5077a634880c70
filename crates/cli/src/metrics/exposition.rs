//! Writing metrics in the text format, by the names under which they are shown.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use ringfs_base::{HISTOGRAM_BOUNDS_US, HistogramCounts};
use std::fmt;

/// Labels of one sample: names and values.
pub type Labels<'a> = Vec<(&'static str, &'a str)>;

/// Something that can write its metrics at any moment.
pub trait Source: Send + Sync + 'static {
    /// Writes them.
    fn write(&self, to: &mut Writer<'_>) -> fmt::Result;
}

/// Metrics being written. Names are whole: counters end in `_total`.
pub struct Writer<'a>(DescriptorEncoder<'a>);

impl Writer<'_> {
    /// Numbers that only grow, while the process lives.
    pub fn counters<'l, T: Into<f64>>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels<'l>, T)>,
    ) -> fmt::Result {
        let name = name.strip_suffix("_total").unwrap_or(name);
        self.family(name, help, MetricType::Counter, samples, |to, value| {
            match whole(value.into()) {
                Ok(whole) => to.encode_counter::<NoLabelSet, u64, f64>(&whole, None),
                Err(value) => to.encode_counter::<NoLabelSet, f64, f64>(&value, None),
            }
        })
    }

    /// One counter.
    pub fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.counters(name, help, [(Labels::new(), value as f64)])
    }

    /// Numbers that go up and down.
    pub fn gauges<'l>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels<'l>, f64)>,
    ) -> fmt::Result {
        self.family(name, help, MetricType::Gauge, samples, |to, value| match whole(value) {
            Ok(whole) => to.encode_gauge(&whole),
            Err(value) => to.encode_gauge(&value),
        })
    }

    /// One gauge.
    pub fn gauge(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        self.gauges(name, help, [(Labels::new(), value)])
    }

    /// One gauge, left out while its value is not known.
    pub fn gauge_if_known(&mut self, name: &str, help: &str, value: Option<f64>) -> fmt::Result {
        self.gauges(name, help, value.map(|value| (Labels::new(), value)))
    }

    /// Durations in seconds.
    pub fn histograms<'l>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels<'l>, HistogramCounts)>,
    ) -> fmt::Result {
        self.family(name, help, MetricType::Histogram, samples, |to, counts: HistogramCounts| {
            let bounds = HISTOGRAM_BOUNDS_US.iter().map(|us| *us as f64 / 1e6);
            let buckets: Vec<(f64, u64)> =
                bounds.chain([f64::INFINITY]).zip(counts.buckets).collect();
            let sum = counts.sum.as_secs_f64();
            to.encode_histogram::<NoLabelSet>(sum, counts.count(), &buckets, None)
        })
    }

    fn family<'l, T>(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        samples: impl IntoIterator<Item = (Labels<'l>, T)>,
        mut encode: impl FnMut(&mut MetricEncoder<'_>, T) -> fmt::Result,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, kind)?;
        for (labels, value) in samples {
            if labels.is_empty() {
                encode(&mut family, value)?;
            } else {
                encode(&mut family.encode_family(&labels)?, value)?;
            }
        }
        Ok(())
    }
}

/// Numbers without a fraction are written as such, as far as a double has them exactly.
fn whole(value: f64) -> Result<u64, f64> {
    let is_whole = value >= 0.0 && value.fract() == 0.0 && value < (1u64 << 53) as f64;
    if is_whole { Ok(value as u64) } else { Err(value) }
}

struct Collected<S>(S);

impl<S> fmt::Debug for Collected<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Collected")
    }
}

impl<S: Source> Collector for Collected<S> {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.0.write(&mut Writer(encoder))
    }
}

/// All metrics of the process: those of `process`, and those of `volume` with its name as a label.
pub struct Exposition(Registry);

impl Exposition {
    /// Of these sources.
    pub fn new(process: impl Source, volume_name: &str, volume: impl Source) -> Exposition {
        let mut all = Registry::default();
        all.register_collector(Box::new(Collected(process)));
        all.sub_registry_with_label(("volume".into(), volume_name.to_owned().into()))
            .register_collector(Box::new(Collected(volume)));
        Exposition(all)
    }

    /// The page as it is now, in OpenMetrics.
    pub fn open_metrics(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.0)?;
        Ok(text)
    }
}

/// The same page in the older format, in which a counter's description carries its whole name and
/// there is no mark of the end.
pub fn plain(open_metrics: &str) -> String {
    let types = open_metrics.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let counters: std::collections::HashSet<&str> =
        types.filter_map(|rest| rest.strip_suffix(" counter")).collect();
    let mut out = String::with_capacity(open_metrics.len() + 20 * counters.len());
    for line in open_metrics.lines().filter(|line| *line != "# EOF") {
        let described = ["# TYPE ", "# HELP "].iter().find_map(|head| {
            let (name, rest) = line.strip_prefix(head)?.split_once(' ')?;
            counters.contains(name).then(|| format!("{head}{name}_total {rest}"))
        });
        out.push_str(described.as_deref().unwrap_or(line));
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    struct Some;

    impl Source for Some {
        fn write(&self, to: &mut Writer<'_>) -> fmt::Result {
            to.counter("a_bytes_total", "Bytes.", 7)?;
            to.gauges(
                "b",
                "Things.",
                [(vec![("kind", "x\"\\\n")], 1.5), (vec![("kind", "y")], 2.0)],
            )?;
            let mut counts = HistogramCounts::default();
            (counts.buckets[0], counts.buckets[20], counts.sum) = (2, 1, Duration::from_secs(20));
            to.histograms("c_seconds", "Times.", [(vec![("op", "read")], counts)])
        }
    }

    struct None;

    impl Source for None {
        fn write(&self, to: &mut Writer<'_>) -> fmt::Result {
            to.gauge_if_known("d", "Not known.", Option::None)
        }
    }

    #[test]
    fn a_page_has_descriptions_labels_and_an_end() {
        let page = Exposition::new(None, "demo", Some).open_metrics().unwrap();
        for line in [
            "# TYPE a_bytes counter",
            "a_bytes_total{volume=\"demo\"} 7",
            "b{volume=\"demo\",kind=\"x\\\"\\\\\\n\"} 1.5",
            "b{volume=\"demo\",kind=\"y\"} 2",
            "c_seconds_bucket{volume=\"demo\",le=\"0.000005\",op=\"read\"} 2",
            "c_seconds_bucket{volume=\"demo\",le=\"+Inf\",op=\"read\"} 3",
            "c_seconds_count{volume=\"demo\",op=\"read\"} 3",
            "c_seconds_sum{volume=\"demo\",op=\"read\"} 20.0",
        ] {
            assert!(page.lines().any(|l| l == line), "no line {line} in\n{page}");
        }
        assert!(page.ends_with("# EOF\n"));
        let plain = plain(&page);
        let described = "# HELP a_bytes_total Bytes.\n# TYPE a_bytes_total counter\na_bytes_total{";
        assert!(plain.contains(described), "{plain}");
        assert!(plain.contains("# TYPE c_seconds histogram\n") && !plain.contains("EOF"));
    }
}
