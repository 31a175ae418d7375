//! Standard input, output and error, which must be open even if the parent process closed them.
//!
//! open(2) returns the lowest free number. In a server that is started with `2>&-`, the first listener would be
//! descriptor 2, and everything that the application or a library prints would go there.

use std::os::fd::{AsRawFd, IntoRawFd};

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

/// Opens /dev/null at each free number from 0 to 2. To be called before a process opens anything else.
///
/// Errors: those of open(2) for /dev/null.
pub fn fill() -> nix::Result<()> {
    loop {
        // Standard streams are not close-on-exec.
        let null = open("/dev/null", OFlag::O_RDWR, Mode::empty())?;
        if null.as_raw_fd() > 2 {
            return Ok(());
        }
        let _ = null.into_raw_fd(); // It stays open for the life of the process.
    }
}
