//! The value class of prometheus_client: one number of a counter, a gauge, a summary or a histogram.
//!
//! The process has the number in its own memory, so that `get()` and the application's own page show what they show
//! without arctos. Each update also goes to the row of the series in shared memory:
//!
//! | update | of a gauge | of anything else |
//! |---|---|---|
//! | `inc(amount)` | is added | is added if it is finite, so that one wrong value does not spoil the total |
//! | `set(number)` | replaces the number | only a rise is added: `Counter.reset()` does not lower the total |
//!
//! The process may get another area, whose row it looks up at the next update. What was counted before remains in the row
//! that it had, where the server reads it:
//!
//! | who gets the area | a gauge there | anything else |
//! |---|---|---|
//! | a child of the process | starts at 0 | starts at 0 |
//! | the process itself, because its server begins or ends | has its number, and gives up the row that it had | starts at 0 |

use std::sync::atomic::Ordering;

use nix::unistd::Pid;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use super::classes::now_ns;
use super::family::cut;
use super::prometheus_rows::{self, ValuePlace, this_process};
use crate::shared::series::{Aggregation, Description, Kind, Naming, attachment};

/// The longest value of a label in bytes: the first of these with which the description is short enough. The rest is cut
/// off.
const MAX_VALUE_BYTES: [usize; 3] = [200, 50, 10];
/// The longest help text in bytes. The rest is cut off.
const MAX_HELP_BYTES: usize = 1000;

/// A number of a metric of prometheus_client, which the server's page shows, too.
#[pyclass(module = "arctos.metrics.prometheus", name = "PrometheusValue")]
pub struct PrometheusValue {
    /// Its description as bytes, because a histogram has many values.
    series: Box<[u8]>,
    kind: Kind,
    aggregation: Aggregation,
    /// Whether an update of this value is one of its series: of a histogram or a summary, only that of the sum is.
    is_of_series: bool,
    help: Py<PyString>,
    /// As this process sees it.
    number: f64,
    exemplar: Option<Py<PyAny>>,
    visibility: Visibility,
}

/// Whether the server's page shows the number.
#[derive(Clone, Copy)]
enum Visibility {
    /// It has not been looked up yet.
    New,
    /// Yes, if the process has an area.
    Shown(Attached),
    /// No: something else has the value of the metric.
    Hidden,
}

/// The row of a value, as of the last time that it was looked up.
#[derive(Clone, Copy)]
struct Attached {
    /// [`attachment::number`] at that time.
    number: u32,
    process: Pid,
    place: Option<ValuePlace>,
}

#[pymethods]
impl PrometheusValue {
    /// What prometheus_client asks of a value class: whether metrics work as in its multiprocess mode.
    #[classattr]
    #[pyo3(name = "_multiprocess")]
    const MULTIPROCESS: bool = false;

