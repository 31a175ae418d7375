"""The self-test of check-layers: sources that violate each rule, and sources that only look like violations."""

import tempfile
from pathlib import Path

# The wings of the source trees below.
LIB = "".join(f"mod {name};\n" for name in (
    "python", "server", "cli", "monitor", "client", "emitter", "admin", "process", "listener", "config",
    "supervisor", "metrics", "system",
))  # fmt: skip
WORKER_LIB = "".join(f"mod {name};\n" for name in (
    "worker", "event_loop", "wsgi", "application", "spool", "connection", "http", "process", "settings", "shared",
))  # fmt: skip
TREE = {"src/lib.rs": LIB, "workers/src/lib.rs": WORKER_LIB}

# (rule, files that violate it in addition to TREE, (file, line) of the violation)
BREAKS = [
    ("never-back", {"workers/src/event_loop.rs": "use arctos::config::Config;\n"}, ("workers/src/event_loop.rs", 1)),
    ("never-back", {"workers/Cargo.toml": '[dependencies]\narctos = { path = ".." }\n'}, ("workers/Cargo.toml", 2)),
    # Upward imports: by `use`, in a group, by a relative path, inline, under another name, through a re-export.
    ("order", {"workers/src/connection.rs": "\nuse crate::event_loop::EventLoop;\n",
               "workers/src/event_loop.rs": ""}, ("workers/src/connection.rs", 2)),
    ("order", {"workers/src/http/head.rs": "use crate::{\n    connection::ConnInfo,\n};\n",
               "workers/src/connection.rs": ""}, ("workers/src/http/head.rs", 1)),
    ("order", {"workers/src/connection.rs": "fn f(t: &super::event_loop::ConnTable) {}\n",
               "workers/src/event_loop.rs": ""}, ("workers/src/connection.rs", 1)),
    ("order", {"workers/src/http/body.rs": "use super::super::spool::Spool;\n",
               "workers/src/spool.rs": ""}, ("workers/src/http/body.rs", 1)),
    ("order", {"workers/src/application.rs": "fn f() { crate::wsgi::start() }\n",
               "workers/src/wsgi/mod.rs": ""}, ("workers/src/application.rs", 1)),
    ("order", {"src/supervisor/mod.rs": "use crate::monitor as shell;\n",
               "src/monitor/mod.rs": ""}, ("src/supervisor/mod.rs", 1)),
    ("order", {"src/metrics/mod.rs": "use crate::config::Told;\n",
               "src/config/mod.rs": "pub use error::Told;\nmod error;\n",
               "src/config/error.rs": ""}, ("src/metrics/mod.rs", 1)),
    ("order", {"workers/src/novelty.rs": "fn f() {}\n"}, ("workers/src/novelty.rs", 1)),
    # Circles of two files, of three files, and through a re-export of their parent.
    ("circle", {"src/process/mod.rs": "mod fork;\nmod signals;\n",
                "src/process/fork.rs": "use super::signals::Signals;\n",
                "src/process/signals.rs": "use crate::process::fork::Action;\n"}, ("src/process/signals.rs", 1)),
    ("circle", {"src/system/a.rs": "use super::b::B;\n", "src/system/b.rs": "use super::c::C;\n",
                "src/system/c.rs": "\nfn f() { super::a::f() }\n"}, ("src/system/c.rs", 2)),
    ("circle", {"src/config/mod.rs": "mod error;\nmod file;\npub use error::ConfigError;\n",
                "src/config/error.rs": "use super::file::FileError;\n",
                "src/config/file.rs": "use super::ConfigError;\n"}, ("src/config/file.rs", 1)),
    ("pure", {"src/supervisor/mod.rs": "use std::time::Instant;\nfn f() { let t = Instant::now(); }\n"},
     ("src/supervisor/mod.rs", 2)),
    ("pure", {"src/supervisor/slot.rs": "use std::time::{Duration, Instant as Moment};\nfn f() { Moment::now(); }\n"},
     ("src/supervisor/slot.rs", 2)),
    ("pure", {"src/metrics/gauges.rs": "fn f(t: std::time::Instant) { t.elapsed(); }\n"}, ("src/metrics/gauges.rs", 1)),
    ("pure", {"src/supervisor/slot.rs": "use nix::unistd::Pid;\nfn f() { Pid::this(); }\n"},
     ("src/supervisor/slot.rs", 2)),
    ("pure", {"src/supervisor/slot.rs": "use nix::sys::signal::kill;\n"}, ("src/supervisor/slot.rs", 1)),
    ("pure", {"src/config/value.rs": "use std::{collections::VecDeque, fs};\n"}, ("src/config/value.rs", 1)),
    ("pure", {"src/supervisor/mod.rs": "fn f() { std::process::Command::new(x); }\n"}, ("src/supervisor/mod.rs", 1)),
    ("pure", {"workers/src/event_loop/phase.rs": "fn f() { std::fs::read(p); }\n"},
     ("workers/src/event_loop/phase.rs", 1)),
    ("clock", {"workers/src/http/date.rs": "fn f() { std::time::SystemTime::now(); }\n"}, ("workers/src/http/date.rs", 1)),
    ("clock", {"workers/src/spool.rs": "use std::time;\nfn f() { time::Instant::now(); }\n"}, ("workers/src/spool.rs", 2)),
    ("syscalls", {"workers/src/settings.rs": "use nix::unistd::close;\n"}, ("workers/src/settings.rs", 1)),
    ("syscalls", {"workers/src/shared/scoreboard/entry.rs": "use std::net::{SocketAddr, UdpSocket};\n"},
     ("workers/src/shared/scoreboard/entry.rs", 1)),
    ("syscalls", {"workers/src/application.rs": "fn f() { std::fs::read(p); }\n"}, ("workers/src/application.rs", 1)),
    ("owned-crate", {"src/monitor.rs": "use pyo3::prelude::*;\n"}, ("src/monitor.rs", 1)),
    ("owned-crate", {"workers/src/event_loop.rs": "fn f(py: pyo3::Python<'_>) {}\n"}, ("workers/src/event_loop.rs", 1)),
    ("owned-crate", {"src/monitor.rs": "use cadence::StatsdClient;\n"}, ("src/monitor.rs", 1)),
    ("owned-crate", {"src/monitor.rs": "use socket2::Socket;\n"}, ("src/monitor.rs", 1)),
    ("fork", {"src/monitor.rs": "use nix::unistd::{self, Pid};\nfn f() { unistd::fork(); }\n"}, ("src/monitor.rs", 2)),
    ("fork", {"src/listener.rs": "fn f() { libc::fork(); }\n"}, ("src/listener.rs", 1)),
    ("unsafe", {"src/monitor.rs": "fn f() {\n    unsafe { g() }\n}\n"}, ("src/monitor.rs", 2)),
    ("unsafe", {"workers/src/wsgi/mod.rs": "unsafe extern \"C\" {}\n"}, ("workers/src/wsgi/mod.rs", 1)),
    ("print", {"src/cli.rs": "fn f() {\n    println!(\"x\");\n}\n"}, ("src/cli.rs", 2)),
    ("print", {"workers/src/shared/log.rs": "fn f() { eprint!(\"x\"); }\n"}, ("workers/src/shared/log.rs", 1)),
    ("feature", {"src/monitor.rs": "#[cfg(feature = \"python\")]\nfn f() {}\n"}, ("src/monitor.rs", 1)),
    ("feature", {"src/lib.rs": LIB + "#[cfg(feature = \"python\")]\npub mod wsgi;\n"}, ("src/lib.rs", 14)),
    ("feature", {"workers/src/event_loop.rs": "fn f() { if cfg!(feature = \"python\") {} }\n"},
     ("workers/src/event_loop.rs", 1)),
    ("function", {"src/monitor.rs": "\nfn f() {\n" + "    g();\n" * 69 + "}\n"}, ("src/monitor.rs", 2)),
    ("fields", {"src/monitor.rs": "struct S {\n" + "".join(f"    f{n}: (u8, [u8; 2]),\n" for n in range(13)) + "}\n"},
     ("src/monitor.rs", 1)),
    ("length", {"tests/wsgi/test_long.py": "pass\n" * 601}, ("tests/wsgi/test_long.py", 601)),
]  # fmt: skip

