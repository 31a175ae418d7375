use std::cell::RefCell;
use std::collections::HashMap;

use super::*;

/// Files that a test can change while they are watched.
#[derive(Default)]
struct Files(RefCell<HashMap<PathBuf, String>>);

impl Files {
    fn of(files: &[(&str, &str)]) -> Self {
        let all = Self::default();
        files.iter().for_each(|(path, text)| all.set(path, text));
        all
    }

    fn set(&self, path: &str, text: &str) {
        self.0.borrow_mut().insert(path.into(), text.to_owned());
    }

    fn watch(&self) -> OomWatch<impl Fn(&Path) -> Option<String>> {
        OomWatch::with(|path| self.0.borrow().get(path).cloned())
    }
}

const V2_MOUNT: &str =
    "31 23 0:28 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime - cgroup2 cgroup2 rw,nsdelegate\n";
const V1_MOUNTS: &str = "\
32 25 0:28 / /sys/fs/cgroup ro,nosuid,nodev,noexec - tmpfs tmpfs ro,mode=755
34 32 0:30 / /sys/fs/cgroup/unified rw,nosuid - cgroup2 cgroup2 rw,nsdelegate
35 32 0:31 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid - cgroup cgroup rw,cpu,cpuacct
36 32 0:32 / /sys/fs/cgroup/memory rw,nosuid,nodev,noexec,relatime shared:16 - cgroup cgroup rw,memory
";
const V1_GROUPS: &str =
    "9:memory:/docker/4f\n3:cpu,cpuacct:/docker/4f\n1:name=systemd:/docker/4f\n0::/docker/4f\n";

fn events(oom: u64, oom_kill: u64) -> String {
    format!("low 0\nhigh 12\nmax 311\noom {oom}\noom_kill {oom_kill}\noom_group_kill 0\n")
}

fn control(oom_kill: u64) -> String {
    format!("oom_kill_disable 0\nunder_oom 0\noom_kill {oom_kill}\n")
}

#[test]
fn a_kill_in_a_v2_cgroup_is_reported_once() {
    const EVENTS: &str = "/sys/fs/cgroup/system.slice/web.service/memory.events";
    let files = Files::of(&[
        ("/proc/self/cgroup", "0::/system.slice/web.service\n"),
        ("/proc/self/mountinfo", V2_MOUNT),
        (EVENTS, &events(2, 2)),
        ("/sys/fs/cgroup/system.slice/memory.events", &events(9, 9)),
    ]);
    let mut watch = files.watch();
    assert!(!watch.has_new_kill(), "an earlier kill");
    files.set("/sys/fs/cgroup/system.slice/memory.events", &events(10, 10));
    assert!(!watch.has_new_kill(), "a kill in another cgroup");
    files.set(EVENTS, &events(3, 2));
    assert!(!watch.has_new_kill(), "the limit was reached, and nobody was killed");
    files.set(EVENTS, &events(4, 4));
    assert!(watch.has_new_kill());
    assert!(!watch.has_new_kill());
}

#[test]
fn a_v2_cgroup_without_memory_controller_belongs_to_its_parent() {
    const EVENTS: &str = "/sys/fs/cgroup/system.slice/memory.events";
    let files = Files::of(&[
        ("/proc/self/cgroup", "0::/system.slice/web.service/app\n"),
        ("/proc/self/mountinfo", V2_MOUNT),
        (EVENTS, &events(0, 0)),
    ]);
    let mut watch = files.watch();
    files.set(EVENTS, &events(1, 1));
    assert!(watch.has_new_kill());
}

#[test]
fn a_kill_in_a_v1_cgroup_is_reported_once() {
    const CONTROL: &str = "/sys/fs/cgroup/memory/docker/4f/memory.oom_control";
    let files = Files::of(&[
        ("/proc/self/cgroup", V1_GROUPS),
        ("/proc/self/mountinfo", V1_MOUNTS),
        (CONTROL, &control(0)),
        ("/sys/fs/cgroup/memory/memory.oom_control", &control(7)),
    ]);
    let mut watch = files.watch();
    assert!(!watch.has_new_kill());
    files.set(CONTROL, &control(1));
    assert!(watch.has_new_kill());
    assert!(!watch.has_new_kill());
}

#[test]
fn a_container_that_sees_only_its_own_part_of_v1_reads_that_part() {
    const CONTROL: &str = "/sys/fs/cgroup/memory/memory.oom_control";
    let mounts = V1_MOUNTS.replace("0:32 / ", "0:32 /docker/4f ");
    let files = Files::of(&[
        ("/proc/self/cgroup", V1_GROUPS),
        ("/proc/self/mountinfo", &mounts),
        (CONTROL, &control(0)),
    ]);
    let mut watch = files.watch();
    files.set(CONTROL, &control(1));
    assert!(watch.has_new_kill());
}

#[test]
fn without_a_count_no_kill_is_reported() {
    let old_kernel = "oom_kill_disable 0\nunder_oom 0\n";
    let files = Files::of(&[
        ("/proc/self/cgroup", V1_GROUPS),
        ("/proc/self/mountinfo", V1_MOUNTS),
        ("/sys/fs/cgroup/memory/docker/4f/memory.oom_control", old_kernel),
    ]);
    assert!(!files.watch().has_new_kill());
    assert!(!Files::default().watch().has_new_kill());
}

#[test]
fn a_count_that_cannot_be_read_for_a_while_is_not_lost() {
    const EVENTS: &str = "/sys/fs/cgroup/memory.events";
    let files = Files::of(&[
        ("/proc/self/cgroup", "0::/\n"),
        ("/proc/self/mountinfo", V2_MOUNT),
        (EVENTS, &events(1, 1)),
    ]);
    let mut watch = files.watch();
    files.set(EVENTS, "");
    assert!(!watch.has_new_kill());
    files.set(EVENTS, &events(2, 2));
    assert!(watch.has_new_kill());
}

#[test]
fn the_kernel_function_that_a_process_sleeps_in_is_named() {
    let sleeps_in = |text: Option<&str>| {
        wchan_in(Pid(71), |path| {
            assert_eq!(path, Path::new("/proc/71/wchan"));
            text.map(str::to_owned)
        })
    };
    assert_eq!(sleeps_in(Some("futex_wait_queue")).as_deref(), Some("futex_wait_queue"));
    assert_eq!(sleeps_in(Some("do_epoll_wait\n")).as_deref(), Some("do_epoll_wait"));
    for unknown in [Some("0"), Some(""), None] {
        assert_eq!(sleeps_in(unknown), None);
    }
}

#[test]
fn the_files_of_this_machine_are_read_without_harm() {
    let own = Pid(std::process::id().cast_signed());
    assert!(wchan(own).is_none_or(|name| !name.is_empty()));
    let _ = OomWatch::new().has_new_kill(); // Other processes may run in the same cgroup.
}
