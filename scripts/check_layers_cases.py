"""The self-test of check-layers: for each rule, sources that break it, and sources that only look so."""

import tempfile
from pathlib import Path

# (rule, file, source, line of the violation)
BREAKS = [
    ("never-back", "workers/src/event_loop.rs", "use arctos::config::Config;\n", 1),
    ("never-back", "workers/Cargo.toml", '[dependencies]\narctos = { path = ".." }\n', 2),
    ("imports", "workers/src/connection.rs", "\nuse crate::event_loop::EventLoop;\n", 2),
    ("imports", "workers/src/http/head.rs", "use crate::{\n    connection::ConnInfo,\n};\n", 1),
    ("imports", "workers/src/connection.rs", "fn f(t: &super::table::ConnTable) {}\n", 1),
    ("imports", "workers/src/http/body.rs", "use super::super::spool::Spool;\n", 1),
    ("imports", "workers/src/event_loop.rs", "fn f() { crate::wsgi::start() }\n", 1),
    ("imports", "workers/src/application.rs", "use crate::wsgi::Bridge;\n", 1),
    ("imports", "workers/src/metrics/board.rs", "use crate::http as web;\n", 1),
    ("imports", "workers/src/novelty.rs", "fn f() {}\n", 1),
    ("pure", "src/supervisor.rs", "use std::time::Instant;\nfn f() { let t = Instant::now(); }\n", 2),
    ("pure", "src/slot.rs", "use std::time::{Duration, Instant as Moment};\nfn f() { Moment::now(); }\n", 2),
    ("pure", "src/slot.rs", "fn f(t: std::time::Instant) { t.elapsed(); }\n", 1),
    ("pure", "src/supervisor.rs", "use nix::unistd::Pid;\nfn f() { Pid::this(); }\n", 2),
    ("pure", "src/slot.rs", "use nix::sys::signal::kill;\n", 1),
    ("pure", "src/supervisor.rs", "use std::{collections::VecDeque, fs};\n", 1),
    ("clock", "workers/src/http/date.rs", "fn f() { std::time::SystemTime::now(); }\n", 1),
    ("clock", "workers/src/spool.rs", "use std::time;\nfn f() { time::Instant::now(); }\n", 2),
    ("syscalls", "workers/src/table.rs", "use nix::unistd::close;\n", 1),
    ("syscalls", "workers/src/metrics/board.rs", "use std::net::{SocketAddr, UdpSocket};\n", 1),
    ("syscalls", "workers/src/application.rs", "fn f() { std::fs::read(p); }\n", 1),
    ("owned-crate", "src/monitor.rs", "use pyo3::prelude::*;\n", 1),
    ("owned-crate", "workers/src/event_loop.rs", "fn f(py: pyo3::Python<'_>) {}\n", 1),
    ("owned-crate", "src/monitor.rs", "use cadence::StatsdClient;\n", 1),
    ("owned-crate", "src/monitor.rs", "use socket2::Socket;\n", 1),
    ("fork", "src/monitor.rs", "use nix::unistd::{self, Pid};\nfn f() { unistd::fork(); }\n", 2),
    ("fork", "src/listener.rs", "fn f() { libc::fork(); }\n", 1),
    ("unsafe", "src/monitor.rs", "fn f() {\n    unsafe { g() }\n}\n", 2),
    ("unsafe", "workers/src/wsgi/mod.rs", "unsafe extern \"C\" {}\n", 1),
    ("print", "src/cli.rs", "fn f() {\n    println!(\"x\");\n}\n", 2),
    ("print", "workers/src/log.rs", "fn f() { eprint!(\"x\"); }\n", 1),
    ("feature", "src/monitor.rs", "#[cfg(feature = \"python\")]\nfn f() {}\n", 1),
    ("feature", "src/lib.rs", "#[cfg(feature = \"python\")]\npub mod wsgi;\n", 1),
    ("feature", "workers/src/event_loop.rs", "fn f() { if cfg!(feature = \"python\") {} }\n", 1),
    ("length", "tests/wsgi/test_long.py", "pass\n" * 601, 601),
]

# Nothing here breaks a rule.
HOLDS = {
    "src/lib.rs": '//! Says println!("x").\npub mod supervisor;\n\n#[cfg(feature = "python")]\nmod module;\n',
    "src/module.rs": "use pyo3::prelude::*;\nfn f() { unsafe { g() } }\n",
    "src/fork.rs": "use nix::unistd::fork;\nfn f() { unsafe { fork() }; }\n",
    "src/listener.rs": "use socket2::Socket;\n",
    "src/supervisor.rs": "//! Never calls [`std::time::Instant::now`], nor `std::fs`.\n"
    "use nix::unistd::Pid;\nuse std::time::Instant;\n"
    "/* use nix::unistd::fork; /* nested */ unsafe */\n"
    'const S: &str = "use std::fs; unsafe { println!() }";\n'
    'const R: &str = r#"std::fs::read("x") "#;\n'
    "const Q: char = '\"';\nfn f<'a>(x: &'a str, now: Instant) -> &'a str { x }\n"
    "#[cfg(test)]\nmod tests {\n    fn t() { std::fs::read(\"x\"); std::time::Instant::now(); }\n}\n",
    "src/slot/tests.rs": "use std::time::Instant;\nfn t0() -> Instant { Instant::now() }\n",
    "workers/src/lib.rs": '#[cfg(feature = "python")]\npub mod wsgi;\n',
    "workers/src/connection.rs": "use std::net::SocketAddr;\nuse std::os::fd::OwnedFd;\n"
    "use crate::http::Head;\n/// See [`crate::event_loop`].\nfn f(h: super::http::Head) {}\n",
    "workers/src/event_loop.rs": "use std::time::Instant;\nuse crate::connection::Connection;\n"
    "fn f() { Instant::now(); }\n",
    "workers/src/http/head.rs": "use super::framing::Framing;\nuse crate::settings::Limits;\n",
    "workers/src/wsgi/ffi.rs": "fn f() { unsafe { pyo3::ffi::Py_IncRef(x) } }\n",
    "workers/src/metrics/shared.rs": "use nix::sys::mman::mmap;\nfn f() { unsafe { mmap() } }\n",
    "workers/src/table.rs": "#[cfg(test)]\nuse std::fs;\nfn f() {}\n",
    "tests/wire/valid/long": "x\n" * 700,
}


def run(violations):
    """Feeds each case to `violations`; returns the exit status."""
    failures = []
    for rule, name, source, line in BREAKS:
        found = _check(violations, {"src/lib.rs": "", name: source})
        if not any((one.rule, one.path, one.line) == (rule, name, line) for one in found):
            failures.append(f"[{rule}] was not seen in {name}:{line}:\n{source}")
        failures += [f"[{rule}] in {name} was also taken for: {one}" for one in found if one.rule != rule
                     and (rule, one.rule) not in ALSO]  # fmt: skip
    failures += [f"holds, but was refused: {one}" for one in _check(violations, HOLDS)]
    for failure in failures:
        print(failure)
    print(f"check-layers --self-test: {len(BREAKS)} violations, {len(failures)} failed")
    return 1 if failures else 0


# Violations that cannot come alone: what breaks the first rule breaks the second too.
ALSO = {("fork", "unsafe"), ("owned-crate", "syscalls"), ("pure", "syscalls")}


def _check(violations, files):
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name, source in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(source, encoding="utf-8")
        return violations(root)
