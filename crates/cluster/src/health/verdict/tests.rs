use super::*;
use crate::health::probe::Generation;
use proptest::prelude::*;
use ringfs_ring::{Member, plan};

const ME: SessionId = SessionId(1);

fn name(at: usize) -> NodeName {
    NodeName::new(&format!("n{at}")).unwrap()
}

/// What one observer sees of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum See {
    Answers,
    Suspects,
    Unsure,
}

/// A ring that lives on from verdict to verdict.
struct Ring {
    nodes: Vec<NodeName>,
    weights: Vec<u32>,
    replicas: u8,
    table: Table,
    overlay: StatusOverlay,
    records: BTreeMap<NodeName, NodeHealth>,
    runs: Vec<String>,
    marks: Vec<Option<u64>>,
    condition: Vec<Condition>,
    now: u64,
}

impl Ring {
    fn new(count: usize, replicas: u8) -> Ring {
        let nodes: Vec<NodeName> = (0..count).map(name).collect();
        let members: Vec<Member> = nodes.iter().cloned().map(Member::new).collect();
        Ring {
            table: plan(None, &members, replicas, 32).unwrap(),
            weights: vec![1; count],
            replicas,
            overlay: StatusOverlay::default(),
            records: BTreeMap::new(),
            runs: (0..count).map(|at| format!("run{at}")).collect(),
            marks: vec![None; count],
            condition: vec![Condition::Good; count],
            now: 1_000_000,
            nodes,
        }
    }

    fn report(&self, sees: &[See]) -> SeenReport {
        let mut report = SeenReport::default();
        for (at, see) in sees.iter().enumerate() {
            let mut seen = NodeSeen::default();
            match see {
                See::Answers => {
                    let mark = self.marks[at];
                    seen.answer = Some(Answer {
                        run_id: self.runs[at].clone(),
                        generation: mark.map(|count| Generation { uuid: "u".into(), count }),
                        shows_generation: self.condition[at] != Condition::Loading,
                        condition: self.condition[at],
                        ..Answer::default()
                    });
                }
                See::Suspects => {
                    seen.misses = 3;
                    seen.suspected = true;
                    seen.cause = Some("refused".into());
                }
                See::Unsure => seen.misses = 1,
            }
            report.nodes.insert(self.nodes[at].to_string(), seen);
        }
        report
    }

    /// One second passes, and this is what the observers see; the first is the coordinator.
    fn step(&mut self, sees: &[Vec<See>]) -> Verdict {
        self.step_with(sees, sees.len(), &Rules::default(), 1)
    }

    fn step_with(
        &mut self,
        sees: &[Vec<See>],
        observers: usize,
        rules: &Rules,
        seconds: u64,
    ) -> Verdict {
        self.now += seconds;
        let reports: BTreeMap<SessionId, SeenReport> =
            sees.iter().zip(1..).map(|(sees, who)| (SessionId(who), self.report(sees))).collect();
        let asked = self.nodes.iter().cloned().collect();
        let scene = Scene {
            reports: &reports,
            observers,
            me: ME,
            asked: &asked,
            records: &self.records,
            nodes: &self.nodes,
            table: &self.table,
            overlay: &self.overlay,
            now: self.now,
            elapsed: Duration::from_secs(seconds),
            may_turn: true,
            raise: false,
        };
        let verdict = judge(&scene, rules);
        self.records = verdict.records.clone();
        if let Some(overlay) = &verdict.overlay {
            assert_eq!(overlay.version, self.overlay.version + 1);
            self.overlay = overlay.clone();
        }
        for (node, count) in &verdict.marks {
            let at = self.nodes.iter().position(|known| known == node).unwrap();
            self.marks[at] = Some(*count);
        }
        for turn in &verdict.turns {
            let (node, weight) = match turn {
                Turn::Out(name) => (name, 0),
                Turn::In { name, weight } => (name, *weight),
            };
            let at = self.nodes.iter().position(|known| known == node).unwrap();
            self.weights[at] = weight;
            let members: Vec<Member> = self
                .nodes
                .iter()
                .zip(&self.weights)
                .map(|(name, weight)| Member::new(name.clone()).weighing(*weight))
                .collect();
            self.table = plan(Some(&self.table), &members, self.replicas, 32).unwrap();
        }
        verdict
    }

