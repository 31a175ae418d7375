//! What the supervisor and its workers share: identities, the log, the scoreboard, and system calls on descriptors.
pub mod fd;
pub mod identity;
pub mod log;
pub mod scoreboard;
pub mod socket_name;
