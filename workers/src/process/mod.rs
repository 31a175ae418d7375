//! The worker as a process: its signals, its forks, its supervisor, and the hard limit of its exit.
pub mod fork_guard;
pub mod hard_end;
pub mod heap;
pub mod passed_connection;
pub mod signals;
pub mod stack_sampler;
pub mod supervisor_process;
