//! Measures what one flush to statsd costs the supervisor, with 64 workers of which each has changed 12
//! counters and finished 30 requests since the previous flush, of all classes of status: nine histograms
//! have new values.
//!
//! Run it with `cargo bench --no-default-features --bench flush`. The agent is a UDP socket on loopback. It
//! is drained between bursts, so that no burst meets a full buffer. All figures are medians. `flush` is the
//! time of all turns of one flush, without the pauses between them. `read` is the part that reads the
//! scoreboard, `send` the time of as many datagrams of the same sizes by bare send(2) and SO_ERROR, and
//! `format` the rest.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark reports on standard output"
)]

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use arctos::emitter::Emitter;
use arctos::metrics::statsd::{Format, Statsd, Target};
use arctos::metrics::{Gauge, Gauges, Totals};
use arctos_worker::shared::identity::{Generation, SlotId};
use arctos_worker::shared::log::Log;
use arctos_worker::shared::scoreboard::{Counter, Scoreboard, Side, StatusClass};

const SLOTS: u16 = 64;
const ROUNDS: usize = 300;
const INTERVAL: Duration = Duration::from_secs(2);
const COUNTERS: [Counter; 12] = [
    Counter::ConnAcceptSuccess,
    Counter::ReqSuccessRead,
    Counter::ReqDone,
    Counter::RespActive,
    Counter::RespDone,
    Counter::RespDoneKeepalive,
    Counter::RespConnClose,
    Counter::RespStatus2xx,
    Counter::RespStatus4xx,
    Counter::BytesIn,
    Counter::BytesOut,
    Counter::ConnCloseIdle,
];

fn main() {
    let scoreboard = Scoreboard::create(SLOTS).unwrap();
    let slots = || (0..SLOTS).map(SlotId);
    for slot in slots() {
        scoreboard.entry(slot, Side::A).unwrap().assign(Generation(1));
    }
    let mut totals = Totals::open(&scoreboard);
    let gauges = Gauges {
        server: vec![(Gauge::WorkersTarget, 64.0), (Gauge::WorkersUtilization, 0.734)],
        workers: slots()
            .flat_map(|slot| {
                [(slot, Gauge::ConnOpen, 12.0), (slot, Gauge::WorkerRss, 31_457_280.0)]
            })
            .collect(),
        has_applications: true,
    };
    let agent = UdpSocket::bind("127.0.0.1:0").unwrap();
    agent.set_nonblocking(true).unwrap();
    let statsd = Statsd {
        target: Target::Udp {
            host: "127.0.0.1".to_owned(),
            port: agent.local_addr().unwrap().port(),
        },
        prefix: "arctos".to_owned(),
        interval: INTERVAL,
        format: Format::Dogstatsd,
        worker_tag: true,
        zone: Some("central-europe".to_owned()),
        tags: vec!["app:my-app".to_owned()],
        external_env: None,
    };
    let start = Instant::now();
    let mut emitter = Emitter::new(statsd, Log::discard(), start);
    let counters = &scoreboard.header().counters;
    let mut now = start;
    let mut drained = Vec::new();
    let mut times = Times::default();
    for _ in 0..ROUNDS {
        work(&scoreboard);
        now += INTERVAL;
        let read = measure(|| totals.read(&scoreboard));
        drained.clear();
        let mut sent = measure(|| emitter.turn(&totals, &gauges, counters, now));
        drain(&agent, &mut drained);
        // The next deadline is that of the next burst, until the flush is complete.
        while emitter.next_deadline() < now + INTERVAL / 2 {
            now = emitter.next_deadline();
            sent += measure(|| emitter.turn(&totals, &gauges, counters, now));
            drain(&agent, &mut drained);
        }
        now = start + INTERVAL * u32::try_from((now - start).as_secs() / 2).unwrap();
        times.read.push(read);
        times.flush.push(read + sent);
        let bare = bare_sends(&agent, &drained);
        times.send.push(bare);
        times.format.push(sent.saturating_sub(bare));
    }
    let bytes: usize = drained.iter().sum();
    println!("{} datagrams, {bytes} bytes", drained.len());
    println!("read    {:6.1} us", median(times.read));
    println!("format  {:6.1} us", median(times.format));
    println!("send    {:6.1} us", median(times.send));
    println!("flush   {:6.1} us in total", median(times.flush));
}

#[derive(Default)]
struct Times {
    read: Vec<Duration>,
    format: Vec<Duration>,
    send: Vec<Duration>,
    flush: Vec<Duration>,
}

/// Does the work of 64 workers in one interval: 30 requests each, with times in 8 buckets.
fn work(scoreboard: &Scoreboard) {
    for slot in (0..SLOTS).map(SlotId) {
        let entry = scoreboard.entry(slot, Side::A).unwrap();
        for (n, counter) in (1..).zip(COUNTERS) {
            entry.counters.add(counter, n * 37);
        }
        for request in 0..30 {
            let class = StatusClass::ALL[request % StatusClass::ALL.len()];
            let time = |us: u64| Duration::from_micros(us << (request % 8));
            entry.requests.duration(class).record(time(900));
            entry.requests.queue.record(time(20));
            entry.requests.application.record(time(800));
            entry.requests.send.record(time(100));
            entry.queue_wait.record(time(10));
        }
    }
}

fn measure(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

/// Receives all waiting datagrams and appends their lengths.
fn drain(agent: &UdpSocket, lengths: &mut Vec<usize>) {
    let mut buffer = [0; 65536];
    while let Ok(n) = agent.recv(&mut buffer) {
        lengths.push(n);
    }
}

/// Measures the system calls alone for datagrams of these lengths.
fn bare_sends(agent: &UdpSocket, lengths: &[usize]) -> Duration {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(agent.local_addr().unwrap()).unwrap();
    let bytes = [b'x'; 1500];
    let mut taken = Duration::ZERO;
    for burst in lengths.chunks(32) {
        taken += measure(|| {
            for length in burst {
                socket.send(&bytes[..*length]).unwrap();
                assert!(socket.take_error().unwrap().is_none());
            }
        });
        drain(agent, &mut Vec::new());
    }
    taken
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1e6
}
