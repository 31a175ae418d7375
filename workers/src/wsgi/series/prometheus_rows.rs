//! The rows of prometheus_client's values in the area of this process.
//!
//! | a value | its row |
//! |---|---|
//! | of a new series | is appended |
//! | of a series that has a row: its labels were removed and created again, or two registries have it | is that row |
//! | of a series that has no room | is the row `other` of its metric |
//! | that is dropped | stays, because the server has read it; a gauge without another value is marked as absent |
//!
//! A histogram or a summary with its labels is one series of several rows. Either all of them have room, or none.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::unistd::{Pid, getpid};

use crate::shared::series::attachment::{self, Attachment};
use crate::shared::series::{Area, Description, Kind, Row, RowUse};

/// Where a value has its number.
#[derive(Clone, Copy)]
pub(super) struct ValuePlace {
    pub(super) row: &'static Row,
    area: Area,
    epoch: u32,
    /// Whether all series of the metric that have no row of their own share it.
    pub(super) is_other: bool,
}

impl ValuePlace {
    /// The place, unless another process has the area by now.
    #[inline]
    pub(super) fn if_owned(&self) -> Option<&Self> {
        (self.area.epoch() == self.epoch).then_some(self)
    }

    /// Counts an update of a series that has no row of its own.
    pub(super) fn refuse(&self) {
        self.area.refuse();
    }
}

/// The rows that this process has appended to its area.
#[derive(Default)]
struct Rows {
    attachment: Option<Attachment>,
    /// [`attachment::number`] when they were appended, and the process that did it.
    owner: Option<(u32, Pid)>,
    by_description: HashMap<Vec<u8>, UsedRow>,
    /// The histograms and summaries, with their labels, that have rows of their own.
    admitted: HashSet<Vec<u8>>,
    /// The metrics whose help text has a row.
    described: HashSet<String>,
}

struct UsedRow {
    place: ValuePlace,
    /// How many values have it.
    users: u32,
}

/// Only locked by calls from Python, which holds its own lock: nobody ever waits.
static ROWS: Mutex<Option<Rows>> = Mutex::new(None);

/// Finds or appends the row of a series; `None` if this process counts nowhere, or not even `other` has room.
pub(super) fn take(series: &Description, help: &str) -> Option<ValuePlace> {
    let attachment = attachment::current()?;
    let mut rows = lock();
    let is_current = |rows: &&mut Rows| rows.owner.is_some_and(|(it, _)| it == attachment.number);
    let rows = match rows.as_mut().filter(is_current) {
        Some(rows) => rows,
        None => {
            let owner = Some((attachment.number, this_process()));
            rows.insert(Rows { attachment: Some(attachment), owner, ..Rows::default() })
        }
    };
    rows.take(series, help)
}

/// Gives up the row of a series. What a gauge has there no longer counts, unless another value has the row, or this is a
/// child of the application in which the values of its parent are destroyed.
pub(super) fn release(series: &Description) {
    let mut rows = lock();
    let owner = Some((attachment::number(), this_process()));
    let Some(rows) = rows.as_mut().filter(|rows| rows.owner == owner) else { return };
    let Some(used) = series.encode().and_then(|key| rows.by_description.get_mut(&key)) else {
        return;
    };
    used.users = used.users.saturating_sub(1);
    if used.users == 0
        && series.kind == Kind::Gauge
        && let Some(place) = used.place.if_owned()
    {
        place.row.number.remove();
    }
}

/// This process, because a child has copies of the rows and values of its parent.
pub(super) fn this_process() -> Pid {
    getpid()
}

