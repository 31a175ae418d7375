//! The tools of `scripts/bench`: a load generator that costs less than any server, a floor server that no real server
//! can beat, and a receiver of metrics. They are an example of the package, so that they are not part of the product.

mod floor;
mod generator;
mod histogram;
mod response;
mod sink;
mod workload;

use std::fs;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::Pid;

use generator::{Extent, Report, Waiting};
use response::Size;
use workload::{Kind, Workload};

/// Generates load for HTTP servers on 127.0.0.1.
#[derive(Parser)]
struct CommandLine {
    /// CPU to run on.
    #[arg(long, global = true)]
    cpu: Option<usize>,
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Sends requests and prints the results as JSON.
    Send(Send),
    /// Serves a fixed response without parsing the requests.
    Floor(floor::Options),
    /// Receives and counts statsd datagrams.
    Sink(sink::Options),
}

#[derive(Args)]
struct Send {
    /// Port of 127.0.0.1 to connect to.
    #[arg(long)]
    port: u16,
    /// Predefined requests to send.
    #[arg(long, value_enum, default_value = "hello")]
    kind: Kind,
    /// File with a request to send, exactly as it goes over the wire.
    #[arg(long, conflicts_with = "kind")]
    request_file: Option<PathBuf>,
    /// Number of concurrent connections.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..))]
    connections: u16,
    /// Sleep until there is an event, as a proxy on the same host does. Without this, poll without a pause: a server pays
    /// for each response that wakes a sleeping client.
    #[arg(long)]
    sleep: bool,
    /// Duration of the measurement.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Duration of the load before the measurement.
    #[arg(long, default_value_t = 0.2)]
    warm_up: f64,
    /// Send exactly N requests instead, and count all of them.
    #[arg(long)]
    requests: Option<u64>,
}

fn main() -> ExitCode {
    let command_line = CommandLine::parse();
    let done = prepare(command_line.cpu).and_then(|()| match &command_line.task {
        Task::Send(options) => send(options),
        Task::Floor(options) => floor::run(options),
        Task::Sink(options) => sink::run(options),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Ignored: if standard error is closed, the exit code still reports the failure.
            let _ = writeln!(io::stderr(), "load: {error}");
            ExitCode::FAILURE
        }
    }
}

fn prepare(cpu: Option<usize>) -> io::Result<()> {
    if let Some(cpu) = cpu {
        let mut cpus = CpuSet::new();
        cpus.set(cpu)?;
        sched_setaffinity(Pid::from_raw(0), &cpus)?;
    }
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, most, most)?)
}

fn send(options: &Send) -> io::Result<()> {
    let server = SocketAddr::from((Ipv4Addr::LOCALHOST, options.port));
    let workload = match &options.request_file {
        Some(file) => Workload::repeated(fs::read(file)?),
        None => Workload::of(options.kind),
    };
    let seconds = |seconds| Duration::try_from_secs_f64(seconds).map_err(io::Error::other);
    let extent = match options.requests {
        Some(count) => Extent::Requests(count),
        None => {
            Extent::Time { warm_up: seconds(options.warm_up)?, measured: seconds(options.seconds)? }
        }
    };
    let size = response::learn(server, workload.first_request())?;
    let waiting = if options.sleep { Waiting::Sleeping } else { Waiting::Polling };
    let how = (extent, waiting);
    let report = generator::run(server, &workload, options.connections.into(), how, size)?;
    writeln!(io::stdout(), "{}", json(&report, &workload, size))
}

fn json(report: &Report, workload: &Workload, size: Size) -> String {
    let us = |latency: Duration| latency.as_nanos() as f64 / 1e3;
    let fields = [
        ("requests", report.requests as f64),
        ("seconds", report.measured.as_secs_f64()),
        ("requests_in_all", report.requests_in_all as f64),
        ("errors", report.errors as f64),
        ("unanswered", report.unanswered as f64),
        ("busy_seconds", report.busy.as_secs_f64()),
        ("latency_p50_us", us(report.latencies.quantile(0.5))),
        ("latency_p99_us", us(report.latencies.quantile(0.99))),
        ("latency_max_us", us(report.latencies.maximum())),
        ("request_bytes", workload.request_bytes() as f64),
        ("response_bytes", size.wire_bytes as f64),
        ("body_bytes", size.body_bytes as f64),
    ];
    let fields = fields.map(|(name, value)| format!("\"{name}\": {value}"));
    format!("{{{}}}", fields.join(", "))
}
