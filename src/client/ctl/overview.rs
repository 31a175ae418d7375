//! The server, its workers and its routes as tables, from `/status` as far as this version knows it.

use std::fmt;

use serde_json::Value;

use super::columns;
use super::routes::{RouteCounts, RouteRequests};
use super::units::{age, cell, duration, size};

/// The gap between two columns.
const GAP: &str = "  ";
/// The text for a missing value.
const NOTHING: &str = "-";
/// The largest number of routes in a table that cannot be scrolled.
pub(crate) const MAX_ROUTES: usize = 10;

/// Draws the response of `/status`; `None` if it is something else. `width` is the width of the terminal, if the output
/// is one.
pub(super) fn draw(text: &str, width: Option<usize>) -> Option<String> {
    let status: Value = serde_json::from_str(text).ok()?;
    let workers = status.get("workers")?.as_array()?;
    let mut page = String::new();
    let server = server(&status);
    let name_width = server.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    for (name, value) in server {
        page.push_str(&format!("{name:<name_width$}{GAP}{value}\n"));
    }
    page.push('\n');
    let rows: Vec<Row> =
        std::iter::once(HEADINGS.map(str::to_owned)).chain(workers.iter().map(row)).collect();
    let mut widths: Vec<usize> = (0..HEADINGS.len())
        .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default())
        .collect();
    if let Some(width) = width {
        leave_out(&mut widths, width);
    }
    for row in &rows {
        page.push_str(&cut(&line(row, &widths), width));
        page.push('\n');
    }
    for line in routes(&RouteCounts::read(&status)) {
        page.push_str(&cut(&line, width));
        page.push('\n');
    }
    Some(page)
}

/// The routes on which the most time was spent, after an empty line; nothing if the application names none.
fn routes(counts: &RouteCounts) -> Vec<String> {
    let routes = counts.since_start();
    if routes.is_empty() {
        return Vec::new();
    }
    let row = |route: &RouteRequests| {
        let text = |text: &str| if text.is_empty() { NOTHING } else { text }.to_owned();
        [
            if route.seconds < 60.0 { duration(route.seconds) } else { age(route.seconds) },
            route.count.to_string(),
            text(&route.mean),
            text(&route.p50),
            text(&route.p99),
            route.errors.map_or_else(|| NOTHING.to_owned(), |count| count.to_string()),
            route.route.clone(),
        ]
    };
    let headings = ["time", "requests", "mean", "p50", "p99", "5xx", "route"].map(str::to_owned);
    let shown = &routes[..routes.len().min(MAX_ROUTES)];
    let rows: Vec<_> = std::iter::once(headings).chain(shown.iter().map(row)).collect();
    let lines = std::iter::once(String::new()).chain(columns::lines(&rows, 0));
    lines.chain(further_routes(counts, shown.len())).collect()
}

/// A line about the routes that a table of `shown` ones leaves out.
pub(crate) fn further_routes(counts: &RouteCounts, shown: usize) -> Option<String> {
    let further = counts.count.saturating_sub(shown as u64);
    (further > 0).then(|| format!("and {further} more: see t in arctos top"))
}

/// How many requests, by method and path, are in quarantine; `None` if there are none.
pub(crate) fn requests_in_quarantine(status: &Value) -> Option<String> {
    match status["quarantine"]["active"].as_u64()? {
        0 => None,
        1 => Some("1 request".to_owned()),
        count => Some(format!("{count} requests")),
    }
}

/// Leaves out columns, by a width of 0, until the heading of the last one fits.
fn leave_out(widths: &mut [usize], width: usize) {
    for heading in LESS_IMPORTANT {
        let shown = widths[..widths.len() - 1].iter().filter(|width| **width > 0);
        let before_last: usize = shown.map(|width| width + GAP.len()).sum();
        if before_last + HEADINGS[HEADINGS.len() - 1].len() <= width {
            return;
        }
        if let Some(index) = HEADINGS.iter().position(|it| *it == heading) {
            widths[index] = 0;
        }
    }
}

