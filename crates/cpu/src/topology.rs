//! How many threads are worth starting on this machine, and which of them come first.

use std::collections::BTreeSet;
use std::fs;
#[cfg(target_os = "linux")]
use std::{ops::RangeInclusive, path::Path};

/// One thread per physical core that this process may use, and no more than its CPU quota.
///
/// The affinity mask and the cgroup's quota (v1 and v2) count; where the machine hides its
/// topology, each allowed logical CPU counts as a core. Never 0.
pub fn default_threads() -> usize {
    // The standard library takes the mask and both cgroup versions into account.
    let allowed = std::thread::available_parallelism().map_or(1, usize::from);
    allowed_cpus()
        .and_then(|cpus| physical_cores(&cpus))
        .map_or(allowed, |cores| cores.min(allowed))
        .max(1)
}

/// Gives the calling thread about a tenth of another's share where there are more threads than
/// cores. Without effect where the system does not do that for single threads.
pub(crate) fn lower_priority() {
    #[cfg(target_os = "linux")]
    // SAFETY: numbers go in and out; 0 means the calling thread.
    unsafe {
        // Whether it worked does not matter to anybody.
        let _ = libc::setpriority(libc::PRIO_PROCESS, 0, 10);
    }
}

/// Lets the pages that the calling thread is the first to touch come in turn from all of the machine's memory nodes
/// whose CPUs this process may use. Without effect where there is one, where the system knows none, or where somebody
/// has said already where memory is to come from, as `numactl` does.
pub(crate) fn spread_memory_over_nodes() {
    #[cfg(target_os = "linux")]
    {
        let allowed = allowed_cpus().unwrap_or_default();
        let mask = nodes_of(Path::new("/sys/devices/system/node"), &allowed);
        if mask.count_ones() > 1 && has_default_policy() {
            // SAFETY: the kernel reads as many bits of the mask as it is told.
            unsafe {
                // Whether it worked does not matter to anybody.
                let bits = u64::BITS as libc::c_ulong;
                libc::syscall(
                    libc::SYS_set_mempolicy,
                    libc::MPOL_INTERLEAVE,
                    &mask,
                    bits + 1,
                );
            }
        }
    }
}

/// Whether the calling thread's pages come from wherever it runs.
#[cfg(target_os = "linux")]
fn has_default_policy() -> bool {
    let mut policy: libc::c_int = -1;
    let nothing = std::ptr::null_mut::<libc::c_ulong>();
    // SAFETY: the kernel writes a policy and, as there is no room for one, no mask; no address is asked about.
    let result = unsafe {
        let address = std::ptr::null_mut::<libc::c_void>();
        libc::syscall(
            libc::SYS_get_mempolicy,
            &raw mut policy,
            nothing,
            0,
            address,
            0,
        )
    };
    result == 0 && policy == libc::MPOL_DEFAULT
}

/// The memory nodes that have one of these CPUs, as the system's folder of nodes lists them.
#[cfg(target_os = "linux")]
fn nodes_of(folder: &Path, cpus: &[usize]) -> u64 {
    let list = |name: &str| fs::read_to_string(folder.join(name)).unwrap_or_default();
    let with_memory = mask_of(&list("has_memory")).unwrap_or(0);
    let has_cpu = |node: &u32| {
        let own = ranges_of(&list(&format!("node{node}/cpulist"))).unwrap_or_default();
        cpus.iter()
            .any(|cpu| own.iter().any(|range| range.contains(cpu)))
    };
    (0..u64::BITS)
        .filter(|node| with_memory >> node & 1 == 1)
        .filter(has_cpu)
        .fold(0, |mask, node| mask | 1 << node)
}

/// The ranges of a list such as `0-3,6`; `None` if it is none.
#[cfg(target_os = "linux")]
fn ranges_of(list: &str) -> Option<Vec<RangeInclusive<usize>>> {
    let range = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(first.parse().ok()?..=last.parse().ok()?)
    };
    list.trim().split(',').map(range).collect()
}

