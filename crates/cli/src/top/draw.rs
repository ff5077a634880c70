//! From a snapshot to the lines on the screen. Pure: the same for a terminal, a pipe and a test.

use super::snapshot::{ServerLine, ServerState, SessionLine, Snapshot, WorkerLine};
use super::view::View;
use crate::quantity::{bytes, count};
use ratatui::Frame;
use ratatui::style::{Color, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;
use ringfs_cluster::workers::WorkerState;
use std::time::Duration;

/// Cells of a bar.
const MEMORY_BAR: usize = 8;
const PROGRESS_BAR: usize = 16;

/// Draws the whole screen.
pub fn draw(frame: &mut Frame<'_>, snapshot: &Snapshot, view: &View) {
    let area = frame.area();
    let lines = lines(snapshot, view, area.height.into());
    frame.render_widget(Paragraph::new(lines), area);
}

/// Lines that it takes to show everything.
pub fn height_wanted(snapshot: &Snapshot, view: &View) -> usize {
    let sections: usize = sections(snapshot).iter().map(|section| section.rows.len() + 2).sum();
    head(snapshot).len() + sections + usize::from(view.has_keys)
}

/// One table.
struct Section {
    title: String,
    rows: Vec<Line<'static>>,
}

fn lines(snapshot: &Snapshot, view: &View, height: usize) -> Vec<Line<'static>> {
    let mut lines = head(snapshot);
    let foot = usize::from(view.has_keys);
    let sections = sections(snapshot);
    // Each section takes an empty line and a title.
    let room = height.saturating_sub(lines.len() + foot + 2 * sections.len());
    let wanted: Vec<usize> = sections.iter().map(|section| section.rows.len()).collect();
    let rows = share(room, &wanted);
    for (section, rows) in sections.into_iter().zip(rows) {
        if rows == 0 {
            continue;
        }
        lines.push(Line::default());
        lines.push(Line::from(section.title.clone().bold().underlined()));
        lines.extend(cut(section.rows, rows));
    }
    if view.has_keys {
        lines.resize(height.saturating_sub(1), Line::default());
        let paused = if view.paused { "paused" } else { "" };
        lines.push(Line::from(vec![
            Span::from(format!("q quit  p pause  s sort: {:<9}", view.sort.word())).dim(),
            Span::from(paused).black().on_yellow(),
        ]));
    }
    lines
}

/// How many rows each section gets. Everybody gets what is left over by those who need less than
/// their part; the first ones first. Pure.
fn share(room: usize, wanted: &[usize]) -> Vec<usize> {
    let mut given = vec![0; wanted.len()];
    let mut left = room;
    while left > 0 {
        let mut any = false;
        for (given, wanted) in given.iter_mut().zip(wanted) {
            if *given < *wanted && left > 0 {
                *given += 1;
                left -= 1;
                any = true;
            }
        }
        if !any {
            break;
        }
    }
    given
}

