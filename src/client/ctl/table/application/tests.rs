use super::super::tests::drawn_page;
use super::*;

/// What a server with the zone `eu` and two workers says of an application with `arctos.metrics` and prometheus_client.
const PAGE: &str = "\
# TYPE arctos_conn_accept_success_total counter
arctos_conn_accept_success_total{worker=\"0\",zone=\"eu\"} 3
arctos_conn_accept_success_total{worker=\"1\",zone=\"eu\"} 4
# TYPE arctos_workers_target gauge
arctos_workers_target{zone=\"eu\"} 2
# TYPE arctos_jobs_waiting gauge
arctos_jobs_waiting{zone=\"eu\"} 7.5
# TYPE arctos_orders_placed_total counter
arctos_orders_placed_total{zone=\"eu\",channel=\"web\"} 1
arctos_orders_placed_total{worker=\"0\",zone=\"eu\",channel=\"web\"} 20
arctos_orders_placed_total{worker=\"1\",zone=\"eu\",channel=\"web\"} 300
arctos_orders_placed_total{worker=\"1\",zone=\"eu\",channel=\"a\\\"\x1b\"} 5
# TYPE arctos_query_seconds histogram
arctos_query_seconds_bucket{worker=\"0\",zone=\"eu\",le=\"0.5\"} 1
arctos_query_seconds_bucket{worker=\"0\",zone=\"eu\",le=\"1\"} 2
arctos_query_seconds_bucket{worker=\"0\",zone=\"eu\",le=\"+Inf\"} 2
arctos_query_seconds_sum{worker=\"0\",zone=\"eu\"} 1
arctos_query_seconds_count{worker=\"0\",zone=\"eu\"} 2
arctos_query_seconds_bucket{worker=\"1\",zone=\"eu\",le=\"0.5\"} 0
arctos_query_seconds_bucket{worker=\"1\",zone=\"eu\",le=\"1\"} 2
arctos_query_seconds_bucket{worker=\"1\",zone=\"eu\",le=\"+Inf\"} 2
arctos_query_seconds_sum{worker=\"1\",zone=\"eu\"} 2
arctos_query_seconds_count{worker=\"1\",zone=\"eu\"} 2
# TYPE cache_bytes gauge
cache_bytes{worker=\"0\"} 2097152
cache_bytes{worker=\"1\"} 1048576
# TYPE mails_total counter
mails_total{zone=\"us\",worker=\"mailer\"} 9
# TYPE reply_chars summary
reply_chars_count 4
reply_chars_sum 50
";

/// The lines that show application metrics.
fn lines(page: &str, width: Option<usize>) -> Vec<String> {
    let drawn = drawn_page(page, width);
    let lines = drawn.lines().skip_while(|line| !line.contains("of the application"));
    lines.map(str::to_owned).collect()
}

#[test]
fn metrics_of_the_application_follow_those_of_the_server() {
    assert_eq!(
        lines(PAGE, None),
        [
            "counters of the application                      total    w0    w1",
            "arctos_orders_placed_total{channel=\"a\\\"\\u{1b}\"}      5           5",
            "arctos_orders_placed_total{channel=\"web\"}          321    20   300",
            "mails_total{worker=\"mailer\",zone=\"us\"}               9",
            "",
            "gauges of the application                        total    w0    w1",
            "arctos_jobs_waiting                               7.50",
            "cache_bytes                                             2.0M  1.0M",
            "",
            "distributions of the application  count   mean    p50    p90    p99",
            "arctos_query_seconds                  4  750ms  667ms  933ms  993ms",
            "reply_chars                           4   12.5",
        ]
    );
}

#[test]
fn a_terminal_cuts_names_and_leaves_workers_out() {
    let shown = lines(PAGE, Some(60));
    assert_eq!(shown[2], "arctos_orders_placed_total{channel=\"web\"}    321    20   300");
    let shown = lines(PAGE, Some(50));
    assert_eq!(shown[2], "arctos_orders_placed_total{channel=\"web\"}      321");
    let shown = lines(PAGE, Some(38));
    assert_eq!(shown[2], "arctos_orders_placed_total{cha…    321");
    assert_eq!(shown.last().unwrap(), "The whole table is 67 columns wide: pipe it to less -S.");
}

#[test]
fn names_of_histograms_are_told_from_names_that_only_look_like_a_part() {
    let page = "\
# TYPE seen_count gauge
seen_count 3
# TYPE seen histogram
seen_bucket{le=\"+Inf\"} 5
seen_sum 10
seen_count{a=\"b\"} 4
";
    let kinds = crate::client::ctl::page::kinds(page);
    assert_eq!(family("seen_count", &kinds), Some("seen_count"));
    assert_eq!(family("seen_bucket", &kinds), Some("seen"));
    assert_eq!(family("seen_other", &kinds), None);
}

#[test]
fn numbers_have_three_digits_or_are_integers() {
    let texts = [0.0, 12.0, -3.0, 0.000_123_4, 12.345, 1234.5, 2e18, f64::INFINITY].map(number);
    assert_eq!(texts, ["0", "12", "-3", "0.000123", "12.3", "1234", "2.00e18", "inf"]);
    let units =
        [("a_seconds", 0.25), ("a_seconds_total", 0.25), ("a_bytes", 2048.0), ("a_bytes", -1.0)];
    let texts = units.map(|(name, value)| value_of(name, value));
    assert_eq!(texts, ["250ms", "250ms", "2.0K", "-1"]);
}
