//! The row for the application's own metrics, whose names no version of arctos can know.
//!
//! A variable has the names of all counters that are not the server's, another one those of all distributions. A panel
//! is repeated for each selected name. The metrics of prometheus_client have neither a zone nor a worker, so only job and
//! instance filter these panels.

use serde_json::{Value, json};

use super::super::metric::Metric;
use super::source;

/// The metrics of one kind.
pub(super) struct Kind {
    /// The name of the variable.
    variable: &'static str,
    label: &'static str,
    /// The end of these names in Prometheus.
    suffix: &'static str,
    /// The names of the lines, and their queries with `$SERIES` for the selected ones.
    lines: &'static [(&'static str, &'static str)],
}

pub(super) const KINDS: [Kind; 2] = [
    Kind {
        variable: "counter",
        label: "application's counters",
        suffix: "_total",
        lines: &[("per second", "sum (rate($SERIES[$__rate_interval]))")],
    },
    Kind {
        variable: "distribution",
        label: "application's distributions",
        suffix: "_bucket",
        lines: &[
            ("p50", "histogram_quantile(0.50, sum by (le) (rate($SERIES[$__rate_interval])))"),
            ("p95", "histogram_quantile(0.95, sum by (le) (rate($SERIES[$__rate_interval])))"),
            ("p99", "histogram_quantile(0.99, sum by (le) (rate($SERIES[$__rate_interval])))"),
        ],
    },
];

impl Kind {
    /// The variable with the names. The first one is selected at first.
    pub(super) fn variable(&self) -> Value {
        let names = Metric::all().into_iter().map(|metric| match metric {
            Metric::Counter(_) | Metric::Gauge(_) => metric.prometheus_name(),
            Metric::Distribution(_) => format!("{}_bucket", metric.prometheus_name()),
        });
        let of_server: Vec<_> = names.filter(|name| name.ends_with(self.suffix)).collect();
        let query = format!(
            r#"label_values({{__name__=~".+{}",__name__!~"{}",job=~"$job",instance=~"$instance"}}, __name__)"#,
            self.suffix,
            of_server.join("|")
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
