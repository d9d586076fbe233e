//! Products of pairs with `smmla`: eight bytes of two rows times eight of two inputs.
//!
//! A register has the sums of rows r and r + 1 with both inputs: r with the first, r with the second, then
//! r + 1 likewise. The first vector of a pair has rows 0 to 3, the second one rows 4 to 7.

use std::arch::aarch64::*;
use std::arch::asm;

use super::pairs::Pairs;
use super::words::Bias;
use super::words_neon::keeps_bias;
use crate::simd::neon::{Neon, neon};

/// Proof that the machine has NEON, its dot products and its products of matrices of bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct I8mm(Neon);

impl I8mm {
    /// # Safety
    /// The machine must have what this is the proof of.
    #[inline(always)]
    pub(crate) unsafe fn new() -> Self {
        // SAFETY: as the caller promises.
        Self(unsafe { Neon::new() })
    }
}

/// Adds to each word of `sums` the products of eight bytes: those of the first half of `codes` with both
/// halves of `activations`, then those of the second.
#[inline(always)]
fn multiply_matrices(
    _proof: I8mm,
    sums: uint32x4_t,
    codes: uint32x4_t,
    activations: uint8x16_t,
) -> uint32x4_t {
    let mut sums = sums;
    // SAFETY: registers in, registers out; whoever has an `I8mm` has the instruction, whose
    // intrinsic is not stable.
    unsafe {
        asm!(
            ".arch_extension i8mm",
            "smmla {sums:v}.4s, {codes:v}.16b, {activations:v}.16b",
            sums = inout(vreg) sums,
            codes = in(vreg) codes,
            activations = in(vreg) activations,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sums
}

/// `a0 b0 a1 b1` and `a2 b2 a3 b3`.
#[inline(always)]
fn zipped(_proof: I8mm, a: uint32x4_t, b: uint32x4_t) -> [uint32x4_t; 2] {
    neon!([vzip1q_u32(a, b), vzip2q_u32(a, b)])
}

/// The same of values.
#[inline(always)]
fn zipped_values(_proof: I8mm, a: float32x4_t, b: float32x4_t) -> [float32x4_t; 2] {
    neon!([vzip1q_f32(a, b), vzip2q_f32(a, b)])
}

impl Pairs for I8mm {
    type Simd = Neon;

    #[inline(always)]
    fn simd(self) -> Neon {
        self.0
    }

    #[inline(always)]
    fn codes(self, words: [[uint32x4_t; 2]; 2]) -> [[uint32x4_t; 2]; 2] {
        let [a, b] = words;
        [zipped(self, a[0], b[0]), zipped(self, a[1], b[1])]
    }

    #[inline(always)]
    fn of_rows(self, rows: [float32x4_t; 2]) -> [[float32x4_t; 2]; 2] {
        self.weave([rows, rows])
    }

    #[inline(always)]
    fn of_inputs(self, inputs: &[f32; 4]) -> [[float32x4_t; 2]; 2] {
        // SAFETY: these are four values.
        let inputs = unsafe { vld1q_f32(inputs.as_ptr()) };
        [[inputs; 2]; 2]
    }

    #[inline(always)]
    fn begin(self, bias: Bias, bias_sums: &[u32; 4]) -> [[uint32x4_t; 2]; 2] {
        if !keeps_bias(bias) {
            return neon!([[vdupq_n_u32(0); 2]; 2]);
        }
        let shift = bias.of_sums.ilog2() - bias.of_codes.ilog2();
        // SAFETY: these are four words.
        let sums = unsafe { vld1q_s32(bias_sums.as_ptr().cast()) };
        let sums = neon!(vshlq_s32(sums, vdupq_n_s32(-(shift as i32))));
        neon!([[vreinterpretq_u32_s32(sums); 2]; 2])
    }

    #[inline(always)]
    fn dot(
        self,
        _bias: Bias,
        sums: [[uint32x4_t; 2]; 2],
        codes: [[uint32x4_t; 2]; 2],
        activations: &[i8; 16],
    ) -> [[uint32x4_t; 2]; 2] {
        // SAFETY: these are sixteen bytes.
        let activations = unsafe { vld1q_u8(activations.as_ptr().cast()) };
        let [[a, b], [c, d]] = sums;
        [
            [
                multiply_matrices(self, a, codes[0][0], activations),
                multiply_matrices(self, b, codes[0][1], activations),
            ],
            [
                multiply_matrices(self, c, codes[1][0], activations),
                multiply_matrices(self, d, codes[1][1], activations),
            ],
        ]
    }

    #[inline(always)]
    fn weave(self, inputs: [[float32x4_t; 2]; 2]) -> [[float32x4_t; 2]; 2] {
        let [a, b] = inputs;
        [
            zipped_values(self, a[0], b[0]),
            zipped_values(self, a[1], b[1]),
        ]
    }

    #[inline(always)]
    fn part(self, woven: [[float32x4_t; 2]; 2]) -> [[float32x4_t; 2]; 2] {
        let [[a, b], [c, d]] = woven;
        neon!([
            [vuzp1q_f32(a, b), vuzp1q_f32(c, d)],
            [vuzp2q_f32(a, b), vuzp2q_f32(c, d)],
        ])
    }
}
