//! Signal dispositions, read and set by sigaction(2).
#![expect(unsafe_code, reason = "sigaction(2) and signal(2)")]

use std::io;

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{SigHandler, Signal, signal};

/// What the kernel does with a signal, handler and all: to be put back later.
#[derive(Clone, Copy)]
pub struct Action(libc::sigaction);

impl Action {
    /// What it does at present.
    pub fn of(number: Signal) -> io::Result<Self> {
        let mut found = std::mem::MaybeUninit::uninit();
        // SAFETY: a null action changes nothing; the kernel writes the present one to `found`.
        let asked =
            unsafe { libc::sigaction(number as libc::c_int, std::ptr::null(), found.as_mut_ptr()) };
        Errno::result(asked)?;
        // SAFETY: the call succeeded, so it was written.
        Ok(Self(unsafe { found.assume_init() }))
    }

    /// Does it from now on.
    pub fn put(&self, number: Signal) -> io::Result<()> {
        // SAFETY: whoever installed this handler before vouched for it; it was in force in this process.
        let put = unsafe {
            libc::sigaction(number as libc::c_int, &raw const self.0, std::ptr::null_mut())
        };
        Ok(Errno::result(put).map(drop)?)
    }
}

/// What the kernel does with a signal, without a handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// SIG_DFL.
    Default,
    /// SIG_IGN.
    Ignore,
}

/// Replaces whatever handler there is.
pub fn set_disposition(number: Signal, disposition: Disposition) -> io::Result<()> {
    let handler = match disposition {
        Disposition::Default => SigHandler::SigDfl,
        Disposition::Ignore => SigHandler::SigIgn,
    };
    // SAFETY: installs no function, so none can be run at a bad time.
    unsafe { signal(number, handler) }?;
    Ok(())
}
