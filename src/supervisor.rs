//! Placeholder: written in its own step.
