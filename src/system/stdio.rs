//! Standard input, output and error: there, whatever whoever started us has closed.
//!
//! The kernel gives out the lowest number that is free (open(2)). Started with `2>&-`, the first listener
//! would be descriptor 2, and whatever the application or a library prints would go there.

use std::os::fd::{AsRawFd, IntoRawFd};

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

/// Opens /dev/null at each of the numbers 0 to 2 that is free; for the first moment of a process.
///
/// Errors: what open(2) says of /dev/null.
pub fn fill() -> nix::Result<()> {
    loop {
        // Not close-on-exec, as standard streams are.
        let null = open("/dev/null", OFlag::O_RDWR, Mode::empty())?;
        if null.as_raw_fd() > 2 {
            return Ok(());
        }
        let _ = null.into_raw_fd(); // It stays open for the life of the process.
    }
}
