//! Advisory locks between two mounts, taken by processes of their own: this program starts itself
//! again as a process that does what it is told on its standard input.

#![allow(clippy::unwrap_used, reason = "what fails ends the test")]

mod mounted;

use mounted::{Mounted, Volume, eventually, succeed};
use ringfs_link::Cmd;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

const CHILD: &str = "RINGFS_TEST_LOCK_CHILD";
/// Long enough for whatever happens at once; short enough to show that nothing happens.
const MOMENT: Duration = Duration::from_millis(150);
const END: i64 = i64::MAX;

extern "C" fn ignore_signal(_: libc::c_int) {}

fn fcntl(file: &File, command: libc::c_int, kind: i32, from: i64, to: i64) -> String {
    // SAFETY: zero is a valid flock64; the kernel reads and writes only that.
    let (result, lock) = unsafe {
        let mut lock: libc::flock64 = std::mem::zeroed();
        lock.l_type = kind as libc::c_short;
        lock.l_start = from;
        lock.l_len = if to == END { 0 } else { to - from + 1 };
        (libc::fcntl(file.as_raw_fd(), command, &mut lock), lock)
    };
    match result {
        0 if command == libc::F_GETLK && i32::from(lock.l_type) == libc::F_UNLCK => "free".into(),
        0 if command == libc::F_GETLK => {
            format!("{} {} {} {}", lock.l_type, lock.l_start, lock.l_len, lock.l_pid)
        }
        _ => outcome(result),
    }
}

fn outcome(result: libc::c_int) -> String {
    match result {
        0 => "ok".into(),
        _ => format!("errno {}", std::io::Error::last_os_error().raw_os_error().unwrap()),
    }
}

/// The other side of [`Process`]. Nothing unless started as such.
#[test]
fn child() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    // SAFETY: the handler does nothing; the struct is fully initialised by zeroing.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = ignore_signal as *const () as usize;
        libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut());
    }
    let mut files: Vec<Option<File>> = Vec::new();
    for line in std::io::stdin().lines() {
        let line = line.unwrap();
        let words: Vec<&str> = line.split(' ').collect();
        let number = |at: usize| words[at].parse::<i64>().unwrap();
        let kind = |at: usize| match words[at] {
            "r" => libc::F_RDLCK,
            "w" => libc::F_WRLCK,
            _ => libc::F_UNLCK,
        };
        let answer = match words[0] {
            "open" | "read" => {
                let writes = words[0] == "open";
                let file = File::options().read(true).write(writes).open(words[1]);
                files.push(Some(file.unwrap()));
                "ok".into()
            }
            "close" => {
                files[number(1) as usize] = None;
                "ok".into()
            }
            // SAFETY: takes nothing and cannot fail.
            "thread" => unsafe { libc::gettid() }.to_string(),
            "count" => count(files[number(1) as usize].as_ref().unwrap(), number(2)),
            command => {
                let file = files[number(1) as usize].as_ref().unwrap();
                match command {
                    "set" => fcntl(file, libc::F_SETLK, kind(2), number(3), number(4)),
                    "wait" => fcntl(file, libc::F_SETLKW, kind(2), number(3), number(4)),
                    "get" => fcntl(file, libc::F_GETLK, kind(2), number(3), number(4)),
                    "ofd" => fcntl(file, libc::F_OFD_SETLK, kind(2), number(3), number(4)),
                    // SAFETY: a descriptor and a number.
                    _ => outcome(unsafe { libc::flock(file.as_raw_fd(), number(2) as i32) }),
                }
            }
        };
        println!("answer {answer}");
    }
}

/// Adds one to the number in a file, many times, each under a lock.
fn count(file: &File, times: i64) -> String {
    for _ in 0..times {
        assert_eq!(fcntl(file, libc::F_SETLKW, libc::F_WRLCK, 0, END), "ok");
        let mut text = [0; 8];
        file.read_exact_at(&mut text, 0).unwrap();
        let value = u64::from_be_bytes(text) + 1;
        file.write_all_at(&value.to_be_bytes(), 0).unwrap();
        assert_eq!(fcntl(file, libc::F_SETLK, libc::F_UNLCK, 0, END), "ok");
    }
    "ok".into()
}

struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
    answers: Receiver<String>,
}

impl Process {
    fn start() -> Process {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture", "--test-threads", "1"])
            .env(CHILD, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, answers) = channel();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if let Some((_, answer)) = line.split_once("answer ") {
                    let _gone = sender.send(answer.to_owned());
                }
            }
        });
        let stdin = child.stdin.take();
        Process { child, stdin, answers }
    }

    /// A process that has a file open, as number 0.
    fn with(path: &Path) -> Process {
        let mut process = Process::start();
        process.open(path);
        process
    }

    fn open(&mut self, path: &Path) {
        assert_eq!(self.ask(&format!("open {}", path.display())), "ok");
    }

    fn tell(&mut self, command: &str) {
        writeln!(self.stdin.as_mut().unwrap(), "{command}").unwrap();
    }

    fn answer(&self) -> String {
        self.answers.recv_timeout(Duration::from_secs(30)).unwrap()
    }

    fn ask(&mut self, command: &str) -> String {
        self.tell(command);
        self.answer()
    }

    fn begins_to_wait(&mut self, command: &str) {
        self.tell(command);
        assert!(self.answers.recv_timeout(MOMENT).is_err(), "{command} does not wait");
    }

    /// Sends SIGUSR1 to the thread that [`Self::ask`]ing for "thread" named.
    fn signal(&self, thread: &str) {
        let (process, thread) = (self.child.id(), thread.parse::<i32>().unwrap());
        // SAFETY: numbers only.
        let sent = unsafe { libc::syscall(libc::SYS_tgkill, process, thread, libc::SIGUSR1) };
        assert_eq!(sent, 0);
    }

    /// Ends it; what it has open is closed by that.
    fn exit(mut self) {
        self.stdin = None;
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stdin = None;
        let _killed = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn pair() -> (Volume, Mounted, Mounted) {
    let volume = Volume::format(1, 1);
    let (a, b) = (volume.mount(), volume.mount());
    fs::write(a.path("f"), [0; 8]).unwrap();
    fs::write(a.path("g"), [0; 8]).unwrap();
    (volume, a, b)
}

const BUSY: &str = "errno 11";

fn lock_keys(volume: &Volume) -> usize {
    let keys = volume.meta.conn().call(&Cmd::new("KEYS").arg("rfs:{demo/0}:k*")).unwrap();
    keys.into_array().unwrap().len()
}

#[test]
fn ranges_exclude_other_mounts_and_are_told() {
    let (volume, a, b) = pair();
    let (mut one, mut two) = (Process::with(&a.path("f")), Process::with(&b.path("f")));
    let mut beside = Process::with(&a.path("f"));
    assert_eq!(one.ask("set 0 w 10 19"), "ok");
    assert_eq!(two.ask("set 0 r 19 30"), BUSY);
    assert_eq!(two.ask("set 0 w 20 30"), "ok");
    // Processes of other mounts have number 0.
    assert_eq!(two.ask(&format!("get 0 r 0 {END}")), "1 10 10 0");
    let pid = one.child.id();
    assert_eq!(beside.ask("get 0 r 0 15"), format!("1 10 10 {pid}"));
    // A part unlocked, a part shared, and the far end of the file.
    assert_eq!(one.ask("set 0 u 12 13"), "ok");
    assert_eq!(one.ask("set 0 r 14 19"), "ok");
    assert_eq!(two.ask("set 0 w 12 13"), "ok");
    assert_eq!(two.ask("set 0 r 14 25"), "ok");
    assert_eq!(two.ask("set 0 w 11 11"), BUSY);
    assert_eq!(one.ask(&format!("set 0 w 9007199254740993 {END}")), "ok");
    assert_eq!(two.ask("set 0 w 9007199254740993 9007199254740993"), BUSY);
    assert_eq!(two.ask("set 0 w 9007199254740992 9007199254740992"), "ok");
    assert_eq!(two.ask(&format!("set 0 r {} {}", END - 1, END - 1)), BUSY);
    // flock and fcntl do not meet.
    assert_eq!(two.ask("flock 0 6"), "ok");
    assert_eq!(beside.ask("flock 0 6"), BUSY);
    assert_eq!(two.ask("flock 0 5"), "ok");
    assert_eq!(beside.ask("flock 0 5"), "ok");
    // The end of a process is the end of its locks.
    one.exit();
    assert_eq!(two.ask(&format!("wait 0 w 0 {END}")), "ok");
    two.exit();
    beside.exit();
    eventually("the keys go with the locks", || lock_keys(&volume) == 0);
    drop((a, b));
    volume.assert_fsck_clean();
}

#[test]
fn a_close_ends_the_locks_that_posix_says() {
    let (volume, a, b) = pair();
    let mut other = Process::with(&b.path("f"));
    let mut one = Process::with(&a.path("f"));
    // Any descriptor of the process, one for reading only too.
    assert_eq!(one.ask("set 0 w 0 9"), "ok");
    assert_eq!(one.ask(&format!("read {}", a.path("f").display())), "ok");
    assert_eq!(other.ask("set 0 r 0 0"), BUSY);
    assert_eq!(one.ask("close 1"), "ok");
    assert_eq!(other.ask("set 0 r 0 0"), "ok");
    assert_eq!(other.ask("set 0 u 0 0"), "ok");
    // An open file description's locks end with it alone.
    one.open(&a.path("f"));
    assert_eq!(one.ask("ofd 0 w 0 9"), "ok");
    assert_eq!(one.ask("close 2"), "ok");
    assert_eq!(other.ask("set 0 r 0 0"), BUSY);
    assert_eq!(one.ask("close 0"), "ok");
    assert_eq!(other.ask("wait 0 w 0 0"), "ok");
    assert_eq!(other.ask("set 0 u 0 0"), "ok");
    // And flock.
    one.open(&a.path("f"));
    assert_eq!(one.ask("flock 3 6"), "ok");
    assert_eq!(other.ask("flock 0 6"), BUSY);
    assert_eq!(one.ask("close 3"), "ok");
    assert_eq!(other.ask("flock 0 2"), "ok");
    // Who closes and locks again at once is not in his own way.
    one.open(&a.path("g"));
    for slot in 4..54 {
        assert_eq!(one.ask(&format!("flock {slot} 6")), "ok", "file {slot}");
        assert_eq!(one.ask(&format!("close {slot}")), "ok");
        one.open(&a.path("g"));
    }
    drop((one, other));
    eventually("the keys go with the locks", || lock_keys(&volume) == 0);
}

#[test]
fn waiters_are_woken_at_once_in_the_order_of_arrival() {
    let (_volume, a, b) = pair();
    let mut holder = Process::with(&a.path("f"));
    assert_eq!(holder.ask("set 0 r 0 9"), "ok");
    let places = [b.path("f"), a.path("f"), b.path("f"), a.path("f")];
    let mut waiters: Vec<Process> = places.iter().map(|path| Process::with(path)).collect();
    // A writer, two readers behind it, a writer.
    for (waiter, kind) in waiters.iter_mut().zip(["w", "r", "r", "w"]) {
        waiter.begins_to_wait(&format!("wait 0 {kind} 0 5"));
    }
    let begin = Instant::now();
    assert_eq!(holder.ask("set 0 u 0 9"), "ok");
    assert_eq!(waiters[0].answer(), "ok");
    let latency = begin.elapsed();
    println!("unlock and wake-up on the other mount: {latency:?}");
    assert!(latency < Duration::from_secs(1), "{latency:?}");
    for waiter in &waiters[1..] {
        assert!(waiter.answers.recv_timeout(MOMENT).is_err());
    }
    assert_eq!(waiters[0].ask("set 0 u 0 9"), "ok");
    assert_eq!((waiters[1].answer(), waiters[2].answer()), ("ok".into(), "ok".into()));
    assert_eq!(waiters[2].ask("set 0 u 0 9"), "ok");
    assert!(waiters[3].answers.recv_timeout(MOMENT).is_err());
    waiters.remove(1).exit();
    assert_eq!(waiters[2].answer(), "ok");
}

#[test]
fn a_circle_of_waits_over_files_and_mounts_is_a_deadlock() {
    let (_volume, a, b) = pair();
    let (mut one, mut two) = (Process::with(&a.path("f")), Process::with(&b.path("f")));
    one.open(&a.path("g"));
    two.open(&b.path("g"));
    assert_eq!(one.ask("set 0 w 0 0"), "ok");
    assert_eq!(two.ask("set 1 w 0 0"), "ok");
    one.begins_to_wait("wait 1 w 0 0");
    assert_eq!(two.ask("wait 0 w 0 0"), format!("errno {}", libc::EDEADLK));
    // No circle: only a wait.
    assert_eq!(two.ask("set 1 u 0 0"), "ok");
    assert_eq!(one.answer(), "ok");
    two.begins_to_wait("wait 1 r 0 0");
    assert_eq!(one.ask("set 1 u 0 0"), "ok");
    assert_eq!(two.answer(), "ok");
}

#[test]
fn a_signal_ends_a_wait_and_leaves_the_queue() {
    let (volume, a, b) = pair();
    let mut holder = Process::with(&a.path("f"));
    let (mut waiter, mut next) = (Process::with(&b.path("f")), Process::with(&b.path("f")));
    let thread = waiter.ask("thread");
    for (lock, unlock, shared) in
        [("wait 0 w 0 9", "set 0 u 0 9", "wait 0 r 0 9"), ("flock 0 2", "flock 0 8", "flock 0 1")]
    {
        assert_eq!(holder.ask(shared), "ok");
        waiter.begins_to_wait(lock);
        next.begins_to_wait(shared);
        waiter.signal(&thread);
        assert_eq!(waiter.answer(), "errno 4");
        // Who waited behind it only need not wait any more.
        assert_eq!(next.answer(), "ok");
        assert_eq!(holder.ask(unlock), "ok");
        assert_eq!(next.ask(unlock), "ok");
        assert_eq!(waiter.ask(lock), "ok");
        assert_eq!(waiter.ask(unlock), "ok");
    }
    drop((holder, waiter, next));
    eventually("the keys go with the locks", || lock_keys(&volume) == 0);
}

#[test]
fn signals_that_race_with_grants_lose_no_lock() {
    let (volume, a, b) = pair();
    let (mut one, mut two) = (Process::with(&a.path("f")), Process::with(&b.path("f")));
    let thread = two.ask("thread");
    for _ in 0..60 {
        assert_eq!(one.ask("wait 0 w 0 9"), "ok");
        two.tell("wait 0 w 0 9");
        one.tell("set 0 u 0 9");
        two.signal(&thread);
        assert_eq!(one.answer(), "ok");
        match two.answer().as_str() {
            "ok" => assert_eq!(two.ask("set 0 u 0 9"), "ok"),
            interrupted => assert_eq!(interrupted, "errno 4"),
        }
    }
    drop((one, two));
    eventually("the keys go with the locks", || lock_keys(&volume) == 0);
}

#[test]
fn a_lost_message_wakes_its_waiter_later() {
    let (volume, a, b) = pair();
    let (mut one, mut two) = (Process::with(&a.path("f")), Process::with(&b.path("f")));
    for _ in 0..5 {
        assert_eq!(one.ask("wait 0 w 0 9"), "ok");
        two.begins_to_wait("wait 0 w 0 9");
        let mut conn = volume.meta.conn();
        conn.call(&Cmd::new("CLIENT").arg("KILL").arg("TYPE").arg("pubsub")).unwrap();
        assert_eq!(one.ask("set 0 u 0 9"), "ok");
        assert_eq!(two.answer(), "ok");
        assert_eq!(two.ask("set 0 u 0 9"), "ok");
    }
}

#[test]
fn a_killed_mounts_locks_go_with_its_lease() {
    let (volume, a, b) = pair();
    let (mut one, mut two) = (Process::with(&a.path("f")), Process::with(&b.path("f")));
    assert_eq!(one.ask("set 0 w 0 9"), "ok");
    two.begins_to_wait("wait 0 w 0 9");
    a.kill9();
    let name = ringfs_base::VolumeName::new("demo").unwrap();
    let timeouts = ringfs_link::Timeouts { connect: mounted::PATIENCE, reply: mounted::PATIENCE };
    let reaper = ringfs_meta::Volume::open(&volume.meta.endpoint(), timeouts, &name).unwrap();
    assert!(two.answers.recv_timeout(MOMENT).is_err(), "the lease has not ended yet");
    // As any mount does after 60 seconds of silence.
    eventually("the session ends", || !reaper.reap(Duration::from_secs(5)).unwrap().is_empty());
    assert_eq!(two.answer(), "ok");
    drop((one, two));
    eventually("the keys go with the locks", || lock_keys(&volume) == 0);
    drop(b);
    volume.assert_fsck_clean();
}

#[test]
fn what_was_written_under_a_lock_is_read_under_the_next() {
    let (volume, a, b) = pair();
    const PROCESSES: usize = 3;
    const TIMES: u64 = 40;
    let mut processes: Vec<Process> = (0..2 * PROCESSES)
        .map(|i| Process::with(&if i % 2 == 0 { a.path("f") } else { b.path("f") }))
        .collect();
    let begin = Instant::now();
    processes.iter_mut().for_each(|process| process.tell(&format!("count 0 {TIMES}")));
    processes.iter().for_each(|process| assert_eq!(process.answer(), "ok"));
    println!("{} increments in {:?}", 2 * PROCESSES as u64 * TIMES, begin.elapsed());
    let text = fs::read(b.path("f")).unwrap();
    assert_eq!(u64::from_be_bytes(text.try_into().unwrap()), 2 * PROCESSES as u64 * TIMES);
    drop((processes, a, b));
    volume.assert_fsck_clean();
}

/// Many transactions that move between two rows, from one mount; the sum stays.
const TRANSFERS: &str = r#"
import sqlite3, sys, random
db = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)
assert db.execute("pragma journal_mode=delete").fetchone()[0] == "delete"
for i in range(int(sys.argv[2])):
    db.execute("begin immediate")
    value = db.execute("select n from accounts where id=1").fetchone()[0]
    db.execute("update accounts set n=? where id=1", (value + 1,))
    db.execute("update accounts set n=n-1 where id=2")
    db.execute("insert into log values (?, randomblob(300))", (i,))
    db.execute("commit")
    assert db.execute("select sum(n) from accounts").fetchone()[0] == 0
