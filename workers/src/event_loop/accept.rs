//! How the loop takes connections: while it serves, and when it empties the accept queue before it exits.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, Instant};

use nix::libc;

use super::EventLoop;
use super::acceptor::{NewConnection, Outcome};
use super::phase::{Phase, resends_until};
use crate::application::Application;
use crate::event_loop::client::Client;
use crate::event_loop::client_table::Token;
use crate::event_loop::drive::proxy_header;
use crate::http::ProxyError;
use crate::http::forwarded::is_trusted;
use crate::shared::fd;
use crate::shared::scoreboard::Command;

/// The maximum number of connections taken from one listener at the end: above the usual length of its queue.
const LAST_ACCEPTS: u32 = 4096;
/// How many idle clients are tried when a descriptor is needed: the next request of one may have come meanwhile.
const CANDIDATES: usize = 4;

impl<A: Application> EventLoop<'_, A> {
    /// Accepts one connection and serves it in the same turn.
    pub(super) fn accept(&mut self, index: usize) {
        if self.context.is_quick_stop() {
            return; // The connection would only be closed; another worker, or the next server, may serve it.
        }
        if !self.clients.has_room() {
            if let Some(token) = self.clients.oldest_idle() {
                self.evict(token);
            }
            if !self.clients.has_room() {
                self.acceptor.pause(&self.poller);
                return;
            }
        }
        let mut outcome = self.acceptor.accept(index, &self.poller, &self.context);
        if let Outcome::Exhausted(error) = &outcome
            && self.frees_resources(error)
        {
            outcome = self.acceptor.accept(index, &self.poller, &self.context);
        }
        match outcome {
            Outcome::Connection(connection) => {
                let waited = connection.arrival.map(|arrival| arrival.waited);
                let token = self.add_client(connection);
                self.serve(token, false);
                let is_stop = matches!(self.phase, Phase::Draining { .. })
                    || self.acceptor.is_server_stopping();
                if is_stop && self.clients.is_silent(token) {
                    self.note_dropped_bytes(index, token, waited);
                }
                let has_others = self.acceptor.has_other_acceptors(index);
                let silent =
                    Some(token).filter(|token| has_others && self.clients.is_silent(*token));
                self.acceptor.accepted(index, silent, &self.poller, &self.context);
            }
            Outcome::Nothing => {}
            Outcome::Exhausted(error) => {
                self.acceptor.back_off(&error, &self.poller, &self.context);
            }
        }
    }

    /// Gives a client that waited in a closed accept queue the time to retransmit what the queue has dropped. A
    /// listener may be closed a moment before this loop gets the command to stop.
    fn note_dropped_bytes(&mut self, index: usize, token: Token, waited: Option<Duration>) {
        let Some(waited) = waited.filter(|_| self.acceptor.is_queue_closed(index)) else { return };
        if let Some(client) = self.clients.table.get_mut(token) {
            let accepted = client.conn().info().accepted;
            client.expect_resend(resends_until(accepted, waited));
        }
    }

    /// Closes an idle client if that helps against an error of accept4(2), and returns whether it did. The
    /// application, or another process, may use more descriptors or memory than are reserved for it.
    fn frees_resources(&mut self, error: &io::Error) -> bool {
        let limit = fd::descriptor_limit();
        let helps = |number: RawFd| match error.raw_os_error() {
            // The limit may have been lowered meanwhile: a number above it cannot be used again.
            Some(libc::EMFILE) => u64::try_from(number).is_ok_and(|number| number < limit),
            Some(libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => true,
            Some(_) | None => false,
        };
        let of = |token| self.clients.table.get(token).map(|client| client.socket().as_raw_fd());
        let oldest = self.clients.oldest_idle().into_iter();
        let idle = oldest.chain(self.clients.idle()).filter(|token| of(*token).is_some_and(helps));
        let candidates: Vec<Token> = idle.take(CANDIDATES).collect();
        let count = self.clients.table.len();
        candidates.into_iter().any(|token| {
            self.evict(token);
            self.clients.table.len() < count
        })
    }

    /// Adds a client. If its peer has reset the connection meanwhile, it never reaches the application, though
    /// its request could still be read.
    fn add_client(&mut self, connection: NewConnection) -> Token {
        let NewConnection { transport, info, arrival, is_usable } = connection;
        // A client that arrives while the loop sleeps has not waited.
        let has_waited = !self.schedule.has_slept;
        let mut client = Client::accepted(transport, info, arrival, has_waited);
        if !is_usable || arrival.is_some_and(|arrival| arrival.is_reset) {
            client.conn_mut().failed(&self.context.entry.counters);
        } else if !self.context.settings.proxy_protocol.is_off() {
            self.expect_proxy_header(&mut client);
        }
        self.clients.table.insert(client)
    }

    /// Has a connection begin with a PROXY header, or end at once if its peer may not send one.
    fn expect_proxy_header(&mut self, client: &mut Client<A::Body>) {
        let senders = &self.context.settings.proxy_protocol.senders;
        if is_trusted(&client.conn().info().peer, senders) {
            client.await_proxy_header();
        } else {
            proxy_header::refuse(&mut self.context, client, ProxyError::NotAllowed);
        }
    }

    /// Closes a client, unless its next request has come meanwhile.
    fn evict(&mut self, token: Token) {
        let served = |client: &Client<A::Body>| client.conn().info().served;
        let before = self.clients.table.get(token).map(served);
        self.serve(token, false);
        match self.clients.table.get_mut(token) {
            Some(client) if Some(served(client)) != before => return,
            Some(client) if client.is_expendable() => {
                client.conn_mut().give_up(&self.context.entry.counters);
            }
            Some(_) | None => return,
        }
        self.serve(token, false)
    }

    /// Takes the connections that the kernel has already accepted for the server: what is left in the queue when
    /// the last worker closes the listener is reset.
    ///
    /// At first each connection is served before the next one is taken, so that the workers share them: as many
    /// as wait now, because under load there is always one more. Then the loop takes at once what has come
    /// meanwhile.
    pub(super) fn empty_queue(&mut self, until: Option<Instant>) {
        for index in 0..self.acceptor.len() {
            for _ in 0..self.acceptor.queued(index).unwrap_or(LAST_ACCEPTS) {
                let is_late = until.is_some_and(|until| until <= self.context.clock.now());
                if is_late || self.context.command() == Command::Quick {
                    return;
                }
                let Some(token) = self.take_queued(index) else { break };
                self.serve(token, false);
            }
            for _ in 0..LAST_ACCEPTS {
                let Some(token) = self.take_queued(index) else { break };
                self.schedule.yielded.push_back(token);
            }
        }
    }

    pub(super) fn take_queued(&mut self, index: usize) -> Option<Token> {
        let mut outcome = self.acceptor.accept_queued(index, &self.context);
        if let Outcome::Exhausted(error) = &outcome
            && self.frees_resources(error)
        {
            outcome = self.acceptor.accept_queued(index, &self.context);
        }
        match outcome {
            Outcome::Connection(connection) => {
                let waited = connection.arrival.map(|arrival| arrival.waited);
                let token = self.add_client(connection);
                self.note_dropped_bytes(index, token, waited);
                Some(token)
            }
            Outcome::Exhausted(error) => {
                self.acceptor.log_failure(&error, &self.context);
                None
            }
            Outcome::Nothing => None,
        }
    }
}
