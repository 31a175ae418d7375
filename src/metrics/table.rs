//! The table of all metrics as Markdown, for the guide.

use std::fmt::Write;

use arctos_worker::shared::scoreboard::Counter;

use super::names::counter_prometheus_name;
use super::{Distribution, Gauge, Scope};

/// Counters of the supervisor alone, which have no tag `worker`.
const SUPERVISOR_COUNTERS: [Counter; 4] = [
    Counter::ReloadOk,
    Counter::ReloadFailed,
    Counter::StatsdDropped,
    Counter::MetricsSeriesDropped,
];
/// Counters of both the workers and the supervisor.
const COMMON_COUNTERS: [Counter; 1] = [Counter::LogDropped];

/// A row of the table.
struct TableRow {
    name: &'static str,
    kind: &'static str,
    tags: String,
    prometheus_name: String,
    meaning: &'static str,
}

/// All metrics: counters, then gauges, then distributions.
pub fn markdown() -> String {
    let mut page = String::from("| name | kind | tags | in Prometheus | meaning |\n");
    page.push_str("|---|---|---|---|---|\n");
    for TableRow { name, kind, tags, prometheus_name, meaning } in lines() {
        // Writing to a `String` cannot fail.
        let _ = writeln!(page, "| `{name}` | {kind} | {tags} | `{prometheus_name}` | {meaning} |");
    }
    page
}

fn lines() -> Vec<TableRow> {
    let mut lines: Vec<TableRow> = Vec::new();
    for counter in Counter::ALL {
        let name = counter.statsd_name();
        // Counters that differ only in the value of their tag are adjacent, and form one metric.
        match (counter.tag(), lines.last_mut().filter(|last| last.name == name)) {
            (Some((_, value)), Some(last)) => {
                // Writing to a `String` cannot fail.
                let _ = write!(last.tags, ", {value}");
            }
            (_, _) => lines.push(TableRow {
                name,
                kind: "counter",
                tags: tags(counter),
                prometheus_name: counter_prometheus_name(counter),
                meaning: counter.meaning(),
            }),
        }
    }
    lines.extend(Gauge::ALL.map(|gauge| TableRow {
        name: gauge.statsd_name(),
        kind: "gauge",
        tags: match gauge.scope() {
            Scope::Server => String::new(),
            Scope::Worker => "worker".to_owned(),
        },
        prometheus_name: gauge.prometheus_name(),
        meaning: gauge.meaning(),
    }));
    for family in Distribution::families() {
        let distribution = family[0];
        let values: Vec<_> = family.iter().filter_map(|of| of.tag()).collect();
        let tags = values.first().map(|(name, _)| {
            let values: Vec<_> = values.iter().map(|(_, value)| *value).collect();
            format!("; {name}: {}", values.join(", "))
        });
        lines.push(TableRow {
            name: distribution.statsd_name(),
            kind: "distribution",
            tags: format!("worker{}", tags.unwrap_or_default()),
            prometheus_name: distribution.prometheus_name(),
            meaning: distribution.meaning(),
        });
    }
    lines
}

/// Whether only the supervisor counts it, so that it has no tag `worker`.
pub fn is_of_supervisor(counter: Counter) -> bool {
    SUPERVISOR_COUNTERS.contains(&counter)
}

fn tags(counter: Counter) -> String {
    if is_of_supervisor(counter) {
        String::new()
    } else if COMMON_COUNTERS.contains(&counter) {
        "worker; none for the supervisor".to_owned()
    } else {
        let own = counter.tag().map(|(name, value)| format!("; {name}: {value}"));
        format!("worker{}", own.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const BEGIN: &str = "<!-- metrics:begin -->\n";
    const END: &str = "<!-- metrics:end -->";

    /// `ARCTOS_BLESS=1 cargo test -p arctos --no-default-features metrics` rewrites the table.
    #[test]
    fn the_guide_holds_the_table_of_metrics() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/guide/metrics.md");
        let page = std::fs::read_to_string(path).unwrap();
        let (before, rest) = page.split_once(BEGIN).unwrap();
        let (table, after) = rest.split_once(END).unwrap();
        if std::env::var_os("ARCTOS_BLESS").is_some() {
            let text = format!("{before}{BEGIN}\n{}\n{END}{after}", markdown());
            std::fs::write(path, text).unwrap();
            return;
        }
        assert_eq!(table, format!("\n{}\n", markdown()), "run this test with ARCTOS_BLESS=1");
    }

    #[test]
    fn every_metric_has_one_line() {
        let counters = Counter::ALL.map(Counter::statsd_name);
        let others = Gauge::ALL.map(Gauge::statsd_name).into_iter();
        let others = others.chain(Distribution::ALL.map(Distribution::statsd_name));
        let names: HashSet<_> = counters.into_iter().chain(others).collect();
        let lines = lines();
        assert_eq!(lines.len(), names.len());
        assert_eq!(lines.iter().map(|line| line.name).collect::<HashSet<_>>(), names);
    }

    #[test]
    fn counters_of_one_name_share_a_line_with_all_values_of_their_tag() {
        let lines = lines();
        let line = lines.iter().find(|line| line.name == "worker.restarts").unwrap();
        assert_eq!(line.tags, "worker; reason: boot, exit, signal, timeout, oom");
    }

    #[test]
    fn no_meaning_contains_a_cell_separator() {
        assert!(lines().iter().all(|line| !line.meaning.contains('|')));
    }
}
