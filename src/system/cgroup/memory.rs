//! The memory of the cgroup: what it may use and what it uses.
//!
//! | | version 1 | version 2 |
//! |---|---|---|
//! | limit | `memory.limit_in_bytes` | `memory.max`, or `memory.high` if that is lower |
//! | use, with the page cache | `memory.usage_in_bytes` | `memory.current` |
//! | page cache that the kernel frees first | `total_inactive_file` of `memory.stat` | `inactive_file` of `memory.stat` |
//!
//! A limit applies to everything below its cgroup, so the lowest limit from the cgroup of the process up to the root
//! counts, and the use is that of the cgroup which has this limit. Above `memory.high`, the kernel slows processes
//! down; above the others, it kills them.
//!
//! Source: the kernel's cgroup-v2.rst, cgroup-v1/memory.rst.

use std::path::{Path, PathBuf};

use super::{Version, directories};

/// Version 1 shows "no limit" as the largest number that is a multiple of a page. No machine has this much memory.
const NO_LIMIT: u64 = 1 << 60;

/// The limit of a cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryLimit {
    /// How much the cgroup may use.
    pub bytes: u64,
    /// The file with the limit.
    pub file: PathBuf,
}

/// What a cgroup uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryUse {
    /// All memory that counts toward the limit.
    pub used_bytes: u64,
    /// The memory without the page cache that the kernel frees first. Kubernetes calls it the working set.
    pub working_set_bytes: u64,
}

/// The memory of a cgroup.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CgroupMemory {
    /// The limit; `None` if there is none.
    pub limit: Option<MemoryLimit>,
    /// The use: of the cgroup with the limit or, without one, of the cgroup of the process. `None` if the kernel does
    /// not count it, as in the root cgroup of version 2.
    pub usage: Option<MemoryUse>,
}

/// Returns the lowest memory limit that applies to this process.
pub fn memory_limit(read: impl Fn(&Path) -> Option<String>) -> Option<MemoryLimit> {
    lowest(&groups(&read), &read).map(|(_, limit)| limit)
}

/// Returns the lowest memory limit that applies to this process, and the use of that cgroup.
pub fn memory(read: impl Fn(&Path) -> Option<String>) -> CgroupMemory {
    let groups = groups(&read);
    match lowest(&groups, &read) {
        Some((group, limit)) => CgroupMemory { limit: Some(limit), usage: group.usage(&read) },
        None => CgroupMemory { limit: None, usage: groups.iter().find_map(|it| it.usage(&read)) },
    }
}

/// A cgroup that may have the memory controller.
struct Group {
    version: Version,
    directory: PathBuf,
}

/// The cgroup of this process and those above it.
fn groups(read: &impl Fn(&Path) -> Option<String>) -> Vec<Group> {
    let (Some(groups), Some(mounts)) =
        (read(Path::new("/proc/self/cgroup")), read(Path::new("/proc/self/mountinfo")))
    else {
        return Vec::new();
    };
    directories(&groups, &mounts, "memory")
        .map(|(version, directory)| Group { version, directory })
        .collect()
}

fn lowest<'a>(
    groups: &'a [Group],
    read: &impl Fn(&Path) -> Option<String>,
) -> Option<(&'a Group, MemoryLimit)> {
    let limits = groups.iter().flat_map(|group| {
        let files: &[&str] = match group.version {
            Version::V2 => &["memory.max", "memory.high"],
            Version::V1 => &["memory.limit_in_bytes"],
        };
        files.iter().filter_map(move |file| {
            let file = group.directory.join(file);
            // "max" is no limit.
            let bytes = number(&read(&file)?).filter(|bytes| *bytes < NO_LIMIT)?;
            Some((group, MemoryLimit { bytes, file }))
        })
    });
    limits.min_by_key(|(_, limit)| limit.bytes)
}

impl Group {
    fn usage(&self, read: &impl Fn(&Path) -> Option<String>) -> Option<MemoryUse> {
        let (used, freed_first) = match self.version {
            Version::V2 => ("memory.current", "inactive_file "),
            Version::V1 => ("memory.usage_in_bytes", "total_inactive_file "),
        };
        let used_bytes = number(&read(&self.directory.join(used))?)?;
        let stat = read(&self.directory.join("memory.stat")).unwrap_or_default();
        let freed_first = stat.lines().find_map(|line| number(line.strip_prefix(freed_first)?));
        let working_set_bytes = used_bytes.saturating_sub(freed_first.unwrap_or(0));
        Some(MemoryUse { used_bytes, working_set_bytes })
    }
}

fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const V2: (&str, &str) = (
        "/proc/self/mountinfo",
        "31 23 0:28 / /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw,nsdelegate",
    );
    const V1: (&str, &str) =
        ("/proc/self/mountinfo", "33 31 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory");
    /// Of a container, Linux 6.1, shortened.
    const V2_STAT: &str = "anon 104857600\nfile 62914560\nkernel 9437184\nslab 7340032\nsock 0\n\
         inactive_anon 104853504\nactive_anon 4096\ninactive_file 41943040\nactive_file 20971520\n";
    /// Of a machine with version 1, Linux 5.15, shortened. Only the totals include the cgroups below.
    const V1_STAT: &str = "cache 4096\nrss 8192\ninactive_file 0\nactive_file 4096\n\
         hierarchical_memory_limit 134217728\ntotal_cache 62914560\ntotal_rss 104857600\n\
         total_inactive_file 20971520\ntotal_active_file 41943040\n";

    fn found(files: &[(&str, &str)]) -> CgroupMemory {
        memory(|path| {
            let file = files.iter().find(|(name, _)| Path::new(name) == path);
            file.map(|(_, text)| (*text).to_owned())
        })
    }

    fn limit(files: &[(&str, &str)]) -> Option<u64> {
        found(files).limit.map(|limit| limit.bytes)
    }

    #[test]
    fn a_container_has_the_limit_and_the_use_of_its_cgroup() {
        let found = found(&[
            ("/proc/self/cgroup", "0::/\n"),
            V2,
            ("/sys/fs/cgroup/memory.max", "536870912\n"),
            ("/sys/fs/cgroup/memory.high", "max\n"),
            ("/sys/fs/cgroup/memory.current", "178257920\n"),
            ("/sys/fs/cgroup/memory.stat", V2_STAT),
        ]);
        let file = PathBuf::from("/sys/fs/cgroup/memory.max");
        assert_eq!(found.limit, Some(MemoryLimit { bytes: 512 << 20, file }));
        let usage = MemoryUse { used_bytes: 170 << 20, working_set_bytes: 130 << 20 };
        assert_eq!(found.usage, Some(usage));
    }

    #[test]
    fn the_lowest_limit_on_the_way_up_holds_and_its_cgroup_is_measured() {
        let at = |own, above| {
            found(&[
                ("/proc/self/cgroup", "0::/system.slice/web.service\n"),
                V2,
                ("/sys/fs/cgroup/system.slice/web.service/memory.max", own),
                ("/sys/fs/cgroup/system.slice/web.service/memory.current", "1\n"),
                ("/sys/fs/cgroup/system.slice/memory.max", above),
                ("/sys/fs/cgroup/system.slice/memory.current", "2\n"),
            ])
        };
        let parts = |found: CgroupMemory| {
            (found.limit.map(|limit| limit.bytes >> 20), found.usage.map(|usage| usage.used_bytes))
        };
        assert_eq!(parts(at("max\n", "max\n")), (None, Some(1)));
        assert_eq!(parts(at("536870912\n", "max\n")), (Some(512), Some(1)));
        assert_eq!(parts(at("536870912\n", "268435456\n")), (Some(256), Some(2)));
    }

    #[test]
    fn memory_high_is_a_limit_if_it_is_lower() {
        let at = |max, high| {
            let found = found(&[
                ("/proc/self/cgroup", "0::/\n"),
                V2,
                ("/sys/fs/cgroup/memory.max", max),
                ("/sys/fs/cgroup/memory.high", high),
            ]);
            found.limit.map(|limit| limit.file.file_name().unwrap().to_owned())
        };
        assert_eq!(at("max", "1000000").unwrap(), "memory.high");
        assert_eq!(at("1000000", "max").unwrap(), "memory.max");
        assert_eq!(at("1000000", "1000000").unwrap(), "memory.max");
        assert_eq!(at("2000000", "1000000").unwrap(), "memory.high");
    }

    #[test]
    fn version_1_has_other_files_and_writes_no_limit_as_a_number() {
        let at = |own| {
            found(&[
                ("/proc/self/cgroup", "7:memory:/x\n3:cpu,cpuacct:/x\n0::/\n"),
                V1,
                ("/sys/fs/cgroup/memory/x/memory.limit_in_bytes", own),
                ("/sys/fs/cgroup/memory/x/memory.usage_in_bytes", "130023424\n"),
                ("/sys/fs/cgroup/memory/x/memory.stat", V1_STAT),
                ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ])
        };
        let limited = at("134217728\n");
        assert_eq!(limited.limit.map(|limit| limit.bytes), Some(128 << 20));
        let usage = MemoryUse { used_bytes: 124 << 20, working_set_bytes: 104 << 20 };
        assert_eq!(limited.usage, Some(usage));
        let unlimited = at("9223372036854771712\n");
        assert_eq!((unlimited.limit, unlimited.usage), (None, Some(usage)));
    }

    #[test]
    fn nothing_is_known_without_files_and_of_the_root() {
        assert_eq!(found(&[]), CgroupMemory::default());
        assert_eq!(found(&[("/proc/self/cgroup", "0::/\n"), V2]), CgroupMemory::default());
        let broken = [("/proc/self/cgroup", "0::/\n"), V2, ("/sys/fs/cgroup/memory.max", "x")];
        assert_eq!(limit(&broken), None);
    }
}
