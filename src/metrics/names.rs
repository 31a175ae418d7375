//! Gauges and distributions: variant, name, meaning; and the names of all metrics in Prometheus.
//!
//! The counters' rows stand in [`Counter`]. Every name that leaves the process, to statsd or to
//! Prometheus, comes from these two files.

use arctos_worker::shared::scoreboard::{Counter, Histogram, WorkerEntry};

/// A counter's name in Prometheus. Once released, an interface. Counters of one statsd name share it.
pub fn counter_prometheus_name(counter: Counter) -> String {
    prometheus_name(counter.statsd_name(), "_total")
}

/// The suffix is what Prometheus asks for: the kind of a counter, the unit of a value that has one.
fn prometheus_name(statsd_name: &str, suffix: &str) -> String {
    format!("arctos_{}{suffix}", statsd_name.replace('.', "_"))
}

/// Whom a gauge tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The whole server: one value, no tag `worker`.
    Server,
    /// One worker.
    Worker,
}

/// One line a gauge: variant, statsd name without the prefix, scope, meaning.
macro_rules! gauges {
    ($($variant:ident, $name:literal, $scope:ident, $meaning:literal;)*) => {
        /// What is worked out when it is sent, and always sent.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(usize)]
        pub enum Gauge {
            $(#[doc = concat!("`", $name, "`: ", $meaning)] $variant,)*
        }

        impl Gauge {
            /// All of them, in the order of the guide's table.
            pub const ALL: [Self; [$($name),*].len()] = [$(Self::$variant),*];

            /// Its name in statsd, without the prefix. Once released, an interface.
            pub const fn statsd_name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// Whom it tells of.
            pub const fn scope(self) -> Scope {
                match self { $(Self::$variant => Scope::$scope,)* }
            }

            /// What it is, in one sentence for operators.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning,)* }
            }
        }
    };
}

impl Gauge {
    /// Its name in Prometheus. Once released, an interface.
    pub fn prometheus_name(self) -> String {
        let unit = match self {
            Self::WorkerRss => "_bytes",
            Self::WorkersTarget
            | Self::WorkersReady
            | Self::WorkersBusy
            | Self::WorkersUtilization
            | Self::BacklogLen
            | Self::BacklogMax
            | Self::ConnOpen => "",
        };
        prometheus_name(self.statsd_name(), unit)
    }
}

gauges! {
    WorkersTarget, "workers.target", Server, "Workers that are wanted.";
    WorkersReady, "workers.ready", Server, "Workers that can serve.";
    WorkersBusy, "workers.busy", Server, "Workers that run a request at this moment.";
    WorkersUtilization, "workers.utilization", Server,
        "Part of the ready workers' time spent in requests since the last value, 0 to 1.";
    BacklogLen, "backlog.len", Server, "Connections that wait to be accepted, all TCP listeners together.";
    BacklogMax, "backlog.max", Server, "Connections that may wait, all TCP listeners together.";
    ConnOpen, "conn.open", Worker, "Open connections.";
    WorkerRss, "worker.rss", Worker, "Resident memory, in bytes.";
}

/// Durations that are counted in histograms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(usize)]
pub enum Distribution {
    /// `request.duration`.
    RequestDuration,
    /// `queue.wait`.
    QueueWait,
}

impl Distribution {
    /// All of them, in the order of the guide's table.
    pub const ALL: [Self; 2] = [Self::RequestDuration, Self::QueueWait];

    /// Its name in statsd, without the prefix. Once released, an interface. Values are milliseconds.
    pub const fn statsd_name(self) -> &'static str {
        match self {
            Self::RequestDuration => "request.duration",
            Self::QueueWait => "queue.wait",
        }
    }

    /// Its name in Prometheus, where values are seconds. Once released, an interface.
    pub fn prometheus_name(self) -> String {
        prometheus_name(self.statsd_name(), "_seconds")
    }

    /// What it measures, in one sentence for operators.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::RequestDuration => {
                "From the call of the application to the last byte handed to the kernel."
            }
            Self::QueueWait => {
                "How long a new connection's last bytes had waited in the kernel when it was accepted."
            }
        }
    }

    /// Where a worker counts it.
    pub fn of(self, entry: &WorkerEntry) -> &Histogram {
        match self {
            Self::RequestDuration => &entry.request_duration,
            Self::QueueWait => &entry.queue_wait,
        }
    }
}

#[cfg(test)]
mod tests;
