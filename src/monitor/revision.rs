//! A revision of configuration and code, from which one generation of workers is started.

use crate::config::Config;
use crate::process::launch::Launch;

/// A configuration, and the way to start workers with it.
pub struct Revision {
    /// The configuration of the workers.
    pub config: Config,
    /// Starts the workers, which load the code as it is at that time.
    pub launch: Box<dyn Launch>,
}

/// Reads configuration and code again for a reload. The error is the reason for the log.
pub type ReadRevision<'a> = &'a dyn Fn() -> Result<Revision, String>;
