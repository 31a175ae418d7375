//! Kept connections that the workers of a group share, as a source: the supervisor holds a descriptor of each one,
//! passes it to the workers that have none, and takes over what a dead worker has left
//! ([`arctos_worker::shared::connection_table`]).
//!
//! | event | what the supervisor does |
//! |---|---|
//! | an offer | holds the connection, and sends it to the other workers of the group |
//! | a worker is ready | sends it every connection that is held |
//! | a worker drains | sends it nothing more, and looks for requests whose event it has taken |
//! | the mailbox of a worker that runs has ended | does the same: its application has closed the descriptor |
//! | the last worker of a group drains, and no other one starts | ends the connections that wait for a request |
//! | a worker is reaped | reads what it has still sent, ends the requests that it served, and looks likewise |
//! | an upgrade | sends idle connections to the successor ([`succession`]) |
//! | every second | closes descriptors of connections that are gone, and repeats what could not be sent |

mod succession;

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use arctos_worker::shared::connection_table::distribution::Distribution;
use arctos_worker::shared::connection_table::holdings::{Holdings, Installed};
use arctos_worker::shared::connection_table::message::{self, Kind, MAX_KEYS, MESSAGE_BYTES};
use arctos_worker::shared::connection_table::{
    ConnectionTable, GROUP_SIZE, Life, MAX_MEMBERS, MAX_PLACES, Member, PlaceKey,
};
use arctos_worker::shared::fd::{self, Datagram};
use arctos_worker::shared::identity::SlotId;
use arctos_worker::shared::scoreboard::{Side, WorkerEntry};
use arctos_worker::worker_init::GroupMembership;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::clock;
use super::source::{Report, Round, Source};
use super::victims::{self, DeadWorker, Stage, Victims};
use crate::system::descriptors::OwnDescriptors;
use succession::Succession;

/// How often the supervisor looks for connections that are gone.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// How many messages of one worker are read in a round.
const MESSAGES: usize = 64;
/// A mailbox holds fewer messages than this.
const FULL_MAILBOX: usize = 512;
/// How many descriptors are sent to a worker at once, so that few are under way while it is in a request.
const SENT_AT_ONCE: usize = 64;
const _: () = assert!(SENT_AT_ONCE <= MAX_KEYS);

/// All groups of workers that share connections.
pub(super) struct SharedConnections {
    groups: Vec<Group>,
    next_sweep: Instant,
    succession: Succession,
    next_pass: Instant,
}

/// The workers that share connections with each other.
struct Group {
    table: ConnectionTable,
    held: Holdings<OwnedFd>,
    distribution: Distribution,
    /// By number.
    members: [Option<MemberLink>; MAX_MEMBERS],
    /// Whether events may be lost, so that the workers have to be told what has arrived.
    must_look: bool,
    /// Whether the last worker has left the group, and no other one starts: nobody would serve what is held.
    is_abandoned: bool,
}

/// One worker.
struct MemberLink {
    mailbox: OwnedFd,
    entry: &'static WorkerEntry,
    progress: MemberProgress,
    /// The places that it has to look at, and that it was not told of yet.
    unlooked: BTreeSet<u32>,
    /// Whether the last message failed although there was room (ETOOMANYREFS): no event says when to try again.
    is_stalled: bool,
    /// Connections that it has shared and that this process could not take: nobody else has them.
    unheld: Vec<PlaceKey>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum MemberProgress {
    Booting,
    Serving,
    /// It drains: it gets nothing more.
    Leaving,
    /// Its mailbox has ended: it gets nothing more, and sends nothing.
    Lost,
}

impl MemberLink {
    fn new(mailbox: OwnedFd, entry: &'static WorkerEntry) -> Self {
        Self {
            mailbox,
            entry,
            progress: MemberProgress::Booting,
            unlooked: BTreeSet::new(),
            is_stalled: false,
            unheld: Vec::new(),
        }
    }

