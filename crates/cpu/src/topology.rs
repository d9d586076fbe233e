//! How many threads are worth starting on this machine, and which of them come first.

use std::collections::BTreeSet;
use std::fs;

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

/// Lets the pages that the calling thread is the first to touch come from all of the machine's
/// memory nodes in turn. Without effect where there is one node, or the system knows none.
pub(crate) fn spread_memory_over_nodes() {
    #[cfg(target_os = "linux")]
    {
        let nodes = fs::read_to_string("/sys/devices/system/node/has_memory");
        let mask = nodes.ok().and_then(|list| mask_of(&list)).unwrap_or(0);
        if mask.count_ones() > 1 {
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

/// The bits of a list such as `0-3,6`; `None` if it is none, or has numbers from 64 on.
#[cfg(target_os = "linux")]
fn mask_of(list: &str) -> Option<u64> {
    let mut mask = 0;
    for range in list.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        for bit in first..=last {
            mask |= 1_u64.checked_shl(bit)?;
        }
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
}
