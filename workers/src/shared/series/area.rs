//! The memory of the rows, and how a process appends one.

use std::io;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::description::MAX_BYTES;
use super::layout::{AreaHeader, CHUNK_BYTES, ROWS_IN_BLOCK, Row, RowBlock, TextChunk};
use super::values::ValueHistogram;
use crate::shared::shared_memory::Mapping;

/// How much an area holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Series. What exceeds them is counted together, or as a row of the rest if its metric has no tags.
    pub series: u32,
    /// Rows: those of series, of help texts, and of what exceeds the series.
    pub rows: u32,
    /// Bytes of descriptions.
    pub text_bytes: u32,
    /// Histograms, one for each row of a distribution.
    pub histograms: u32,
}

impl Capacity {
    /// What suffices for `series` series: their rows, as many help texts, [`PARTS`] further rows for each, 256 bytes of
    /// description for each and half of it for a further row, and a histogram for each and for the `other` of some. Pages
    /// that nothing was written to take no memory.
    pub fn for_series(series: u32) -> Self {
        Self {
            series,
            rows: series.saturating_mul(2 + PARTS) & !(ROWS_IN_BLOCK as u32 - 1),
            text_bytes: series.saturating_mul(256 + PARTS * 128),
            histograms: series.saturating_add(reserved(series) + 16),
        }
    }

    /// What rows of this purpose may take. The last part is left for what counts the rest together, and for help texts.
    pub fn open_to(self, purpose: RowUse) -> Self {
        let Self { rows, text_bytes, .. } = self;
        match purpose {
            RowUse::Series | RowUse::Part => Self {
                rows: rows - reserved(rows),
                text_bytes: text_bytes - reserved(text_bytes),
                ..self
            },
            RowUse::Other | RowUse::Help => self,
        }
    }

    fn blocks(self) -> usize {
        self.rows as usize / ROWS_IN_BLOCK
    }

    fn text_chunks(self) -> usize {
        (self.text_bytes as usize).div_ceil(CHUNK_BYTES)
    }

    /// The size of an area, in whole pages, so that its memory can be given back.
    fn bytes(self) -> usize {
        let rows = self.blocks() * size_of::<RowBlock>();
        let text = self.text_chunks() * size_of::<TextChunk>();
        let histograms = self.histograms as usize * size_of::<ValueHistogram>();
        (size_of::<AreaHeader>() + rows + text + histograms).next_multiple_of(PAGE_BYTES)
    }
}

/// Rows of the average series beyond its first, such as those of the 15 buckets of a Prometheus histogram.
const PARTS: u32 = 18;
const PAGE_BYTES: usize = 4096;

/// What a row is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowUse {
    /// One series.
    Series,
    /// A further row of a series that has several, as the buckets of a Prometheus histogram.
    Part,
    /// All series of a metric that have no row of their own.
    Other,
    /// The help text of a metric.
    Help,
}

/// The areas of a server, in one memory file.
#[derive(Clone, Copy)]
pub struct SeriesMemory {
    mapping: Mapping,
    capacity: Capacity,
    areas: u32,
}

impl SeriesMemory {
    /// Maps `areas` areas, for this process and those that it forks later.
    pub fn create(areas: u32, capacity: Capacity) -> io::Result<Self> {
        let mapping = Mapping::anonymous(capacity.bytes() * areas as usize)?;
        Ok(Self { mapping, capacity, areas })
    }

    /// How much each area holds.
    pub fn capacity(&self) -> Capacity {
        self.capacity
    }

    /// An area; `None` beyond the last one.
    pub fn area(&self, index: u32) -> Option<Area> {
        let start = index as usize * self.capacity.bytes();
        (index < self.areas).then_some(Area { memory: *self, start })
    }
}

/// The rows of one process.
#[derive(Clone, Copy)]
pub struct Area {
    memory: SeriesMemory,
    /// The offset of its header in the mapping.
    start: usize,
}

