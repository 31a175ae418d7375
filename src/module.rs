//! The extension module `arctos.arctos`.
use pyo3::prelude::*;

/// The extension module `arctos.arctos`.
#[pymodule]
mod arctos {
    use super::*;

    /// Runs the `arctos` command line on `sys.argv` and returns its exit code.
    #[pyfunction]
    fn main() -> i32 {
        70
    }
}