/// The lines about the server.
fn server(status: &Value) -> Vec<(&'static str, String)> {
    let number = |key: &str| one_line(&status[key]);
    let list = |key: &str| {
        let items = status[key].as_array().map(Vec::as_slice).unwrap_or_default();
        let items: Vec<_> = items.iter().map(one_line).collect();
        if items.is_empty() { NOTHING.to_owned() } else { items.join(" ") }
    };
    let server = format!(
        "arctos {}, pid {}, {}",
        number("version"),
        number("pid"),
        server_state(&number("state"), status["state_s"].as_f64(), status["age_s"].as_f64())
    );
    let workers = format!(
        "{} of {} ready, generation {}",
        number("workers_ready"),
        number("workers_target"),
        number("generation")
    );
    let mut lines = vec![
        ("server", server),
        ("workers", workers),
        ("listen", list("listen")),
        ("admin", list("admin")),
        ("memory", memory(&status["memory"]).unwrap_or_else(|| NOTHING.to_owned())),
        ("reload", ReloadSummary::read(&status["reload"]).to_string()),
    ];
    let refused = one_line(&status["quarantine"]["refused"]);
    if let Some(count) = requests_in_quarantine(status) {
        let quarantine = format!("{count}, {refused} refused so far: see arctos ctl quarantine");
        lines.push(("quarantine", quarantine));
    }
    lines
}

/// What the cgroup uses, without the page cache that the kernel frees first, and its limit.
pub(crate) fn memory(memory: &Value) -> Option<String> {
    let used = size(memory["working_set_bytes"].as_f64()?);
    Some(match memory["limit_bytes"].as_f64() {
        Some(limit) => format!("{used} of {}", size(limit)),
        None => format!("{used}, no limit"),
    })
}

/// The state of the server, how long it has been in a state other than serving, and its uptime.
pub(crate) fn server_state(state: &str, state_s: Option<f64>, age_s: Option<f64>) -> String {
    let since = state_s.filter(|_| state != "serving");
    let since = since.map_or(String::new(), |seconds| format!(" for {}", age(seconds)));
    let up = age_s.map_or(String::new(), |seconds| format!(", up {}", age(seconds)));
    format!("{state}{since}{up}")
}

/// The progress of the last reload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReloadSummary {
    /// A short summary.
    pub(crate) brief: String,
    /// The last line of the report, if it failed.
    pub(crate) report: Option<String>,
    /// Whether it failed, so that the old generation keeps serving.
    pub(crate) has_failed: bool,
}

impl fmt::Display for ReloadSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.brief)?;
        self.report.iter().try_for_each(|report| write!(f, ": {report}"))
    }
}

impl ReloadSummary {
    pub(crate) fn read(reload: &Value) -> Self {
        let progress = |brief: String| Self { brief, report: None, has_failed: false };
        match reload["state"].as_str() {
            Some("idle") => progress("none yet".to_owned()),
            Some("running") => {
                let (step, generation) =
                    (one_line(&reload["step"]), one_line(&reload["generation"]));
                progress(format!("{step} of generation {generation}"))
            }
            Some("ended") => {
                let ago = reload["ago_s"].as_f64().map(age).unwrap_or_default();
                let outcome = one_line(&reload["outcome"]);
                // The last line of a traceback says the most.
                let report = reload["report"].as_str();
                let report = report.and_then(|report| report.trim_end().lines().last());
                Self {
                    has_failed: outcome != "done",
                    brief: format!("{outcome}, {ago} ago"),
                    report: report.map(cell),
                }
            }
            Some(_) | None => progress(NOTHING.to_owned()),
        }
    }
}

const HEADINGS: [&str; 12] = [
    "slot", "pid", "gen", "state", "age", "requests", "restarts", "open", "rss", "pss", "private",
    "request",
];
/// The columns to leave out of a narrow terminal, in this order.
const LESS_IMPORTANT: [&str; 3] = ["private", "open", "age"];
/// The columns with text; the others have numbers.
const TEXT_COLUMNS: [&str; 2] = ["state", "request"];

type Row = [String; HEADINGS.len()];

