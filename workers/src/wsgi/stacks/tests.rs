use std::fs::OpenOptions;
use std::io::Read;

use super::*;
use crate::shared::log::LogFormat;
use crate::wsgi::tests::harness::{readable_log, run, text_of};

fn ask(py: Python<'_>) {
    let source = "import signal
def at_work():
    signal.raise_signal(signal.SIGUSR2)
at_work()
";
    run(py, source);
}

fn unregister(py: Python<'_>) {
    run(py, "import faulthandler, signal\nfaulthandler.unregister(signal.SIGUSR2)");
}

/// This is one test, because the process has one handler.
#[test]
fn stacks_are_dumped_even_after_something_else_took_the_signal() {
    Python::initialize();
    Python::attach(|py| {
        let (log, file) = readable_log();
        let shown_count = || text_of(&file).matches("in at_work").count();
        let stacks = Stacks::install(py, &log);
        ask(py);
        assert_eq!(shown_count(), 1, "{}", text_of(&file));
        stacks.reinstall(py, &log);
        assert!(!text_of(&file).contains("worker."), "nothing was replaced");

        let stacks = Stacks::install(py, &log);
        unregister(py);
        stacks.reinstall(py, &log);
        assert!(text_of(&file).contains("worker.signal_handler_replaced signal=SIGUSR2"));
        ask(py);
        assert_eq!(shown_count(), 2);

        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let log = Log::new(Level::Debug, LogFormat::Text, full.into());
        Stacks::install(py, &log).reinstall(py, &log);
        ask(py); // We live.
        unregister(py);

        let (mut reader, writer) = std::io::pipe().unwrap();
        let (plain, file) = readable_log();
        let log = plain.with_stacks_pipe(Some(writer.into()));
        Stacks::install(py, &log).reinstall(py, &log);
        ask(py);
        let mut shown = [0; 4096];
        let count = reader.read(&mut shown).unwrap();
        assert!(String::from_utf8_lossy(&shown[..count]).contains("most recent call first"));
        assert_eq!(text_of(&file), "", "the supervisor logs what comes out of the pipe");
        unregister(py);

        let log = Log::discard();
        Stacks::install(py, &log).reinstall(py, &log);
    });
}
