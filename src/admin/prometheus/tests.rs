use std::collections::{BTreeMap, HashSet};
use std::time::Instant;

use arctos_worker::shared::identity::Generation;
use arctos_worker::shared::scoreboard::{Scoreboard, Side, WorkerEntry};

use super::*;
use crate::metrics::Totals;

/// The page in the text format.
pub(super) fn text(carried: &CarriedTotals, gauges: &Gauges, zone: Option<&str>) -> String {
    page(Format::Text, carried, gauges, zone, &|_, _, _| panic!("this format has none"))
}

/// A scoreboard whose first `workers` slots have a worker, and its totals.
fn with_workers(slots: u16, workers: u16) -> (Scoreboard, Totals) {
    let scoreboard = Scoreboard::create(slots).unwrap();
    let totals = Totals::open(&scoreboard);
    for slot in 0..workers {
        let entry = entry(&scoreboard, slot);
        entry.assign(Generation(1));
        entry.occupy(100 + u32::from(slot));
    }
    (scoreboard, totals)
}

fn entry(scoreboard: &Scoreboard, slot: u16) -> &'static WorkerEntry {
    scoreboard.entry(SlotId(slot), Side::A).unwrap()
}

/// The totals and gauges of two workers with a few counts.
fn small() -> (Totals, Gauges) {
    let (scoreboard, mut totals) = with_workers(2, 2);
    entry(&scoreboard, 0).counters.add(Counter::ConnAcceptSuccess, 12);
    entry(&scoreboard, 1).counters.add(Counter::ConnAcceptSuccess, 3);
    entry(&scoreboard, 1).counters.inc(Counter::WorkerRestartsSignal);
    scoreboard.header().counters.add(Counter::LogDropped, 5);
    for us in [0, 63, 64, 128_000, 2_000_000_000, 4_000_000_000] {
        entry(&scoreboard, 0)
            .requests
            .duration(StatusClass::Success)
            .record(Duration::from_micros(us));
    }
    totals.read(&scoreboard);
    let gauges = Gauges {
        server: vec![(Gauge::WorkersTarget, 2.0), (Gauge::WorkersUtilization, 0.25)],
        workers: vec![
            (SlotId(0), Gauge::ConnOpen, 4.0),
            (SlotId(0), Gauge::WorkerRss, 123_456_789_012.0),
            (SlotId(1), Gauge::ConnOpen, 0.0),
        ],
        has_applications: true,
    };
    (totals, gauges)
}

/// The lines of one family.
fn family(page: &str, name: &str) -> String {
    let is_of_it = |line: &&str| {
        let rest = line.trim_start_matches("# HELP ").trim_start_matches("# TYPE ");
        rest.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ', '_']))
    };
    page.lines().filter(is_of_it).map(|line| format!("{line}\n")).collect()
}

#[test]
fn a_counter_of_workers_has_one_sample_per_slot() {
    let (totals, gauges) = small();
    assert_eq!(
        family(
            &text(&CarriedTotals::of(&totals, None), &gauges, Some("a")),
            "arctos_conn_accept_success_total"
        ),
        "# HELP arctos_conn_accept_success_total Connections accepted.\n\
         # TYPE arctos_conn_accept_success_total counter\n\
         arctos_conn_accept_success_total{worker=\"0\",zone=\"a\"} 12\n\
         arctos_conn_accept_success_total{worker=\"1\",zone=\"a\"} 3\n"
    );
}

#[test]
fn counters_of_one_name_are_one_family_with_reasons() {
    let (totals, gauges) = small();
    assert_eq!(
        family(
            &text(&CarriedTotals::of(&totals, None), &gauges, None),
            "arctos_worker_restarts_total"
        ),
        "# HELP arctos_worker_restarts_total Workers that exited without being asked to.\n\
         # TYPE arctos_worker_restarts_total counter\n\
         arctos_worker_restarts_total{worker=\"0\",reason=\"boot\"} 0\n\
         arctos_worker_restarts_total{worker=\"0\",reason=\"exit\"} 0\n\
         arctos_worker_restarts_total{worker=\"0\",reason=\"signal\"} 0\n\
         arctos_worker_restarts_total{worker=\"0\",reason=\"timeout\"} 0\n\
         arctos_worker_restarts_total{worker=\"0\",reason=\"oom\"} 0\n\
         arctos_worker_restarts_total{worker=\"1\",reason=\"boot\"} 0\n\
         arctos_worker_restarts_total{worker=\"1\",reason=\"exit\"} 0\n\
         arctos_worker_restarts_total{worker=\"1\",reason=\"signal\"} 1\n\
         arctos_worker_restarts_total{worker=\"1\",reason=\"timeout\"} 0\n\
         arctos_worker_restarts_total{worker=\"1\",reason=\"oom\"} 0\n"
    );
}

