//! The rows and panels of both dashboards.

use arctos_worker::shared::scoreboard::Counter;

use super::query::{By, OfRoute, Query};
use crate::metrics::{Distribution, Gauge};

/// Panels that answer the same question.
pub(super) struct Row {
    pub(super) title: &'static str,
    pub(super) panels: &'static [Panel],
}

/// A diagram.
pub(super) struct Panel {
    pub(super) title: &'static str,
    /// What an operator learns from it.
    pub(super) about: &'static str,
    pub(super) unit: Unit,
    pub(super) style: Style,
    pub(super) lines: &'static [Line],
}

/// A line of a diagram.
pub(super) struct Line {
    /// Its name in the legend; a line for each worker or reason is named by that.
    pub(super) name: &'static str,
    pub(super) query: Query,
    pub(super) by: By,
}

/// The unit of the values of a panel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Count,
    PerSecond,
    BytesPerSecond,
    Bytes,
    /// From 0 to 1, shown as a percentage.
    Fraction,
    /// Seconds in Prometheus, milliseconds in Datadog.
    Duration,
    /// Seconds in both, as in the metrics of the application.
    Seconds,
}

/// How the values are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// Lines.
    Lines,
    /// Areas upon each other, because their sum has a meaning.
    Stacked,
    /// Bars, for what happens rarely.
    Bars,
}

const fn total(name: &'static str, query: Query) -> Line {
    Line { name, query, by: By::Total }
}

const fn by_route(of: OfRoute) -> Line {
    Line { name: "", query: Query::Routes(of), by: By::Route }
}

const fn quantiles(of: Distribution) -> [Line; 3] {
    [
        total("p50", Query::Quantile { of, percent: 50 }),
        total("p95", Query::Quantile { of, percent: 95 }),
        total("p99", Query::Quantile { of, percent: 99 }),
    ]
}

/// All responses: each has one of these statuses. An interim response is none.
const RESPONSES: &[Counter] = &[
    Counter::RespStatus2xx,
    Counter::RespStatus3xx,
    Counter::RespStatus4xx,
    Counter::RespStatus5xx,
];

/// All panels.
pub(super) const ROWS: &[Row] = &[
    Row { title: "Traffic", panels: TRAFFIC },
    Row { title: "Latency", panels: LATENCY },
    Row { title: "Routes", panels: ROUTES },
    Row { title: "Saturation", panels: SATURATION },
    Row { title: "Workers", panels: WORKERS },
    Row { title: "Connections", panels: CONNECTIONS },
    Row { title: "Losses of metrics and logs", panels: LOSSES },
];

const TRAFFIC: &[Panel] = &[
    Panel {
        title: "Responses",
        about: "Responses per second by the class of their status.",
        unit: Unit::PerSecond,
        style: Style::Stacked,
        lines: &[
            total("2xx", Query::Rate(&[Counter::RespStatus2xx])),
            total("3xx", Query::Rate(&[Counter::RespStatus3xx])),
            total("4xx", Query::Rate(&[Counter::RespStatus4xx])),
            total("5xx", Query::Rate(&[Counter::RespStatus5xx])),
            total("1xx (interim)", Query::Rate(&[Counter::RespStatus1xx])),
        ],
    },
    Panel {
        title: "Requests of the application",
        about: "By the class of their status; none if the client left before there was one. Refusals are not among them.",
        unit: Unit::PerSecond,
        style: Style::Stacked,
        lines: &[Line {
            name: "",
            query: Query::Rate(&[Counter::RequestCount2xx]),
            by: By::Status,
        }],
    },
    Panel {
        title: "Share of errors",
        about: "Which part of all responses are errors. The causes are in the next panel.",
        unit: Unit::Fraction,
        style: Style::Lines,
        lines: &[
            total("5xx", Query::Share { part: &[Counter::RespStatus5xx], whole: RESPONSES }),
            total("4xx", Query::Share { part: &[Counter::RespStatus4xx], whole: RESPONSES }),
        ],
    },
    Panel {
        title: "Requests that went wrong",
        about: "By cause. Failures of the application have a traceback in the log.",
        unit: Unit::PerSecond,
        style: Style::Lines,
        lines: &[
            total("application failed", Query::Rate(&[Counter::ReqErrorInternal])),
            total("refused", Query::Rate(&[Counter::ReqErrorParse])),
            total("worker died", Query::Rate(&[Counter::ReqKilled])),
            total("worker died, client got 502 or 504", Query::Rate(&[Counter::RespVictim])),
            total(
                "client left before the application was called",
                Query::Rate(&[Counter::ReqAbandoned]),
            ),
            total("response aborted", Query::Rate(&[Counter::RespAborted])),
        ],
    },
    Panel {
        title: "Requests in flight",
        about: "Workers that are in a request. Each runs one at a time.",
        unit: Unit::Count,
        style: Style::Lines,
        lines: &[total("in flight", Query::Level(Gauge::WorkersBusy))],
    },
    Panel {
        title: "Requests by worker",
        about: "Answered requests per second of each worker.",
        unit: Unit::PerSecond,
        style: Style::Stacked,
        lines: &[Line { name: "", query: Query::Rate(&[Counter::ReqDone]), by: By::Worker }],
    },
];

