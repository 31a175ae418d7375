//! The deadline that one client has armed, and when it is set again.

use std::mem;
use std::time::{Duration, Instant};

use super::stalls::Stalls;
use crate::connection::Timer;
use crate::event_loop::client_table::Token;
use crate::event_loop::deadlines::Deadlines;
use crate::http::Persistence;

/// A deadline, and the request of its connection that it was set for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Armed {
    pub(super) timer: Timer,
    /// The number of requests that were served before it.
    pub(super) served: u32,
}

impl Armed {
    /// Whether a deadline of this kind belongs to it.
    pub(super) fn covers(self, timer: Timer) -> bool {
        self.timer == timer || paired_timer(self.timer) == Some(timer)
    }
}

/// See the module.
#[derive(Default)]
pub(super) struct ClientTimer {
    armed: Option<Armed>,
    /// Whether bytes have moved since the deadline was last set.
    has_progressed: bool,
    /// [`Stalls::total`] at the start of the window over which the rate of the body is measured.
    stalled_before: Duration,
}

impl ClientTimer {
    pub(super) fn armed(&self) -> Option<Armed> {
        self.armed
    }

    pub(super) fn disarm(&mut self) {
        self.armed = None;
    }

    pub(super) fn progressed(&mut self) {
        self.has_progressed = true;
    }

    /// Ends a window over which the rate of the body is measured and begins the next one. Returns how long the
    /// loop stalled in it, given the total of all stalls.
    pub(super) fn end_window(&mut self, stalled: Duration) -> Duration {
        stalled.saturating_sub(mem::replace(&mut self.stalled_before, stalled))
    }

    /// Sets the deadline of the state that the connection is in now.
    pub(super) fn arm(
        &mut self,
        wanted: Option<Armed>,
        deadlines: &mut Deadlines,
        token: Token,
        now: Instant,
        persistence: Persistence,
        stalls: &Stalls,
    ) {
        let has_progressed = mem::take(&mut self.has_progressed);
        if self.armed == wanted {
            if let Some(Armed { timer, .. }) = wanted
                && has_progressed
                && moves_with_progress(timer, persistence)
            {
                deadlines.set(timer, token, now);
            }
            return;
        }
        if let Some(Armed { timer: old, .. }) = self.armed {
            deadlines.clear(old, token);
            if let Some(paired_timer) = paired_timer(old) {
                deadlines.clear(paired_timer, token);
            }
        }
        if let Some(Armed { timer: new, .. }) = wanted {
            deadlines.set(new, token, now);
            if let Some(paired_timer) = paired_timer(new) {
                deadlines.set(paired_timer, token, now);
                self.stalled_before = stalls.total(now);
            }
        }
        self.armed = wanted;
    }
}

/// Whether a connection gets more time when bytes move. An exiting worker does not wait for a client whose
/// request was refused and that goes on sending.
pub(super) fn moves_with_progress(timer: Timer, persistence: Persistence) -> bool {
    match timer {
        Timer::Body | Timer::Write => true,
        Timer::Linger => persistence == Persistence::KeepAlive,
        Timer::Handshake
        | Timer::KeepAlive
        | Timer::Head
        | Timer::BodyRate
        | Timer::LingerTotal => false,
    }
}

/// The deadline that is set together with another one, and does not move with it.
fn paired_timer(timer: Timer) -> Option<Timer> {
    match timer {
        Timer::Body => Some(Timer::BodyRate),
        Timer::Linger => Some(Timer::LingerTotal),
        Timer::Handshake
        | Timer::KeepAlive
        | Timer::Head
        | Timer::BodyRate
        | Timer::Write
        | Timer::LingerTotal => None,
    }
}
