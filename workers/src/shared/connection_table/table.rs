//! The whole table: a header, and a record for each place.

use std::io;

use super::header::TableHeader;
use super::place::{Life, Member, PlaceGeneration};
use super::record::Record;
use crate::shared::shared_memory::Mapping;

/// The maximum number of places of a table. Memory is used only for those that are, or were, in use.
pub const MAX_PLACES: u32 = 1 << 16;

/// How many places that were in use are tried before a new one.
const PROBES: u32 = 8;
/// How many places are tried in a table without new ones.
const LAST_PROBES: u32 = 256;

const HEADER_BYTES: usize = size_of::<TableHeader>();
const RECORD_BYTES: usize = size_of::<Record>();

/// One connection of the table: its place, and its number among the connections of that place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the type says what the fields are")]
pub struct PlaceKey {
    pub index: u32,
    pub generation: PlaceGeneration,
}

/// The table. Its pages are never unmapped, and every process that is forked after its creation sees the same ones.
#[derive(Clone, Copy)]
pub struct ConnectionTable {
    mapping: Mapping,
    place_count: u32,
}

impl ConnectionTable {
    /// Maps a new table for up to `places` connections.
    pub fn create(places: u32) -> io::Result<Self> {
        let place_count = places.min(MAX_PLACES);
        let bytes = HEADER_BYTES + place_count as usize * RECORD_BYTES;
        Ok(Self { mapping: Mapping::anonymous(bytes)?, place_count })
    }

