//! Clients of a running server's admin socket: `arctos ctl` and `arctos top`.
pub mod ctl;
pub mod top;
