//! One place of the table: who may use its connection at this moment. The whole state is one word.
//!
//! | from | by | to | meaning |
//! |---|---|---|---|
//! | Free | [`Place::allocate`] | Claimed | a worker is about to share a connection of its own |
//! | Idle | [`Place::claim`] | Claimed | something has arrived, or the connection has to be closed |
//! | Claimed, Reading, Running, Replying | [`Place::advance`] | any of these | a request goes on |
//! | Claimed, Reading, Running, Replying | [`Place::release`] | Idle | nothing of a request is here: whoever comes next may claim it |
//! | Claimed, Reading, Running, Replying | [`Place::free`] | Free, next generation | the connection is closed, or belongs to one worker alone |
//! | Claimed, Reading, Running, Replying | [`Place::take_over`] | Claimed by the supervisor | its worker is dead |
//!
//! Only [`Place::allocate`] and [`Place::claim`] compete, so only they compare and swap. Everything else is done by
//! the one that has claimed the place; the supervisor takes over only from a worker that it has reaped.
//!
//! **No wake-up is lost.** A worker that cannot claim a place ignores the event, and epoll(7) does not repeat it. So
//! whoever releases a place looks afterwards whether something has arrived meanwhile ([`Place::release`] orders the
//! two). Either that look sees the bytes, or they arrive later, and their event finds the place Idle.
//!
//! This file has no other imports than the atomics, because `workers/loom` compiles it once more, with those of loom.

use super::atomics::{AtomicU64, Ordering, fence};

/// A member of a group of workers that share connections: its number, below 255.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member(u8);

impl Member {
    /// The supervisor, which claims what nobody else can.
    pub const SUPERVISOR: Self = Self(u8::MAX);

    /// The worker with this number; `None` if no member can have it.
    pub fn worker(number: u8) -> Option<Self> {
        (number != u8::MAX).then_some(Self(number))
    }
}

/// What is happening to the connection of a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// There is no connection.
    Free,
    /// The connection waits for a request.
    Idle,
    /// Claimed, and nothing of a request has been read.
    Claimed(Member),
    /// Part of a request has been read.
    Reading(Member),
    /// The application has the request, and no byte of a response has been sent.
    Running(Member),
    /// The response has begun, or is about to.
    Replying(Member),
}

impl Life {
    /// Who has claimed the place.
    pub fn holder(self) -> Option<Member> {
        match self {
            Self::Free | Self::Idle => None,
            Self::Claimed(member)
            | Self::Reading(member)
            | Self::Running(member)
            | Self::Replying(member) => Some(member),
        }
    }

    fn to_bits(self) -> u64 {
        let (kind, member) = match self {
            Self::Free => (0, 0),
            Self::Idle => (1, 0),
            Self::Claimed(member) => (2, member.0),
            Self::Reading(member) => (3, member.0),
            Self::Running(member) => (4, member.0),
            Self::Replying(member) => (5, member.0),
        };
        kind << 8 | u64::from(member)
    }

    /// A word that no member has written reads as Free.
    fn from_bits(bits: u64) -> Self {
        let member = Member(bits as u8);
        match bits >> 8 & 0xff {
            1 => Self::Idle,
            2 => Self::Claimed(member),
            3 => Self::Reading(member),
            4 => Self::Running(member),
            5 => Self::Replying(member),
            _ => Self::Free,
        }
    }
}

/// Why a place cannot be claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotClaimed {
    /// Another member has it, and looks after it.
    Taken,
    /// The connection is closed, or is not shared any more: the caller's descriptor is of no use.
    Gone,
}

/// Counts the connections that a place has had. No place has the last generation, so that it can mark other keys.
pub type PlaceGeneration = u32;

/// The state of one place, in shared memory. Zeroed memory is Free.
pub struct Place(AtomicU64);

impl Place {
    /// A free place.
    pub fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// What is happening, and to which connection.
    pub fn read(&self) -> (PlaceGeneration, Life) {
        unpack(self.0.load(Ordering::Acquire))
    }

    /// Takes a free place, and returns the generation of its next connection.
    pub fn allocate(&self, by: Member) -> Option<PlaceGeneration> {
        let (generation, life) = unpack(self.0.load(Ordering::Relaxed));
        let is_taken = life == Life::Free
            && self.exchange((generation, Life::Free), (generation, Life::Claimed(by)));
        is_taken.then_some(generation)
    }

    /// Claims the connection of this generation, if it is idle. What its last holder wrote before it released the
    /// place is visible afterwards.
    pub fn claim(&self, generation: PlaceGeneration, by: Member) -> Result<(), NotClaimed> {
        let next = (generation, Life::Claimed(by));
        if self.exchange((generation, Life::Idle), next) {
            return Ok(());
        }
        match self.read() {
            (current, Life::Free) if current == generation => Err(NotClaimed::Gone),
            (current, _) if current == generation => Err(NotClaimed::Taken),
            _ => Err(NotClaimed::Gone),
        }
    }

    /// The request of a claimed connection goes on.
    #[inline]
    pub fn advance(&self, generation: PlaceGeneration, life: Life) {
        self.0.store(pack(generation, life), Ordering::Release);
    }

    /// Gives up the claim. The caller then looks whether something has arrived meanwhile, and if so, claims again.
    pub fn release(&self, generation: PlaceGeneration) {
        self.advance(generation, Life::Idle);
        // Else the processor might look for arrived bytes first: those of an event that found the place claimed.
        fence(Ordering::SeqCst);
    }

    /// Frees a claimed place: nobody can claim the connection any more.
    pub fn free(&self, generation: PlaceGeneration) {
        self.advance(next(generation), Life::Free);
    }

    /// Claims what a dead worker had claimed, for the supervisor, and returns what it was doing. Only the supervisor
    /// calls this, after it has reaped the worker.
    pub fn take_over(&self, dead: Member) -> Option<(PlaceGeneration, Life)> {
        let (generation, life) = self.read();
        if life.holder() != Some(dead) {
            return None;
        }
        self.advance(generation, Life::Claimed(Member::SUPERVISOR));
        Some((generation, life))
    }

    fn exchange(&self, from: (PlaceGeneration, Life), to: (PlaceGeneration, Life)) -> bool {
        let (from, to) = (pack(from.0, from.1), pack(to.0, to.1));
        self.0.compare_exchange(from, to, Ordering::SeqCst, Ordering::Relaxed).is_ok()
    }
}

impl Default for Place {
    fn default() -> Self {
        Self::new()
    }
}

fn pack(generation: PlaceGeneration, life: Life) -> u64 {
    u64::from(generation) << 32 | life.to_bits()
}

fn unpack(word: u64) -> (PlaceGeneration, Life) {
    ((word >> 32) as PlaceGeneration, Life::from_bits(word))
}

fn next(generation: PlaceGeneration) -> PlaceGeneration {
    if generation >= PlaceGeneration::MAX - 1 { 0 } else { generation + 1 }
}
