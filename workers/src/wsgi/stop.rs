//! Ends a server without a supervisor from another thread. In a thread that is not the main one, signal handlers do not
//! run, so nothing else could end it.
//!
//! | requested | bell | `set` |
//! |---|---|---|
//! | no | none: nothing serves yet | is noted; the server ends as soon as it begins |
//! | no | of the server | is noted, and wakes the event loop |
//! | yes | any | changes nothing |

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::prelude::*;

/// Ends the server that it was given to, as the first Ctrl-C does.
#[pyclass(frozen, module = "arctos.arctos")]
#[derive(Default)]
pub struct Stop {
    requested: Arc<AtomicBool>,
    bell: Mutex<Option<UnixStream>>,
}

#[pymethods]
impl Stop {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    /// Lets the server end. A running request may finish. May be called in any thread, and before the server begins.
    fn set(&self) {
        if !self.requested.swap(true, Ordering::Relaxed) {
            self.ring();
        }
    }
}

impl Stop {
    /// Lets [`Stop::set`] wake an event loop through the writing end of its doorbell. Returns whether it was called.
    pub(super) fn connect(&self, bell: UnixStream) -> Arc<AtomicBool> {
        *self.bell.lock().unwrap_or_else(PoisonError::into_inner) = Some(bell);
        if self.requested.load(Ordering::Relaxed) {
            self.ring();
        }
        Arc::clone(&self.requested)
    }

    fn ring(&self) {
        if let Some(bell) = self.bell.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            // No signal has the number 0. If the doorbell is full, it has been rung, and if it is closed, nothing serves.
            let _ = bell.write(&[0]);
        }
    }
}
