//! Counting: one line, one add in memory.
//!
//! What is counted stands here; where it is counted, and what else workers and the supervisor tell
//! each other through shared memory, in [`scoreboard`]. Nothing in this folder formats or sends: that is
//! the supervisor's emitter.
mod cell;
pub mod counters;
pub mod entries;
pub mod entry;
mod header;
pub mod histogram;
mod request_line;
pub mod shared_memory;

pub use counters::Counters;
#[cfg(test)]
pub(crate) use counters::tape;
pub use entries::{Scoreboard, Side};
pub use entry::{Command, WorkerEntry};
pub use header::{Header, ServerState};
pub use histogram::Histogram;

/// One line a counter: variant, statsd name without the prefix, the value of its tag `reason` if it has
/// one, meaning. Counters of one name differ in their reasons, have one meaning, and stand together.
macro_rules! counters {
    (@reason) => { None };
    (@reason $reason:literal) => { Some($reason) };
    ($($variant:ident, $name:literal $(reason $reason:literal)?, $meaning:literal;)*) => {
        /// Everything that is counted, in a worker or of it. Its statsd name and meaning stand here and
        /// nowhere else.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(usize)]
        pub enum Counter {
            $(#[doc = concat!("`", $name, "`: ", $meaning)] $variant,)*
        }

        impl Counter {
            /// All of them, in the order of the guide's table.
            pub const ALL: [Self; [$($name),*].len()] = [$(Self::$variant),*];

            /// Its name in statsd, without the prefix. Once released, an interface.
            pub const fn statsd_name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// The value of its tag `reason`, if it has one.
            pub const fn reason(self) -> Option<&'static str> {
                match self {
                    $(Self::$variant => counters!(@reason $($reason)?),)*
                }
            }

            /// What it counts, in one sentence for operators.
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
        "Failed accepts; a queue that is empty, or a client that has left it, is no failure.";
    ReqSuccessRead, "req.success.read",
        "Requests read whole and answered by the application, or by a 500 because it failed.";
    ReqDone, "req.done", "Requests that got an answer, be it the application's, a 500 or a refusal.";
    ReqActive, "req.active", "Times that bytes came and the request was still not whole.";
    ReqErrorParse, "req.error.parse",
        "Requests refused by the parser or a limit, or because their body could not be stored.";
    ReqErrorInternal, "req.error.internal",
        "Requests whose application raised, or broke PEP 3333, before a head was sent: a 500.";
    ReqErrorRead, "req.error.read",
        "Connections that failed, mostly by a reset, while a request was awaited or read.";
    ReqErrorClientDisconnected, "req.error.client_disconnected",
        "Connections that ended, or were too slow (408), before a request was answered; idle ones too.";
    ReqAborted, "req.aborted",
        "Connections that ended before a response began: req.error.read and \
         req.error.client_disconnected together.";
    RespActive, "resp.active", "Times that a part of a response was sent, but not its end.";
    RespDone, "resp.done", "Responses handed to the kernel to the end.";
    RespDoneKeepalive, "resp.done.keepalive",
        "Responses sent to the end, after which the connection was kept.";
    RespConnClose, "resp.conn.close",
        "Responses sent to the end, after which the connection was closed.";
    RespAborted, "resp.aborted",
        "Responses broken off: the client was gone or too slow, the application failed or gave too \
         little, or the worker left.";
    ConnCloseIdle, "conn.close.idle",
        "Connections that ended before the first byte of a request; these are in req.aborted too.";
    ReqAbandoned, "req.abandoned",
        "Requests read whole but not given to the application: the client or the worker left.";
    ReqKilled, "req.killed", "Requests that were running when their worker died.";
    ReqHeaderDropped, "req.header.dropped", "Header fields left out for an underscore in the name.";
    RespStatus1xx, "resp.status.1xx", "Always 0: interim responses are not counted.";
    RespStatus2xx, "resp.status.2xx", "Responses begun with a status 200 to 299.";
    RespStatus3xx, "resp.status.3xx", "Responses begun with a status 300 to 399.";
    RespStatus4xx, "resp.status.4xx",
        "Responses begun with a status 400 to 499, the 408 of a late request included.";
    RespStatus5xx, "resp.status.5xx", "Responses begun with a status 500 to 599.";
    RespSendfileBytes, "resp.sendfile.bytes", "Bytes sent by sendfile(2); in bytes.out too.";
    BytesIn, "bytes.in", "Bytes read from connections.";
    BytesOut, "bytes.out", "Bytes handed to the kernel for connections.";
    LogDropped, "log.dropped", "Log lines that could not be written at once, and were dropped.";
    WorkerRestartsBoot, "worker.restarts" reason "boot", "Workers that ended without having been asked to.";
    WorkerRestartsExit, "worker.restarts" reason "exit", "Workers that ended without having been asked to.";
    WorkerRestartsSignal, "worker.restarts" reason "signal", "Workers that ended without having been asked to.";
    WorkerRestartsTimeout, "worker.restarts" reason "timeout", "Workers that ended without having been asked to.";
    WorkerRestartsOom, "worker.restarts" reason "oom", "Workers that ended without having been asked to.";
    WorkerTimeout, "worker.timeout", "Workers killed because they hung, as a rule in a request that took too long.";
    ReloadOk, "reload.ok", "Reloads after which the new generation serves.";
    ReloadFailed, "reload.failed", "Reloads after which the old generation serves on.";
    StatsdDropped, "statsd.dropped", "Datagrams of metrics that could not be sent.";
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn all_lists_each_counter_at_its_own_place() {
        for (index, counter) in Counter::ALL.into_iter().enumerate() {
            assert_eq!(counter as usize, index);
        }
    }

    #[test]
    fn statsd_names_are_plain_and_distinct_together_with_the_reason() {
        let named = Counter::ALL.map(|counter| (counter.statsd_name(), counter.reason()));
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
