//! The response to a reload, and the clients that wait for its end.
//!
//! A reload that is requested while another one is rolling runs after it, and one that is requested while the canary
//! boots replaces it. A client therefore waits for the end of the first reload that reads the configuration after
//! its request, and not for the next end of any reload.

use super::{AdminResponse, RequestId};
use crate::supervisor::ReloadOutcome;

/// Maximum clients that wait at once. The other connections remain for requests that only look.
pub const MAX_WAITERS: usize = 16;

/// The response to a client that has waited: `done`, or 409 with the outcome in the first line and the report below.
pub fn response(outcome: ReloadOutcome, report: Option<&str>) -> AdminResponse {
    match outcome {
        ReloadOutcome::Done => AdminResponse::plain(200, "done\n"),
        ReloadOutcome::Misconfigured
        | ReloadOutcome::CanaryFailed
        | ReloadOutcome::Halted
        | ReloadOutcome::Abandoned => {
            let report = report.map(str::trim_end).filter(|report| !report.is_empty());
            let report = report.map(|report| format!("{report}\n")).unwrap_or_default();
            AdminResponse::plain(
                409,
                &format!("{}: {}\n{report}", outcome.name(), outcome.meaning()),
            )
        }
    }
}

/// The requests that are answered when their reload ends.
#[derive(Debug, Default)]
pub struct ReloadWaiters {
    requests: Vec<(RequestId, Turn)>,
}

/// Whether the reload of a request has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// It has not begun; another reload may be running.
    Pending,
    /// It is running.
    Running,
}

impl ReloadWaiters {
    /// Adds a request at the moment when its reload is requested. Call [`ReloadWaiters::retain`] first.
    ///
    /// Errors: the response to one request too many.
    pub fn join(&mut self, id: RequestId) -> Result<(), AdminResponse> {
        if self.requests.len() >= MAX_WAITERS {
            let text = format!("refused: {MAX_WAITERS} clients already wait for a reload\n");
            return Err(AdminResponse::plain(503, &text));
        }
        self.requests.push((id, Turn::Pending));
        Ok(())
    }

    /// Drops the requests whose clients no longer wait.
    pub fn retain(&mut self, is_waiting: impl Fn(RequestId) -> bool) {
        self.requests.retain(|(id, _)| is_waiting(*id));
    }

    /// Takes note that a reload reads the configuration. All requests so far wait for this reload.
    pub fn begin(&mut self) {
        for (_, turn) in &mut self.requests {
            *turn = Turn::Running;
        }
    }

    /// Takes note that a reload has ended, and returns the requests to answer. Requests whose reload has not begun
    /// keep waiting, unless no further reload follows.
    pub fn end(&mut self, outcome: ReloadOutcome) -> Vec<RequestId> {
        let is_over = |turn: Turn| match (outcome, turn) {
            (ReloadOutcome::Abandoned, Turn::Pending | Turn::Running) | (_, Turn::Running) => true,
            (_, Turn::Pending) => false,
        };
        let over = self.requests.iter().filter(|(_, turn)| is_over(*turn)).map(|(id, _)| *id);
        let over = over.collect();
        self.requests.retain(|(_, turn)| !is_over(*turn));
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: RequestId = RequestId(1);
    const B: RequestId = RequestId(2);

    #[test]
    fn the_response_has_the_outcome_and_the_report() {
        assert_eq!(response(ReloadOutcome::Done, None), AdminResponse::plain(200, "done\n"));
        let failed = response(ReloadOutcome::CanaryFailed, Some("Traceback:\n  x\n\n"));
        assert_eq!(failed.status, 409);
        let (first, report) = failed.body.split_once('\n').unwrap();
        assert!(first.starts_with("canary-failed: "), "{first}");
        assert_eq!(report, "Traceback:\n  x\n");
        for outcome in
            [ReloadOutcome::Misconfigured, ReloadOutcome::Halted, ReloadOutcome::Abandoned]
        {
            let response = response(outcome, Some(""));
            assert_eq!((response.status, response.body.lines().count()), (409, 1), "{outcome:?}");
        }
    }

    #[test]
    fn a_request_waits_for_the_end_of_the_next_reload_that_begins() {
        let mut waiting = ReloadWaiters::default();
        waiting.join(A).unwrap();
        waiting.begin();
        waiting.join(B).unwrap();
        assert_eq!(waiting.end(ReloadOutcome::Halted), [A]);
        waiting.begin();
        assert_eq!(waiting.end(ReloadOutcome::Done), [B]);
        assert_eq!(waiting.end(ReloadOutcome::Done), []);
    }

    #[test]
    fn a_reload_that_replaces_another_answers_the_requests_of_both() {
        let mut waiting = ReloadWaiters::default();
        waiting.join(A).unwrap();
        waiting.begin();
        waiting.join(B).unwrap();
        waiting.begin();
        assert_eq!(waiting.end(ReloadOutcome::Done), [A, B]);
    }

    #[test]
    fn no_request_waits_for_a_reload_that_never_begins() {
        let mut waiting = ReloadWaiters::default();
        waiting.join(A).unwrap();
        waiting.begin();
        waiting.join(B).unwrap();
        assert_eq!(waiting.end(ReloadOutcome::Abandoned), [A, B]);
    }

    #[test]
    fn the_number_of_waiting_clients_is_limited_without_those_gone() {
        let mut waiting = ReloadWaiters::default();
        for id in 0..MAX_WAITERS as u64 {
            waiting.join(RequestId(id)).unwrap();
        }
        assert_eq!(waiting.join(RequestId(99)).unwrap_err().status, 503);
        waiting.retain(|id| id != RequestId(3));
        waiting.join(RequestId(99)).unwrap();
        waiting.begin();
        let over = waiting.end(ReloadOutcome::Done);
        assert_eq!(over.len(), MAX_WAITERS);
        assert!(over.contains(&RequestId(99)) && !over.contains(&RequestId(3)));
    }
}
