use arctos_worker::shared::series::{Area, Naming, OTHER, Row, RowUse, ValueHistogram};

use super::*;

/// Two workers of slot 0, one of slot 1, and the process that imported the application.
const AREAS: [CountedIn; 4] = [Some(SlotId(0)), Some(SlotId(0)), Some(SlotId(1)), None];

struct Server {
    memory: SeriesMemory,
    reader: SeriesReader,
    totals: SeriesTotals,
}

impl Server {
    fn new(limit: u32) -> Self {
        let capacity = Capacity::for_series(limit);
        let memory = SeriesMemory::create(AREAS.len() as u32, capacity).unwrap();
        let reader = SeriesReader::new(memory, AREAS);
        Self { memory, reader, totals: SeriesTotals::new(capacity) }
    }

    fn area(&self, index: u32) -> Area {
        self.memory.area(index).unwrap()
    }

    /// A new row for `orders` with this channel.
    fn row(&self, index: u32, kind: Kind, aggregation: Aggregation, channel: &str) -> &'static Row {
        let description = description(kind, aggregation, channel).encode().unwrap();
        self.area(index).append(&description, RowUse::Series, kind == Kind::Distribution).unwrap()
    }

    fn counter(&self, index: u32, channel: &str) -> &'static Row {
        self.row(index, Kind::Counter, Aggregation::Sum, channel)
    }

    fn read(&mut self) {
        self.totals.clear_gauges();
        self.reader.read(&mut self.totals);
    }

    /// All series by their channel, with what was counted in each place.
    fn sums(&self) -> BTreeMap<String, Vec<(CountedIn, f64)>> {
        let sum = |total: &SeriesTotal| match total {
            SeriesTotal::Sum(sum) => *sum,
            SeriesTotal::Values { sum, .. } => *sum,
        };
        let of = |series: &Series| {
            let totals = series.totals.iter().map(|(place, total)| (*place, sum(total)));
            (series.description.tags[0].1.clone(), totals.collect())
        };
        self.totals.series().map(|(_, series)| of(series)).collect()
    }
}

fn description(kind: Kind, aggregation: Aggregation, channel: &str) -> Description {
    Description {
        kind,
        aggregation,
        naming: Naming::Prefixed,
        family: "orders".into(),
        sample: String::new(),
        tags: vec![("channel".into(), channel.into())],
    }
}

fn by_channel<const N: usize>(
    sums: [(&str, Vec<(CountedIn, f64)>); N],
) -> BTreeMap<String, Vec<(CountedIn, f64)>> {
    sums.into_iter().map(|(channel, sums)| (channel.to_owned(), sums)).collect()
}

#[test]
fn the_rows_of_all_processes_add_up() {
    let mut server = Server::new(10);
    for (index, amount) in [(0, 1.0), (1, 2.0), (2, 4.0), (3, 8.0)] {
        server.counter(index, "web").number.add(amount);
    }
    server.counter(2, "app").number.add(16.0);
    server.counter(2, "app").number.add(32.0);
    server.read();
    server.read();
    let [of_slot_0, of_slot_1] = [0, 1].map(|slot| Some(SlotId(slot)));
    let expected = by_channel([
        ("web", vec![(None, 8.0), (of_slot_0, 3.0), (of_slot_1, 4.0)]),
        ("app", vec![(of_slot_1, 48.0)]),
    ]);
    assert_eq!(server.sums(), expected);
}

#[test]
fn what_a_process_counted_survives_it() {
    let mut server = Server::new(10);
    server.counter(0, "web").number.add(3.0);
    server.reader.retire(0, &mut server.totals).unwrap();
    // The next process has the same row for another series.
    server.counter(0, "app").number.add(5.0);
    server.read();
    server.counter(0, "web").number.add(7.0);
    server.reader.retire(0, &mut server.totals).unwrap();
    server.read();
    let place = Some(SlotId(0));
    let expected = by_channel([("web", vec![(place, 10.0)]), ("app", vec![(place, 5.0)])]);
    assert_eq!(server.sums(), expected);
    assert_eq!(server.area(0).epoch(), 2);
}

