//! The worker's part in the sharing of kept connections. [`crate::shared::connection_table`] lists its steps, in which
//! order they come, and why.
//!
//! While it serves a shared connection, the worker has it among its clients like any other. What has to wait for more
//! of a request is registered with epoll(7) for this worker alone; an idle one is registered as [`Interest::Shared`].

mod leaving;

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::claimed_place::{ClaimedPlace, Progress};
use super::service_time::{ServiceTime, Speed};
use super::{EventLoop, MAILBOX_KEY};
use crate::application::Application;
use crate::connection::facts::{self, Reading};
use crate::connection::{ConnInfo, Timer};
use crate::event_loop::client::Client;
use crate::event_loop::client_table::Token;
use crate::event_loop::clock::Clock;
use crate::event_loop::drive::Kept;
use crate::event_loop::poller::{Interest, Poller};
use crate::process::fork_guard::GuardedFd;
use crate::settings::KeepaliveMode;
use crate::shared::connection_table::holdings::{Claim, Holdings, Installed};
use crate::shared::connection_table::message::{self, Kind, MAX_KEYS, MESSAGE_BYTES};
use crate::shared::connection_table::{
    ConnectionTable, FACT_BYTES, Life, Member, PlaceKey, Record,
};
use crate::shared::fd::{self, Datagram, Io, send_datagram};
use crate::shared::socket_name::SocketName;
use crate::worker_init::GroupMembership;

/// The mean service time above which sharing costs little beside the request itself.
const SLOW: Duration = Duration::from_micros(300);
/// When a worker that drains tries again to share what it could not, because the mailbox was full.
const RETRY_INTERVAL: Duration = Duration::from_millis(10);
/// How often the worker looks for connections that are gone, that have been idle for too long, or that it could share.
const SWEEP_INTERVAL: Duration = Duration::from_millis(500);
/// How many connections are served at once because something has arrived while they were released.
const ROUNDS: usize = 4;
/// How many connections are offered in one message: as many as the supervisor sends at once.
const OFFERED_AT_ONCE: usize = 64;
const _: () = assert!(OFFERED_AT_ONCE <= MAX_KEYS);
/// The bit that tells the keys of shared connections from tokens.
const PLACE_BIT: u64 = 1 << 31;

/// A descriptor of a shared connection, which epoll watches.
type SharedSocket = GuardedFd<OwnedFd>;

/// See the module.
pub(super) struct Sharing {
    table: ConnectionTable,
    number: u8,
    member: Member,
    /// The socket to the supervisor; `None` once it is lost.
    mailbox: Option<GuardedFd<OwnedFd>>,
    mode: KeepaliveMode,
    holdings: Holdings<SharedSocket>,
    service_time: ServiceTime,
    /// Connections for which something has arrived that no event will report. The last one comes first.
    due: VecDeque<PlaceKey>,
    next_sweep: Instant,
    /// The place to try first for the next connection.
    random: u32,
    membership: Membership,
    /// What could not be sent to the supervisor because the mailbox was full.
    unsent: Option<Kind>,
}

/// Whether the worker takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Membership {
    Member,
    /// It drains: it finishes what it serves for the others, and gives them what is its own.
    Left,
    /// It drains because its application has closed descriptors: it only finishes what it serves for the others.
    Abandoned,
    /// It drains with the whole server: whatever it serves is its own.
    Last,
}

/// The key that epoll(7) carries for a shared connection: no token has this bit, and no place the last generation.
fn event_key(key: PlaceKey) -> u64 {
    u64::from(key.generation) << 32 | PLACE_BIT | u64::from(key.index)
}

/// The inverse of [`event_key`]; `None` for the key of anything else.
pub(super) fn place_of(event_key: u64) -> Option<PlaceKey> {
    let index = (event_key as u32) & !(PLACE_BIT as u32);
    let generation = (event_key >> 32) as u32;
    let is_place = event_key & PLACE_BIT != 0 && generation != u32::MAX;
    is_place.then_some(PlaceKey { index, generation })
}