# Sources that violate no rule.
HOLDS = {
    "src/lib.rs": '//! Says println!("x").\n' + LIB + '#[cfg(feature = "python")]\nmod python;\n',
    "src/python/mod.rs": "use pyo3::prelude::*;\nuse crate::server;\nfn f() { unsafe { g() } }\n",
    "src/server.rs": "use crate::supervisor::slot::Slot;\n",
    "src/process/fork.rs": "use nix::unistd::fork;\nfn f() { unsafe { fork() }; }\n",
    "src/listener/mod.rs": "use socket2::Socket;\nmod tcp;\nfn f() { tcp::bind() }\n",
    "src/listener/tcp.rs": "use super::Listeners;\n",  # A submodule may import its parent.
    "src/supervisor/mod.rs": "//! Never calls [`std::time::Instant::now`], nor `std::fs`.\nmod slot;\n"
    "use nix::unistd::Pid;\nuse std::time::Instant;\n"
    "/* use nix::unistd::fork; /* nested */ unsafe */\n"
    'const S: &str = "use std::fs; unsafe { println!() }";\n'
    'const R: &str = r#"std::fs::read("x") "#;\n'
    "const Q: char = '\"';\nfn f<'a>(x: &'a str, now: Instant) -> &'a str { x }\n"
    "#[cfg(test)]\nmod tests {\n    use crate::monitor::M;\n"
    '    fn t() { std::fs::read("x"); std::time::Instant::now(); }\n}\n',
    "src/supervisor/slot/tests.rs": "use std::time::Instant;\nfn t0() -> Instant { Instant::now() }\n",
    "src/supervisor/slot.rs": "struct Many {\n" + "".join(f"    f{n}: u8,\n" for n in range(13)) + "}\n",
    "src/monitor.rs": "fn f() {\n" + "    g();\n" * 68 + "}\n"
    "struct S {\n" + "".join(f"    /// a: b\n    pub f{n}: Map<u8, crate::X>,\n" for n in range(12)) + "}\n",
    "workers/src/lib.rs": WORKER_LIB + '#[cfg(feature = "python")]\npub mod wsgi;\n',
    "workers/src/connection.rs": "use std::net::SocketAddr;\nuse std::os::fd::OwnedFd;\n"
    "use crate::http::Head;\n/// See [`crate::event_loop`].\nfn f(h: super::http::Head) {}\n",
    "workers/src/event_loop/mod.rs": "use std::time::Instant;\nuse crate::connection::Connection;\n"
    "fn f() { Instant::now(); }\n",
    "workers/src/http/head.rs": "use super::framing::Framing;\nuse crate::settings::Limits;\n",
    "workers/src/http/framing.rs": "#[cfg(test)]\nuse super::head::Head;\nfn f() {}\n",
    "workers/src/settings.rs": "#[cfg(test)]\nuse std::fs;\nfn f() {}\n",
    "workers/src/wsgi/ffi.rs": "fn f() { unsafe { pyo3::ffi::Py_IncRef(x) } }\n",
    "workers/src/shared/shared_memory.rs": "use nix::sys::mman::mmap;\nfn f() { unsafe { mmap() } }\n",
    "tests/wire/valid/long": "x\n" * 700,
}


def run(violations):
    """Passes each case to `violations`, and returns the exit status."""
    failures = []
    for rule, files, (name, line) in BREAKS:
        found = _check(violations, TREE | files)
        if not any((one.rule, one.path, one.line) == (rule, name, line) for one in found):
            failures.append(f"[{rule}] was not found in {name}:{line}:\n{files}")
        failures += [f"[{rule}] in {name} was also reported as: {one}" for one in found if one.rule != rule
                     and (rule, one.rule) not in ALSO]  # fmt: skip
    failures += [f"valid code was reported: {one}" for one in _check(violations, HOLDS)]
    for failure in failures:
        print(failure)
    print(f"check-layers --self-test: {len(BREAKS)} violations, {len(failures)} failed")
    return 1 if failures else 0


# Code that violates the first rule of a pair always violates the second one, too.
ALSO = {("fork", "unsafe"), ("owned-crate", "syscalls"), ("pure", "syscalls")}


def _check(violations, files):
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        for name, source in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(source, encoding="utf-8")
        return violations(root)
