//! The file of `--config`, and what it says for every option.

use std::cell::RefCell;
use std::ffi::OsString;
use std::io::{Seek, SeekFrom, Write};

use arctos::config::Source;
use arctos::config::options::{OPTIONS, Setting};
use tempfile::NamedTempFile;

/// Reads the bytes as a configuration file. Either it is refused with one line that a terminal and a log can show, or
/// every option has a value.
pub fn config(bytes: &[u8]) {
    thread_local! {
        static FILE: RefCell<NamedTempFile> = RefCell::new(new_file());
    }
    FILE.with_borrow_mut(|file| {
        file.as_file().set_len(0).expect("the file is cleared");
        file.seek(SeekFrom::Start(0)).expect("the file has a start");
        file.write_all(bytes).expect("the file is written");
        let path = OsString::from(file.path());
        read(path);
    });
}

/// A file in memory if possible: a disk would take most of the time.
fn new_file() -> NamedTempFile {
    let in_memory = NamedTempFile::new_in("/dev/shm");
    in_memory.or_else(|_| NamedTempFile::new()).expect("a temporary file")
}

fn read(path: OsString) {
    let given = [(Setting::Config, vec![path])];
    // Otherwise, six files say how many processors there are.
    let environment = [("WEB_CONCURRENCY", "3")].into_iter().collect();
    let source = Source::of_command_line(given, environment);
    match source.expect("there is a current directory").resolve() {
        Ok(resolved) => {
            assert_eq!(resolved.effective.len(), OPTIONS.len());
            assert_eq!(resolved.print().lines().count(), OPTIONS.len());
        }
        Err(error) => {
            let text = error.to_string();
            assert!(!text.is_empty());
            assert!(!text.chars().any(|letter| letter.is_control()), "{text:?}");
        }
    }
}