fn reading(clock: &Clock) -> Reading {
    Reading { instant: clock.now(), monotonic: clock.monotonic() }
}

/// Stores what the next holder has to know. Returns false for a connection that nobody else can take over.
fn store_facts(record: &Record, info: &ConnInfo, clock: &Clock) -> bool {
    let mut bytes = [0; FACT_BYTES];
    let len = facts::encode(info, reading(clock), &mut bytes);
    len.is_some_and(|len| record.set_facts(&bytes[..len]).is_ok())
}

impl Sharing {
    /// Joins the group: has epoll watch the mailbox. The verdict on the application's speed is that of the last worker
    /// of this slot.
    pub(super) fn join(
        group: GroupMembership,
        mode: KeepaliveMode,
        poller: &Poller,
        clock: &Clock,
    ) -> io::Result<Self> {
        let GroupMembership { table, number, mailbox, .. } = group;
        let member = Member::worker(number).ok_or(io::ErrorKind::InvalidInput)?;
        let mailbox = GuardedFd::new(mailbox);
        poller.add(&mailbox, MAILBOX_KEY, Interest::Read)?;
        let speed = if table.is_slot_slow(number) { Speed::Slow } else { Speed::Fast };
        Ok(Self {
            table,
            number,
            member,
            mailbox: Some(mailbox),
            mode,
            holdings: Holdings::new(),
            service_time: ServiceTime::new(SLOW, speed, clock.monotonic()),
            due: VecDeque::new(),
            next_sweep: clock.now() + SWEEP_INTERVAL,
            random: u32::from(number).wrapping_mul(0x9e37_79b9),
            membership: Membership::Member,
            unsent: None,
        })
    }

