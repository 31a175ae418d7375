//! One client of the worker: its socket, its [`Connection`], and what it is doing.
//!
//! [`Connection`] is the pure protocol machine, and says what is due next. The client adds what that takes
//! outside of the protocol: the descriptor, unread bytes, the spool of a request body, and what the application
//! still owes. What belongs to one request only is part of its activity:
//!
//! | activity | what it holds | ends with |
//! |---|---|---|
//! | Receiving | the spool of a request body that came in several reads | [`Client::begin_call`]: Called |
//! | Called | the request's [`Timing`], and its [`Record`] if somebody needs it once it is finished | [`Client::stream`]: Streaming; [`Client::send_file`]: SendingFile; [`Client::close_reply`]: Receiving |
//! | Streaming | the rest of the application's reply, the timing, and the record | [`Client::close_reply`]: Receiving |
//! | SendingFile | the file, its owner if that is the application, the timing, and the record | [`Client::close_reply`]: Receiving |
//!
//! A client is Receiving as well while the connection answers by itself (408, 413 and the like) and while it
//! lingers: the application has no part in that. Before a client is removed, its last step ends its reply.

pub(super) mod tls;

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{io, mem};

use super::claimed_place::{ClaimedPlace, Progress};
use super::client_timer::{Armed, ClientTimer};
use super::file_transfer::FileTransfer;
use super::record::{Record, Timing};
use super::stalls::Stalls;
use super::transport::{Stage, Transport};
use crate::application::AppBody;
use crate::body_budget::BodyBudget;
use crate::body_memory::BodyMemory;
use crate::connection::{CloseManner, ConnInfo, Connection, Rules, Timer};
use crate::event_loop::client_table::Token;
use crate::event_loop::deadlines::Deadlines;
use crate::event_loop::poller::{Interest, Poller};
use crate::http::Persistence;
use crate::process::fork_guard::FdGuard;
use crate::shared::fd::Arrival;
use crate::spool::Spool;

/// A connection and everything that belongs to its current request.
pub struct Client<B: AppBody> {
    /// Declared before the socket, because it has to be dropped first.
    guard: FdGuard,
    transport: Transport,
    conn: Connection<B::Chunk>,
    /// Bytes that were read but not used before the loop went on to other clients.
    unread: Vec<u8>,
    /// What has arrived of the PROXY header that the connection has to begin with. Boxed, because few servers await
    /// one, and only for a moment.
    #[expect(clippy::box_collection, reason = "an idle connection has a pointer, not a vector")]
    proxy_header: Option<Box<Vec<u8>>>,
    activity: Activity<B>,
    /// How long the first request waited in the kernel before the connection was accepted. Unknown once the
    /// first request has been called, or once the loop waits for the peer.
    queue_wait: Option<Duration>,
    /// Until when the peer retransmits what a closed accept queue dropped, if the connection comes from one.
    resends_until: Option<Instant>,
    /// Whether the peer may have left, so that the socket has to be checked before the application is called.
    may_have_left: bool,
    /// What epoll(7) watches for; `None` while it does not know the socket.
    watched: Option<Interest>,
    /// The place of the connection in the table of shared ones, which this worker has claimed.
    shared: Option<ClaimedPlace>,
    timer: ClientTimer,
}

/// What a client is doing. The module has the table of transitions.
enum Activity<B: AppBody> {
    Receiving { spool: Option<Spool> },
    Called { timing: Timing, record: Option<Box<Record>> },
    Streaming { body: B, timing: Timing, record: Box<Record> },
    SendingFile { owner: Option<B>, transfer: FileTransfer, timing: Timing, record: Box<Record> },
}

/// The parts of a client that produce and send the next item of a streamed reply.
pub struct Streaming<'c, B: AppBody> {
    /// The rest of the reply.
    pub body: &'c mut B,
    /// The request that it answers.
    pub record: &'c Record,
    /// How long it has taken so far.
    pub timing: &'c mut Timing,
    /// Where items go.
    pub conn: &'c mut Connection<B::Chunk>,
    /// Where `write()` sends directly.
    pub transport: &'c mut Transport,
}

