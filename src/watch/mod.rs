//! Watches the files of an application in development, for `--reload`.
//!
//! A helper process does this, because the supervisor must neither wait for the file system nor start a thread:
//!
//! ```text
//! worker ──paths of what it imported──▶ helper process ──messages──▶ supervisor ──▶ the same reload as HUP
//! ```
//!
//! | state of the helper | event | action | next |
//! |---|---|---|---|
//! | Idle | inotify(7), or a scan, shows that a file has changed | | Changing |
//! | Changing | another one | | Changing |
//! | Changing | [`debounce::QUIET`] without one, or [`debounce::MAXIMUM`] since the first | send `changed` | Idle |
//! | any | a worker sends the path of a module or package | watch it, too | the same |
//! | any | inotify(7) is short of watches, with `--reload-engine auto` | send `polling`; scan from now on | the same |
//!
//! | file | owns |
//! |---|---|
//! | [`relevance`] | which directories are searched, and which files count |
//! | [`scan`] | the state of all files that count, and the difference between two states |
//! | [`inotify`] | waking up when something changes |
//! | [`debounce`] | when a burst of changes is over |
//! | [`message`] | what the helper tells the supervisor |
//! | [`helper`] | the loop of the helper process |
//! | [`watcher`] | the supervisor's side: the helper process and its pipes |
//!
//! The crate notify is not used: its recursive watches cannot leave out `node_modules`, and its poller compares times
//! of modification in seconds, so that it misses the second of two edits within one.

pub mod debounce;
pub mod helper;
pub mod inotify;
pub mod message;
pub mod relevance;
pub mod scan;
pub mod watcher;

use std::path::PathBuf;

pub use crate::config::ReloadEngine;
pub use message::Message;
pub use watcher::Watcher;

/// What is watched from the start.
#[derive(Clone, Debug, PartialEq)]
pub struct WatchPlan {
    /// How changes are noticed.
    pub engine: ReloadEngine,
    /// The directory that the application runs in. Messages name files below it by their relative paths.
    pub directory: PathBuf,
    /// Directories whose Python files are watched, and those of their subdirectories.
    pub sources: Vec<PathBuf>,
    /// The time, in seconds since 1970, before which no code was imported. Files that were modified later are changes.
    pub started_at: f64,
    /// Files, and directories all of whose files are watched, whatever they contain.
    pub extra: Vec<PathBuf>,
}