#[test]
fn a_counter_of_the_supervisor_has_no_worker_label() {
    let (totals, gauges) = small();
    let page = text(&CarriedTotals::of(&totals, None), &gauges, None);
    let samples = |name| {
        let lines = family(&page, name);
        lines.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(samples("arctos_statsd_dropped_total"), ["arctos_statsd_dropped_total 0"]);
    assert_eq!(
        samples("arctos_log_dropped_total"),
        [
            "arctos_log_dropped_total 5",
            "arctos_log_dropped_total{worker=\"0\"} 0",
            "arctos_log_dropped_total{worker=\"1\"} 0"
        ]
    );
}

#[test]
fn a_count_of_an_unexpected_source_is_shown() {
    let (scoreboard, mut totals) = with_workers(1, 1);
    scoreboard.header().counters.inc(Counter::ReqKilled);
    entry(&scoreboard, 0).counters.inc(Counter::ReloadOk);
    totals.read(&scoreboard);
    let page = text(&CarriedTotals::of(&totals, None), &Gauges::default(), Some("z"));
    assert!(page.contains("\narctos_req_killed_total{zone=\"z\"} 1\n"), "{page}");
    assert!(page.contains("\narctos_reload_ok_total{worker=\"0\",zone=\"z\"} 1\n"), "{page}");
}

#[test]
fn gauges_without_a_value_are_left_out() {
    let (totals, gauges) = small();
    let page = text(&CarriedTotals::of(&totals, None), &gauges, Some("a"));
    assert!(
        page.contains("# TYPE arctos_workers_target gauge\narctos_workers_target{zone=\"a\"} 2\n")
    );
    assert!(page.contains("\narctos_workers_utilization{zone=\"a\"} 0.25\n"));
    assert!(page.contains("\narctos_conn_open{worker=\"1\",zone=\"a\"} 0\n"));
    assert!(page.contains("\narctos_worker_rss_bytes{worker=\"0\",zone=\"a\"} 123456789012\n"));
    assert!(!page.contains("backlog"));
}

#[test]
fn a_histogram_of_a_rarer_status_is_written_once_it_has_a_value() {
    let (scoreboard, mut totals) = with_workers(2, 2);
    let failed = entry(&scoreboard, 1).requests.duration(StatusClass::ServerError);
    failed.record(Duration::from_millis(3));
    totals.read(&scoreboard);
    let page = text(&CarriedTotals::of(&totals, None), &Gauges::default(), None);
    let counts = family(&page, "arctos_request_duration_seconds_count");
    assert_eq!(
        counts,
        "arctos_request_duration_seconds_count{worker=\"0\",status=\"2xx\"} 0\n\
         arctos_request_duration_seconds_count{worker=\"1\",status=\"2xx\"} 0\n\
         arctos_request_duration_seconds_count{worker=\"1\",status=\"5xx\"} 1\n"
    );
    let requests = family(&page, "arctos_request_count_total");
    assert_eq!(requests.lines().count(), 2 + 2 * StatusClass::ALL.len(), "{requests}");
}

#[test]
fn a_histogram_is_cumulative_in_seconds() {
    let (totals, gauges) = small();
    let page = text(&CarriedTotals::of(&totals, None), &gauges, None);
    let lines = family(&page, "arctos_request_duration_seconds");
    let of_0: Vec<_> = lines.lines().filter(|line| line.contains("worker=\"0\"")).collect();
    assert_eq!(of_0.len(), 30 + 1 + 2);
    for (line, le, count) in [
        (0, "0.000002", 1),
        (4, "0.000032", 1),
        (5, "0.000064", 2),
        (6, "0.000128", 3),
        (16, "0.131072", 4),
        (29, "1073.741824", 4),
        (30, "+Inf", 6),
    ] {
        let labels = format!("worker=\"0\",status=\"2xx\",le=\"{le}\"");
        let expected = format!("arctos_request_duration_seconds_bucket{{{labels}}} {count}");
        assert_eq!(of_0[line], expected);
    }
    assert_eq!(
        of_0[31],
        "arctos_request_duration_seconds_sum{worker=\"0\",status=\"2xx\"} 6000.128127"
    );
    assert_eq!(of_0[32], "arctos_request_duration_seconds_count{worker=\"0\",status=\"2xx\"} 6");
}

#[test]
fn each_bound_is_the_start_of_a_bucket() {
    let starts: HashSet<_> =
        (0..Histogram::BUCKETS).map(|index| Histogram::bounds(index).start).collect();
    for octave in OCTAVES {
        let bound = Duration::from_micros(1 << octave);
        assert!(starts.contains(&bound));
        assert_eq!(Histogram::bounds(buckets_below(bound)).start, bound);
    }
}

#[test]
fn a_zone_cannot_break_out_of_its_label() {
    let (totals, gauges) = small();
    let page = text(&CarriedTotals::of(&totals, None), &gauges, Some("a\"} 1\n\\x"));
    assert!(page.contains("arctos_workers_target{zone=\"a\\\"} 1\\n\\\\x\"} 2\n"));
    let help = Escaped { text: "a \"b\"\n\\", quotes: false };
    assert_eq!(help.to_string(), "a \"b\"\\n\\\\");
}

#[test]
fn numbers_are_written_in_the_syntax_of_prometheus() {
    let float = |value| Float(value).to_string();
    assert_eq!(float(f64::INFINITY), "+Inf");
    assert_eq!(float(f64::NEG_INFINITY), "-Inf");
    assert_eq!(float(f64::NAN), "NaN");
    assert_eq!(float(1e15), "1000000000000000");
    let seconds = |ns| Seconds(Duration::from_nanos(ns)).to_string();
    assert_eq!(
        (seconds(0), seconds(1), seconds(10_000_000_000)),
        ("0".into(), "0.000000001".into(), "10".into())
    );
}

#[test]
fn openmetrics_has_other_names_of_counters_and_an_end() {
    let (totals, gauges) = small();
    let carried = CarriedTotals::of(&totals, None);
    let open = page(Format::OpenMetrics, &carried, &gauges, Some("a"), &|_, _, _| None);
    assert_eq!(
        family(&open, "arctos_reload_ok"),
        "# HELP arctos_reload_ok Reloads after which the new generation serves.\n\
         # TYPE arctos_reload_ok counter\n\
         arctos_reload_ok_total{zone=\"a\"} 0\n"
    );
    let open = open.strip_suffix("# EOF\n").unwrap();
    let samples = |page: &str| {
        let lines = page.lines().filter(|line| !line.starts_with('#'));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(samples(open), samples(&text(&carried, &gauges, Some("a"))));
}

#[test]
fn a_bucket_has_the_exemplar_of_its_octave() {
    let (scoreboard, mut totals) = with_workers(2, 2);
    let exemplar = |trace, us| Exemplar {
        trace: std::num::NonZeroU128::new(trace).unwrap(),
        duration: Duration::from_micros(us),
        time: Duration::from_micros(1_790_000_000_120_456),
    };
    let (fast, slow) = (exemplar(0x4bf9_2f35, 1500), exemplar(u128::MAX, 1 << 31));
    for (slot, class, exemplar) in
        [(0, StatusClass::Success, fast), (1, StatusClass::ServerError, slow)]
    {
        let entry = entry(&scoreboard, slot);
        entry.requests.duration(class).record(exemplar.duration);
        entry.exemplars.record(class, exemplar);
    }
    totals.read(&scoreboard);
    let carried = CarriedTotals::of(&totals, None);
    let find = |slot, class, octave| scoreboard.exemplar(slot, class, octave);
    let page = page(Format::OpenMetrics, &carried, &Gauges::default(), None, &find);
    let with_exemplars: Vec<_> = page.lines().filter(|line| line.contains(" # ")).collect();
    let bucket = |labels| format!("arctos_request_duration_seconds_bucket{{{labels}}} 1 # ");
    let trace = |id| format!("{{trace_id=\"{id}\"}}");
    assert_eq!(
        with_exemplars,
        [
            bucket("worker=\"0\",status=\"2xx\",le=\"0.002048\"")
                + &trace("0000000000000000000000004bf92f35")
                + " 0.0015 1790000000.12",
            bucket("worker=\"1\",status=\"5xx\",le=\"+Inf\"")
                + &trace(&"f".repeat(32))
                + " 2147.483648 1790000000.12",
        ]
    );
}

#[test]
fn a_slot_has_the_later_exemplar_of_its_two_workers() {
    let (scoreboard, _totals) = with_workers(1, 1);
    let entries = Side::BOTH.map(|side| scoreboard.entry(SlotId(0), side).unwrap());
    for (trace, index, second) in [(1, 0, 10), (2, 1, 30), (3, 0, 20)] {
        let exemplar = Exemplar {
            trace: std::num::NonZeroU128::new(trace).unwrap(),
            duration: Duration::from_millis(1),
            time: Duration::from_secs(second),
        };
        entries[index].exemplars.record(StatusClass::Success, exemplar);
    }
    let octave = Exemplars::octave_of(Duration::from_millis(1));
    let found = scoreboard.exemplar(SlotId(0), StatusClass::Success, octave).unwrap();
    assert_eq!(found.trace.get(), 2);
    assert_eq!(scoreboard.exemplar(SlotId(1), StatusClass::Success, octave), None);
}

/// Whether `text` is the name of a metric.
fn is_name(text: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "_:".contains(c);
    text.starts_with(|c: char| is_part(c) && !c.is_ascii_digit()) && text.chars().all(is_part)
}

/// Parses the labels between braces.
fn read_labels(mut text: &str) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    while !text.is_empty() {
        let (name, rest) = text.split_once("=\"").unwrap();
        assert!(is_name(name) && !name.contains(':'), "{name}");
        let mut is_escaped = false;
        let end = rest.find(|letter| match letter {
            '\\' => {
                is_escaped = !is_escaped;
                false
            }
            '"' if !is_escaped => true,
            _ => {
                is_escaped = false;
                false
            }
        });
        let (value, rest) = rest.split_at(end.unwrap());
        assert!(labels.insert(name.to_owned(), value.to_owned()).is_none(), "{name} twice");
        text = rest[1..].strip_prefix(',').unwrap_or(&rest[1..]);
    }
    labels
}

#[test]
fn every_line_is_valid_and_families_are_contiguous() {
    let (totals, gauges) = small();
    let page = text(&CarriedTotals::of(&totals, None), &gauges, Some("quo\"te, }{=\\"));
    assert!(page.ends_with('\n'));
    let (mut families, mut samples) = (HashSet::new(), HashSet::new());
    let mut current = ("", "");
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, _) = help.split_once(' ').unwrap();
            assert!(families.insert(name), "{name} is not contiguous");
            let kind = lines.next().unwrap().strip_prefix("# TYPE ").unwrap();
            current = kind.split_once(' ').unwrap();
            assert_eq!(current.0, name);
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap();
        assert!(value.parse::<f64>().is_ok(), "{line}");
        assert!(samples.insert(series), "{series} comes twice");
        let (name, labels) = match series.split_once('{') {
            Some((name, labels)) => (name, read_labels(labels.strip_suffix('}').unwrap())),
            None => (series, BTreeMap::new()),
        };
        assert!(is_name(name), "{name}");
        assert_eq!(labels["zone"], "quo\\\"te, }{=\\\\");
        let suffix = name.strip_prefix(current.0).unwrap();
        match current.1 {
            "counter" => assert!(suffix.is_empty() && name.ends_with("_total"), "{line}"),
            "gauge" => assert!(suffix.is_empty(), "{line}"),
            "histogram" => {
                assert!(["_bucket", "_sum", "_count"].contains(&suffix), "{line}");
                assert_eq!(labels.contains_key("le"), suffix == "_bucket");
            }
            other => panic!("{other}"),
        }
    }
    let counters: HashSet<_> = Counter::ALL.into_iter().map(Counter::statsd_name).collect();
    assert_eq!(families.len(), counters.len() + 4 + Distribution::families().count());
}

/// Ignored by default; run it with `cargo test --release -p arctos --no-default-features --lib -- --ignored
/// --nocapture 64_workers`.
#[test]
#[ignore = "a measurement"]
fn how_long_64_workers_take() {
    let (scoreboard, mut totals) = with_workers(64, 64);
    for slot in 0..64 {
        for counter in Counter::ALL {
            entry(&scoreboard, slot).counters.add(counter, 123_456_789);
        }
        for us in 0..100_000 {
            entry(&scoreboard, slot)
                .requests
                .duration(StatusClass::Success)
                .record(Duration::from_micros(us));
        }
    }
    let begun = Instant::now();
    totals.read(&scoreboard);
    let read = begun.elapsed();
    let begun = Instant::now();
    let page = text(&CarriedTotals::of(&totals, None), &Gauges::default(), Some("central-europe"));
    let took = begun.elapsed();
    let text = format!("read {read:?}, text {took:?}, {} bytes\n", page.len());
    std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes()).unwrap();
}