impl<B: AppBody> Client<B> {
    /// Takes over a connection that was just accepted, or that another worker kept.
    pub fn adopt(transport: Transport, info: ConnInfo) -> Self {
        Self {
            guard: FdGuard::of(transport.socket()),
            transport,
            conn: Connection::new(info),
            unread: Vec::new(),
            proxy_header: None,
            activity: Activity::Receiving { spool: None },
            queue_wait: None,
            resends_until: None,
            may_have_left: false,
            watched: None,
            shared: None,
            timer: ClientTimer::default(),
        }
    }

    /// Takes over an accepted connection. A Unix socket has no `arrival`: its client may have left if it had to
    /// wait for a busy loop, `has_waited`.
    pub fn accepted(
        transport: Transport,
        info: ConnInfo,
        arrival: Option<Arrival>,
        has_waited: bool,
    ) -> Self {
        Self {
            queue_wait: arrival.map(|arrival| arrival.waited),
            may_have_left: arrival.map_or(has_waited, |arrival| arrival.is_half_closed),
            ..Self::adopt(transport, info)
        }
    }

    /// Gives an idle connection to another owner; nothing but the descriptor and [`ConnInfo`] is left of it. A
    /// connection with a request under way is handed back.
    #[expect(clippy::result_large_err, reason = "a busy connection is handed back as it was")]
    pub fn release(mut self) -> Result<(OwnedFd, ConnInfo), Self> {
        let is_bound = self.transport.is_encrypted(); // The keys of TLS are this process's.
        if !self.unread.is_empty() || self.awaits_proxy_header() || is_bound {
            return Err(self);
        }
        match self.conn.release() {
            Ok(info) => {
                drop(self.guard);
                Ok((self.transport.into_socket(), info))
            }
            Err(conn) => {
                self.conn = conn;
                Err(self)
            }
        }
    }

    /// The protocol machine.
    pub fn conn(&self) -> &Connection<B::Chunk> {
        &self.conn
    }

    /// The protocol machine, to take a step.
    pub fn conn_mut(&mut self) -> &mut Connection<B::Chunk> {
        &mut self.conn
    }

    /// The descriptor, non-blocking.
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.transport.socket()
    }

    /// What carries the bytes.
    pub fn transport(&self) -> &Transport {
        &self.transport
    }

    /// The descriptor, if the connection is this worker's alone and plain: then the supervisor may need it to answer
    /// for this worker.
    #[inline]
    pub(super) fn own_socket(&self) -> Option<RawFd> {
        let is_own = self.shared.is_none() && !self.transport.is_encrypted();
        is_own.then(|| self.socket().as_raw_fd())
    }

    /// The protocol machine, and what its bytes go to.
    pub fn conn_and_transport(&mut self) -> (&mut Connection<B::Chunk>, &mut Transport) {
        (&mut self.conn, &mut self.transport)
    }

    /// Moves the unread bytes to the front of `buffer`, and says how many they are.
    pub fn take_unread(&mut self, buffer: &mut [u8]) -> usize {
        let unread = mem::take(&mut self.unread);
        buffer[..unread.len()].copy_from_slice(&unread);
        unread.len()
    }

    /// Keeps bytes that were read but not used until the client's next turn.
    pub fn keep_unread(&mut self, bytes: &[u8]) {
        self.unread = bytes.to_vec();
    }

    /// Bytes that were read but not used.
    pub fn unread(&self) -> &[u8] {
        &self.unread
    }

    /// Whether no byte of a request is here, and neither a PROXY header nor a handshake of TLS has begun that a request
    /// will follow.
    pub fn is_idle(&self) -> bool {
        self.conn.is_idle()
            && self.unread.is_empty()
            && self.proxy_header.as_ref().is_none_or(|header| header.is_empty())
            && self.tls_stage() != Some(Stage::Handshake)
    }

    /// Whether the client may be closed to make room for others.
    pub fn is_expendable(&self) -> bool {
        let is_early = self.awaits_proxy_header() || self.is_handshaking();
        self.conn.is_lingering() || self.is_idle() || is_early
    }
}

/// Before and between requests.
impl<B: AppBody> Client<B> {
    /// The connection has to begin with a PROXY header.
    pub fn await_proxy_header(&mut self) {
        self.proxy_header = Some(Box::default());
    }

