//! Measures what counting costs: a counter and a histogram on a real scoreboard, and a request of a route.
//!
//! `cargo bench -p arctos-worker --no-default-features --bench count`. This does not use criterion, because a few
//! numbers need no statistics beyond a median.

use std::hint::black_box;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use arctos_worker::event_loop::routes::Routes;
use arctos_worker::shared::identity::SlotId;
use arctos_worker::shared::scoreboard::{Counter, Scoreboard, Side, StatusClass};

const ROUNDS: usize = 101;
const COUNTS: u32 = 1_000_000;

fn main() -> io::Result<()> {
    let scoreboard = Scoreboard::create(1)?;
    let entry = scoreboard.entry(SlotId(0), Side::A).ok_or(io::ErrorKind::NotFound)?;
    let counters = black_box(&entry.counters);
    // Different counters, as in a request. The same one again and again would wait for its own store.
    let request = [
        Counter::BytesIn,
        Counter::ReqSuccessRead,
        Counter::ReqDone,
        Counter::RespStatus2xx,
        Counter::BytesOut,
        Counter::RespDone,
        Counter::RespDoneKeepalive,
        Counter::ConnAcceptSuccess,
    ];
    let count_ns =
        median_ns(|index| counters.inc(black_box(request[index as usize % request.len()])));
    let same_ns = median_ns(|_| counters.inc(black_box(Counter::ReqDone)));
    let durations: [Duration; 8] =
        [90, 140, 110, 3_000, 95, 250_000, 120, 700].map(Duration::from_micros);
    let histogram = black_box(entry.requests.duration(StatusClass::Success));
    let record_ns =
        median_ns(|index| histogram.record(black_box(durations[index as usize % durations.len()])));
    let names: Vec<_> = (0..100).map(|number| format!("/shop/{number}/{{id}}")).collect();
    let route_ns = |names: &[String]| {
        let mut routes = Routes::default();
        median_ns(|index| {
            let name = black_box(&names[index as usize % names.len()]);
            let duration = black_box(durations[index as usize % durations.len()]);
            if let Some(route) = routes.number(name) {
                routes.record(route, StatusClass::Success, duration);
            }
        })
    };
    let (one_route_ns, routes_ns) = (route_ns(&names[..1]), route_ns(&names));
    let nothing_ns = median_ns(|index| {
        black_box(request[index as usize % request.len()]);
    });
    let mut out = io::stdout();
    writeln!(
        out,
        "counters.inc            {count_ns:6.2} ns  (target: 1 ns above the empty loop)"
    )?;
    writeln!(out, "counters.inc, same one  {same_ns:6.2} ns")?;
    writeln!(out, "histogram.record        {record_ns:6.2} ns")?;
    writeln!(out, "one route               {one_route_ns:6.2} ns")?;
    writeln!(out, "one of 100 routes       {routes_ns:6.2} ns")?;
    writeln!(out, "empty loop              {nothing_ns:6.2} ns  (in each of the above)")
}

/// The median duration of one call over all rounds.
fn median_ns(mut call: impl FnMut(u32)) -> f64 {
    let mut rounds = [0.0; ROUNDS];
    for round in &mut rounds {
        let start = Instant::now();
        for index in 0..COUNTS {
            call(index);
        }
        *round = start.elapsed().as_secs_f64() * 1e9 / f64::from(COUNTS);
    }
    rounds.sort_by(f64::total_cmp);
    rounds[ROUNDS / 2]
}
