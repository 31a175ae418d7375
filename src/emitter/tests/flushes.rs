//! The exact content of flushes.

use proptest::prelude::*;

use super::super::baseline::Baselines;
use super::*;
use crate::metrics::Gauge;
use arctos_worker::shared::scoreboard::StatusClass;

fn lines(statsd: &Statsd, fixture: &mut Fixture, limit_bytes: usize) -> Vec<String> {
    let (totals, gauges) = fixture.read();
    let mut composer = Composer::new(statsd, limit_bytes);
    let datagrams = composer.compose(totals, gauges, &mut Baselines::new());
    let lines = datagrams.iter().flat_map(|datagram| datagram.text.split('\n'));
    lines.map(str::to_owned).collect()
}

/// Two slots with all kinds of metrics.
fn busy() -> Fixture {
    let mut fixture = Fixture::new();
    let [first, second] = [fixture.worker(0), fixture.worker(3)];
    first.counters.add(Counter::ReqDone, 41);
    first.counters.inc(Counter::WorkerRestartsBoot);
    second.counters.add(Counter::ReqDone, 1);
    second.counters.inc(Counter::WorkerRestartsBoot);
    for _ in 0..5 {
        first.requests.duration(StatusClass::Success).record(Duration::from_micros(66_000));
    }
    first.requests.duration(StatusClass::Success).record(Duration::from_micros(16));
    second.requests.duration(StatusClass::Success).record(Duration::from_micros(16));
    second.queue_wait.record(Duration::from_micros(0));
    fixture.counters().inc(Counter::ReloadOk);
    fixture.gauges.server = vec![
        (Gauge::WorkersTarget, 2.0),
        (Gauge::WorkersUtilization, 0.25),
        (Gauge::BacklogLen, f64::NAN),
    ];
    fixture.gauges.workers =
        vec![(SlotId(0), Gauge::ConnOpen, 7.0), (SlotId(3), Gauge::ConnOpen, 5.0)];
    fixture
}

#[test]
fn a_single_slot_without_other_tags_has_its_own_tag() {
    let mut fixture = Fixture::new();
    fixture.worker(0).counters.add(Counter::ReqDone, 3);
    let statsd = Statsd { zone: None, tags: Vec::new(), ..tagged() };
    assert_eq!(lines(&statsd, &mut fixture, 1432), ["arctos.req.done:3|c|#worker:0"]);
}

#[test]
fn slots_have_a_tag_and_the_server_has_none() {
    let expected = "\
arctos.workers.target:2|g|#zone:x,app:y
arctos.workers.utilization:0.25|g|#zone:x,app:y
arctos.conn.open:7|g|#worker:0,zone:x,app:y
arctos.conn.open:5|g|#worker:3,zone:x,app:y
arctos.reload.ok:1|c|#zone:x,app:y
arctos.req.done:41|c|#worker:0,zone:x,app:y
arctos.worker.restarts:1|c|#worker:0,zone:x,app:y,reason:boot
arctos.request.duration:0.0165:67.584|d|#worker:0,zone:x,app:y,status:2xx
arctos.request.duration:67.584|d|@0.25|#worker:0,zone:x,app:y,status:2xx
arctos.req.done:1|c|#worker:3,zone:x,app:y
arctos.worker.restarts:1|c|#worker:3,zone:x,app:y,reason:boot
arctos.request.duration:0.0165|d|#worker:3,zone:x,app:y,status:2xx
arctos.queue.wait:0.0000625|d|#worker:3,zone:x,app:y";
    assert_eq!(lines(&tagged(), &mut busy(), 1432), expected.split('\n').collect::<Vec<_>>());
}

#[test]
fn without_a_tag_per_worker_the_workers_are_summed() {
    let expected = "\
arctos.workers.target:2|g|#zone:x,app:y
arctos.workers.utilization:0.25|g|#zone:x,app:y
arctos.conn.open:12|g|#zone:x,app:y
arctos.req.done:42|c|#zone:x,app:y
arctos.worker.restarts:2|c|#zone:x,app:y,reason:boot
arctos.reload.ok:1|c|#zone:x,app:y
arctos.request.duration:67.584|d|#zone:x,app:y,status:2xx
arctos.request.duration:0.0165|d|@0.5|#zone:x,app:y,status:2xx
arctos.request.duration:67.584|d|@0.25|#zone:x,app:y,status:2xx
arctos.queue.wait:0.0000625|d|#zone:x,app:y";
    let statsd = Statsd { worker_tag: false, ..tagged() };
    assert_eq!(lines(&statsd, &mut busy(), 1432), expected.split('\n').collect::<Vec<_>>());
}

#[test]
fn plain_lines_have_no_tags_and_quantiles_for_distributions() {
    let expected = "\
arctos.workers.target:2|g
arctos.workers.utilization:0.25|g
arctos.conn.open:12|g
arctos.req.done:42|c
arctos.worker.restarts:2|c
arctos.reload.ok:1|c
arctos.request.duration.p50:67.584|g
arctos.request.duration.p90:67.584|g
arctos.request.duration.p99:67.584|g
arctos.request.duration.max:67.584|g
arctos.queue.wait.p50:0.0000625|g
arctos.queue.wait.p90:0.0000625|g
arctos.queue.wait.p99:0.0000625|g
arctos.queue.wait.max:0.0000625|g";
    let statsd = Statsd { format: Format::Plain, external_env: Some("it".into()), ..tagged() };
    assert_eq!(lines(&statsd, &mut busy(), 1432), expected.split('\n').collect::<Vec<_>>());
}

