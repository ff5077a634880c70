//! `ringfs quota`.

use crate::failure::Failure;
use crate::output::{Surroundings, print, print_json};
use crate::quantity::{bytes, count, parse_bytes};
use crate::table::TextTable;
use crate::target::Target;
use clap::{Args, Subcommand};
use ringfs_base::Errno;
use ringfs_meta::{MetaError, OwnerCounting, Quota, QuotaSubject, Volume};
use serde_json::{Value, json};
use std::path::PathBuf;

/// Limit what users, groups and directory trees may hold
///
/// A volume is named by its URL or by a path where it is mounted. Limits hold over all mounts and
/// exactly, from when `set` has returned. Those of users and groups do not bind root.
///
/// Example:
///   ringfs quota set redis://meta:6379/demo --user alice --bytes 100GiB
///   ringfs quota set /mnt/demo --tree /mnt/demo/projects/a --inodes 1000000 --bytes 2TiB
///   ringfs quota list /mnt/demo
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct QuotaArguments {
    #[command(subcommand)]
    command: QuotaCommand,
}

#[derive(Debug, Subcommand)]
enum QuotaCommand {
    Set(SetArguments),
    Show(OneArguments),
    List(ListArguments),
    Remove(OneArguments),
    Off(OffArguments),
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct SubjectArguments {
    /// A user, by name or number.
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// A group, by name or number.
    #[arg(long, value_name = "GROUP")]
    group: Option<String>,
    /// A directory and all below it: its path in the volume, or under the mount that was named.
    #[arg(long, value_name = "DIRECTORY")]
    tree: Option<PathBuf>,
}

/// Set limits; the first for a user or group counts the whole volume, that for a tree the tree
///
/// Example:
///   ringfs quota set redis://meta:6379/demo --tree /projects/a --bytes 2TiB
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
struct SetArguments {
    /// The volume: its URL, or a path where it is mounted.
    volume: String,
    #[command(flatten)]
    subject: SubjectArguments,
    /// Most inodes (files, directories and the like); 0 for no limit [default: as it is].
    #[arg(long, value_name = "N")]
    inodes: Option<u64>,
    /// Most bytes of files; 0 for no limit [default: as it is].
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    bytes: Option<u64>,
}

/// Show or remove the quota of one user, group or tree
///
/// Example:
///   ringfs quota show /mnt/demo --user alice
///   ringfs quota remove /mnt/demo --tree /mnt/demo/projects/a
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
struct OneArguments {
    /// The volume: its URL, or a path where it is mounted.
    volume: String,
    #[command(flatten)]
    subject: SubjectArguments,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// List all quotas, and what everybody uses if users and groups are counted
///
/// Example:
///   ringfs quota list redis://meta:6379/demo --json
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
struct ListArguments {
    /// The volume: its URL, or a path where it is mounted.
    volume: String,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// End all limits of users and groups, and the counting
///
/// Example:
///   ringfs quota off redis://meta:6379/demo
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
struct OffArguments {
    /// The volume: its URL, or a path where it is mounted.
    volume: String,
}

/// Runs the command.
pub fn run(arguments: &QuotaArguments, surroundings: &Surroundings) -> Result<(), Failure> {
    match &arguments.command {
        QuotaCommand::Set(set) => {
            let target = Target::open(&set.volume, surroundings)?;
            let subject = subject(&set.subject, &target)?;
            if set.inodes.is_none() && set.bytes.is_none() {
                return Err(Failure::usage("give --inodes, --bytes or both"));
            }
            target
                .open
                .volume
                .set_quota(subject, set.inodes, set.bytes)
                .map_err(|e| refused(e, subject))
        }
        QuotaCommand::Remove(one) => {
            let target = Target::open(&one.volume, surroundings)?;
            let subject = subject(&one.subject, &target)?;
            target.open.volume.remove_quota(subject).map_err(|e| refused(e, subject))
        }
        QuotaCommand::Off(off) => {
            Ok(Target::open(&off.volume, surroundings)?.open.volume.stop_counting_owners()?)
        }
        QuotaCommand::Show(one) => {
            let target = Target::open(&one.volume, surroundings)?;
            let subject = subject(&one.subject, &target)?;
            let all = target.open.volume.quotas()?.all;
            let found = all.into_iter().find(|quota| quota.subject == subject);
            let quota = found.ok_or_else(|| none(subject))?;
            show(&target.open.volume, &[quota], one.json, |mut rows| rows.swap_remove(0))
        }
        QuotaCommand::List(list) => {
            let volume = Target::open(&list.volume, surroundings)?.open.volume;
            let quotas = volume.quotas()?;
            if !list.json && quotas.owners == OwnerCounting::Begun {
                crate::output::warn(
                    "users and groups have not been counted to the end; set a limit again",
                );
            }
            show(&volume, &quotas.all, list.json, |rows| json!(rows))
        }
    }
}

fn show(
    volume: &Volume,
    quotas: &[Quota],
    as_json: bool,
    document: impl FnOnce(Vec<Value>) -> Value,
) -> Result<(), Failure> {
    let titles = ["whose", ">inodes", ">of", ">bytes", ">of", "note"];
    let (mut table, mut rows) = (TextTable::new(&titles), Vec::new());
    let limit = |limit: u64, text: String| if limit == 0 { "-".to_owned() } else { text };
    for quota in quotas {
        let (kind, whose) = whose(volume, quota.subject);
        let note = if quota.counting { "not counted to the end; set it again" } else { "" };
        table.row([
            format!("{kind} {whose}"),
            count(quota.inodes),
            limit(quota.inodes_max, count(quota.inodes_max)),
            bytes(quota.bytes),
            limit(quota.bytes_max, bytes(quota.bytes_max)),
            note.to_owned(),
        ]);
        rows.push(json!({
            "kind": kind, "id": id(quota.subject), "name": whose, "inodes": quota.inodes,
            "inodes_max": quota.inodes_max, "bytes": quota.bytes, "bytes_max": quota.bytes_max,
            "counting": quota.counting,
        }));
    }
    if as_json {
        print_json(&document(rows));
    } else if table.is_empty() {
        print("There are no quotas; `ringfs quota set` makes one.\n");
    } else {
        print(table.render());
    }
    Ok(())
}

fn subject(arguments: &SubjectArguments, target: &Target) -> Result<QuotaSubject, Failure> {
    let SubjectArguments { user, group, tree } = arguments;
    if let Some(user) = user {
        return Ok(QuotaSubject::User(number_of(user, "/etc/passwd", "user")?));
    }
    if let Some(group) = group {
        return Ok(QuotaSubject::Group(number_of(group, "/etc/group", "group")?));
    }
    let path = tree.as_ref().ok_or_else(|| Failure::usage("give --user, --group or --tree"))?;
    let attr = target.find(path)?;
    if !attr.is_dir() {
        return Err(Failure::usage(format!("{} is no directory", path.display())));
    }
    Ok(QuotaSubject::Tree(attr.ino))
}

/// The number of a user or group, by the file that lists those of this machine.
fn number_of(text: &str, file: &str, what: &str) -> Result<u32, Failure> {
    if let Ok(number) = text.parse() {
        return Ok(number);
    }
    let unknown =
        || Failure::usage(format!("{file} knows no {what} \"{text}\"; give the number instead"));
    let list =
        std::fs::read_to_string(file).map_err(|e| Failure::io(format_args!("read {file}"), &e))?;
    list.lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields.first() == Some(&text))
        .and_then(|fields| fields.get(2)?.parse().ok())
        .ok_or_else(unknown)
}

fn name_of(number: u32, file: &str) -> String {
    let text = number.to_string();
    // Who has no name here has a number all the same.
    let list = std::fs::read_to_string(file).unwrap_or_default();
    let found = list.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        (fields.get(2) == Some(&text.as_str())).then(|| fields[0].to_owned())
    });
    found.unwrap_or(text)
}

