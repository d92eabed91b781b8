//! How much memory this process may still take. Knows /proc and control groups, no file format.

use std::fs;
use std::path::Path;

/// Bytes that the machine and the control groups of this process leave it, page cache that can be given back included.
/// `None` where that cannot be told.
pub fn available() -> Option<u64> {
    available_under(Path::new("/proc"), Path::new("/sys/fs/cgroup"))
}

fn available_under(proc: &Path, groups: &Path) -> Option<u64> {
    let machine = machine(&proc.join("meminfo"));
    let groups = left_in_groups(&proc.join("self/cgroup"), groups);
    machine.into_iter().chain(groups).min()
}

/// MemAvailable of /proc/meminfo, which counts in kB.
fn machine(meminfo: &Path) -> Option<u64> {
    let text = fs::read_to_string(meminfo).ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

/// The least that any memory control group of this process leaves: a limit counts for all groups below it.
fn left_in_groups(membership: &Path, groups: &Path) -> Option<u64> {
    let text = fs::read_to_string(membership).ok()?;
    let mut least = None;
    for line in text.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) =
            (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let (root, files) = match controllers {
            "" => (groups.to_path_buf(), &VERSION_2),
            _ if controllers.split(',').any(|name| name == "memory") => {
                (groups.join("memory"), &VERSION_1)
            }
            _ => continue,
        };
        let own = root.join(path.trim_start_matches('/'));
        let levels = own.ancestors().take_while(|level| level.starts_with(&root));
        least = least
            .into_iter()
            .chain(levels.filter_map(|level| left(level, files)))
            .min();
    }
    least
}

/// Names of a group's files; `cache` are the lines of `memory.stat` that count page cache.
struct GroupFiles {
    limit: &'static str,
    usage: &'static str,
    cache: [&'static str; 2],
}

const VERSION_2: GroupFiles = GroupFiles {
    limit: "memory.max",
    usage: "memory.current",
    cache: ["inactive_file", "active_file"],
};
const VERSION_1: GroupFiles = GroupFiles {
    limit: "memory.limit_in_bytes",
    usage: "memory.usage_in_bytes",
    cache: ["total_inactive_file", "total_active_file"],
};

/// What one group leaves. Its page cache does not count as used: reading a file fills it and the kernel takes it back.
fn left(group: &Path, files: &GroupFiles) -> Option<u64> {
    let number = |name: &str| -> Option<u64> {
        fs::read_to_string(group.join(name))
            .ok()?
            .trim()
            .parse()
            .ok()
    };
    let limit = number(files.limit)?;
    let used = number(files.usage)?;
    let stat = fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
    let cache: u64 = stat
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter(|(name, _)| files.cache.contains(name))
        .filter_map(|(_, bytes)| bytes.parse::<u64>().ok())
        .sum();
    Some(limit.saturating_sub(used.saturating_sub(cache)))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn with(name: &str, files: &[(&str, &str)]) -> Folder {
            let root =
                std::env::temp_dir().join(format!("atbr-memory-{}-{name}", std::process::id()));
            for (path, text) in files {
                let path = root.join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            Folder(root)
        }

        fn available(&self) -> Option<u64> {
            available_under(&self.0.join("proc"), &self.0.join("cgroup"))
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    const MEMINFO: (&str, &str) = (
        "proc/meminfo",
        "MemTotal:  9000 kB\nMemAvailable:    4000 kB\n",
    );

    #[test]
    fn machine_without_groups_leaves_what_meminfo_says() {
        let folder = Folder::with("plain", &[MEMINFO]);
        assert_eq!(folder.available(), Some(4000 * 1024));
    }

    #[test]
    fn limit_of_a_parent_group_counts_and_page_cache_does_not_count_as_used() {
        let folder = Folder::with(
            "v2",
            &[
                MEMINFO,
                ("proc/self/cgroup", "0::/a/b\n"),
                ("cgroup/a/b/memory.max", "max\n"),
                ("cgroup/a/b/memory.current", "5\n"),
                ("cgroup/a/memory.max", "100000\n"),
                ("cgroup/a/memory.current", "60000\n"),
                (
                    "cgroup/a/memory.stat",
                    "anon 1\ninactive_file 9000\nactive_file 1000\n",
                ),
            ],
        );
        assert_eq!(folder.available(), Some(50_000));
    }

    #[test]
    fn groups_of_version_1_count() {
        let folder = Folder::with(
            "v1",
            &[
                MEMINFO,
                ("proc/self/cgroup", "4:cpu:/x\n3:hugetlb,memory:/x\n"),
                (
                    "cgroup/memory/memory.limit_in_bytes",
                    "9223372036854771712\n",
                ),
                ("cgroup/memory/memory.usage_in_bytes", "7\n"),
                ("cgroup/memory/x/memory.limit_in_bytes", "70000\n"),
                ("cgroup/memory/x/memory.usage_in_bytes", "80000\n"),
            ],
        );
        assert_eq!(folder.available(), Some(0));
    }

    #[test]
    fn nothing_to_read_is_none() {
        assert_eq!(Folder::with("none", &[]).available(), None);
    }
}
