//! What the user has chosen, and what keys mean. Pure.

use super::snapshot::{ServerLine, Snapshot};
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use std::cmp::Reverse;

/// The order of the nodes. The metadata server is always first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    /// As the ring numbers them.
    #[default]
    Ring,
    /// By name.
    Name,
    /// The worst first.
    State,
    /// The fullest first.
    Memory,
    /// The busiest first.
    Operations,
    /// The slowest first.
    Latency,
}

impl Sort {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Sort::Ring => "ring",
            Sort::Name => "name",
            Sort::State => "state",
            Sort::Memory => "memory",
            Sort::Operations => "ops",
            Sort::Latency => "latency",
        }
    }

    fn next(self) -> Sort {
        match self {
            Sort::Ring => Sort::Name,
            Sort::Name => Sort::State,
            Sort::State => Sort::Memory,
            Sort::Memory => Sort::Operations,
            Sort::Operations => Sort::Latency,
            Sort::Latency => Sort::Ring,
        }
    }

    /// Puts the nodes in this order. What is not known comes last.
    pub fn apply(self, snapshot: &mut Snapshot) {
        let Some(nodes) = snapshot.servers.get_mut(1..) else { return };
        let share = |line: &ServerLine| match (line.memory_used?, line.memory_max?) {
            (_, 0) => None,
            (used, max) => Some(used.saturating_mul(10_000) / max),
        };
        match self {
            Sort::Ring => {}
            Sort::Name => nodes.sort_by(|a, b| a.name.cmp(&b.name)),
            Sort::State => nodes.sort_by_key(|line| line.state),
            Sort::Memory => nodes.sort_by_key(|line| Reverse((share(line), line.memory_used))),
            Sort::Operations => {
                let ops = |line: &ServerLine| line.ops_per_second.unwrap_or(-1.0);
                nodes.sort_by(|a, b| ops(b).total_cmp(&ops(a)));
            }
            Sort::Latency => nodes.sort_by_key(|line| Reverse(line.latency_us)),
        }
    }
}

/// What the user has chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// The order of the nodes.
    pub sort: Sort,
    /// What is shown stays.
    pub paused: bool,
    /// There is somebody who could press a key.
    pub has_keys: bool,
}

/// What becomes of the program after a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// It goes on.
    Stay,
    /// It ends.
    Quit,
}

impl View {
    /// A key was pressed.
    pub fn press(&mut self, key: KeyEvent) -> After {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('c' | 'd') if control => return After::Quit,
            KeyCode::Char('q') | KeyCode::Esc => return After::Quit,
            KeyCode::Char('p' | ' ') => self.paused = !self.paused,
            KeyCode::Char('s') => self.sort = self.sort.next(),
            _ => {}
        }
        After::Stay
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(code: char) -> KeyEvent {
        KeyEvent::new(KeyCode::Char(code), KeyModifiers::NONE)
    }

    #[test]
    fn keys_do_what_the_last_line_says() {
        let mut view = View::default();
        assert_eq!(view.press(key('x')), After::Stay);
        assert_eq!(view, View::default());
        assert_eq!(view.press(key('p')), After::Stay);
        assert!(view.paused);
        view.press(key('p'));
        assert!(!view.paused);
        let mut seen = vec![view.sort.word()];
        for _ in 0..6 {
            view.press(key('s'));
            seen.push(view.sort.word());
        }
        assert_eq!(seen, ["ring", "name", "state", "memory", "ops", "latency", "ring"]);
        assert_eq!(view.press(key('q')), After::Quit);
        let control = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(view.press(control), After::Quit);
        assert_eq!(view.press(key('c')), After::Stay);
        let escape = KeyEvent::new(KeyCode::Esc, KeyModifiers::NONE);
        assert_eq!(view.press(escape), After::Quit);
    }

    #[test]
    fn the_metadata_server_stays_first_and_the_unknown_comes_last() {
        let line = |name: &str, used: Option<u64>| ServerLine {
            name: name.to_owned(),
            memory_used: used,
            memory_max: used.map(|_| 100),
            latency_us: used,
            ops_per_second: used.map(|used| used as f64),
            ..ServerLine::default()
        };
        let servers =
            vec![line("metadata", None), line("b", None), line("c", Some(1)), line("a", Some(2))];
        let snapshot = Snapshot { servers, ..Snapshot::default() };
        for (sort, expected) in [
            (Sort::Ring, ["metadata", "b", "c", "a"]),
            (Sort::Name, ["metadata", "a", "b", "c"]),
            (Sort::Memory, ["metadata", "a", "c", "b"]),
            (Sort::Operations, ["metadata", "a", "c", "b"]),
            (Sort::Latency, ["metadata", "a", "c", "b"]),
        ] {
            let mut sorted = snapshot.clone();
            sort.apply(&mut sorted);
            let names: Vec<&str> = sorted.servers.iter().map(|s| s.name.as_str()).collect();
            assert_eq!(names, expected, "{sort:?}");
        }
        Sort::Name.apply(&mut Snapshot::default());
    }
}
