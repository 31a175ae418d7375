//! The totals of application metrics, read from the areas of its processes.
//!
//! A series is identified by its description, not by its row: each process has rows of its own. Counters and
//! distributions only rise, as [`super::totals`] does, and survive the process. A gauge is what the living processes
//! make of it.
//!
//! | event | what happens |
//! |---|---|
//! | read | every area is read; what rows have risen by goes to their series |
//! | a process has ended ([`SeriesReader::retire`]) | its area is read for the last time and cleared |
//! | more series than the limit | the further ones of a metric count as its series `other` ([`room`]) |
//!
//! An application may have overwritten an area. A number that fell, or is none, changes no total; only the sum of a
//! library's histogram or summary may fall.

pub mod buckets;
mod encoding;
mod room;
mod seen;

use std::collections::{BTreeMap, HashMap, HashSet};

use arctos_worker::shared::identity::SlotId;
pub use arctos_worker::shared::series::DEFAULT_LIMIT;
use arctos_worker::shared::series::{Aggregation, Capacity, Description, Kind, SeriesMemory};

use buckets::Buckets;
use room::Room;
use seen::SeenArea;

/// Who counted: the workers of a slot, or `None` for a process without one, which imported the application.
pub type CountedIn = Option<SlotId>;

/// The number of a series in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeriesId(usize);

/// The totals of all series.
#[derive(Clone, Debug, PartialEq)]
pub struct SeriesTotals {
    room: Room,
    series: Vec<Series>,
    ids: HashMap<Description, SeriesId>,
    help: BTreeMap<String, String>,
}

/// Where a series is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Counted {
    /// As itself.
    Alone(SeriesId),
    /// In the `other` of its metric, because there are too many.
    Together(SeriesId),
    /// Nowhere, because there is no room for that either.
    Nowhere,
}

/// One series.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// What it is.
    pub description: Description,
    /// Its totals, by where they were counted. Empty for gauges.
    pub totals: BTreeMap<CountedIn, SeriesTotal>,
    /// The values of a gauge at the last read.
    gauge: Vec<GaugeValue>,
}

/// What was counted of a series.
#[derive(Clone, Debug, PartialEq)]
pub enum SeriesTotal {
    /// The sum of a counter.
    Sum(f64),
    /// The values of a distribution.
    Values {
        /// Their sum.
        sum: f64,
        /// Their number in each bucket.
        buckets: Buckets,
    },
}

/// The value of a gauge in one process.
#[derive(Clone, Copy, Debug, PartialEq)]
struct GaugeValue {
    counted_in: CountedIn,
    value: f64,
    /// When it was set, in nanoseconds; 0 unless the last one counts.
    set_at: u64,
}

impl SeriesId {
    /// Numbers without a gap, from 0.
    pub fn index(self) -> usize {
        self.0
    }
}

impl Counted {
    fn id(self) -> Option<SeriesId> {
        match self {
            Self::Alone(id) | Self::Together(id) => Some(id),
            Self::Nowhere => None,
        }
    }
}

impl SeriesTotal {
    /// Zero.
    pub fn new(kind: Kind) -> Self {
        match kind {
            Kind::Distribution => Self::Values { sum: 0.0, buckets: Buckets::default() },
            Kind::Counter | Kind::Gauge | Kind::HistogramPart | Kind::SummaryPart | Kind::Help => {
                Self::Sum(0.0)
            }
        }
    }

    /// Adds what was counted elsewhere.
    pub fn add(&mut self, other: &Self) {
        match (self, other) {
            (Self::Sum(sum), Self::Sum(more)) => *sum += more,
            (Self::Values { sum, buckets }, Self::Values { sum: more, buckets: counts }) => {
                *sum += more;
                buckets.extend(counts.iter());
            }
            (Self::Sum(_), Self::Values { .. }) | (Self::Values { .. }, Self::Sum(_)) => {}
        }
    }

