//! Fetches metrics and reads them strictly: what this accepts, Prometheus accepts.

#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "what fails in a fixture ends the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

pub const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0";

/// One request; status line with headers, and body.
pub fn fetch(address: SocketAddr, path: &str, accept: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

/// The metrics of an endpoint.
pub fn scrape(address: SocketAddr) -> Scrape {
    let (head, body) = fetch(address, "/metrics", OPEN_METRICS);
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    parse(body.strip_suffix("# EOF\n").expect("the page has an end"), true)
}

/// A page of metrics.
#[derive(Debug, Default)]
pub struct Scrape {
    /// Names of families and their types.
    pub types: BTreeMap<String, String>,
    /// Samples: name with sorted labels.
    pub samples: BTreeMap<(String, BTreeMap<String, String>), f64>,
}

impl Scrape {
    /// The sum of the samples of a name that have these labels; `None` if there are none.
    pub fn get(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let fits = |own: &BTreeMap<String, String>| {
            labels.iter().all(|(k, v)| own.get(*k).is_some_and(|own| own == v))
        };
        let found = self.samples.iter().filter(|((n, own), _)| n == name && fits(own));
        found.map(|(_, value)| *value).reduce(|a, b| a + b)
    }

    /// How often the kernel asked for something.
    pub fn ops(&self, op: &str) -> f64 {
        self.get("ringfs_fuse_request_duration_seconds_count", &[("op", op)]).unwrap_or(0.0)
    }

    /// The state of a node.
    pub fn node_state(&self, node: &str) -> String {
        let is_it = |((name, labels), value): &(&(String, BTreeMap<String, String>), &f64)| {
            name == "ringfs_node_state" && labels["node"] == node && **value == 1.0
        };
        let mut states = self.samples.iter().filter(is_it).map(|((_, l), _)| l["state"].clone());
        let state = states.next().unwrap_or_default();
        assert_eq!(states.next(), None, "{node} is in two states");
        state
    }

    /// The family that a sample's name belongs to.
    pub fn family(&self, sample: &str) -> Option<&str> {
        let known = |name: &str| self.types.get_key_value(name);
        let ends = ["_total", "_bucket", "_count", "_sum"];
        let family = ends.iter().find_map(|end| {
            let (name, kind) = known(sample.strip_suffix(end)?)?;
            ((kind == "counter") == (*end == "_total")).then_some(name)
        });
        family.or_else(|| Some(known(sample)?.0)).map(String::as_str)
    }
}

/// Reads a page; every line must be right. In OpenMetrics a counter's description lacks `_total`.
pub fn parse(text: &str, open: bool) -> Scrape {
    let mut scrape = Scrape::default();
    let mut helped = BTreeSet::new();
    let mut current = String::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            assert!(!help.is_empty() && helped.insert(name.to_owned()), "{line}");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(helped.contains(name), "no help before {line}");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert_eq!(kind == "counter" && !open, name.ends_with("_total"), "{line}");
            current = name.to_owned();
            let before = scrape.types.insert(current.clone(), kind.to_owned());
            assert_eq!(before, None, "{line} twice");
        } else {
            let (name, labels, value) = sample(line);
            let ends: &[&str] = match scrape.types[&current].as_str() {
                "counter" if open => &["_total"],
                "histogram" => &["_bucket", "_count", "_sum"],
                _ => &[""],
            };
            let rest = name.strip_prefix(&current).unwrap_or_else(|| panic!("{line} is astray"));
            assert!(ends.contains(&rest), "{line} is no {}", scrape.types[&current]);
            let before = scrape.samples.insert((name, labels), value);
            assert_eq!(before, None, "{line} twice");
        }
    }
    check_histograms(&scrape);
    scrape
}

/// `name{label="value",...} number`.
fn sample(line: &str) -> (String, BTreeMap<String, String>, f64) {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let end = line.find(|c| !word(c)).unwrap();
    let (name, mut rest) = line.split_at(end);
    assert!(!name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit()), "{line}");
    let mut labels = BTreeMap::new();
    if let Some(after) = rest.strip_prefix('{') {
        rest = after;
        while !rest.starts_with('}') {
            let (label, after) = rest.split_once("=\"").unwrap();
            assert!(!label.is_empty() && label.chars().all(word), "{line}");
            let mut value = String::new();
            let mut chars = after.char_indices();
            let close = loop {
                match chars.next().unwrap() {
                    (at, '"') => break at,
                    (_, '\\') => value.push(match chars.next().unwrap().1 {
                        'n' => '\n',
                        c @ ('"' | '\\') => c,
                        other => panic!("\\{other} in {line}"),
                    }),
                    (_, c) => value.push(c),
                }
            };
            assert_eq!(labels.insert(label.to_owned(), value), None, "{line}");
            rest = &after[close + 1..];
            rest = rest.strip_prefix(',').filter(|r| !r.starts_with('}')).unwrap_or(rest);
        }
        rest = &rest[1..];
    }
    let number = rest.strip_prefix(' ').unwrap();
    (name.to_owned(), labels, number.parse().unwrap_or_else(|_| panic!("{line}")))
}

/// Buckets grow with their bounds, and the last one has all.
fn check_histograms(scrape: &Scrape) {
    let mut buckets: BTreeMap<_, Vec<(f64, f64)>> = BTreeMap::new();
    for ((name, labels), value) in &scrape.samples {
        if let Some(family) = name.strip_suffix("_bucket") {
            let mut labels = labels.clone();
            let le = labels.remove("le").unwrap().replace("+Inf", "inf").parse().unwrap();
            buckets.entry((family.to_owned(), labels)).or_default().push((le, *value));
        }
    }
    for ((family, labels), mut all) in buckets {
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        assert!(all.is_sorted_by(|a, b| a.1 <= b.1), "{family} {labels:?}: {all:?}");
        let count = scrape.samples[&(format!("{family}_count"), labels.clone())];
        assert_eq!(all.last(), Some(&(f64::INFINITY, count)), "{family} {labels:?}");
        assert!(scrape.samples.contains_key(&(format!("{family}_sum"), labels)));
    }
}
