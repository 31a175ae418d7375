//! The supervisor's duplicate of the connection whose request a worker has been running for a while: with it, the
//! supervisor can answer the client if the worker dies.
//!
//! Shared connections need none, because the supervisor has a descriptor of each. A worker alone has its other
//! connections, so it is asked for the one of a request that takes longer than most do; all others cost nothing. This
//! is pure code, one [`Duplicate`] for each worker; `D` is the descriptor.
//!
//! | state | event | result | next |
//! |---|---|---|---|
//! | Nothing | check: a call for a request has run for [`AFTER`] or is late, and its connection can be passed on | [`Checked::Ask`] | Asked |
//! | Nothing | a descriptor arrives | it is closed: its call has ended | Nothing |
//! | Asked | the descriptor arrives | | Held |
//! | Asked, Held | check: the call runs, and nothing was sent | [`Checked::Unchanged`] | as it was |
//! | Asked, Held | check: the call has ended, or it is sending a response | [`Checked::Released`]: the descriptor is closed | Nothing |
//! | Held | the worker has ended in that call, and nothing was sent | the client is answered | Nothing |
//! | Asked, Held | the worker has ended otherwise | the descriptor is closed | Nothing |
//!
//! A worker sends a descriptor only while the call runs for which it was asked, and never for TLS, whose keys the
//! supervisor does not have. When it closes a connection, it shuts it down, so that the client sees the end at once,
//! although the supervisor may have a duplicate for another moment.

use std::time::Duration;

use arctos_worker::shared::scoreboard::WorkerEntry;

/// How long a call runs before its worker is asked for its connection.
pub const AFTER: Duration = Duration::from_secs(1);

/// The duplicate for one worker.
#[derive(Debug)]
pub struct Duplicate<D> {
    state: State<D>,
}

#[derive(Debug)]
enum State<D> {
    Nothing,
    /// The worker was asked for the connection of the call that started at this moment.
    Asked {
        call: Duration,
    },
    Held {
        call: Duration,
        descriptor: D,
    },
}

/// The result of [`Duplicate::check`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checked {
    /// Nothing is to be done.
    Unchanged,
    /// The worker has to be asked for the connection of the call that started at this moment.
    Ask(Duration),
    /// No descriptor is needed any more. One that is still under way has to be received and closed.
    Released,
}

impl<D> Duplicate<D> {
    /// Checks whether the worker has to be asked, or the duplicate is of no use any more. Everything that has arrived
    /// so far must have been passed to [`Duplicate::arrive`], and `monotonic` be read before.
    /// `is_late` says that the call exceeds its time limit, so that its worker may be killed soon.
    pub fn check(&mut self, entry: &WorkerEntry, monotonic: Duration, is_late: bool) -> Checked {
        let running = passable_call(entry);
        if let State::Asked { call } | State::Held { call, .. } = self.state {
            if running == Some(call) {
                return Checked::Unchanged;
            }
            self.state = State::Nothing;
            return Checked::Released;
        }
        let is_long = |start: &Duration| is_late || monotonic.saturating_sub(*start) >= AFTER;
        let Some(call) = running.filter(is_long) else { return Checked::Unchanged };
        self.state = State::Asked { call };
        Checked::Ask(call)
    }

    /// The worker could not be asked: it will be at the next check.
    pub fn not_asked(&mut self) {
        self.state = State::Nothing;
    }

    /// A descriptor has arrived. It is closed if nobody needs it any more.
    pub fn arrive(&mut self, descriptor: D) {
        if let State::Asked { call } = self.state {
            self.state = State::Held { call, descriptor };
        }
    }

    /// Whether a descriptor may arrive.
    pub fn is_awaited(&self) -> bool {
        matches!(self.state, State::Asked { .. })
    }

    /// The descriptor that is held.
    pub fn held(&self) -> Option<&D> {
        match &self.state {
            State::Held { descriptor, .. } => Some(descriptor),
            State::Nothing | State::Asked { .. } => None,
        }
    }

    /// Returns the descriptor of the connection whose client is to be answered, once the worker has ended.
    pub fn take_unanswered(self, entry: &WorkerEntry) -> Option<D> {
        match self.state {
            State::Held { call, descriptor } if passable_call(entry) == Some(call) => {
                Some(descriptor)
            }
            State::Held { .. } | State::Nothing | State::Asked { .. } => None,
        }
    }
}

impl<D> Default for Duplicate<D> {
    fn default() -> Self {
        Self { state: State::Nothing }
    }
}

