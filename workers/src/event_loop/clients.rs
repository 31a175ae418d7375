//! The clients of one event loop, and how long each may take.

use std::time::{Duration, Instant};

use super::rate_limited_log::RateLimitedLog;
use super::sharing::Sharing;
use super::stalls::Stalls;
use crate::application::AppBody;
use crate::connection::Timer;
use crate::event_loop::client::Client;
use crate::event_loop::client_table::{ClientTable, Token};
use crate::event_loop::deadlines::Deadlines;
use crate::event_loop::poller::Poller;
use crate::settings::{Settings, Timeouts};
use crate::shared::fd;

/// See the module.
pub(super) struct Clients<B: AppBody> {
    pub(super) table: ClientTable<Client<B>>,
    /// The maximum number of clients.
    pub(super) limit: usize,
    pub(super) deadlines: Deadlines,
    pub(super) stalls: Stalls,
    /// The worker's part in the sharing of connections; `None` if it keeps its own.
    pub(super) sharing: Option<Box<Sharing>>,
    /// Failures to watch a client with epoll(7).
    pub(super) watch_failures: RateLimitedLog,
}

impl<B: AppBody> Clients<B> {
    /// No clients yet; the loop starts now.
    pub(super) fn new(settings: &Settings, now: Instant) -> Self {
        let timeouts = &settings.timeouts;
        Self {
            table: ClientTable::new(),
            limit: settings.limits.connections_within(fd::descriptor_limit()),
            deadlines: Deadlines::new(|timer| timeout(timeouts, timer)),
            stalls: Stalls::starting(now),
            sharing: None,
            watch_failures: RateLimitedLog::default(),
        }
    }

    /// Has an epoll instance that knows none of them watch all clients.
    pub(super) fn watch_again(&mut self, poller: &Poller) {
        let tokens: Vec<Token> = self.table.tokens().collect();
        for token in tokens {
            if let Some(client) = self.table.get_mut(token) {
                client.watch_again(poller, token.to_bits());
            }
        }
    }

    pub(super) fn has_room(&self) -> bool {
        self.table.len() < self.limit
    }

    /// Whether there is room for a new client, if need be by closing an idle one.
    pub(super) fn can_make_room(&self) -> bool {
        self.has_room() || self.oldest_idle().is_some()
    }

    /// The client that misses its connection least: the oldest of those that are answered and only linger, else
    /// the one whose PROXY header or handshake takes longest, else the one that has been idle longest.
    pub(super) fn oldest_idle(&self) -> Option<Token> {
        let oldest = |timer| self.deadlines.oldest(timer);
        let in_order = [Timer::LingerTotal, Timer::Handshake, Timer::KeepAlive];
        in_order.into_iter().find_map(oldest)
    }

    /// All clients that may be closed to make room.
    pub(super) fn idle(&self) -> impl Iterator<Item = Token> {
        self.table
            .tokens()
            .filter(|token| self.table.get(*token).is_some_and(Client::is_expendable))
    }

    /// Whether a client has not sent its first request yet.
    pub(super) fn is_silent(&self, token: Token) -> bool {
        self.table.get(token).is_some_and(|client| client.conn().awaits_first_request())
    }

    pub(super) fn any(&self, question: impl Fn(&Client<B>) -> bool) -> bool {
        self.table.tokens().any(|token| self.table.get(token).is_some_and(&question))
    }

    /// When the next client that came from a closed accept queue stops retransmitting.
    pub(super) fn next_resend_deadline(&self, now: Instant) -> Option<Instant> {
        self.table.tokens().filter_map(|token| self.table.get(token)?.awaits_resend(now)).min()
    }
}

fn timeout(timeouts: &Timeouts, timer: Timer) -> Duration {
    match timer {
        Timer::KeepAlive => timeouts.keep_alive,
        Timer::Handshake | Timer::Head => timeouts.head,
        Timer::Body | Timer::BodyRate => timeouts.body,
        Timer::Write => timeouts.write,
        Timer::Linger => timeouts.linger,
        Timer::LingerTotal => timeouts.linger_total,
    }
}
