//! How a worker leaves its group: it drains or exits, or its application has closed descriptors.

use std::mem;

use super::{Membership, RETRY_INTERVAL, SharedSocket, Sharing};
use crate::application::Application;
use crate::event_loop::EventLoop;
use crate::event_loop::client::Client;
use crate::event_loop::client_table::Token;
use crate::event_loop::drive::Kept;
use crate::settings::KeepaliveMode;
use crate::shared::connection_table::PlaceKey;
use crate::shared::connection_table::message::Kind;

impl Sharing {
    /// Whether a connection that this worker leaves to its group will be served.
    fn has_heirs(&self, has_successor: bool) -> bool {
        self.membership == Membership::Member
            && self.mode != KeepaliveMode::Sticky
            && self.mailbox.is_some()
            && (has_successor || self.table.has_other_serving(self.number))
    }

    /// Leaves the group because the application has closed descriptors of this worker: those of shared connections may be
    /// files of the application by now, so they are neither used nor closed.
    pub(in crate::event_loop) fn abandon_group(&mut self, is_mailbox_lost: bool) {
        let held: Vec<PlaceKey> = self.holdings.keys().collect();
        for socket in held.into_iter().filter_map(|key| self.holdings.take(key)) {
            mem::forget(socket.into_inner());
        }
        self.due.clear();
        if is_mailbox_lost {
            // The supervisor notices that the mailbox was closed, and does the same as after a Leave.
            mem::forget(self.mailbox.take().map(SharedSocket::into_inner));
            self.unsent = None;
        } else if self.membership == Membership::Member {
            self.tell(Kind::Leave);
        }
        self.membership = Membership::Abandoned;
    }
}

impl<A: Application> EventLoop<'_, A> {
    /// Whether a worker that begins to drain can leave its connections to others.
    pub(in crate::event_loop) fn has_heirs(&self) -> bool {
        let has_successor = self.acceptor.passes_connections();
        let sharing = self.clients.sharing.as_ref();
        !self.acceptor.ends_connections() && sharing.is_some_and(|it| it.has_heirs(has_successor))
    }

    /// The worker drains or exits. Its idle connections go to the others, unless the whole server stops: then this
    /// worker takes as many as it can, to close them as its own.
    pub(in crate::event_loop) fn leave_group(&mut self, is_last: bool) {
        let Some(sharing) = &mut self.clients.sharing else { return };
        if sharing.membership != Membership::Member {
            return;
        }
        if is_last {
            sharing.membership = Membership::Last;
            // The server may have begun to pause or to stop since this worker began to drain.
            self.context.kept = Kept::None;
            self.take_back_all();
        } else {
            self.share_idle();
        }
        let Some(sharing) = &mut self.clients.sharing else { return };
        if !is_last {
            sharing.membership = Membership::Left;
            sharing.next_sweep = self.context.clock.now() + RETRY_INTERVAL;
        }
        let held: Vec<PlaceKey> = sharing.holdings.keys().collect();
        for socket in held.into_iter().filter_map(|key| sharing.holdings.take(key)) {
            // ENOENT: it could not be watched.
            let _ = self.poller.remove(&socket);
        }
        sharing.due.clear();
        // The supervisor looks for what this worker has been told of, once it is told of nothing more.
        sharing.tell(Kind::Leave);
    }

    /// A worker that drains tries again soon if the mailbox had no room for all of its connections or for the Leave: what
    /// it still has when it exits is closed.
    pub(in crate::event_loop) fn hurry(&mut self) {
        let is_left = self.clients.any(Client::is_shareable);
        let Some(sharing) = &mut self.clients.sharing else { return };
        if sharing.membership != Membership::Left {
            return;
        }
        if is_left || sharing.unsent.is_some() {
            sharing.next_sweep = self.context.clock.now() + RETRY_INTERVAL;
        }
        if sharing.due.is_empty() {
            // Another worker was faster to claim these.
            let held: Vec<PlaceKey> = sharing.holdings.keys().collect();
            for key in held {
                if let Some(socket) = sharing.holdings.take(key) {
                    sharing.close_stale(socket, &self.poller);
                }
            }
        }
    }

    /// Makes all shared connections that are idle this worker's own.
    fn take_back_all(&mut self) {
        let keys: Vec<PlaceKey> = match &self.clients.sharing {
            Some(sharing) => sharing.holdings.keys().collect(),
            None => Vec::new(),
        };
        let claimed: Vec<Token> =
            keys.into_iter().filter_map(|key| self.claim_for(key, true)).collect();
        for token in claimed {
            self.unshare(token);
            self.serve(token, false);
        }
    }
}
