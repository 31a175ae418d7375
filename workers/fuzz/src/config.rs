//! The file of `--config`, and what it says for every option.

use std::cell::RefCell;
use std::ffi::OsString;
use std::io::{Seek, SeekFrom, Write};

use arctos::config::Source;
use arctos::config::options::{OPTIONS, Setting};
use arctos::system::environment::Environment;

/// Reads the bytes as a configuration file. Either it is refused with one line that a terminal and a log can show, or
/// every option has a value.
pub fn config(bytes: &[u8]) {
    thread_local! {
        static FILE: RefCell<tempfile::NamedTempFile> =
            RefCell::new(tempfile::NamedTempFile::new().expect("a temporary file"));
    }
    FILE.with_borrow_mut(|file| {
        file.as_file().set_len(0).expect("the file is cleared");
        file.seek(SeekFrom::Start(0)).expect("the file has a start");
        file.write_all(bytes).expect("the file is written");
        let path = OsString::from(file.path());
        read(path);
    });
}

fn read(path: OsString) {
    let given = [(Setting::Config, vec![path])];
    let source = Source::of_command_line(given, Environment::default());
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