    /// Whether the PROXY header is due or incomplete.
    #[inline]
    pub fn awaits_proxy_header(&self) -> bool {
        self.proxy_header.is_some() && self.conn.is_idle()
    }

    /// What has arrived of the PROXY header, if it is awaited.
    pub fn proxy_header(&mut self) -> Option<&mut Vec<u8>> {
        self.proxy_header.as_deref_mut()
    }

    /// The PROXY header is complete, or nobody waits for it any more.
    pub fn end_proxy_header(&mut self) {
        self.proxy_header = None;
    }

    /// The peer may have left: check the socket before the next call of the application.
    pub fn suspect(&mut self) {
        self.may_have_left = true;
    }

    /// Whether the socket has to be checked before this call; not for the next one.
    pub fn take_suspicion(&mut self) -> bool {
        mem::take(&mut self.may_have_left)
    }

    /// From now on the loop waits for the peer, not the request for the loop.
    pub fn await_peer(&mut self) {
        self.queue_wait = None;
    }

    /// How long the first request waited in the kernel; for one request only.
    pub fn take_queue_wait(&mut self) -> Option<Duration> {
        self.queue_wait.take()
    }

    /// The connection comes from a closed accept queue, which dropped what its peer has sent. The peer
    /// retransmits it before `until`.
    pub fn expect_resend(&mut self, until: Instant) {
        self.resends_until = Some(until);
    }

    /// Until when the peer may retransmit its first request, which a closed accept queue dropped; `None` once
    /// something has arrived, or the time is over.
    pub fn awaits_resend(&self, now: Instant) -> Option<Instant> {
        let is_silent = self.is_idle() && self.conn.awaits_first_request();
        self.resends_until.filter(|until| is_silent && *until > now)
    }
}

/// One request and its reply: the transitions of the activity.
impl<B: AppBody> Client<B> {
    /// Appends to the spool of the request body. As much of it as `budget` allows stays in what `memory` makes.
    pub fn store(
        &mut self,
        bytes: &[u8],
        memory: impl FnOnce(bool) -> Box<dyn BodyMemory>,
        budget: &Arc<BodyBudget>,
        temp_dir: &Path,
    ) -> io::Result<()> {
        match &mut self.activity {
            Activity::Receiving { spool } => {
                let announced = self.conn.announced_bytes();
                let fresh = || Spool::new(memory(announced.is_some()), budget, announced, temp_dir);
                spool.get_or_insert_with(fresh).append(bytes)
            }
            Activity::Called { .. } | Activity::Streaming { .. } | Activity::SendingFile { .. } => {
                unreachable!("the connection stores no body while a reply is on its way")
            }
        }
    }

    /// The spooled request body, if there is one.
    pub fn take_spool(&mut self) -> Option<Spool> {
        match &mut self.activity {
            Activity::Receiving { spool } => spool.take(),
            Activity::Called { .. } | Activity::Streaming { .. } | Activity::SendingFile { .. } => {
                None
            }
        }
    }

    /// The application is about to be called. `record` is kept for those who read about the request once it is finished.
    pub fn begin_call(&mut self, timing: Timing, record: Option<Box<Record>>) {
        self.show(Progress::Called);
        self.activity = Activity::Called { timing, record };
    }

    /// The application returned items that it produces one by one. `record` makes the record of the request, if
    /// there is none yet.
    pub fn stream(&mut self, body: B, record: impl FnOnce() -> Record) {
        let Some((timing, kept)) = self.take_called() else { return body.close() };
        let record = kept.unwrap_or_else(|| Box::new(record()));
        self.activity = Activity::Streaming { body, timing, record };
    }

    /// The response is a file. If the application returned it, `owner` is to be closed once it is sent. `record` as in
    /// [`Client::stream`].
    pub fn send_file(
        &mut self,
        transfer: FileTransfer,
        owner: Option<B>,
        record: impl FnOnce() -> Record,
    ) {
        let Some((timing, kept)) = self.take_called() else {
            return owner.map_or((), AppBody::close);
        };
        let record = kept.unwrap_or_else(|| Box::new(record()));
        self.activity = Activity::SendingFile { owner, transfer, timing, record };
    }