fn lock() -> MutexGuard<'static, Option<Rows>> {
    ROWS.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Rows {
    fn take(&mut self, series: &Description, help: &str) -> Option<ValuePlace> {
        self.attachment?;
        let Some(key) = series.encode() else { return self.other(series) };
        if let Some(used) = self.by_description.get_mut(&key) {
            if used.users == 0 && series.kind == Kind::Gauge {
                used.place.row.number.set(0.0);
            }
            used.users += 1;
            return Some(used.place);
        }
        self.describe(series, help);
        let Some(place) = self.append_own(series, &key) else { return self.other(series) };
        self.by_description.insert(key, UsedRow { place, users: 1 });
        Some(place)
    }

    /// Appends the row of a series; `None` if there is no room for it, or for the series that it is a part of.
    fn append_own(&mut self, series: &Description, key: &[u8]) -> Option<ValuePlace> {
        let whole = match series.kind {
            Kind::HistogramPart | Kind::SummaryPart => series.whole().encode()?,
            Kind::Counter | Kind::Gauge | Kind::Distribution | Kind::Help => {
                return self.append(key, RowUse::Series);
            }
        };
        if self.admitted.contains(&whole) {
            return self.append(key, RowUse::Part);
        }
        // Without room for the first part, there is none for the others either.
        let place = self.append(key, RowUse::Series)?;
        self.admitted.insert(whole);
        Some(place)
    }

    /// The row of all series of the metric that have no row of their own. A metric without labels is always counted.
    fn other(&mut self, series: &Description) -> Option<ValuePlace> {
        let other = series.other();
        let key = other.encode()?;
        if let Some(used) = self.by_description.get(&key) {
            return Some(used.place);
        }
        let place = ValuePlace {
            is_other: other.whole() != series.whole(),
            ..self.append(&key, RowUse::Other)?
        };
        // It is never given up.
        self.by_description.insert(key, UsedRow { place, users: 1 });
        Some(place)
    }

    fn describe(&mut self, series: &Description, help: &str) {
        if self.described.contains(&series.family) {
            return;
        }
        self.described.insert(series.family.clone());
        let text = Description {
            kind: Kind::Help,
            sample: String::new(),
            tags: vec![(String::new(), help.to_owned())],
            ..series.clone()
        };
        // Without room for it, the series has no help text.
        let _row = text.encode().and_then(|text| self.append(&text, RowUse::Help));
    }

    fn append(&self, description: &[u8], purpose: RowUse) -> Option<ValuePlace> {
        let Attachment { area, epoch, .. } = self.attachment?;
        let row = area.append(description, purpose, false)?;
        Some(ValuePlace { row, area, epoch, is_other: false })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shared::series::{Aggregation, Capacity, Naming, SeriesMemory};

    fn area(series: u32) -> Area {
        SeriesMemory::create(1, Capacity::for_series(series)).unwrap().area(0).unwrap()
    }

    fn rows_in(area: Area) -> Rows {
        let attachment = Attachment { number: 1, area, epoch: area.epoch() };
        Rows { attachment: Some(attachment), ..Rows::default() }
    }

    fn series(kind: Kind, sample: &str, tags: &[(&str, &str)]) -> Description {
        let tags = tags.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Description {
            kind,
            aggregation: Aggregation::Sum,
            naming: Naming::Verbatim,
            family: "jobs".into(),
            sample: sample.into(),
            tags: tags.collect(),
        }
    }

    fn counter(queue: &str) -> Description {
        series(Kind::Counter, "jobs_total", &[("queue", queue)])
    }

    fn bucket(queue: &str, le: &str) -> Description {
        series(Kind::HistogramPart, "jobs_bucket", &[("queue", queue), ("le", le)])
    }

    fn described(area: Area) -> Vec<(Kind, Vec<String>)> {
        let rows = (0..area.row_count()).filter_map(|index| area.description(area.row(index)?));
        let all = rows.filter_map(|bytes| Description::decode(&bytes));
        all.map(|it| (it.kind, it.tags.into_iter().map(|(_, value)| value).collect())).collect()
    }

    #[test]
    fn values_of_the_same_series_share_a_row_after_the_help_text() {
        let area = area(10);
        let mut rows = rows_in(area);
        let [first, second] = [(); 2].map(|()| rows.take(&counter("mail"), "Jobs").unwrap());
        first.row.number.add(1.0);
        assert_eq!(second.row.number.get(), 1.0);
        let expected =
            [(Kind::Help, vec!["Jobs".to_owned()]), (Kind::Counter, vec!["mail".to_owned()])];
        assert_eq!(described(area), expected);
    }

    #[test]
    fn series_that_have_no_room_share_a_row() {
        let area = area(1);
        let mut rows = rows_in(area);
        let places = ["a", "b", "c"].map(|queue| rows.take(&counter(queue), "").unwrap());
        assert_eq!(places.map(|place| place.is_other), [false, true, true]);
        assert!(std::ptr::eq(places[1].row, places[2].row));
        assert_eq!(described(area)[2], (Kind::Counter, vec!["other".to_owned()]));
        let long = rows.take(&counter(&"x".repeat(3000)), "").unwrap();
        assert!(std::ptr::eq(long.row, places[1].row));
    }

    #[test]
    fn a_metric_without_labels_always_has_room() {
        let mut rows = rows_in(area(1));
        assert!(!rows.take(&counter("a"), "").unwrap().is_other);
        assert!(!rows.take(&series(Kind::Counter, "more_total", &[]), "").unwrap().is_other);
    }

    #[test]
    fn a_histogram_is_one_series_and_keeps_its_bounds_without_room() {
        let area = area(1);
        let mut rows = rows_in(area);
        for le in ["0.5", "1", "2", "+Inf"] {
            assert!(!rows.take(&bucket("mail", le), "").unwrap().is_other, "{le}");
        }
        assert!(
            !rows
                .take(&series(Kind::HistogramPart, "jobs_sum", &[("queue", "mail")]), "")
                .unwrap()
                .is_other
        );
        for le in ["0.5", "+Inf"] {
            assert!(rows.take(&bucket("sms", le), "").unwrap().is_other, "{le}");
        }
        let last = described(area).pop().unwrap();
        assert_eq!(last, (Kind::HistogramPart, vec!["other".to_owned(), "+Inf".to_owned()]));
    }

    #[test]
    fn a_process_without_an_area_has_no_rows() {
        assert!(Rows::default().take(&counter("a"), "").is_none());
    }
}