impl Area {
    /// Empties the area, and gives its memory back. Called by the supervisor before a process gets the area; `epoch` is
    /// another one each time.
    ///
    /// Errors: the kernel does not take the memory back. The area may not be used then.
    pub fn clear(&self, epoch: u32) -> io::Result<()> {
        self.memory.mapping.clear(self.start, self.memory.capacity.bytes())?;
        self.header().epoch.store(epoch, Ordering::Release);
        Ok(())
    }

    /// The number that [`Area::clear`] was given last.
    #[inline]
    pub fn epoch(&self) -> u32 {
        self.header().epoch.load(Ordering::Acquire)
    }

    /// Appends a row with this description; `None` if the area is full or the description is too long. A distribution
    /// also gets a histogram.
    pub fn append(
        &self,
        description: &[u8],
        purpose: RowUse,
        has_histogram: bool,
    ) -> Option<&'static Row> {
        if description.is_empty() || description.len() > MAX_BYTES {
            return None;
        }
        let header = self.header();
        let Capacity { series, rows, text_bytes, histograms } =
            self.memory.capacity.open_to(purpose);
        // Once it is full, nothing is reserved any more, so that the words cannot wrap.
        let words = u32::try_from(description.len().div_ceil(8)).ok()?;
        // Before anything is reserved: from then on, each new series would take a row.
        let is_series = purpose == RowUse::Series;
        if is_series && header.series.load(Ordering::Acquire) >= series {
            return None;
        }
        let histogram = match has_histogram {
            true => reserve(&header.histograms, 1, histograms)? + 1,
            false => 0,
        };
        let text = reserve(&header.text, words, text_bytes / 8)?;
        let row = self.row(reserve(&header.rows, 1, rows)?)?;
        if is_series {
            reserve(&header.series, 1, series)?;
        }
        for (index, bytes) in (text as usize..).zip(description.chunks(8)) {
            let mut word = [0; 8];
            word[..bytes.len()].copy_from_slice(bytes);
            self.word(index)?.store(u64::from_le_bytes(word), Ordering::Relaxed);
        }
        row.text.store(text, Ordering::Relaxed);
        row.histogram.store(histogram, Ordering::Relaxed);
        // Released: a reader that sees the length also sees the description.
        row.length.store(description.len() as u32, Ordering::Release);
        Some(row)
    }

    /// Counts an update of a series that has no row of its own.
    pub fn refuse(&self) {
        self.header().refused.fetch_add(1, Ordering::Relaxed);
    }

    /// How many updates were of series that have no row of their own.
    pub fn refused(&self) -> u64 {
        self.header().refused.load(Ordering::Relaxed)
    }

    /// The number of rows that were reserved.
    pub fn row_count(&self) -> u32 {
        self.header().rows.load(Ordering::Acquire).min(self.memory.capacity.rows)
    }

    /// A row, published or not; `None` beyond the last one.
    pub fn row(&self, index: u32) -> Option<&'static Row> {
        if index >= self.memory.capacity.rows {
            return None;
        }
        let (block, place) = (index as usize / ROWS_IN_BLOCK, index as usize % ROWS_IN_BLOCK);
        let offset = self.start + size_of::<AreaHeader>() + block * size_of::<RowBlock>();
        Some(&self.memory.mapping.at::<RowBlock>(offset)?.0[place])
    }

    /// The description of a row; `None` if it is not complete, or lies outside of the area.
    pub fn description(&self, row: &Row) -> Option<Vec<u8>> {
        let length = row.length.load(Ordering::Acquire) as usize;
        if length == 0 || length > MAX_BYTES {
            return None;
        }
        let first = row.text.load(Ordering::Relaxed) as usize;
        let mut bytes = Vec::with_capacity(length.next_multiple_of(8));
        for index in first..first + length.div_ceil(8) {
            bytes.extend_from_slice(&self.word(index)?.load(Ordering::Relaxed).to_le_bytes());
        }
        bytes.truncate(length);
        Some(bytes)
    }

    /// The histogram of a row; `None` if it has none.
    pub fn histogram(&self, row: &Row) -> Option<&'static ValueHistogram> {
        let index = row.histogram.load(Ordering::Relaxed).checked_sub(1)?;
        let Capacity { histograms, .. } = self.memory.capacity;
        let offset = self.histograms_start() + index as usize * size_of::<ValueHistogram>();
        (index < histograms).then(|| self.memory.mapping.at(offset))?
    }

    fn header(&self) -> &'static AreaHeader {
        self.memory.mapping.at(self.start).expect("an area lies within the mapping")
    }

    fn text_start(&self) -> usize {
        let rows = self.memory.capacity.blocks() * size_of::<RowBlock>();
        self.start + size_of::<AreaHeader>() + rows
    }

    fn histograms_start(&self) -> usize {
        self.text_start() + self.memory.capacity.text_chunks() * size_of::<TextChunk>()
    }

    fn word(&self, index: usize) -> Option<&'static AtomicU64> {
        let chunk = index / (CHUNK_BYTES / 8);
        if chunk >= self.memory.capacity.text_chunks() {
            return None;
        }
        let offset = self.text_start() + chunk * size_of::<TextChunk>();
        Some(&self.memory.mapping.at::<TextChunk>(offset)?.0[index % (CHUNK_BYTES / 8)])
    }
}

