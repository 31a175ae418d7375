//! The row for application metrics, whose names no version of arctos can know.
//!
//! For each kind of metrics, a variable has the names of all that are not the server's, and a panel is repeated for each
//! selected name. The metrics of prometheus_client have neither a zone nor a worker, so only job and instance filter these
//! panels.

use serde_json::{Value, json};

use super::super::metric::Metric;
use super::source;

/// The metrics of one kind.
pub(super) struct Kind {
    /// The name of the variable.
    variable: &'static str,
    label: &'static str,
    /// The end of these names in Prometheus, as a regular expression.
    end: &'static str,
    /// Names, as regular expressions, that are not the application's: those of the server, and what has another kind.
    others: fn() -> Vec<String>,
    /// The names of the lines, and their queries with `$SERIES` for the selected ones.
    lines: &'static [(&'static str, &'static str)],
}

pub(super) const KINDS: [Kind; 3] = [
    Kind {
        variable: "counter",
        label: "application's counters",
        end: "_total",
        others: || of_server("", |metric| matches!(metric, Metric::Counter(_))),
        lines: &[("per second", "sum (rate($SERIES[$__rate_interval]))")],
    },
    Kind {
        variable: "gauge",
        label: "application's gauges",
        end: "",
        others: || {
            // What ends like this has another kind or, as `_info`, always the same value. Prometheus adds the others.
            let none = [".+_(total|bucket|sum|count|created|info)", "up", "scrape_.+", "ALERTS.*"];
            let of_server = of_server("", |metric| matches!(metric, Metric::Gauge(_)));
            of_server.into_iter().chain(none.map(str::to_owned)).collect()
        },
        lines: &[("{{instance}}", "sum by (instance) ($SERIES)")],
    },
    Kind {
        variable: "distribution",
        label: "application's distributions",
        end: "_bucket",
        others: || {
            of_server("_bucket", |metric| {
                matches!(metric, Metric::Distribution(_) | Metric::Routes)
            })
        },
        lines: &[
            ("p50", "histogram_quantile(0.50, sum by (le) (rate($SERIES[$__rate_interval])))"),
            ("p95", "histogram_quantile(0.95, sum by (le) (rate($SERIES[$__rate_interval])))"),
            ("p99", "histogram_quantile(0.99, sum by (le) (rate($SERIES[$__rate_interval])))"),
        ],
    },
];

/// The names of the server's metrics for which this holds, with an end.
fn of_server(end: &str, holds: fn(&Metric) -> bool) -> Vec<String> {
    let metrics = Metric::all().into_iter().filter(holds);
    metrics.map(|metric| format!("{}{end}", metric.prometheus_name())).collect()
}

impl Kind {
    /// The variable with the names. The first one is selected at first.
    pub(super) fn variable(&self) -> Value {
        let query = format!(
            r#"label_values({{__name__=~".+{}",__name__!~"{}",job=~"$job",instance=~"$instance"}}, __name__)"#,
            self.end,
            (self.others)().join("|")
        );
        json!({
            "name": self.variable,
            "label": self.label,
            "type": "query",
            "datasource": source(),
            "query": { "query": query, "refId": self.variable },
            "refresh": 2,
            "sort": 1,
            "multi": true,
            "includeAll": true,
            "current": {},
        })
    }

    /// The panel that is repeated.
    pub(super) fn panel(&self) -> Value {
        let series =
            format!(r#"{{__name__="${}",job=~"$job",instance=~"$instance"}}"#, self.variable);
        let targets: Vec<_> = self
            .lines
            .iter()
            .zip('A'..='Z')
            .map(|((name, query), letter)| {
                json!({
                    "refId": letter.to_string(),
                    "datasource": source(),
                    "expr": query.replace("$SERIES", &series),
                    "legendFormat": name,
                    "editorMode": "code",
                    "range": true,
                })
            })
            .collect();
        json!({
            "type": "timeseries",
            "title": format!("${}", self.variable),
            "description": "A metric of the application, over all workers and all values of its tags.",
            "datasource": source(),
            "repeat": self.variable,
            "repeatDirection": "h",
            "maxPerRow": 3,
            "fieldConfig": {
                "defaults": {
                    "unit": "short",
                    "custom": { "drawStyle": "line", "fillOpacity": 0, "showPoints": "never" },
                },
                "overrides": [],
            },
            "targets": targets,
        })
    }
}
