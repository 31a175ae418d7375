//! An area as of the last read.

use std::sync::atomic::Ordering;

use arctos_worker::shared::series::{Area, Description, Kind, Naming, Row};

use super::{Counted, CountedIn, GaugeValue, SeriesTotal, SeriesTotals};

/// The maximum plausible rise of a number between two reads. Numbers up to it are exact.
const MAX_RISE: f64 = 9_007_199_254_740_992.0;
/// The maximum plausible rise of one bucket between two reads.
const MAX_BUCKET_RISE: u32 = 1 << 31;
/// The maximum plausible number of updates between two reads.
const MAX_REFUSED: u64 = 1 << 45;

/// An area as of the last read.
pub(super) struct SeenArea {
    counted_in: CountedIn,
    rows: Vec<SeenRow>,
    /// Rows that were reserved, but not complete.
    incomplete: Vec<u32>,
    refused: u64,
}

/// A row as of the last read.
struct SeenRow {
    counted: Counted,
    value: SeenValue,
}

/// The value of a row as of the last read.
enum SeenValue {
    /// It has no series: it is not complete, a help text, or garbage.
    Nothing,
    /// A number that only rises.
    Number(f64),
    /// A sum of numbers that may be negative.
    Sum(f64),
    /// A number of which only the current value counts.
    Gauge,
    /// A histogram: its sum, and the buckets that are not zero by their index.
    Values { sum: f64, buckets: Vec<(u16, u32)> },
}

const NOTHING: SeenRow = SeenRow { counted: Counted::Nowhere, value: SeenValue::Nothing };

impl SeenArea {
    /// An area of which nothing was read.
    pub(super) fn new(counted_in: CountedIn) -> Self {
        Self { counted_in, rows: Vec::new(), incomplete: Vec::new(), refused: 0 }
    }

    /// Who has the area.
    pub(super) fn counted_in(&self) -> CountedIn {
        self.counted_in
    }

    /// Adds what has risen since the last read. Returns how many updates were of series that do not count alone.
    pub(super) fn read(&mut self, area: &Area, totals: &mut SeriesTotals) -> u64 {
        let refused = area.refused();
        let risen = refused.checked_sub(self.refused).filter(|&risen| risen <= MAX_REFUSED);
        self.refused = refused;
        let mut dropped = risen.unwrap_or(0);
        for index in std::mem::take(&mut self.incomplete) {
            self.find(index, area, totals);
        }
        for index in self.rows.len() as u32..area.row_count() {
            self.rows.push(NOTHING);
            self.find(index, area, totals);
        }
        for (index, seen) in (0..).zip(&mut self.rows) {
            let Some(row) = area.row(index) else { continue };
            let has_risen = seen.read(row, area, self.counted_in, totals);
            let is_alone = matches!(seen.counted, Counted::Alone(_));
            dropped += u64::from(has_risen && !is_alone);
        }
        dropped
    }

    /// Finds the series of a row.
    fn find(&mut self, index: u32, area: &Area, totals: &mut SeriesTotals) {
        let Some(row) = area.row(index) else { return };
        let Some(bytes) = area.description(row) else { return self.incomplete.push(index) };
        let Some(description) = Description::decode(&bytes) else { return };
        let Some(seen) = self.rows.get_mut(index as usize) else { return };
        let value = match description.kind {
            Kind::Help => {
                let text = description.tags.into_iter().next().map(|(_, text)| text);
                totals.set_help(description.family, text.unwrap_or_default());
                return;
            }
            Kind::Gauge => SeenValue::Gauge,
            Kind::HistogramPart | Kind::SummaryPart if description.sample.ends_with("_sum") => {
                SeenValue::Sum(0.0)
            }
            Kind::Counter | Kind::HistogramPart | Kind::SummaryPart => SeenValue::Number(0.0),
            Kind::Distribution => SeenValue::Values { sum: 0.0, buckets: Vec::new() },
        };
        let counted = totals.find(description);
        *seen = SeenRow { counted, value };
        let Some(id) = counted.id() else { return };
        // The series exists from its first row on, even if it still is zero.
        match seen.value {
            SeenValue::Number(_) | SeenValue::Sum(_) | SeenValue::Values { .. } => {
                totals.total_mut(id, self.counted_in);
            }
            SeenValue::Nothing | SeenValue::Gauge => {}
        }
    }
}

impl SeenRow {
    /// Adds what has risen, and says whether anything has.
    fn read(
        &mut self,
        row: &Row,
        area: &Area,
        counted_in: CountedIn,
        totals: &mut SeriesTotals,
    ) -> bool {
        let risen = match &mut self.value {
            SeenValue::Nothing => None,
            SeenValue::Number(seen) => {
                let now = row.number.get();
                let risen = now - std::mem::replace(seen, now);
                // False for what is no number, too.
                (risen > 0.0 && risen <= MAX_RISE).then_some(SeriesTotal::Sum(risen))
            }
            SeenValue::Sum(seen) => {
                let now = row.number.get();
                let change = now - std::mem::replace(seen, now);
                let is_plausible = change != 0.0 && change.abs() <= MAX_RISE;
                is_plausible.then_some(SeriesTotal::Sum(change))
            }
            SeenValue::Gauge => {
                let set_at = row.set_at.load(Ordering::Acquire);
                if let Some(id) = self.counted.id()
                    && let Some(series) = totals.series.get_mut(id.0)
                    && let Some(value) = row.number.get_unless_removed()
                    // `arctos.metrics` refuses other values, and statsd has none for them.
                    && (value.is_finite() || series.description.naming == Naming::Verbatim)
                {
                    series.gauge.push(GaugeValue { counted_in, value, set_at });
                }
                None
            }
            SeenValue::Values { sum, buckets } => read_histogram(row, area, sum, buckets),
        };
        let Some(risen) = risen else { return false };
        let id = self.counted.id();
        if let Some(total) = id.and_then(|id| totals.total_mut(id, counted_in)) {
            total.add(&risen);
        }
        true
    }
}

/// What a histogram has risen by; `None` for nothing.
fn read_histogram(
    row: &Row,
    area: &Area,
    sum: &mut f64,
    seen: &mut Vec<(u16, u32)>,
) -> Option<SeriesTotal> {
    let histogram = area.histogram(row)?;
    let mut total = SeriesTotal::new(Kind::Distribution);
    let SeriesTotal::Values { sum: risen_sum, buckets } = &mut total else { return None };
    let mut before = std::mem::take(seen).into_iter().peekable();
    for (index, now) in (0..).zip(histogram.buckets()) {
        let old = before.next_if(|(of, _)| *of == index).map_or(0, |(_, n)| n);
        let risen = now.wrapping_sub(old);
        if risen <= MAX_BUCKET_RISE {
            buckets.add(index, u64::from(risen));
        }
        if now != 0 {
            seen.push((index, now));
        }
    }
    let now = histogram.sum();
    let risen = now - std::mem::replace(sum, now);
    if risen.abs() <= MAX_RISE {
        *risen_sum = risen;
    }
    let has_risen = !buckets.is_empty() || *risen_sum != 0.0;
    has_risen.then_some(total)
}
