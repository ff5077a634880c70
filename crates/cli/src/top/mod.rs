//! `ringfs top`: a volume live on the terminal.
//!
//! `gather` asks everybody in the background and has a `snapshot` at any moment; `draw` makes lines
//! of it; `view` is what the user chose by keys. This page ties them to a terminal, which gets back
//! what it had however the program ends.

mod draw;
mod gather;
mod server;
mod snapshot;
mod view;

use crate::failure::Failure;
use crate::output::{Surroundings, print, print_json};
use crate::quantity::parse_duration;
use crate::target::Target;
use clap::Args;
use gather::Gather;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use snapshot::Snapshot;
use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use view::{After, View};

/// Servers are not asked more often than this.
const INTERVAL_MIN: Duration = Duration::from_millis(100);
/// Longest wait for a key before it is looked whether the program shall end.
const KEY_WAIT_MAX: Duration = Duration::from_millis(100);
/// One frame waits so much longer than the interval for servers that do not answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// Columns of a frame that goes to no terminal.
const COLUMNS: u16 = 120;
/// Lines of it at most.
const LINES_MAX: usize = 10_000;

/// Show a volume live: servers, traffic, background work, who uses it
///
/// Keys: q, Esc or Ctrl-C quit; p pauses; s sorts the nodes by another column. Where there is no
/// terminal, and with --once, one frame is printed.
///
/// Example:
///   ringfs top redis://meta:6379/demo
///   ringfs top /mnt/demo --interval 5s
///   ringfs top redis://meta:6379/demo --once --json
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct TopArguments {
    /// The volume, such as redis://meta:6379/demo, or a path where it is mounted.
    volume: String,
    /// Time between two looks.
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "1s")]
    interval: Duration,
    /// Print one frame and end.
    #[arg(long)]
    once: bool,
    /// Print JSON, once.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(arguments: &TopArguments, surroundings: &Surroundings) -> Result<(), Failure> {
    let target = Target::open(&arguments.volume, surroundings)?;
    let interval = arguments.interval.max(INTERVAL_MIN);
    let gather = Gather::start(&target.open, surroundings, interval)?;
    let has_terminal = io::stdout().is_terminal() && io::stdin().is_terminal();
    if arguments.json || arguments.once || !has_terminal {
        gather.settle(interval + PATIENCE);
        return print_once(&gather.snapshot(), arguments.json);
    }
    live(&gather, interval).map_err(|e| Failure::io("use the terminal", &e))
}

fn print_once(snapshot: &Snapshot, json: bool) -> Result<(), Failure> {
    if json {
        let document = serde_json::to_value(snapshot)
            .map_err(|e| Failure::plain(format!("cannot write JSON: {e}")))?;
        print_json(&document);
        return Ok(());
    }
    let view = View::default();
    let height = draw::height_wanted(snapshot, &view).min(LINES_MAX);
    let columns = std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok());
    let columns = columns.unwrap_or(COLUMNS).clamp(20, 500);
    let text = text(snapshot, &view, columns, u16::try_from(height).unwrap_or(u16::MAX))
        .map_err(|e| Failure::plain(format!("cannot draw: {e}")))?;
    print(text);
    Ok(())
}

/// The screen as text, without colours and without blanks at the ends of lines.
fn text(snapshot: &Snapshot, view: &View, width: u16, height: u16) -> Result<String, String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).map_err(|e| e.to_string())?;
    let frame =
        terminal.draw(|frame| draw::draw(frame, snapshot, view)).map_err(|e| e.to_string())?;
    let mut out = String::new();
    for line in frame.buffer.content.chunks(usize::from(width)) {
        let line: String = line.iter().map(|cell| cell.symbol()).collect();
        out.push_str(line.trim_end());
        out.push('\n');
    }
    Ok(out)
}

/// The terminal while it is ours; given back when dropped. A panic gives it back before it is told
/// of.
struct Screen(ratatui::DefaultTerminal);

impl Screen {
    fn take() -> io::Result<Screen> {
        // Also makes panics give the terminal back.
        ratatui::try_init().map(Screen).inspect_err(|_| ratatui::restore())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing back.
        ratatui::try_restore().ok();
    }
}

fn live(gather: &Gather, interval: Duration) -> io::Result<()> {
    let ended = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT, SIGHUP] {
        signal_hook::flag::register(signal, ended.clone())?;
    }
    let mut screen = Screen::take()?;
    let mut view = View { has_keys: true, ..View::default() };
    let mut snapshot = gather.snapshot();
    let mut next = Instant::now() + interval;
    loop {
        let mut sorted = snapshot.clone();
        view.sort.apply(&mut sorted);
        screen.0.draw(|frame| draw::draw(frame, &sorted, &view))?;
        loop {
            if ended.load(Ordering::SeqCst) {
                return Ok(());
            }
            let left = next.saturating_duration_since(Instant::now());
            if left.is_zero() {
                next = Instant::now() + interval;
                if !view.paused {
                    snapshot = gather.snapshot();
                }
                break;
            }
            if !event::poll(left.min(KEY_WAIT_MAX))? {
                continue;
            }
            match event::read()? {
                Event::Key(key) if key.kind != KeyEventKind::Release => {
                    if view.press(key) == After::Quit {
                        return Ok(());
                    }
                    break;
                }
                Event::Resize(..) => break,
                _ => {}
            }
        }
    }
}
