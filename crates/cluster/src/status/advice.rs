//! The state of a volume in one sentence, and what a person should do, if anything. Pure.

use super::{NodeReport, NodeState, VolumeStatus};
use crate::health::{Condition, Standing};
use crate::workers::WorkerState;

/// Whether all is well.
pub(super) fn headline(status: &VolumeStatus) -> String {
    let total = status.nodes.len();
    let count = |wanted: &dyn Fn(&NodeReport) -> bool| {
        status.nodes.iter().filter(|node| wanted(node)).count()
    };
    let down = count(&|node| is_down(node));
    let out = count(&|node| node.standing() == Standing::Out);
    if !status.unreadable.is_empty() || down >= usize::from(status.replicas) && down > 0 {
        return match down {
            0 => "degraded: some files cannot be read".to_owned(),
            _ => format!("degraded: {down} of {total} nodes down; some files cannot be read"),
        };
    }
    if down > 0 {
        return format!(
            "degraded: {down} of {total} nodes down; all files can be read and written"
        );
    }
    if out > 0 && status.moving.is_some() {
        return format!(
            "degraded: {out} of {total} nodes out; what {} had is made anew on the others",
            if out == 1 { "it" } else { "they" }
        );
    }
    let refilling = count(&|node| node.refilling);
    if refilling > 0 {
        return format!("degraded: {refilling} of {total} nodes came back and get what they lack");
    }
    match (status.moving.is_some(), out) {
        (true, _) => "all nodes are up; blocks are being moved".to_owned(),
        (false, 0) => "all nodes are up".to_owned(),
        (false, _) => format!("sound: {out} of {total} nodes out, the others have all blocks"),
    }
}

/// It is not out, and does not do its work.
fn is_down(node: &NodeReport) -> bool {
    match node.standing() {
        Standing::Up => node.state == NodeState::Down,
        Standing::Down => true,
        Standing::Out => false,
    }
}

/// What a person should do, the most urgent first.
pub(super) fn advice(status: &VolumeStatus) -> Vec<String> {
    let mut advice = Vec::new();
    let names = |wanted: &dyn Fn(&NodeReport) -> bool| -> Vec<&str> {
        let nodes = status.nodes.iter().filter(|node| wanted(node));
        nodes.map(|node| node.name.as_str()).collect()
    };
    // One that answers again needs nobody.
    let down = names(&|node| is_down(node) && node.state == NodeState::Down);
    let back = names(&|node| node.state != NodeState::Down && (is_down(node) || node.refilling));
    let needs_person = names(&|node| node.health.as_ref().is_some_and(|h| h.needs_person));
    let unreadable = status.unreadable.len();
    if unreadable > 0 {
        let files = if unreadable == 1 { "1 file" } else { &format!("{unreadable} files") };
        advice.push(match (&down[..], &back[..]) {
            ([_, ..], _) => {
                format!("start {} again: {files} cannot be read until then", listed("node", &down))
            }
            ([], [_, ..]) => format!(
                "wait: {} came back and is looked through; {files} cannot be read yet",
                listed("node", &back)
            ),
            ([], []) => format!(
                "{files} cannot be read: restore from a backup what `ringfs fsck` calls lost"
            ),
        });
    } else if !needs_person.is_empty() {
        advice.push(format!(
            "start {} again: so many nodes are gone that none is given up without you; if one will \
             never come back, `ringfs node remove`",
            listed("node", &needs_person)
        ));
    } else if !down.is_empty() {
        advice.push(format!(
            "start {} again; after the grace time the others take over what {} had",
            listed("node", &down),
            if down.len() == 1 { "it" } else { "they" }
        ));
    }
    for node in &status.nodes {
        let condition = node.health.as_ref().map_or(Condition::Good, |health| health.condition);
        let name = &node.name;
        match condition {
            _ if node.state == NodeState::Down => {}
            Condition::Good | Condition::Loading => {}
            Condition::Full => advice.push(format!(
                "make room: node {name} has no memory left; add a node (`ringfs node add`), \
                 raise its maxmemory, or delete files"
            )),
            Condition::ReadOnly => advice.push(format!(
                "node {name} is a replica and takes no writes: make it a master, or put the \
                 master's address in its place"
            )),
            Condition::CannotSave => {
                advice.push(format!("look at the disk of node {name}: it cannot save its data"));
            }
            Condition::Foreign => advice.push(format!(
                "node {name} serves another volume of the same name: correct its address, or empty \
                 it"
            )),
        }
    }
    let out = names(&|node| node.standing() == Standing::Out);
    if !out.is_empty() {
        let it = if out.len() == 1 { "it takes" } else { "they take" };
        advice.push(format!(
            "start {} again, and {it} part again by {}; or `ringfs node remove`",
            listed("node", &out),
            if out.len() == 1 { "itself" } else { "themselves" }
        ));
    }
    for worker in &status.workers {
        if worker.status.state == WorkerState::Failed && !worker.asleep {
            let error = worker.status.error.as_deref().unwrap_or("it did not say why");
            advice.push(format!("worker {} failed and tries again: {error}", worker.name));
        }
    }
    if status.coordinator.is_none() && (status.is_degraded() || status.moving.is_some()) {
        advice.push(
            "nobody mends the volume now: mount it somewhere, or run `ringfs agent`".to_owned(),
        );
    }
    advice
}

