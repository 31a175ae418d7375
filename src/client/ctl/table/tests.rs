use super::super::page;
use super::super::units::duration;
use super::*;

const PAGE: &str = "\
arctos_conn_accept_success_total{worker=\"0\"} 1200
arctos_conn_accept_success_total{worker=\"10\"} 34
arctos_log_dropped_total 5
arctos_log_dropped_total{worker=\"0\"} 1
arctos_log_dropped_total{worker=\"10\"} 0
arctos_worker_restarts_total{worker=\"0\",reason=\"boot\"} 0
arctos_worker_restarts_total{worker=\"0\",reason=\"signal\"} 2
arctos_workers_target 2
arctos_workers_utilization 0.125
arctos_worker_rss_bytes{worker=\"0\"} 52428800
arctos_worker_rss_bytes{worker=\"10\"} 53477376
arctos_of_a_later_version 7
arctos_request_duration_seconds_bucket{worker=\"0\",le=\"0.001\"} 50
arctos_request_duration_seconds_bucket{worker=\"0\",le=\"0.002\"} 90
arctos_request_duration_seconds_bucket{worker=\"0\",le=\"+Inf\"} 100
arctos_request_duration_seconds_sum{worker=\"0\"} 0.25
arctos_request_duration_seconds_count{worker=\"0\"} 100
arctos_request_duration_seconds_bucket{worker=\"10\",le=\"0.001\"} 0
arctos_request_duration_seconds_bucket{worker=\"10\",le=\"0.002\"} 0
arctos_request_duration_seconds_bucket{worker=\"10\",le=\"+Inf\"} 0
arctos_request_duration_seconds_sum{worker=\"10\"} 0
arctos_request_duration_seconds_count{worker=\"10\"} 0
";

const TABLE: &str = "\
counters                  total       w0    w10
conn.accept.success        1234     1200     34
log.dropped                   6        1      0
worker.restarts boot          0        0
worker.restarts signal        2        2

gauges                    total       w0    w10
workers.target                2
workers.utilization        0.12
worker.rss               101.0M    50.0M  51.0M

distributions             total       w0    w10
request.duration count      100      100      0
request.duration mean    2.50ms   2.50ms
request.duration p50     1.00ms   1.00ms
request.duration p90     2.00ms   2.00ms
request.duration p99    >2.00ms  >2.00ms
";

fn drawn(width: Option<usize>) -> String {
    drawn_page(PAGE, width)
}

pub(super) fn drawn_page(text: &str, width: Option<usize>) -> String {
    draw(&page::read(text).unwrap(), &page::kinds(text), width)
}

#[test]
fn a_table_has_one_row_per_metric_and_one_column_per_worker() {
    assert_eq!(drawn(None), TABLE);
}

#[test]
fn a_terminal_that_is_wide_enough_changes_nothing() {
    let full = drawn(None);
    let longest = full.lines().map(str::len).max().unwrap();
    assert_eq!(drawn(Some(longest)), full);
    assert_ne!(drawn(Some(longest - 1)), full);
}

#[test]
fn a_narrow_terminal_gets_only_totals() {
    let table = drawn(Some(40));
    assert!(
        table.starts_with("counters                  total\nconn.accept.success        1234\n"),
        "{table}"
    );
    assert!(!table.contains("w0"));
    assert!(table.contains("wide: pipe it to less -S."), "{table}");
}

#[test]
fn a_server_without_numbers_is_an_empty_table() {
    assert_eq!(drawn_page("", None), "");
    assert_eq!(drawn_page("", Some(80)), "");
}

#[test]
fn values_are_short() {
    let durations = [0.0, 0.000_001, 0.000_064, 0.0123, 0.999, 1.0, 1073.7].map(duration);
    assert_eq!(durations, ["0.00us", "1.00us", "64.0us", "12.3ms", "999ms", "1.00s", "1074s"]);
    assert_eq!([0.0, 1023.0, 1024.0, 1e9, 2e9].map(size), ["0", "1023", "1.0K", "953.7M", "1.9G"]);
    assert_eq!([0.0, 7.0, 0.5, 1e15].map(number), ["0", "7", "0.50", "1000000000000000"]);
}
