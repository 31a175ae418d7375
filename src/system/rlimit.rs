//! The limit of open descriptors (RLIMIT_NOFILE).

use arctos_worker::settings::Limits;
use arctos_worker::shared::fd;
use arctos_worker::shared::log::{Level, Log, Value};
use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};

/// Raises the soft limit of open descriptors to the hard limit, and returns it.
///
/// Each connection needs a descriptor, and the usual soft limit of 1024 exists for select(2), which nothing here uses.
/// This is called once at the start, because workers inherit the limit.
///
/// Errors: those of getrlimit(2) and setrlimit(2); the limit is then unchanged.
pub fn raise_nofile() -> nix::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(hard)
}

/// Warns if a worker may not open enough descriptors for the connections of `--max-connections`.
pub fn warn_of_connections(limits: &Limits, log: &Log) {
    let descriptors = fd::descriptor_limit();
    let possible = limits.connections_within(descriptors);
    if possible < limits.connections {
        let number = |number: u64| Value::Number(i64::try_from(number).unwrap_or(i64::MAX));
        let pairs = [
            ("max_connections", number(limits.connections as u64)),
            ("connections", number(possible as u64)),
            ("descriptors", number(descriptors)),
            ("reason", Value::Text(TOO_FEW)),
        ];
        log.line(Level::Warning, "server.connections_limited", &pairs);
    }
}

const TOO_FEW: &str = "each worker holds fewer connections than --max-connections, because it may not open \
                       enough descriptors; raise the hard limit (ulimit -Hn, systemd's LimitNOFILE=)";

/// The limit of open descriptors that a program had before a server raised it.
pub struct DescriptorLimit {
    soft: rlim_t,
    hard: rlim_t,
}

impl DescriptorLimit {
    /// Reads the current limit.
    pub fn save() -> nix::Result<Self> {
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
        Ok(Self { soft, hard })
    }

    /// Restores the limit.
    pub fn restore(&self) -> nix::Result<()> {
        setrlimit(Resource::RLIMIT_NOFILE, self.soft, self.hard)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_becomes_the_hard_one_and_is_restored() {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        setrlimit(Resource::RLIMIT_NOFILE, hard.min(512), hard).unwrap();
        let before = DescriptorLimit::save().unwrap();
        assert_eq!(raise_nofile(), Ok(hard));
        assert_eq!(getrlimit(Resource::RLIMIT_NOFILE), Ok((hard, hard)));
        before.restore().unwrap();
        assert_eq!(getrlimit(Resource::RLIMIT_NOFILE), Ok((hard.min(512), hard)));
    }
}
