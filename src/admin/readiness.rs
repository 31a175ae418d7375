//! What `/readyz` requires of a server that serves: enough ready workers (`--ready-min-workers`), and an accept queue
//! that is not saturated (`--ready-max-backlog`). Pure.
//!
//! | queue | a probe finds | next |
//! |---|---|---|
//! | Open | more connections than the maximum | Saturated |
//! | Saturated | at most half of the maximum | Open |
//!
//! Between half of the maximum and the maximum, the queue stays what it was. Otherwise a server at its limit would
//! change its answer from probe to probe, and a load balancer would move the load back and forth.

use crate::config::Readiness;

/// Whether the accept queue was saturated at the last probe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QueueState {
    /// It was not.
    #[default]
    Open,
    /// It was, with this many connections at the last probe.
    Saturated {
        /// The length at the last probe.
        len: u32,
    },
}

impl QueueState {
    /// The state after a probe that finds a queue of this length.
    fn observed(self, len: u32, max: u32) -> Self {
        let stays = matches!(self, Self::Saturated { .. }) && len > max / 2;
        if len > max || stays { Self::Saturated { len } } else { Self::Open }
    }
}

/// What a probe finds.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// The wanted number of workers.
    pub target: u16,
    /// The number of ready workers.
    pub ready: u16,
    /// The connections in the accept queues of all TCP listeners; `None` without such a listener.
    pub backlog: Option<u32>,
}

/// The reasons why a server that serves is not ready, if there are any, one per line. Updates the state of the queue.
pub fn unmet(limits: Readiness, found: Found, queue: &mut QueueState) -> Vec<String> {
    let mut reasons = Vec::new();
    let Found { target, ready, backlog } = found;
    // An operator who has asked for fewer workers (TTOU, `arctos ctl scale`) has not asked for an outage.
    let required = limits.min_workers.min(target).max(1);
    if ready == 0 {
        reasons.push("no worker is ready".to_owned());
    } else if ready < required {
        reasons.push(format!("too few workers are ready: {ready} of at least {required}"));
    }
    *queue = match (limits.max_backlog, backlog) {
        (Some(max), Some(len)) => queue.observed(len, max),
        (Some(_) | None, _) => QueueState::Open,
    };
    if let (QueueState::Saturated { len }, Some(max)) = (*queue, limits.max_backlog) {
        reasons.push(match len > max {
            true => format!("too many connections wait: {len} of at most {max}"),
            false => format!("too many connections wait: {len}, ready again at {}", max / 2),
        });
    }
    reasons
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Readiness = Readiness { max_backlog: Some(10), min_workers: 2 };

    fn found(ready: u16, backlog: u32) -> Found {
        Found { target: 4, ready, backlog: Some(backlog) }
    }

    #[test]
    fn a_saturated_queue_is_open_again_only_at_half_of_the_maximum() {
        let mut queue = QueueState::Open;
        let mut probe = |backlog| unmet(LIMITS, found(4, backlog), &mut queue).join("");
        assert_eq!(probe(10), "");
        assert_eq!(probe(11), "too many connections wait: 11 of at most 10");
        assert_eq!(probe(10), "too many connections wait: 10, ready again at 5");
        assert_eq!(probe(6), "too many connections wait: 6, ready again at 5");
        assert_eq!(probe(5), "");
        assert_eq!(probe(6), "");
    }

    #[test]
    fn a_maximum_of_one_is_reached_and_left() {
        let limits = Readiness { max_backlog: Some(1), min_workers: 1 };
        let mut queue = QueueState::Open;
        let mut is_ready = |backlog| unmet(limits, found(1, backlog), &mut queue).is_empty();
        assert_eq!([1, 2, 1, 0, 1].map(&mut is_ready), [true, false, false, true, true]);
    }

    #[test]
    fn without_a_limit_or_a_queue_the_backlog_does_not_matter() {
        let mut queue = QueueState::Saturated { len: 9 };
        let limits = Readiness { max_backlog: None, ..LIMITS };
        assert_eq!(unmet(limits, found(4, u32::MAX), &mut queue), [""; 0]);
        let without = Found { backlog: None, ..found(4, 0) };
        assert_eq!(unmet(LIMITS, without, &mut queue), [""; 0]);
        assert_eq!(queue, QueueState::Open);
    }

    #[test]
    fn as_many_workers_as_wanted_are_enough() {
        let reason = |target, ready| {
            let found = Found { target, ready, backlog: None };
            unmet(LIMITS, found, &mut QueueState::Open).join("")
        };
        assert_eq!(reason(4, 2), "");
        assert_eq!(reason(4, 1), "too few workers are ready: 1 of at least 2");
        assert_eq!(reason(1, 1), "", "the operator wants one worker");
        assert_eq!(reason(4, 0), "no worker is ready");
        assert_eq!(reason(0, 0), "no worker is ready");
    }
}