    #[new]
    #[pyo3(signature = (typ, metric_name, name, labelnames, labelvalues, help_text = None, multiprocess_mode = "", **_kwargs))]
    #[expect(clippy::too_many_arguments, reason = "prometheus_client passes them")]
    fn new(
        py: Python<'_>,
        typ: &str,
        metric_name: &str,
        name: &str,
        labelnames: Vec<Bound<'_, PyString>>,
        labelvalues: Vec<Bound<'_, PyString>>,
        help_text: Option<Bound<'_, PyAny>>,
        multiprocess_mode: &str,
        _kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        let (kind, aggregation) = match typ {
            "counter" => (Kind::Counter, Aggregation::Sum),
            "summary" => (Kind::SummaryPart, Aggregation::Sum),
            "histogram" => (Kind::HistogramPart, Aggregation::Sum),
            "gauge" => (Kind::Gauge, aggregation_of(multiprocess_mode)?),
            other => {
                let error = format!("{name}: arctos cannot count a metric of type '{other}'");
                return Err(PyValueError::new_err(error));
            }
        };
        let (family, sample) = (legal_name(metric_name), legal_name(name));
        let sample = if sample == family { String::new() } else { sample };
        let encoded = MAX_VALUE_BYTES.into_iter().find_map(|max_bytes| {
            let names = labelnames.iter().map(|name| label_name(&name.to_string_lossy()));
            let values = labelvalues.iter();
            let values = values.map(|value| cut(&value.to_string_lossy(), max_bytes).to_owned());
            let tags = names.zip(values).collect();
            let (family, sample) = (family.clone(), sample.clone());
            let naming = Naming::Verbatim;
            Description { kind, aggregation, naming, family, sample, tags }.encode()
        });
        let visibility = match encoded {
            Some(_) => Visibility::New,
            None => Visibility::Hidden,
        };
        // Something else than a text, such as a translation that is not loaded yet, is no help text.
        let help = help_text.and_then(|help| help.cast_into().ok());
        let mut value = Self {
            series: encoded.unwrap_or_default().into_boxed_slice(),
            kind,
            aggregation,
            is_of_series: matches!(kind, Kind::Counter | Kind::Gauge) || name.ends_with("_sum"),
            help: help.unwrap_or_else(|| PyString::intern(py, "")).unbind(),
            number: 0.0,
            exemplar: None,
            visibility,
        };
        // The page shows a metric from its definition on.
        value.place(py);
        Ok(value)
    }

    /// Adds to the number.
    fn inc(this: &Bound<'_, Self>, amount: f64) -> PyResult<()> {
        // Not before the amount is converted, which may run code that updates this metric.
        this.try_borrow_mut()?.add(this.py(), amount);
        Ok(())
    }

    /// Replaces the number.
    #[pyo3(signature = (value, timestamp = None))]
    fn set(
        this: &Bound<'_, Self>,
        value: f64,
        timestamp: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        // The row has the time at which it was set, by a clock that is the same for all processes.
        let _ = timestamp;
        this.try_borrow_mut()?.replace(this.py(), value);
        Ok(())
    }

    /// Returns the number as this process has counted it.
    fn get(&self) -> f64 {
        self.number
    }

    /// Keeps the exemplar for the page of this process.
    fn set_exemplar(this: &Bound<'_, Self>, exemplar: Py<PyAny>) -> PyResult<()> {
        let old = this.try_borrow_mut()?.exemplar.replace(exemplar);
        drop(old); // Not while the value is borrowed: this may run code of the application.
        Ok(())
    }

    /// Returns the last exemplar, or None.
    fn get_exemplar(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.exemplar.as_ref().map(|exemplar| exemplar.clone_ref(py))
    }

    /// Removes the number from the server's page, because something else has the value of the metric.
    fn hide(this: &Bound<'_, Self>) -> PyResult<()> {
        let mut value = this.try_borrow_mut()?;
        value.release();
        value.visibility = Visibility::Hidden;
        Ok(())
    }

    fn __repr__(&self) -> String {
        let series = Description::decode(&self.series);
        let name = series.map_or_else(String::new, |series| match series.sample.is_empty() {
            true => series.family,
            false => series.sample,
        });
        format!("<arctos.metrics.prometheus.PrometheusValue {name}>")
    }
}

impl PrometheusValue {
    fn add(&mut self, py: Python<'_>, amount: f64) {
        let place = self.place(py);
        self.number += amount;
        let Some(place) = place else { return };
        // Infinity is a value of one gauge, but not of a sum.
        if amount.is_finite() || (self.kind == Kind::Gauge && !place.is_other) {
            place.row.number.add(amount);
            self.updated(&place);
        }
    }

    fn replace(&mut self, py: Python<'_>, number: f64) {
        let place = self.place(py);
        let difference = number - self.number;
        self.number = number;
        let Some(place) = place else { return };
        if self.kind == Kind::Gauge && !place.is_other {
            place.row.number.set(number);
        } else if difference.is_finite() && (difference > 0.0 || self.kind == Kind::Gauge) {
            place.row.number.add(difference);
        }
        self.updated(&place);
    }