    /// Sends a message, and returns whether that was possible.
    fn send(&mut self, kind: Kind, keys: &[PlaceKey], sockets: &[RawFd]) -> bool {
        if keys.is_empty() {
            return true;
        }
        let message = message::encode(kind, keys);
        let sent = fd::send_datagram(self.mailbox.as_fd(), &message, sockets);
        // After EAGAIN, poll(2) says when there is room. After any other error it would say so at once.
        self.is_stalled = sent.is_err_and(|error| error != Errno::EAGAIN);
        sent.is_ok()
    }
}

impl SharedConnections {
    /// Groups for this number of workers. Those of further slots share nothing.
    pub(super) fn new(worker_count: u16, now: Instant) -> io::Result<Self> {
        let count = worker_count.max(1).div_ceil(u16::from(GROUP_SIZE));
        let groups = (0..count).map(|_| Group::new()).collect::<io::Result<_>>()?;
        Ok(Self {
            groups,
            next_sweep: now + SWEEP_INTERVAL,
            succession: Succession::None,
            next_pass: now,
        })
    }

    /// The tables of all groups, for zygotes.
    pub(super) fn tables(&self) -> Vec<ConnectionTable> {
        self.groups.iter().map(|group| group.table).collect()
    }

    /// Opens the mailbox of a worker that is about to be started. `None` if its slot belongs to no group.
    pub(super) fn open(
        &mut self,
        slot: SlotId,
        side: Side,
        entry: &'static WorkerEntry,
    ) -> io::Result<Option<GroupMembership>> {
        let count = self.groups.len();
        let place = usize::from(slot.0) / count;
        let Some(number) = u8::try_from(2 * place + side as usize).ok() else { return Ok(None) };
        let index = usize::from(slot.0) % count;
        let group = &mut self.groups[index];
        let Some(link) = group.members.get_mut(usize::from(number)) else { return Ok(None) };
        let (mailbox, worker_mailbox) = fd::datagram_pair()?;
        *link = Some(MemberLink::new(mailbox, entry));
        group.is_abandoned = false;
        group.table.add_slot(number);
        let table = group.table;
        let index = index as u16; // There are fewer groups than slots.
        Ok(Some(GroupMembership { table, index, number, mailbox: worker_mailbox }))
    }

    /// The number of connections that wait for a request.
    pub(super) fn idle_count(&self) -> u32 {
        let idle = |group: &Group| group.held.keys().filter(|key| group.is_idle(*key)).count();
        u32::try_from(self.groups.iter().map(idle).sum::<usize>()).unwrap_or(u32::MAX)
    }

    /// A worker was reaped.
    pub(super) fn end_member(
        &mut self,
        dead: &mut DeadWorker,
        victims: &mut Victims,
        now: Instant,
    ) {
        for group in &mut self.groups {
            for number in group.numbers_of(dead.entry) {
                group.end_member(number, dead, victims, now);
            }
        }
    }
}

impl Group {
    fn new() -> io::Result<Self> {
        Ok(Self {
            table: ConnectionTable::create(MAX_PLACES)?,
            held: Holdings::new(),
            distribution: Distribution::default(),
            members: [const { None }; MAX_MEMBERS],
            must_look: false,
            is_abandoned: false,
        })
    }

    fn numbers_of(&self, entry: &'static WorkerEntry) -> Vec<u8> {
        let is_of = |member: &Option<MemberLink>| {
            member.as_ref().is_some_and(|member| std::ptr::eq(member.entry, entry))
        };
        (0..).zip(&self.members).filter(|(_, member)| is_of(member)).map(|(n, _)| n).collect()
    }

    fn member(&self, number: u8) -> Option<&MemberLink> {
        self.members.get(usize::from(number))?.as_ref()
    }

    /// Reads what has arrived, and sends what follows from it.
    fn turn(&mut self, ready_fds: &[RawFd]) {
        self.welcome();
        for number in 0..MAX_MEMBERS as u8 {
            let mailbox = self.member(number).map(|member| member.mailbox.as_raw_fd());
            if mailbox.is_some_and(|mailbox| ready_fds.contains(&mailbox)) {
                self.read(number);
            }
        }
        if self.must_look {
            self.read_all();
            self.look();
        }
        self.distribute();
    }

