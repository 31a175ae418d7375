//! The cgroups of this process, and the CPUs that it may use (the quota of v1 and v2, and the affinity mask).
//!
//! Files are read through a function that the caller passes, so that this module only converts text to numbers. The
//! quota matters because a container with a limit of 2 CPUs must not start 64 workers on a machine with 64 CPUs. std's
//! `available_parallelism` reads the quota, too, but rounds down and does not say where its number comes from.

mod memory;

use std::path::{Path, PathBuf};

pub use memory::{CgroupMemory, MemoryLimit, MemoryUse, memory, memory_limit};

/// The CPUs that this process may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cpus {
    /// The quota of the cgroup, which is lower than the affinity mask.
    Quota {
        /// Thousandths of a CPU.
        millis: u64,
    },
    /// The affinity mask (taskset, cpuset).
    Affinity {
        /// CPUs in the mask.
        count: u64,
    },
    /// Nothing could be read: there is no /proc.
    Unknown,
}

impl Cpus {
    /// The number of CPUs, rounded up: a quota of 2.5 is worth 3 workers, because two single-threaded workers would
    /// leave half a CPU unused.
    pub fn whole(self) -> u64 {
        match self {
            Self::Quota { millis } => millis.div_ceil(1000).max(1),
            Self::Affinity { count } => count.max(1),
            Self::Unknown => 1,
        }
    }
}

/// Finds the CPUs that this process may use, from files under /proc and /sys.
///
/// Source: cgroups(7), proc_pid_mountinfo(5), proc_pid_status(5), the kernel's cgroup-v2.rst.
pub fn cpus(read: impl Fn(&Path) -> Option<String>) -> Cpus {
    let status = read(Path::new("/proc/self/status")).unwrap_or_default();
    let affinity = status.lines().find_map(|line| {
        listed(line.strip_prefix("Cpus_allowed_list:")?.trim()).filter(|count| *count > 0)
    });
    let quota =
        match (read(Path::new("/proc/self/cgroup")), read(Path::new("/proc/self/mountinfo"))) {
            (Some(groups), Some(mounts)) => quota_millis(&groups, &mounts, &read),
            (_, None) | (None, _) => None,
        };
    match (quota, affinity) {
        (Some(millis), None) => Cpus::Quota { millis },
        (Some(millis), Some(count)) if millis < count * 1000 => Cpus::Quota { millis },
        (_, Some(count)) => Cpus::Affinity { count },
        (None, None) => Cpus::Unknown,
    }
}

/// Returns the minimum quota from the cgroup of the process up to the root of each hierarchy, because a limit applies
/// to everything below it.
fn quota_millis(
    groups: &str,
    mounts: &str,
    read: &impl Fn(&Path) -> Option<String>,
) -> Option<u64> {
    let limits =
        directories(groups, mounts, "cpu").filter_map(|(version, directory)| match version {
            Version::V2 => v2_millis(&read(&directory.join("cpu.max"))?),
            Version::V1 => {
                let quota = read(&directory.join("cpu.cfs_quota_us"))?;
                millis(quota.trim(), read(&directory.join("cpu.cfs_period_us"))?.trim())
            }
        });
    limits.min()
}

/// The version of a hierarchy of cgroups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// One hierarchy for each controller or for several.
    V1,
    /// One hierarchy for all controllers.
    V2,
}

/// Returns the directories with the files of a controller: that of the process's own cgroup, then those above it up to
/// the root, in each hierarchy that can have the controller. `groups` is /proc/self/cgroup, `mounts` is
/// /proc/self/mountinfo.
pub fn directories(
    groups: &str,
    mounts: &str,
    controller: &str,
) -> impl Iterator<Item = (Version, PathBuf)> {
    let hierarchies = groups.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        Some((parts.next()?, parts.next()?))
    });
    hierarchies.flat_map(move |(controllers, group)| {
        let version = if controllers.is_empty() { Version::V2 } else { Version::V1 };
        let mount = mounts.lines().find_map(|line| Mount::of(line, controllers, controller));
        let directories = mount.map(|mount| mount.directories(group));
        directories.into_iter().flatten().map(move |directory| (version, directory))
    })
}

/// A mounted hierarchy that can have a controller.
struct Mount<'a> {
    root: &'a str,
    point: &'a str,
}

impl<'a> Mount<'a> {
    /// Reads a line of mountinfo; `controllers` is empty for v2.
    ///
    /// Shape: `36 35 0:29 ROOT POINT OPTIONS [TAGS] - TYPE SOURCE SUPER_OPTIONS`.
    fn of(line: &'a str, controllers: &str, controller: &str) -> Option<Self> {
        let (mount, filesystem) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(3);
        let (root, point) = (mount.next()?, mount.next()?);
        let mut filesystem = filesystem.split(' ');
        let (kind, options) = (filesystem.next()?, filesystem.nth(1)?);
        let is_ours = if controllers.is_empty() {
            kind == "cgroup2"
        } else {
            let has_it = |list: &str| list.split(',').any(|word| word == controller);
            kind == "cgroup" && has_it(controllers) && has_it(options)
        };
        is_ours.then_some(Self { root, point })
    }

    /// The directory of a cgroup and all directories above it. In a container without a cgroup namespace, the cgroup
    /// has the name that the host sees, while only its own part is mounted.
    fn directories(&self, group: &str) -> Vec<PathBuf> {
        let point = Path::new(self.point);
        let below = Path::new(group).strip_prefix(self.root).unwrap_or(Path::new(""));
        let is_inside = below.components().all(|part| part.as_os_str() != "..");
        let group = if is_inside { point.join(below) } else { point.to_path_buf() };
        group
            .ancestors()
            .take_while(|directory| directory.starts_with(point))
            .map(Path::to_owned)
            .collect()
    }
}

