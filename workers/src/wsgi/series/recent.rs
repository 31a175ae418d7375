//! The series of the last updates, found by the identity of what they were given.

use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::place::Place;

/// How many updates a metric remembers. A call site has the same tuple of names each time, and mostly one of a few values.
const REMEMBERED: usize = 4;

/// An update: the names of its tags and their values.
struct Update {
    names: Py<PyTuple>,
    values: Box<[Py<PyAny>]>,
    place: Place,
}

/// The last updates of a metric that went to different series. It owns the objects, so that no other object gets their
/// address meanwhile.
#[derive(Default)]
pub(super) struct Recent {
    updates: [Option<Update>; REMEMBERED],
    /// Where the next one goes.
    next: usize,
}

impl Recent {
    /// The series of an update with the same objects.
    #[inline]
    pub(super) fn find(
        &self,
        names: Borrowed<'_, '_, PyTuple>,
        values: &[Borrowed<'_, '_, PyAny>],
    ) -> Option<Place> {
        let is_same = |update: &&Update| {
            update.names.as_ptr() == names.as_ptr()
                && update.values.len() == values.len()
                && update.values.iter().zip(values).all(|(old, new)| old.as_ptr() == new.as_ptr())
        };
        self.updates.iter().flatten().find(is_same).map(|update| update.place)
    }

    /// Remembers an update. Its values never change.
    pub(super) fn remember(
        &mut self,
        names: Borrowed<'_, '_, PyTuple>,
        values: &[Borrowed<'_, '_, PyAny>],
        place: Place,
    ) {
        let values = values.iter().map(|value| (*value).to_owned().unbind()).collect();
        self.updates[self.next] = Some(Update { names: names.to_owned().unbind(), values, place });
        self.next = (self.next + 1) % REMEMBERED;
    }
}
