//! Notices that the application has closed a descriptor of the worker, or has put another file in its place
//! (`os.closerange()`, a daemonizing library).
//!
//! | lost descriptor | what the worker cannot do without it |
//! |---|---|
//! | listener | accept, although it seems ready: its clients would wait forever |
//! | control socket | notice that its supervisor is gone |
//! | doorbell | notice an order in its sleep |
//! | mailbox | share connections, or tell that it leaves the group |
//! | directory of static files | tell its files from those of another directory: it serves none any more |
//! | epoll instance | anything: epoll_wait(2) fails at once, and the worker exits |
//!
//! The worker finishes its requests and exits, so that it is replaced. The lost numbers are not closed: they may belong to
//! files of the application by now.

use std::os::fd::{AsFd, OwnedFd};

use super::EventLoop;
use super::acceptor::Acceptor;
use super::phase::{DrainCause, Phase};
use super::sharing::Sharing;
use super::supervision::SupervisorLink;
use crate::application::Application;
use crate::event_loop::drive::Kept;
use crate::process::fork_guard;
use crate::shared::fd::file::FileId;
use crate::shared::log::{Level, Value};

/// What the worker's descriptors stood for when its loop began.
pub(super) struct OwnDescriptors {
    doorbell: Option<FileId>,
    control: Option<FileId>,
    listeners: Vec<Option<FileId>>,
    mailbox: Option<FileId>,
}

impl OwnDescriptors {
    /// The descriptors of a loop that begins.
    pub(super) fn of(
        link: &SupervisorLink,
        acceptor: &Acceptor,
        sharing: Option<&Sharing>,
    ) -> Self {
        Self {
            doorbell: link.doorbell().and_then(FileId::of),
            control: link.control_fd().and_then(FileId::of),
            listeners: acceptor.sockets().map(FileId::of).collect(),
            mailbox: sharing.and_then(Sharing::mailbox).and_then(FileId::of),
        }
    }
}

impl<A: Application> EventLoop<'_, A> {
    /// Drains if a descriptor is lost. The loop calls this about once a second.
    pub(super) fn check_descriptors(&mut self) -> std::io::Result<()> {
        let own = &mut self.guards.own;
        let is_lost =
            |before: Option<FileId>, now: Option<FileId>| before.is_some() && before != now;
        let doorbell = is_lost(own.doorbell, self.link.doorbell().and_then(FileId::of));
        let control = is_lost(own.control, self.link.control_fd().and_then(FileId::of));
        let now = self.acceptor.sockets().map(FileId::of);
        let listeners: Vec<bool> =
            own.listeners.iter().zip(now).map(|(before, now)| is_lost(*before, now)).collect();
        let listener = listeners.contains(&true);
        let sharing = self.clients.sharing.as_deref();
        let mailbox = sharing.and_then(Sharing::mailbox).and_then(FileId::of);
        let mailbox = is_lost(own.mailbox, mailbox);
        let files = self.context.files.as_mut();
        let directory = files.is_some_and(|files| files.give_up_lost_directories());
        if !(doorbell || control || listener || mailbox || directory) {
            return Ok(());
        }
        for (is_lost, name) in [
            (listener, "listener"),
            (control, "control socket"),
            (doorbell, "doorbell"),
            (mailbox, "mailbox"),
            (directory, "directory of static files"),
        ] {
            if is_lost {
                let pairs = [("descriptor", Value::Text(name))];
                self.context.log.line(Level::Error, "worker.descriptor_lost", &pairs);
            }
        }
        if control {
            own.control = None;
            leave(self.link.control_fd.take());
            // From here on it is as if the supervisor had closed its end.
            self.link.control.end(self.context.clock.now());
        }
        if doorbell {
            own.doorbell = None;
            leave(self.link.doorbell.take());
        }
        if mailbox {
            own.mailbox = None;
        }
        if doorbell || listener || mailbox {
            if let Some(sharing) = &mut self.clients.sharing {
                sharing.abandon_group(mailbox);
                if self.context.kept == Kept::Shareable {
                    self.context.kept = Kept::None;
                }
            }
            self.acceptor.abandon(&self.poller, &listeners);
            self.watch_again()?;
        }
        if doorbell || listener || mailbox || directory {
            match self.phase {
                Phase::Serving | Phase::LameDuck => self.begin_drain(DrainCause::Signal),
                Phase::Draining { .. } | Phase::Exiting { .. } => {}
            }
        }
        Ok(())
    }

    /// Starts with a new epoll instance. As long as another process holds the file of a lost descriptor, the old one goes
    /// on reporting it, and cannot be told otherwise without the descriptor.
    fn watch_again(&mut self) -> std::io::Result<()> {
        if self.poller.restart().is_err() {
            return Ok(()); // EMFILE: it costs time to be woken in vain, until the requests are finished.
        }
        self.link.watch(&self.poller)?;
        self.clients.watch_again(&self.poller);
        Ok(())
    }
}

/// Gives up a lost descriptor without closing its number.
fn leave(lost: Option<OwnedFd>) {
    if let Some(lost) = lost {
        fork_guard::forget(lost.as_fd());
        std::mem::forget(lost);
    }
}
