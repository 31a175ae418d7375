//! The names and meanings of gauges and distributions, and the names of all metrics in Prometheus.
//!
//! [`Counter`] defines the counters. Every metric name that leaves the process, to statsd or to Prometheus, comes from
//! these two files.

use arctos_worker::shared::scoreboard::{Counter, Histogram, StatusClass, WorkerEntry};

/// The name of a counter in Prometheus, which is a public interface. Counters with the same statsd name share it.
pub fn counter_prometheus_name(counter: Counter) -> String {
    prometheus_name(counter.statsd_name(), "_total")
}

/// The name in Prometheus of a metric that the application has defined, without a suffix.
pub fn application_prometheus_name(name: &str) -> String {
    prometheus_name(name, "")
}

/// Whether the server has a metric with this name in statsd, or one that is the same in Prometheus.
pub fn is_of_server(name: &str) -> bool {
    let counters = Counter::ALL.into_iter().map(Counter::statsd_name);
    let gauges = Gauge::ALL.into_iter().map(Gauge::statsd_name);
    let distributions = Distribution::ALL.into_iter().map(Distribution::statsd_name);
    let mut names = counters.chain(gauges).chain(distributions);
    names.any(|of_server| is_same(of_server, name))
}

/// Whether two names are the same in Prometheus.
pub fn is_same(name: &str, other: &str) -> bool {
    name.replace('.', "_") == other.replace('.', "_")
}

/// A name in Prometheus. The suffix follows its conventions: `_total` for a counter, or the unit of a value.
fn prometheus_name(statsd_name: &str, suffix: &str) -> String {
    format!("arctos_{}{suffix}", statsd_name.replace('.', "_"))
}

/// The subject of a gauge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The whole server. There is one value, without the tag `worker`.
    Server,
    /// A worker.
    Worker,
}

/// Defines the gauges, one per line: variant, statsd name without the prefix, scope, meaning.
macro_rules! gauges {
    ($($variant:ident, $name:literal, $scope:ident, $meaning:literal;)*) => {
        /// A value that is measured when it is sent, and sent with each flush.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(usize)]
        pub enum Gauge {
            $(#[doc = concat!("`", $name, "`: ", $meaning)] $variant,)*
        }

        impl Gauge {
            /// All gauges, in the order of the table in the guide.
            pub const ALL: [Self; [$($name),*].len()] = [$(Self::$variant),*];

            /// The name in statsd, without the prefix; a public interface.
            pub const fn statsd_name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The subject of the gauge.
            pub const fn scope(self) -> Scope {
                match self { $(Self::$variant => Scope::$scope,)* }
            }

            /// The meaning, in one sentence for operators.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning,)* }
            }
        }
    };
}

impl Gauge {
    /// The name in Prometheus, a public interface.
    pub fn prometheus_name(self) -> String {
        let unit = match self {
            Self::WorkerRss
            | Self::WorkerPss
            | Self::WorkerPrivate
            | Self::MemoryLimit
            | Self::MemoryUsed
            | Self::MemoryWorkingSet => "_bytes",
            Self::WorkersTarget
            | Self::WorkersReady
            | Self::WorkersBusy
            | Self::WorkersUtilization
            | Self::BacklogLen
            | Self::BacklogMax
            | Self::ConnShared
            | Self::ConnOpen => "",
        };
        prometheus_name(self.statsd_name(), unit)
    }
}

gauges! {
    WorkersTarget, "workers.target", Server, "Wanted number of workers.";
    WorkersReady, "workers.ready", Server, "Workers that are ready to serve.";
    WorkersBusy, "workers.busy", Server, "Ready workers that are handling a request.";
    WorkersUtilization, "workers.utilization", Server,
        "Fraction of the ready workers' time spent in requests since the last value, from 0 to 1.";
    BacklogLen, "backlog.len", Server, "Connections waiting to be accepted, summed over all TCP listeners.";
    BacklogMax, "backlog.max", Server, "Maximum number of waiting connections, summed over all TCP listeners.";
    ConnShared, "conn.shared", Server,
        "Kept connections that wait for a request and that any worker may serve; `conn.open` does not contain them.";
    MemoryLimit, "memory.limit", Server, "Memory limit of the cgroup in bytes; absent without a limit.";
    MemoryUsed, "memory.used", Server, "Memory that the cgroup uses in bytes, with the page cache.";
    MemoryWorkingSet, "memory.working_set", Server,
        "The same without the inactive page cache, which the kernel frees first.";
    ConnOpen, "conn.open", Worker, "Open connections.";
    WorkerRss, "worker.rss", Worker, "Resident memory in bytes.";
    WorkerPss, "worker.pss", Worker,
        "Proportional memory in bytes: each page is divided by the number of processes that map it.";
    WorkerPrivate, "worker.private", Worker, "Memory in bytes that no other process maps.";
}

