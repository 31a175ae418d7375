//! The header of the scoreboard: the state of the server as a whole.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::shared::identity::Generation;
use crate::shared::scoreboard::cell::Moment;
use crate::shared::scoreboard::counters::Counters;
use crate::shared::scoreboard::quarantine::QuarantineTable;

/// The part of the scoreboard that all workers share. The supervisor writes it.
#[repr(C, align(128))]
pub struct Header {
    state: AtomicU32,
    generation: AtomicU32,
    worker_count: AtomicU32,
    shares_listeners: AtomicU32,
    passes_connections: AtomicU32,
    is_paused: AtomicU32,
    drain_deadline: Moment,
    /// The counters of the supervisor itself.
    pub counters: Counters,
    /// The requests that workers refuse for a while.
    pub quarantine: QuarantineTable,
}

impl Header {
    pub(super) fn new() -> Self {
        Self {
            state: AtomicU32::new(ServerState::Starting as u32),
            generation: AtomicU32::new(0),
            worker_count: AtomicU32::new(0),
            shares_listeners: AtomicU32::new(0),
            passes_connections: AtomicU32::new(0),
            is_paused: AtomicU32::new(0),
            drain_deadline: Moment::none(),
            counters: Counters::new(),
            quarantine: QuarantineTable::new(),
        }
    }

    /// A header outside shared memory, for tests and embedded servers. It is never freed.
    pub fn detached() -> &'static Self {
        Box::leak(Box::new(Self::new()))
    }

    /// What the server is doing; an unknown word reads as `Serving`.
    pub fn state(&self) -> ServerState {
        ServerState::from_word(self.state.load(Ordering::Relaxed))
    }

    /// Called by the supervisor.
    pub fn set_state(&self, state: ServerState) {
        self.state.store(state as u32, Ordering::Relaxed);
    }

    /// The generation that serves, or that is being rolled out.
    pub fn generation(&self) -> Generation {
        Generation(self.generation.load(Ordering::Relaxed))
    }

    /// Called by the supervisor.
    pub fn set_generation(&self, generation: Generation) {
        self.generation.store(generation.0, Ordering::Relaxed);
    }

    /// The number of workers when the supervisor last counted them, including booting and draining ones.
    pub fn worker_count(&self) -> u32 {
        self.worker_count.load(Ordering::Relaxed)
    }

    /// Called by the supervisor.
    pub fn set_worker_count(&self, count: u32) {
        self.worker_count.store(count, Ordering::Relaxed);
    }

    /// Whether another server has the same listening sockets, during an upgrade. Then an orphan must not shut them
    /// down.
    pub fn shares_listeners(&self) -> bool {
        self.shares_listeners.load(Ordering::Relaxed) != 0
    }

    /// Called by the supervisor.
    pub fn set_shares_listeners(&self, is_shared: bool) {
        self.shares_listeners.store(u32::from(is_shared), Ordering::Relaxed);
    }

    /// Whether the server stops after an upgrade, and the connections that clients keep go on in its successor.
    pub fn passes_connections(&self) -> bool {
        self.passes_connections.load(Ordering::Relaxed) != 0
    }

    /// Called by the supervisor, before it stops.
    pub fn set_passes_connections(&self, passes: bool) {
        self.passes_connections.store(u32::from(passes), Ordering::Relaxed);
    }

    /// Whether all workers drain, and no other ones start for the time being.
    pub fn is_paused(&self) -> bool {
        self.is_paused.load(Ordering::Relaxed) != 0
    }

    /// Called by the supervisor, before it sets the commands.
    pub fn set_paused(&self, is_paused: bool) {
        self.is_paused.store(u32::from(is_paused), Ordering::Relaxed);
    }

    /// When draining workers have to have exited at the latest (CLOCK_MONOTONIC since boot).
    pub fn drain_deadline(&self) -> Option<Duration> {
        self.drain_deadline.get()
    }

    /// Called by the supervisor, before it sets the command.
    pub fn set_drain_deadline(&self, monotonic: Option<Duration>) {
        self.drain_deadline.set(monotonic);
    }
}

/// What the server as a whole is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum ServerState {
    /// Some workers of the first set are not ready yet.
    Starting = 0,
    /// Serving.
    Serving = 1,
    /// The server was asked to stop.
    Stopping = 2,
}

impl ServerState {
    fn from_word(word: u32) -> Self {
        const ALL: [ServerState; 3] =
            [ServerState::Starting, ServerState::Serving, ServerState::Stopping];
        ALL.into_iter().find(|&state| state as u32 == word).unwrap_or(Self::Serving)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_keeps_what_the_supervisor_writes() {
        let header = Header::detached();
        header.set_state(ServerState::Stopping);
        header.set_generation(Generation(9));
        header.set_worker_count(4);
        header.set_drain_deadline(Some(Duration::from_secs(25)));
        assert_eq!(header.state(), ServerState::Stopping);
        assert_eq!(header.generation(), Generation(9));
        assert_eq!(header.worker_count(), 4);
        assert_eq!(header.drain_deadline(), Some(Duration::from_secs(25)));
        header.set_drain_deadline(None);
        assert_eq!(header.drain_deadline(), None);
        assert!(!header.shares_listeners());
        header.set_shares_listeners(true);
        assert!(header.shares_listeners());
    }

    #[test]
    fn a_state_word_that_nobody_wrote_reads_as_serving() {
        let header = Header::detached();
        header.state.store(77, Ordering::Relaxed);
        assert_eq!(header.state(), ServerState::Serving);
    }
}