fn row(worker: &Value) -> Row {
    let shown = |key: &str, show: fn(f64) -> String| {
        worker[key].as_f64().map_or_else(|| NOTHING.to_owned(), show)
    };
    let request = worker["request"]["line"].as_str().map(cell);
    let running = worker["request"]["age_s"].as_f64().map(duration).unwrap_or_default();
    [
        one_line(&worker["slot"]),
        one_line(&worker["pid"]),
        one_line(&worker["generation"]),
        one_line(&worker["state"]),
        shown("age_s", age),
        one_line(&worker["requests"]),
        one_line(&worker["restarts"]),
        one_line(&worker["connections_open"]),
        shown("rss_bytes", size),
        shown("pss_bytes", size),
        shown("private_bytes", size),
        request.map_or_else(|| NOTHING.to_owned(), |line| format!("{running} {line}")),
    ]
}

fn line(row: &Row, widths: &[usize]) -> String {
    let columns = row.iter().zip(widths).zip(HEADINGS).filter(|((_, width), _)| **width > 0);
    let cells = columns.map(|((cell, width), head)| {
        if TEXT_COLUMNS.contains(&head) {
            format!("{cell:<width$}")
        } else {
            format!("{cell:>width$}")
        }
    });
    let line = cells.collect::<Vec<_>>().join(GAP);
    line.trim_end().to_owned()
}

/// Cuts a line that is too long.
pub(super) fn cut(line: &str, width: Option<usize>) -> String {
    match width {
        Some(width) if line.chars().count() > width => {
            let kept = line.chars().take(width.saturating_sub(1));
            kept.chain(std::iter::once('…')).collect()
        }
        Some(_) | None => line.to_owned(),
    }
}

