//! The alert rules for Prometheus.
//!
//! | layer of an expression | labels |
//! |---|---|
//! | the value, on the first lines | those of the server: `job`, `instance`, `zone` and what the scrape adds |
//! | the limit, on the last line | none, so that an operator can change the number and nothing else |
//!
//! A counter has its value 0 from the start of a worker, so that `increase()` sees the first event. Each rule names a
//! section of the guide, which a unit test looks up.

use std::fmt::Write;

use arctos_worker::shared::scoreboard::Counter;

use crate::metrics::names::counter_prometheus_name;
use crate::metrics::{Distribution, Gauge};

/// The page of the guide to which the rules refer.
const PAGE: &str = "observability";

/// What an alert asks for.
#[derive(Clone, Copy)]
enum Severity {
    /// Requests fail or are about to: somebody has to act now.
    Critical,
    /// Somebody has to look, within working hours.
    Warning,
}

/// A rule.
struct Alert {
    name: &'static str,
    severity: Severity,
    /// How long the condition has to hold.
    pending: &'static str,
    /// The value that is compared.
    value: String,
    /// The comparison and the limit.
    limit: String,
    summary: &'static str,
    /// What to do.
    description: &'static str,
    /// The heading in the guide.
    section: &'static str,
}

/// The rules as YAML.
pub fn rules() -> String {
    let mut text = format!(
        "# Alert rules for servers of arctos {}, made by arctos alerts prometheus. The limits are a start: adapt them.\n\
         # Prometheus itself says whether a server can be scraped: add a rule for `up == 0` with the name of your job.\n\
         groups:\n  - name: arctos\n    rules:\n",
        env!("CARGO_PKG_VERSION")
    );
    for alert in alerts() {
        alert.write(&mut text);
    }
    text
}

impl Severity {
    fn label(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Warning => "warning",
        }
    }
}