/// `node a`, `nodes a and b`.
fn listed(what: &str, names: &[&str]) -> String {
    match names {
        [] => format!("{what}s"),
        [one] => format!("{what} {one}"),
        [most @ .., last] => format!("{what}s {} and {last}", most.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::NodeHealth;
    use crate::status::{MoveReport, UnreadableFile};

    fn node(name: &str, state: NodeState, standing: Standing) -> NodeReport {
        NodeReport {
            name: name.to_owned(),
            address: String::new(),
            state,
            cause: None,
            marked_down: false,
            health: Some(NodeHealth { state: standing, ..NodeHealth::default() }),
            refilling: false,
            memory_used: None,
            memory_max: None,
            copies_share: None,
            primaries_share: None,
            version: None,
            uptime_seconds: None,
            latency_us: None,
        }
    }

    fn volume(nodes: Vec<NodeReport>) -> VolumeStatus {
        VolumeStatus {
            volume: "demo".to_owned(),
            uuid: String::new(),
            replicas: 2,
            durability: "memory".to_owned(),
            state: String::new(),
            advice: Vec::new(),
            epoch: 1,
            arcs: 256,
            former_tables: 0,
            moving: None,
            coordinator: None,
            workers: Vec::new(),
            scrub: Default::default(),
            gc: Default::default(),
            compaction: Default::default(),
            unreadable: Vec::new(),
            inodes: 1,
            inodes_max: 0,
            bytes: 0,
            bytes_max: 0,
            orphans: 0,
            sessions: Vec::new(),
            metadata: node("metadata", NodeState::Up, Standing::Up),
            nodes,
        }
    }

    fn three(last: NodeState, standing: Standing) -> VolumeStatus {
        let up = |name| node(name, NodeState::Up, Standing::Up);
        volume(vec![up("a"), up("b"), node("c", last, standing)])
    }

    #[test]
    fn the_state_says_what_matters_most_and_the_advice_what_to_do() {
        let told = |status: &VolumeStatus| (headline(status), advice(status).join("; "));
        let well = three(NodeState::Up, Standing::Up);
        assert_eq!(told(&well), ("all nodes are up".to_owned(), String::new()));

        let mut down = three(NodeState::Down, Standing::Down);
        let (state, todo) = told(&down);
        assert_eq!(state, "degraded: 1 of 3 nodes down; all files can be read and written");
        assert!(todo.starts_with("start node c again; after the grace time"), "{todo}");
        down.nodes[1].state = NodeState::Down;
        assert_eq!(told(&down).0, "degraded: 2 of 3 nodes down; some files cannot be read");
        down.unreadable.push(UnreadableFile::default());
        let (_, todo) = told(&down);
        assert!(todo.starts_with("start nodes b and c again: 1 file cannot be read"), "{todo}");
        down.nodes[1].state = NodeState::Up;
        down.nodes[2].state = NodeState::Up;
        assert!(told(&down).1.starts_with("wait: node c came back"), "{}", told(&down).1);
        down.nodes[2].health = None;
        assert!(told(&down).1.starts_with("1 file cannot be read: restore"), "{}", told(&down).1);

        let mut out = three(NodeState::Down, Standing::Out);
        let (state, todo) = told(&out);
        assert_eq!(state, "sound: 1 of 3 nodes out, the others have all blocks");
        assert!(todo.contains("takes part again by itself") && !out.is_degraded(), "{todo}");
        out.moving = Some(MoveReport::default());
        assert!(out.is_degraded());
        assert_eq!(
            told(&out).0,
            "degraded: 1 of 3 nodes out; what it had is made anew on the others"
        );

        let mut back = three(NodeState::Up, Standing::Up);
        back.nodes[2].refilling = true;
        assert!(back.is_degraded() && told(&back).0.contains("came back"));
        let mut full = three(NodeState::Up, Standing::Up);
        full.nodes[0].health.as_mut().unwrap().condition = Condition::Full;
        assert!(told(&full).1.starts_with("make room: node a"));
    }

    #[test]
    fn names_are_listed_as_people_do() {
        assert_eq!(listed("node", &["a"]), "node a");
        assert_eq!(listed("node", &["a", "b", "c"]), "nodes a, b and c");
    }
}
