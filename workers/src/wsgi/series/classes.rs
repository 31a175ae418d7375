//! The classes that the application uses. `arctos.metrics` checks the names and keeps one object for each metric.

use std::ffi::CStr;
use std::sync::atomic::Ordering;

use nix::time::{ClockId, clock_gettime};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyString;

use super::family::{Family, Tags};
use super::fast_call::{self, Method, Owner};
use crate::shared::series::{Aggregation, Kind};

/// Defines a class around a metric.
macro_rules! metric {
    ($class:ident, $doc:literal) => {
        #[doc = $doc]
        #[pyclass(module = "arctos.metrics")]
        pub struct $class(Family);

        impl Owner for $class {
            fn family(&mut self) -> &mut Family {
                &mut self.0
            }
        }

        #[pymethods]
        impl $class {
            fn __repr__(&self) -> String {
                format!("<arctos.metrics.{} {}>", stringify!($class), self.0.name())
            }

            /// The name of the metric.
            #[getter]
            fn name(&self) -> &str {
                self.0.name()
            }
        }
    };
}

metric!(Counter, "A metric that only increases.");
metric!(Gauge, "A metric that has a value at any time.");
metric!(Distribution, "A metric of many values, of which the distribution counts.");

/// Defines a method that updates a metric.
macro_rules! method {
    ($method:ident of $class:ident, $name:literal, $doc:literal, $update:expr) => {
        struct $method;

        impl Method for $method {
            type Class = $class;
            const NAME: &CStr = $name;
            const DOC: &CStr = $doc;

            fn update(
                family: &mut Family,
                number: Option<f64>,
                tags: &Tags<'_, '_>,
            ) -> PyResult<()> {
                let update: fn(&mut Family, Option<f64>, &Tags<'_, '_>) -> PyResult<()> = $update;
                update(family, number, tags)
            }
        }
    };
}

method!(CounterInc of Counter, c"inc",
    c"inc($self, amount=1, /, **tags)\n--\n\nAdds to the series with these tags.",
    |family, amount, tags| {
        let amount = family.addend(amount.unwrap_or(1.0))?;
        if amount < 0.0 {
            let error = format!("{}: a counter cannot decrease, by {amount}", family.name());
            return Err(PyValueError::new_err(error));
        }
        add(family, amount, tags)
    }
);
method!(GaugeInc of Gauge, c"inc",
    c"inc($self, amount=1, /, **tags)\n--\n\nAdds to the value of the series with these tags.",
    |family, amount, tags| {
        let amount = family.finite(amount.unwrap_or(1.0))?;
        add(family, amount, tags)
    }
);
method!(GaugeDec of Gauge, c"dec",
    c"dec($self, amount=1, /, **tags)\n--\n\nSubtracts from the value of the series with these tags.",
    |family, amount, tags| {
        let amount = family.finite(amount.unwrap_or(1.0))?;
        add(family, -amount, tags)
    }
);
method!(GaugeSet of Gauge, c"set",
    c"set($self, value, /, **tags)\n--\n\nSets the value of the series with these tags.",
    |family, value, tags| {
        let value = family.needed("set", value)?;
        if let Some(place) = family.find(tags)? {
            place.row.number.set(value);
            if family.aggregation() == Aggregation::Last {
                place.row.set_at.store(now_ns(), Ordering::Release);
            }
        }
        Ok(())
    }
);
method!(DistributionObserve of Distribution, c"observe",
    c"observe($self, value, /, **tags)\n--\n\nRecords a value in the series with these tags.",
    |family, value, tags| {
        let value = family.needed("observe", value)?;
        let value = family.addend(value)?;
        if let Some(histogram) = family.find(tags)?.and_then(|place| place.histogram) {
            histogram.record(value);
        }
        Ok(())
    }
);

fn add(family: &mut Family, amount: f64, tags: &Tags<'_, '_>) -> PyResult<()> {
    if let Some(place) = family.find(tags)? {
        place.row.number.add(amount);
        if family.aggregation() == Aggregation::Last {
            place.row.set_at.store(now_ns(), Ordering::Release);
        }
    }
    Ok(())
}

/// CLOCK_MONOTONIC in nanoseconds.
pub(super) fn now_ns() -> u64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |now| {
        now.tv_sec().unsigned_abs().saturating_mul(1_000_000_000) + now.tv_nsec().unsigned_abs()
    })
}

/// Adds the methods that update metrics to the classes. Called once, when the extension module is imported.
pub fn add_methods(py: Python<'_>) -> PyResult<()> {
    fast_call::add::<CounterInc>(py)?;
    fast_call::add::<GaugeInc>(py)?;
    fast_call::add::<GaugeDec>(py)?;
    fast_call::add::<GaugeSet>(py)?;
    fast_call::add::<DistributionObserve>(py)
}

#[pyfunction]
/// Creates a counter. `arctos.metrics` has checked the names.
#[pyo3(name = "_counter")]
pub fn counter(name: String, help: String, tags: Vec<Bound<'_, PyString>>) -> PyResult<Counter> {
    Ok(Counter(Family::new(Kind::Counter, Aggregation::Sum, name, help, tags)?))
}

/// Creates a gauge. `arctos.metrics` has checked the names.
#[pyfunction]
#[pyo3(name = "_gauge")]
pub fn gauge(
    name: String,
    help: String,
    tags: Vec<Bound<'_, PyString>>,
    aggregation: &str,
) -> PyResult<Gauge> {
    let aggregation = match aggregation {
        "sum" => Aggregation::Sum,
        "max" => Aggregation::Max,
        "min" => Aggregation::Min,
        "last" => Aggregation::Last,
        other => {
            let error = format!("{name}: aggregation is sum, max, min or last, not '{other}'");
            return Err(PyValueError::new_err(error));
        }
    };
    Ok(Gauge(Family::new(Kind::Gauge, aggregation, name, help, tags)?))
}

/// Creates a distribution. `arctos.metrics` has checked the names.
#[pyfunction]
#[pyo3(name = "_distribution")]
pub fn distribution(
    name: String,
    help: String,
    tags: Vec<Bound<'_, PyString>>,
) -> PyResult<Distribution> {
    Ok(Distribution(Family::new(Kind::Distribution, Aggregation::Sum, name, help, tags)?))
}
