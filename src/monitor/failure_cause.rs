//! The cause for which a server gives up. Its last log line says not only that no worker could boot, but also what
//! happened to one of them.

use std::time::Duration;

use crate::supervisor::slot::ExitStatus;

/// A process that could not boot or that died.
pub(super) struct Failure {
    who: String,
    what: What,
}

enum What {
    /// The process reported the reason, which is more exact than any exit status. The report is in the log.
    Reported { report: String },
    /// The supervisor observed this end of the process.
    Observed { cause: String },
    /// The process was not ready within the boot timeout.
    Late,
}

impl Failure {
    pub(super) fn reported(who: String, report: String) -> Self {
        Self { who, what: What::Reported { report } }
    }

    pub(super) fn observed(who: String, cause: String) -> Self {
        Self { who, what: What::Observed { cause } }
    }

    pub(super) fn late(who: String) -> Self {
        Self { who, what: What::Late }
    }
}

/// The failure that the last log line of the server names, and the last report.
#[derive(Debug, Default)]
pub(super) struct FailureCause {
    cause: Option<Cause>,
    /// The report of the process that last failed to boot.
    report: Option<String>,
}

#[derive(Debug)]
struct Cause {
    who: String,
    what: String,
}

impl FailureCause {
    pub(super) fn take(&mut self) -> Option<String> {
        self.cause.take().map(|cause| cause.what)
    }

    pub(super) fn take_report(&mut self) -> Option<String> {
        self.report.take()
    }

    pub(super) fn set_report(&mut self, report: Option<String>) {
        self.report = report;
    }

    /// Records a failure. `boot` is the boot timeout.
    pub(super) fn record(&mut self, failure: Failure, has_served: bool, boot: Duration) {
        let Failure { who, what } = failure;
        match what {
            What::Reported { report } => {
                let cause = format!("{who} has failed, as its report above says");
                self.quote(has_served, &who, cause);
                self.report = Some(report);
            }
            What::Observed { cause } => self.note(has_served, &who, cause),
            What::Late => {
                let cause = late(&who, boot);
                self.note(has_served, &who, cause);
            }
        }
    }

    /// At the first start the first failure counts, because the other workers are stopped for it; later the last
    /// one counts. An earlier cause of the same process is more exact, and stays.
    fn note(&mut self, has_served: bool, who: &str, what: String) {
        let is_news = match &self.cause {
            None => true,
            Some(before) => has_served && before.who != who,
        };
        if is_news {
            self.cause = Some(Cause { who: who.to_owned(), what });
        }
    }

    /// Like [`Self::note`], for a process that reported the reason.
    fn quote(&mut self, has_served: bool, who: &str, what: String) {
        self.cause.take_if(|before| before.who == who);
        self.note(has_served, who, what);
    }
}

/// Describes the end of a process that exited before it had loaded the application, without a message.
pub(super) fn not_booted(who: &str, status: ExitStatus) -> String {
    match status {
        ExitStatus::Code(_) => {
            format!("{who} ended with {status} before it was ready, without a message")
        }
        ExitStatus::Signal(_) => format!("{who} was killed by {status} before it was ready"),
    }
}

/// Describes a process that was not ready in time.
fn late(who: &str, boot: Duration) -> String {
    format!("{who} was not ready within --boot-timeout ({} s)", boot.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_reports_nothing_is_described_by_its_exit_status() {
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
            let mut cause = FailureCause::default();
            cause.note(has_served, "w0", "one".to_owned());
            cause.note(has_served, "w0", "it was killed for that".to_owned());
            cause.note(has_served, "w1", "two".to_owned());
            assert_eq!(cause.take().as_deref(), Some(expected));
        }
    }

    #[test]
    fn a_report_replaces_the_exit_status_of_the_same_process() {
        let mut cause = FailureCause::default();
        cause.note(false, "w0", "status".to_owned());
        cause.quote(false, "w0", "its report".to_owned());
        cause.quote(false, "w1", "another report".to_owned());
        assert_eq!(cause.take().as_deref(), Some("its report"));
    }
}
