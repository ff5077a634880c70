//! `ringfs top` on real servers: one frame, JSON, and live on a terminal that gets back what it had.

#![allow(clippy::unwrap_used, reason = "what fails ends the test")]

mod mounted;

use mounted::{PATIENCE, RINGFS, Volume, eventually, noise, text};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcgetattr, tcsetwinsize};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

fn json(volume: &str, extra: &[&str]) -> serde_json::Value {
    let out = Command::new(RINGFS)
        .args(["top", volume, "--once", "--json"])
        .args(extra)
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", text(&out));
    serde_json::from_slice(&out.stdout).unwrap()
}

#[test]
fn one_frame_shows_servers_sessions_and_sums() {
    let volume = Volume::format(3, 2);
    let mount = volume.mount();
    fs::write(mount.path("f"), noise(1, 4 << 20)).unwrap();
    for named in [volume.url(), mount.place.display().to_string()] {
        let found = json(&named, &["--interval", "200ms"]);
        let servers = found["servers"].as_array().unwrap();
        let names: Vec<&str> = servers.iter().map(|s| s["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["metadata", "n0", "n1", "n2"]);
        for server in servers {
            assert_eq!(server["state"], "up", "{server}");
            assert!(server["memory_used"].as_u64().unwrap() > 100_000);
            assert!(server["ops_per_second"].as_f64().unwrap() > 0.0, "INFO itself counts");
        }
        assert_eq!(found["inodes"], 2);
        assert_eq!(found["bytes"], 4 << 20);
        assert_eq!(found["unreadable_files"], 0);
        assert_eq!(found["ring"]["replicas"], 2);
        let place = mount.place.to_str().unwrap();
        assert!(found["sessions"].as_array().unwrap().iter().any(|s| s["place"] == place));
    }
    // Not a terminal: the same as with --once.
    let out = Command::new(RINGFS).args(["top", &volume.url()]).output().unwrap();
    let shown = text(&out);
    assert!(out.status.success() && shown.contains("3 of 3 nodes up"), "{shown}");
    assert!(!shown.contains('\u{1b}') && !shown.contains("quit"), "{shown:?}");
}

#[test]
fn a_dead_and_a_hanging_server_show_and_do_not_delay_the_others() {
    let mut volume = Volume::format(3, 2);
    volume.nodes[0].kill9();
    volume.nodes[1].stop();
    let begun = Instant::now();
    let found = json(&volume.url(), &["--interval", "200ms"]);
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    volume.nodes[1].cont();
    let states: Vec<&str> =
        found["servers"].as_array().unwrap().iter().map(|s| s["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["up", "down", "silent", "up"]);
    assert!(found["servers"][3]["ops_per_second"].is_number());
    assert!(found["servers"][1]["cause"].as_str().unwrap().contains("refused"), "{found}");
}

#[test]
fn what_cannot_be_shown_is_told_before_the_terminal_is_taken() {
    let out = Command::new(RINGFS).args(["top", "redis://127.0.0.1:1/demo"]).output().unwrap();
    assert_eq!(out.status.code(), Some(4), "{}", text(&out));
    let out = Command::new(RINGFS).args(["top", "/"]).output().unwrap();
    assert!(text(&out).contains("not in a mounted volume"), "{}", text(&out));
}

/// `ringfs top` on a terminal of 80 by 24.
struct Live {
    terminal: OwnedFd,
    child: Child,
    seen: Arc<Mutex<String>>,
}

impl Live {
    fn start(volume: &Volume) -> Live {
        let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&terminal).unwrap();
        unlockpt(&terminal).unwrap();
        let name = ptsname(&terminal, Vec::new()).unwrap().into_string().unwrap();
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&terminal, size).unwrap();
        let noctty = libc::O_NOCTTY;
        let open = || File::options().read(true).write(true).custom_flags(noctty).open(&name);
        let child = Command::new(RINGFS)
            .args(["top", &volume.url(), "--interval", "100ms"])
            .env("TERM", "xterm")
            .stdin(open().unwrap())
            .stdout(open().unwrap())
            .stderr(open().unwrap())
            .spawn()
            .unwrap();
        let seen = Arc::new(Mutex::new(String::new()));
        let (mut output, all) = (File::from(terminal.try_clone().unwrap()), seen.clone());
        // Ends with an error when the last one who has the other side open is gone.
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(got) = output.read(&mut buffer) {
                all.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..got]));
            }
        });
        let live = Live { terminal, child, seen };
        eventually("the screen is drawn", || live.shows("sort: ring") && live.shows("SERVER"));
        assert!(live.shows("\u{1b}[?1049h"), "the other screen is used");
        live
    }

    fn shows(&self, what: &str) -> bool {
        self.seen.lock().unwrap().contains(what)
    }

    fn press(&self, keys: &str) {
        File::from(self.terminal.try_clone().unwrap()).write_all(keys.as_bytes()).unwrap();
    }

    fn end(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "it does not end");
            std::thread::sleep(Duration::from_millis(5));
        };
        eventually("the first screen is back", || self.shows("\u{1b}[?1049l"));
        status
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let _killed = self.child.kill();
        let _reaped = self.child.wait();
    }
}

#[test]
fn the_terminal_is_given_back_after_keys_and_signals() {
    let volume = Volume::format(1, 1);
    let quit: [(&str, Option<Signal>); 5] = [
        ("q", None),
        ("\u{1b}", None),
        ("\u{3}", None),
        ("", Some(Signal::TERM)),
        ("", Some(Signal::HUP)),
    ];
    for (keys, signal) in quit {
        let mut live = Live::start(&volume);
        assert!(
            !tcgetattr(&live.terminal)
                .unwrap()
                .local_modes
                .contains(rustix::termios::LocalModes::ECHO),
            "keys are not shown"
        );
        live.press("s");
        eventually("another order", || live.shows("name"));
        live.press("p");
        eventually("it pauses", || live.shows("paused"));
        live.press(keys);
        if let Some(signal) = signal {
            kill_process(Pid::from_child(&live.child), signal).unwrap();
        }
        assert!(live.end().success(), "{keys:?} {signal:?}");
        let modes = tcgetattr(&live.terminal).unwrap().local_modes;
        assert!(modes.contains(rustix::termios::LocalModes::ECHO), "keys are shown again");
        assert!(modes.contains(rustix::termios::LocalModes::ICANON));
    }
}
