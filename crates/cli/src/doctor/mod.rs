//! `ringfs doctor`: is everything fit for RingFS, and if not, what is to be done?

mod machine;
mod server;

use crate::compose::{self, Patience};
use crate::failure::Failure;
use crate::output::{Surroundings, print, print_json};
use crate::volume_url::VolumeUrl;
use clap::Args;
use ringfs_link::Endpoint;
use serde_json::json;
use server::Role;

/// Check servers and this machine; exit code 3 if there are problems; changes nothing
///
/// With the URL of a volume its nodes are checked too. Without a URL only this machine is.
///
/// Example:
///   ringfs doctor redis://meta:6379/demo
///   ringfs doctor redis://meta:6379 --node a=redis://h1:6379   # before `ringfs format`
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct DoctorArguments {
    /// The metadata server, such as redis://meta:6379, or a volume, such as redis://meta:6379/demo.
    url: Option<String>,
    /// A further server that is to become a node; repeat the option for each.
    #[arg(long = "node", value_name = "NAME=URL")]
    nodes: Vec<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    /// As it should be.
    Ok,
    /// Good to know.
    Note,
    /// It works, and may harm one day.
    Warning,
    /// It does not work, or data are in danger.
    Problem,
}

impl Level {
    fn word(self) -> &'static str {
        match self {
            Level::Ok => "ok",
            Level::Note => "note",
            Level::Warning => "warning",
            Level::Problem => "problem",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Finding {
    level: Level,
    /// What was looked at: a server or this machine.
    subject: String,
    /// How it is.
    what: String,
    /// What to do about it.
    advice: Option<String>,
}

/// What was found out about one subject.
#[derive(Debug)]
struct Findings {
    subject: String,
    list: Vec<Finding>,
}

impl Findings {
    fn about(subject: String) -> Findings {
        Findings { subject, list: Vec::new() }
    }

    fn ok(&mut self, what: impl Into<String>) {
        self.add(Level::Ok, what.into(), None);
    }

    fn add(&mut self, level: Level, what: impl Into<String>, advice: Option<&str>) {
        self.list.push(Finding {
            level,
            subject: self.subject.clone(),
            what: what.into(),
            advice: advice.map(str::to_owned),
        });
    }
}

/// Runs the command.
pub fn run(arguments: &DoctorArguments, surroundings: &Surroundings) -> Result<(), Failure> {
    let mut findings = machine::check();
    let mut servers: Vec<(String, Endpoint, Role)> = Vec::new();
    if let Some(text) = &arguments.url {
        let url = surroundings.meta_url(text)?;
        let reachable = ringfs_link::Conn::open(&url.endpoint, &surroundings.timeouts).is_ok();
        servers.push(("metadata".to_owned(), url.endpoint.clone(), Role::Metadata));
        if let Some(volume) = url.volume
            && reachable
        {
            let url = VolumeUrl { endpoint: url.endpoint, volume };
            let open = compose::open(&url, surroundings, Patience::Tool)?;
            for node in open.membership(surroundings)?.nodes(&open.ring)? {
                servers.push((format!("node {}", node.name), node.endpoint, Role::Node));
            }
        }
    }
    for node in crate::node_option::parse_all(&arguments.nodes)? {
        let endpoint = surroundings.credentials.for_node(&node.name, node.endpoint)?;
        servers.push((format!("node {}", node.name), endpoint, Role::Node));
    }
    for (name, endpoint, role) in &servers {
        findings.extend(server::check(name, endpoint, *role, surroundings));
    }
    findings.extend(server::compare(&servers, surroundings));

    let worst = findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok);
    if arguments.json {
        let list: Vec<_> = findings
            .iter()
            .map(|f| {
                json!({
                    "level": f.level.word(), "subject": f.subject, "what": f.what,
                    "advice": f.advice,
                })
            })
            .collect();
        print_json(&json!({ "worst": worst.word(), "findings": list }));
    } else {
        print(text(&findings));
    }
    if worst == Level::Problem { Err(Failure::problems()) } else { Ok(()) }
}

fn text(findings: &[Finding]) -> String {
    let mut out = String::new();
    let mut subject = None;
    for finding in findings {
        if subject != Some(&finding.subject) {
            out.push_str(&format!("{}\n", finding.subject));
            subject = Some(&finding.subject);
        }
        out.push_str(&format!("  {:<8} {}\n", finding.level.word(), finding.what));
        if let Some(advice) = &finding.advice {
            out.push_str(&format!("           -> {advice}\n"));
        }
    }
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    let number = |n: usize, word: &str| match n {
        0 => format!("no {word}s"),
        1 => format!("1 {word}"),
        n => format!("{n} {word}s"),
    };
    let (problems, warnings) = (count(Level::Problem), count(Level::Warning));
    out.push_str(&format!("\n{}, {}\n", number(problems, "problem"), number(warnings, "warning")));
    out
}
