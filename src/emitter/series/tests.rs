use arctos_worker::shared::identity::SlotId;
use arctos_worker::shared::scoreboard::{Scoreboard, Side};
use arctos_worker::shared::series::{Aggregation, Area, Row, RowUse};
use proptest::prelude::*;

use super::super::baseline::Baselines;
use super::super::compose::Composer;
use super::super::in_flight::InFlight;
use super::super::tests::{plain, tagged};
use super::super::unsent::unsent;
use super::*;
use crate::metrics::statsd::Statsd;
use crate::metrics::{CarriedTotals, Gauges, Totals};

const LIMIT: usize = 1432;

struct Server {
    scoreboard: Scoreboard,
    totals: Totals,
}

impl Server {
    fn new() -> Self {
        let mut scoreboard = Scoreboard::create(3).unwrap();
        scoreboard.add_series(20).unwrap();
        let totals = Totals::open(&scoreboard);
        Self { scoreboard, totals }
    }

    fn area(&self, slot: u16) -> Area {
        self.scoreboard.area(Scoreboard::worker_area(SlotId(slot), Side::A)).unwrap()
    }

    fn row(&self, slot: u16, kind: Kind, naming: Naming, tags: &[(&str, &str)]) -> &'static Row {
        let tags = tags.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let description = Description {
            kind,
            aggregation: Aggregation::Sum,
            naming,
            family: "orders".into(),
            sample: String::new(),
            tags: tags.collect(),
        };
        let description = description.encode().unwrap();
        self.area(slot).append(&description, RowUse::Series, kind == Kind::Distribution).unwrap()
    }

    fn read(&mut self) -> &Totals {
        self.totals.read(&self.scoreboard);
        &self.totals
    }
}

/// The lines of the first flush that are the application's.
fn lines(statsd: &Statsd, server: &mut Server, limit: usize) -> Vec<String> {
    let gauges = Gauges { has_applications: true, ..Gauges::default() };
    let mut composer = Composer::new(statsd, limit);
    let datagrams = composer.compose(server.read(), &gauges, &mut Baselines::new());
    let all: Vec<_> = datagrams.iter().flat_map(|it| it.text.lines().map(str::to_owned)).collect();
    all.into_iter().filter(|line| line.starts_with("arctos.orders")).collect()
}

const ODD: &[(&str, &str)] = &[("channel", "a,b|c#d:e\n"), ("city", "Zürich 1.5"), ("empty", "")];

#[test]
fn a_line_has_the_tags_of_the_worker_of_the_series_and_of_every_line() {
    let mut server = Server::new();
    server.row(1, Kind::Counter, Naming::Prefixed, ODD).number.add(0.5);
    assert_eq!(
        lines(&tagged(), &mut server, LIMIT),
        ["arctos.orders:0.5|c|#worker:1,channel:a_b_c_d:e_,city:Zürich 1.5,empty:_,zone:x,app:y"]
    );
}

#[test]
fn without_tags_their_values_are_parts_of_the_name() {
    let mut server = Server::new();
    for slot in [0, 2] {
        server.row(slot, Kind::Counter, Naming::Prefixed, ODD).number.add(2.0);
    }
    let name = "arctos.orders.a_b_c_d_e_.Z_rich_1_5._";
    assert_eq!(lines(&plain(), &mut server, LIMIT), [format!("{name}:4|c")]);
}

#[test]
fn a_gauge_is_one_value_and_not_a_change_of_it() {
    let mut server = Server::new();
    for slot in [0, 1] {
        server.row(slot, Kind::Gauge, Naming::Prefixed, &[]).number.set(-1.5);
    }
    assert_eq!(lines(&plain(), &mut server, LIMIT), ["arctos.orders:0|g", "arctos.orders:-3|g"]);
    assert_eq!(lines(&tagged(), &mut server, LIMIT), ["arctos.orders:-3|g|#zone:x,app:y"]);
}

