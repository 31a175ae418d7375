use super::*;
use crate::wsgi::tests::harness::{readable_log, text_of};

/// Creates a module from this source.
fn module(py: Python<'_>, name: &str, source: &str) {
    let module = PyModule::new(py, name).unwrap();
    let source = std::ffi::CString::new(source).unwrap();
    py.run(&source, Some(&module.dict()), None).unwrap();
    py.import("sys").unwrap().getattr("modules").unwrap().set_item(name, module).unwrap();
}

fn name(text: &str) -> HookName {
    let (module, attribute) = text.split_once(':').unwrap();
    HookName { module: module.to_owned(), attribute: attribute.to_owned() }
}

fn names(text: &str) -> Vec<HookName> {
    text.split_whitespace().map(name).collect()
}

fn value(py: Python<'_>, module: &str, attribute: &str) -> String {
    py.import(module).unwrap().getattr(attribute).unwrap().repr().unwrap().to_string()
}

#[test]
fn hooks_are_called_in_their_order_with_the_worker() {
    Python::initialize();
    Python::attach(|py| {
        let source = "seen = []\nclass A:\n    first = seen.append\ndef second(worker):\n    \
                      seen.append((worker.slot, worker.generation, worker.pid, worker.name))\n";
        module(py, "order_1", source);
        let hooks = Hooks {
            pre_fork: names("order_1:A.first order_1:second"),
            server_name: "shop".to_owned(),
            ..Hooks::default()
        };
        let hooks = WorkerHooks::new(&hooks, SlotId(3), Generation(7));
        hooks.pre_fork(py).unwrap();
        let expected =
            "[Worker(slot=3, generation=7, pid=None, name=\"shop\"), (3, 7, None, 'shop')]";
        assert_eq!(value(py, "order_1", "seen"), expected);
    });
}

#[test]
fn on_start_is_called_with_its_generation() {
    Python::initialize();
    Python::attach(|py| {
        module(py, "load_2", "seen = []\n");
        let hooks =
            Hooks { on_start: names("load_2:seen.append load_2:seen.append"), ..Hooks::default() };
        on_start(py, &hooks, Generation(2)).unwrap();
        let one = "Generation(number=2, name=\"\")";
        assert_eq!(value(py, "load_2", "seen"), format!("[{one}, {one}]"));
    });
}

#[test]
fn the_arguments_of_hooks_are_read_only() {
    Python::initialize();
    Python::attach(|py| {
        module(py, "frozen_3", "def hook(worker):\n    worker.slot = 1\n");
        let hooks = Hooks { post_fork: names("frozen_3:hook"), ..Hooks::default() };
        let failure = WorkerHooks::new(&hooks, SlotId(0), Generation(1)).post_fork(py).unwrap_err();
        assert!(failure.report().contains("AttributeError"), "{}", failure.report());
    });
}

#[test]
fn the_first_hook_that_fails_is_named_and_ends_the_sequence() {
    Python::initialize();
    Python::attach(|py| {
        let source = "seen = []\ndef fails(worker):\n    raise SystemExit('no pool')\n";
        module(py, "fails_4", source);
        let hooks =
            Hooks { post_fork: names("fails_4:fails fails_4:seen.append"), ..Hooks::default() };
        let failure = WorkerHooks::new(&hooks, SlotId(0), Generation(1)).post_fork(py).unwrap_err();
        let report = failure.report();
        assert!(report.starts_with("The hook --post-fork fails_4:fails failed:\nTraceback"));
        assert!(report.trim_end().ends_with("SystemExit: no pool"), "{report}");
        assert_eq!(value(py, "fails_4", "seen"), "[]");
        let (log, file) = readable_log();
        failure.log(&log);
        let text = text_of(&file);
        assert!(text.contains("hook.failed option=--post-fork hook=fails_4:fails"), "{text}");
        assert!(text.contains("SystemExit: no pool"));
    });
}

#[test]
fn a_missing_hook_is_found_without_calling_the_others() {
    Python::initialize();
    Python::attach(|py| {
        module(py, "there_5", "def boom(worker):\n    1 / 0\n");
        let find = |text: &str| {
            find_all(py, &Hooks { worker_exit: names(text), ..Hooks::default() })
                .map_err(|failure| failure.report())
        };
        assert_eq!(find("there_5:boom"), Ok(()));
        let report = find("there_5:boom there_5:bang").unwrap_err();
        assert!(report.starts_with("The hook --worker-exit there_5:bang failed:\n"), "{report}");
        assert!(report.contains("has no attribute 'bang'"), "{report}");
        assert!(find("nowhere_5:hook").unwrap_err().contains("No module named 'nowhere_5'"));
    });
}

#[test]
fn worker_exit_is_called_only_for_workers_that_were_ready() {
    Python::initialize();
    Python::attach(|py| {
        let source = "seen = []\nis_broken = True\ndef ready(worker):\n    \
                      seen.append('ready')\n    assert not is_broken\ndef left(worker):\n    \
                      seen.append('left')\n";
        module(py, "ends_6", source);
        let hooks = Hooks {
            worker_ready: names("ends_6:ready"),
            worker_exit: names("ends_6:left"),
            ..Hooks::default()
        };
        let mut hooks = WorkerHooks::new(&hooks, SlotId(0), Generation(1));
        hooks.ready(py).unwrap_err();
        hooks.exit(py).unwrap();
        assert_eq!(value(py, "ends_6", "seen"), "['ready']");
        py.import("ends_6").unwrap().setattr("is_broken", false).unwrap();
        hooks.ready(py).unwrap();
        hooks.exit(py).unwrap();
        assert_eq!(value(py, "ends_6", "seen"), "['ready', 'ready', 'left']");
    });
}

#[test]
fn a_child_that_returns_from_a_hook_exits_with_its_status() {
    Python::initialize();
    Python::attach(|py| {
        module(
            py,
            "forks_7",
            "import os, sys\npid = 0\ndef hook(worker):\n    global pid\n    pid = os.fork()\n    \
             if not pid:\n        sys.modules.pop('threading', None)\n        sys.exit(7)\n",
        );
        let hooks = Hooks { post_fork: names("forks_7:hook"), ..Hooks::default() };
        WorkerHooks::new(&hooks, SlotId(0), Generation(1)).post_fork(py).unwrap();
        let pid: i32 = value(py, "forks_7", "pid").parse().unwrap();
        let pid = nix::unistd::Pid::from_raw(pid);
        let status = nix::sys::wait::waitpid(pid, None).unwrap();
        assert_eq!(status, nix::sys::wait::WaitStatus::Exited(pid, 7));
    });
}
