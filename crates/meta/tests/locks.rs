//! Advisory locks on a real server against a simple model: each byte of the interesting places has
//! at most one exclusive or any number of shared owners.

#![allow(clippy::unwrap_used, reason = "a test that fails shall panic")]

mod fixture;

use fixture::*;
use proptest::prelude::*;
use ringfs_base::{Errno, InodeId};
use ringfs_link::Cmd;
use ringfs_meta::*;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// Where the stretches begin of which ranges are made: near each other, around what halves and
/// doubles can hold, and the largest.
const PLACES: [u64; 11] = [
    0,
    1,
    2,
    7,
    (1 << 32) - 1,
    1 << 32,
    (1 << 53) + 1,
    (1 << 53) + 2,
    (1 << 62) + 3,
    i64::MAX as u64 - 1,
    i64::MAX as u64,
];
const FILES: usize = 2;
const SESSIONS: usize = 2;
const OWNERS: usize = 2;

/// Session and owner.
type Who = (usize, u64);

#[derive(Clone, Copy, Debug)]
struct Wait {
    file: usize,
    range: LockRange,
    exclusive: bool,
    ticket: u64,
    number: usize,
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Lock { file: usize, who: Who, from: usize, to: usize, exclusive: bool, wait: bool },
    Unlock { file: usize, who: Who, from: usize, to: usize },
    Cancel { who: Who },
    Test { file: usize, who: Who, from: usize, to: usize, exclusive: bool },
    Again { who: Who },
}

fn op() -> impl Strategy<Value = Op> {
    let who = (0..SESSIONS, 1..=OWNERS as u64);
    let place = 0..PLACES.len();
    let args = (0..FILES, who, place.clone(), place, any::<bool>(), any::<bool>());
    (0..13u8, args).prop_map(|(what, (file, who, a, b, exclusive, wait))| {
        let (from, to) = (a.min(b), a.max(b));
        match what {
            0..6 => Op::Lock { file, who, from, to, exclusive, wait },
            6..10 => Op::Unlock { file, who, from, to },
            10 => Op::Cancel { who },
            11 => Op::Test { file, who, from, to, exclusive },
            _ => Op::Again { who },
        }
    })
}

/// What is held: for each file and owner, at each place, whether exclusively.
#[derive(Default)]
struct Model {
    held: BTreeMap<(usize, Who), [Option<bool>; PLACES.len()]>,
    waits: BTreeMap<Who, Wait>,
}

fn covers(range: LockRange, place: usize) -> bool {
    (range.first..=range.last).contains(&PLACES[place])
}

impl Model {
    fn set(&mut self, file: usize, who: Who, range: LockRange, to: Option<bool>) {
        let places = self.held.entry((file, who)).or_default();
        for (place, held) in places.iter_mut().enumerate() {
            if covers(range, place) {
                *held = to;
            }
        }
    }

    fn holds(&self, file: usize, who: Who) -> bool {
        self.held.get(&(file, who)).is_some_and(|places| places.iter().any(Option::is_some))
    }

    /// Others who hold what stands in the way.
    fn holders(&self, file: usize, who: Who, range: LockRange, exclusive: bool) -> Vec<Who> {
        let in_the_way = |places: &[Option<bool>; PLACES.len()]| {
            places.iter().enumerate().any(|(place, held)| {
                covers(range, place) && held.is_some_and(|theirs| theirs || exclusive)
            })
        };
        self.held
            .iter()
            .filter(|((f, w), places)| *f == file && *w != who && in_the_way(places))
            .map(|((_, w), _)| *w)
            .collect()
    }

    fn is_circle(&self, who: Who, file: usize, range: LockRange, exclusive: bool) -> bool {
        let (mut todo, mut met) = (self.holders(file, who, range, exclusive), HashSet::new());
        while let Some(next) = todo.pop() {
            if next == who {
                return true;
            }
            if let Some(w) = self.waits.get(&next).filter(|_| met.insert(next)) {
                todo.extend(self.holders(w.file, next, w.range, w.exclusive));
            }
        }
        false
    }

