//! What happens when the deadline of a client has passed.

use std::iter;

use super::EventLoop;
use crate::application::Application;
use crate::connection::Timer;
use crate::event_loop::client_table::Token;
use crate::event_loop::drive::proxy_header;
use crate::event_loop::poller::Interest;
use crate::http::ProxyError;

impl<A: Application> EventLoop<'_, A> {
    /// Handles all deadlines that have passed.
    pub(super) fn check_deadlines(&mut self) {
        let now = self.context.clock.now();
        // All are collected first: a deadline that is set again below may be due at the same moment.
        let due: Vec<_> = iter::from_fn(|| self.clients.deadlines.pop_expired(now)).collect();
        for (timer, token) in due {
            self.expire(timer, token);
            self.poll_shutdown();
        }
    }

    /// Expires one client, unless the kernel has received something from it in time: the loop may have been in
    /// the application since before the deadline, and the peer cannot know that.
    fn expire(&mut self, timer: Timer, token: Token) {
        let Some(client) = self.clients.table.get_mut(token) else { return };
        let armed = client.timer().armed();
        if !armed.is_some_and(|armed| armed.covers(timer)) {
            return; // It was set for a state that the connection has left.
        }
        let waits_for_its_turn = client.watched() == Some(Interest::Nothing)
            && (client.conn().is_replying() || self.context.begins_requests);
        if waits_for_its_turn {
            return self.clients.deadlines.set(timer, token, self.context.clock.now());
        }
        self.serve(token, false);
        let Some(client) = self.clients.table.get_mut(token) else { return };
        if client.timer().armed() != armed || self.clients.deadlines.is_set(timer, token) {
            return; // Something had arrived.
        }
        if timer == Timer::Handshake && client.awaits_proxy_header() {
            client.timer().disarm();
            proxy_header::refuse(&mut self.context, client, ProxyError::Late);
            return self.serve(token, false);
        }
        let (rules, now) = (self.context.rules(), self.context.clock.now());
        if timer == Timer::BodyRate {
            let stalled = client.timer().end_window(self.clients.stalls.total(now));
            let window = self.context.settings.timeouts.body;
            client.conn_mut().end_window(window.saturating_sub(stalled), &rules);
            if client.conn().timer() == Some(Timer::Body) {
                return self.clients.deadlines.set(timer, token, now);
            }
        } else {
            client.timer().disarm();
            if timer == Timer::Handshake {
                client.note_late_handshake(&self.context);
            }
            client.expire(timer, &rules);
        }
        self.serve(token, false);
    }
}