    /// Takes out as much as `of` has, except for the sum of a distribution.
    pub fn take(&mut self, of: &Self) -> Self {
        let taken = match (&*self, of) {
            (Self::Sum(sum), Self::Sum(has)) => Self::Sum(sum.min(*has)),
            (Self::Values { buckets, .. }, Self::Values { buckets: has, .. }) => {
                Self::Values { sum: 0.0, buckets: buckets.beyond(&buckets.beyond(has)) }
            }
            (Self::Sum(_), Self::Values { .. }) | (Self::Values { .. }, Self::Sum(_)) => {
                self.clone()
            }
        };
        self.subtract(&taken);
        taken
    }

    /// Subtracts what was counted elsewhere, except for the sum of a distribution.
    fn subtract(&mut self, other: &Self) {
        match (self, other) {
            (Self::Sum(sum), Self::Sum(less)) => *sum = (*sum - less).max(0.0),
            (Self::Values { buckets, .. }, Self::Values { buckets: less, .. }) => {
                *buckets = buckets.beyond(less);
            }
            (Self::Sum(_), Self::Values { .. }) | (Self::Values { .. }, Self::Sum(_)) => {}
        }
    }
}

impl Series {
    /// The sum of all places. Zero for gauges.
    pub fn sum(&self) -> SeriesTotal {
        let mut sum = SeriesTotal::new(self.description.kind);
        self.totals.values().for_each(|total| sum.add(total));
        sum
    }

    /// The value of a gauge: the one of the server, or one for each slot; empty if no process has one.
    pub fn gauge(&self) -> Vec<(CountedIn, f64)> {
        let values = self.gauge.iter().map(|of| of.value);
        let one = match self.description.aggregation {
            Aggregation::Sum => values.reduce(|a, b| a + b),
            Aggregation::Max => values.reduce(f64::max),
            Aggregation::Min => values.reduce(f64::min),
            Aggregation::Last => self.gauge.iter().max_by_key(|of| of.set_at).map(|of| of.value),
            Aggregation::Each => {
                return self.gauge.iter().map(|of| (of.counted_in, of.value)).collect();
            }
        };
        one.map(|value| (None, value)).into_iter().collect()
    }
}

impl Default for SeriesTotals {
    /// No series, and as many as there may be.
    fn default() -> Self {
        Self::new(Capacity::for_series(u32::MAX))
    }
}

impl SeriesTotals {
    /// No series, and room for what one area of this capacity holds.
    pub fn new(capacity: Capacity) -> Self {
        Self {
            room: Room::new(capacity),
            series: Vec::new(),
            ids: HashMap::new(),
            help: BTreeMap::new(),
        }
    }

    /// How many series may be counted alone.
    pub fn limit(&self) -> u32 {
        self.room.limit()
    }

    /// The series, in the order in which they appeared.
    pub fn series(&self) -> impl Iterator<Item = (SeriesId, &Series)> {
        (0..).map(SeriesId).zip(&self.series)
    }

    /// Forgets the values of gauges, before all processes are read.
    pub fn clear_gauges(&mut self) {
        self.series.iter_mut().for_each(|series| series.gauge.clear());
    }

    /// The help text of a metric.
    pub fn help(&self, family: &str) -> Option<&str> {
        self.help.get(family).map(String::as_str)
    }

    /// Adds the totals of another server, and takes its gauges. `place` says where its counts belong.
    pub fn add(&mut self, other: &Self, place: impl Fn(CountedIn) -> CountedIn) {
        for (family, help) in &other.help {
            self.set_help(family.clone(), help.clone());
        }
        for series in &other.series {
            let Some(id) = self.find(series.description.clone()).id() else { continue };
            for (counted_in, total) in &series.totals {
                if let Some(sum) = self.total_mut(id, place(*counted_in)) {
                    sum.add(total);
                }
            }
            if let Some(own) = self.series.get_mut(id.0) {
                own.gauge.extend(&series.gauge);
            }
        }
    }

    /// Adds to one series.
    pub fn add_total(&mut self, description: &Description, place: CountedIn, total: &SeriesTotal) {
        let id = self.find(description.clone()).id();
        if let Some(sum) = id.and_then(|id| self.total_mut(id, place)) {
            sum.add(total);
        }
    }