/// Kind and name for people.
fn whose(volume: &Volume, subject: QuotaSubject) -> (&'static str, String) {
    match subject {
        QuotaSubject::User(uid) => ("user", name_of(uid, "/etc/passwd")),
        QuotaSubject::Group(gid) => ("group", name_of(gid, "/etc/group")),
        QuotaSubject::Tree(root) => {
            let path = volume.path_of(root).map(|path| String::from_utf8_lossy(&path).into_owned());
            // It may be on its way from one place to another, or open and without a name.
            ("tree", path.unwrap_or_else(|_| format!("inode {root}")))
        }
    }
}

fn id(subject: QuotaSubject) -> u64 {
    match subject {
        QuotaSubject::User(id) | QuotaSubject::Group(id) => u64::from(id),
        QuotaSubject::Tree(root) => root.0,
    }
}

fn none(subject: QuotaSubject) -> Failure {
    Failure::plain(match subject {
        QuotaSubject::Tree(_) => "the directory has no quota; `ringfs quota set` gives it one",
        _ => {
            "users and groups are not counted, or there is nothing of theirs; see `ringfs quota list`"
        }
    })
}

fn refused(error: MetaError, subject: QuotaSubject) -> Failure {
    match error {
        MetaError::Posix(Errno::EBUSY) => Failure::refused(
            "a directory tree with a quota cannot lie in another, or have another in it; see \
             `ringfs quota list`, and remove that one first",
        ),
        MetaError::Posix(Errno::ENODATA) => none(subject),
        MetaError::Posix(Errno::EINVAL) => Failure::usage("a limit is at most 2^53"),
        error => error.into(),
    }
}