/// The first rows, and how many there are besides.
fn cut(mut rows: Vec<Line<'static>>, keep: usize) -> Vec<Line<'static>> {
    if rows.len() > keep && keep > 0 {
        let more = rows.len() - keep + 1;
        rows.truncate(keep - 1);
        rows.push(Line::from(format!("... and {more} more").dim()));
    }
    rows
}

/// Those that have something to show.
fn sections(snapshot: &Snapshot) -> Vec<Section> {
    let server_title = format!(
        "{:<10} {:<7} {:<23} {:>7} {:>9} {:>9} {:>8}",
        "SERVER", "STATE", "MEMORY", "OPS/S", "IN/S", "OUT/S", "LATENCY"
    );
    let worker_title = format!(
        "{:<10} {:<7} {:<22} {:>9} {:>9}  {}",
        "WORKER", "STATE", "PROGRESS", "MOVED", "RATE/S", "WHAT"
    );
    let session_title = format!(
        "{:<10} {:<14} {:>7} {:>9} {:>6}  {}",
        "SESSION", "HOST", "PROCESS", "LAST SIGN", "EPOCH", "PLACE"
    );
    let mut sections = vec![
        Section { title: server_title, rows: snapshot.servers.iter().map(server).collect() },
        Section { title: worker_title, rows: snapshot.workers.iter().map(worker).collect() },
        Section { title: session_title, rows: snapshot.sessions.iter().map(session).collect() },
    ];
    sections.retain(|section| !section.rows.is_empty());
    sections
}

fn head(snapshot: &Snapshot) -> Vec<Line<'static>> {
    let nodes = snapshot.nodes();
    let up = nodes.iter().filter(|node| node.state == ServerState::Up).count();
    let well = if up == nodes.len() { Color::Green } else { Color::Red };
    let ring = &snapshot.ring;
    let mut lines = vec![
        Line::from(vec![
            Span::from(format!("RingFS {}", snapshot.volume)).bold(),
            Span::from(format!("   epoch {}   {} copies   ", ring.epoch, ring.replicas)),
            Span::from(format!("{up} of {} nodes up", nodes.len())).fg(well),
            Span::from(format!("   {} UTC", time_of_day(snapshot.at))),
        ]),
        Line::from(format!(
            "{} inodes, {}   in {}/s, out {}/s, {} ops/s",
            count(snapshot.inodes),
            bytes(snapshot.bytes),
            bytes(snapshot.sum(|s| s.in_per_second) as u64),
            bytes(snapshot.sum(|s| s.out_per_second) as u64),
            count(snapshot.sum(|s| s.ops_per_second) as u64),
        )),
    ];
    if let Some(files) = snapshot.unreadable_files.filter(|files| *files > 0) {
        let text = format!("{} files cannot be read; see ringfs status", count(files));
        lines.push(Line::from(text.red()));
    }
    if let Some(what) = &ring.moving {
        let mover = snapshot.workers.iter().find(|worker| worker.name == "move");
        let part = mover.and_then(part).map_or(String::new(), |part| percent(part) + "  ");
        lines.push(Line::from(format!("rebalancing: {part}{what}").yellow()));
    }
    if let Some(error) = &snapshot.error {
        lines.push(Line::from(format!("records cannot be read: {error}").red()));
    }
    lines
}

fn time_of_day(at: u64) -> String {
    let (hours, minutes, seconds) = (at / 3600 % 24, at / 60 % 60, at % 60);
    format!("{hours:02}:{minutes:02}:{seconds:02}")
}

fn server(line: &ServerLine) -> Line<'static> {
    let color = match line.state {
        ServerState::Up => Color::Green,
        ServerState::Loading | ServerState::Unknown => Color::Yellow,
        ServerState::Silent | ServerState::Down | ServerState::Out => Color::Red,
    };
    let name = Span::from(format!("{} ", column(&line.name, 10)));
    let state = Span::from(format!("{:<7} ", line.state.word())).fg(color);
    if let Some(cause) = line.cause.as_ref().filter(|_| line.memory_used.is_none()) {
        return Line::from(vec![name, state, Span::from(cause.clone()).dim()]);
    }
    let memory = match (line.memory_used, line.memory_max) {
        (Some(used), Some(0) | None) => format!("{:<23}", short_bytes(used as f64)),
        (Some(used), Some(max)) => {
            let part = used as f64 / max as f64;
            format!(
                "{} {:>3} {:<10}",
                bar(part, MEMORY_BAR),
                percent(part),
                short_bytes(used as f64)
            )
        }
        (None, _) => " ".repeat(23),
    };
    let full = match (line.memory_used, line.memory_max) {
        (Some(used), Some(max)) if max > 0 && used as f64 > 0.9 * max as f64 => {
            Style::new().fg(Color::Red)
        }
        _ => Style::new(),
    };
    let number = |value: Option<f64>| value.map_or(String::new(), |v| count(v as u64));
    let size = |value: Option<f64>| value.map_or(String::new(), short_bytes);
    let latency = line.latency_us.map(Duration::from_micros);
    Line::from(vec![
        name,
        state,
        Span::styled(memory, full),
        Span::from(format!(
            " {:>7} {:>9} {:>9} {:>8}",
            number(line.ops_per_second),
            size(line.in_per_second),
            size(line.out_per_second),
            latency.map_or(String::new(), short_time),
        )),
    ])
}