    /// The socket to the supervisor; `None` once it is lost.
    pub(super) fn mailbox(&self) -> Option<BorrowedFd<'_>> {
        self.mailbox.as_ref().map(GuardedFd::as_fd)
    }

    /// Whether connections are shared at the moment.
    fn is_on(&self) -> bool {
        self.membership == Membership::Member
            && self.table.has_others(self.number)
            && match self.mode {
                KeepaliveMode::Sticky => false,
                KeepaliveMode::Shared => true,
                KeepaliveMode::Auto => self.table.is_slow(),
            }
    }

    /// Whether the worker may hold more, of at most `limit`, and has descriptors enough.
    fn has_room(&self, limit: usize) -> bool {
        let held = self.holdings.len();
        held < limit && (held as u64) < fd::descriptor_limit() / 2
    }

    /// Tells the others how many connections this worker has for itself.
    fn count_own(&self, clients: usize) {
        self.table.set_own(self.number, u32::try_from(clients).unwrap_or(u32::MAX));
    }

    /// A turn has ended: it began `requests`, and worked for `busy`. The worker has `clients` now.
    pub(super) fn measure(&mut self, busy: Duration, requests: u32, clients: usize, clock: &Clock) {
        self.count_own(clients);
        if let Some(speed) = self.service_time.turn(busy, requests, clock.monotonic()) {
            self.table.set_slow(self.number, speed == Speed::Slow);
        }
    }

    /// When the next sweep is due, if there is anything to look at.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let is_leaving = self.membership == Membership::Left;
        let is_needed = self.is_on() || is_leaving || !self.holdings.is_empty();
        is_needed.then_some(self.next_sweep)
    }

    /// Whether something has arrived that this worker has to look at before it sleeps.
    pub(super) fn has_due(&self) -> bool {
        !self.due.is_empty()
    }

    /// Closes the descriptor of a connection that is gone. If there are bytes, the connection may be shared again, at
    /// another place, and its event was lost with this descriptor: the supervisor has the others look.
    fn close_stale(&mut self, stale: SharedSocket, poller: &Poller) {
        // ENOENT: it could not be watched.
        let _ = poller.remove(&stale);
        if matches!(fd::peek(stale.as_fd(), &mut [0]), Io::Bytes(_)) {
            self.tell(Kind::Look);
        }
    }

    /// The connection of this place is closed, or belongs to this worker alone from now on.
    fn give_up_place(&mut self, key: PlaceKey) {
        self.holdings.forget(key);
        self.table.free(key);
    }

    /// Sends a message without keys to the supervisor, now or as soon as there is room.
    fn tell(&mut self, kind: Kind) {
        let Some(mailbox) = self.mailbox() else { return };
        let sent = send_datagram(mailbox, &message::encode(kind, &[]), &[]);
        // EPIPE: the supervisor is gone. After a Leave the supervisor looks as well.
        let is_full = sent == Err(Errno::EAGAIN);
        if is_full && self.unsent != Some(Kind::Leave) {
            self.unsent = Some(kind);
        }
    }

    /// Sends again what could not be sent.
    pub(super) fn tell_again(&mut self) {
        if let Some(kind) = self.unsent.take() {
            self.tell(kind);
        }
    }

    /// Looks whether something has arrived on a connection that was just released: its event may have come to a worker
    /// that could not claim it.
    fn look_again(&mut self, key: PlaceKey) -> bool {
        let held = self.holdings.get(key).map(AsFd::as_fd);
        let has_arrived = held.is_some_and(|socket| fd::peek(socket, &mut [0]) != Io::Blocked);
        if has_arrived {
            self.due.push_back(key);
        }
        has_arrived
    }

    /// Allocates a place for a connection of this worker, and records there what whoever serves it next has to know.
    /// It has been idle since then, or was answered just now.
    fn prepare(
        &mut self,
        info: &ConnInfo,
        idle_since: Option<Instant>,
        clock: &Clock,
    ) -> Option<ClaimedPlace> {
        self.random = self.random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let key = self.table.allocate(self.member, self.random >> 8)?;
        let record = self.table.record(key.index)?;
        let idle =
            idle_since.map_or(Duration::ZERO, |since| clock.now().saturating_duration_since(since));
        record.set_used_at(clock.monotonic().saturating_sub(idle));
        if !store_facts(record, info, clock) {
            self.table.free(key);
            return None;
        }
        Some(ClaimedPlace { key, record, member: self.member })
    }

    /// Sends the descriptors of prepared connections to the supervisor, and returns whether that was possible. If not
    /// (EAGAIN, ETOOMANYREFS), they stay with this worker.
    fn offer(&self, keys: &[PlaceKey], sockets: &[RawFd]) -> bool {
        let offer = message::encode(Kind::Offer, keys);
        let is_sent =
            self.mailbox().is_some_and(|mailbox| send_datagram(mailbox, &offer, sockets).is_ok());
        if !is_sent {
            keys.iter().for_each(|key| self.table.free(*key));
        }
        is_sent
    }

    /// Holds a descriptor that the supervisor has sent.
    fn install(&mut self, key: PlaceKey, socket: OwnedFd, poller: &Poller) {
        match self.holdings.install(&self.table, key, SharedSocket::new(socket)) {
            Installed::Held { stale } => {
                if let Some(stale) = stale {
                    self.close_stale(stale, poller);
                }
                let held = self.holdings.get(key);
                let watched =
                    held.map(|socket| poller.add(socket, event_key(key), Interest::Shared));
                if let Some(Err(_)) = watched {
                    // ENOSPC or ENOMEM: the other workers have it, too.
                    self.holdings.forget(key);
                }
            }
            Installed::Refused(refused) => drop(refused),
        }
    }
}

