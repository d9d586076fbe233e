//! How much RAM this process can have: the machine's, or less where a container allows less.

use std::fs;
use std::path::{Path, PathBuf};

/// Bytes of RAM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ram {
    /// The machine's.
    pub machine: u64,
    /// What a control group allows, if that is less.
    pub group: Option<u64>,
    /// What can be had now without swapping, what is cached of files included.
    pub free: u64,
}

impl Ram {
    /// Asks the system; `None` where it does not say.
    pub fn look() -> Option<Self> {
        Self::below(Path::new("/"))
    }

    /// All that this process may have.
    pub fn total(&self) -> u64 {
        self.group.unwrap_or(self.machine)
    }

    /// With the system's files below another folder.
    fn below(root: &Path) -> Option<Self> {
        let info = fs::read_to_string(root.join("proc/meminfo")).ok()?;
        let machine = kilobytes(&info, "MemTotal:")?;
        let mut free = kilobytes(&info, "MemAvailable:")?;
        let mut group = None;
        for folder in groups(root) {
            let Some((limit, used)) = group_of(&folder).filter(|(limit, _)| *limit < machine)
            else {
                continue;
            };
            group = Some(group.unwrap_or(limit).min(limit));
            free = free.min(limit.saturating_sub(used));
        }
        Some(Self {
            machine,
            group,
            free,
        })
    }
}

/// The folders of this process's control groups and of all around them, of both versions.
fn groups(root: &Path) -> Vec<PathBuf> {
    let text = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let mut folders = Vec::new();
    for line in text.lines() {
        let mut fields = line.splitn(3, ':');
        let (_, controllers, path) = (fields.next(), fields.next(), fields.next());
        let base = match controllers {
            Some("") => root.join("sys/fs/cgroup"),
            Some(list) if list.split(',').any(|name| name == "memory") => {
                root.join("sys/fs/cgroup/memory")
            }
            _ => continue,
        };
        let path = path.unwrap_or("/").trim_matches('/');
        let inner = base.join(path);
        // Inside of a container the path may be the one outside, which is not there.
        let around = inner
            .ancestors()
            .take_while(|folder| folder.starts_with(&base));
        folders.extend(around.map(Path::to_owned));
    }
    folders
}

/// What a group allows, and what it uses of that and would not give back.
fn group_of(folder: &Path) -> Option<(u64, u64)> {
    let number = |name: &str| -> Option<u64> {
        let text = fs::read_to_string(folder.join(name)).ok()?;
        text.trim().parse().ok()
    };
    let limit = number("memory.max").or_else(|| number("memory.limit_in_bytes"))?;
    let used = number("memory.current").or_else(|| number("memory.usage_in_bytes"))?;
    let stat = fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
    let cached: u64 = ["inactive_file", "active_file"]
        .iter()
        .map(|name| {
            let value = |line: &str| {
                let (key, value) = line.split_once(' ')?;
                (key == *name).then(|| value.trim().parse::<u64>().ok())?
            };
            stat.lines().find_map(value).unwrap_or(0)
        })
        .fold(0, u64::saturating_add);
    Some((limit, used.saturating_sub(cached)))
}

fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    let number = rest.split_whitespace().next()?;
    number.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn system(files: &[(&str, &str)]) -> Option<Ram> {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Ram::below(root.path())
    }

    const MEMINFO: (&str, &str) = (
        "proc/meminfo",
        "MemTotal:  1000 kB\nMemFree: 1 kB\nMemAvailable:  800 kB\n",
    );

    #[test]
    fn a_machine_without_groups_has_what_it_says() {
        let found = system(&[MEMINFO]).unwrap();
        assert_eq!((found.total(), found.free), (1_024_000, 819_200));
        assert_eq!(found.group, None);
        assert_eq!(system(&[]), None);
        let free = [
            MEMINFO,
            ("proc/self/cgroup", "0::/\n"),
            ("sys/fs/cgroup/memory.max", "max\n"),
        ];
        assert_eq!(system(&free).unwrap().group, None);
    }

    #[test]
    fn the_narrowest_group_around_counts_and_its_cached_files_do_not() {
        let found = system(&[
            MEMINFO,
            ("proc/self/cgroup", "0::/outer/inner\n"),
            ("sys/fs/cgroup/outer/memory.max", "500000\n"),
            ("sys/fs/cgroup/outer/memory.current", "300000\n"),
            (
                "sys/fs/cgroup/outer/memory.stat",
                "anon 5\ninactive_file 90000\nactive_file 10000\n",
            ),
            ("sys/fs/cgroup/outer/inner/memory.max", "max\n"),
        ]);
        let found = found.unwrap();
        assert_eq!((found.group, found.free), (Some(500_000), 300_000));
    }

    #[test]
    fn the_first_version_of_groups_is_read() {
        let found = system(&[
            MEMINFO,
            ("proc/self/cgroup", "5:cpu:/x\n4:memory:/box\n"),
            (
                "sys/fs/cgroup/memory/memory.limit_in_bytes",
                "9223372036854771712\n",
            ),
            ("sys/fs/cgroup/memory/memory.usage_in_bytes", "5\n"),
            ("sys/fs/cgroup/memory/box/memory.limit_in_bytes", "400000\n"),
            ("sys/fs/cgroup/memory/box/memory.usage_in_bytes", "100000\n"),
        ]);
        assert_eq!(found.unwrap().free, 300_000);
    }
}