const LATENCY: &[Panel] = &[
    Panel {
        title: "Duration of requests",
        about: "From the call of the application to the last byte.",
        unit: Unit::Duration,
        style: Style::Lines,
        lines: &quantiles(Distribution::RequestDuration2xx),
    },
    Panel {
        title: "Phases of requests",
        about: "95 of 100 requests need no longer in the queue, in the application, and until the client has taken the \
                response. The highest line says where to look.",
        unit: Unit::Duration,
        style: Style::Lines,
        lines: &[
            total("queue p95", Query::Quantile { of: Distribution::RequestQueue, percent: 95 }),
            total(
                "application p95",
                Query::Quantile { of: Distribution::RequestApplication, percent: 95 },
            ),
            total("send p95", Query::Quantile { of: Distribution::RequestSend, percent: 95 }),
        ],
    },
    Panel {
        title: "Duration by status",
        about: "95 of 100 requests with such a status take no longer. Errors that are slow usually wait for a time limit.",
        unit: Unit::Duration,
        style: Style::Lines,
        lines: &[Line {
            name: "",
            query: Query::Quantile { of: Distribution::RequestDuration2xx, percent: 95 },
            by: By::Status,
        }],
    },
    Panel {
        title: "Time in the queue",
        about: "How long complete requests waited for the application to be called. If it is high, all workers are busy.",
        unit: Unit::Duration,
        style: Style::Lines,
        lines: &quantiles(Distribution::RequestQueue),
    },
    Panel {
        title: "Wait of new connections",
        about: "How long the last bytes of new connections waited in the kernel to be accepted.",
        unit: Unit::Duration,
        style: Style::Lines,
        lines: &quantiles(Distribution::QueueWait),
    },
];

const ROUTES: &[Panel] = &[
    Panel {
        title: "Requests by route",
        about: "The ten routes with the most requests per second. The application names them: see arctos help metrics.",
        unit: Unit::PerSecond,
        style: Style::Lines,
        lines: &[by_route(OfRoute::Requests)],
    },
    Panel {
        title: "Duration by route",
        about: "99 of 100 requests with such a route take no longer. The ten slowest routes.",
        unit: Unit::Seconds,
        style: Style::Lines,
        lines: &[by_route(OfRoute::Quantile { percent: 99 })],
    },
    Panel {
        title: "Time spent by route",
        about: "The sum of the durations, in seconds per second: a route with 2 keeps two workers busy. Making the highest \
                one faster helps the most.",
        unit: Unit::Count,
        style: Style::Lines,
        lines: &[by_route(OfRoute::Time)],
    },
    Panel {
        title: "Errors by route",
        about: "The ten routes with the most 5xx per second.",
        unit: Unit::PerSecond,
        style: Style::Lines,
        lines: &[by_route(OfRoute::Errors)],
    },
];

const SATURATION: &[Panel] = &[
    Panel {
        title: "Workers",
        about: "If all ready workers are busy, further requests wait.",
        unit: Unit::Count,
        style: Style::Lines,
        lines: &[
            total("wanted", Query::Level(Gauge::WorkersTarget)),
            total("ready", Query::Level(Gauge::WorkersReady)),
            total("busy", Query::Level(Gauge::WorkersBusy)),
        ],
    },
    Panel {
        title: "Utilization",
        about: "The part of their time that ready workers spend in requests. Near 100 %, requests wait.",
        unit: Unit::Fraction,
        style: Style::Lines,
        lines: &[total("utilization", Query::Level(Gauge::WorkersUtilization))],
    },
    Panel {
        title: "Backlog",
        about: "Connections that no worker has accepted. If there are more than --backlog, the kernel drops new ones.",
        unit: Unit::Count,
        style: Style::Lines,
        lines: &[total("waiting", Query::Level(Gauge::BacklogLen))],
    },
];

