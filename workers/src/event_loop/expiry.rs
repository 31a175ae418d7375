//! The deadlines of connections: when they are set, and what happens when one has passed.

use std::iter;
use std::time::Instant;

use super::EventLoop;
use super::absence::Absence;
use crate::application::{AppBody, Application};
use crate::connection::Timer;
use crate::event_loop::client::Client;
use crate::event_loop::client_table::Token;
use crate::event_loop::deadlines::Deadlines;
use crate::event_loop::poller::Interest;
use crate::http::Persistence;

impl<A: Application> EventLoop<'_, A> {
    /// Ends what has taken too long.
    pub(super) fn expire(&mut self) {
        let now = self.context.clock.now();
        // All at once: what is set anew below may be due at the same moment.
        let due: Vec<_> = iter::from_fn(|| self.deadlines.pop_expired(now)).collect();
        for (timer, token) in due {
            self.judge(timer, token);
            self.hear_news();
        }
    }

    /// Judges one whose deadline has passed, by what the kernel has received of it until now: the loop may
    /// have been in the application since before that, and the peer cannot know.
    fn judge(&mut self, timer: Timer, token: Token) {
        let Some(client) = self.clients.get_mut(token) else { return };
        let armed = client.armed;
        let is_of = |armed: Timer| armed == timer || beside(armed) == Some(timer);
        if !armed.is_some_and(|(armed, _)| is_of(armed)) {
            return; // It was set for a state that has been left.
        }
        let waits_for_its_turn = client.watched == Some(Interest::Nothing)
            && (client.conn.is_replying() || self.context.begins_requests);
        if waits_for_its_turn {
            return self.deadlines.set(timer, token, self.context.clock.now());
        }
        self.serve(token, false);
        let Some(client) = self.clients.get_mut(token) else { return };
        if client.armed != armed || self.deadlines.is_set(timer, token) {
            return; // Something had come.
        }
        let (rules, now) = (self.context.rules(), self.context.clock.now());
        if timer == Timer::BodyRate {
            let away = self.absence.until(now);
            let window = self.context.settings.timeouts.body;
            let missed = away.saturating_sub(client.away_before);
            client.away_before = away;
            client.conn.end_window(window.saturating_sub(missed), &rules);
            if client.conn.timer() == Some(Timer::Body) {
                return self.deadlines.set(timer, token, now);
            }
        } else {
            client.armed = None;
            client.conn.expire(timer, &client.pending, &rules);
        }
        self.serve(token, false);
    }
}

/// Sets the deadline of the state that the connection is in now.
pub(super) fn arm<B: AppBody>(
    deadlines: &mut Deadlines,
    client: &mut Client<B>,
    token: Token,
    now: Instant,
    persistence: Persistence,
    absence: &Absence,
) {
    let progressed = std::mem::take(&mut client.progressed);
    let wanted = client.conn.timer().map(|timer| (timer, client.conn.info().served));
    if client.armed == wanted {
        if let Some((timer, _)) = wanted
            && progressed
            && moves_with_progress(timer, persistence)
        {
            deadlines.set(timer, token, now);
        }
        return;
    }
    if let Some((old, _)) = client.armed {
        deadlines.clear(old, token);
        if let Some(beside) = beside(old) {
            deadlines.clear(beside, token);
        }
    }
    if let Some((new, _)) = wanted {
        deadlines.set(new, token, now);
        if let Some(beside) = beside(new) {
            deadlines.set(beside, token, now);
            client.away_before = absence.until(now);
        }
    }
    client.armed = wanted;
}

/// Whether bytes that move give a connection more time. A worker that is to leave does not wait for a client
/// that is refused and goes on sending.
pub(super) fn moves_with_progress(timer: Timer, persistence: Persistence) -> bool {
    match timer {
        Timer::Body | Timer::Write => true,
        Timer::Linger => persistence == Persistence::KeepAlive,
        Timer::KeepAlive | Timer::Head | Timer::BodyRate | Timer::LingerTotal => false,
    }
}

/// The deadline that is set beside another one, and does not move with it.
fn beside(timer: Timer) -> Option<Timer> {
    match timer {
        Timer::Body => Some(Timer::BodyRate),
        Timer::Linger => Some(Timer::LingerTotal),
        Timer::KeepAlive | Timer::Head | Timer::BodyRate | Timer::Write | Timer::LingerTotal => {
            None
        }
    }
}