    /// Drops the series that have no room beside those of `other`, the oldest first, and returns their number.
    pub fn make_room_for(&mut self, other: &Self) -> usize {
        let is_shared = |series: &Series| other.ids.contains_key(&series.description);
        let (mut room, mut dropped) = (other.room.clone(), HashSet::new());
        for series in self.series.iter().rev().filter(|series| !is_shared(series)) {
            if !room.take(&series.description) {
                dropped.insert(series.description.whole());
            }
        }
        self.series.retain(|it| is_shared(it) || !dropped.contains(&it.description.whole()));
        let ids = (0..).map(SeriesId).zip(&self.series);
        self.ids = ids.map(|(id, series)| (series.description.clone(), id)).collect();
        let families: HashSet<_> = self.series.iter().map(|it| &it.description.family).collect();
        self.help.retain(|family, _| families.contains(family));
        dropped.len()
    }

    /// Subtracts the totals of another server, except for the sums of distributions.
    pub fn subtract(&mut self, other: &Self) {
        for series in &other.series {
            let own = self.ids.get(&series.description).and_then(|id| self.series.get_mut(id.0));
            let Some(own) = own else { continue };
            for (counted_in, total) in &series.totals {
                if let Some(sum) = own.totals.get_mut(counted_in) {
                    sum.subtract(total);
                }
            }
        }
    }

    /// Finds where a series is counted, and makes room for a new one.
    fn find(&mut self, description: Description) -> Counted {
        if let Some(id) = self.ids.get(&description) {
            return Counted::Alone(*id);
        }
        if self.room.take(&description) {
            let id = SeriesId(self.series.len());
            self.ids.insert(description.clone(), id);
            self.series.push(Series { description, totals: BTreeMap::new(), gauge: Vec::new() });
            return Counted::Alone(id);
        }
        let other = description.other();
        if description == other {
            return Counted::Nowhere;
        }
        self.find(other).id().map_or(Counted::Nowhere, Counted::Together)
    }

    /// Takes note of the help text of a metric, if there is room for it.
    fn set_help(&mut self, family: String, help: String) {
        if self.help.contains_key(&family) || self.room.take_help(&family, &help) {
            self.help.insert(family, help);
        }
    }

    fn total_mut(&mut self, id: SeriesId, counted_in: CountedIn) -> Option<&mut SeriesTotal> {
        let series = self.series.get_mut(id.0)?;
        let kind = series.description.kind;
        Some(series.totals.entry(counted_in).or_insert_with(|| SeriesTotal::new(kind)))
    }
}

/// Reads the areas of a server.
pub struct SeriesReader {
    memory: SeriesMemory,
    areas: Vec<SeenArea>,
    dropped: u64,
}

impl SeriesReader {
    /// Reads the areas of `memory`; `counted_in` says who has each of them.
    pub fn new(memory: SeriesMemory, counted_in: impl IntoIterator<Item = CountedIn>) -> Self {
        Self { memory, areas: counted_in.into_iter().map(SeenArea::new).collect(), dropped: 0 }
    }

    /// Reads all areas.
    pub fn read(&mut self, totals: &mut SeriesTotals) {
        for (index, seen) in (0..).zip(&mut self.areas) {
            if let Some(area) = self.memory.area(index) {
                self.dropped = self.dropped.saturating_add(seen.read(&area, totals));
            }
        }
    }

    /// Reads the area of a process that has ended for the last time, and clears it for the next process.
    ///
    /// Errors: the memory cannot be cleared. The next process goes on with its rows.
    pub fn retire(&mut self, index: u32, totals: &mut SeriesTotals) -> std::io::Result<()> {
        let (Some(area), Some(seen)) =
            (self.memory.area(index), self.areas.get_mut(index as usize))
        else {
            return Ok(());
        };
        self.dropped = self.dropped.saturating_add(seen.read(&area, totals));
        area.clear(area.epoch().wrapping_add(1))?;
        *seen = SeenArea::new(seen.counted_in());
        Ok(())
    }

    /// How many updates were of series that do not count alone, since this was last called. A row beyond the limit of the
    /// server counts once for each read at which it has risen.
    pub fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }
}

#[cfg(test)]
mod tests;
