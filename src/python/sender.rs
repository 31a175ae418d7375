//! Sends what a program without a server counts by `arctos.metrics`.

use std::ffi::OsString;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use arctos_worker::shared::log::Log;
use arctos_worker::shared::scoreboard::Scoreboard;
use arctos_worker::shared::series::attachment;
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;

use crate::config::Source;
use crate::config::options::Setting;
use crate::embedded;
use crate::emitter::collector::Collector;
use crate::metrics::Snapshot;

/// Sends the metrics of this process to the agent that the options of a server name.
#[pyclass(frozen, module = "arctos.arctos", name = "_Sender")]
pub(super) struct Sender(Mutex<Option<Sending>>);

struct Sending {
    /// It has no worker: only the counters of the emitter are used.
    scoreboard: Scoreboard,
    collector: Collector,
}

#[pymethods]
impl Sender {
    /// Reads the environment and the configuration file, as a server in the current directory does.
    #[new]
    fn new() -> PyResult<Self> {
        // What is served is of no interest, but a configuration has to say it.
        let application = (Setting::Application, vec![OsString::from("none:none")]);
        let environment = std::env::vars_os().collect();
        let config = Source::of_command_line([application], environment).and_then(|it| it.read());
        let config = config.map_err(|error| PyValueError::new_err(error.to_string()))?;
        let Some(statsd) = config.statsd else {
            let message =
                "metrics are sent nowhere: set ARCTOS_STATSD_HOST, or statsd-host in arctos.toml";
            return Err(PyValueError::new_err(message));
        };
        let scoreboard = Scoreboard::create(1)
            .map_err(|error| PyOSError::new_err(format!("mapping memory: {error}")))?;
        // Before the collector looks for what there is to read.
        attachment::count_alone()
            .map_err(|error| PyOSError::new_err(format!("mapping memory: {error}")))?;
        let log: Log = embedded::log();
        let mut collector = Collector::start(&scoreboard, Some(&statsd), &log, Instant::now());
        collector.send_only_applications_gauges();
        Ok(Self(Mutex::new(Some(Sending { scoreboard, collector }))))
    }

    /// Sends what is due, and returns the seconds until the next time; None after the end.
    fn turn(&self, py: Python<'_>) -> Option<f64> {
        py.detach(|| {
            let mut sending = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let Sending { scoreboard, collector } = sending.as_mut()?;
            let now = Instant::now();
            collector.turn(scoreboard, Snapshot::default, now);
            let next = collector.next_deadline();
            let next = next.map_or(Duration::from_secs(1), |it| it.saturating_duration_since(now));
            Some(next.as_secs_f64())
        })
    }

    /// Sends what is left, within half a second.
    fn finish(&self, py: Python<'_>) {
        py.detach(|| {
            let sending = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(Sending { scoreboard, collector }) = sending {
                let _unsent = collector.finish(&scoreboard, Snapshot::default);
            }
        });
    }
}
