//! Clients of a running server's admin socket: `arctos ctl`, `arctos top`, and the application in a worker.
pub mod ctl;
pub mod own_server;
pub mod top;
