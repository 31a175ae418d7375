//! The process that started this one.

use std::io;

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd;

use crate::system::pid::Pid;

/// Asks the kernel for SIGTERM when `parent` ends, or more precisely the thread of it that forked this process. The
/// children of this process do not inherit the request, but a program that it executes does.
///
/// Errors: ESRCH if `parent` has already ended.
/// Source: PR_SET_PDEATHSIG of prctl(2).
pub fn stop_with(parent: Pid) -> io::Result<()> {
    prctl::set_pdeathsig(Signal::SIGTERM)?;
    if unistd::getppid().as_raw() != parent.0 {
        return Err(Errno::ESRCH.into());
    }
    Ok(())
}