fn worker(line: &WorkerLine) -> Line<'static> {
    let (word, color) = match line.state {
        WorkerState::Idle => ("idle", Color::Reset),
        WorkerState::Working => ("working", Color::Green),
        WorkerState::Paused => ("paused", Color::Yellow),
        WorkerState::Failed => ("failed", Color::Red),
    };
    let progress = match (line.state, part(line)) {
        (WorkerState::Idle, _) | (_, None) => " ".repeat(PROGRESS_BAR + 6),
        (_, Some(part)) => format!("{} {:>5}", bar(part, PROGRESS_BAR), percent(part)),
    };
    let rate = line.bytes_per_second.filter(|_| line.state == WorkerState::Working);
    let what = match (&line.error, line.problems) {
        (Some(error), _) => error.clone(),
        (None, 0) => line.what.clone(),
        (None, problems) => format!("{}, {} problems", line.what, count(problems)),
    };
    Line::from(vec![
        Span::from(format!("{} ", column(&line.name, 10))),
        Span::from(format!("{word:<7} ")).fg(color),
        Span::from(format!(
            "{progress} {:>9} {:>9}  {what}",
            if line.bytes == 0 { String::new() } else { short_bytes(line.bytes as f64) },
            rate.map_or(String::new(), short_bytes),
        )),
    ])
}

fn session(line: &SessionLine) -> Line<'static> {
    Line::from(format!(
        "{:<10} {} {:>7} {:>9} {:>6}  {}",
        line.id,
        column(&line.host, 14),
        line.pid,
        format!("{} s", line.idle_seconds),
        line.epoch,
        line.place,
    ))
}

fn part(worker: &WorkerLine) -> Option<f64> {
    (worker.total > 0).then(|| worker.done as f64 / worker.total as f64)
}

fn percent(part: f64) -> String {
    format!("{:.0}%", part.clamp(0.0, 1.0) * 100.0)
}

/// `███░░░░░`; anything above nothing shows, and only all is full.
fn bar(part: f64, width: usize) -> String {
    let part = part.clamp(0.0, 1.0);
    let mut filled = (part * width as f64).round() as usize;
    if part > 0.0 {
        filled = filled.max(1);
    }
    if part < 1.0 {
        filled = filled.min(width - 1);
    }
    "█".repeat(filled) + &"░".repeat(width - filled)
}

/// Exactly so many characters; what is cut off shows as a tilde.
fn column(text: &str, width: usize) -> String {
    match text.chars().count() {
        length if length > width => text.chars().take(width - 1).chain(['~']).collect(),
        _ => format!("{text:<width$}"),
    }
}

/// At most 8 characters: `1.79 MiB`, `61.0 MiB`, `1003 KiB`.
fn short_bytes(value: f64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let unit = (1..units.len()).rev().find(|unit| value >= 1024f64.powi(*unit as i32));
    let Some(unit) = unit else { return format!("{value:.0} B") };
    let number = value / 1024f64.powi(unit as i32);
    let digits = if number < 10.0 { 2 } else { usize::from(number < 100.0) };
    format!("{number:.digits$} {}", units[unit])
}