    fn ahead(&self, who: Who, wait: &Wait) -> bool {
        self.waits.iter().any(|(other, w)| {
            *other != who
                && w.file == wait.file
                && w.number < wait.number
                && (w.exclusive || wait.exclusive)
                && w.range.first <= wait.range.last
                && wait.range.first <= w.range.last
        })
    }
}

struct World<'a> {
    f: &'a Fixture,
    sessions: Vec<Arc<Session>>,
    events: Vec<Receiver<Event>>,
    _watches: Vec<Watch>,
    files: Vec<InodeId>,
    model: Model,
    tickets: u64,
    /// Session and ticket of grants that messages told of.
    heard: HashSet<(usize, u64)>,
}

fn range(from: usize, to: usize) -> LockRange {
    let last = PLACES.get(to + 1).map_or(LockRange::WHOLE.last, |next| next - 1);
    LockRange { first: PLACES[from], last }
}

impl<'a> World<'a> {
    fn new(f: &'a Fixture) -> World<'a> {
        let sessions: Vec<_> = (0..SESSIONS).map(|_| f.another_session()).collect();
        let (mut events, mut watches) = (Vec::new(), Vec::new());
        for session in &sessions {
            let (sender, receiver) = channel();
            let sender = std::sync::Mutex::new(sender);
            let on_event = Box::new(move |event| {
                let _closed = sender.lock().unwrap().send(event);
            });
            watches.push(session.watch(on_event).unwrap());
            events.push(receiver);
        }
        let files = (0..FILES)
            .map(|i| {
                let name = format!("f{i}");
                f.session.create(InodeId::ROOT, name.as_bytes(), &file(), t(1)).unwrap().attr.ino
            })
            .collect();
        let model = Model::default();
        World {
            f,
            sessions,
            events,
            _watches: watches,
            files,
            model,
            tickets: 0,
            heard: HashSet::new(),
        }
    }

    fn record(&self, file: usize, field: &str) -> Vec<u8> {
        let key = format!("rfs:{{demo/0}}:k{}", self.files[file].local());
        let reply = self.f.server.conn().call(&Cmd::new("HGET").arg(key).arg(field)).unwrap();
        reply.as_bytes().map(<[u8]>::to_vec).unwrap_or_default()
    }

    fn queue(&self, file: usize) -> Vec<u64> {
        let packed = self.record(file, "P");
        packed.chunks(46).map(|r| u64::from_be_bytes(r[37..45].try_into().unwrap())).collect()
    }

    fn ask(&self, who: Who, range: LockRange, exclusive: bool, wait: Option<u64>) -> LockAsk {
        let wait = wait.map(LockTicket);
        LockAsk { kind: LockKind::Posix, owner: LockOwner(who.1), range, exclusive, pid: 7, wait }
    }

    /// Takes note of who left the queues: they hold now what they waited for, and were told.
    fn note_grants(&mut self, actor: usize, told: &[LockGrant]) {
        let queues: Vec<Vec<u64>> = (0..FILES).map(|file| self.queue(file)).collect();
        let gone: Vec<(Who, Wait)> = self
            .model
            .waits
            .iter()
            .filter(|(_, wait)| !queues[wait.file].contains(&wait.ticket))
            .map(|(who, wait)| (*who, *wait))
            .collect();
        for (who, wait) in &gone {
            self.model.waits.remove(who);
            self.model.set(wait.file, *who, wait.range, Some(wait.exclusive));
        }
        for (who, wait) in &gone {
            let theirs = self.model.holders(wait.file, *who, wait.range, wait.exclusive);
            assert!(theirs.is_empty(), "granted against others");
            let ticket = LockTicket(wait.ticket);
            if who.0 == actor {
                assert!(told.iter().any(|grant| grant.ticket == ticket), "not told by the reply");
                continue;
            }
            // Those of one script come in the order of the queue, which is not that of this loop.
            while !self.heard.remove(&(who.0, wait.ticket)) {
                let event = self.events[who.0].recv_timeout(Duration::from_secs(10)).unwrap();
                if let Event::Lock(grant) = event {
                    assert!(grant.attr.is_some_and(|attr| attr.ino == grant.ino));
                    self.heard.insert((who.0, grant.ticket.0));
                }
            }
        }
        let own = gone.iter().filter(|(who, _)| who.0 == actor).count();
        assert_eq!(told.len(), own);
    }

    fn check(&self) {
        for (who, wait) in &self.model.waits {
            let blocked =
                !self.model.holders(wait.file, *who, wait.range, wait.exclusive).is_empty();
            assert!(blocked || self.model.ahead(*who, wait), "{who:?} waits for nothing: {wait:?}");
        }
        for file in 0..FILES {
            let mut held: BTreeMap<(usize, Who), [Option<bool>; PLACES.len()]> = BTreeMap::new();
            for record in self.record(file, "p").chunks(37) {
                let number = |at: usize| u64::from_be_bytes(record[at..at + 8].try_into().unwrap());
                let session = self.sessions.iter().position(|s| s.id().0 == number(0)).unwrap();
                let range = LockRange { first: number(16), last: number(24) };
                let places = held.entry((file, (session, number(8)))).or_default();
                for (place, one) in places.iter_mut().enumerate() {
                    if covers(range, place) {
                        assert!(one.replace(record[32] == 1).is_none(), "an owner's overlap");
                    }
                }
            }
            let model: BTreeMap<_, _> = self
                .model
                .held
                .iter()
                .filter(|((f, _), places)| *f == file && places.iter().any(Option::is_some))
                .map(|(key, places)| (*key, *places))
                .collect();
            assert_eq!(held, model);
        }
    }

    fn lock(&mut self, file: usize, who: Who, range: LockRange, exclusive: bool, wait: bool) {
        self.tickets += 1;
        let ticket = self.tickets;
        let number = ticket as usize;
        let asked = Wait { file, range, exclusive, ticket, number };
        let blocked = !self.model.holders(file, who, range, exclusive).is_empty();
        let circle = self.model.is_circle(who, file, range, exclusive);
        let ahead = self.model.ahead(who, &asked);
        let overtakes = self.model.holds(file, who);
        let ask = self.ask(who, range, exclusive, wait.then_some(ticket));
        match self.sessions[who.0].lock(self.files[file], &ask) {
            Ok(done) => {
                match done.state {
                    LockState::Granted(attr) => {
                        assert!(!blocked && attr.is_some() && done.remains);
                        self.model.set(file, who, range, Some(exclusive));
                    }
                    LockState::Waiting => {
                        assert!(wait && (blocked || (ahead && !overtakes)) && !circle);
                        self.model.waits.insert(who, asked);
                    }
                    LockState::Busy => panic!("fcntl locks are never lost by a conversion"),
                }
                self.note_grants(who.0, &done.grants);
            }
            Err(error) => match posix(error) {
                Errno::EAGAIN => assert!(blocked && !wait),
                Errno::EDEADLK => assert!(circle && wait),
                other => panic!("{other}"),
            },
        }
    }

    fn run(&mut self, op: Op) {
        match op {
            // A process that waits does nothing else.
            Op::Lock { who, .. } | Op::Unlock { who, .. }
                if self.model.waits.contains_key(&who) => {}
            Op::Lock { file, who, from, to, exclusive, wait } => {
                self.lock(file, who, range(from, to), exclusive, wait);
            }
            Op::Unlock { file, who, from, to } => {
                let owner = LockOwner(who.1);
                let range = range(from, to);
                let session = &self.sessions[who.0];
                let done = session.unlock(self.files[file], LockKind::Posix, owner, range).unwrap();
                self.model.set(file, who, range, None);
                assert_eq!(done.remains, self.model.holds(file, who));
                self.note_grants(who.0, &done.grants);
            }
            Op::Cancel { who } => {
                let Some(wait) = self.model.waits.remove(&who) else { return };
                let (owner, ticket) = (LockOwner(who.1), LockTicket(wait.ticket));
                let session = Arc::clone(&self.sessions[who.0]);
                let ino = self.files[wait.file];
                let done = session.cancel_lock(ino, LockKind::Posix, owner, ticket).unwrap();
                assert_eq!(done.state, LockState::Waiting);
                self.note_grants(who.0, &done.grants);
                let late = session.cancel_lock(ino, LockKind::Posix, owner, ticket).unwrap();
                assert!(matches!(late.state, LockState::Granted(_)));
            }
            Op::Test { file, who, from, to, exclusive } => {
                let range = range(from, to);
                let ask = self.ask(who, range, exclusive, None);
                let found = self.sessions[who.0].test_lock(self.files[file], &ask).unwrap();
                let holders = self.model.holders(file, who, range, exclusive);
                assert_eq!(found.is_some(), !holders.is_empty());
                if let Some(found) = found {
                    let is = |w: &Who| (self.sessions[w.0].id(), w.1);
                    assert!(holders.iter().any(|w| is(w) == (found.session, found.owner.0)));
                    assert!(found.pid == 7 && (found.exclusive || exclusive));
                }
            }
            Op::Again { who } => {
                let Some(wait) = self.model.waits.get(&who).copied() else { return };
                let ask = self.ask(who, wait.range, wait.exclusive, Some(wait.ticket));
                let done = self.sessions[who.0].lock(self.files[wait.file], &ask).unwrap();
                assert_eq!(done.state, LockState::Waiting);
                assert!(done.grants.is_empty());
            }
        }
        self.check();
    }

    /// Everybody gives up what he holds, and so everybody gets what he waits for in the end.
    fn end(mut self) {
        for _ in 0..SESSIONS * OWNERS + 1 {
            for session in 0..SESSIONS {
                for owner in 1..=OWNERS as u64 {
                    for file in 0..FILES {
                        let (from, to) = (0, PLACES.len() - 1);
                        self.run(Op::Unlock { file, who: (session, owner), from, to });
                    }
                }
            }
        }
        assert!(self.model.waits.is_empty(), "somebody waits for ever: {:?}", self.model.waits);
        assert_no_lock_keys(self.f);
        for session in &self.sessions {
            session.end().unwrap();
        }
    }
}

fn assert_no_lock_keys(f: &Fixture) {
    let keys = f.server.conn().call(&Cmd::new("KEYS").arg("rfs:{demo/0}:k*")).unwrap();
    assert!(keys.clone().into_array().unwrap().is_empty(), "{keys:?}");
}

#[test]
fn ranges_queues_and_deadlocks_are_as_in_the_model() {
    let config = ProptestConfig {
        cases: 24,
        max_shrink_iters: 100,
        failure_persistence: None,
        ..Default::default()
    };
    proptest!(config, |(ops in proptest::collection::vec(op(), 20..100))| {
        let f = Fixture::new();
        let mut world = World::new(&f);
        for op in ops {
            world.run(op);
        }
        world.end();
    });
}

fn whole(owner: u64, exclusive: bool, wait: Option<u64>) -> LockAsk {
    LockAsk {
        kind: LockKind::Flock,
        owner: LockOwner(owner),
        range: LockRange::WHOLE,
        exclusive,
        pid: 1,
        wait: wait.map(LockTicket),
    }
}

fn made(f: &Fixture) -> InodeId {
    f.session.create(InodeId::ROOT, b"f", &file(), t(1)).unwrap().attr.ino
}

fn granted(done: &LockDone) -> bool {
    matches!(done.state, LockState::Granted(_))
}

#[test]
fn readers_wait_behind_a_waiting_writer_and_are_granted_together() {
    let f = Fixture::new();
    let (s, ino) = (&f.session, made(&f));
    assert!(granted(&s.lock(ino, &whole(1, false, None)).unwrap()));
    assert_eq!(s.lock(ino, &whole(2, true, Some(2))).unwrap().state, LockState::Waiting);
    for reader in 3..6 {
        let done = s.lock(ino, &whole(reader, false, Some(reader))).unwrap();
        assert_eq!(done.state, LockState::Waiting);
    }
    let tickets = |done: LockDone| done.grants.iter().map(|g| g.ticket.0).collect::<Vec<_>>();
    let unlock =
        |owner| s.unlock(ino, LockKind::Flock, LockOwner(owner), LockRange::WHOLE).unwrap();
    assert_eq!(tickets(unlock(1)), [2]);
    assert_eq!(tickets(unlock(2)), [3, 4, 5]);
    assert_eq!(s.lock(ino, &whole(6, true, None)).map_err(posix), Err(Errno::EAGAIN));
    // A conversion gives up first, as flock(2) says, and loses the lock if it may not wait.
    assert_eq!(s.lock(ino, &whole(3, true, None)).unwrap().state, LockState::Busy);
    assert!(!unlock(3).remains);
    unlock(4);
    assert!(granted(&s.lock(ino, &whole(5, true, None)).unwrap()));
    unlock(5);
    assert_no_lock_keys(&f);
}

#[test]
fn the_order_of_a_queue_makes_no_deadlock() {
    let f = Fixture::new();
    let s = &f.session;
    let [a, b] = [b"a", b"b"].map(|n| s.create(InodeId::ROOT, n, &file(), t(1)).unwrap().attr.ino);
    let posix_ask =
        |owner, exclusive, wait| LockAsk { kind: LockKind::Posix, ..whole(owner, exclusive, wait) };
    // 1 reads a, 2 holds b; 3 waits to write a. When 2 asks to read a it must wait behind 3 for
    // fairness' sake; when 1 asks for b then, it would wait for itself by that alone.
    assert!(granted(&s.lock(a, &posix_ask(1, false, None)).unwrap()));
    assert!(granted(&s.lock(b, &posix_ask(2, true, None)).unwrap()));
    assert_eq!(s.lock(a, &posix_ask(3, true, Some(3))).unwrap().state, LockState::Waiting);
    assert_eq!(s.lock(a, &posix_ask(2, false, Some(2))).unwrap().state, LockState::Waiting);
    let done = s.lock(b, &posix_ask(1, true, Some(1))).unwrap();
    assert_eq!(done.state, LockState::Waiting);
    assert_eq!(done.grants.iter().map(|g| g.ticket.0).collect::<Vec<_>>(), [2]);
    // 2 and 1 in a true circle.
    assert_eq!(s.lock(a, &posix_ask(2, true, Some(4))).map_err(posix), Err(Errno::EDEADLK));
}

#[test]
fn the_end_of_a_session_frees_its_locks_and_wakes_who_waits() {
    let f = Fixture::new();
    let (s, ino, dead) = (&f.session, made(&f), f.another_session());
    assert!(granted(&dead.lock(ino, &whole(1, true, None)).unwrap()));
    assert_eq!(dead.lock(ino, &whole(2, true, Some(1))).unwrap().state, LockState::Waiting);
    let (sender, events) = channel();
    let sender = std::sync::Mutex::new(sender);
    let watch =
        s.watch(Box::new(move |event| sender.lock().unwrap().send(event).unwrap())).unwrap();
    assert_eq!(s.lock(ino, &whole(1, true, Some(9))).unwrap().state, LockState::Waiting);
    dead.end().unwrap();
    match events.recv_timeout(Duration::from_secs(10)).unwrap() {
        Event::Lock(grant) => assert_eq!((grant.ino, grant.ticket), (ino, LockTicket(9))),
        other => panic!("{other:?}"),
    }
    drop(watch);
    assert!(matches!(dead.lock(ino, &whole(1, true, None)), Err(MetaError::Fenced)));
    // Asking again after the grant, as after a lost message, finds the lock granted.
    assert!(granted(&s.lock(ino, &whole(1, true, Some(9))).unwrap()));
    assert!(granted(&s.cancel_lock(ino, LockKind::Flock, LockOwner(1), LockTicket(9)).unwrap()));
    s.end().unwrap();
    assert_no_lock_keys(&f);
}