const WORKERS: &[Panel] = &[
    Panel {
        title: "Deaths of workers",
        about: "Workers that ended without being asked to. The log says worker.died, with the request.",
        unit: Unit::Count,
        style: Style::Bars,
        lines: &[
            Line { name: "", query: Query::Events(Counter::WorkerRestartsBoot), by: By::Reason },
            total("killed because they hung", Query::Events(Counter::WorkerTimeout)),
        ],
    },
    Panel {
        title: "Reloads",
        about: "The log says why a reload failed; the old code then still serves.",
        unit: Unit::Count,
        style: Style::Bars,
        lines: &[
            total("succeeded", Query::Events(Counter::ReloadOk)),
            total("failed", Query::Events(Counter::ReloadFailed)),
        ],
    },
    Panel {
        title: "Memory of workers",
        about: "Proportional memory: what workers share is divided among them.",
        unit: Unit::Bytes,
        style: Style::Stacked,
        lines: &[Line { name: "", query: Query::Level(Gauge::WorkerPss), by: By::Worker }],
    },
    Panel {
        title: "Private memory of workers",
        about: "What the end of a worker would free. A line that only rises is a leak.",
        unit: Unit::Bytes,
        style: Style::Lines,
        lines: &[Line { name: "", query: Query::Level(Gauge::WorkerPrivate), by: By::Worker }],
    },
    Panel {
        title: "Resident memory of workers",
        about: "What workers share is counted in each of them. It is known even where the other two are not.",
        unit: Unit::Bytes,
        style: Style::Lines,
        lines: &[Line { name: "", query: Query::Level(Gauge::WorkerRss), by: By::Worker }],
    },
    Panel {
        title: "Memory of the cgroup",
        about: "At the limit, the kernel kills a process. The page cache is freed before.",
        unit: Unit::Bytes,
        style: Style::Lines,
        lines: &[
            total("used", Query::Level(Gauge::MemoryUsed)),
            total("without inactive page cache", Query::Level(Gauge::MemoryWorkingSet)),
            total("limit", Query::Level(Gauge::MemoryLimit)),
        ],
    },
];

const CONNECTIONS: &[Panel] = &[
    Panel {
        title: "Open connections",
        about: "Connections that workers have, and kept ones that any worker may serve.",
        unit: Unit::Count,
        style: Style::Stacked,
        lines: &[
            total("at workers", Query::Level(Gauge::ConnOpen)),
            total("shared, idle", Query::Level(Gauge::ConnShared)),
        ],
    },
    Panel {
        title: "Bytes",
        about: "What is read from and written to connections.",
        unit: Unit::BytesPerSecond,
        style: Style::Lines,
        lines: &[
            total("in", Query::Rate(&[Counter::BytesIn])),
            total("out", Query::Rate(&[Counter::BytesOut])),
            total("out, by sendfile", Query::Rate(&[Counter::RespSendfileBytes])),
        ],
    },
    Panel {
        title: "Connections that begin and end",
        about: "Many new connections per request mean that the proxy does not keep them.",
        unit: Unit::PerSecond,
        style: Style::Lines,
        lines: &[
            total("accepted", Query::Rate(&[Counter::ConnAcceptSuccess])),
            total("closed after a response", Query::Rate(&[Counter::RespConnClose])),
            total("kept after a response", Query::Rate(&[Counter::RespDoneKeepalive])),
            total("ended while idle", Query::Rate(&[Counter::ConnCloseIdle])),
        ],
    },
    Panel {
        title: "Connections that fail",
        about: "Accepts fail if descriptors or memory run out. The others are ended by clients.",
        unit: Unit::PerSecond,
        style: Style::Lines,
        lines: &[
            total("accept failed", Query::Rate(&[Counter::ConnAcceptError])),
            total("reset by the client", Query::Rate(&[Counter::ReqErrorRead])),
            total(
                "ended by the client, or too slow",
                Query::Rate(&[Counter::ReqErrorClientDisconnected]),
            ),
        ],
    },
    Panel {
        title: "Slow clients",
        about: "Reads and writes that moved only a part of a request or response.",
        unit: Unit::PerSecond,
        style: Style::Lines,
        lines: &[
            total("partial reads", Query::Rate(&[Counter::ReqActive])),
            total("partial writes", Query::Rate(&[Counter::RespActive])),
        ],
    },
];