fn short_time(time: Duration) -> String {
    match time.as_micros() {
        us @ 0..1000 => format!("{us} us"),
        us @ 1000..1_000_000 => format!("{:.1} ms", us as f64 / 1e3),
        us => format!("{:.1} s", us as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::top::snapshot::RingLine;
    use crate::top::text;
    use proptest::prelude::*;

    fn node(name: &str, state: ServerState, used: u64, max: u64) -> ServerLine {
        ServerLine {
            name: name.to_owned(),
            address: "redis://10.0.0.1:6379".to_owned(),
            state,
            cause: None,
            memory_used: Some(used),
            memory_max: Some(max),
            ops_per_second: Some(12_345.6),
            in_per_second: Some(30.5 * 1048576.0),
            out_per_second: Some(1000.0),
            latency_us: Some(87),
        }
    }

    fn sample() -> Snapshot {
        let gone = ServerLine {
            name: "a-node-with-a-long-name".to_owned(),
            state: ServerState::Down,
            cause: Some("redis://10.0.0.3:6379 refuses connections".to_owned()),
            ..ServerLine::default()
        };
        let worker = WorkerLine {
            name: "move".to_owned(),
            state: WorkerState::Working,
            what: "copying blocks".to_owned(),
            done: 450,
            total: 1000,
            bytes: 3 << 30,
            bytes_per_second: Some(52_428_800.0),
            ..WorkerLine::default()
        };
        let scrub = WorkerLine {
            name: "scrub".to_owned(),
            problems: 3,
            what: "blocks".to_owned(),
            ..WorkerLine::default()
        };
        let session = SessionLine {
            id: 7,
            host: "web1".to_owned(),
            pid: 4711,
            place: "/mnt/demo".to_owned(),
            idle_seconds: 1,
            epoch: 4,
        };
        Snapshot {
            volume: "demo".to_owned(),
            at: 45_296,
            ring: RingLine { epoch: 4, replicas: 2, moving: Some("add n4".to_owned()) },
            inodes: 1_234_567,
            bytes: 5 << 40,
            unreadable_files: Some(2),
            servers: vec![
                node("metadata", ServerState::Up, 50 << 20, 0),
                node("n1", ServerState::Up, 600 << 20, 1 << 30),
                node("n2", ServerState::Loading, 1000 << 20, 1 << 30),
                gone,
            ],
            workers: vec![worker, scrub],
            sessions: vec![session],
            error: None,
        }
    }

    fn screen(snapshot: &Snapshot, view: &View, width: u16, height: u16) -> String {
        text(snapshot, view, width, height).unwrap()
    }

    #[test]
    fn the_screen_is_as_it_was_agreed() {
        let view = View { has_keys: true, ..View::default() };
        let expected = "\
RingFS demo   epoch 4   2 copies   1 of 3 nodes up   12:34:56 UTC
1,234,567 inodes, 5.00 TiB   in 61.0 MiB/s, out 1.95 KiB/s, 24,691 ops/s
2 files cannot be read; see ringfs status
rebalancing: 45%  add n4

SERVER     STATE   MEMORY                    OPS/S      IN/S     OUT/S  LATENCY
metadata   up      50.0 MiB                 12,345  30.5 MiB    1000 B    87 us
n1         up      █████░░░ 59% 600 MiB     12,345  30.5 MiB    1000 B    87 us
n2         loading ███████░ 98% 1000 MiB    12,345  30.5 MiB    1000 B    87 us
a-node-wi~ down    redis://10.0.0.3:6379 refuses connections

WORKER     STATE   PROGRESS                   MOVED    RATE/S  WHAT
move       working ███████░░░░░░░░░   45%  3.00 GiB  50.0 MiB  copying blocks
scrub      idle                                                blocks, 3 problem

SESSION    HOST           PROCESS LAST SIGN  EPOCH  PLACE
7          web1              4711       1 s      4  /mnt/demo






q quit  p pause  s sort: ring
";
        assert_eq!(screen(&sample(), &view, 80, 24), expected);
    }

    #[test]
    fn a_frame_for_a_pipe_has_all_and_no_keys() {
        let (snapshot, view) = (sample(), View::default());
        let height = height_wanted(&snapshot, &view);
        let text = screen(&snapshot, &view, 120, height as u16);
        assert!(text.contains("2 files cannot be read") && text.contains("/mnt/demo"));
        assert!(!text.contains("quit") && text.ends_with("/mnt/demo\n"), "{text}");
    }

    #[test]
    fn a_small_screen_says_what_it_leaves_out() {
        let mut snapshot = sample();
        for i in 0..40 {
            snapshot.servers.push(node(&format!("m{i}"), ServerState::Up, 1, 2));
            snapshot.sessions.push(SessionLine { id: i, ..SessionLine::default() });
        }
        let view = View { has_keys: true, ..View::default() };
        let text = screen(&snapshot, &view, 80, 24);
        assert_eq!(text.lines().count(), 24);
        assert!(
            text.contains("... and 39 more")
                && text.contains("... and 37 more")
                && text.contains("WORKER"),
            "{text}"
        );
        assert!(text.lines().last().unwrap().starts_with("q quit"));
    }

    #[test]
    fn room_is_shared() {
        assert_eq!(share(10, &[3, 2, 1]), [3, 2, 1]);
        assert_eq!(share(6, &[9, 1, 9]), [3, 1, 2]);
        assert_eq!(share(0, &[9, 9]), [0, 0]);
    }

    #[test]
    fn bars_are_empty_and_full_only_for_nothing_and_all() {
        let bars = [0.0, 0.001, 0.5, 0.999, 1.0, 7.0].map(|part| bar(part, 4));
        assert_eq!(bars, ["░░░░", "█░░░", "██░░", "███░", "████", "████"]);
    }

    #[test]
    fn what_others_have_written_cannot_change_the_screen() {
        let mut snapshot = sample();
        snapshot.sessions[0].place = "/a\u{1b}[2J\u{7}\nb".to_owned();
        let text = screen(&snapshot, &View::default(), 80, 30);
        assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
    }

    proptest! {
        #[test]
        fn any_size_can_be_drawn(width in 1u16..200, height in 1u16..60, keys: bool) {
            let view = View { has_keys: keys, ..View::default() };
            screen(&sample(), &view, width, height);
            screen(&Snapshot::default(), &view, width, height);
        }
    }
}