    fn state(&self, at: usize) -> Standing {
        self.records[&self.nodes[at]].state
    }

    fn incarnation(&self, at: usize) -> u64 {
        self.records[&self.nodes[at]].incarnation
    }

    fn is_down(&self, at: usize) -> bool {
        self.overlay.down.contains(&self.nodes[at])
    }
}

fn all(count: usize) -> Vec<See> {
    vec![See::Answers; count]
}

fn but(count: usize, at: usize, see: See) -> Vec<See> {
    let mut sees = all(count);
    sees[at] = see;
    sees
}

#[test]
fn two_observers_must_agree_if_there_are_two() {
    let mut ring = Ring::new(3, 2);
    ring.step(&[all(3), all(3)]);
    ring.step(&[but(3, 1, See::Suspects), all(3)]);
    assert!(!ring.is_down(1));
    ring.step(&[but(3, 1, See::Suspects), but(3, 1, See::Unsure)]);
    assert!(!ring.is_down(1));
    let verdict = ring.step(&[but(3, 1, See::Suspects), but(3, 1, See::Suspects)]);
    assert!(ring.is_down(1) && ring.state(1) == Standing::Down);
    assert_eq!(verdict.write.into_iter().collect::<Vec<_>>(), [name(1)]);
    assert_eq!(verdict.events, ["node n1 is down: refused"]);
}

#[test]
fn one_suffices_if_it_is_the_only_one_but_not_if_another_is_only_late() {
    let mut ring = Ring::new(3, 2);
    ring.step(&[all(3)]);
    ring.step_with(&[but(3, 1, See::Suspects)], 2, &Rules::default(), 1);
    assert!(!ring.is_down(1));
    ring.step(&[but(3, 1, See::Suspects)]);
    assert!(ring.is_down(1));
}

#[test]
fn a_node_is_up_again_when_it_has_answered_for_the_hold_time() {
    let mut ring = Ring::new(3, 2);
    ring.step(&[all(3)]);
    ring.step(&[but(3, 1, See::Suspects)]);
    ring.step(&[all(3)]);
    for _ in 0..4 {
        assert!(!ring.step(&[all(3)]).refill && ring.is_down(1));
    }
    let verdict = ring.step(&[all(3)]);
    assert!(verdict.refill && !ring.is_down(1));
    assert_eq!((ring.state(1), ring.incarnation(1)), (Standing::Up, 1));
    // Nothing more comes of it.
    assert!(!ring.step(&[all(3)]).is_news());
}

#[test]
fn going_up_and_down_makes_the_hold_longer() {
    let mut ring = Ring::new(3, 2);
    let mut holds = Vec::new();
    for _ in 0..9 {
        ring.step(&[but(3, 1, See::Suspects)]);
        let mut held = 0;
        ring.step(&[all(3)]);
        while ring.is_down(1) {
            held += 1;
            ring.step(&[all(3)]);
        }
        holds.push(held);
    }
    assert_eq!(holds, [5, 10, 20, 40, 80, 160, 300, 300, 300]);
    ring.now += 700;
    ring.step(&[but(3, 1, See::Suspects)]);
    assert_eq!(ring.records[&name(1)].flaps, 1);
}

#[test]
fn an_interrupted_hold_begins_anew() {
    let mut ring = Ring::new(3, 2);
    ring.step(&[but(3, 1, See::Suspects)]);
    for _ in 0..10 {
        for _ in 0..4 {
            ring.step(&[all(3)]);
        }
        ring.step(&[but(3, 1, See::Suspects)]);
        assert!(ring.is_down(1));
    }
}

#[test]
fn a_server_that_answers_is_never_down_and_never_out() {
    for condition in
        [Condition::Loading, Condition::ReadOnly, Condition::Full, Condition::CannotSave]
    {
        let mut ring = Ring::new(4, 2);
        ring.step(&[all(4)]);
        ring.condition[1] = condition;
        for _ in 0..2000 {
            ring.step(&[all(4)]);
        }
        assert_eq!((ring.is_down(1), ring.state(1)), (false, Standing::Up));
        assert_eq!(ring.records[&name(1)].condition, condition);
    }
}

