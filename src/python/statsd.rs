//! Converts bjoern's `statsd={...}`, whose types Python has checked, to a [`Statsd`](statsd::Statsd).

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::metrics::statsd::{self, Target};

/// The validated destination of metrics, for `serve_socket`.
#[pyclass(frozen, module = "arctos.arctos", name = "Statsd")]
pub(super) struct StatsdArgument(pub(super) statsd::Statsd);

#[pymethods]
impl StatsdArgument {
    #[new]
    fn new(host: &str, port: u16, ns: &str, tags: &str) -> PyResult<Self> {
        let target = if host.contains(':') && !host.starts_with('[') {
            format!("[{host}]:{port}")
        } else {
            format!("{host}:{port}")
        };
        let target = target.parse::<Target>().map_err(|error| {
            PyValueError::new_err(format!(
                "statsd['host'] and ['port'] '{target}': expected {error}"
            ))
        })?;
        let max_chars = statsd::PREFIX_MAX_CHARS;
        if ns.chars().count() > max_chars {
            let message =
                format!("statsd['ns']: expected a text of at most {max_chars} characters");
            return Err(PyValueError::new_err(message));
        }
        let list = statsd::tags(tags);
        let needed_bytes = statsd::tag_bytes(list.zone.as_deref(), &list.tags, None);
        if needed_bytes > statsd::TAGS_MAX_BYTES {
            return Err(PyValueError::new_err(format!(
                "statsd['tags']: expected at most {} bytes, because each line contains them; these are {needed_bytes}",
                statsd::TAGS_MAX_BYTES
            )));
        }
        Ok(Self(statsd::Statsd {
            target,
            prefix: statsd::prefix(ns),
            interval: statsd::INTERVAL,
            format: statsd::format(false, list.zone.as_deref(), &list.tags),
            worker_tag: false,
            zone: list.zone,
            tags: list.tags,
            external_env: None,
        }))
    }
}
