//! How the end of a reload is told, and who waits for it.
//!
//! A reload that is asked for while another one rolls is carried out after it, and one that is asked for
//! while the canary boots takes its place. So a question waits for the end of the first reload that has
//! read the configuration after it came, and not for whatever ends next.

use super::{Answer, QuestionId};
use crate::supervisor::ReloadOutcome;

/// Questions that may wait at once. The rest of the connections stay for those who look.
pub const MOST_WAITING: usize = 16;

/// How an outcome is written.
pub const fn word(outcome: ReloadOutcome) -> &'static str {
    match outcome {
        ReloadOutcome::Done => "done",
        ReloadOutcome::Misconfigured => "misconfigured",
        ReloadOutcome::CanaryFailed => "canary-failed",
        ReloadOutcome::Halted => "halted",
        ReloadOutcome::Abandoned => "abandoned",
    }
}

/// What it means for the server.
const fn meaning(outcome: ReloadOutcome) -> &'static str {
    match outcome {
        ReloadOutcome::Done => "all workers are new",
        ReloadOutcome::Misconfigured => "the new configuration cannot be used; nothing was changed",
        ReloadOutcome::CanaryFailed => {
            "the first new worker did not boot, or did not live; nothing was changed"
        }
        ReloadOutcome::Halted => "new workers died; all that serve are of the old generation again",
        ReloadOutcome::Abandoned => "the server stops or rests",
    }
}

/// The answer to who has waited: `done`, or 409 with the outcome in the first line and the report below.
pub fn answer(outcome: ReloadOutcome, report: Option<&str>) -> Answer {
    match outcome {
        ReloadOutcome::Done => Answer::plain(200, "done\n"),
        ReloadOutcome::Misconfigured
        | ReloadOutcome::CanaryFailed
        | ReloadOutcome::Halted
        | ReloadOutcome::Abandoned => {
            let report = report.map(str::trim_end).filter(|report| !report.is_empty());
            let report = report.map(|report| format!("{report}\n")).unwrap_or_default();
            Answer::plain(409, &format!("{}: {}\n{report}", word(outcome), meaning(outcome)))
        }
    }
}

/// Questions that are answered when their reload ends.
#[derive(Debug, Default)]
pub struct Waiting {
    questions: Vec<(QuestionId, Turn)>,
}

/// Whether the reload of a question has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// Another one may be under way.
    ToCome,
    /// It is under way.
    Begun,
}

impl Waiting {
    /// Takes in a question, in the moment that its reload is wished for.
    ///
    /// Errors: the answer for one too many; ask [`Waiting::forget`] before.
    pub fn join(&mut self, id: QuestionId) -> Result<(), Answer> {
        if self.questions.len() >= MOST_WAITING {
            let words = format!("refused: {MOST_WAITING} others wait for a reload already\n");
            return Err(Answer::plain(503, &words));
        }
        self.questions.push((id, Turn::ToCome));
        Ok(())
    }

    /// Drops those whose peers have gone.
    pub fn forget(&mut self, is_waiting: impl Fn(QuestionId) -> bool) {
        self.questions.retain(|(id, _)| is_waiting(*id));
    }

    /// A reload reads the configuration: it is what all have asked for by now.
    pub fn begin(&mut self) {
        for (_, turn) in &mut self.questions {
            *turn = Turn::Begun;
        }
    }

    /// A reload has ended: those who are to be told. Those whose reload has not begun go on waiting,
    /// unless there is none to come.
    pub fn end(&mut self, outcome: ReloadOutcome) -> Vec<QuestionId> {
        let is_told = |turn: Turn| match (outcome, turn) {
            (ReloadOutcome::Abandoned, Turn::ToCome | Turn::Begun) | (_, Turn::Begun) => true,
            (_, Turn::ToCome) => false,
        };
        let told = self.questions.iter().filter(|(_, turn)| is_told(*turn)).map(|(id, _)| *id);
        let told = told.collect();
        self.questions.retain(|(_, turn)| !is_told(*turn));
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: QuestionId = QuestionId(1);
    const B: QuestionId = QuestionId(2);

    #[test]
    fn the_end_is_told_with_its_outcome_and_the_report() {
        assert_eq!(answer(ReloadOutcome::Done, None), Answer::plain(200, "done\n"));
        let failed = answer(ReloadOutcome::CanaryFailed, Some("Traceback:\n  x\n\n"));
        assert_eq!(failed.status, 409);
        let (first, report) = failed.body.split_once('\n').unwrap();
        assert!(first.starts_with("canary-failed: "), "{first}");
        assert_eq!(report, "Traceback:\n  x\n");
        for outcome in
            [ReloadOutcome::Misconfigured, ReloadOutcome::Halted, ReloadOutcome::Abandoned]
        {
            let answer = answer(outcome, Some(""));
            assert_eq!((answer.status, answer.body.lines().count()), (409, 1), "{outcome:?}");
        }
    }

    #[test]
    fn who_asks_waits_for_the_end_of_the_next_reload_that_begins() {
        let mut waiting = Waiting::default();
        waiting.join(A).unwrap();
        waiting.begin();
        waiting.join(B).unwrap();
        assert_eq!(waiting.end(ReloadOutcome::Halted), [A]);
        waiting.begin();
        assert_eq!(waiting.end(ReloadOutcome::Done), [B]);
        assert_eq!(waiting.end(ReloadOutcome::Done), []);
    }

    #[test]
    fn a_reload_that_takes_the_place_of_another_is_the_one_of_both() {
        let mut waiting = Waiting::default();
        waiting.join(A).unwrap();
        waiting.begin();
        waiting.join(B).unwrap();
        waiting.begin();
        assert_eq!(waiting.end(ReloadOutcome::Done), [A, B]);
    }

    #[test]
    fn nobody_waits_for_a_reload_that_will_not_come() {
        let mut waiting = Waiting::default();
        waiting.join(A).unwrap();
        waiting.begin();
        waiting.join(B).unwrap();
        assert_eq!(waiting.end(ReloadOutcome::Abandoned), [A, B]);
    }

    #[test]
    fn so_many_may_wait_and_those_who_have_gone_do_not_count() {
        let mut waiting = Waiting::default();
        for id in 0..MOST_WAITING as u64 {
            waiting.join(QuestionId(id)).unwrap();
        }
        assert_eq!(waiting.join(QuestionId(99)).unwrap_err().status, 503);
        waiting.forget(|id| id != QuestionId(3));
        waiting.join(QuestionId(99)).unwrap();
        waiting.begin();
        let told = waiting.end(ReloadOutcome::Done);
        assert_eq!(told.len(), MOST_WAITING);
        assert!(told.contains(&QuestionId(99)) && !told.contains(&QuestionId(3)));
    }
}