#[test]
fn one_that_was_down_and_loads_its_data_is_not_up_before_it_has_them_and_not_out() {
    let mut ring = Ring::new(4, 2);
    ring.step(&[but(4, 1, See::Suspects)]);
    ring.condition[1] = Condition::Loading;
    for _ in 0..2000 {
        ring.step(&[all(4)]);
    }
    assert_eq!(ring.state(1), Standing::Down);
    ring.condition[1] = Condition::Good;
    for _ in 0..6 {
        ring.step(&[all(4)]);
    }
    assert_eq!(ring.state(1), Standing::Up);
}

#[test]
fn after_the_grace_time_it_is_out_and_when_it_returns_it_gets_its_weight() {
    let mut ring = Ring::new(4, 2);
    ring.step(&[all(4)]);
    let mut turns = Vec::new();
    for _ in 0..601 {
        assert!(turns.is_empty());
        turns = ring.step(&[but(4, 1, See::Suspects)]).turns;
    }
    assert_eq!(turns, [Turn::Out(name(1))]);
    assert!(ring.state(1) == Standing::Out && ring.is_down(1));
    assert!(ring.step(&[but(4, 1, See::Suspects)]).turns.is_empty());
    let mut turns = Vec::new();
    for _ in 0..6 {
        turns.extend(ring.step(&[all(4)]).turns);
    }
    assert_eq!(turns, [Turn::In { name: name(1), weight: 1 }]);
    ring.step(&[all(4)]);
    assert_eq!((ring.state(1), ring.incarnation(1), ring.is_down(1)), (Standing::Up, 1, false));
}

#[test]
fn no_more_than_a_quarter_is_out_without_a_person() {
    let mut ring = Ring::new(8, 2);
    let mut sees = all(8);
    for at in [1, 3, 5] {
        sees[at] = See::Suspects;
    }
    let mut events = Vec::new();
    for _ in 0..700 {
        events.extend(ring.step(&[sees.clone()]).events);
    }
    let states = [1, 3, 5].map(|at| ring.state(at));
    assert_eq!(states, [Standing::Out, Standing::Out, Standing::Down]);
    assert!(ring.records[&name(5)].needs_person);
    assert_eq!(events.iter().filter(|event| event.contains("a person must decide")).count(), 1);
}

#[test]
fn as_many_nodes_stay_as_there_are_copies() {
    let mut ring = Ring::new(2, 2);
    for _ in 0..700 {
        ring.step(&[but(2, 1, See::Suspects)]);
    }
    assert_eq!(ring.state(1), Standing::Down);
    assert!(ring.records[&name(1)].needs_person);
}

#[test]
fn a_clock_that_jumps_puts_nobody_out() {
    let mut ring = Ring::new(4, 2);
    ring.step(&[but(4, 1, See::Suspects)]);
    ring.now += 100_000;
    ring.step(&[but(4, 1, See::Suspects)]);
    assert_eq!(ring.state(1), Standing::Down);
    // Turned back, it holds nobody for long.
    ring.step(&[all(4)]);
    ring.now -= 200_000;
    ring.step(&[all(4)]);
    assert_eq!(ring.state(1), Standing::Up);
}

#[test]
fn a_restart_that_nobody_saw_is_noticed_by_the_process() {
    let mut ring = Ring::new(3, 2);
    ring.step(&[all(3)]);
    let before = ring.report(&all(3));
    ring.runs[1] = "another".into();
    assert!(ring.step(&[all(3)]).refill);
    assert_eq!(ring.incarnation(1), 1);
    // A late report of the process before is no news.
    assert_eq!(before.of(&name(1)).unwrap().answer.as_ref().unwrap().run_id, "run1");
    ring.runs[1] = "run1".into();
    assert!(!ring.step(&[all(3)]).refill);
    assert_eq!((ring.incarnation(1), ring.records[&name(1)].run_id.as_str()), (1, "another"));
}

