//! What the last line of a server says that gives up: not only that no worker could boot, but what became of
//! it.

use std::time::Duration;

use arctos_worker::shared::scoreboard::ServerState;

use super::Monitor;
use crate::supervisor::slot::ExitStatus;

/// What became of the workers that there are not.
#[derive(Debug, Default)]
pub(super) struct Blame(Option<Failure>);

#[derive(Debug)]
struct Failure {
    who: String,
    what: String,
}

impl Blame {
    pub(super) fn take(&mut self) -> Option<String> {
        self.0.take().map(|failure| failure.what)
    }

    /// Somebody could not boot, or died. At the first start it is the first one that counts: the others are
    /// sent away because of it. Later the last one. What was said of the same one before was more exact.
    fn note(&mut self, has_served: bool, who: &str, what: String) {
        let is_news = match &self.0 {
            None => true,
            Some(before) => has_served && before.who != who,
        };
        if is_news {
            self.0 = Some(Failure { who: who.to_owned(), what });
        }
    }

    /// The same where it has said why, which is better than any status.
    fn quote(&mut self, has_served: bool, who: &str, what: String) {
        self.0.take_if(|before| before.who == who);
        self.note(has_served, who, what);
    }
}

impl Monitor<'_> {
    /// Somebody could not boot, or died.
    pub(super) fn blame(&mut self, who: &str, what: String) {
        let has_served = self.scoreboard.header().state() == ServerState::Serving;
        self.blame.note(has_served, who, what);
    }

    /// Somebody could not boot, and has said why. That stands in the log, and is not said again.
    pub(super) fn blame_by_report(&mut self, who: &str) {
        let what = format!("{who} has failed, as its report above says");
        let has_served = self.scoreboard.header().state() == ServerState::Serving;
        self.blame.quote(has_served, who, what);
    }
}

/// What became of somebody who ended before the application was loaded, without a word.
pub(super) fn not_booted(who: &str, status: ExitStatus) -> String {
    match status {
        ExitStatus::Code(_) => {
            format!("{who} ended with {status} before it was ready, without a message")
        }
        ExitStatus::Signal(_) => format!("{who} was killed by {status} before it was ready"),
    }
}

/// What became of somebody who took longer for it than allowed.
pub(super) fn late(who: &str, boot: Duration) -> String {
    format!("{who} was not ready within --boot-timeout ({} s)", boot.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_without_a_word_is_told_by_its_status() {
        assert_eq!(
            not_booted("worker 0 (pid 7)", ExitStatus::Code(7)),
            "worker 0 (pid 7) ended with exit code 7 before it was ready, without a message"
        );
        assert_eq!(
            not_booted("worker 0 (pid 7)", ExitStatus::Signal(11)),
            "worker 0 (pid 7) was killed by SIGSEGV before it was ready"
        );
        assert_eq!(
            late("worker 0 (pid 7)", Duration::from_millis(1500)),
            "worker 0 (pid 7) was not ready within --boot-timeout (1.5 s)"
        );
    }

    #[test]
    fn the_first_failure_of_a_start_counts_and_later_the_last_one() {
        for (has_served, expected) in [(false, "one"), (true, "two")] {
            let mut blame = Blame::default();
            blame.note(has_served, "w0", "one".to_owned());
            blame.note(has_served, "w0", "it was killed for that".to_owned());
            blame.note(has_served, "w1", "two".to_owned());
            assert_eq!(blame.take().as_deref(), Some(expected));
        }
    }

    #[test]
    fn its_own_words_are_better_than_its_status() {
        let mut blame = Blame::default();
        blame.note(false, "w0", "status".to_owned());
        blame.quote(false, "w0", "its report".to_owned());
        blame.quote(false, "w1", "another report".to_owned());
        assert_eq!(blame.take().as_deref(), Some("its report"));
    }
}
