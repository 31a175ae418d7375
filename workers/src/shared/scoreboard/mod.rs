//! The scoreboard: the shared memory through which workers and supervisor exchange counters, states and commands.
//!
//! This file lists the counters. To count is one line of code and one addition in memory. Nothing in this directory
//! formats or sends metrics: that is the supervisor's emitter.
mod cell;
pub mod counters;
pub mod entries;
pub mod entry;
pub mod exemplars;
pub mod header;
pub mod histogram;
pub mod quarantine;
mod request_line;
pub mod request_times;
mod seqlock;

/// What a file imports that `workers/loom` compiles once more, with those of loom.
mod atomics {
    pub(super) use std::sync::atomic::{AtomicU64, Ordering, fence};
}

pub use counters::Counters;
#[cfg(test)]
pub(crate) use counters::tape;
pub use entries::{Scoreboard, Side};
pub use entry::{Command, WorkerEntry};
pub use exemplars::{Exemplar, Exemplars};
pub use header::{Header, ServerState};
pub use histogram::Histogram;
pub use quarantine::QuarantineTable;
pub use request_times::{RequestTimes, StatusClass};

/// One line per counter: variant, statsd name without the prefix, name and value of its tag if it has one, and meaning.
/// Counters of the same name have different values of the same tag but one meaning, and stand together.
macro_rules! counters {
    (@tag) => { None };
    (@tag $key:ident $value:literal) => { Some((stringify!($key), $value)) };
    ($($variant:ident, $name:literal $($key:ident $value:literal)?, $meaning:literal;)*) => {
        /// Everything that is counted. The statsd name and the meaning of a counter stand here and nowhere else.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(usize)]
        pub enum Counter {
            $(#[doc = concat!("`", $name, "`: ", $meaning)] $variant,)*
        }

        impl Counter {
            /// All counters, in the order of the guide's table.
            pub const ALL: [Self; [$($name),*].len()] = [$(Self::$variant),*];

            /// The name in statsd without the prefix. Once released, it is an interface.
            pub const fn statsd_name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// The name and value of its own tag, if the counter has one.
            pub const fn tag(self) -> Option<(&'static str, &'static str)> {
                match self {
                    $(Self::$variant => counters!(@tag $($key $value)?),)*
                }
            }

            /// What the counter counts, in one sentence for operators.
            pub const fn meaning(self) -> &'static str {
                match self {
                    $(Self::$variant => $meaning,)*
                }
            }
        }
    };
}