impl<A: Application> EventLoop<'_, A> {
    /// Receives one message from the supervisor; the next one has its turn with the next batch.
    pub(super) fn receive_shared(&mut self) {
        let Some(sharing) = &mut self.clients.sharing else { return };
        let Some(mailbox) = &sharing.mailbox else { return };
        let (mut bytes, mut sockets) = ([0; MESSAGE_BYTES], Vec::new());
        let len = match fd::receive_datagram(mailbox.as_fd(), &mut bytes, &mut sockets) {
            Datagram::Nothing => return,
            Datagram::Ended => {
                // The supervisor is gone. Nobody distributes connections any more.
                let _ = self.poller.remove(mailbox);
                sharing.mode = KeepaliveMode::Sticky;
                return;
            }
            Datagram::Received(len) => len,
        };
        let Some((kind, keys)) = message::decode(&bytes[..len]) else { return };
        match kind {
            Kind::Install if sharing.membership == Membership::Member => {
                for (key, socket) in keys.zip(sockets) {
                    sharing.install(key, socket, &self.poller);
                }
            }
            Kind::Look if sharing.membership == Membership::Member => sharing.due.extend(keys),
            Kind::Install | Kind::Look | Kind::Offer | Kind::Leave => {}
        }
    }

    /// An event of a shared connection: serves it, unless another worker does.
    pub(super) fn take_shared(&mut self, key: PlaceKey) {
        if let Some(token) = self.claim(key) {
            self.serve(token, false);
        }
    }

    /// Serves what has arrived while connections were released, at once: until then no other worker can. A client that
    /// sends one request after the other does not keep the loop for ever: after [`ROUNDS`] it waits for the next turn,
    /// behind all others.
    pub(super) fn take_due(&mut self) {
        for _ in 0..ROUNDS {
            let due = self.clients.sharing.as_mut().and_then(|sharing| sharing.due.pop_back());
            let Some(key) = due else { return };
            if let Some(token) = self.claim(key) {
                self.serve_once(token, false);
            }
        }
        if let Some(sharing) = &mut self.clients.sharing
            && let Some(last) = sharing.due.pop_back()
        {
            sharing.due.push_front(last);
        }
    }

    /// Claims a shared connection to which something has come, and adds it to the clients.
    fn claim(&mut self, key: PlaceKey) -> Option<Token> {
        if self.context.is_quick_stop() {
            return None; // This worker is about to leave the group, and has the others look.
        }
        self.claim_for(key, false)
    }

    fn claim_for(&mut self, key: PlaceKey, is_to_close: bool) -> Option<Token> {
        let sharing = self.clients.sharing.as_mut()?;
        let (table, member) = (sharing.table, sharing.member);
        let socket = match sharing.holdings.claim(&table, key, member) {
            Claim::Claimed(socket) => socket.into_inner(),
            Claim::Taken => return None,
            Claim::Gone(stale) => {
                if let Some(stale) = stale {
                    sharing.close_stale(stale, &self.poller);
                }
                return None;
            }
        };
        let record = table.record(key.index)?;
        // Another worker may have served what this event was about. Claimed, and not Reading, the connection would
        // survive the death of this worker.
        if !is_to_close && fd::peek(socket.as_fd(), &mut [0]) == Io::Blocked {
            sharing.holdings.put_back(key, SharedSocket::new(socket));
            record.place.release(key.generation);
            sharing.look_again(key);
            return None;
        }
        let mut facts = [0; FACT_BYTES];
        let len = record.facts(&mut facts);
        let place = ClaimedPlace { key, record, member };
        // Facts that cannot be read: somebody has overwritten the table. The connection ends.
        let info = facts::decode(&facts[..len], reading(&self.context.clock));
        let is_known = info.is_some();
        let info = info.unwrap_or_else(|| {
            let nobody = SocketName::Unix(String::new());
            ConnInfo::new(nobody.clone(), nobody, self.context.clock.now())
        });
        let mut client = Client::claimed(socket, info, place);
        if !is_to_close {
            place.show(Progress::Read); // Before the first byte is read: after that, nobody else can read it.
            if !self.schedule.has_slept {
                client.suspect(); // No event says that the peer has left (EPOLLRDHUP) while the request waited.
            }
        }
        if !is_known {
            client.conn_mut().failed(&self.context.entry.counters);
        }
        self.context.entry.claim_connection();
        Some(self.clients.table.insert(client))
    }

    /// An idle client waits for its next request. Shares it, releases it, or makes it this worker's own again, as the
    /// speed of the application demands. Returns whether the client has left the table.
    pub(super) fn settle(&mut self, token: Token) -> bool {
        let Some(sharing) = &mut self.clients.sharing else { return false };
        let Some(client) = self.clients.table.get_mut(token) else { return false };
        if !client.is_idle() {
            return false;
        }
        let is_on = sharing.is_on();
        if client.place().is_none() {
            let is_kept = client.conn().info().served > 0 && client.is_shareable();
            let has_left = sharing.membership == Membership::Left;
            let is_shared = (is_on || has_left) && is_kept && self.share(&[token]);
            if has_left && is_kept && !is_shared {
                self.context.kept = Kept::None; // Its clients would keep this worker from its end.
            }
            return is_shared;
        }
        sharing.count_own(self.clients.table.len());
        let stays_shared = match sharing.membership {
            Membership::Member => is_on || !sharing.table.may_own_more(sharing.number),
            Membership::Left | Membership::Abandoned => true,
            Membership::Last => false,
        };
        if stays_shared {
            return self.release(token);
        }
        self.unshare(token);
        false
    }

    /// Shares idle connections of this worker, at most [`MAX_KEYS`], and returns whether that was possible. Then they have
    /// left the table of clients.
    fn share(&mut self, tokens: &[Token]) -> bool {
        let Some(sharing) = &mut self.clients.sharing else { return false };
        if !sharing.has_room(self.clients.limit) {
            return false;
        }
        let (mut places, mut keys, mut sockets) = (Vec::new(), Vec::new(), Vec::new());
        for token in tokens {
            let Some(client) = self.clients.table.get(*token) else { continue };
            let idle_since = self.clients.deadlines.since(Timer::KeepAlive, *token);
            let prepared = sharing.prepare(client.conn().info(), idle_since, &self.context.clock);
            let Some(place) = prepared else { continue };
            keys.push(place.key);
            sockets.push(client.socket().as_raw_fd());
            places.push((*token, place));
        }
        if places.is_empty() || !sharing.offer(&keys, &sockets) {
            return false;
        }
        for (token, place) in places {
            self.release_first(token, place);
        }
        true
    }

    /// Releases a connection that was offered just now.
    fn release_first(&mut self, token: Token, place: ClaimedPlace) {
        let Some(sharing) = &mut self.clients.sharing else { return };
        let Some(client) = self.clients.table.get_mut(token) else { return };
        if let Some(stale) = sharing.holdings.lend_new(place.key) {
            sharing.close_stale(stale, &self.poller);
        }
        client.set_place(place);
        if !self.release(token) {
            self.serve_once(token, false); // It cannot be watched, and is closed.
        }
    }

    /// Releases a shared connection that is idle, and looks whether something has arrived meanwhile.
    fn release(&mut self, token: Token) -> bool {
        let Some(sharing) = &mut self.clients.sharing else { return false };
        let Some(client) = self.clients.table.get_mut(token) else { return false };
        let Some(ClaimedPlace { key, record, .. }) = client.place() else { return false };
        let (key, record) = (*key, *record);
        // From here on the connection counts as idle, whatever happens to this worker.
        record.place.advance(key.generation, Life::Claimed(sharing.member));
        let is_member = sharing.membership == Membership::Member;
        if is_member && client.watch(&self.poller, event_key(key), Interest::Shared).is_err() {
            return false; // ENOSPC or ENOMEM: the caller closes it.
        }
        if !store_facts(record, client.conn().info(), &self.context.clock) {
            return false; // Its names have not changed since it was shared, so this cannot happen.
        }
        self.clients.deadlines.clear_all(token);
        let Some(client) = self.clients.table.remove(token) else { return false };
        let Ok((socket, _)) = client.release() else { unreachable!("the client was idle") };
        self.context.entry.release_connection();
        sharing.holdings.put_back(key, SharedSocket::new(socket));
        record.place.release(key.generation);
        let has_arrived = sharing.look_again(key);
        if !has_arrived
            && !is_member
            && let Some(socket) = sharing.holdings.forget(key)
        {
            sharing.close_stale(socket, &self.poller);
        }
        true
    }

    /// Makes a shared connection that this worker serves its own.
    fn unshare(&mut self, token: Token) {
        let Some(sharing) = &mut self.clients.sharing else { return };
        let Some(client) = self.clients.table.get_mut(token) else { return };
        if let Some(place) = client.place() {
            place.record.place.advance(place.key.generation, Life::Claimed(place.member));
        }
        // If it cannot be watched any more, the caller finds that as well, and closes it.
        if client.watch(&self.poller, token.to_bits(), Interest::Read).is_err() {
            return;
        }
        if let Some(place) = client.take_place() {
            sharing.give_up_place(place.key);
        }
    }

    /// A client is about to be closed: nobody may claim its connection any more.
    pub(super) fn free_place(&mut self, client: &mut Client<A::Body>) {
        if let (Some(place), Some(sharing)) = (client.take_place(), &mut self.clients.sharing) {
            sharing.give_up_place(place.key);
        }
    }

    /// Shares all idle connections of this worker, as far as there is room.
    fn share_idle(&mut self) {
        let tokens: Vec<Token> = self.clients.table.tokens().collect();
        let is_shareable = |token: &Token| {
            self.clients.table.get(*token).is_some_and(|client| {
                client.is_shareable() && client.watched() == Some(Interest::Read)
            })
        };
        let idle: Vec<Token> = tokens.into_iter().filter(is_shareable).collect();
        for tokens in idle.chunks(OFFERED_AT_ONCE) {
            if !self.share(tokens) {
                return;
            }
        }
    }

    /// From time to time: closes descriptors of connections that are gone and connections that have been idle for too
    /// long, and shares those that were idle before sharing began.
    pub(super) fn sweep(&mut self) {
        let now = self.context.clock.now();
        let Some(sharing) = &mut self.clients.sharing else { return };
        if now < sharing.next_sweep {
            return;
        }
        sharing.next_sweep = now + SWEEP_INTERVAL;
        sharing.tell_again();
        for stale in sharing.holdings.take_stale(&sharing.table) {
            sharing.close_stale(stale, &self.poller);
        }
        let limit = self.context.settings.timeouts.keep_alive;
        let monotonic = self.context.clock.monotonic();
        let table = sharing.table;
        let is_late = |key: &PlaceKey| {
            let used_at = table.record(key.index).map(|record| record.used_at());
            used_at.is_some_and(|used_at| monotonic.saturating_sub(used_at) >= limit)
        };
        let late: Vec<PlaceKey> = sharing.holdings.keys().filter(is_late).collect();
        let gives_away = sharing.is_on() || sharing.membership == Membership::Left;
        for key in late {
            self.close_late(key);
        }
        if gives_away {
            self.share_idle();
            self.hurry();
        }
    }

    /// Closes a shared connection that has been idle for too long, unless a request has just arrived.
    fn close_late(&mut self, key: PlaceKey) {
        let Some(token) = self.claim_for(key, true) else { return };
        let Some(client) = self.clients.table.get_mut(token) else { return };
        let used_at = client.place().map(|place| place.record.used_at()).unwrap_or_default();
        let idle = self.context.clock.monotonic().saturating_sub(used_at);
        if fd::peek(client.socket(), &mut [0]) != Io::Blocked {
            client.show(Progress::Read);
        } else if idle >= self.context.settings.timeouts.keep_alive {
            client.expire(Timer::KeepAlive, &self.context.rules());
        }
        // If another worker has served it since, it goes back to the others.
        self.serve(token, false);
    }
}
