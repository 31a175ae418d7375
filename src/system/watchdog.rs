//! The service manager's watchdog: WATCHDOG_USEC and WATCHDOG_PID of sd_watchdog_enabled(3).
//!
//! The supervisor says that it is alive as often as its loop turns, twice in the time it is given. That says
//! nothing of the workers: whoever of them hangs is killed and replaced, and a server without any that is
//! ready gives up by itself ([`crate::supervisor::CRASH_LOOP`]).

use std::time::{Duration, Instant};

use crate::system::environment::Environment;

/// Variables of this protocol. They speak to one process only, as those of
/// [`crate::system::listen_fds`].
pub const VARIABLES: [&str; 2] = ["WATCHDOG_USEC", "WATCHDOG_PID"];

/// However little time there is, the supervisor does other things as well.
const SHORTEST_BEAT: Duration = Duration::from_millis(10);

/// A variable is for us and makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{name}='{text}': expected a whole number above 0 (sd_watchdog_enabled(3)); no watchdog is kept"
)]
pub struct BadWatchdog {
    /// Which.
    pub name: &'static str,
    /// What it says.
    pub text: String,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watchdog {
    beat: Duration,
    next: Instant,
}

impl Watchdog {
    /// That of the process `pid`; none where the variables are absent or are for another process.
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
            // As systemd has it: the greatest is "infinity".
            None | Some(0 | u64::MAX) => {
                Err(BadWatchdog { name: usec, text: text.to_string_lossy().into_owned() })
            }
            Some(usec) => {
                let beat = Duration::from_micros(usec / 2).max(SHORTEST_BEAT);
                Ok(Some(Self { beat, next: now }))
            }
        }
    }

    /// When [`Watchdog::is_due`] says yes.
    pub fn next_deadline(&self) -> Instant {
        self.next
    }

    /// Whether to tell the service manager that we are alive. The next time is counted from now, so that
    /// one that came late makes no other one come early.
    pub fn is_due(&mut self, now: Instant) -> bool {
        let is_due = self.next <= now;
        if is_due {
            self.next = now + self.beat;
        }
        is_due
    }
}

fn number(environment: &Environment, name: &'static str) -> Result<Option<u64>, BadWatchdog> {
    let Some(value) = environment.value(name) else { return Ok(None) };
    let text = value.to_string_lossy().into_owned();
    // Digits only: `+1` is a number to Rust and none to systemd.
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
    fn it_is_due_at_once_and_then_twice_in_its_time() {
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
    fn another_process_is_meant_by_another_pid() {
        let now = Instant::now();
        assert_eq!(given(&[("WATCHDOG_USEC", "4000000"), ("WATCHDOG_PID", "41")], now), Ok(None));
        assert_eq!(given(&[("WATCHDOG_USEC", ""), ("WATCHDOG_PID", "42")], now), Ok(None));
        assert_eq!(given(&[("WATCHDOG_PID", "42")], now), Ok(None));
    }

    #[test]
    fn what_is_no_time_is_an_error_that_names_it() {
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
    fn a_time_that_is_hardly_one_leaves_time_for_the_rest() {
        let now = Instant::now();
        let mut watchdog = given(&[("WATCHDOG_USEC", "1")], now).unwrap().unwrap();
        assert!(watchdog.is_due(now));
        assert_eq!(watchdog.next_deadline(), now + SHORTEST_BEAT);
    }
}
