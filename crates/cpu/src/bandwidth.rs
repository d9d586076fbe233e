//! How fast this machine's memory can be read: the limit of every matrix-vector product.
//!
//! The number to compare a decode step with. It reads what no cache holds, with all threads of a
//! pool and the widest loads there are, and does nothing else with it.

use std::hint::black_box;
use std::time::Instant;

use formats::LargeBuffer;

use crate::isa::Isa;
use crate::pool::Pool;
use crate::simd::{Dispatch, Kernel, Simd};

/// What a thread claims at a time: enough that the claim costs nothing, small enough that two
/// threads of unequal speed end together.
const CHUNK: usize = (1 << 20) / size_of::<f32>();

/// What was measured, in bytes per second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ReadBandwidth {
    /// Of the fastest pass: what the machine can do when nothing disturbs it.
    pub best: f64,
    /// Of the middle one: what it did while we measured.
    pub median: f64,
}

/// Reads `bytes` of memory `passes` times with all threads of a pool, after having written it.
/// Take several times the size of the last cache; half a second is enough.
///
/// # Errors
/// If the system does not have that much memory.
pub fn measure_read(pool: &Pool, bytes: usize, passes: usize) -> std::io::Result<ReadBandwidth> {
    let mut buffer = LargeBuffer::<f32>::zeroed((bytes / size_of::<f32>()).max(CHUNK))?;
    // Until a page is written, all of them are the same page of zeros.
    pool.run_chunks(&mut buffer, CHUNK, |_, chunk| chunk.fill(1.0));
    let dispatch = Dispatch::new(Isa::detect()).expect("what was detected is supported");
    let chunks: Vec<&[f32]> = buffer.chunks(CHUNK).collect();
    let pass = || {
        let start = Instant::now();
        pool.run(chunks.len(), |task| {
            black_box(dispatch.run(Read(chunks[task])));
        });
        size_of_val(&*buffer) as f64 / start.elapsed().as_secs_f64()
    };
    let mut rates: Vec<f64> = (0..passes.max(1)).map(|_| pass()).collect();
    rates.sort_unstable_by(f64::total_cmp);
    Ok(ReadBandwidth {
        best: rates[rates.len() - 1],
        median: rates[rates.len() / 2],
    })
}

/// The sum of all values, so that none can be skipped.
struct Read<'a>(&'a [f32]);

impl Kernel for Read<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        // Independent sums, so that loads and not additions are what is waited for.
        const SUMS: usize = 8;
        let mut sums = [s.splat(0.0); SUMS];
        for values in self.0.chunks_exact(SUMS * S::LANES) {
            for (index, sum) in sums.iter_mut().enumerate() {
                // SAFETY: the chunk has `SUMS` vectors.
                let vector = unsafe { s.load(values.as_ptr().add(index * S::LANES)) };
                *sum = s.add(*sum, vector);
            }
        }
        sums.into_iter().map(|sum| s.sum(sum)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_takes_time_and_every_value_is_read() {
        let pool = Pool::new(2);
        let rate = measure_read(&pool, 8 << 20, 3).unwrap();
        assert!(rate.median > 0.0 && rate.best >= rate.median && rate.best.is_finite());
        for dispatch in crate::simd::every_dispatch() {
            assert_eq!(dispatch.run(Read(&[1.0; 1024])), 1024.0);
        }
    }
}
