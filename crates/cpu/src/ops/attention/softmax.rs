//! The vector kernels after the products: merging pieces, gating.

use crate::simd::{Kernel, Simd, sigmoid};

/// `mixed = mixed * factors[0] + other * factors[1]`
pub(super) struct Merge<'a> {
    pub(super) mixed: &'a mut [f32],
    pub(super) other: &'a [f32],
    pub(super) factors: [f32; 2],
}

impl Kernel for Merge<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let [before, new] = self.factors;
        let len = self.mixed.len();
        assert!(len == self.other.len());
        for at in (0..len).step_by(S::LANES) {
            // SAFETY: `len - at` values remain in both.
            unsafe {
                let place = self.mixed.as_mut_ptr().add(at);
                let old = s.mul(s.load_up_to(place, len - at), s.splat(before));
                let other = s.load_up_to(self.other.as_ptr().add(at), len - at);
                s.store_up_to(place, s.mul_add(other, s.splat(new), old), len - at);
            }
        }
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
