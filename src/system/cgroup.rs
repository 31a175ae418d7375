//! How many CPUs this process may use: the cgroup's quota (v1 and v2) and the affinity mask. And where
//! the cgroups of this process are.
//!
//! Text in, numbers out: files are read through a function that the caller gives. The quota counts
//! because a container on a machine of 64 CPUs with a limit of 2 must not start 64 workers; std's
//! `available_parallelism` knows it too, but rounds down and does not say where its number is from.

use std::path::{Path, PathBuf};

/// CPUs this process may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cpus {
    /// The cgroup allows that many thousandths of a CPU, less than the affinity mask does.
    Quota {
        /// Thousandths of a CPU.
        millis: u64,
    },
    /// The affinity mask (taskset, cpuset) allows that many.
    Affinity {
        /// CPUs in the mask.
        count: u64,
    },
    /// Nothing could be read: /proc is not there.
    Unknown,
}

impl Cpus {
    /// Whole CPUs, a started one counted: workers that fit a quota of 2.5 are 3, since what two
    /// single-threaded workers leave is worth having.
    pub fn whole(self) -> u64 {
        match self {
            Self::Quota { millis } => millis.div_ceil(1000).max(1),
            Self::Affinity { count } => count.max(1),
            Self::Unknown => 1,
        }
    }
}

/// CPUs that this process may use, from files under /proc and /sys.
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

/// The least quota on the way from the process's group up to the root of each hierarchy: a limit
/// holds for everything below it.
fn quota_millis(
    groups: &str,
    mounts: &str,
    read: &impl Fn(&Path) -> Option<String>,
) -> Option<u64> {
    let limits = folders(groups, mounts, "cpu").filter_map(|(version, folder)| match version {
        Version::V2 => v2_millis(&read(&folder.join("cpu.max"))?),
        Version::V1 => {
            let quota = read(&folder.join("cpu.cfs_quota_us"))?;
            millis(quota.trim(), read(&folder.join("cpu.cfs_period_us"))?.trim())
        }
    });
    limits.min()
}

/// Which interface a hierarchy of cgroups has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// One hierarchy for each controller, or some together.
    V1,
    /// One for all.
    V2,
}

/// The folders that tell of a controller: the process's own group's, then those above it up to the root,
/// in each hierarchy that can have the controller. `groups` is /proc/self/cgroup, `mounts` is
/// /proc/self/mountinfo.
pub fn folders(
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
        let folders = mount.map(|mount| mount.folders(group));
        folders.into_iter().flatten().map(move |folder| (version, folder))
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

    /// The group's folder and all above it. In a container without a cgroup namespace the group is
    /// named as the host sees it, while only its own part is mounted.
    fn folders(&self, group: &str) -> Vec<PathBuf> {
        let point = Path::new(self.point);
        let below = Path::new(group).strip_prefix(self.root).unwrap_or(Path::new(""));
        let is_inside = below.components().all(|part| part.as_os_str() != "..");
        let group = if is_inside { point.join(below) } else { point.to_path_buf() };
        group
            .ancestors()
            .take_while(|folder| folder.starts_with(point))
            .map(Path::to_owned)
            .collect()
    }
}

/// `cpu.max`: `200000 100000`, or `max 100000` for no limit.
fn v2_millis(text: &str) -> Option<u64> {
    let (quota, period) = text.trim().split_once(' ')?;
    millis(quota, period)
}

/// Thousandths of a CPU; `None` for no limit (`max`, `-1`) and for nonsense.
fn millis(quota_us: &str, period_us: &str) -> Option<u64> {
    let quota = quota_us.parse::<u64>().ok().filter(|quota| *quota > 0)?;
    quota.checked_mul(1000)?.checked_div(period_us.parse().ok()?)
}

/// How many CPUs a list such as `0-3,8` names.
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

    /// CPUs as found in files of these names and texts.
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
    fn max_is_no_v2_quota() {
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
    fn minus_one_is_no_v1_quota() {
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
    fn a_container_that_sees_the_hosts_group_names_finds_its_own_folder() {
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
    fn a_group_outside_of_the_namespace_is_looked_up_at_the_mount() {
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
    fn nonsense_is_no_quota() {
        for text in ["", "100000", "x 100000", "100000 0", "0 100000", "-5 100000"] {
            assert_eq!(v2_millis(text), None, "{text:?}");
        }
        assert_eq!(listed("3-1"), None);
        assert_eq!(found(&[]), Cpus::Unknown);
    }
}
