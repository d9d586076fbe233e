//! States copied to snapshots and back, by all threads: one core does not use all bandwidth, and
//! fresh memory has to be taken from the system page by page.

use tensor::{Buffer, HostMemory, OpError, StateId, StateSnapshot};

use crate::cpu::Cpu;
use crate::parts::Parts;

/// Values a task copies: 512 KiB.
const CHUNK: usize = 1 << 17;

pub(super) fn snapshot(
    cpu: &Cpu,
    memory: &HostMemory,
    state: StateId,
) -> Result<StateSnapshot, OpError> {
    let parts = memory.state_parts(state)?;
    let mut values = Buffer::zeroed(parts.iter().map(|part| part.len()).sum())?;
    let chunks: Vec<&[f32]> = parts.iter().flat_map(|part| part.chunks(CHUNK)).collect();
    let mut rest = &mut values[..];
    let mut copies = Vec::with_capacity(chunks.len());
    for from in chunks {
        let (to, tail) = rest.split_at_mut(from.len());
        copies.push((to, from));
        rest = tail;
    }
    copy(cpu, copies);
    Ok(StateSnapshot { values })
}

pub(super) fn restore(
    cpu: &Cpu,
    memory: &mut HostMemory,
    state: StateId,
    snapshot: &StateSnapshot,
) -> Result<(), OpError> {
    memory.check_snapshot(snapshot)?;
    let mut rest = &snapshot.values[..];
    let mut copies = Vec::new();
    for part in memory.state_parts_mut(state) {
        for to in part.chunks_mut(CHUNK) {
            let (from, tail) = rest.split_at(to.len());
            copies.push((to, from));
            rest = tail;
        }
    }
    copy(cpu, copies);
    Ok(())
}

/// Copies each second slice to the first one beside it.
fn copy(cpu: &Cpu, mut copies: Vec<(&mut [f32], &[f32])>) {
    let count = copies.len();
    let copies = Parts::new(&mut copies);
    cpu.pool.run(count, |task| {
        // SAFETY: each task takes its own pair.
        for (to, from) in unsafe { copies.part(task..task + 1) } {
            to.copy_from_slice(from);
        }
    });
}
