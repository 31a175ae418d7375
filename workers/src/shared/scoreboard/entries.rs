//! The scoreboard: what workers tell and the supervisor reads, and the other way round, through shared
//! memory. Every value is an atomic with a single writer, so all of it is plain safe Rust.
//!
//! The supervisor makes it before its first fork, and every process that comes from it sees the same
//! pages. A successor program has a scoreboard of its own: its version may lay it out otherwise. What this one
//! has counted it is told by name.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::shared::identity::{Generation, SlotId};
use crate::shared::scoreboard::cell::Moment;
use crate::shared::scoreboard::shared_memory::Mapping;
use crate::shared::scoreboard::{Counters, WorkerEntry};

/// The whole mapping: a [`Header`] and two [`WorkerEntry`]s a slot. Never unmapped.
pub struct Scoreboard {
    mapping: Mapping,
    slot_count: u16,
}

/// Which of a slot's two entries: a replacement boots in one while its predecessor drains in the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The first.
    A,
    /// The second.
    B,
}

impl Side {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::A, Self::B];

    /// The other one.
    pub fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

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

const HEADER_BYTES: usize = size_of::<Header>();
const BLOCK_BYTES: usize = size_of::<WorkerEntry>();

impl Scoreboard {
    /// Maps a new scoreboard for up to `slots` slots: a sealed-size memfd_create(2), MAP_SHARED, zeroed.
    pub fn create(slots: u16) -> io::Result<Self> {
        let bytes = HEADER_BYTES + 2 * usize::from(slots) * BLOCK_BYTES;
        Ok(Self { mapping: Mapping::create(bytes)?, slot_count: slots })
    }

    /// The header.
    pub fn header(&self) -> &'static Header {
        self.mapping.at(0).expect("the header is always there")
    }

    /// One entry; `None` past the last slot.
    pub fn entry(&self, slot: SlotId, side: Side) -> Option<&'static WorkerEntry> {
        if slot.0 >= self.slot_count {
            return None;
        }
        let index = 2 * usize::from(slot.0) + side as usize;
        self.mapping.at(HEADER_BYTES + index * BLOCK_BYTES)
    }

    /// Slots there is room for.
    pub fn slot_count(&self) -> u16 {
        self.slot_count
    }

    /// The memory file, close-on-exec.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.mapping.as_fd()
    }
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

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::os::fd::AsRawFd;

    use nix::fcntl::{FcntlArg, SealFlag, fcntl};

    use super::*;
    use crate::shared::scoreboard::{Command, Counter};

    #[test]
    fn a_new_board_has_two_blocks_a_slot_and_no_more() {
        let scoreboard = Scoreboard::create(3).unwrap();
        let mut entries = HashSet::new();
        for slot in 0..3 {
            for side in [Side::A, Side::B] {
                let entry = scoreboard.entry(SlotId(slot), side).unwrap();
                assert_eq!(entry.command(), Command::Serve);
                assert!(entries.insert(std::ptr::from_ref(entry)));
            }
        }
        assert!(scoreboard.entry(SlotId(3), Side::A).is_none());
        assert!(scoreboard.entry(SlotId(u16::MAX), Side::B).is_none());
        assert_eq!(scoreboard.slot_count(), 3);
    }

    #[test]
    fn the_supervisor_has_counters_of_its_own() {
        let scoreboard = Scoreboard::create(1).unwrap();
        scoreboard.header().counters.inc(Counter::LogDropped);
        assert_eq!(scoreboard.header().counters.get(Counter::LogDropped), 1);
        let entry = scoreboard.entry(SlotId(0), Side::A).unwrap();
        assert_eq!(entry.counters.get(Counter::LogDropped), 0);
        assert_eq!(scoreboard.header().state(), ServerState::Starting);
    }

    #[test]
    fn a_block_has_its_own_counters() {
        let scoreboard = Scoreboard::create(2).unwrap();
        let counters = |slot, side| &scoreboard.entry(SlotId(slot), side).unwrap().counters;
        counters(0, Side::A).inc(Counter::ReqDone);
        counters(1, Side::B).add(Counter::ReqDone, 7);
        assert_eq!(counters(0, Side::A).get(Counter::ReqDone), 1);
        assert_eq!(counters(0, Side::B).get(Counter::ReqDone), 0);
        assert_eq!(counters(1, Side::A).get(Counter::ReqDone), 0);
        assert_eq!(counters(1, Side::B).get(Counter::ReqDone), 7);
    }

    #[test]
    fn a_board_without_slots_has_a_header() {
        let scoreboard = Scoreboard::create(0).unwrap();
        assert_eq!(scoreboard.header().state(), ServerState::Starting);
        assert!(scoreboard.entry(SlotId(0), Side::A).is_none());
    }

    #[test]
    fn blocks_outlive_the_board() {
        let scoreboard = Scoreboard::create(1).unwrap();
        let entry = scoreboard.entry(SlotId(0), Side::A).unwrap();
        drop(scoreboard);
        entry.counters.inc(Counter::ReqDone);
        assert_eq!(entry.counters.get(Counter::ReqDone), 1);
    }

    #[test]
    fn the_size_is_sealed() {
        let scoreboard = Scoreboard::create(1).unwrap();
        assert!(nix::unistd::ftruncate(scoreboard.as_fd(), 0).is_err());
        assert!(nix::unistd::ftruncate(scoreboard.as_fd(), 1 << 20).is_err());
        let seals = fcntl(scoreboard.as_fd(), FcntlArg::F_GET_SEALS).unwrap();
        let size = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW;
        assert!(SealFlag::from_bits_retain(seals).contains(size));
    }

    #[test]
    fn what_is_written_is_seen_through_another_mapping_of_the_file() {
        let scoreboard = Scoreboard::create(1).unwrap();
        scoreboard.header().set_generation(Generation(0x0102_0304));
        let path = format!("/proc/self/fd/{}", scoreboard.as_fd().as_raw_fd());
        let bytes = std::fs::read(path).unwrap();
        assert_eq!(bytes.len(), HEADER_BYTES + 2 * BLOCK_BYTES);
        assert_eq!(bytes[4..8], 0x0102_0304u32.to_ne_bytes());
    }

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
