//! The line to the supervisor, when it has ended: is the supervisor gone, or only the line?
//!
//! | state | event | next |
//! |---|---|---|
//! | Held | end of file | Cut |
//! | Cut | the supervisor is found gone | Over, [`Finding::Orphaned`] |
//! | Cut | its worker still has another parent after [`PATIENCE`] | Over, [`Finding::Orphaned`] |
//! | Cut | it still lives after [`PATIENCE`] | Over, [`Finding::Disconnected`] |
//!
//! Pure: the time comes in.

use std::time::{Duration, Instant};

use crate::process::supervisor_process::Presence;

/// How long after the end of its line a supervisor may still be seen. The kernel closes the files of a process
/// before it says that the process has ended, and a machine under load may come to the second a little later.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often it is looked for meanwhile.
const LOOK: Duration = Duration::from_millis(10);

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lifeline {
    Held,
    Cut { since: Instant },
    Over { since: Instant },
}

/// What the end of the line meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// The supervisor is gone: nobody else looks after what the workers share.
    Orphaned,
    /// It lives, and has given this worker up or cannot reach it. What the workers share is not touched.
    Disconnected,
}

impl Lifeline {
    /// End of file.
    pub(super) fn cut(&mut self, now: Instant) {
        match self {
            Self::Held => *self = Self::Cut { since: now },
            Self::Cut { .. } | Self::Over { .. } => {}
        }
    }

    /// Looks for the supervisor, if that is due; a finding, once.
    pub(super) fn look(
        &mut self,
        presence: impl FnOnce() -> Presence,
        now: Instant,
    ) -> Option<Finding> {
        let Self::Cut { since } = *self else { return None };
        let finding = match presence() {
            Presence::Gone => Finding::Orphaned,
            Presence::There | Presence::Doubtful if now < since + PATIENCE => return None,
            Presence::Doubtful => Finding::Orphaned,
            Presence::There => Finding::Disconnected,
        };
        *self = Self::Over { since: now };
        Some(finding)
    }

    /// When to look again.
    pub(super) fn next_look(self, now: Instant) -> Option<Instant> {
        match self {
            Self::Cut { .. } => Some(now + LOOK),
            Self::Held | Self::Over { .. } => None,
        }
    }

    /// Since when nobody looks after this worker, if so.
    pub(super) fn lost_at(self) -> Option<Instant> {
        match self {
            Self::Held => None,
            Self::Cut { since } | Self::Over { since } => Some(since),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_supervisor_that_is_gone_is_found_out_once() {
        let now = Instant::now();
        let mut line = Lifeline::Held;
        assert_eq!(line.look(|| Presence::Gone, now), None, "nobody asks while the line is there");
        line.cut(now);
        assert_eq!(line.look(|| Presence::Gone, now), Some(Finding::Orphaned));
        line.cut(now);
        assert_eq!(line.look(|| Presence::Gone, now), None);
        assert_eq!(line.next_look(now), None);
    }

    #[test]
    fn a_supervisor_that_is_seen_a_moment_longer_than_its_line_is_gone_all_the_same() {
        let now = Instant::now();
        let mut line = Lifeline::Held;
        line.cut(now);
        assert_eq!(line.look(|| Presence::There, now), None);
        assert_eq!(line.next_look(now), Some(now + LOOK));
        assert_eq!(line.look(|| Presence::Gone, now + LOOK), Some(Finding::Orphaned));
    }

    /// Without a pidfd, the worker of a zygote is at first the child of the process between them.
    #[test]
    fn another_parent_is_believed_to_be_the_supervisors_end_only_after_a_while() {
        let now = Instant::now();
        let mut line = Lifeline::Held;
        line.cut(now);
        assert_eq!(line.look(|| Presence::Doubtful, now + PATIENCE - LOOK), None);
        let mut becomes_child = line;
        assert_eq!(
            becomes_child.look(|| Presence::There, now + PATIENCE),
            Some(Finding::Disconnected)
        );
        assert_eq!(line.look(|| Presence::Doubtful, now + PATIENCE), Some(Finding::Orphaned));
    }

    #[test]
    fn a_supervisor_that_goes_on_living_has_only_lost_the_line() {
        let now = Instant::now();
        let mut line = Lifeline::Held;
        line.cut(now);
        assert_eq!(line.look(|| Presence::There, now + PATIENCE - LOOK), None);
        assert_eq!(line.look(|| Presence::There, now + PATIENCE), Some(Finding::Disconnected));
        assert_eq!(line.look(|| Presence::Gone, now + PATIENCE), None);
    }
}