#[test]
fn a_distribution_has_its_values_bit_by_bit_and_no_line_is_too_long() {
    let mut server = Server::new();
    let row = server.row(0, Kind::Distribution, Naming::Prefixed, &[]);
    let histogram = server.area(0).histogram(row).unwrap();
    for value in [0.0, 1.0, 1.0, 1.0, 1e300] {
        histogram.record(value);
    }
    let tags = "|#worker:0,zone:x,app:y";
    assert_eq!(
        lines(&tagged(), &mut server, LIMIT),
        [
            format!("arctos.orders:0:1.03125:17042400000000|d{tags}"),
            format!("arctos.orders:1.03125|d|@0.5{tags}"),
        ]
    );
    for line in lines(&tagged(), &mut server, 60) {
        assert!(line.len() <= 60, "{line}");
    }
    assert_eq!(
        lines(&plain(), &mut server, LIMIT),
        [
            "arctos.orders.p50:1.03125|g",
            "arctos.orders.p90:17042400000000|g",
            "arctos.orders.p99:17042400000000|g",
            "arctos.orders.max:17042400000000|g",
        ]
    );
}

#[test]
fn metrics_of_libraries_for_prometheus_are_not_sent() {
    let mut server = Server::new();
    server.row(0, Kind::Counter, Naming::Verbatim, &[]).number.add(1.0);
    assert_eq!(lines(&tagged(), &mut server, LIMIT), [""; 0]);
}

/// What happens to a flush.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Arrives,
    CutAfter(usize),
    LostAfter(usize),
}

proptest! {
    /// Whatever is refused, lost or left to the successor: what arrives adds up to what was counted.
    #[test]
    fn nothing_is_lost_and_nothing_arrives_twice(
        history in prop::collection::vec(
            (
                prop::collection::vec((0..3u16, 0..2usize, 1..50u32), 0..20),
                prop_oneof![
                    Just(Fate::Arrives),
                    (0..4usize).prop_map(Fate::CutAfter),
                    (0..4usize).prop_map(Fate::LostAfter),
                ],
            ),
            1..8,
        ),
        is_tagged in any::<bool>(),
    ) {
        let statsd = if is_tagged { tagged() } else { plain() };
        let mut server = Server::new();
        let rows: Vec<_> = (0..3)
            .map(|slot| ["web", "app"].map(|it| {
                server.row(slot, Kind::Counter, Naming::Prefixed, &[("channel", it)])
            }))
            .collect();
        let (mut composer, mut in_flight) = (Composer::new(&statsd, 70), InFlight::new());
        let (mut counted, mut arrived) = (0, 0.0);
        for (rises, fate) in history {
            for (slot, channel, n) in rises {
                // Quarters are exact, and their text has a point.
                rows[usize::from(slot)][channel].number.add(f64::from(n) / 4.0);
                counted += n;
            }
            let totals = server.read();
            in_flight.load(|baselines| composer.compose(totals, &Gauges::default(), baselines));
            let accepted = match fate {
                Fate::Arrives => usize::MAX,
                Fate::CutAfter(count) | Fate::LostAfter(count) => count,
            };
            let (mut sum, mut sent) = (0.0, 0);
            while let Some(text) = in_flight.next().filter(|_| sent < accepted) {
                for line in text.lines() {
                    sum += line.split_once(':').unwrap().1.split_once('|').unwrap().0.parse::<f64>().unwrap();
                }
                in_flight.accept();
                sent += 1;
            }
            in_flight.discard();
            match fate {
                Fate::LostAfter(_) => {
                    in_flight.roll_back();
                }
                Fate::Arrives | Fate::CutAfter(_) => arrived += sum,
            }
        }
        let totals = server.read();
        let left = unsent(totals, in_flight.baselines_mut(), is_tagged);
        let sum = |carried: &CarriedTotals| -> f64 {
            carried.series().series().map(|(_, it)| match it.sum() {
                SeriesTotal::Sum(sum) => sum,
                SeriesTotal::Values { .. } => 0.0,
            }).sum()
        };
        let counted = f64::from(counted) / 4.0;
        prop_assert_eq!(arrived + sum(&left), counted);
        let mut sent = CarriedTotals::of(totals, None);
        prop_assert_eq!(sum(&sent), counted);
        sent.subtract(&left);
        prop_assert_eq!(sum(&sent), arrived);
    }
}