"#;

#[test]
fn sqlite_works_over_two_mounts() {
    let python = |script: &str, args: &[&str]| {
        let mut command = Command::new("python3");
        command.arg("-c").arg(script).args(args);
        command
    };
    if !python("import sqlite3", &[]).status().is_ok_and(|status| status.success()) {
        println!("no python3 with sqlite3 here");
        return;
    }
    let (volume, a, b) = pair();
    let prepare = "import sqlite3,sys; db=sqlite3.connect(sys.argv[1]); \
        db.executescript('create table accounts(id integer primary key, n); \
        create table log(i, blob); insert into accounts values (1,0),(2,0)')";
    let (here, there) = (a.path("db"), b.path("db"));
    let (here, there) = (here.to_str().unwrap(), there.to_str().unwrap());
    succeed(&mut python(prepare, &[here]));
    const TIMES: u64 = 25;
    let times = TIMES.to_string();
    std::thread::scope(|scope| {
        for place in [here, there, here, there] {
            let (python, times) = (&python, &times);
            scope.spawn(move || succeed(&mut python(TRANSFERS, &[place, times])));
        }
    });
    let check = "import sqlite3,sys; db=sqlite3.connect(sys.argv[1]); \
        print(db.execute('pragma integrity_check').fetchone()[0], \
        db.execute('select n from accounts order by id').fetchall(), \
        db.execute('select count(*) from log').fetchone()[0])";
    let all = 4 * TIMES;
    for place in [here, there] {
        let said = succeed(&mut python(check, &[place]));
        assert_eq!(said.trim(), format!("ok [({all},), (-{all},)] {all}"));
    }
    drop((a, b));
    volume.assert_fsck_clean();
}
