//! The scoreboard as a whole: a header, two entries per slot, and behind them the areas for the samples of profiles, in
//! shared memory. The kernel gives a page only to what is written, so areas that no profile uses take no memory.
//!
//! Every value is an atomic with a single writer, so all of this is safe Rust. The supervisor creates the scoreboard
//! before its first fork, and every process that it forks sees the same pages. The successor in an upgrade has a
//! scoreboard of its own, because its version may have another layout; it gets the totals by name.

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::shared::identity::SlotId;
use crate::shared::samples::SampleArea;
use crate::shared::scoreboard::entry::WorkerEntry;
use crate::shared::scoreboard::exemplars::Exemplar;
use crate::shared::scoreboard::header::Header;
use crate::shared::scoreboard::request_times::StatusClass;
use crate::shared::series::{Area, Capacity, SeriesMemory};
use crate::shared::shared_memory::{self, Mapping};

/// The whole mapping: a [`Header`], two [`WorkerEntry`]s and two [`SampleArea`]s per slot. It is never unmapped.
pub struct Scoreboard {
    mapping: Mapping,
    file: OwnedFd,
    slot_count: u16,
    series: Option<SeriesMemory>,
}

/// How many zygotes can count something at the same time. Two of them live during a reload.
const ZYGOTE_AREAS: u32 = 4;

/// One of the two entries of a slot: a replacement boots in one while its predecessor drains in the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the two sides do not differ")]
pub enum Side {
    A,
    B,
}

impl Side {
    /// Both sides.
    pub const BOTH: [Self; 2] = [Self::A, Self::B];

    /// The other side.
    pub fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

const HEADER_BYTES: usize = size_of::<Header>();
const ENTRY_BYTES: usize = size_of::<WorkerEntry>();
const AREA_BYTES: usize = size_of::<SampleArea>();

impl Scoreboard {
    /// Maps a new, zeroed scoreboard for up to `slots` slots: a memory file whose size is sealed (memfd_create(2)).
    pub fn create(slots: u16) -> io::Result<Self> {
        let bytes = HEADER_BYTES + 2 * usize::from(slots) * (ENTRY_BYTES + AREA_BYTES);
        let (mapping, file) = Mapping::create(c"arctos-scoreboard", bytes)?;
        Ok(Self { mapping, file, slot_count: slots, series: None })
    }

    /// Adds memory for application metrics: an area for each entry and some for zygotes, each with `series`
    /// series.
    ///
    /// Errors: the kernel gives no address space. The scoreboard stays as it is.
    pub fn add_series(&mut self, series: u32) -> io::Result<()> {
        let areas = 2 * u32::from(self.slot_count) + ZYGOTE_AREAS;
        self.series = Some(SeriesMemory::create(areas, Capacity::for_series(series))?);
        Ok(())
    }

    /// The memory of application metrics, and who has each of its areas; `None` if there is none.
    pub fn series(&self) -> Option<(SeriesMemory, impl Iterator<Item = Option<SlotId>> + use<>)> {
        let of_slots = (0..self.slot_count).flat_map(|slot| [Some(SlotId(slot)); 2]);
        let of_zygotes = std::iter::repeat_n(None, ZYGOTE_AREAS as usize);
        self.series.map(|memory| (memory, of_slots.chain(of_zygotes)))
    }

    /// The index of the area of a worker.
    pub fn worker_area(slot: SlotId, side: Side) -> u32 {
        2 * u32::from(slot.0) + side as u32
    }

    /// The indices of the areas of zygotes.
    pub fn zygote_areas(&self) -> Range<u32> {
        let first = 2 * u32::from(self.slot_count);
        first..first + ZYGOTE_AREAS
    }

    /// An area, for the process that gets it.
    pub fn area(&self, index: u32) -> Option<Area> {
        self.series?.area(index)
    }

    /// The part that all workers share.
    pub fn header(&self) -> &'static Header {
        self.mapping.at(0).expect("the header is always there")
    }

