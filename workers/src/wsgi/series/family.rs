//! One metric of the application, and the rows of its series in this process.

use std::collections::HashMap;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyInt, PyString, PyTuple};

use super::place::Place;
use super::recent::Recent;
use crate::shared::series::attachment::{self, Attachment};
use crate::shared::series::{Aggregation, Description, Kind, Naming, OTHER, RowUse};

/// The longest value of a tag in bytes. The rest is cut off.
const MAX_VALUE_BYTES: usize = 200;
/// The largest number of which each whole number below is exact.
const MAX_ADDEND: f64 = 9_007_199_254_740_992.0;

/// The tags of an update.
pub(super) struct Tags<'a, 'py> {
    /// Their names; `None` if there are no tags.
    pub(super) names: Option<Borrowed<'a, 'py, PyTuple>>,
    /// Their values, all of them constant ([`is_constant`]).
    pub(super) values: &'a [Borrowed<'a, 'py, PyAny>],
}

/// A metric: what the application has defined, and its rows.
pub(super) struct Family {
    kind: Kind,
    aggregation: Aggregation,
    name: String,
    help: String,
    tags: Vec<Tag>,
    rows: Rows,
}

/// The name of a tag. Python interns the names of arguments, so that they mostly are the same object.
struct Tag {
    text: String,
    object: Py<PyString>,
}

/// The rows of a metric in the area of this process.
#[derive(Default)]
struct Rows {
    /// The attachment that they belong to; `None` before the first update.
    number: Option<u32>,
    attachment: Option<Attachment>,
    has_help: bool,
    /// By the values of the tags, each with its length.
    by_values: HashMap<Box<[u8]>, Place>,
    other: Option<Place>,
    recent: Recent,
    /// Of a metric without tags.
    untagged: Option<Place>,
    /// Memory for the next key.
    key: Vec<u8>,
}