    fn take_called(&mut self) -> Option<(Timing, Option<Box<Record>>)> {
        match &mut self.activity {
            Activity::Called { timing, record } => Some((*timing, record.take())),
            Activity::Receiving { .. }
            | Activity::Streaming { .. }
            | Activity::SendingFile { .. } => None,
        }
    }

    /// The times of the request that is being answered.
    pub fn timing(&mut self) -> Option<&mut Timing> {
        match &mut self.activity {
            Activity::Receiving { .. } => None,
            Activity::Called { timing, .. }
            | Activity::Streaming { timing, .. }
            | Activity::SendingFile { timing, .. } => Some(timing),
        }
    }

    /// The request that is being answered, if it is recorded.
    pub fn record(&self) -> Option<&Record> {
        match &self.activity {
            Activity::Receiving { .. } => None,
            Activity::Called { record, .. } => record.as_deref(),
            Activity::Streaming { record, .. } | Activity::SendingFile { record, .. } => {
                Some(record)
            }
        }
    }

    /// The same, to add what is known of the response.
    pub fn record_mut(&mut self) -> Option<&mut Record> {
        match &mut self.activity {
            Activity::Receiving { .. } => None,
            Activity::Called { record, .. } => record.as_deref_mut(),
            Activity::Streaming { record, .. } | Activity::SendingFile { record, .. } => {
                Some(record)
            }
        }
    }

    /// What the next item of the reply takes, if the application still produces items.
    pub fn streaming(&mut self) -> Option<Streaming<'_, B>> {
        match &mut self.activity {
            Activity::Streaming { body, timing, record } => {
                let (conn, transport) = (&mut self.conn, &mut self.transport);
                Some(Streaming { body, record, timing, conn, transport })
            }
            Activity::Receiving { .. } | Activity::Called { .. } | Activity::SendingFile { .. } => {
                None
            }
        }
    }

    /// The file that is being sent.
    pub fn transfer(&mut self) -> Option<&mut FileTransfer> {
        match &mut self.activity {
            Activity::SendingFile { transfer, .. } => Some(transfer),
            Activity::Receiving { .. } | Activity::Called { .. } | Activity::Streaming { .. } => {
                None
            }
        }
    }

    /// The file that is being sent, the protocol machine, and what the file goes to.
    pub fn transfer_and_conn(
        &mut self,
    ) -> Option<(&mut FileTransfer, &mut Connection<B::Chunk>, &mut Transport)> {
        match &mut self.activity {
            Activity::SendingFile { transfer, .. } => {
                Some((transfer, &mut self.conn, &mut self.transport))
            }
            Activity::Receiving { .. } | Activity::Called { .. } | Activity::Streaming { .. } => {
                None
            }
        }
    }

    /// Whether closing the reply calls the application's `close()`.
    pub fn owes_close(&self) -> bool {
        match &self.activity {
            Activity::Streaming { .. } | Activity::SendingFile { owner: Some(_), .. } => true,
            Activity::Receiving { .. }
            | Activity::Called { .. }
            | Activity::SendingFile { owner: None, .. } => false,
        }
    }

    /// Closes the application's side of a reply: each iterable exactly once. The client then receives the next
    /// request. Returns the record of this one, if there is one.
    pub fn close_reply(&mut self) -> Option<Box<Record>> {
        if let Activity::Called { record, .. } = &mut self.activity {
            // Most replies end here, and moving an activity out copies all of it.
            let record = record.take();
            self.activity = Activity::Receiving { spool: None };
            return record;
        }
        match mem::replace(&mut self.activity, Activity::Receiving { spool: None }) {
            Activity::Receiving { .. } => None,
            Activity::Called { record, .. } => record,
            Activity::Streaming { body, record, .. } => {
                body.close();
                Some(record)
            }
            Activity::SendingFile { owner, record, .. } => {
                if let Some(owner) = owner {
                    owner.close();
                }
                Some(record)
            }
        }
    }
}

/// Its place in the table of shared connections.
impl<B: AppBody> Client<B> {
    /// Takes over a shared connection that this worker has claimed, and that epoll watches as [`Interest::Shared`].
    pub(super) fn claimed(socket: OwnedFd, info: ConnInfo, place: ClaimedPlace) -> Self {
        Self {
            shared: Some(place),
            watched: Some(Interest::Shared),
            ..Self::adopt(Transport::plain(socket), info)
        }
    }