    /// Reads what all workers have sent so far: a look misses a connection whose offer was not read, and its event may
    /// be the one that was taken.
    fn read_all(&mut self) {
        for number in 0..MAX_MEMBERS as u8 {
            let is_lost = self.member(number).is_none_or(|it| it.progress == MemberProgress::Lost);
            // A worker that goes on sending does not keep the loop.
            let mut rounds = if is_lost { 0 } else { FULL_MAILBOX / MESSAGES };
            while rounds > 0 && self.read(number) {
                rounds -= 1;
            }
        }
    }

    /// Reads what a worker has sent. Returns whether there may be more.
    fn read(&mut self, number: u8) -> bool {
        let mut bytes = [0; MESSAGE_BYTES];
        for _ in 0..MESSAGES {
            let mut sockets = Vec::new();
            let Some(member) = self.member(number) else { return false };
            let len = match fd::receive_datagram(member.mailbox.as_fd(), &mut bytes, &mut sockets) {
                Datagram::Received(len) => len,
                Datagram::Nothing => return false,
                Datagram::Ended => {
                    self.leave(number, MemberProgress::Lost);
                    return false;
                }
            };
            match message::decode(&bytes[..len]) {
                Some((Kind::Offer, keys)) => {
                    // There are fewer descriptors than keys if this process cannot have more (MSG_CTRUNC).
                    let mut sockets = sockets.into_iter();
                    keys.for_each(|key| self.hold(number, key, sockets.next()));
                }
                Some((Kind::Leave, _)) => self.leave(number, MemberProgress::Leaving),
                Some((Kind::Look, _)) => self.must_look = true,
                Some((Kind::Install, _)) | None => {} // Not from a worker of this build.
            }
        }
        true
    }

    fn hold(&mut self, number: u8, key: PlaceKey, socket: Option<OwnedFd>) {
        let has_room = self.has_room();
        // The other workers do not get what this process cannot hold.
        let Some(socket) = socket.filter(|_| has_room) else {
            if let Some(Some(member)) = self.members.get_mut(usize::from(number)) {
                member.unheld.push(key);
            }
            return;
        };
        match self.held.install(&self.table, key, socket) {
            Installed::Held { .. } => self.distribution.offer(number, key),
            Installed::Refused(_) => {} // It is gone already.
        }
    }

    /// A worker drains, or its mailbox has ended.
    fn leave(&mut self, number: u8, progress: MemberProgress) {
        self.distribution.leave(number);
        self.table.set_serving(number, false);
        if let Some(Some(member)) = self.members.get_mut(usize::from(number)) {
            member.progress = progress;
            member.unlooked.clear();
        }
        self.must_look = true;
        // The mailbox of a worker that has died ends as well, and that worker is about to be replaced.
        self.is_abandoned |= !self.is_served() && progress == MemberProgress::Leaving;
    }

    /// Whether a worker serves what is held, or is about to.
    fn is_served(&self) -> bool {
        let goes_on = [MemberProgress::Booting, MemberProgress::Serving];
        self.members.iter().flatten().any(|it| goes_on.contains(&it.progress))
    }

    /// Whether there are descriptors enough to hold one more.
    fn has_room(&self) -> bool {
        (self.held.len() as u64) < fd::descriptor_limit() / 2
    }

    /// Ends the connections that have waited for a request for this long.
    fn end_idle(&mut self, limit: Duration) {
        let now = clock::monotonic().unwrap_or_default();
        let keys: Vec<PlaceKey> = self.held.keys().collect();
        for key in keys {
            let Some(record) = self.table.record(key.index) else { continue };
            let is_late = now.saturating_sub(record.used_at()) >= limit;
            if is_late && record.place.claim(key.generation, Member::SUPERVISOR).is_ok() {
                self.held.forget(key).iter().for_each(victims::close);
                self.table.free(key);
            }
        }
    }

