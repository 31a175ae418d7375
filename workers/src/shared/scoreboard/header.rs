//! What concerns all workers: the state of the server as a whole.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::shared::identity::Generation;
use crate::shared::scoreboard::cell::Moment;
use crate::shared::scoreboard::counters::Counters;

/// What concerns all workers. Written by the supervisor.
#[repr(C, align(128))]
pub struct Header {
    state: AtomicU32,
    generation: AtomicU32,
    worker_count: AtomicU32,
    shares_listeners: AtomicU32,
    drain_deadline: Moment,
    /// What the supervisor counts of itself.
    pub counters: Counters,
}

impl Header {
    pub(super) const fn new() -> Self {
        Self {
            state: AtomicU32::new(ServerState::Starting as u32),
            generation: AtomicU32::new(0),
            worker_count: AtomicU32::new(0),
            shares_listeners: AtomicU32::new(0),
            drain_deadline: Moment::none(),
            counters: Counters::new(),
        }
    }

    /// A header outside shared memory, for tests and the in-process server. Never given back.
    pub fn detached() -> &'static Self {
        Box::leak(Box::new(Self::new()))
    }

    /// What the server is doing; an unknown word reads as `Serving`.
    pub fn state(&self) -> ServerState {
        ServerState::from_word(self.state.load(Ordering::Relaxed))
    }

    /// Supervisor: what the server is doing.
    pub fn set_state(&self, state: ServerState) {
        self.state.store(state as u32, Ordering::Relaxed);
    }

    /// The generation that serves, or that is being rolled out.
    pub fn generation(&self) -> Generation {
        Generation(self.generation.load(Ordering::Relaxed))
    }

    /// Supervisor: the generation that serves, or that is being rolled out.
    pub fn set_generation(&self, generation: Generation) {
        self.generation.store(generation.0, Ordering::Relaxed);
    }

    /// Workers that lived when the supervisor last looked, booting and draining ones too.
    pub fn worker_count(&self) -> u32 {
        self.worker_count.load(Ordering::Relaxed)
    }

    /// Supervisor: workers that live.
    pub fn set_worker_count(&self, count: u32) {
        self.worker_count.store(count, Ordering::Relaxed);
    }

    /// Whether another server has the same listening sockets, during an upgrade: then who is left alone
    /// must not end them.
    pub fn shares_listeners(&self) -> bool {
        self.shares_listeners.load(Ordering::Relaxed) != 0
    }

    /// Supervisor: whether another server has the same listening sockets.
    pub fn set_shares_listeners(&self, is_shared: bool) {
        self.shares_listeners.store(u32::from(is_shared), Ordering::Relaxed);
    }

    /// The moment (CLOCK_MONOTONIC since boot) by which draining workers are to have left; `None` when
    /// there is none.
    pub fn drain_deadline(&self) -> Option<Duration> {
        self.drain_deadline.get()
    }

    /// Supervisor: the moment by which draining workers are to have left. Set before the command.
    pub fn set_drain_deadline(&self, monotonic: Option<Duration>) {
        self.drain_deadline.set(monotonic);
    }
}

/// What the server as a whole is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum ServerState {
    /// Not yet all workers of the first set are ready.
    Starting = 0,
    /// Serving.
    Serving = 1,
    /// Asked to stop.
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
    fn the_header_keeps_what_the_supervisor_says() {
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