#[test]
fn data_that_went_without_a_restart_are_noticed_by_the_mark() {
    let mut ring = Ring::new(3, 2);
    ring.step(&[all(3)]);
    assert_eq!(ring.marks[1], Some(1));
    ring.step(&[all(3)]);
    assert_eq!(ring.records[&name(1)].generation, 1);
    ring.marks[1] = None;
    let verdict = ring.step(&[all(3)]);
    assert_eq!(verdict.events, ["node n1 has lost its data; what it lacks is brought back"]);
    assert_eq!(ring.incarnation(1), 1);
    // It has got a new mark.
    assert!(!ring.step(&[all(3)]).refill);
    assert_eq!((ring.incarnation(1), ring.marks[1]), (1, Some(1)));
    ring.records.get_mut(&name(1)).unwrap().generation = 7;
    let verdict = ring.step(&[all(3)]);
    assert!(verdict.refill && verdict.events[0].contains("older data"));
}

#[test]
fn another_volumes_server_is_not_believed_and_not_taken_over() {
    let mut ring = Ring::new(3, 2);
    ring.step(&[all(3)]);
    ring.step(&[all(3)]);
    ring.condition[1] = Condition::Foreign;
    ring.marks[1] = Some(99);
    let verdict = ring.step(&[all(3)]);
    assert!(verdict.refill && verdict.events[0].contains("another volume"));
    for _ in 0..5 {
        let verdict = ring.step(&[all(3)]);
        assert!(!verdict.refill && verdict.marks.is_empty());
    }
    assert_eq!(ring.incarnation(1), 1);
}

#[test]
fn one_server_under_two_names_is_told() {
    let mut ring = Ring::new(3, 2);
    ring.runs[2] = "run0".into();
    ring.step(&[all(3)]);
    let cause = ring.records[&name(2)].cause.clone().unwrap();
    assert_eq!(cause, "it is the same server as n0: give each node a server of its own");
    ring.runs[2] = "run2".into();
    ring.step(&[all(3)]);
    assert_eq!(ring.records[&name(2)].cause, None);
}

#[test]
fn records_of_nodes_that_left_are_forgotten() {
    let mut ring = Ring::new(3, 2);
    ring.records.insert(name(9), NodeHealth::default());
    let verdict = ring.step(&[all(3)]);
    assert_eq!(verdict.forget.into_iter().collect::<Vec<_>>(), [name(9)]);
}

fn see() -> impl Strategy<Value = See> {
    prop_oneof![Just(See::Answers), Just(See::Suspects), Just(See::Unsure)]
}

proptest! {
    /// Whatever the observers see: what must never happen does not.
    #[test]
    fn the_promises_hold(
        count in 2usize..10, replicas in 1u8..4,
        script in prop::collection::vec(
            (prop::collection::vec(prop::collection::vec(see(), 10), 1..4), 1u64..400), 1..60),
    ) {
        let mut ring = Ring::new(count, replicas.min(count as u8));
        for (sees, seconds) in script {
            let before: Vec<(bool, u64)> = (0..count)
                .map(|at| (ring.is_down(at), ring.records.get(&name(at)).map_or(0, |r| r.incarnation)))
                .collect();
            let sees: Vec<Vec<See>> = sees.into_iter().map(|one| one[..count].to_vec()).collect();
            ring.step_with(&sees, sees.len(), &Rules::default(), seconds);
            for (at, (was_down, incarnation)) in before.into_iter().enumerate() {
                let suspects = sees.iter().filter(|one| one[at] == See::Suspects).count();
                if ring.is_down(at) && !was_down {
                    prop_assert!(suspects >= sees.len().min(2), "down on one word");
                }
                if !ring.is_down(at) && was_down {
                    prop_assert!(sees.iter().any(|one| one[at] == See::Answers));
                    prop_assert!(suspects < sees.len().min(2));
                    prop_assert_eq!(ring.incarnation(at), incarnation + 1);
                }
                prop_assert!(ring.incarnation(at) >= incarnation);
                prop_assert_eq!(ring.state(at) == Standing::Down, ring.is_down(at) && ring.weights[at] > 0);
            }
            let out = (0..count).filter(|at| ring.weights[*at] == 0).count();
            prop_assert!(out <= (count / 4).max(1), "more than a quarter is out");
            prop_assert!(count - out >= usize::from(ring.replicas));
        }
    }
}