counters! {
    ConnAcceptSuccess, "conn.accept.success", "Connections accepted.";
    ConnAcceptError, "conn.accept.error",
        "Accepts that failed; an empty accept queue, or a client that has left it, is not a failure.";
    ReqSuccessRead, "req.success.read",
        "Complete requests that the application answered, or that got a 500 or 504 because it failed.";
    ReqDone, "req.done", "Requests that got a response: the application's, a 500 or a refusal.";
    ReqActive, "req.active", "Reads after which a request was still incomplete.";
    ReqErrorParse, "req.error.parse",
        "Requests refused by the parser or a limit, or because their body could not be stored.";
    ReqErrorInternal, "req.error.internal",
        "Requests that got a 500 or 504: the application raised, violated PEP 3333 or exceeded its time limit before its response began, or a file could not be sent.";
    ReqErrorRead, "req.error.read",
        "Connections that failed, mostly by a reset, while a request was awaited or read.";
    ReqErrorClientDisconnected, "req.error.client_disconnected",
        "Connections that ended, or were too slow (408), before a request was answered, including idle ones.";
    ReqAborted, "req.aborted",
        "Connections that ended before a response began: the sum of req.error.read and req.error.client_disconnected.";
    RespActive, "resp.active", "Writes that sent a part of a response, but not its end.";
    RespDone, "resp.done", "Responses that were sent completely.";
    RespDoneKeepalive, "resp.done.keepalive",
        "Complete responses after which the connection was kept.";
    RespConnClose, "resp.conn.close",
        "Complete responses after which the connection was closed.";
    RespAborted, "resp.aborted",
        "Aborted responses: the client left or was too slow, the application failed or gave too few bytes, or the worker exited.";
    ConnCloseIdle, "conn.close.idle",
        "Connections that ended before the first byte of a request; req.aborted counts these, too.";
    ReqAbandoned, "req.abandoned",
        "Complete requests that did not reach the application, because the client left or the worker exited.";
    ReqKilled, "req.killed", "Requests that were running when their worker died.";
    RespVictim, "resp.victim",
        "Clients that got a 502 or 504 from the supervisor, because the worker that had their request died.";
    ReqHeaderDropped, "req.header.dropped", "Header fields dropped because of an underscore in their name.";
    RespStatus1xx, "resp.status.1xx", "Interim responses sent: 100 Continue.";
    RespStatus2xx, "resp.status.2xx", "Responses with a status from 200 to 299.";
    RespStatus3xx, "resp.status.3xx", "Responses with a status from 300 to 399.";
    RespStatus4xx, "resp.status.4xx",
        "Responses with a status from 400 to 499, including the 408 of a late request.";
    RespStatus5xx, "resp.status.5xx", "Responses with a status from 500 to 599.";
    RequestCount2xx, "request.count" status "2xx",
        "Requests that the application or a file answered, or whose client left meanwhile; refusals are not among them.";
    RequestCount3xx, "request.count" status "3xx",
        "Requests that the application or a file answered, or whose client left meanwhile; refusals are not among them.";
    RequestCount4xx, "request.count" status "4xx",
        "Requests that the application or a file answered, or whose client left meanwhile; refusals are not among them.";
    RequestCount5xx, "request.count" status "5xx",
        "Requests that the application or a file answered, or whose client left meanwhile; refusals are not among them.";
    RequestCountNone, "request.count" status "none",
        "Requests that the application or a file answered, or whose client left meanwhile; refusals are not among them.";
    RespSendfileBytes, "resp.sendfile.bytes", "Bytes sent by sendfile(2); bytes.out counts these, too.";
    BytesIn, "bytes.in", "Bytes read from connections.";
    BytesOut, "bytes.out", "Bytes written to connections.";
    LogDropped, "log.dropped", "Log lines dropped because they could not be written at once.";
    WorkerRestartsBoot, "worker.restarts" reason "boot", "Workers that exited without being asked to.";
    WorkerRestartsExit, "worker.restarts" reason "exit", "Workers that exited without being asked to.";
    WorkerRestartsSignal, "worker.restarts" reason "signal", "Workers that exited without being asked to.";
    WorkerRestartsTimeout, "worker.restarts" reason "timeout", "Workers that exited without being asked to.";
    WorkerRestartsOom, "worker.restarts" reason "oom", "Workers that exited without being asked to.";
    WorkerTimeout, "worker.timeout", "Workers killed because they hung, usually in a request that took too long.";
    ReloadOk, "reload.ok", "Reloads after which the new generation serves.";
    ReloadFailed, "reload.failed", "Reloads after which the old generation still serves.";
    StatsdDropped, "statsd.dropped", "Datagrams of metrics that could not be sent.";
    MetricsSeriesDropped, "metrics.series_dropped",
        "Updates of application metrics that count in a series `other`, or nowhere, because there are more than `--metrics-series`.";
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn all_lists_each_counter_at_its_index() {
        for (index, counter) in Counter::ALL.into_iter().enumerate() {
            assert_eq!(counter as usize, index);
        }
    }

    #[test]
    fn statsd_names_are_plain_and_distinct_together_with_the_tag() {
        let named = Counter::ALL.map(|counter| (counter.statsd_name(), counter.tag()));
        let names: HashSet<_> = named.into_iter().collect();
        assert_eq!(names.len(), Counter::ALL.len());
        for (name, _) in names {
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._".contains(c);
            assert!(name.chars().all(plain), "{name}");
        }
    }

    #[test]
    fn the_first_15_are_named_as_in_bjoern() {
        let names: Vec<_> = Counter::ALL.into_iter().take(15).map(Counter::statsd_name).collect();
        let bjoern = "conn.accept.success conn.accept.error req.success.read req.done req.active \
                      req.error.parse req.error.internal req.error.read \
                      req.error.client_disconnected req.aborted resp.active resp.done \
                      resp.done.keepalive resp.conn.close resp.aborted";
        assert_eq!(names, bjoern.split_whitespace().collect::<Vec<_>>());
    }

    #[test]
    fn each_meaning_is_one_sentence() {
        for counter in Counter::ALL {
            let meaning = counter.meaning();
            assert!(meaning.ends_with('.') && !meaning.contains('\n'), "{meaning}");
        }
    }
}