impl Alert {
    fn write(&self, text: &mut String) {
        let expression = format!("{}\n{}", self.value, self.limit).replace('\n', "\n          ");
        // Writing to a `String` cannot fail. A string of JSON is one of YAML, too.
        let _ = write!(
            text,
            "      - alert: {}\n        expr: |-\n          {expression}\n        for: {}\n        labels:\n          \
             severity: {}\n        annotations:\n          summary: {}\n          description: {}\n          guide: {}\n",
            self.name,
            self.pending,
            self.severity.label(),
            quoted(self.summary),
            quoted(self.description),
            quoted(&format!("arctos help {PAGE}: {}", self.section)),
        );
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn alerts() -> Vec<Alert> {
    [servers(), workers(), requests(), saturation(), losses()].into_iter().flatten().collect()
}

/// Servers that are gone, do not serve, or have refused new code.
fn servers() -> Vec<Alert> {
    let target = Gauge::WorkersTarget.prometheus_name();
    let ready = Gauge::WorkersReady.prometheus_name();
    vec![
        Alert {
            name: "ArctosGone",
            severity: Severity::Critical,
            pending: "2m",
            value: format!("count by (job) ({target} offset 1h)"),
            limit: format!("unless count by (job) ({target})"),
            summary: "No server of {{ $labels.job }} can be scraped any more",
            description: "There was one an hour ago. Look whether the servers run, and whether Prometheus reaches their \
                          --admin-bind.",
            section: "It does not answer",
        },
        Alert {
            name: "ArctosNoReadyWorker",
            severity: Severity::Critical,
            pending: "1m",
            value: ready,
            limit: "== 0".to_owned(),
            summary: "{{ $labels.instance }} has no ready worker, and answers no request",
            description: "Run arctos ctl status, and read the server's log for worker.boot_failed, worker.not_ready or \
                          worker.died.",
            section: "It does not answer",
        },
        Alert {
            name: "ArctosReloadFailed",
            severity: Severity::Warning,
            pending: "0m",
            value: format!("increase({}[15m])", counter_prometheus_name(Counter::ReloadFailed)),
            limit: "> 0".to_owned(),
            summary: "A reload of {{ $labels.instance }} failed, and the old code still serves",
            description: "The log says reload.failed, with the reason. Repair the code, and run arctos ctl reload \
                          --wait.",
            section: "A deployment changed nothing",
        },
    ]
}

/// Workers that are not there.
fn workers() -> Vec<Alert> {
    let target = Gauge::WorkersTarget.prometheus_name();
    let ready = Gauge::WorkersReady.prometheus_name();
    let restarts = counter_prometheus_name(Counter::WorkerRestartsBoot);
    vec![
        Alert {
            name: "ArctosTooFewWorkers",
            severity: Severity::Warning,
            pending: "5m",
            value: ready,
            limit: format!("< {target}"),
            summary: "{{ $labels.instance }} has only {{ $value }} ready workers",
            description: "Run arctos ctl status to see what the others do, and read the server's log for worker.died, \
                          worker.boot_failed or worker.spawn_failed.",
            section: "It crashes",
        },
        Alert {
            name: "ArctosWorkersFailToBoot",
            severity: Severity::Warning,
            pending: "0m",
            value: format!(
                "sum without (worker, reason) (increase({restarts}{{reason=\"boot\"}}[10m]))"
            ),
            limit: "> 2".to_owned(),
            summary: "Workers of {{ $labels.instance }} fail to boot",
            description: "The log says worker.boot_failed, with the traceback of the application. Run arctos --check to \
                          reproduce it.",
            section: "It crashes",
        },
        Alert {
            name: "ArctosWorkersDie",
            severity: Severity::Warning,
            pending: "0m",
            value: format!("sum without (worker) (increase({restarts}{{reason!=\"boot\"}}[10m]))"),
            limit: "> 2".to_owned(),
            summary: "Workers of {{ $labels.instance }} die, for the reason {{ $labels.reason }}",
            description: "The log says worker.died, worker.hung or worker.out_of_memory, with the request of each. \
                          --quarantine refuses requests that kill workers.",
            section: "It crashes",
        },
    ]
}

/// What clients notice.
fn requests() -> Vec<Alert> {
    let p99 = |of: Distribution| {
        let buckets = of.prometheus_name();
        format!(
            "histogram_quantile(0.99, sum without (worker, status) (rate({buckets}_bucket[5m])))"
        )
    };
    let rate = |counter: Counter| {
        format!("sum without (worker) (rate({}[5m]))", counter_prometheus_name(counter))
    };
    vec![
        Alert {
            name: "ArctosErrors",
            severity: Severity::Critical,
            pending: "5m",
            value: format!("{}\n/ {}", rate(Counter::RespStatus5xx), rate(Counter::ReqDone)),
            limit: "> 0.05".to_owned(),
            summary: "{{ $value | humanizePercentage }} of the responses of {{ $labels.instance }} are 5xx",
            description: "The log says application.raised with a traceback for each 500, and request.refused or \
                          worker.died for the others.",
            section: "It answers with errors",
        },
        Alert {
            name: "ArctosSlow",
            severity: Severity::Warning,
            pending: "10m",
            value: p99(Distribution::RequestDuration2xx),
            limit: "> 1".to_owned(),
            summary: "One request in a hundred takes {{ $value | humanizeDuration }} or longer at {{ $labels.instance }}",
            description: "Look which requests are slow, and where their time goes.",
            section: "It is slow",
        },
        Alert {
            name: "ArctosRequestsWait",
            severity: Severity::Warning,
            pending: "5m",
            value: p99(Distribution::RequestQueue),
            limit: "> 0.5".to_owned(),
            summary: "Requests wait {{ $value | humanizeDuration }} for a worker at {{ $labels.instance }}",
            description: "All workers are busy. Add workers or servers, or find out what keeps workers busy.",
            section: "It is full",
        },
    ]
}

/// What is about to run out.
fn saturation() -> Vec<Alert> {
    let utilization = Gauge::WorkersUtilization.prometheus_name();
    let (waiting, most) =
        (Gauge::BacklogLen.prometheus_name(), Gauge::BacklogMax.prometheus_name());
    let working_set = Gauge::MemoryWorkingSet.prometheus_name();
    let limit = Gauge::MemoryLimit.prometheus_name();
    vec![
        Alert {
            name: "ArctosBacklog",
            severity: Severity::Critical,
            pending: "1m",
            value: format!("{waiting} / {most}"),
            limit: "> 0.5".to_owned(),
            summary: "{{ $value | humanizePercentage }} of the backlog of {{ $labels.instance }} is used",
            description: "When it is full, clients cannot connect. Add workers or servers, or let --max-queue-time refuse \
                          what waits too long.",
            section: "It is full",
        },
        Alert {
            name: "ArctosMemory",
            severity: Severity::Warning,
            pending: "5m",
            value: format!("{working_set} / {limit}"),
            limit: "> 0.9".to_owned(),
            summary: "{{ $labels.instance }} uses {{ $value | humanizePercentage }} of the memory limit of its cgroup",
            description: "At the limit, the kernel kills a worker, or all processes of the container. Look which worker \
                          grows; --max-rss auto recycles it before.",
            section: "Memory grows",
        },
        Alert {
            name: "ArctosSaturated",
            severity: Severity::Warning,
            pending: "5m",
            value: format!("avg_over_time({utilization}[5m])"),
            limit: "> 0.9".to_owned(),
            summary: "The workers of {{ $labels.instance }} are in requests {{ $value | humanizePercentage }} of the time",
            description: "Requests begin to wait. Add workers or servers, or find out what keeps workers busy.",
            section: "It is full",
        },
    ]
}

/// What is missing in metrics and logs.
fn losses() -> Vec<Alert> {
    let statsd = counter_prometheus_name(Counter::StatsdDropped);
    let log = counter_prometheus_name(Counter::LogDropped);
    let series = counter_prometheus_name(Counter::MetricsSeriesDropped);
    vec![
        Alert {
            name: "ArctosStatsdUnreachable",
            severity: Severity::Warning,
            pending: "10m",
            value: format!("increase({statsd}[5m])"),
            limit: "> 0".to_owned(),
            summary: "{{ $labels.instance }} cannot send metrics to statsd",
            description: "The log says statsd.unreachable, with the address. Counters arrive later; gauges are lost.",
            section: "Metrics or log lines are missing",
        },
        Alert {
            name: "ArctosSeriesDropped",
            severity: Severity::Warning,
            pending: "0m",
            value: format!("increase({series}[15m])"),
            limit: "> 0".to_owned(),
            summary: "The application on {{ $labels.instance }} has more series than --metrics-series",
            description: "Further ones count together, with the tags `other`. The log says metrics.too_many_series; look for a \
                          tag with ids.",
            section: "Metrics or log lines are missing",
        },
        Alert {
            name: "ArctosLogLinesDropped",
            severity: Severity::Warning,
            pending: "0m",
            value: format!("sum without (worker) (increase({log}[15m]))"),
            limit: "> 0".to_owned(),
            summary: "{{ $labels.instance }} dropped log lines",
            description: "Whoever reads its standard error or access log is too slow, or the disk is full.",
            section: "Metrics or log lines are missing",
        },
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_rule_names_a_section_of_the_guide() {
        let path = format!("{}/src/guide/{PAGE}.md", env!("CARGO_MANIFEST_DIR"));
        let page = std::fs::read_to_string(path).unwrap();
        for alert in alerts() {
            assert!(page.contains(&format!("\n## {}\n", alert.section)), "{}", alert.name);
        }
    }

    #[test]
    fn every_rule_is_in_the_guide_with_its_severity() {
        let path = format!("{}/src/guide/{PAGE}.md", env!("CARGO_MANIFEST_DIR"));
        let page = std::fs::read_to_string(path).unwrap();
        for alert in alerts() {
            let row = format!("\n| `{}` | {} | ", alert.name, alert.severity.label());
            assert!(page.contains(&row), "{row}");
        }
        let names: HashSet<_> = alerts().iter().map(|alert| alert.name).collect();
        assert_eq!(names.len(), alerts().len());
    }

    #[test]
    fn a_text_cannot_end_its_quotes() {
        assert_eq!(quoted("the \"end\"\n"), r#""the \"end\"\n""#);
    }
}