/// The bits of a list such as `0-3,6`; `None` if it is none, or has numbers from 64 on.
#[cfg(target_os = "linux")]
fn mask_of(list: &str) -> Option<u64> {
    let mut mask = 0;
    for bit in ranges_of(list)?.into_iter().flatten() {
        mask |= 1_u64.checked_shl(u32::try_from(bit).ok()?)?;
    }
    Some(mask)
}

/// The logical CPUs of the affinity mask.
#[cfg(target_os = "linux")]
fn allowed_cpus() -> Option<Vec<usize>> {
    // SAFETY: a CPU set is plain bits, for which zero is a value; the call writes at most the
    // given size into it. Masks longer than the set make it fail, not overflow.
    let set = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        if libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) != 0 {
            return None;
        }
        set
    };
    // SAFETY: every index asked for is below the set's size.
    let is_set = |cpu: &usize| unsafe { libc::CPU_ISSET(*cpu, &set) };
    Some(
        (0..8 * size_of::<libc::cpu_set_t>())
            .filter(is_set)
            .collect(),
    )
}

#[cfg(not(target_os = "linux"))]
fn allowed_cpus() -> Option<Vec<usize>> {
    None
}

/// How many distinct cores the CPUs belong to; `None` if the system does not say.
fn physical_cores(cpus: &[usize]) -> Option<usize> {
    let core_of = |cpu: &usize| {
        let folder = format!("/sys/devices/system/cpu/cpu{cpu}/topology");
        fs::read_to_string(format!("{folder}/core_cpus_list"))
            .or_else(|_| fs::read_to_string(format!("{folder}/thread_siblings_list")))
            .ok()
    };
    let cores: Option<BTreeSet<String>> = cpus.iter().map(core_of).collect();
    cores.map(|cores| cores.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_no_more_threads_than_allowed_cpus() {
        let threads = default_threads();
        assert!(threads >= 1);
        assert!(threads <= std::thread::available_parallelism().map_or(1, usize::from));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn lists_of_nodes_are_read() {
        assert_eq!(mask_of("0\n"), Some(1));
        assert_eq!(mask_of("0-1"), Some(3));
        assert_eq!(mask_of("0-2,5"), Some(0b10_0111));
        assert_eq!(mask_of("64"), None);
        assert_eq!(mask_of(""), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn memory_comes_from_nodes_that_may_be_used() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        write("has_memory", "0-1,3\n");
        for (node, cpus) in ["0-3,8-11", "4-7", "12-15", "16\n", ""].iter().enumerate() {
            fs::create_dir(folder.path().join(format!("node{node}"))).unwrap();
            write(&format!("node{node}/cpulist"), cpus);
        }
        let nodes = |cpus: &[usize]| nodes_of(folder.path(), cpus);
        assert_eq!(nodes(&[1, 5, 16]), 0b1011);
        assert_eq!(nodes(&[0, 9]), 0b1);
        // The third node has no memory.
        assert_eq!(nodes(&[12, 4]), 0b10);
        assert_eq!(nodes(&[]), 0);
        assert_eq!(nodes_of(Path::new("/nowhere"), &[0]), 0);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_somebody_has_said_about_memory_is_noticed() {
        let set = |policy: libc::c_int| {
            let no_nodes = std::ptr::null::<libc::c_ulong>();
            // SAFETY: there is no mask to be read.
            unsafe { libc::syscall(libc::SYS_set_mempolicy, policy, no_nodes, 0) == 0 }
        };
        // A policy is its thread's own.
        let noticed = std::thread::spawn(move || {
            if !set(libc::MPOL_DEFAULT) {
                eprintln!("skipped: the system does not let memory policies be set");
                return;
            }
            assert!(has_default_policy());
            assert!(set(libc::MPOL_PREFERRED));
            assert!(!has_default_policy());
        });
        noticed.join().unwrap();
    }
}