#[test]
fn a_gauge_is_what_the_living_processes_make_of_it() {
    for (aggregation, both, second) in [
        (Aggregation::Sum, vec![(None, 5.0)], vec![(None, 2.0)]),
        (Aggregation::Max, vec![(None, 3.0)], vec![(None, 2.0)]),
        (Aggregation::Min, vec![(None, 2.0)], vec![(None, 2.0)]),
        (Aggregation::Last, vec![(None, 3.0)], vec![(None, 2.0)]),
        (
            Aggregation::Each,
            vec![(Some(SlotId(0)), 3.0), (Some(SlotId(1)), 2.0)],
            vec![(Some(SlotId(1)), 2.0)],
        ),
    ] {
        let mut server = Server::new(10);
        for (index, value, set_at) in [(0, 3.0, 20), (2, 2.0, 10)] {
            let row = server.row(index, Kind::Gauge, aggregation, "web");
            row.number.set(value);
            row.set_at.store(set_at, std::sync::atomic::Ordering::Relaxed);
        }
        let gauge = |server: &Server| server.totals.series().next().unwrap().1.gauge();
        server.read();
        assert_eq!(gauge(&server), both, "{aggregation:?}");
        server.reader.retire(0, &mut server.totals).unwrap();
        server.read();
        assert_eq!(gauge(&server), second, "{aggregation:?}");
        server.reader.retire(2, &mut server.totals).unwrap();
        server.read();
        assert_eq!(gauge(&server), [], "{aggregation:?}");
    }
}

#[test]
fn a_distribution_has_the_values_of_all_processes() {
    let mut server = Server::new(10);
    for (index, values) in [(0, [0.5, 0.5]), (1, [0.5, 4.0])] {
        let row = server.row(index, Kind::Distribution, Aggregation::Sum, "web");
        for value in values {
            server.area(index).histogram(row).unwrap().record(value);
        }
        server.read();
    }
    let (_, series) = server.totals.series().next().unwrap();
    let Some(SeriesTotal::Values { sum, buckets }) = series.totals.get(&Some(SlotId(0))) else {
        panic!("no values: {series:?}");
    };
    assert_eq!((buckets.count(), *sum), (4, 5.5));
    let index = |value| ValueHistogram::index_of(value) as u16;
    assert_eq!(buckets.iter().collect::<Vec<_>>(), [(index(0.5), 3), (index(4.0), 1)]);
}

#[test]
fn series_beyond_the_limit_count_as_other() {
    let mut server = Server::new(2);
    // Each process has room for its own, but the server has not.
    for (index, channel) in [(0, "a"), (0, "b"), (2, "c"), (2, "a")] {
        server.counter(index, channel).number.add(1.0);
    }
    server.area(2).refuse();
    server.read();
    assert_eq!(server.reader.take_dropped(), 2, "one of the process, one of the server");
    server.read();
    let [of_slot_0, of_slot_1] = [0, 1].map(|slot| Some(SlotId(slot)));
    let expected = by_channel([
        ("a", vec![(of_slot_0, 1.0), (of_slot_1, 1.0)]),
        ("b", vec![(of_slot_0, 1.0)]),
        ("other", vec![(of_slot_1, 1.0)]),
    ]);
    assert_eq!(server.sums(), expected);
    assert_eq!(server.reader.take_dropped(), 0);
}

/// Each worker defines other metrics, as by names with its pid.
#[test]
fn generated_names_of_metrics_take_bounded_memory() {
    for (kind, sample, tags) in [
        (Kind::Counter, "", &[][..]),
        (Kind::Counter, "", &[("channel", OTHER)]),
        (Kind::HistogramPart, "jobs_bucket", &[("le", "1")]),
        (Kind::Help, "", &[("", "Orders placed")]),
    ] {
        let mut server = Server::new(10);
        let rows = Capacity::for_series(10).rows as usize;
        for worker in 0..rows {
            for metric in 0..3 {
                let tags = tags.iter().map(|(name, value)| ((*name).into(), (*value).into()));
                let description = Description {
                    family: format!("orders.{worker}.{metric}"),
                    sample: sample.into(),
                    tags: tags.collect(),
                    ..description(kind, Aggregation::Sum, "")
                };
                let row =
                    server.area(0).append(&description.encode().unwrap(), RowUse::Other, false);
                row.unwrap().number.add(1.0);
            }
            server.reader.retire(0, &mut server.totals).unwrap();
        }
        let kept = server.totals.series.len() + server.totals.help.len();
        assert!((10..=rows).contains(&kept), "{kept} of {kind:?}");
        let dropped = if kind == Kind::Help { 0 } else { 3 * rows - kept };
        assert_eq!(server.reader.take_dropped(), dropped as u64, "{kind:?}");
    }
}

