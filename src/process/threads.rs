//! The threads of this process, as /proc lists them.

use std::ffi::OsString;
use std::fs;
use std::io;

/// The names of all threads of this process.
pub fn thread_names() -> io::Result<Vec<String>> {
    Ok(threads()?.into_iter().map(|(_, name)| name).collect())
}

/// The names of all threads except the main one.
pub(crate) fn other_thread_names() -> io::Result<Vec<String>> {
    Ok(without_main(threads()?).into_iter().map(|(_, name)| name).collect())
}

fn without_main(threads: Vec<(OsString, String)>) -> Vec<(OsString, String)> {
    let main = std::process::id().to_string();
    threads.into_iter().filter(|(id, _)| *id != *main).collect()
}

/// The id and name of each thread of this process.
fn threads() -> io::Result<Vec<(OsString, String)>> {
    let mut threads = Vec::new();
    for entry in fs::read_dir("/proc/self/task")? {
        let entry = entry?;
        // A thread that ends while it is listed has lost its name.
        let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        threads.push((entry.file_name(), name.trim_end().to_owned()));
    }
    Ok(threads)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_found_by_name() {
        let (sender, receiver) = std::sync::mpsc::channel::<()>();
        let (named, is_named) = std::sync::mpsc::channel::<()>();
        let wait = move || {
            named.send(()).unwrap();
            let _ = receiver.recv(); // Until the sender is dropped.
        };
        let thread = std::thread::Builder::new().name("stray".into()).spawn(wait).unwrap();
        is_named.recv().unwrap();
        assert!(thread_names().unwrap().contains(&"stray".to_owned()));
        let others = other_thread_names().unwrap();
        assert!(others.contains(&"stray".to_owned()));
        let all = threads().unwrap(); // Read once, because threads of other tests come and go.
        assert_eq!(without_main(all.clone()).len() + 1, all.len(), "all but the main one");
        drop(sender);
        thread.join().unwrap();
    }
}