    fn updated(&self, place: &ValuePlace) {
        if self.aggregation == Aggregation::Last {
            place.row.set_at.store(now_ns(), Ordering::Release);
        }
        if place.is_other && self.is_of_series {
            place.refuse();
        }
    }

    /// Where the number is in shared memory; `None` if it is in the memory of this process only.
    #[inline]
    fn place(&mut self, py: Python<'_>) -> Option<ValuePlace> {
        let attached = match self.visibility {
            Visibility::Shown(attached) if attached.number == attachment::number() => attached,
            Visibility::Shown(before) => self.look_up(py, Some(before)),
            Visibility::New => self.look_up(py, None),
            Visibility::Hidden => return None,
        };
        attached.place.as_ref().and_then(ValuePlace::if_owned).copied()
    }

    #[cold]
    fn look_up(&mut self, py: Python<'_>, before: Option<Attached>) -> Attached {
        let place = Description::decode(&self.series).and_then(|series| {
            let help = self.help.bind(py).to_string_lossy();
            prometheus_rows::take(&series, cut(&help, MAX_HELP_BYTES))
        });
        let attached = Attached { number: attachment::number(), process: this_process(), place };
        self.visibility = Visibility::Shown(attached);
        let had = before.filter(|before| before.process == attached.process);
        let had = had.and_then(|before| before.place);
        if let (Kind::Gauge, Some(had), Some(place)) = (self.kind, had, &place) {
            self.give_up(&had);
            self.show(place);
        }
        attached
    }

    /// Brings the number of a gauge to its row.
    fn show(&self, place: &ValuePlace) {
        if !place.is_other {
            place.row.number.set(self.number);
        } else if self.number.is_finite() {
            place.row.number.add(self.number);
        }
    }

    /// Removes the number of a gauge from a row of an area that this process no longer has.
    fn give_up(&self, had: &ValuePlace) {
        if !had.is_other {
            had.row.number.remove();
        } else if self.number.is_finite() {
            had.row.number.add(-self.number);
        }
    }

    fn release(&self) {
        let Visibility::Shown(attached) = self.visibility else { return };
        let Some(place) = attached.place else { return };
        if attached.number != attachment::number() || attached.process != this_process() {
            return;
        }
        if !place.is_other {
            if let Some(series) = Description::decode(&self.series) {
                prometheus_rows::release(&series);
            }
        } else if self.kind == Kind::Gauge && self.number.is_finite() {
            place.row.number.add(-self.number);
        }
    }
}

impl Drop for PrometheusValue {
    fn drop(&mut self) {
        self.release();
    }
}

/// How the values of several processes make one, as Gauge of prometheus_client calls it. Modes of processes that live
/// are no different: the value of a process that ended never counts.
fn aggregation_of(mode: &str) -> PyResult<Aggregation> {
    match mode.strip_prefix("live").unwrap_or(mode) {
        "all" | "" => Ok(Aggregation::Each),
        "sum" => Ok(Aggregation::Sum),
        "max" => Ok(Aggregation::Max),
        "min" => Ok(Aggregation::Min),
        "mostrecent" => Ok(Aggregation::Last),
        _ => Err(PyValueError::new_err(format!(
            "arctos does not know the multiprocess mode '{mode}'"
        ))),
    }
}

/// The name of a label, which may not have colons either.
fn label_name(name: &str) -> String {
    legal_name(name).replace(':', "_")
}

/// The name with underscores in place of what Prometheus does not permit without quotes, as prometheus_client writes it.
fn legal_name(name: &str) -> String {
    let is_legal = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == ':';
    let mut legal: String =
        name.chars().map(|letter| if is_legal(letter) { letter } else { '_' }).collect();
    if legal.starts_with(|letter: char| letter.is_ascii_digit()) {
        legal.insert(0, '_');
    }
    legal
}
