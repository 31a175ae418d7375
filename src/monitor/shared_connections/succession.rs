//! Idle connections move from a server to its successor in an upgrade (USR2), through a pair of sockets of their own.
//!
//! | server | event | what it does |
//! |---|---|---|
//! | predecessor | it hands over | opens the pair, and sends one end to the successor |
//! | predecessor | a worker that drains leaves it an idle connection | claims it, sends it, frees its place |
//! | predecessor | the successor takes none | closes those that it has |
//! | predecessor | its last worker has ended | sends what is left, then exits |
//! | successor | a connection comes | allocates a place, holds it, offers it to the workers, releases it |
//!
//! Whoever has claimed a connection knows that nothing of a request was read. What arrives while it moves stays in the
//! socket, and the workers of the successor see it as soon as they watch the connection.
//!
//! A datagram has one descriptor, and these bytes: [`VERSION`], the time of the last use (8 bytes, CLOCK_MONOTONIC in
//! microseconds), and the facts ([`facts`]).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

use arctos_worker::connection::facts;
use arctos_worker::shared::connection_table::holdings::Installed;
use arctos_worker::shared::connection_table::{FACT_BYTES, Member, PlaceKey, Record};
use arctos_worker::shared::fd::{self, Datagram};
use nix::errno::Errno;

use super::{Group, MESSAGES, SharedConnections};
use crate::monitor::victims;

/// Changes with the format of a datagram and with that of the facts.
const VERSION: u8 = 1;
/// Version and time of use.
const HEAD_BYTES: usize = 9;
const DATAGRAM_BYTES: usize = HEAD_BYTES + FACT_BYTES;
/// How often the predecessor looks for connections that it can send, and how long it pauses at its end if the
/// successor has no room.
const INTERVAL: Duration = Duration::from_millis(10);
/// How long the predecessor goes on sending at its end.
const PATIENCE: Duration = Duration::from_secs(1);

/// The part of this server in an upgrade.
#[derive(Default)]
pub(super) enum Succession {
    #[default]
    None,
    /// Its idle connections go to the successor.
    To(OwnedFd),
    /// The idle connections of the predecessor come to it.
    From(OwnedFd),
}

impl Succession {
    pub(super) fn socket(&self) -> Option<&OwnedFd> {
        match self {
            Self::None => None,
            Self::To(socket) | Self::From(socket) => Some(socket),
        }
    }

    pub(super) fn is_to(&self) -> bool {
        matches!(self, Self::To(_))
    }
}

/// What is sent with a connection.
#[derive(Debug, PartialEq, Eq)]
struct Moved {
    used_at: Duration,
    facts: Vec<u8>,
}

impl Moved {
    fn of(record: &Record) -> Self {
        let mut facts = [0; FACT_BYTES];
        let len = record.facts(&mut facts);
        Self { used_at: record.used_at(), facts: facts[..len].to_vec() }
    }

    fn encode(&self) -> Vec<u8> {
        let used_us = u64::try_from(self.used_at.as_micros()).unwrap_or(u64::MAX);
        let mut bytes = vec![VERSION];
        bytes.extend(used_us.to_ne_bytes());
        bytes.extend(&self.facts);
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (&[VERSION], rest) = bytes.split_first_chunk()? else { return None };
        let (used_us, facts) = rest.split_first_chunk()?;
        let mut facts = facts.to_vec();
        // The listeners of this server may be others, in another order.
        facts::forget_listener(&mut facts);
        Some(Self { used_at: Duration::from_micros(u64::from_ne_bytes(*used_us)), facts })
    }
}

impl SharedConnections {
    /// From the next round on, idle connections go to the successor. Returns what it needs for this.
    ///
    /// Not in this round: the workers are told to drain only at its end. A worker that waits in epoll_wait(2) until then
    /// would take the event of a connection that the successor has already, and nobody would serve it.
    pub(in crate::monitor) fn begin_to_pass(&mut self) -> io::Result<OwnedFd> {
        let (socket, successors) = fd::datagram_pair()?;
        self.succession = Succession::To(socket);
        self.next_pass = Instant::now() + INTERVAL; // Later than the time of this round.
        Ok(successors)
    }

    /// From now on, idle connections come from the predecessor through this socket.
    pub(in crate::monitor) fn begin_to_receive(&mut self, socket: OwnedFd) {
        self.succession = Succession::From(socket);
    }

    /// From time to time, sends the idle connections to the successor.
    pub(super) fn pass_if_due(&mut self, now: Instant) {
        if now >= self.next_pass {
            self.next_pass = now + INTERVAL;
            self.pass();
        }
    }

