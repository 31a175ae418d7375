use std::collections::HashSet;

use super::*;

#[test]
fn a_prometheus_name_ends_with_its_kind_or_unit() {
    assert_eq!(counter_prometheus_name(Counter::BytesIn), "arctos_bytes_in_total");
    assert_eq!(counter_prometheus_name(Counter::RespStatus2xx), "arctos_resp_status_2xx_total");
    assert_eq!(Gauge::WorkersReady.prometheus_name(), "arctos_workers_ready");
    assert_eq!(Gauge::WorkerRss.prometheus_name(), "arctos_worker_rss_bytes");
    let names: Vec<_> =
        Distribution::families().map(|family| family[0].prometheus_name()).collect();
    assert_eq!(
        names,
        [
            "arctos_request_duration_seconds",
            "arctos_request_queue_seconds",
            "arctos_request_application_seconds",
            "arctos_request_send_seconds",
            "arctos_queue_wait_seconds"
        ]
    );
}

#[test]
fn prometheus_names_are_unique_except_for_tags() {
    let mut names = HashSet::new();
    for counter in Counter::ALL {
        let is_new = names.insert(counter_prometheus_name(counter));
        assert!(is_new || counter.tag().is_some(), "{}", counter.statsd_name());
    }
    let gauges = Gauge::ALL.map(Gauge::prometheus_name);
    for name in
        gauges.into_iter().chain(Distribution::families().map(|family| family[0].prometheus_name()))
    {
        assert!(names.insert(name.clone()), "{name}");
    }
}
