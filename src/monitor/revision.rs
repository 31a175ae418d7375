//! A revision of configuration and code: what one generation of workers is made of.

use crate::config::Config;
use crate::process::launch::Launch;

/// A configuration, and what starts workers of it.
pub struct Revision {
    /// The configuration.
    pub config: Config,
    /// Starts its workers. It loads the code as it is then.
    pub launch: Box<dyn Launch>,
}

/// Reads configuration and code again, for a reload. An error says for the log why that is not possible.
pub type ReadRevision<'a> = &'a dyn Fn() -> Result<Revision, String>;