    /// Sends the idle connections to the successor, as far as it has room.
    pub(super) fn pass(&mut self) {
        let Succession::To(socket) = &self.succession else { return };
        let mut groups = self.groups.iter_mut();
        match groups.try_for_each(|group| group.pass(socket.as_fd())) {
            Ok(()) | Err(Errno::EAGAIN | Errno::ETOOMANYREFS) => {}
            // The successor shares no connections, or it is gone. Nobody would serve them.
            Err(_) => self.groups.iter_mut().for_each(|group| group.end_idle(Duration::ZERO)),
        }
    }

    /// The last worker has ended: sends what is left.
    pub(in crate::monitor) fn pass_last(&mut self) {
        let until = Instant::now() + PATIENCE;
        self.pass();
        while self.succession.is_to() && self.idle_count() > 0 && Instant::now() < until {
            thread::sleep(INTERVAL);
            self.pass();
        }
    }

    /// Receives connections from the predecessor.
    pub(super) fn receive(&mut self) {
        let mut bytes = [0; DATAGRAM_BYTES];
        for _ in 0..MESSAGES {
            let Succession::From(socket) = &self.succession else { return };
            let mut sockets = Vec::new();
            match fd::receive_datagram(socket.as_fd(), &mut bytes, &mut sockets) {
                Datagram::Received(len) => {
                    let moved = Moved::decode(&bytes[..len]);
                    for (moved, socket) in moved.into_iter().zip(sockets) {
                        self.adopt(moved, socket);
                    }
                }
                Datagram::Nothing => return,
                Datagram::Ended => self.succession = Succession::None,
            }
        }
    }

    /// Holds a connection of the predecessor, for the group that has fewest. Without workers that share connections, or
    /// are about to, it ends.
    fn adopt(&mut self, moved: Moved, socket: OwnedFd) {
        let groups = self.groups.iter_mut().filter(|group| group.is_served());
        let adopted = groups.min_by_key(|group| group.held.len()).and_then(|group| {
            let key = group.record(&moved)?;
            Some((group, key))
        });
        match adopted {
            Some((group, key)) => group.adopt(key, socket),
            None => victims::close(&socket),
        }
    }
}

impl Group {
    /// Sends what waits for a request. What the successor has no room for stays idle.
    fn pass(&mut self, successor: BorrowedFd<'_>) -> Result<(), Errno> {
        let keys: Vec<PlaceKey> = self.held.keys().collect();
        for key in keys {
            let Some(record) = self.table.record(key.index) else { continue };
            let Some(socket) = self.held.get(key) else { continue };
            if record.place.claim(key.generation, Member::SUPERVISOR).is_err() {
                continue;
            }
            let moved = Moved::of(record).encode();
            if let Err(error) = fd::send_datagram(successor, &moved, &[socket.as_raw_fd()]) {
                record.place.release(key.generation);
                self.must_look = true;
                return Err(error);
            }
            self.held.forget(key);
            self.table.free(key);
        }
        Ok(())
    }

    /// Allocates a place for a connection of the predecessor.
    fn record(&self, moved: &Moved) -> Option<PlaceKey> {
        if !self.has_room() {
            return None;
        }
        let random = u32::try_from(self.held.len()).unwrap_or(0);
        let key = self.table.allocate(Member::SUPERVISOR, random)?;
        let record = self.table.record(key.index)?;
        record.set_used_at(moved.used_at);
        if record.set_facts(&moved.facts).is_err() {
            self.table.free(key);
            return None;
        }
        Some(key)
    }

    /// Offers a connection to all workers.
    fn adopt(&mut self, key: PlaceKey, socket: OwnedFd) {
        match self.held.install(&self.table, key, socket) {
            Installed::Held { .. } => self.distribution.offer_to_all(key),
            Installed::Refused(refused) => return victims::close(&refused), // The table was overwritten.
        }
        if let Some(record) = self.table.record(key.index) {
            record.place.release(key.generation);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_is_read_as_it_was_written_but_for_the_listener() {
        let sent = Moved { used_at: Duration::from_micros(5_000_001), facts: vec![7; FACT_BYTES] };
        let bytes = sent.encode();
        assert_eq!(bytes.len(), DATAGRAM_BYTES);
        let read = Moved::decode(&bytes).unwrap();
        assert_eq!(read.used_at, sent.used_at);
        assert_ne!(read.facts, sent.facts);
        assert_eq!(read.facts.iter().filter(|byte| **byte != 7).count(), 2);
    }

    #[test]
    fn a_datagram_of_another_version_is_refused() {
        let mut bytes = Moved { used_at: Duration::ZERO, facts: vec![0; 40] }.encode();
        assert!(Moved::decode(&bytes).is_some());
        bytes[0] += 1;
        assert_eq!(Moved::decode(&bytes), None);
        assert_eq!(Moved::decode(&[VERSION, 0, 0]), None);
        assert_eq!(Moved::decode(&[]), None);
    }
}
