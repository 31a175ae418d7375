//! Signal dispositions, read and set by sigaction(2).
#![expect(unsafe_code, reason = "sigaction(2) and signal(2)")]

use std::io;

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{SigHandler, Signal, signal};

/// The action for a signal, including its handler, to be restored later.
#[derive(Clone, Copy)]
pub struct SignalAction(libc::sigaction);

impl SignalAction {
    /// The current action.
    pub fn of(number: Signal) -> io::Result<Self> {
        // Zeroed, because not every C library writes all fields: musl leaves out `sa_restorer`.
        let mut found = std::mem::MaybeUninit::zeroed();
        // SAFETY: a null action changes nothing; the C library writes the current one to `found`.
        let result =
            unsafe { libc::sigaction(number as libc::c_int, std::ptr::null(), found.as_mut_ptr()) };
        Errno::result(result)?;
        // SAFETY: zeros are a valid action (SIG_DFL), and what the call wrote over them is one, too.
        Ok(Self(unsafe { found.assume_init() }))
    }

    /// Makes this the action for the signal.
    pub fn install(&self, number: Signal) -> io::Result<()> {
        // SAFETY: the action comes from the kernel (`of`), so its handler was installed before, in this process or in
        // the one that it was forked from, by code that answers for what it does at any moment. It is that of the same
        // signal, or signal-hook's, which is the same function for all signals.
        let installed = unsafe {
            libc::sigaction(number as libc::c_int, &raw const self.0, std::ptr::null_mut())
        };
        Ok(Errno::result(installed).map(drop)?)
    }
}

/// A disposition without a handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// SIG_DFL.
    Default,
    /// SIG_IGN.
    Ignore,
}

/// Sets the disposition of a signal, and removes its handler.
pub fn set_disposition(number: Signal, disposition: Disposition) -> io::Result<()> {
    let handler = match disposition {
        Disposition::Default => SigHandler::SigDfl,
        Disposition::Ignore => SigHandler::SigIgn,
    };
    // SAFETY: no function is installed, so none can run at a bad time.
    unsafe { signal(number, handler) }?;
    Ok(())
}
