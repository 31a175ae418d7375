//! What the supervisor and its workers share: identities, the log, the scoreboard, the table of shared
//! connections, and system calls on descriptors.
pub mod connection_table;
pub mod fd;
pub mod identity;
pub mod log;
pub mod path_info;
pub mod request_key;
pub mod samples;
pub mod scoreboard;
pub mod series;
mod shared_memory;
pub mod socket_name;