/// The start of the running call, if it is one for a request whose connection can be passed on.
fn passable_call(entry: &WorkerEntry) -> Option<Duration> {
    // First, because a later call may have replaced the connection meanwhile.
    let call = entry.call_start()?;
    entry.connection().map(|_| call)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// A worker that has begun a request on connection 7 at 5 s.
    fn running() -> &'static WorkerEntry {
        let entry = WorkerEntry::detached();
        entry.begin_request(ms(5000), b"GET", b"/");
        entry.show_connection(Some(7));
        entry
    }

    fn held(entry: &WorkerEntry) -> Duplicate<&'static str> {
        let mut duplicate = Duplicate::default();
        assert_eq!(duplicate.check(entry, ms(6000), false), Checked::Ask(ms(5000)));
        duplicate.arrive("fd");
        duplicate
    }

    #[test]
    fn a_worker_is_asked_once_for_the_connection_of_a_long_request() {
        let entry = running();
        let mut duplicate = Duplicate::default();
        assert_eq!(duplicate.check(entry, ms(5999), false), Checked::Unchanged);
        assert!(!duplicate.is_awaited());
        assert_eq!(duplicate.check(entry, ms(6000), false), Checked::Ask(ms(5000)));
        assert!(duplicate.is_awaited());
        assert_eq!(duplicate.check(entry, ms(9000), false), Checked::Unchanged);
        duplicate.arrive("fd");
        assert_eq!((duplicate.is_awaited(), duplicate.held()), (false, Some(&"fd")));
        assert_eq!(duplicate.check(entry, ms(9000), false), Checked::Unchanged);
        assert_eq!(duplicate.take_unanswered(entry), Some("fd"));
    }

    #[test]
    fn a_worker_that_may_be_killed_soon_is_asked_earlier() {
        let entry = running();
        let mut duplicate = Duplicate::<()>::default();
        assert_eq!(duplicate.check(entry, ms(5250), false), Checked::Unchanged);
        assert_eq!(duplicate.check(entry, ms(5500), true), Checked::Ask(ms(5000)));
    }

    #[test]
    fn a_worker_that_could_not_be_asked_is_asked_again() {
        let mut duplicate = Duplicate::<()>::default();
        assert_eq!(duplicate.check(running(), ms(6000), false), Checked::Ask(ms(5000)));
        duplicate.not_asked();
        assert_eq!(duplicate.check(running(), ms(6250), false), Checked::Ask(ms(5000)));
    }

    #[test]
    fn nobody_is_asked_for_a_connection_that_cannot_be_passed_on() {
        let entry = WorkerEntry::detached();
        let mut duplicate = Duplicate::<()>::default();
        assert_eq!(duplicate.check(entry, ms(9000), false), Checked::Unchanged, "no call");
        entry.begin_request(ms(0), b"GET", b"/tls");
        assert_eq!(duplicate.check(entry, ms(9000), false), Checked::Unchanged);
        entry.begin_request(ms(0), b"GET", b"/");
        entry.show_connection(Some(7));
        entry.show_connection(None);
        assert_eq!(duplicate.check(entry, ms(9000), false), Checked::Unchanged);
        entry.end_call(ms(1));
        entry.begin_call(ms(1));
        assert_eq!(
            duplicate.check(entry, ms(9000), false),
            Checked::Unchanged,
            "not for a request"
        );
    }

    #[test]
    fn the_duplicate_is_closed_when_the_call_has_ended() {
        let entry = running();
        let mut duplicate = held(entry);
        entry.end_call(ms(6100));
        assert_eq!(duplicate.check(entry, ms(6250), false), Checked::Released);
        assert_eq!(duplicate.held(), None);
        duplicate.arrive("late");
        assert_eq!(duplicate.held(), None);
    }

    #[test]
    fn the_duplicate_is_closed_when_another_call_runs() {
        let entry = running();
        let mut duplicate = held(entry);
        entry.end_call(ms(6100));
        entry.begin_request(ms(6100), b"GET", b"/next");
        entry.show_connection(Some(7));
        assert_eq!(duplicate.check(entry, ms(6250), false), Checked::Released);
        assert_eq!(duplicate.check(entry, ms(7250), false), Checked::Ask(ms(6100)));
    }

    #[test]
    fn only_a_client_that_got_nothing_is_answered() {
        let entry = running();
        let duplicate = held(entry);
        entry.show_connection(None);
        assert_eq!(duplicate.take_unanswered(entry), None);

        let entry = running();
        let duplicate = held(entry);
        entry.end_call(ms(6100));
        assert_eq!(duplicate.take_unanswered(entry), None, "it was sending the response");

        let entry = running();
        let mut duplicate = Duplicate::<()>::default();
        duplicate.check(entry, ms(6000), false);
        assert_eq!(duplicate.take_unanswered(entry), None, "it has not arrived");
    }
}
