//! The service manager's watchdog: WATCHDOG_USEC and WATCHDOG_PID of sd_watchdog_enabled(3).
//!
//! The loop of the supervisor sends a sign of life twice in each interval. It says nothing about the workers: a worker
//! that hangs is killed and replaced, and a server without any ready worker exits by itself after some time.

use std::time::{Duration, Instant};

use crate::system::environment::Environment;

/// The variables of this protocol. They are meant for one process only, like those of
/// [`listen_fds`](crate::system::listen_fds).
pub const VARIABLES: [&str; 2] = ["WATCHDOG_USEC", "WATCHDOG_PID"];

/// The minimum time between two signs of life: the supervisor has other things to do, too.
const MIN_INTERVAL: Duration = Duration::from_millis(10);

/// A variable is meant for this process and is invalid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{name}='{text}': expected a whole number above 0 (sd_watchdog_enabled(3)); the watchdog is off"
)]
pub struct BadWatchdog {
    /// The variable.
    pub name: &'static str,
    /// Its value.
    pub text: String,
}

/// The times at which the service manager expects a sign of life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watchdog {
    interval: Duration,
    next: Instant,
}

impl Watchdog {
    /// Returns the watchdog of the process `pid`; none if the variables are absent or meant for another process.
    ///
    /// Errors: [`BadWatchdog`].
    pub fn of(
        environment: &Environment,
        pid: u32,
        now: Instant,
    ) -> Result<Option<Self>, BadWatchdog> {
        let [usec, meant] = VARIABLES;
        let Some(text) = environment.value(usec) else { return Ok(None) };
        if let Some(meant_pid) = number(environment, meant)?
            && meant_pid != u64::from(pid)
        {
            return Ok(None);
        }
        match number(environment, usec)? {
            // systemd writes "infinity" as the greatest number.
            None | Some(0 | u64::MAX) => {
                Err(BadWatchdog { name: usec, text: text.to_string_lossy().into_owned() })
            }
            Some(usec) => {
                let interval = Duration::from_micros(usec / 2).max(MIN_INTERVAL);
                Ok(Some(Self { interval, next: now }))
            }
        }
    }

    /// The time of the next sign of life.
    pub fn next_deadline(&self) -> Instant {
        self.next
    }

    /// Whether a sign of life is due. The next one is counted from now, so that a late one does not make the next one
    /// early.
    pub fn is_due(&mut self, now: Instant) -> bool {
        let is_due = self.next <= now;
        if is_due {
            self.next = now + self.interval;
        }
        is_due
    }
}

fn number(environment: &Environment, name: &'static str) -> Result<Option<u64>, BadWatchdog> {
    let Some(value) = environment.value(name) else { return Ok(None) };
    let text = value.to_string_lossy().into_owned();
    // Only digits are accepted: Rust parses `+1`, and systemd does not.
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(number) if is_plain => Ok(Some(number)),
        Ok(_) | Err(_) => Err(BadWatchdog { name, text }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(variables: &[(&str, &str)], now: Instant) -> Result<Option<Watchdog>, BadWatchdog> {
        Watchdog::of(&variables.iter().copied().collect(), 42, now)
    }

    #[test]
    fn it_is_due_at_once_and_then_twice_per_interval() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        for pid in [&[][..], &[("WATCHDOG_PID", "42")]] {
            let variables = [&[("WATCHDOG_USEC", "4000000")], pid].concat();
            let mut watchdog = given(&variables, start).unwrap().unwrap();
            assert_eq!(watchdog.next_deadline(), start);
            assert!(watchdog.is_due(start));
            assert!(!watchdog.is_due(start + second));
            assert!(watchdog.is_due(start + 2 * second));
            assert!(watchdog.is_due(start + 9 * second), "late");
            assert_eq!(watchdog.next_deadline(), start + 11 * second);
        }
    }

    #[test]
    fn variables_with_another_pid_are_for_another_process() {
        let now = Instant::now();
        assert_eq!(given(&[("WATCHDOG_USEC", "4000000"), ("WATCHDOG_PID", "41")], now), Ok(None));
        assert_eq!(given(&[("WATCHDOG_USEC", ""), ("WATCHDOG_PID", "42")], now), Ok(None));
        assert_eq!(given(&[("WATCHDOG_PID", "42")], now), Ok(None));
    }

    #[test]
    fn an_invalid_time_is_an_error_that_names_the_variable() {
        let now = Instant::now();
        for text in ["0", "-1", "+1", "30s", "1.5", "18446744073709551615", "18446744073709551616"]
        {
            let error = given(&[("WATCHDOG_USEC", text)], now).unwrap_err();
            assert!(error.to_string().starts_with(&format!("WATCHDOG_USEC='{text}': expected ")));
        }
        let error =
            given(&[("WATCHDOG_USEC", "1000000"), ("WATCHDOG_PID", "me")], now).unwrap_err();
        assert_eq!((error.name, error.text.as_str()), ("WATCHDOG_PID", "me"));
    }

    #[test]
    fn a_very_short_time_is_raised_to_the_minimum_interval() {
        let now = Instant::now();
        let mut watchdog = given(&[("WATCHDOG_USEC", "1")], now).unwrap().unwrap();
        assert!(watchdog.is_due(now));
        assert_eq!(watchdog.next_deadline(), now + MIN_INTERVAL);
    }
}
