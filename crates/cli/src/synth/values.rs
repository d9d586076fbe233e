//! Random weights at the speed of copying.
//!
//! Encoding every value of a large model would take an hour; the speed of an engine does not
//! depend on them. So a pool of random pieces (256 values of a row) is encoded once per type and
//! scale, and a matrix is put together of pieces picked at random: no two rows are alike, all have
//! the distribution that was asked for, and every byte is written for itself.

use std::collections::HashMap;
use std::sync::Arc;

use formats::DType;
use rayon::prelude::*;
use tensor::quant::{self, QuantError};

/// Values in a piece where the row allows it: the longest block of any type.
const PIECE: usize = 256;

/// Pieces in a pool: a megabyte or so, so that picking stays in the cache.
const POOL_PIECES: usize = 4096;

/// A small and fast generator (splitmix64): good enough for weights that mean nothing.
#[derive(Debug, Clone)]
pub(super) struct Random(u64);

impl Random {
    /// A stream of its own for each list of numbers.
    pub(super) fn new(seed: &[u64]) -> Self {
        let mut random = Self(0x9e37_79b9_7f4a_7c15);
        for &number in seed {
            random.0 ^= number;
            random.0 = random.next();
        }
        random
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Evenly in `(0, 1]`.
    pub(super) fn uniform(&mut self) -> f32 {
        ((self.next() >> 40) + 1) as f32 / (1u64 << 24) as f32
    }

    /// Normally distributed with deviation 1 (Box and Muller).
    pub(super) fn normal(&mut self) -> f32 {
        let radius = (-2.0 * self.uniform().ln()).sqrt();
        radius * (std::f32::consts::TAU * self.uniform()).cos()
    }
}

/// Encoded random pieces of one type and scale.
pub(super) struct Pool {
    bytes: Vec<u8>,
    piece_bytes: usize,
}

impl Pool {
    fn new(dtype: DType, piece: usize, deviation: f32, seed: u64) -> Result<Self, QuantError> {
        let piece_bytes = dtype
            .row_bytes(piece)
            .expect("a piece is whole blocks of the type");
        let mut bytes = vec![0; POOL_PIECES * piece_bytes];
        bytes
            .par_chunks_mut(piece_bytes)
            .enumerate()
            .try_for_each(|(index, out)| {
                let mut random = Random::new(&[seed, dtype as u64, index as u64]);
                let values: Vec<f32> = (0..piece).map(|_| deviation * random.normal()).collect();
                quant::encode(dtype, &values, out)
            })?;
        Ok(Self { bytes, piece_bytes })
    }

    /// Fills a row with pieces picked at random.
    pub(super) fn fill(&self, row: &mut [u8], mut random: Random) {
        for out in row.chunks_mut(self.piece_bytes) {
            let pick = random.next() as usize % POOL_PIECES;
            out.copy_from_slice(&self.bytes[pick * self.piece_bytes..][..out.len()]);
        }
    }
}

/// The pools made so far.
pub(super) struct Pools {
    seed: u64,
    made: HashMap<(DType, usize, u32), Arc<Pool>>,
}

impl Pools {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            seed,
            made: HashMap::new(),
        }
    }

    /// The pool for rows of `cols` values with this standard deviation.
    pub(super) fn get(
        &mut self,
        dtype: DType,
        cols: usize,
        deviation: f32,
    ) -> Result<Arc<Pool>, QuantError> {
        let piece = if cols.is_multiple_of(PIECE) {
            PIECE
        } else {
            dtype.block_len()
        };
        let key = (dtype, piece, deviation.to_bits());
        if let Some(pool) = self.made.get(&key) {
            return Ok(Arc::clone(pool));
        }
        let pool = Arc::new(Pool::new(dtype, piece, deviation, self.seed)?);
        self.made.insert(key, Arc::clone(&pool));
        Ok(pool)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_have_the_deviation_that_was_asked_for() {
        for dtype in [DType::Q4_K, DType::Q8_0, DType::MXFP4, DType::F32] {
            let pool = Pools::new(1).get(dtype, 4096, 0.25).unwrap();
            let mut row = vec![0; dtype.row_bytes(4096).unwrap()];
            pool.fill(&mut row, Random::new(&[7]));
            let mut values = vec![0.0; 4096];
            quant::decode(dtype, &row, &mut values).unwrap();
            let mean = values.iter().sum::<f32>() / 4096.0;
            let square = values.iter().map(|value| value * value).sum::<f32>() / 4096.0;
            assert!(mean.abs() < 0.03, "{dtype}: mean {mean}");
            assert!((square.sqrt() - 0.25).abs() < 0.03, "{dtype}: {square}");
        }
    }
}
