//! The vector kernels between the products: softmax of a piece, merging pieces, gating.

use crate::simd::{Kernel, Simd, exp, sigmoid};

/// Scales scores and replaces them with exponentials relative to the largest; returns the largest
/// and the sum of exponentials.
pub(super) struct Softmax<'a> {
    pub(super) scores: &'a mut [f32],
    pub(super) scale: f32,
}

impl Kernel for Softmax<'_> {
    type Output = (f32, f32);

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> (f32, f32) {
        let mut largest = f32::NEG_INFINITY;
        for score in self.scores.iter_mut() {
            *score *= self.scale;
            largest = if *score > largest { *score } else { largest };
        }
        let offset = s.splat(largest);
        let mut sum = s.splat(0.0);
        let len = self.scores.len();
        for at in (0..len).step_by(S::LANES) {
            // SAFETY: `len - at` values remain.
            unsafe {
                let place = self.scores.as_mut_ptr().add(at);
                let score = s.load_up_to(place, len - at);
                s.store_up_to(place, exp(s, s.sub(score, offset)), len - at);
                // Loaded again, so that lanes beyond the end count as zero.
                sum = s.add(sum, s.load_up_to(place, len - at));
            }
        }
        (largest, s.sum(sum))
    }
}

/// Merges two partial results of one query, as `Context::partial_len` lays them out.
pub(super) struct Merge<'a> {
    pub(super) sum: &'a mut [f32],
    pub(super) partial: &'a [f32],
}

impl Kernel for Merge<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let head_dim = self.sum.len() - 2;
        let (before, new) = (self.sum[head_dim], self.partial[head_dim]);
        let largest = before.max(new);
        let (before, new) = ((before - largest).exp(), (new - largest).exp());
        for at in (0..head_dim).step_by(S::LANES) {
            let rest = head_dim - at;
            // SAFETY: `rest` values remain in both.
            unsafe {
                let place = self.sum.as_mut_ptr().add(at);
                let old = s.mul(s.load_up_to(place, rest), s.splat(before));
                let partial = s.load_up_to(self.partial.as_ptr().add(at), rest);
                s.store_up_to(place, s.mul_add(partial, s.splat(new), old), rest);
            }
        }
        self.sum[head_dim] = largest;
        self.sum[head_dim + 1] = self.sum[head_dim + 1] * before + self.partial[head_dim + 1] * new;
    }
}

/// `out = mixed / sum * sigmoid(gate)`
pub(super) struct Finish<'a> {
    pub(super) mixed: &'a [f32],
    pub(super) sum: f32,
    pub(super) gate: &'a [f32],
    pub(super) out: &'a mut [f32],
}

impl Kernel for Finish<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let factor = s.splat(1.0 / self.sum);
        let len = self.out.len();
        assert!(len == self.mixed.len() && len == self.gate.len());
        for at in (0..len).step_by(S::LANES) {
            // SAFETY: `len - at` values remain in all three.
            unsafe {
                let mixed = s.load_up_to(self.mixed.as_ptr().add(at), len - at);
                let gate = s.load_up_to(self.gate.as_ptr().add(at), len - at);
                let y = s.mul(s.mul(mixed, factor), sigmoid(s, gate));
                s.store_up_to(self.out.as_mut_ptr().add(at), y, len - at);
            }
        }
    }
}