const LOSSES: &[Panel] = &[Panel {
    title: "Lost metrics and log lines",
    about: "Datagrams to statsd that could not be sent, whose counts arrive with a later one, and dropped log lines.",
    unit: Unit::Count,
    style: Style::Bars,
    lines: &[
        total("datagrams", Query::Events(Counter::StatsdDropped)),
        total("log lines", Query::Events(Counter::LogDropped)),
        total("header fields", Query::Events(Counter::ReqHeaderDropped)),
        total("updates of further series", Query::Events(Counter::MetricsSeriesDropped)),
    ],
}];

/// The metrics that are on no panel, and why.
#[cfg(test)]
const LEFT_OUT: &[(&str, &str)] = &[
    (
        "backlog.max",
        "a constant, which would hide backlog.len; the alert ArctosBacklog compares them",
    ),
    ("req.success.read", "req.done without what is refused"),
    ("req.aborted", "the sum of req.error.read and req.error.client_disconnected"),
    ("resp.done", "req.done without what is aborted"),
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::super::metric::Metric;
    use super::*;

    fn lines() -> impl Iterator<Item = &'static Line> {
        ROWS.iter().flat_map(|row| row.panels).flat_map(|panel| panel.lines)
    }

    #[test]
    fn every_metric_is_on_a_panel_or_left_out_for_a_reason() {
        let shown: HashSet<_> =
            lines().flat_map(|line| line.query.metrics()).map(Metric::statsd_name).collect();
        let left_out: HashSet<_> = LEFT_OUT.iter().map(|(name, _)| *name).collect();
        let all: HashSet<_> = Metric::all().into_iter().map(Metric::statsd_name).collect();
        let forgotten: Vec<_> =
            all.iter().filter(|name| !shown.contains(*name) && !left_out.contains(*name)).collect();
        assert!(forgotten.is_empty(), "add a panel, or a reason to LEFT_OUT: {forgotten:?}");
        assert!(left_out.is_subset(&all) && left_out.is_disjoint(&shown), "{left_out:?}");
        assert!(LEFT_OUT.iter().all(|(_, reason)| !reason.is_empty()));
    }

    #[test]
    fn titles_are_distinct_and_lines_of_a_panel_have_names() {
        let panels: Vec<_> = ROWS.iter().flat_map(|row| row.panels).collect();
        let titles: HashSet<_> = panels.iter().map(|panel| panel.title).collect();
        assert_eq!(titles.len(), panels.len());
        for panel in panels {
            assert!(panel.about.ends_with('.'), "{}", panel.title);
            let names: HashSet<_> = panel.lines.iter().map(|line| line.name).collect();
            assert_eq!(names.len(), panel.lines.len(), "{}", panel.title);
            let is_named = |line: &Line| (line.by == By::Total) != line.name.is_empty();
            assert!(panel.lines.iter().all(is_named), "{}", panel.title);
        }
    }

    #[test]
    fn only_counters_with_tags_and_values_of_workers_are_split() {
        for line in lines() {
            let metrics = line.query.metrics();
            match line.by {
                By::Total => {}
                By::Worker => assert!(metrics.iter().all(|metric| metric.has_worker())),
                By::Route => assert_eq!(metrics, [Metric::Routes]),
                By::Reason | By::Status => {
                    let tag = if line.by == By::Reason { "reason" } else { "status" };
                    let has_tag = |metric: &Metric| match metric {
                        Metric::Counter(counter) => {
                            counter.tag().is_some_and(|(name, _)| name == tag)
                        }
                        Metric::Distribution(of) => of.tag().is_some_and(|(name, _)| name == tag),
                        Metric::Gauge(_) | Metric::Routes => false,
                    };
                    assert!(metrics.iter().all(has_tag));
                }
            }
        }
    }
}
