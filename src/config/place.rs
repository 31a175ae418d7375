//! Defaults that fit the place where a server runs: the platform, the service manager, the limits of the container.
//!
//! Each comes with its [`Reason`], so that `--print-config` and the log can say why a value was chosen. A value that
//! was given for an option always takes precedence.

use std::fmt;
use std::time::Duration;

use super::value::shown_size;
use crate::system::cgroup::Cpus;
use crate::system::duration::shown;
use crate::system::environment::Environment;

/// How long Heroku's router keeps an idle connection to a dyno.
///
/// Source: <https://devcenter.heroku.com/articles/http-routing#keepalives>.
const HEROKU_IDLE: Duration = Duration::from_secs(90);
/// How long Google's front ends, which stand before Cloud Run, keep an idle connection to a backend. It is fixed.
///
/// Source: <https://docs.cloud.google.com/load-balancing/docs/https/request-distribution>.
const GOOGLE_IDLE: Duration = Duration::from_secs(600);

/// The memory that the default number of workers allows for each worker. A worker with a new Django project and its
/// admin site has 50 MiB resident (CPython 3.11, x86_64); the rest is for larger applications and for the replacement
/// of a worker.
const WORKER_BYTES: u64 = 128 << 20;
/// The part of the cgroup's memory that is not for workers: for the supervisor, a zygote, and what the kernel counts for
/// the cgroup, such as socket buffers and the pages of files.
const RESERVED_PART: u64 = 8;
/// A single worker would leave nobody to serve while it is busy.
const MIN_WORKERS: u64 = 2;

/// Why a default was chosen in this place. Its text is the end of a sentence that begins with the value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The configuration file was found in the directory of the start.
    Found,
    /// `DYNO` is set.
    Heroku,
    /// `K_SERVICE` is set.
    CloudRun,
    /// `PORT` is set.
    Port,
    /// Sockets that systemd bound.
    Systemd,
    /// `KUBERNETES_SERVICE_HOST` is set, as in every pod.
    Kubernetes,
    /// One worker for each CPU.
    Cpus(Cpus),
    /// There are fewer CPUs than the minimum number of workers.
    FewCpus(Cpus),
    /// The memory limit of the cgroup allows for fewer workers than the CPUs.
    Memory {
        /// The limit.
        limit_bytes: u64,
    },
    /// Each worker gets an equal part of the cgroup's memory.
    MemoryPart {
        /// The limit of the cgroup.
        limit_bytes: u64,
        /// The workers, without a replacement.
        workers: u16,
    },
    /// There is no limit of which a worker could get a part.
    NoMemoryLimit,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Found => f.write_str("found in the current directory"),
            Self::Heroku => {
                let idle = shown(HEROKU_IDLE);
                write!(f, "DYNO is set, and Heroku's router keeps idle connections for {idle}")
            }
            Self::CloudRun => {
                let idle = shown(GOOGLE_IDLE);
                write!(
                    f,
                    "K_SERVICE is set, and Google's front ends keep idle connections for {idle}"
                )
            }
            Self::Port => f.write_str("PORT is set, and its platform connects from outside"),
            Self::Systemd => f.write_str("systemd passed sockets in LISTEN_FDS"),
            Self::Kubernetes => f.write_str(
                "KUBERNETES_SERVICE_HOST is set, and pods still get connections after SIGTERM",
            ),
            Self::Cpus(cpus) => write!(f, "{}", CpusInWords(*cpus)),
            Self::FewCpus(cpus) => {
                write!(f, "{}, but at least {MIN_WORKERS} workers", CpusInWords(*cpus))
            }
            Self::Memory { limit_bytes } => {
                let (limit, each) = (shown_size(*limit_bytes), shown_size(WORKER_BYTES));
                write!(f, "the cgroup has {limit} of memory, at {each} for each worker")
            }
            Self::MemoryPart { limit_bytes, workers } => {
                let limit = shown_size(*limit_bytes);
                let s = if *workers == 1 { "" } else { "s" };
                write!(
                    f,
                    "the cgroup has {limit} of memory, 1/{RESERVED_PART} of it in reserve, for \
                     {workers} worker{s} and a replacement"
                )
            }
            Self::NoMemoryLimit => f.write_str("off, because the cgroup has no memory limit"),
        }
    }
}

struct CpusInWords(Cpus);