    /// The place that this worker has claimed; `None` if the connection is not shared.
    pub(super) fn place(&self) -> Option<&ClaimedPlace> {
        self.shared.as_ref()
    }

    /// From now on the connection is shared.
    pub(super) fn set_place(&mut self, place: ClaimedPlace) {
        self.shared = Some(place);
    }

    /// The connection is not shared any more.
    pub(super) fn take_place(&mut self) -> Option<ClaimedPlace> {
        self.shared.take()
    }

    /// Whether this is an idle connection of this worker that others could serve as well.
    pub(super) fn is_shareable(&self) -> bool {
        let is_own = self.shared.is_none() && !self.transport.is_encrypted();
        is_own && self.is_idle() && !self.awaits_proxy_header()
    }

    /// The last byte of a response was sent: from now on, a shared connection counts as idle.
    #[inline]
    pub(super) fn show_answered(&self, monotonic: Duration) {
        if let Some(place) = &self.shared {
            place.record.set_used_at(monotonic);
            place.show(Progress::Answered);
        }
    }

    /// Shows the progress of a shared connection to whoever takes over from this worker if it dies.
    #[inline]
    pub(super) fn show(&self, progress: Progress) {
        if let Some(place) = &self.shared {
            place.show(progress);
        }
    }
}

/// What the loop waits for.
impl<B: AppBody> Client<B> {
    /// What epoll watches for.
    pub fn watched(&self) -> Option<Interest> {
        self.watched
    }

    /// Has epoll watch for this.
    pub(super) fn watch(
        &mut self,
        poller: &Poller,
        key: u64,
        interest: Interest,
    ) -> io::Result<()> {
        match self.watched {
            None => poller.add(self.socket(), key, interest)?,
            Some(watched) if watched == interest => {}
            // EPOLL_CTL_MOD of an exclusive entry, or to one, fails with EINVAL.
            Some(watched) if [watched, interest].contains(&Interest::Shared) => {
                poller.remove(self.socket())?;
                self.watched = None;
                poller.add(self.socket(), key, interest)?;
            }
            Some(_) => poller.modify(self.socket(), key, interest)?,
        }
        self.watched = Some(interest);
        Ok(())
    }

    /// Has another epoll instance watch for the same. A socket that the application has closed, too, is watched by none:
    /// its deadline ends the connection.
    pub(super) fn watch_again(&mut self, poller: &Poller, key: u64) {
        if let Some(interest) = self.watched
            && poller.add(self.socket(), key, interest).is_err()
        {
            self.watched = None;
        }
    }

    /// Takes the socket out of epoll. Closing it would not: a child of the application may hold a duplicate.
    pub(super) fn unwatch(&mut self, poller: &Poller) {
        if self.watched.take().is_some() {
            // Ignored: nothing can be done about an entry that stays.
            let _ = poller.remove(self.socket());
        }
    }

    /// The deadline that is armed.
    pub(super) fn timer(&mut self) -> &mut ClientTimer {
        &mut self.timer
    }

    /// A deadline has passed.
    pub fn expire(&mut self, timer: Timer, rules: &Rules<'_>) {
        // Until the handshake is complete, the connection waits for its first request.
        let timer = if timer == Timer::Handshake { Timer::KeepAlive } else { timer };
        self.conn.expire(timer, &self.unread, rules);
    }

    /// Arms the deadline of the state that the connection is in now.
    pub(super) fn arm(
        &mut self,
        deadlines: &mut Deadlines,
        token: Token,
        now: Instant,
        persistence: Persistence,
        stalls: &Stalls,
    ) {
        let served = self.conn.info().served;
        let wanted = self.due_timer().map(|timer| Armed { timer, served });
        self.timer.arm(wanted, deadlines, token, now, persistence, stalls);
    }

    /// Bytes have moved: the peer gets more time.
    pub fn progressed(&mut self) {
        self.timer.progressed();
    }

    /// Closes the descriptor; the application's side is closed already.
    pub fn close(self, manner: CloseManner) {
        drop(self.guard);
        self.transport.close(manner);
    }
}

#[cfg(test)]
mod tests;
