//! Inputs of integer dot products: 8-bit codes with a scale per 32 values.
//!
//! One format serves every quantised weight type. Scales per 32 values (not per 256) cost the
//! kernels nothing measurable, halve the rounding error next to outliers, and let any 32 values be
//! quantised without seeing the others.

use crate::simd::{Dispatch, Kernel, Simd};

/// Values per block: the longest block of the weight types.
pub(crate) const BLOCK: usize = 256;
/// Values that share a scale.
const GROUP: usize = 32;
/// Values per scale and per sum as they are kept: the shortest group of the weight types, so that
/// kernels multiply factors lane by lane.
const PART: usize = 16;

/// 256 values: value i is `scales[i / 16] * codes[i]`.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct ActivationBlock {
    /// Between -127 and 127.
    pub(crate) codes: [i8; BLOCK],
    /// Each value twice: 32 values share a scale.
    pub(crate) scales: [f32; BLOCK / PART],
    /// The sum of the values of each 16, for weights with an offset.
    pub(crate) sums: [f32; BLOCK / PART],
}

impl ActivationBlock {
    const ZERO: Self = Self {
        codes: [0; BLOCK],
        scales: [0.0; BLOCK / PART],
        sums: [0.0; BLOCK / PART],
    };
}

/// Rows of quantised values, each padded with zeros to whole blocks.
#[derive(Debug, Clone)]
pub(crate) struct Quantised {
    blocks: Vec<ActivationBlock>,
    blocks_per_row: usize,
}

impl Quantised {
    /// Room for `rows` rows of `cols` values, all zero.
    pub(crate) fn zeros(rows: usize, cols: usize) -> Self {
        let blocks_per_row = cols.div_ceil(BLOCK).max(1);
        Self {
            blocks: vec![ActivationBlock::ZERO; rows * blocks_per_row],
            blocks_per_row,
        }
    }

    /// The blocks of one row.
    pub(crate) fn row(&self, row: usize) -> &[ActivationBlock] {
        &self.blocks[row * self.blocks_per_row..][..self.blocks_per_row]
    }

    /// All blocks, and how many a row has.
    pub(crate) fn blocks_mut(&mut self) -> (&mut [ActivationBlock], usize) {
        (&mut self.blocks, self.blocks_per_row)
    }
}

/// Quantises one row into its blocks, which must be zero: per 32 values the largest magnitude
/// becomes 127, and the others round to nearest, halves to even.
///
/// Groups whose largest magnitude is below about 4e-37 become zero (their scale's inverse is no
/// f32); infinities and NaN make their group NaN, so that they are not lost.
pub(crate) fn quantise_row(dispatch: Dispatch, row: &[f32], blocks: &mut [ActivationBlock]) {
    dispatch.run(QuantiseRow { row, blocks });
}

struct QuantiseRow<'a> {
    row: &'a [f32],
    blocks: &'a mut [ActivationBlock],
}

impl Kernel for QuantiseRow<'_> {
    type Output = ();

    // Plain loops over arrays: the compiler vectorises them for each instruction set.
    #[inline(always)]
    fn run<S: Simd>(self, _simd: S) {
        for (values, block) in self.row.chunks(BLOCK).zip(self.blocks) {
            let (groups, rest) = values.as_chunks::<GROUP>();
            for (index, group) in groups.iter().enumerate() {
                quantise_group(group, block, index);
            }
            if !rest.is_empty() {
                let mut padded = [0.0; GROUP];
                padded[..rest.len()].copy_from_slice(rest);
                quantise_group(&padded, block, groups.len());
            }
        }
    }
}

