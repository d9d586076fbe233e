//! Inputs of integer dot products: 8-bit codes with a scale per 32 values.
//!
//! One format serves every quantised weight type. Scales per 32 values (not per 256) cost the
//! kernels little, halve the rounding error next to outliers, and let any 32 values be quantised
//! without seeing the others.

use tensor::Tensor;

use crate::simd::{Dispatch, Kernel, Simd};

/// Values that share a scale.
pub(crate) const GROUP: usize = 32;

/// 32 values: value i is `scale * codes[i]`. A cache line, with all that kernels want to know.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct ActivationGroup {
    /// Between -127 and 127.
    pub(crate) codes: [i8; GROUP],
    pub(crate) scale: f32,
    /// The sum of the codes, for weights with a minimum, and that of each half.
    pub(crate) sum: f32,
    pub(crate) half_sums: [f32; 2],
    /// -128 times the sum of the codes, for weights whose codes have an offset.
    pub(crate) bias: i32,
    /// -32 times the sum of each half.
    pub(crate) half_biases: [i32; 2],
}

/// The f32 values that take as much room as a group.
const GROUP_FLOATS: usize = size_of::<ActivationGroup>() / size_of::<f32>();

/// Rows of quantised values, each padded with zeros to whole groups.
#[derive(Debug)]
pub(crate) struct Quantised {
    /// Holds the groups, from the first aligned place on: tensors pass their memory on.
    memory: Tensor,
    rows: usize,
    groups_per_row: usize,
    /// From one row to the next.
    stride: usize,
}

impl Quantised {
    /// Room for `rows` rows of `cols` values, of unspecified content.
    pub(crate) fn unspecified(rows: usize, cols: usize) -> Self {
        let groups_per_row = cols.div_ceil(GROUP);
        // An odd number: rows that lie a multiple of 4 KiB apart would share the lines of a cache.
        let stride = groups_per_row | 1;
        Self {
            memory: Tensor::unspecified(1, (rows * stride + 1) * GROUP_FLOATS),
            rows,
            groups_per_row,
            stride,
        }
    }

    /// The groups of one row.
    ///
    /// # Panics
    /// If there is no such row.
    pub(crate) fn row(&self, row: usize) -> &[ActivationGroup] {
        &self.groups()[row * self.stride..][..self.groups_per_row]
    }

    /// All groups, and how many of them lie between the beginnings of two rows: perhaps more than
    /// a row needs.
    pub(crate) fn groups_mut(&mut self) -> (&mut [ActivationGroup], usize) {
        let floats = self.memory.data_mut();
        // SAFETY: as in `groups`.
        let (_, groups, _) = unsafe { floats.align_to_mut::<ActivationGroup>() };
        (&mut groups[..self.rows * self.stride], self.stride)
    }

    fn groups(&self) -> &[ActivationGroup] {
        let floats = self.memory.data();
        // SAFETY: any bits are a group, as any bits are floats; the slice is aligned and in range,
        // which `align_to` sees to.
        let (_, groups, _) = unsafe { floats.align_to::<ActivationGroup>() };
        &groups[..self.rows * self.stride]
    }
}

impl Clone for Quantised {
    fn clone(&self) -> Self {
        let mut copy = Self {
            memory: Tensor::unspecified(1, self.memory.cols()),
            rows: self.rows,
            groups_per_row: self.groups_per_row,
            stride: self.stride,
        };
        copy.groups_mut().0.copy_from_slice(self.groups());
        copy
    }
}

/// Quantises one row into its groups: per 32 values the largest magnitude becomes 127, and the
/// others round to nearest, halves to even.
///
/// Groups whose largest magnitude is below about 4e-37 become zero (their scale's inverse is no
/// f32); infinities and NaN make their group NaN, so that they are not lost.
pub(crate) fn quantise_row(dispatch: Dispatch, row: &[f32], groups: &mut [ActivationGroup]) {
    dispatch.run(QuantiseRow { row, groups });
}

struct QuantiseRow<'a> {
    row: &'a [f32],
    groups: &'a mut [ActivationGroup],
}

impl Kernel for QuantiseRow<'_> {
    type Output = ();

    // Plain loops over arrays: the compiler vectorises them for each instruction set.
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (whole, rest) = self.row.as_chunks::<GROUP>();
        for index in 0..whole.len() {
            quantise_group(s, &whole[index], &mut self.groups[index]);
        }
        if !rest.is_empty() {
            let mut padded = [0.0; GROUP];
            padded[..rest.len()].copy_from_slice(rest);
            quantise_group(s, &padded, &mut self.groups[whole.len()]);
        }
    }
}

#[inline(always)]
fn quantise_group<S: Simd>(s: S, values: &[f32; GROUP], group: &mut ActivationGroup) {
    // The bits of magnitudes order as the numbers do, with NaN above all.
    let mut largest = 0;
    for i in 0..GROUP {
        let magnitude = values[i].to_bits() & 0x7fff_ffff;
        largest = if magnitude > largest {
            magnitude
        } else {
            largest
        };
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
    for i in 0..GROUP {
        // Adding 1.5 * 2^23 leaves the nearest integer, halves to even, in the low bits.
        group.codes[i] = (values[i] * inverse + 12_582_912.0).to_bits() as i8;
    }
    // The same numbers once more, since sums of bytes or words are made lane by lane.
    let mut sums = [0.0; 2];
    for half in 0..2 {
        let mut sum = s.splat(0.0);
        for vector in 0..GROUP / 2 / S::LANES {
            // SAFETY: within the group.
            let values =
                unsafe { s.load(values[half * (GROUP / 2)..].as_ptr().add(vector * S::LANES)) };
            sum = s.add(sum, s.round(s.mul(values, s.splat(inverse))));
        }
        sums[half] = s.sum(sum);
    }
    let integers = [sums[0] as i32, sums[1] as i32];
    group.scale = scale;
    group.sum = sums[0] + sums[1];
    group.half_sums = sums;
    group.bias = -128 * (integers[0] + integers[1]);
    group.half_biases = [-32 * integers[0], -32 * integers[1]];
}

#[cfg(test)]
pub(crate) fn dequantise(row: &[ActivationGroup], cols: usize) -> Vec<f64> {
    let value = |i: usize| {
        let group = &row[i / GROUP];
        f64::from(group.scale) * f64::from(group.codes[i % GROUP])
    };
    (0..cols).map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::every_dispatch;

    fn quantised(dispatch: Dispatch, row: &[f32]) -> Quantised {
        let mut quantised = Quantised::unspecified(1, row.len());
        quantise_row(dispatch, row, quantised.groups_mut().0);
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
            for group in quantised.row(0) {
                let sum = |codes: &[i8]| codes.iter().map(|code| i32::from(*code)).sum::<i32>();
                let halves = [sum(&group.codes[..16]), sum(&group.codes[16..])];
                assert_eq!(group.half_sums, halves.map(|half| half as f32));
                assert_eq!(group.half_biases, halves.map(|half| -32 * half));
                assert_eq!(group.sum, (halves[0] + halves[1]) as f32);
                assert_eq!(group.bias, -128 * (halves[0] + halves[1]));
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
            for (a, b) in all[0].row(0).iter().zip(other.row(0)) {
                assert_eq!((a.codes, a.scale, a.sum), (b.codes, b.scale, b.sum));
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
