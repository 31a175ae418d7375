//! The board: what workers tell and the supervisor reads, and the other way round, through shared
//! memory. Every value is an atomic with a single writer, so all of it is plain safe Rust.

use std::io;
use std::time::Duration;

use crate::identity::{Generation, SlotId};
use crate::metrics::Counter;

/// The whole mapping: a [`Header`] and two [`Block`]s a slot. Never unmapped.
pub struct Board {
    _private: (),
}

/// Which of a slot's two blocks: a replacement boots in one while its predecessor drains in the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The first.
    A,
    /// The second.
    B,
}

/// What concerns all workers. Written by the supervisor.
pub struct Header {
    _private: (),
}

/// What the supervisor wants of a worker. Ordered: a later one is never taken back but by `Serve`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Command {
    /// Accept and answer.
    Serve,
    /// Go on accepting, but every response says `Connection: close`.
    Announce,
    /// Accept what is queued, close the listeners, finish what was taken, leave.
    Drain,
    /// Finish the running request and leave.
    Quick,
}

/// One worker's part of the board.
pub struct Block {
    /// Its counters.
    pub row: Row,
    /// Application call to last byte handed over.
    pub request_duration: Histogram,
    /// Time a request sat in the kernel before it was read.
    pub queue_wait: Histogram,
}

/// The counters of one worker, cumulative. Written by the worker alone.
pub struct Row {
    _private: (),
}

/// Log-linear histogram: 16 steps an octave, 16 us to 36 min.
pub struct Histogram {
    _private: (),
}

impl Board {
    /// Maps a new board for up to `slots` slots: a sealed-size memfd_create(2), MAP_SHARED, zeroed.
    pub fn create(_slots: u16) -> io::Result<Self> {
        todo!()
    }
    /// The header.
    pub fn header(&self) -> &'static Header {
        todo!()
    }
    /// One block; `None` past the last slot.
    pub fn block(&self, _slot: SlotId, _side: Side) -> Option<&'static Block> {
        todo!()
    }
    /// Slots there is room for.
    pub fn slot_count(&self) -> u16 {
        todo!()
    }
}

impl Block {
    /// A block outside shared memory, for tests and the in-process server.
    pub fn detached() -> &'static Self {
        todo!()
    }
    /// Supervisor, before fork: names the next occupant; command is `Serve` again, vitals are cleared,
    /// counters stay.
    pub fn assign(&self, _generation: Generation) {
        todo!()
    }
    /// Worker, first thing: stores its pid.
    pub fn occupy(&self, _pid: u32) {
        todo!()
    }
    /// The occupant's pid; 0 when none came yet.
    pub fn pid(&self) -> u32 {
        todo!()
    }
    /// Worker: the application is loaded.
    pub fn set_ready(&self) {
        todo!()
    }
    /// Whether the worker said it is ready.
    pub fn is_ready(&self) -> bool {
        todo!()
    }
    /// Supervisor: what it wants. The eventfd is rung by the caller.
    pub fn set_command(&self, _command: Command) {
        todo!()
    }
    /// Worker: what is wanted; an unknown word reads as `Serve`.
    pub fn command(&self) -> Command {
        todo!()
    }
    /// Worker, once a turn: the loop lives (CLOCK_MONOTONIC since boot, in ms).
    pub fn tick(&self, _monotonic: Duration) {
        todo!()
    }
    /// Worker: a request starts; busy until [`Block::end_request`]. `method` and `path` (never the
    /// query) are cut to 200 bytes together.
    pub fn begin_request(&self, _monotonic: Duration, _method: &[u8], _path: &[u8]) {
        todo!()
    }
    /// Worker: the application has returned.
    pub fn end_request(&self, _monotonic: Duration) {
        todo!()
    }
    /// When the running request started; `None` when none runs.
    pub fn request_start(&self) -> Option<Duration> {
        todo!()
    }
    /// Last [`Block::tick`].
    pub fn last_tick(&self) -> Duration {
        todo!()
    }
    /// Method and path of the running (or last) request; `None` when it changes too fast to read.
    pub fn request_line(&self) -> Option<String> {
        todo!()
    }
}

impl Row {
    /// Counts one.
    #[inline]
    pub fn inc(&self, counter: Counter) {
        self.add(counter, 1);
    }
    /// Counts `n`.
    #[inline]
    pub fn add(&self, _counter: Counter, _n: u64) {
        todo!()
    }
    /// The count so far.
    pub fn get(&self, _counter: Counter) -> u64 {
        todo!()
    }
}

impl Histogram {
    /// Records one.
    pub fn record(&self, _value: Duration) {
        todo!()
    }
    /// How many were recorded.
    pub fn count(&self) -> u64 {
        todo!()
    }
}
