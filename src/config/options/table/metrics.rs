//! The rows about metrics.

use super::super::DefaultValue::{Count, Switch, Time, Word};
use super::super::{OptionSpec, Setting as S, Topic as T};
use super::row;
use crate::metrics::{series, statsd};

/// The rows, in the order of the help.
pub(super) const ROWS: &[OptionSpec] = &[
    row(
        S::Statsd,
        T::Metrics,
        "statsd",
        "Send metrics to `--statsd-host`, if that is given. `auto` falls back to the \
         Datadog agent that `DD_DOGSTATSD_URL`, or `DD_AGENT_HOST` and \
         `DD_DOGSTATSD_PORT`, names, and adds the tags of `DD_*`; `off` sends nothing.",
    )
    .once("on|off|auto", Word("on")),
    row(
        S::StatsdHost,
        T::Metrics,
        "statsd-host",
        "Address to send metrics to: `HOST`, `HOST:PORT` or `[IPv6]:PORT` over UDP (port \
         8125 if none is given), or `unix:///path`, a datagram socket.",
    )
    .optional("ADDRESS"),
    row(
        S::StatsdPrefix,
        T::Metrics,
        "statsd-prefix",
        "Prefix of every metric name, followed by a dot (`''`, or `.` in a variable, \
         disables it).",
    )
    .once("PREFIX", Word("arctos")),
    row(S::StatsdInterval, T::Metrics, "statsd-interval", "Interval at which metrics are sent.")
        .once("TIME", Time(statsd::INTERVAL)),
    row(
        S::StatsdFormat,
        T::Metrics,
        "statsd-format",
        "Format of metrics: `dogstatsd` has tags and distributions; `plain` has neither \
         and sums over workers. `auto` chooses `dogstatsd` if there is a tag to send or \
         the agent is Datadog's.",
    )
    .once("dogstatsd|plain|auto", Word("auto")),
    row(
        S::StatsdWorkerTag,
        T::Metrics,
        "statsd-worker-tag",
        "Tag the metrics of a single worker with its slot, such as `worker:0`.",
    )
    .once("on|off", Switch(true)),
    row(
        S::DogstatsdTags,
        T::Metrics,
        "dogstatsd-tags",
        "Tags of all metrics, separated by commas, such as \
         `app:shop,zone:central-europe`; a `zone:` tag sets the zone.",
    )
    .optional("TAGS"),
    row(
        S::Zone,
        T::Metrics,
        "zone",
        "Zone of this server: the tag `zone` of all metrics that are sent, and a label of \
         those that `/metrics` shows.",
    )
    .derived("ZONE", "the `zone:` of `--dogstatsd-tags`"),
    row(
        S::MetricsSeries,
        T::Metrics,
        "metrics-series",
        "Maximum number of series of application metrics; a metric with tags has \
         one for each combination of their values. Further ones count together, in a \
         series whose tags are `other`.",
    )
    .once("N", Count(series::DEFAULT_LIMIT as u64)),
];