#[test]
fn metrics_without_tags_have_room_beyond_the_limit() {
    let mut server = Server::new(2);
    for (area, channel) in [(0, "a"), (0, "b"), (2, "c")] {
        server.counter(area, channel).number.add(1.0);
    }
    server.read();
    assert_eq!(server.reader.take_dropped(), 1);
    let untagged =
        Description { tags: Vec::new(), ..description(Kind::Counter, Aggregation::Sum, "") };
    let row = server.area(0).append(&untagged.encode().unwrap(), RowUse::Other, false).unwrap();
    row.number.add(5.0);
    server.read();
    let (_, last) = server.totals.series().last().unwrap();
    assert_eq!((&last.description, last.sum()), (&untagged, SeriesTotal::Sum(5.0)));
    assert_eq!(server.reader.take_dropped(), 0);
}

#[test]
fn the_oldest_series_of_earlier_servers_make_room_for_newer_ones() {
    let mut server = Server::new(3);
    for channel in ["a", "b"] {
        server.counter(0, channel).number.add(1.0);
    }
    server.read();
    let mut before = SeriesTotals::default();
    for channel in ["b", "oldest", "older", OTHER] {
        let of = description(Kind::Counter, Aggregation::Sum, channel);
        before.add_total(&of, None, &SeriesTotal::Sum(1.0));
    }
    assert_eq!(before.make_room_for(&server.totals), 1);
    let left: Vec<_> = before.series().map(|(_, it)| it.description.tags[0].1.as_str()).collect();
    assert_eq!(left, ["b", "older", OTHER]);
    assert_eq!(before.make_room_for(&server.totals), 0);
    server.totals.add(&before, |place| place);
    assert_eq!(server.sums()["b"], [(None, 1.0), (Some(SlotId(0)), 1.0)]);
}

#[test]
fn garbage_changes_no_total() {
    let mut server = Server::new(10);
    let row = server.counter(0, "web");
    row.number.add(3.0);
    server.read();
    for garbage in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, 1e300, 2.0] {
        row.number.set(garbage);
        server.read();
    }
    row.number.add(5.0);
    server.area(0).append(b"no description", RowUse::Series, false).unwrap();
    server.read();
    // 2.0 follows 1e300, so it is no rise.
    assert_eq!(server.sums(), by_channel([("web", vec![(Some(SlotId(0)), 8.0)])]));
}

#[test]
fn a_metric_has_the_help_of_its_family() {
    let mut server = Server::new(10);
    let help = Description {
        kind: Kind::Help,
        tags: vec![(String::new(), "Orders placed".into())],
        ..description(Kind::Counter, Aggregation::Sum, "web")
    };
    server.area(0).append(&help.encode().unwrap(), RowUse::Help, false).unwrap();
    server.read();
    assert_eq!(server.totals.help("orders"), Some("Orders placed"));
    assert_eq!(server.totals.help("others"), None);
}

#[test]
fn totals_survive_the_encoding_and_add_up() {
    let mut server = Server::new(10);
    server.counter(0, "web").number.add(0.1);
    server.counter(3, "web").number.add(1e15);
    let row = server.row(2, Kind::Distribution, Aggregation::Sum, "a b\n");
    for value in [0.5, -3.0, 1e300] {
        server.area(2).histogram(row).unwrap().record(value);
    }
    server.read();
    let mut text = String::new();
    server.totals.encode(&mut text);
    let mut read = SeriesTotals::default();
    for line in text.lines() {
        let mut fields = line.split_ascii_whitespace();
        let kind = fields.next().unwrap();
        assert_eq!(read.decode_line(kind, fields), Some(()), "{line}");
    }
    assert_eq!(read.series, server.totals.series);
    let mut twice = read.clone();
    twice.add(&read, |place| place);
    assert_eq!(twice.series().next().unwrap().1.sum(), SeriesTotal::Sum(2e15 + 0.2));
    twice.subtract(&read);
    assert_eq!(twice.series().next().unwrap().1.totals, read.series().next().unwrap().1.totals);
}

#[test]
fn a_malformed_line_is_refused() {
    for line in [
        "help",
        "help 6",
        "sum",
        "sum x 00 1",
        "sum 0 zz 1",
        "sum 0 010101 x",
        "values 0 00 1 1:1",
        "sum 0 00 1",
        "other 0 00 1",
    ] {
        let mut fields = line.split_ascii_whitespace();
        let kind = fields.next().unwrap();
        assert_eq!(SeriesTotals::default().decode_line(kind, fields), None, "{line}");
    }
}