    /// Workers that are ready now get everything.
    fn welcome(&mut self) {
        for number in 0..MAX_MEMBERS as u8 {
            let Some(Some(member)) = self.members.get_mut(usize::from(number)) else { continue };
            if member.progress == MemberProgress::Booting && member.entry.is_ready() {
                member.progress = MemberProgress::Serving;
                self.table.set_serving(number, true);
                self.distribution.join(number, self.held.keys());
            }
        }
    }

    /// Sends what is still to be sent, as far as the mailboxes have room.
    fn distribute(&mut self) {
        for number in 0..MAX_MEMBERS as u8 {
            if self.member(number).is_some_and(|member| !member.is_stalled) {
                while self.distribution.has_unsent(number) && self.send_some(number) {}
                self.send_looks(number);
            }
        }
    }

    /// Returns whether something was sent.
    fn send_some(&mut self, number: u8) -> bool {
        let places = self.distribution.next(number, SENT_AT_ONCE);
        let (mut keys, mut sockets) = (Vec::new(), Vec::new());
        for key in places.iter().filter_map(|place| self.held.at(*place)) {
            if let Some(socket) = self.held.get(key) {
                keys.push(key);
                sockets.push(socket.as_raw_fd());
            }
        }
        let Some(Some(member)) = self.members.get_mut(usize::from(number)) else { return false };
        let is_sent = member.send(Kind::Install, &keys, &sockets);
        if is_sent {
            self.distribution.sent(number, &places);
        }
        is_sent
    }

    /// Takes over from a worker that was reaped.
    fn end_member(
        &mut self,
        number: u8,
        worker: &mut DeadWorker,
        victims: &mut Victims,
        now: Instant,
    ) {
        while self.read(number) {}
        self.distribution.leave(number);
        self.table.set_serving(number, false);
        let link = self.members.get_mut(usize::from(number)).and_then(Option::take);
        let Some(dead) = Member::worker(number) else { return };
        for index in 0..self.table.used_end() {
            let Some(record) = self.table.record(index) else { continue };
            let Some((generation, life)) = record.place.take_over(dead) else { continue };
            let key = PlaceKey { index, generation };
            match life {
                Life::Claimed(_) if self.held.get(key).is_some() => {
                    record.place.release(generation);
                    continue;
                }
                Life::Reading(_) => self.answer(key, worker, Stage::Read, victims, now),
                // The application runs one request at a time, so this is the one of the scoreboard.
                Life::Running(_) => self.answer(key, worker, Stage::Running, victims, now),
                Life::Claimed(_) | Life::Replying(_) | Life::Free | Life::Idle => {
                    self.held.forget(key).iter().for_each(victims::close);
                }
            }
            self.table.free(key);
        }
        // What only this worker had ended with it.
        for key in link.into_iter().flat_map(|link| link.unheld) {
            let place = self.table.record(key.index).map(|record| &record.place);
            if place.is_some_and(|it| it.claim(key.generation, Member::SUPERVISOR).is_ok()) {
                self.table.free(key);
            }
        }
        self.look();
    }

    /// Answers the request that a dead worker has read and not answered.
    fn answer(
        &mut self,
        key: PlaceKey,
        worker: &mut DeadWorker,
        stage: Stage,
        victims: &mut Victims,
        now: Instant,
    ) {
        if let Some(socket) = self.held.forget(key) {
            victims.answer(worker, stage, socket, now);
        }
    }