#[inline(always)]
fn quantise_group(group: &[f32; GROUP], block: &mut ActivationBlock, index: usize) {
    // The bits of magnitudes order as the numbers do, with NaN above all.
    let mut largest = 0;
    for value in group {
        largest = largest.max(value.to_bits() & 0x7fff_ffff);
    }
    let scale = f32::from_bits(largest) * (1.0 / 127.0);
    let inverse = scale.recip();
    let (scale, inverse) = if !scale.is_finite() {
        (f32::NAN, 0.0)
    } else if !inverse.is_finite() {
        (0.0, 0.0)
    } else {
        (scale, inverse)
    };
    let codes: &mut [i8] = &mut block.codes[index * GROUP..][..GROUP];
    let mut integers = [0i32; GROUP];
    for i in 0..GROUP {
        // Adding 1.5 * 2^23 leaves the nearest integer, halves to even, in the low bits.
        let rounded = group[i] * inverse + 12_582_912.0;
        integers[i] = i32::from(rounded.to_bits() as i8);
        codes[i] = rounded.to_bits() as i8;
    }
    for part in 0..GROUP / PART {
        let mut sum = 0;
        for integer in &integers[part * PART..][..PART] {
            sum += integer;
        }
        block.scales[index * 2 + part] = scale;
        block.sums[index * 2 + part] = scale * sum as f32;
    }
}

#[cfg(test)]
pub(crate) fn dequantise(row: &[ActivationBlock], cols: usize) -> Vec<f64> {
    let value = |i: usize| {
        let block = &row[i / BLOCK];
        let at = i % BLOCK;
        f64::from(block.scales[at / PART]) * f64::from(block.codes[at])
    };
    (0..cols).map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::every_dispatch;

    fn quantised(dispatch: Dispatch, row: &[f32]) -> Quantised {
        let mut quantised = Quantised::zeros(1, row.len());
        quantise_row(dispatch, row, quantised.blocks_mut().0);
        quantised
    }

    #[test]
    fn values_come_back_within_half_a_step() {
        let row: Vec<f32> = (0..300)
            .map(|i| (i as f32 * 0.7).sin() * (1 + i / 32) as f32)
            .collect();
        for dispatch in every_dispatch() {
            let quantised = quantised(dispatch, &row);
            let back = dequantise(quantised.row(0), row.len());
            for (group, values) in row.chunks(GROUP).enumerate() {
                let largest = values.iter().fold(0.0f32, |m, v| m.max(v.abs()));
                for (i, value) in values.iter().enumerate() {
                    let error = (f64::from(*value) - back[group * GROUP + i]).abs();
                    assert!(error <= f64::from(largest) / 254.0 * 1.0001);
                }
            }
            let blocks = quantised.row(0);
            for (part, sum) in blocks.iter().flat_map(|block| &block.sums).enumerate() {
                let exact: f64 = back.iter().skip(part * PART).take(PART).sum();
                assert!((f64::from(*sum) - exact).abs() < 1e-5);
            }
        }
    }

    #[test]
    fn every_instruction_set_gives_the_same_codes() {
        let row: Vec<f32> = (0..512)
            .map(|i| ((i * 37 % 101) as f32 - 50.0) / 3.0)
            .collect();
        let all: Vec<_> = every_dispatch().map(|d| quantised(d, &row)).collect();
        for other in &all[1..] {
            for (a, b) in all[0].blocks.iter().zip(&other.blocks) {
                assert_eq!((a.codes, a.scales, a.sums), (b.codes, b.scales, b.sums));
            }
        }
    }

    #[test]
    fn extreme_values_stay_sane() {
        for dispatch in every_dispatch() {
            let zero = quantised(dispatch, &[0.0; 40]);
            assert!(dequantise(zero.row(0), 40).iter().all(|v| *v == 0.0));
            let tiny = quantised(dispatch, &[1e-40; 40]);
            assert!(dequantise(tiny.row(0), 40).iter().all(|v| *v == 0.0));
            let huge = quantised(dispatch, &[-3e38; 40]);
            assert!(
                dequantise(huge.row(0), 40)
                    .iter()
                    .all(|v| (v + 3e38).abs() < 3e33)
            );
            for bad in [f32::NAN, f32::INFINITY] {
                let mut row = [1.0; 64];
                row[3] = bad;
                let back = dequantise(quantised(dispatch, &row).row(0), 64);
                assert!(back[..32].iter().all(|v| v.is_nan()));
                assert!(back[32..].iter().all(|v| (*v - 1.0).abs() < 1e-6));
            }
        }
    }
}