#[test]
fn quantiles_of_plain_statsd_cover_all_statuses() {
    let mut fixture = Fixture::new();
    let times = &fixture.worker(0).requests;
    times.duration(StatusClass::ServerError).record(Duration::from_micros(66_000));
    times.duration(StatusClass::Success).record(Duration::from_micros(16));
    times.duration(StatusClass::None).record(Duration::from_micros(16));
    let statsd = Statsd { format: Format::Plain, ..tagged() };
    let expected = [("p50", "0.0165"), ("p90", "67.584"), ("p99", "67.584"), ("max", "67.584")];
    let expected = expected.map(|(which, ms)| format!("arctos.request.duration.{which}:{ms}|g"));
    let sent = lines(&statsd, &mut fixture, 1432);
    assert_eq!(sent, expected, "{sent:?}");
}

#[test]
fn without_tags_no_line_has_a_tag_section() {
    let statsd = Statsd { worker_tag: false, zone: None, tags: Vec::new(), ..tagged() };
    for line in lines(&statsd, &mut busy(), 1432) {
        let own = line.split_once("|#").map(|(_, tags)| tags);
        assert!(own.is_none_or(|tags| ["reason:boot", "status:2xx"].contains(&tags)), "{line}");
    }
}

#[test]
fn the_external_environment_ends_each_line() {
    let statsd = Statsd { external_env: Some("it-false,cn-web".to_owned()), ..tagged() };
    for line in lines(&statsd, &mut busy(), 1432) {
        assert!(line.ends_with("|e:it-false,cn-web"), "{line}");
    }
}

#[test]
fn a_prefix_is_kept_whole_and_an_empty_one_leaves_no_dot() {
    let mut fixture = Fixture::new();
    fixture.worker(0).counters.inc(Counter::ReqDone);
    let long = "p".repeat(90);
    let statsd = |prefix: &str| Statsd { prefix: prefix.to_owned(), ..plain() };
    assert_eq!(lines(&statsd(""), &mut fixture, 1432), ["req.done:1|c"]);
    assert_eq!(lines(&statsd(&long), &mut fixture, 1432), [format!("{long}.req.done:1|c")]);
}

#[test]
fn of_unchanged_metrics_only_gauges_are_sent() {
    let mut fixture = busy();
    let mut composer = Composer::new(&tagged(), 1432);
    let mut in_flight = InFlight::new();
    let (totals, gauges) = fixture.read();
    in_flight.load(|baselines| composer.compose(totals, gauges, baselines));
    while in_flight.next().is_some() {
        in_flight.accept();
    }
    in_flight.load(|baselines| composer.compose(totals, gauges, baselines));
    let text = in_flight.next().unwrap();
    assert_eq!(text.lines().count(), 4);
    assert!(text.lines().all(|line| line.contains("|g|")), "{text}");
}

#[test]
fn quantiles_cover_the_time_since_the_last_flush() {
    let mut fixture = Fixture::new();
    let worker = fixture.worker(0);
    worker.requests.duration(StatusClass::Success).record(Duration::from_micros(66_000));
    let mut composer = Composer::new(&plain(), 1432);
    let mut baselines = Baselines::new();
    let mut flush = |fixture: &mut Fixture| {
        let (totals, gauges) = fixture.read();
        composer.compose(totals, gauges, &mut baselines)
    };
    let first = flush(&mut fixture);
    assert!(first[0].text.starts_with("arctos.request.duration.p50:67.584|g\n"));
    assert!(first[0].deltas.is_empty());
    assert!(flush(&mut fixture).is_empty());
    worker.requests.duration(StatusClass::Success).record(Duration::from_micros(16));
    assert!(flush(&mut fixture)[0].text.ends_with("arctos.request.duration.max:0.0165|g"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn packed_lines_have_the_exact_bucket_counts_and_keep_the_limit(
        recorded in prop::collection::vec((0..496usize, 1..40u32), 0..300),
        limit in prop::sample::select(vec![512, 1432, 8192]),
    ) {
        let mut fixture = Fixture::new();
        let mut expected = BTreeMap::new();
        for (place, (index, n)) in recorded.into_iter().enumerate() {
            let worker = fixture.worker(place as u16 % 2);
            for _ in 0..n {
                worker.requests.duration(StatusClass::Success).record(arctos_worker::shared::scoreboard::Histogram::bounds(index).start);
            }
            let value = super::super::distribution::value_ms(index).to_string();
            *expected.entry(("arctos.request.duration".to_owned(), value)).or_default() += u64::from(n);
        }
        let (totals, gauges) = fixture.read();
        let datagrams = Composer::new(&tagged(), limit).compose(totals, gauges, &mut Baselines::new());
        for datagram in &datagrams {
            prop_assert!(datagram.text.len() <= limit);
        }
        prop_assert_eq!(expanded(datagrams.iter().flat_map(|one| one.text.lines())), expected);
    }
}
