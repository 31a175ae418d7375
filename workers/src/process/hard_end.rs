//! The hard limit of an exit that no supervisor looks after, whatever the application does meanwhile.
//!
//! A timer of the kernel sends SIGKILL. It works while the process waits for a thread without the interpreter's
//! lock, in C code that never returns, and if the application uses SIGALRM and setitimer(2). Nobody can handle or
//! block its signal, and children do not inherit it (timer_create(2)).

use std::io;
use std::time::Duration;

use nix::sys::signal::{SigEvent, SigevNotify, Signal};
use nix::sys::timer::{Expiration, Timer, TimerSetTimeFlags};
use nix::time::ClockId;

/// Kills this process after `time`, unless it has ended by then.
///
/// Errors: EAGAIN, if the user cannot queue another signal (RLIMIT_SIGPENDING).
pub(crate) fn kill_after(time: Duration) -> io::Result<()> {
    let notify = SigevNotify::SigevSignal { signal: Signal::SIGKILL, si_value: 0 };
    let mut timer = Timer::new(ClockId::CLOCK_MONOTONIC, SigEvent::new(notify))?;
    // A time of 0 would disarm the timer.
    let time = time.max(Duration::from_millis(1));
    timer.set(Expiration::OneShot(time.into()), TimerSetTimeFlags::empty())?;
    std::mem::forget(timer); // Dropping it would disarm it. It ends with the process.
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    use super::*;

    const ROLE: &str = "ARCTOS_TEST_HARD_END";

    /// The process that is killed is another run of this test program.
    #[test]
    fn a_process_that_does_not_end_is_killed() {
        if std::env::var_os(ROLE).is_some() {
            kill_after(Duration::ZERO).unwrap();
            loop {
                std::thread::park();
            }
        }
        let program = std::env::current_exe().unwrap();
        let name = "process::hard_end::tests::a_process_that_does_not_end_is_killed";
        let ended = Command::new(program).args(["--exact", name]).env(ROLE, "1").output().unwrap();
        assert_eq!(ended.status.signal(), Some(Signal::SIGKILL as i32));
    }
}