/// The part of a capacity that is left for rows that are no series.
fn reserved(whole: u32) -> u32 {
    whole / 16
}

/// Takes `count` of what `used` counts, and returns the first; `None` if there are not as many left.
fn reserve(used: &AtomicU32, count: u32, limit: u32) -> Option<u32> {
    let fits = |used: u32| used.checked_add(count).filter(|&end| end <= limit);
    used.fetch_update(Ordering::AcqRel, Ordering::Acquire, fits).ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::thread;

    use super::*;

    fn memory(areas: u32, capacity: Capacity) -> SeriesMemory {
        SeriesMemory::create(areas, capacity).unwrap()
    }

    fn area() -> Area {
        memory(1, Capacity::for_series(10)).area(0).unwrap()
    }

    fn descriptions(area: Area) -> Vec<Option<Vec<u8>>> {
        let rows = (0..area.row_count()).filter_map(|index| area.row(index));
        rows.map(|row| area.description(row)).collect()
    }

    #[test]
    fn a_row_has_its_description_and_starts_at_zero() {
        let area = area();
        let row = area.append(b"orders.placed", RowUse::Series, false).unwrap();
        area.append(b"x", RowUse::Series, false).unwrap();
        assert_eq!(descriptions(area), [Some(b"orders.placed".to_vec()), Some(b"x".to_vec())]);
        assert_eq!(row.number.get(), 0.0);
        row.number.add(1.5);
        row.number.add(1.0);
        assert_eq!(area.row(0).unwrap().number.get(), 2.5);
        assert!(area.histogram(row).is_none());
    }

    #[test]
    fn a_distribution_has_a_histogram_of_its_own() {
        let area = area();
        let rows =
            ["a", "b"].map(|name| area.append(name.as_bytes(), RowUse::Series, true).unwrap());
        let [first, second] = rows.map(|row| area.histogram(row).unwrap());
        first.record(2.0);
        assert_eq!((first.sum(), second.sum()), (2.0, 0.0));
        assert_eq!(first.buckets().map(u64::from).sum::<u64>(), 1);
        assert_eq!(second.buckets().map(u64::from).sum::<u64>(), 0);
    }

    #[test]
    fn a_full_area_gives_no_row_and_keeps_what_it_has() {
        let full = Capacity { series: 4, rows: 4, text_bytes: 1024, histograms: 1 };
        let area = memory(1, full).area(0).unwrap();
        assert!(area.append(b"distribution", RowUse::Series, true).is_some());
        assert!(
            area.append(b"distribution", RowUse::Series, true).is_none(),
            "no histogram is left"
        );
        assert!(area.append(&[b'x'; MAX_BYTES + 1], RowUse::Series, false).is_none(), "too long");
        assert!(area.append(&[b'x'; 1010], RowUse::Series, false).is_none(), "no text is left");
        for name in ["a", "b", "c"] {
            assert!(area.append(name.as_bytes(), RowUse::Series, false).is_some());
        }
        assert!(area.append(b"d", RowUse::Series, false).is_none(), "no row is left");
        area.refuse();
        assert_eq!((area.refused(), area.row_count()), (1, 4));
        assert_eq!(descriptions(area)[3], Some(b"c".to_vec()));
    }

    #[test]
    fn help_texts_and_other_series_have_rows_beyond_the_series() {
        let area = memory(1, Capacity::for_series(1)).area(0).unwrap();
        assert!(area.append(b"help", RowUse::Help, false).is_some());
        assert!(area.append(b"first", RowUse::Series, false).is_some());
        assert!(area.append(b"second", RowUse::Series, false).is_none());
        assert!(area.append(b"other", RowUse::Other, false).is_some());
    }

    /// However long the values of tags are, and whatever the metrics are: the sum of a metric stays right.
    #[test]
    fn a_full_area_has_room_for_the_series_that_count_the_rest() {
        for (length, has_histogram) in
            [(MAX_BYTES, false), (MAX_BYTES, true), (9, true), (9, false)]
        {
            let area = memory(1, Capacity::for_series(50)).area(0).unwrap();
            let long = vec![b'x'; length];
            for purpose in [RowUse::Series, RowUse::Part] {
                while area
                    .append(&long, purpose, has_histogram && purpose == RowUse::Series)
                    .is_some()
                {}
            }
            for name in 0..5 {
                let name = format!("other of {name}");
                assert!(
                    area.append(name.as_bytes(), RowUse::Other, true).is_some(),
                    "{length} {has_histogram}"
                );
            }
        }
    }

    #[test]
    fn a_cleared_area_is_empty_and_belongs_to_another_process() {
        let memory = memory(2, Capacity::for_series(100));
        let [first, second] = [0, 1].map(|index| memory.area(index).unwrap());
        assert!(memory.area(2).is_none());
        for area in [first, second] {
            area.clear(1).unwrap();
            let row = area.append(b"orders", RowUse::Series, true).unwrap();
            row.number.add(1.0);
            area.histogram(row).unwrap().record(1.0);
        }
        first.clear(2).unwrap();
        assert_eq!((first.epoch(), second.epoch()), (2, 1));
        assert_eq!((first.row_count(), second.row_count()), (0, 1));
        let row = first.append(b"other", RowUse::Series, true).unwrap();
        assert_eq!(row.number.get(), 0.0);
        assert_eq!(first.histogram(row).unwrap().sum(), 0.0);
    }

    #[test]
    fn nothing_is_lost_between_several_writers() {
        let area = memory(1, Capacity::for_series(100)).area(0).unwrap();
        let shared = area.append(b"shared", RowUse::Series, true).unwrap();
        thread::scope(|scope| {
            for writer in 0..4 {
                scope.spawn(move || {
                    for turn in 0..20 {
                        area.append(format!("{writer} {turn}").as_bytes(), RowUse::Series, false)
                            .unwrap();
                        for _ in 0..500 {
                            shared.number.add(1.0);
                            area.histogram(shared).unwrap().record(1.0);
                        }
                    }
                });
            }
        });
        assert_eq!(shared.number.get(), 40_000.0);
        assert_eq!(area.histogram(shared).unwrap().sum(), 40_000.0);
        let names: BTreeMap<_, _> = descriptions(area).into_iter().map(|name| (name, ())).collect();
        assert_eq!(names.len(), 81, "each description is in one row, complete");
    }

    #[test]
    fn garbage_names_no_series_and_no_histogram() {
        let area = area();
        let row = area.append(b"orders", RowUse::Series, true).unwrap();
        for (length, text, histogram) in
            [(0, 0, 1), (u32::MAX, 0, 99), (6, u32::MAX, u32::MAX), (2000, 5000, 99)]
        {
            row.length.store(length, Ordering::Relaxed);
            row.text.store(text, Ordering::Relaxed);
            assert_eq!(area.description(row), None, "{length} {text}");
            row.histogram.store(histogram, Ordering::Relaxed);
            assert!(histogram == 1 || area.histogram(row).is_none(), "{histogram}");
        }
        area.header().rows.store(u32::MAX, Ordering::Relaxed);
        assert!((0..area.row_count()).all(|index| area.row(index).is_some()));
        assert!(area.append(b"another", RowUse::Series, false).is_none());
    }
}