/// `cpu.max`: `200000 100000`, or `max 100000` for no limit.
fn v2_millis(text: &str) -> Option<u64> {
    let (quota, period) = text.trim().split_once(' ')?;
    millis(quota, period)
}

/// Converts a quota to thousandths of a CPU; `None` for no limit (`max`, `-1`) and for invalid text.
fn millis(quota_us: &str, period_us: &str) -> Option<u64> {
    let quota = quota_us.parse::<u64>().ok().filter(|quota| *quota > 0)?;
    quota.checked_mul(1000)?.checked_div(period_us.parse().ok()?)
}

/// Counts the CPUs in a list such as `0-3,8`.
fn listed(list: &str) -> Option<u64> {
    list.split(',').try_fold(0_u64, |count, range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last) = (first.parse::<u64>().ok()?, last.parse::<u64>().ok()?);
        Some(count + last.checked_sub(first)? + 1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const V2: &str = "31 23 0:28 / /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw,nsdelegate";
    const V1: &str = "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct";

    /// The CPUs that files of these names and contents yield.
    fn found(files: &[(&str, &str)]) -> Cpus {
        cpus(|path| {
            let file = files.iter().find(|(name, _)| Path::new(name) == path);
            file.map(|(_, text)| (*text).to_owned())
        })
    }

    const STATUS: (&str, &str) = ("/proc/self/status", "Name:\tx\nCpus_allowed_list:\t0-7\n");

    #[test]
    fn a_v2_quota_is_read() {
        let cpus = found(&[
            STATUS,
            ("/proc/self/cgroup", "0::/\n"),
            ("/proc/self/mountinfo", V2),
            ("/sys/fs/cgroup/cpu.max", "250000 100000\n"),
        ]);
        assert_eq!(cpus, Cpus::Quota { millis: 2500 });
        assert_eq!(cpus.whole(), 3);
    }

    #[test]
    fn max_is_not_a_v2_quota() {
        let cpus = found(&[
            STATUS,
            ("/proc/self/cgroup", "0::/\n"),
            ("/proc/self/mountinfo", V2),
            ("/sys/fs/cgroup/cpu.max", "max 100000\n"),
        ]);
        assert_eq!(cpus, Cpus::Affinity { count: 8 });
    }

    #[test]
    fn the_tightest_quota_on_the_way_up_holds() {
        let cpus = found(&[
            STATUS,
            ("/proc/self/cgroup", "0::/system.slice/web.service\n"),
            ("/proc/self/mountinfo", V2),
            ("/sys/fs/cgroup/system.slice/web.service/cpu.max", "400000 100000\n"),
            ("/sys/fs/cgroup/system.slice/cpu.max", "150000 100000\n"),
        ]);
        assert_eq!(cpus, Cpus::Quota { millis: 1500 });
    }

    #[test]
    fn a_v1_quota_is_read() {
        let cpus = found(&[
            STATUS,
            ("/proc/self/cgroup", "7:memory:/x\n3:cpu,cpuacct:/x\n0::/\n"),
            ("/proc/self/mountinfo", V1),
            ("/sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_quota_us", "50000\n"),
            ("/sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_period_us", "100000\n"),
        ]);
        assert_eq!(cpus, Cpus::Quota { millis: 500 });
        assert_eq!(cpus.whole(), 1);
    }

    #[test]
    fn minus_one_is_not_a_v1_quota() {
        let cpus = found(&[
            STATUS,
            ("/proc/self/cgroup", "3:cpu,cpuacct:/\n"),
            ("/proc/self/mountinfo", V1),
            ("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n"),
            ("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n"),
        ]);
        assert_eq!(cpus, Cpus::Affinity { count: 8 });
    }

    #[test]
    fn a_container_with_cgroup_names_of_the_host_finds_its_own_directory() {
        let cpus = found(&[
            STATUS,
            ("/proc/self/cgroup", "3:cpu,cpuacct:/docker/abc\n"),
            (
                "/proc/self/mountinfo",
                "32 31 0:29 /docker/abc /sys/fs/cgroup/cpu ro shared:3 - cgroup cgroup rw,cpu",
            ),
            ("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "200000\n"),
            ("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"),
        ]);
        assert_eq!(cpus, Cpus::Quota { millis: 2000 });
    }

    #[test]
    fn a_cgroup_outside_of_the_namespace_is_read_at_the_mount() {
        let cpus = found(&[
            STATUS,
            ("/proc/self/cgroup", "0::/../../other\n"),
            ("/proc/self/mountinfo", V2),
            ("/sys/fs/cgroup/cpu.max", "300000 100000\n"),
        ]);
        assert_eq!(cpus, Cpus::Quota { millis: 3000 });
    }

    #[test]
    fn a_quota_above_the_affinity_mask_does_not_count() {
        let cpus = found(&[
            ("/proc/self/status", "Cpus_allowed_list:\t0,2-3\n"),
            ("/proc/self/cgroup", "0::/\n"),
            ("/proc/self/mountinfo", V2),
            ("/sys/fs/cgroup/cpu.max", "800000 100000\n"),
        ]);
        assert_eq!(cpus, Cpus::Affinity { count: 3 });
    }

    #[test]
    fn invalid_text_is_not_a_quota() {
        for text in ["", "100000", "x 100000", "100000 0", "0 100000", "-5 100000"] {
            assert_eq!(v2_millis(text), None, "{text:?}");
        }
        assert_eq!(listed("3-1"), None);
        assert_eq!(found(&[]), Cpus::Unknown);
    }
}