impl fmt::Display for CpusInWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Cpus::Quota { millis } => {
                let decimal = format!("{}.{:03}", millis / 1000, millis % 1000);
                let decimal = decimal.trim_end_matches('0').trim_end_matches('.');
                write!(f, "the cgroup has a quota of {decimal} CPUs")
            }
            Cpus::Affinity { count: 1 } => f.write_str("1 CPU"),
            Cpus::Affinity { count } => write!(f, "{count} CPUs"),
            Cpus::Unknown => f.write_str("an unknown number of CPUs"),
        }
    }
}

/// Returns the default of `--keep-alive` on a platform whose router keeps idle connections for longer than the default
/// elsewhere. The server must not be the first to close one, because a request may already be on its way.
pub(super) fn keep_alive(environment: &Environment) -> Option<(Duration, Reason)> {
    let is_set = |name| environment.value(name).is_some();
    if is_set("DYNO") {
        Some((HEROKU_IDLE + Duration::from_secs(5), Reason::Heroku))
    } else if is_set("K_SERVICE") {
        Some((GOOGLE_IDLE + Duration::from_secs(20), Reason::CloudRun))
    } else {
        None
    }
}

/// Returns the default number of workers: one for each CPU, but at least two, as far as the memory limit allows.
pub(super) fn workers(cpus: Cpus, memory_bytes: Option<u64>) -> (u64, Reason) {
    let wanted = cpus.whole().max(MIN_WORKERS);
    match memory_bytes {
        Some(limit_bytes) if limit_bytes / WORKER_BYTES < wanted => {
            ((limit_bytes / WORKER_BYTES).max(1), Reason::Memory { limit_bytes })
        }
        Some(_) | None if cpus.whole() < MIN_WORKERS => (wanted, Reason::FewCpus(cpus)),
        Some(_) | None => (wanted, Reason::Cpus(cpus)),
    }
}

/// Returns what all workers may have together, in bytes.
pub(super) const fn memory_for_workers(limit_bytes: u64) -> u64 {
    limit_bytes - limit_bytes / RESERVED_PART
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn chosen(cpus: Cpus, memory_mib: Option<u64>) -> (u64, String) {
        let (count, reason) = workers(cpus, memory_mib.map(|mib| mib * MIB));
        (count, reason.to_string())
    }

    #[test]
    fn there_is_a_worker_for_each_cpu_but_at_least_two() {
        let quota = |millis| Cpus::Quota { millis };
        for (cpus, count, reason) in [
            (Cpus::Affinity { count: 8 }, 8, "8 CPUs"),
            (Cpus::Affinity { count: 1 }, 2, "1 CPU, but at least 2 workers"),
            (quota(2500), 3, "the cgroup has a quota of 2.5 CPUs"),
            (quota(4000), 4, "the cgroup has a quota of 4 CPUs"),
            (quota(250), 2, "the cgroup has a quota of 0.25 CPUs, but at least 2 workers"),
            (Cpus::Unknown, 2, "an unknown number of CPUs, but at least 2 workers"),
        ] {
            assert_eq!(chosen(cpus, None), (count, reason.to_owned()));
            assert_eq!(chosen(cpus, Some(64 << 10)), (count, reason.to_owned()));
        }
    }

    #[test]
    fn a_memory_limit_lowers_the_number_of_workers_but_not_to_zero() {
        let cpus = Cpus::Affinity { count: 8 };
        for (memory_mib, count, limit) in
            [(1023, 7, "1023M"), (512, 4, "512M"), (255, 1, "255M"), (64, 1, "64M")]
        {
            let reason = format!("the cgroup has {limit} of memory, at 128M for each worker");
            assert_eq!(chosen(cpus, Some(memory_mib)), (count, reason));
        }
        assert_eq!(chosen(cpus, Some(1024)), (8, "8 CPUs".to_owned()));
        assert_eq!(workers(cpus, Some(0)).0, 1);
    }

    #[test]
    fn keep_alive_is_longer_than_that_of_the_router() {
        let found = |names: &[&str]| {
            let environment = names.iter().map(|name| (*name, "x")).collect();
            keep_alive(&environment).map(|(time, reason)| (shown(time), reason))
        };
        assert_eq!(found(&[]), None);
        assert_eq!(found(&["DYNO"]), Some(("95s".to_owned(), Reason::Heroku)));
        assert_eq!(found(&["K_SERVICE"]), Some(("620s".to_owned(), Reason::CloudRun)));
        const { assert!(HEROKU_IDLE.as_secs() < 95 && GOOGLE_IDLE.as_secs() < 620) }
    }
}
