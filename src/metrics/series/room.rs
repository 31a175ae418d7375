//! How much the totals hold: what one area holds, because most processes of a server count the same series.
//!
//! | a new row of | finds room |
//! |---|---|
//! | a series | up to the limit of series |
//! | a further part of such a series, as a bucket of a Prometheus histogram | as long as there are rows and text |
//! | a metric without tags, beyond the limit | in the part of rows and text that is left for it |
//! | the series `other` of a metric, or its help text | there, too |
//!
//! Without this limit, an application that makes names of metrics, and whose workers are recycled, would need more
//! memory with each of them.

use std::collections::HashSet;

use arctos_worker::shared::series::{Capacity, Description, RowUse};

/// What was taken of the capacity.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Room {
    capacity: Capacity,
    /// The series, each without its parts.
    series: HashSet<Description>,
    rows: u32,
    text_bytes: u32,
}

impl Room {
    /// Nothing is taken yet.
    pub(super) fn new(capacity: Capacity) -> Self {
        Self { capacity, series: HashSet::new(), rows: 0, text_bytes: 0 }
    }

    /// How many series there may be, without those that count the rest.
    pub(super) fn limit(&self) -> u32 {
        self.capacity.series
    }

    /// Takes the room of a row that has none yet; says whether there is any.
    pub(super) fn take(&mut self, description: &Description) -> bool {
        let whole = description.whole();
        let counts_rest = *description == description.other();
        let is_full = self.series.len() >= self.capacity.series as usize;
        let purpose = match (self.series.contains(&whole), counts_rest) {
            (true, _) => RowUse::Part,
            (false, true) if is_full || !whole.tags.is_empty() => RowUse::Other,
            (false, false) if is_full => return false,
            (false, _) => RowUse::Series,
        };
        let Some(bytes) = description.encode() else { return false };
        let has_room = self.take_row(bytes.len(), purpose);
        if has_room && purpose == RowUse::Series {
            self.series.insert(whole);
        }
        has_room
    }

    /// Takes the room of a help text; says whether there is any.
    pub(super) fn take_help(&mut self, family: &str, help: &str) -> bool {
        self.take_row(family.len() + help.len(), RowUse::Help)
    }

    fn take_row(&mut self, bytes: usize, purpose: RowUse) -> bool {
        let Capacity { rows, text_bytes, .. } = self.capacity.open_to(purpose);
        let Some(end) = u32::try_from(bytes).ok().and_then(|it| self.text_bytes.checked_add(it))
        else {
            return false;
        };
        let has_room = self.rows < rows && end <= text_bytes;
        if has_room {
            self.rows += 1;
            self.text_bytes = end;
        }
        has_room
    }
}
