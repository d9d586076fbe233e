//! How fast this machine reads memory: what bytes per token are measured against.

use std::time::Instant;

/// Bytes that are read; several times what caches hold.
const BYTES: usize = 512 << 20;
/// Passes over them; the fastest counts, since neighbours only ever slow a pass down.
const PASSES: usize = 5;

/// Bytes per second that `threads` threads read together.
pub(super) fn measure(threads: usize) -> f64 {
    let words = vec![1u64; BYTES / 8];
    let share = words.len().div_ceil(threads.max(1));
    let mut best = f64::INFINITY;
    for _ in 0..PASSES {
        let start = Instant::now();
        std::thread::scope(|scope| {
            for part in words.chunks(share) {
                scope.spawn(move || std::hint::black_box(sum(part)));
            }
        });
        best = best.min(start.elapsed().as_secs_f64());
    }
    BYTES as f64 / best
}

/// Sums in lanes that do not wait for each other.
fn sum(words: &[u64]) -> u64 {
    let mut lanes = [0u64; 16];
    for chunk in words.chunks_exact(16) {
        for (lane, word) in lanes.iter_mut().zip(chunk) {
            *lane = lane.wrapping_add(*word);
        }
    }
    lanes.iter().fold(0, |all, lane| all.wrapping_add(*lane))
}
