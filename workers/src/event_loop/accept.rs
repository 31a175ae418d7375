//! How the loop takes connections: while it serves, and when it empties the queue before it leaves.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, Instant};

use nix::libc;

use super::EventLoop;
use super::acceptor::{Arrived, Taken};
use super::phase::{Phase, resends_until};
use crate::application::Application;
use crate::connection::Timer;
use crate::event_loop::client::Client;
use crate::event_loop::client_table::Token;
use crate::shared::fd;
use crate::shared::scoreboard::Command;

/// Connections taken from one listener at the end: above the usual length of its queue.
const LAST_ACCEPTS: u32 = 4096;
/// Connections that are tried when a descriptor is wanted: the next request of one may have come meanwhile.
const CANDIDATES: usize = 4;

impl<A: Application> EventLoop<'_, A> {
    fn has_room(&self) -> bool {
        self.clients.len() < self.most_channels
    }

    /// Whether a new connection would find a place, if need be that of an idle one.
    pub(super) fn can_make_room(&self) -> bool {
        self.has_room() || self.oldest_idle().is_some()
    }

    /// Accepts one connection and serves it in the same turn.
    pub(super) fn accept(&mut self, index: usize) {
        if self.context.is_told_to_leave() {
            return; // It would only be closed; another worker, or the next server, may serve it.
        }
        if !self.has_room() {
            if let Some(token) = self.oldest_idle() {
                self.evict(token);
            }
            if !self.has_room() {
                self.acceptor.pause(&self.poller);
                return;
            }
        }
        let mut taken = self.acceptor.accept(index, &self.poller, &self.context);
        if let Taken::Exhausted(error) = &taken
            && self.frees_a_descriptor(error)
        {
            taken = self.acceptor.accept(index, &self.poller, &self.context);
        }
        match taken {
            Taken::Connection(arrived) => {
                let waited = arrived.arrival.map(|arrival| arrival.waited);
                let token = self.take_in(arrived);
                self.serve(token, false);
                let is_stop =
                    matches!(self.phase, Phase::Draining { .. }) || self.acceptor.are_leaving();
                if is_stop && self.is_silent(token) {
                    self.note_dropped_bytes(index, token, waited);
                }
                let has_others = self.acceptor.has_other_acceptors(index);
                let silent = Some(token).filter(|token| has_others && self.is_silent(*token));
                self.acceptor.accepted(index, silent, &self.poller, &self.context);
            }
            Taken::Nobody => {}
            Taken::Exhausted(error) => {
                self.acceptor.take_a_rest(&error, &self.poller, &self.context)
            }
        }
    }

    /// Gives a client that waited in a closed queue the time to send again what the queue has dropped. A listener
    /// may be closed a moment before this loop hears of a stop.
    fn note_dropped_bytes(&mut self, index: usize, token: Token, waited: Option<Duration>) {
        let Some(waited) = waited.filter(|_| self.acceptor.is_queue_closed(index)) else { return };
        if let Some(client) = self.clients.get_mut(token) {
            let accepted = client.conn().info().accepted;
            client.expect_resend(resends_until(accepted, waited));
        }
    }

    /// Whether a connection has not sent its first request yet.
    pub(super) fn is_silent(&self, token: Token) -> bool {
        self.clients.get(token).is_some_and(|client| client.conn().awaits_first_request())
    }

    /// Closes the connection that is missed least where that helps against an error of accept4(2).
    /// The application, or another process, may use more descriptors than was reserved for it.
    fn frees_a_descriptor(&mut self, error: &io::Error) -> bool {
        let limit = fd::descriptor_limit();
        let helps = |number: RawFd| match error.raw_os_error() {
            // The limit may have been lowered meanwhile: a number above it is of no use again.
            Some(libc::EMFILE) => u64::try_from(number).is_ok_and(|number| number < limit),
            Some(libc::ENFILE) => true,
            Some(_) | None => false,
        };
        let of = |token| self.clients.get(token).map(|client| client.socket().as_raw_fd());
        let oldest = self.oldest_idle().into_iter();
        let idle = oldest.chain(self.idle()).filter(|token| of(*token).is_some_and(helps));
        // As a rule the first is as good as any.
        let candidates: Vec<Token> = idle.take(CANDIDATES).collect();
        let count = self.clients.len();
        candidates.into_iter().any(|token| {
            self.evict(token);
            self.clients.len() < count
        })
    }

    /// Gives a new connection its place. One whose peer has reset it meanwhile never reaches the
    /// application, though its request could still be read.
    fn take_in(&mut self, arrived: Arrived) -> Token {
        let Arrived { socket, info, arrival } = arrived;
        // A client that arrives while the loop sleeps has not waited.
        let mut client = Client::accepted(socket, info, arrival, !self.has_slept);
        if arrival.is_some_and(|arrival| arrival.is_reset) {
            client.conn_mut().failed(&self.context.entry.counters);
        }
        self.clients.insert(client)
    }

    /// The connection that is missed least: the oldest of those that are answered and only linger, else the
    /// one that has been idle longest.
    fn oldest_idle(&self) -> Option<Token> {
        let oldest = |timer| self.deadlines.oldest(timer);
        oldest(Timer::LingerTotal).or_else(|| oldest(Timer::KeepAlive))
    }

    /// All that could be missed.
    fn idle(&self) -> impl Iterator<Item = Token> {
        let is_idle = |client: &Client<A::Body>| client.conn().is_lingering() || client.is_idle();
        self.clients.tokens().filter(move |token| self.clients.get(*token).is_some_and(is_idle))
    }

    /// Closes a connection, unless its next request has come meanwhile.
    fn evict(&mut self, token: Token) {
        let served = |client: &Client<A::Body>| client.conn().info().served;
        let before = self.clients.get(token).map(served);
        self.serve(token, false);
        match self.clients.get_mut(token) {
            Some(client) if Some(served(client)) != before => return,
            Some(client) if client.conn().is_lingering() || client.is_idle() => {
                client.conn_mut().give_up(&self.context.entry.counters);
            }
            Some(_) | None => return,
        }
        self.serve(token, false)
    }

    /// Takes the connections that the kernel has already accepted for us: what is left in the queue of
    /// the last worker to close the listener is reset.
    ///
    /// First each is served before the next is taken, so that the workers share them: as many as wait
    /// now, for under load there is always one more. Then what has come meanwhile, at one go.
    pub(super) fn empty_queue(&mut self, until: Option<Instant>) {
        for index in 0..self.acceptor.len() {
            for _ in 0..self.acceptor.queued(index).unwrap_or(LAST_ACCEPTS) {
                let is_late = until.is_some_and(|until| until <= self.context.clock.now());
                if is_late || self.context.order() == Command::Quick {
                    return;
                }
                let Some(token) = self.take_queued(index) else { break };
                self.serve(token, false);
            }
            for _ in 0..LAST_ACCEPTS {
                let Some(token) = self.take_queued(index) else { break };
                self.waiting.push_back(token);
            }
        }
    }

    pub(super) fn take_queued(&mut self, index: usize) -> Option<Token> {
        let mut taken = self.acceptor.take_one(index, &self.context);
        if let Taken::Exhausted(error) = &taken
            && self.frees_a_descriptor(error)
        {
            taken = self.acceptor.take_one(index, &self.context);
        }
        match taken {
            Taken::Connection(arrived) => {
                let waited = arrived.arrival.map(|arrival| arrival.waited);
                let token = self.take_in(arrived);
                self.note_dropped_bytes(index, token, waited);
                Some(token)
            }
            Taken::Exhausted(error) => {
                self.acceptor.complain(&error, &self.context);
                None
            }
            Taken::Nobody => None,
        }
    }
}