    /// One entry; `None` beyond the last slot.
    pub fn entry(&self, slot: SlotId, side: Side) -> Option<&'static WorkerEntry> {
        if slot.0 >= self.slot_count {
            return None;
        }
        let index = 2 * usize::from(slot.0) + side as usize;
        self.mapping.at(HEADER_BYTES + index * ENTRY_BYTES)
    }

    /// The latest exemplar of a slot, of both its workers, for a class and an octave of durations.
    pub fn exemplar(&self, slot: SlotId, class: StatusClass, octave: usize) -> Option<Exemplar> {
        let entries = Side::BOTH.into_iter().filter_map(|side| self.entry(slot, side));
        let exemplars = entries.filter_map(|entry| entry.exemplars.read(class, octave));
        exemplars.max_by_key(|exemplar| exemplar.time)
    }

    /// The samples of the worker with an entry; `None` beyond the last slot.
    pub fn samples(&self, slot: SlotId, side: Side) -> Option<&'static SampleArea> {
        if slot.0 >= self.slot_count {
            return None;
        }
        self.mapping.at(self.samples_offset(slot, side))
    }

    /// Gives the memory of samples that were read back to the kernel. No profile may be running.
    pub fn release_samples(&self, slot: SlotId, side: Side) -> io::Result<()> {
        if slot.0 >= self.slot_count {
            return Ok(());
        }
        let start = self.samples_offset(slot, side);
        shared_memory::release(
            self.file.as_fd(),
            start + SampleArea::RING_OFFSET..start + AREA_BYTES,
        )
    }

    fn samples_offset(&self, slot: SlotId, side: Side) -> usize {
        let entries_end = HEADER_BYTES + 2 * usize::from(self.slot_count) * ENTRY_BYTES;
        let index = 2 * usize::from(slot.0) + side as usize;
        entries_end + index * AREA_BYTES
    }

    /// The maximum number of slots.
    pub fn slot_count(&self) -> u16 {
        self.slot_count
    }

    /// The memory file, close-on-exec.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::os::fd::AsRawFd;

    use nix::fcntl::{FcntlArg, SealFlag, fcntl};

    use super::*;
    use crate::shared::identity::Generation;
    use crate::shared::scoreboard::ServerState;
    use crate::shared::scoreboard::{Command, Counter};

    #[test]
    fn a_new_scoreboard_has_two_entries_per_slot() {
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
    fn an_entry_has_its_own_counters() {
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
    fn a_scoreboard_without_slots_has_a_header() {
        let scoreboard = Scoreboard::create(0).unwrap();
        assert_eq!(scoreboard.header().state(), ServerState::Starting);
        assert!(scoreboard.entry(SlotId(0), Side::A).is_none());
    }

    #[test]
    fn each_entry_has_an_area_for_samples_that_takes_no_memory_until_it_is_used() {
        let scoreboard = Scoreboard::create(500).unwrap();
        let mut areas = HashSet::new();
        for slot in 0..500 {
            for side in Side::BOTH {
                let area = scoreboard.samples(SlotId(slot), side).unwrap();
                assert!(areas.insert(std::ptr::from_ref(area)));
            }
        }
        assert!(scoreboard.samples(SlotId(500), Side::A).is_none());
        let used_bytes = || nix::sys::stat::fstat(scoreboard.as_fd()).unwrap().st_blocks * 512;
        assert_eq!(used_bytes(), 0);
        let last = scoreboard.samples(SlotId(499), Side::B).unwrap();
        last.begin(1);
        assert_eq!(last.session(), Some(1));
        assert!(used_bytes() <= 16 * 1024, "{}", used_bytes());
        let mut draft = last.draft();
        draft.bytes(&[7; 100_000]);
        assert!(draft.finish());
        assert!(used_bytes() > 100_000, "{}", used_bytes());
        scoreboard.release_samples(SlotId(499), Side::B).unwrap();
        assert!(used_bytes() <= 16 * 1024, "{}", used_bytes());
        assert_eq!(last.session(), Some(1), "only the ring is given back");
    }

    #[test]
    fn entries_outlive_the_scoreboard() {
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
    fn writes_are_seen_through_another_mapping_of_the_file() {
        let scoreboard = Scoreboard::create(1).unwrap();
        scoreboard.header().set_generation(Generation(0x0102_0304));
        let path = format!("/proc/self/fd/{}", scoreboard.as_fd().as_raw_fd());
        let bytes = std::fs::read(path).unwrap();
        assert_eq!(bytes.len(), HEADER_BYTES + 2 * (ENTRY_BYTES + AREA_BYTES));
        assert_eq!(bytes[4..8], 0x0102_0304u32.to_ne_bytes());
    }
}