    /// The record of a place; `None` beyond the last one.
    pub fn record(&self, index: u32) -> Option<&'static Record> {
        if index >= self.place_count {
            return None;
        }
        self.mapping.at(HEADER_BYTES + index as usize * RECORD_BYTES)
    }

    /// Takes a free place. `None` if none was found.
    ///
    /// Places that were in use come first, so that the table uses no more memory than it needs. `random` spreads the
    /// workers that look for one at the same time.
    pub fn allocate(&self, by: Member, random: u32) -> Option<PlaceKey> {
        self.probe(by, random, PROBES)
            .or_else(|| self.take_new(by))
            .or_else(|| self.probe(by, random, LAST_PROBES))
    }

    fn probe(&self, by: Member, random: u32, count: u32) -> Option<PlaceKey> {
        let end = self.used_end();
        (0..count.min(end)).find_map(|step| self.take((random.wrapping_add(step)) % end, by))
    }

    fn take_new(&self, by: Member) -> Option<PlaceKey> {
        while self.used_end() < self.place_count {
            let index = self.header().extend();
            if let Some(key) = u32::try_from(index).ok().and_then(|index| self.take(index, by)) {
                return Some(key);
            }
        }
        None
    }

    fn take(&self, index: u32, by: Member) -> Option<PlaceKey> {
        let generation = self.record(index)?.place.allocate(by)?;
        Some(PlaceKey { index, generation })
    }

    /// Frees a place that the caller has claimed.
    pub fn free(&self, key: PlaceKey) {
        if let Some(record) = self.record(key.index) {
            record.place.free(key.generation);
        }
    }

    /// Whether this connection is still in the table.
    pub fn has(&self, key: PlaceKey) -> bool {
        self.record(key.index).is_some_and(|record| {
            let (generation, life) = record.place.read();
            generation == key.generation && life != Life::Free
        })
    }

    /// The number of connections in the table. This looks at every place: a counter would drift with each process that
    /// is killed between the change of a place and that of the counter.
    pub fn len(&self) -> u32 {
        (0..self.used_end()).map(|index| u32::from(self.is_used(index))).sum()
    }

    /// Whether there is no connection in the table.
    pub fn is_empty(&self) -> bool {
        !(0..self.used_end()).any(|index| self.is_used(index))
    }

    fn is_used(&self, index: u32) -> bool {
        self.record(index).is_some_and(|record| record.place.read().1 != Life::Free)
    }

    /// All connections in the table are below this index.
    pub fn used_end(&self) -> u32 {
        let end = self.header().used_end();
        u32::try_from(end).unwrap_or(u32::MAX).min(self.place_count)
    }

    /// Whether the application is slow for any member that serves, so that all members share their connections. The
    /// flag is common to all: a new worker that has not measured anything yet would otherwise take connections for
    /// itself.
    pub fn is_slow(&self) -> bool {
        self.header().is_slow()
    }

    /// Whether this member, or the one before it in its slot, has found the application slow.
    pub fn is_slot_slow(&self, number: u8) -> bool {
        self.header().is_slot_slow(number)
    }

    /// Called by a member. The next member of its slot inherits the verdict.
    pub fn set_slow(&self, number: u8, is_slow: bool) {
        self.header().set_slow(number, is_slow);
    }

    /// Called by the supervisor: the slot of this member has a worker.
    pub fn add_slot(&self, number: u8) {
        self.header().add_slot(number);
    }

    /// Whether the group has another slot: without, there is nobody to share connections with. A slot whose worker has
    /// just died counts, because another one follows.
    pub fn has_others(&self, number: u8) -> bool {
        self.header().has_others(number)
    }

    /// Whether another member serves.
    pub fn has_other_serving(&self, number: u8) -> bool {
        self.header().has_other_serving(number)
    }

    /// Called by the supervisor: this member serves, or does not serve any more.
    pub fn set_serving(&self, number: u8, is_serving: bool) {
        self.header().set_serving(number, is_serving);
    }

    /// Called by a member: it has this number of connections for itself alone.
    pub fn set_own(&self, number: u8, count: u32) {
        self.header().set_own(number, count);
    }

    /// Whether this member has at most one connection more than the mean of all that serve. If one had many more than
    /// the others, its clients would wait for each other while the others are idle.
    pub fn may_own_more(&self, number: u8) -> bool {
        self.header().may_own_more(number)
    }

    /// Frees all places without a trace, as far as the generation. The simulation uses one table for many runs.
    #[cfg(test)]
    pub(super) fn reset(&self, generation: PlaceGeneration) {
        for record in (0..self.place_count).filter_map(|index| self.record(index)) {
            record.place.free(generation);
        }
        self.header().reset();
    }

    fn header(&self) -> &'static TableHeader {
        self.mapping.at(0).expect("the header is always there")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::time::Duration;

    use super::*;
    use crate::shared::connection_table::{FACT_BYTES, FactsTooLong, NotClaimed};

    fn member(number: u8) -> Member {
        Member::worker(number).unwrap()
    }

    #[test]
    fn a_table_gives_each_place_once_and_then_none() {
        let table = ConnectionTable::create(10).unwrap();
        let keys: HashSet<_> = (0..10).map(|n| table.allocate(member(0), n * 7).unwrap()).collect();
        assert_eq!((keys.len(), table.len(), table.used_end()), (10, 10, 10));
        assert_eq!(table.allocate(member(1), 3), None);
        assert_eq!((table.len(), table.used_end()), (10, 10));
    }

    #[test]
    fn a_free_place_is_used_again_before_a_new_one() {
        let table = ConnectionTable::create(100).unwrap();
        let first = table.allocate(member(0), 0).unwrap();
        table.free(first);
        let second = table.allocate(member(1), 12_345).unwrap();
        assert_eq!(second, PlaceKey { index: first.index, generation: first.generation + 1 });
        assert_eq!((table.len(), table.used_end()), (1, 1));
    }

    #[test]
    fn a_connection_that_is_gone_cannot_be_claimed() {
        let table = ConnectionTable::create(1).unwrap();
        let key = table.allocate(member(0), 0).unwrap();
        let place = &table.record(0).unwrap().place;
        assert_eq!(place.claim(key.generation, member(1)), Err(NotClaimed::Taken));
        place.release(key.generation);
        place.claim(key.generation, member(1)).unwrap();
        table.free(key);
        assert_eq!(place.claim(key.generation, member(0)), Err(NotClaimed::Gone));
        let next = table.allocate(member(0), 0).unwrap();
        place.release(next.generation);
        assert_eq!(place.claim(key.generation, member(1)), Err(NotClaimed::Gone));
        assert_eq!(place.read(), (next.generation, Life::Idle));
    }

    #[test]
    fn the_next_holder_finds_what_the_last_one_left() {
        let table = ConnectionTable::create(1).unwrap();
        let record = table.record(0).unwrap();
        let facts: Vec<u8> = (0..=255).chain(0..=90).collect();
        assert_eq!(record.set_facts(&facts), Ok(()));
        record.set_used_at(Duration::from_millis(77));
        let mut buffer = [0; FACT_BYTES];
        let len = record.facts(&mut buffer);
        assert_eq!(&buffer[..len], facts);
        assert_eq!(record.used_at(), Duration::from_millis(77));
        assert_eq!(record.set_facts(&[0; FACT_BYTES + 1]), Err(FactsTooLong));
        assert_eq!(record.set_facts(&[1; FACT_BYTES]), Ok(()));
        assert_eq!(record.facts(&mut buffer), FACT_BYTES);
    }

    #[test]
    fn the_application_is_slow_as_long_as_one_member_that_serves_says_so() {
        let table = ConnectionTable::create(1).unwrap();
        assert!(!table.is_slow());
        for number in [0, 15] {
            table.set_serving(number, true);
            table.set_slow(number, true);
        }
        table.set_slow(0, false);
        assert!(table.is_slow());
        table.set_slow(15, false);
        assert!(!table.is_slow());
    }

    #[test]
    fn the_next_member_of_a_slot_inherits_the_verdict() {
        let table = ConnectionTable::create(1).unwrap();
        table.set_serving(2, true);
        table.set_slow(2, true);
        table.set_serving(2, false);
        assert!(!table.is_slow(), "nobody serves in this slot");
        assert!(table.is_slot_slow(3));
        table.set_serving(3, true);
        assert!(table.is_slow());
        assert!(!table.is_slot_slow(1) && !table.is_slot_slow(4));
    }

    #[test]
    fn only_another_slot_makes_others() {
        let table = ConnectionTable::create(1).unwrap();
        table.add_slot(2);
        table.add_slot(3);
        assert!(!table.has_others(2) && !table.has_others(3));
        table.add_slot(5);
        assert!(table.has_others(3) && table.has_others(4));
    }

    #[test]
    fn a_member_may_own_one_connection_more_than_the_mean() {
        let table = ConnectionTable::create(1).unwrap();
        let own = |counts: [u32; 4]| {
            for (number, count) in (0..).zip(counts) {
                table.set_serving(number, true);
                table.set_own(number, count);
            }
            table.may_own_more(1)
        };
        assert!(own([0, 0, 0, 0]));
        assert!(own([0, 1, 0, 0]));
        assert!(!own([0, 2, 0, 0]));
        assert!(own([2, 2, 0, 0]));
        assert!(own([8, 9, 8, 8]));
        assert!(!own([8, 10, 8, 8]));
        table.set_serving(0, false);
        assert!(!own([8, 12, 8, 8]));
        (0..4).for_each(|number| table.set_serving(number, number == 1));
        assert!(table.may_own_more(1), "it is alone");
    }

    #[test]
    fn there_is_no_record_beyond_the_last_place() {
        let table = ConnectionTable::create(u32::MAX).unwrap();
        assert!(table.record(MAX_PLACES - 1).is_some());
        assert!(table.record(MAX_PLACES).is_none());
    }
}