impl Family {
    /// Creates a metric whose names were checked.
    pub(super) fn new(
        kind: Kind,
        aggregation: Aggregation,
        name: String,
        help: String,
        tags: Vec<Bound<'_, PyString>>,
    ) -> PyResult<Self> {
        let tag = |name: Bound<'_, PyString>| {
            let text = name.to_str()?.to_owned();
            let object = PyString::intern(name.py(), &text).unbind();
            Ok(Tag { text, object })
        };
        let tags = tags.into_iter().map(tag).collect::<PyResult<_>>()?;
        Ok(Self { kind, aggregation, name, help, tags, rows: Rows::default() })
    }

    /// The name of the metric.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Finds where the series with these tags has its value; `None` if this process counts nowhere.
    ///
    /// Errors: TypeError for missing or unknown tags, ValueError for a value that is no text.
    pub(super) fn find(&mut self, tags: &Tags<'_, '_>) -> PyResult<Option<Place>> {
        if self.rows.number != Some(attachment::number()) {
            let attachment = attachment::current();
            self.rows = Rows { number: Some(attachment::number()), attachment, ..Rows::default() };
        }
        let remembered = match tags.names {
            Some(names) => self.rows.recent.find(names, tags.values),
            None => self.rows.untagged,
        };
        let place = match remembered {
            Some(place) => Some(place),
            None => {
                self.write_key(tags)?;
                let place = self.find_by_key();
                match (tags.names, place) {
                    (Some(names), Some(place)) => {
                        self.rows.recent.remember(names, tags.values, place);
                    }
                    (None, place) => self.rows.untagged = place,
                    (Some(_), None) => {}
                }
                place
            }
        };
        let Some(Attachment { area, epoch, .. }) = &self.rows.attachment else { return Ok(None) };
        if area.epoch() != *epoch {
            return Ok(None);
        }
        match place {
            Some(place) if !place.is_other => {}
            Some(_) | None => area.refuse(),
        }
        Ok(place)
    }

    /// Writes the values of the tags, in the order of their definition, to the key.
    fn write_key(&mut self, given: &Tags<'_, '_>) -> PyResult<()> {
        self.rows.key.clear();
        for tag in &self.tags {
            let place = given.names.and_then(|names| tag.place_in(&names));
            let Some(value) = place.and_then(|place| given.values.get(place)) else {
                return Err(self.wrong_tags(format!("the tag '{}' is missing", tag.text)));
            };
            match value.cast::<PyString>() {
                Ok(text) => push_value(&mut self.rows.key, text.to_str()?),
                Err(_) => push_value(&mut self.rows.key, value.str()?.to_str()?),
            }
        }
        // CPython refuses names that are given twice.
        if self.tags.len() == given.values.len() {
            return Ok(());
        }
        let is_known = |name: &Bound<'_, PyAny>| self.tags.iter().any(|tag| tag.is(name));
        let names = given.names.iter().flat_map(|names| names.iter());
        let unknown = names.into_iter().find(|name| !is_known(name));
        let unknown = unknown.map_or_else(String::new, |name| name.to_string());
        Err(self.wrong_tags(format!("there is no tag '{unknown}'")))
    }

    fn wrong_tags(&self, reason: String) -> PyErr {
        let names: Vec<_> = self.tags.iter().map(|tag| tag.text.as_str()).collect();
        let tags = match names.is_empty() {
            true => "it has no tags".to_owned(),
            false => format!("its tags are {}", names.join(", ")),
        };
        PyTypeError::new_err(format!("{}: {reason}; {tags}", self.name))
    }

    fn find_by_key(&mut self) -> Option<Place> {
        let area = self.rows.attachment?.area;
        if let Some(place) = self.rows.by_values.get(&*self.rows.key) {
            return Some(*place);
        }
        if !self.rows.has_help {
            self.rows.has_help = true;
            let help = Description {
                kind: Kind::Help,
                tags: vec![(String::new(), self.help.clone())],
                ..self.description(&[])
            };
            // Without room for it, the series has no help text.
            let _row = help.encode().and_then(|help| area.append(&help, RowUse::Help, false));
        }
        let values = read_values(&self.rows.key);
        if let Some(place) = self.append(&values, RowUse::Series) {
            self.rows.by_values.insert(self.rows.key.as_slice().into(), place);
            return Some(place);
        }
        if self.rows.other.is_none() {
            let values = vec![OTHER; self.tags.len()];
            self.rows.other = self.append(&values, RowUse::Other);
        }
        self.rows.other
    }

    fn append(&self, values: &[&str], purpose: RowUse) -> Option<Place> {
        let area = self.rows.attachment?.area;
        let description = self.description(values).encode()?;
        let row = area.append(&description, purpose, self.kind == Kind::Distribution)?;
        // A metric without tags has no other series, so that its row is its own in any case.
        let is_other = purpose == RowUse::Other && !self.tags.is_empty();
        Some(Place { row, histogram: area.histogram(row), is_other })
    }

    fn description(&self, values: &[&str]) -> Description {
        let names = self.tags.iter().map(|tag| tag.text.clone());
        Description {
            kind: self.kind,
            aggregation: self.aggregation,
            naming: Naming::Prefixed,
            family: self.name.clone(),
            sample: String::new(),
            tags: names.zip(values.iter().map(|&value| value.to_owned())).collect(),
        }
    }

    /// How the values of several processes make one.
    pub(super) fn aggregation(&self) -> Aggregation {
        self.aggregation
    }

    /// The number that a method needs, if it is a finite one.
    pub(super) fn needed(&self, method: &str, number: Option<f64>) -> PyResult<f64> {
        let missing = || PyTypeError::new_err(format!("{}: {method}() needs a number", self.name));
        self.finite(number.ok_or_else(missing)?)
    }

    /// Refuses what cannot be added to a sum: it is not finite, or so large that the sum would no longer be exact and
    /// later additions would be lost.
    pub(super) fn addend(&self, number: f64) -> PyResult<f64> {
        if number.abs() <= MAX_ADDEND {
            return Ok(number);
        }
        let number = self.finite(number)?;
        Err(PyValueError::new_err(format!(
            "{}: a number of at most 2^53 (9007199254740992) is needed, not {number:?}",
            self.name
        )))
    }

    /// Refuses what is no finite number.
    pub(super) fn finite(&self, number: f64) -> PyResult<f64> {
        if number.is_finite() {
            return Ok(number);
        }
        Err(PyValueError::new_err(format!(
            "{}: a finite number is needed, not {number}",
            self.name
        )))
    }
}

impl Tag {
    fn is(&self, name: &Bound<'_, PyAny>) -> bool {
        let is_equal =
            |name: &Bound<'_, PyString>| name.to_str().is_ok_and(|name| name == self.text);
        self.object.is(name) || name.cast().is_ok_and(is_equal)
    }

    fn place_in(&self, names: &Bound<'_, PyTuple>) -> Option<usize> {
        names.iter_borrowed().position(|name| self.is(&name))
    }
}

/// Whether an object of this type never changes, and reading its text runs no code of the application.
pub(super) fn is_constant(value: &Borrowed<'_, '_, PyAny>) -> bool {
    value.is_exact_instance_of::<PyString>()
        || value.is_exact_instance_of::<PyInt>()
        || value.is_exact_instance_of::<PyBool>()
        || value.is_none()
}

/// The text without the characters that exceed `max_bytes`.
pub(super) fn cut(text: &str, max_bytes: usize) -> &str {
    let mut end = text.len().min(max_bytes);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

fn push_value(key: &mut Vec<u8>, value: &str) {
    let kept = cut(value, MAX_VALUE_BYTES);
    key.extend_from_slice(&(kept.len() as u16).to_le_bytes());
    key.extend_from_slice(kept.as_bytes());
}

fn read_values(key: &[u8]) -> Vec<&str> {
    let mut values = Vec::new();
    let mut rest = key;
    while let Some((length, after)) = rest.split_first_chunk() {
        let (value, after) = after.split_at(usize::from(u16::from_le_bytes(*length)));
        values.push(str::from_utf8(value).unwrap_or_default());
        rest = after;
    }
    values
}