/// Defines the distributions, one per line: variant, statsd name without the prefix, the class of its tag `status` if it
/// has one, where a worker counts it, and meaning.
macro_rules! distributions {
    (@class) => { None };
    (@class $class:ident) => { Some(StatusClass::$class) };
    ($($variant:ident, $name:literal $(status $class:ident)?, $entry:ident => $histogram:expr, $meaning:literal;)*) => {
        /// A duration that is recorded in histograms. Those of one name differ in their tag `status`, and stand together.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(usize)]
        pub enum Distribution {
            $(#[doc = concat!("`", $name, "`: ", $meaning)] $variant,)*
        }

        impl Distribution {
            /// All distributions, in the order of the table in the guide.
            pub const ALL: [Self; [$($name),*].len()] = [$(Self::$variant),*];

            /// Its name in statsd, without the prefix. Once released, an interface. Values are milliseconds.
            pub const fn statsd_name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// What it measures, in one sentence for operators.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning,)* }
            }

            /// The class of the responses that it measures; `None` for all.
            pub const fn class(self) -> Option<StatusClass> {
                match self { $(Self::$variant => distributions!(@class $($class)?),)* }
            }

            /// Where a worker counts it.
            pub fn of(self, entry: &WorkerEntry) -> &Histogram {
                match self { $(Self::$variant => { let $entry = entry; $histogram })* }
            }
        }
    };
}

impl Distribution {
    /// Its name in Prometheus, where values are seconds. Once released, an interface.
    pub fn prometheus_name(self) -> String {
        prometheus_name(self.statsd_name(), "_seconds")
    }

    /// The name and value of its own tag, if it has one.
    pub fn tag(self) -> Option<(&'static str, &'static str)> {
        self.class().map(|class| ("status", class.name()))
    }

    /// All distributions by their name.
    pub fn families() -> impl Iterator<Item = &'static [Self]> {
        Self::ALL.chunk_by(|one, next| one.statsd_name() == next.statsd_name())
    }
}

distributions! {
    RequestDuration2xx, "request.duration" status Success, entry => entry.requests.duration(StatusClass::Success),
        "From the call of the application to the last byte handed to the kernel.";
    RequestDuration3xx, "request.duration" status Redirection, entry => entry.requests.duration(StatusClass::Redirection),
        "From the call of the application to the last byte handed to the kernel.";
    RequestDuration4xx, "request.duration" status ClientError, entry => entry.requests.duration(StatusClass::ClientError),
        "From the call of the application to the last byte handed to the kernel.";
    RequestDuration5xx, "request.duration" status ServerError, entry => entry.requests.duration(StatusClass::ServerError),
        "From the call of the application to the last byte handed to the kernel.";
    RequestDurationNone, "request.duration" status None, entry => entry.requests.duration(StatusClass::None),
        "From the call of the application to the last byte handed to the kernel.";
    RequestQueue, "request.queue", entry => &entry.requests.queue,
        "How long a complete request waited, in the kernel and in its worker, until the application was called.";
    RequestApplication, "request.application", entry => &entry.requests.application,
        "The time of all calls of the application for a request, including the close() of its iterable.";
    RequestSend, "request.send", entry => &entry.requests.send,
        "The rest of request.duration: waiting for the client to take the response, for a file, or for other clients.";
    QueueWait, "queue.wait", entry => &entry.queue_wait,
        "How long a new connection's last bytes had waited in the kernel when it was accepted.";
}

#[cfg(test)]
mod tests;