/// A text or a number on one line.
pub(crate) fn one_line(value: &Value) -> String {
    match value {
        Value::String(text) => cell(text),
        Value::Number(number) => number.to_string(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => NOTHING.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = r#"{
        "version": "1.2.3", "pid": 7, "state": "serving", "generation": 3, "age_s": 61.2,
        "workers_target": 2, "workers_ready": 1,
        "memory": {"limit_bytes": 536870912, "used_bytes": 178257920, "working_set_bytes": 136314880},
        "listen": ["http://127.0.0.1:8000", "unix:/run/b"], "admin": ["unix:/run/a"],
        "reload": {"state": "ended", "outcome": "canary-failed", "ago_s": 3700.5,
                   "report": "Traceback:\n  x\nNameError: y\n"},
        "workers": [
            {"slot": 0, "pid": 70, "generation": 3, "state": "ready", "age_s": 60.0,
             "request": {"line": "GET /a\u001b[2J", "age_s": 1.5}, "requests": 1234, "restarts": 2,
             "connections_open": 3, "rss_bytes": 36175872, "pss_bytes": 12582912,
             "private_bytes": 4194304, "unknown": "value"},
            {"slot": 1, "pid": null, "generation": 3, "state": "waiting", "age_s": null,
             "request": null, "requests": null, "restarts": 0, "connections_open": null, "rss_bytes": null}
        ]
    }"#;

    #[test]
    fn the_server_is_shown_above_one_line_per_worker() {
        let page = "\
server   arctos 1.2.3, pid 7, serving, up 1m01s
workers  1 of 2 ready, generation 3
listen   http://127.0.0.1:8000 unix:/run/b
admin    unix:/run/a
memory   130.0M of 512.0M
reload   canary-failed, 1h01m ago: NameError: y

slot  pid  gen  state      age  requests  restarts  open    rss    pss  private  request
   0   70    3  ready    1m00s      1234         2     3  34.5M  12.0M     4.0M  1.50s GET /a\u{fffd}[2J
   1    -    3  waiting      -         -         0     -      -      -        -  -
";
        assert_eq!(draw(STATUS, None).unwrap(), page);
    }

    #[test]
    fn requests_in_quarantine_have_a_line() {
        let page = |active: u64| {
            let status = format!(
                r#"{{"quarantine": {{"active": {active}, "refused": 1207}}, "workers": []}}"#
            );
            draw(&status, None).unwrap()
        };
        assert!(page(1).starts_with("server      arctos -, pid -, -\nworkers     - of"));
        assert!(page(1).contains(
            "\nquarantine  1 request, 1207 refused so far: see arctos ctl quarantine\n\nslot"
        ));
        assert!(page(2).contains("\nquarantine  2 requests, 1207 refused so far"));
        assert!(!page(0).contains("quarantine"), "nothing is in quarantine any more");
    }

    #[test]
    fn the_routes_that_take_the_most_time_follow_the_workers() {
        let route = |number: u32| {
            format!(
                r#"{{"route": "/{number}", "requests": {{"2xx": 3, "5xx": 1}}, "duration_s": {},
                    "buckets": {{"32": 4}}}}"#,
                number * 20 + 20
            )
        };
        let of = |count: u32| {
            let routes: Vec<_> = (0..count).map(route).collect();
            let status = format!(
                r#"{{"routes_count": {count}, "routes": [{}], "workers": []}}"#,
                routes.join(",")
            );
            draw(&status, Some(55)).unwrap()
        };
        let expected = "

 time  requests   mean    p50    p99  5xx  route
1m20s         4  20.0s  24.0s  31.8s    1  /3
1m00s         4  15.0s  24.0s  31.8s    1  /2
40.0s         4  10.0s  24.0s  31.8s    1  /1
20.0s         4  5.00s  24.0s  31.8s    1  /0
";
        assert!(of(4).ends_with(expected), "{}", of(4));
        assert!(of(12).ends_with("  /2\nand 2 more: see t in arctos top\n"), "{}", of(12));
        assert!(!of(0).contains("route"));
    }

    #[test]
    fn the_age_of_a_stop_is_shown_and_not_that_of_the_server() {
        for (state, state_s, expected) in [
            ("stopping", "3.2", "stopping for 3s, up 1m03s"),
            ("resting", "3.2", "resting for 3s, up 1m03s"),
            ("serving", "62.9", "serving, up 1m03s"),
            ("stopping", "null", "stopping, up 1m03s"),
        ] {
            let status = format!(
                r#"{{"state": "{state}", "state_s": {state_s}, "age_s": 63.1, "workers": []}}"#
            );
            let page = draw(&status, None).unwrap();
            assert!(page.starts_with(&format!("server   arctos -, pid -, {expected}\n")), "{page}");
        }
    }

    #[test]
    fn lines_of_workers_are_cut_at_the_width_of_the_terminal() {
        let page = draw(STATUS, Some(82)).unwrap();
        assert!(page.contains("  34.5M  12.0M  1.50s GET…\n"), "{page}");
        assert!(page.contains("  open    rss    pss  request\n"), "there is no room for more");
        let page = draw(STATUS, Some(76)).unwrap();
        assert!(page.contains("  restarts    rss    pss  request\n"), "{page}");
        let page = draw(STATUS, Some(91)).unwrap();
        assert!(page.contains("  12.0M     4.0M  1.50s GET…\n"), "{page}");
    }

    #[test]
    fn missing_values_are_shown_as_dashes() {
        let page =
            draw(r#"{"workers": [{"slot": 0}], "reload": {"state": "idle"}}"#, None).unwrap();
        assert!(page.starts_with("server   arctos -, pid -, -\n"), "{page}");
        assert!(page.contains("\nmemory   -\nreload   none yet\n"), "{page}");
        assert!(
            page.ends_with(
                "   0    -    -  -        -         -         -     -    -    -        -  -\n"
            ),
            "{page}"
        );
        let running = r#"{"workers": [],
            "reload": {"state": "running", "step": "rolling", "generation": 4}}"#;
        assert!(draw(running, None).unwrap().contains("\nreload   rolling of generation 4\n"));
    }

    #[test]
    fn memory_without_a_limit_is_shown_as_well() {
        let memory =
            r#"{"workers": [], "memory": {"limit_bytes": null, "working_set_bytes": 2048}}"#;
        assert!(draw(memory, None).unwrap().contains("\nmemory   2.0K, no limit\n"));
    }

    #[test]
    fn another_response_is_not_shown() {
        for text in ["", "<html>", "[]", "{}", r#"{"workers": 3}"#] {
            assert_eq!(draw(text, None), None, "{text:?}");
        }
    }
}