    /// Tells all workers which idle connections have something to read: the event may have gone to one that is dead
    /// or has left.
    fn look(&mut self) {
        self.must_look = false;
        let idle: Vec<PlaceKey> = self.held.keys().filter(|key| self.is_idle(*key)).collect();
        let mut fds: Vec<PollFd<'_>> = Vec::new();
        let sockets = idle.iter().filter_map(|key| self.held.get(*key));
        fds.extend(sockets.map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN)));
        if fds.is_empty() || poll(&mut fds, PollTimeout::ZERO).is_err() {
            return;
        }
        let ready = idle.iter().zip(&fds).filter(|(_, fd)| fd.any() == Some(true));
        let ready: Vec<PlaceKey> = ready.map(|(key, _)| *key).collect();
        for member in self.members.iter_mut().flatten() {
            if member.progress == MemberProgress::Serving {
                member.unlooked.extend(ready.iter().map(|key| key.index));
            }
        }
        for number in 0..MAX_MEMBERS as u8 {
            self.send_looks(number);
        }
    }

    /// Tells a worker where to look, as far as its mailbox has room.
    fn send_looks(&mut self, number: u8) {
        let Some(Some(member)) = self.members.get_mut(usize::from(number)) else { return };
        while !member.unlooked.is_empty() {
            let places: Vec<u32> = member.unlooked.iter().take(MAX_KEYS).copied().collect();
            let keys: Vec<PlaceKey> =
                places.iter().filter_map(|place| self.held.at(*place)).collect();
            if !member.send(Kind::Look, &keys, &[]) {
                return;
            }
            for place in places {
                member.unlooked.remove(&place);
            }
        }
    }

    /// Does what is due from time to time.
    fn sweep(&mut self, keep_alive: Duration, goes_on: bool) {
        self.held.take_stale(&self.table);
        let table = self.table;
        for member in self.members.iter_mut().flatten() {
            member.is_stalled = false;
            member.unheld.retain(|key| table.has(*key));
        }
        if self.is_abandoned && !goes_on {
            self.end_idle(Duration::ZERO);
        } else if self.members.iter().all(Option::is_none) {
            self.end_idle(keep_alive); // The workers do this as long as there are any.
        }
        self.distribute();
    }

    fn is_idle(&self, key: PlaceKey) -> bool {
        self.table
            .record(key.index)
            .is_some_and(|record| record.place.read() == (key.generation, Life::Idle))
    }
}

impl Source for SharedConnections {
    fn poll<'fd>(&'fd self, fds: &mut Vec<PollFd<'fd>>) {
        if let Succession::From(socket) = &self.succession {
            fds.push(PollFd::new(socket.as_fd(), PollFlags::POLLIN));
        }
        for group in &self.groups {
            for (member, number) in group.members.iter().zip(0..) {
                let Some(member) = member else { continue };
                if member.progress == MemberProgress::Lost {
                    continue; // It would be ready all the time.
                }
                let mut flags = PollFlags::POLLIN;
                let has_unsent =
                    group.distribution.has_unsent(number) || !member.unlooked.is_empty();
                flags.set(PollFlags::POLLOUT, has_unsent && !member.is_stalled);
                fds.push(PollFd::new(member.mailbox.as_fd(), flags));
            }
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        let is_needed = self.groups.iter().any(|group| !group.held.is_empty());
        let pass = match self.succession {
            Succession::To(_) => Some(self.next_pass),
            Succession::None | Succession::From(_) => None,
        };
        pass.into_iter().chain([self.next_sweep]).min().filter(|_| is_needed)
    }

    fn read(&mut self, round: &Round, _reports: &mut Vec<Report>) {
        self.receive();
        for group in &mut self.groups {
            group.turn(&round.ready_fds);
        }
    }

    fn check_deadlines(&mut self, round: &Round, _reports: &mut Vec<Report>) {
        self.pass_if_due(round.now);
        if round.now < self.next_sweep {
            return;
        }
        self.next_sweep = round.now + SWEEP_INTERVAL;
        // After a pause or in a reload, other workers will serve what the last ones have left.
        let goes_on = self.succession.is_to() || !round.is_settled;
        for group in &mut self.groups {
            group.sweep(round.revision.config.worker.timeouts.keep_alive, goes_on);
        }
    }

    fn list_descriptors(&self, own: &mut OwnDescriptors) {
        own.extend(self.succession.socket());
        for group in &self.groups {
            group.members.iter().flatten().for_each(|member| own.add(&member.mailbox));
            group.held.keys().for_each(|key| own.extend(group.held.get(key)));
        }
    }
}

#[cfg(test)]
mod tests;
