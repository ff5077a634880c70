//! Whether a history of concurrent operations is linearizable: is there one order of them, in
//! which each takes effect between its call and its return, that a sequential model allows?
//!
//! The search is that of Wing and Gong ("Testing and Verifying Concurrent Objects", 1993) with the
//! memory of configurations that Lowe added ("Testing for linearizability", 2017): a set of
//! operations done and the state they led to is tried once.

use std::collections::HashSet;
use std::hash::Hash;

/// A sequential model.
pub trait Sequential {
    /// All that later operations depend on.
    type State: Clone + Eq + Hash;
    /// An operation with what was seen of its outcome.
    type Operation;

    /// The states that the operation may lead to; none if its outcome cannot be had in this state.
    fn apply(state: &Self::State, operation: &Self::Operation) -> Vec<Self::State>;
}

/// An operation and when it ran, on one clock for all.
#[derive(Clone, Debug)]
pub struct Call<O> {
    /// What was done and seen.
    pub operation: O,
    /// Before it was called.
    pub called: u64,
    /// After it returned; `None` if nobody knows its outcome: it may have taken effect at any
    /// later time, or never.
    pub returned: Option<u64>,
}

struct Frame<S> {
    /// What may come next and has not been tried: a call and the state it leads to.
    next: Vec<(usize, S)>,
    /// The call that led here.
    by: Option<usize>,
}

/// Checks a history. On failure: the longest order that was found, as places in `calls`.
pub fn linearize<M: Sequential>(
    begin: M::State,
    calls: &[Call<M::Operation>],
) -> Result<Vec<usize>, Vec<usize>> {
    let mut order: Vec<usize> = (0..calls.len()).collect();
    order.sort_by_key(|place| calls[*place].called);
    let certain = calls.iter().filter(|call| call.returned.is_some()).count();
    let mut done = vec![0u64; calls.len().div_ceil(64)];
    let mut done_certain = 0;
    let mut seen: HashSet<(Vec<u64>, M::State)> = HashSet::new();
    let mut longest: Vec<usize> = Vec::new();
    let mut path: Vec<usize> = Vec::new();
    let mut stack = vec![Frame { next: next_steps::<M>(&begin, calls, &order, &done), by: None }];
    if certain == 0 {
        return Ok(path);
    }
    while let Some(frame) = stack.last_mut() {
        let Some((place, state)) = frame.next.pop() else {
            let by = frame.by;
            stack.pop();
            if let Some(place) = by {
                path.pop();
                done[place / 64] &= !(1 << (place % 64));
                done_certain -= usize::from(calls[place].returned.is_some());
            }
            continue;
        };
        done[place / 64] |= 1 << (place % 64);
        if !seen.insert((done.clone(), state.clone())) {
            done[place / 64] &= !(1 << (place % 64));
            continue;
        }
        done_certain += usize::from(calls[place].returned.is_some());
        path.push(place);
        if path.len() > longest.len() {
            longest.clone_from(&path);
        }
        if done_certain == certain {
            return Ok(path);
        }
        let next = next_steps::<M>(&state, calls, &order, &done);
        stack.push(Frame { next, by: Some(place) });
    }
    Err(longest)
}

/// Calls that may take effect next (not done, and called before any other one that is not done
/// returned) and what they lead to; the first to try is the last.
fn next_steps<M: Sequential>(
    state: &M::State,
    calls: &[Call<M::Operation>],
    order: &[usize],
    done: &[u64],
) -> Vec<(usize, M::State)> {
    let open = || order.iter().copied().filter(|place| done[place / 64] >> (place % 64) & 1 == 0);
    let first_return = open().filter_map(|place| calls[place].returned).min().unwrap_or(u64::MAX);
    let mut next: Vec<usize> =
        open().take_while(|place| calls[*place].called <= first_return).collect();
    // Those whose outcome is unknown are tried last.
    next.sort_by_key(|place| calls[*place].returned.is_none());
    let mut steps: Vec<(usize, M::State)> = next
        .into_iter()
        .flat_map(|place| {
            M::apply(state, &calls[place].operation).into_iter().map(move |after| (place, after))
        })
        .collect();
    steps.reverse();
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A register: `Write(v)`, `Read(v seen)`.
    struct Register;

    #[derive(Clone, Copy)]
    enum Op {
        Write(u8),
        Read(u8),
    }

    impl Sequential for Register {
        type State = u8;
        type Operation = Op;
        fn apply(state: &u8, operation: &Op) -> Vec<u8> {
            match operation {
                Op::Write(value) => vec![*value],
                Op::Read(seen) => (seen == state).then_some(*state).into_iter().collect(),
            }
        }
    }

    fn call(operation: Op, called: u64, returned: impl Into<Option<u64>>) -> Call<Op> {
        Call { operation, called, returned: returned.into() }
    }

    #[test]
    fn reads_during_a_write_may_see_either_value() {
        let calls = [
            call(Op::Write(1), 0, 10),
            call(Op::Read(0), 1, 3),
            call(Op::Read(1), 4, 6),
            call(Op::Read(1), 11, 12),
        ];
        assert_eq!(linearize::<Register>(0, &calls), Ok(vec![1, 0, 2, 3]));
    }

    #[test]
    fn a_value_that_comes_back_is_found_out() {
        let calls = [call(Op::Write(1), 0, 10), call(Op::Read(1), 1, 3), call(Op::Read(0), 4, 6)];
        assert!(linearize::<Register>(0, &calls).is_err());
    }

    #[test]
    fn a_write_must_be_seen_once_it_has_returned() {
        let calls = [call(Op::Write(1), 0, 2), call(Op::Read(0), 3, 4)];
        assert!(linearize::<Register>(0, &calls).is_err());
    }

    #[test]
    fn an_unknown_outcome_may_come_late_or_never() {
        let late = [call(Op::Write(1), 0, None), call(Op::Read(0), 5, 6), call(Op::Read(1), 7, 8)];
        assert!(linearize::<Register>(0, &late).is_ok());
        let never = [call(Op::Write(1), 0, None), call(Op::Read(0), 5, 6)];
        assert!(linearize::<Register>(0, &never).is_ok());
        let twice = [call(Op::Write(1), 0, None), call(Op::Read(1), 5, 6), call(Op::Read(0), 7, 8)];
        assert!(linearize::<Register>(0, &twice).is_err());
    }
}
