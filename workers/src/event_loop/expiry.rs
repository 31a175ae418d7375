//! The deadlines of connections: when they are set, and what happens when one has passed.

use std::time::Instant;

use super::EventLoop;
use crate::application::{AppBody, Application};
use crate::channel::Channel;
use crate::deadlines::{Deadlines, Timer};
use crate::table::Token;

impl<A: Application> EventLoop<'_, A> {
    /// Ends what has taken too long.
    pub(super) fn expire(&mut self) {
        let now = self.desk.clock.now();
        while let Some((timer, token)) = self.deadlines.pop_expired(now) {
            let Some(channel) = self.channels.get_mut(token) else { continue };
            if channel.armed.is_some_and(|(armed, _)| armed == timer) {
                channel.armed = None;
            }
            channel.conn.expire(timer, &channel.pending, &self.desk.rules());
            if timer == Timer::BodyRate && channel.conn.timer() == Some(Timer::Body) {
                self.deadlines.set(Timer::BodyRate, token, now);
            } else {
                self.serve(token, false);
            }
        }
    }
}

/// Sets the deadline of the state that the connection is in now.
pub(super) fn arm<B: AppBody>(
    deadlines: &mut Deadlines,
    channel: &mut Channel<B>,
    token: Token,
    now: Instant,
) {
    let progressed = std::mem::take(&mut channel.progressed);
    let wanted = channel.conn.timer().map(|timer| (timer, channel.conn.info().served));
    if channel.armed == wanted {
        if let Some((timer @ (Timer::Body | Timer::Write), _)) = wanted
            && progressed
        {
            deadlines.set(timer, token, now);
        }
        return;
    }
    if let Some((old, _)) = channel.armed {
        deadlines.clear(old, token);
        if old == Timer::Body {
            deadlines.clear(Timer::BodyRate, token);
        }
    }
    if let Some((new, _)) = wanted {
        deadlines.set(new, token, now);
        if new == Timer::Body {
            deadlines.set(Timer::BodyRate, token, now);
        }
    }
    channel.armed = wanted;
}
