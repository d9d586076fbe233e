//! Dot products of quantised weights with 8-bit activations.
//!
//! Every weight type is brought to one form per 256 values, [`Unpacked`]: codes, 16 scales, and 16
//! offsets ("minima"), one per 16 values. With activations `a` of [`ActivationBlock`] a block adds
//!
//! ```text
//! sum over parts p of 16:  scale_w[p] scale_a[p] sum(code_w code_a)  -  min_w[p] sum_a[p]
//! ```
//!
//! The inner sums are exact integers. What is rounded are the products of scales and the f32
//! accumulation, one accumulator of lanes per pair of weight row and input.

use crate::activations::ActivationBlock;
use crate::simd::{Kernel, Simd};

/// What an instruction set needs for integer dot products. Kept apart from [`Simd`] because it is
/// about storage formats, not vectors.
pub(crate) trait BlockDots: Copy {
    /// A vector of f32 lanes.
    type F: Copy;
    /// 256 codes.
    type Codes: Copy;
    /// 16 f32 values.
    type Factors: Copy;

    /// Eight blocks of Q8_0 (272 bytes).
    ///
    /// # Safety
    /// `from` must point to that many bytes; this holds for all of these functions.
    unsafe fn unpack_q8_0(self, from: *const u8) -> Unpacked<Self>;

    /// A block of Q4_K (144 bytes).
    ///
    /// # Safety
    /// As above.
    unsafe fn unpack_q4_k(self, from: *const u8) -> Unpacked<Self>;

    /// A block of Q5_K (176 bytes).
    ///
    /// # Safety
    /// As above.
    unsafe fn unpack_q5_k(self, from: *const u8) -> Unpacked<Self>;

    /// A block of Q6_K (210 bytes).
    ///
    /// # Safety
    /// As above.
    unsafe fn unpack_q6_k(self, from: *const u8) -> Unpacked<Self>;

    /// Adds one block's product, spread over lanes, to `sum`. `SIGNED` is [`Format::SIGNED`] of
    /// the format that was unpacked.
    fn add_block<const SIGNED: bool>(
        self,
        sum: Self::F,
        weights: &Unpacked<Self>,
        activations: &ActivationBlock,
    ) -> Self::F;
}

/// 256 weights: value i is `scales[i / 16] * codes[i] - mins[i / 16]`.
#[derive(Clone, Copy)]
pub(crate) struct Unpacked<S: BlockDots> {
    pub(crate) codes: S::Codes,
    pub(crate) scales: S::Factors,
    pub(crate) mins: S::Factors,
}

/// A weight type with an integer kernel.
pub(crate) trait Format: Copy {
    /// Bytes per 256 values.
    const BYTES: usize;
    /// Whether codes may be below zero; then instruction sets may store them as signed bytes and
    /// leave out the minima. Otherwise they are below 64.
    const SIGNED: bool;

    /// # Safety
    /// `from` must point to `BYTES` bytes.
    unsafe fn unpack<S: BlockDots>(self, s: S, from: *const u8) -> Unpacked<S>;
}

macro_rules! format {
    ($name:ident, $bytes:literal, $signed:literal, $unpack:ident) => {
        #[doc = concat!("[`BlockDots::", stringify!($unpack), "`]")]
        #[derive(Debug, Clone, Copy)]
        pub(crate) struct $name;

        impl Format for $name {
            const BYTES: usize = $bytes;
            const SIGNED: bool = $signed;

            #[inline(always)]
            unsafe fn unpack<S: BlockDots>(self, s: S, from: *const u8) -> Unpacked<S> {
                // SAFETY: as the caller promises.
                unsafe { s.$unpack(from) }
            }
        }
    };
}

format!(Q8_0, 272, true, unpack_q8_0);
format!(Q4K, 144, false, unpack_q4_k);
format!(Q5K, 176, false, unpack_q5_k);
format!(Q6K, 210, false, unpack_q6_k);

/// The scales and minima of Q4_K and Q5_K as bytes in group order, from their 12 packed bytes.
///
/// Groups 0..4 have theirs in the low six bits of bytes 0..4 and 4..8. Those of groups 4..8 have
/// their low four bits in the nibbles of bytes 8..12 and their high two in the first eight bytes.
#[inline(always)]
pub(crate) fn k_scales_and_mins(packed: [u8; 12]) -> (u64, u64) {
    let word = |at: usize| {
        u32::from_le_bytes([packed[at], packed[at + 1], packed[at + 2], packed[at + 3]])
    };
    let (scales, mins, high) = (word(0), word(4), word(8));
    let join = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    (
        join(
            scales & 0x3f3f_3f3f,
            high & 0x0f0f_0f0f | scales >> 2 & 0x3030_3030,
        ),
        join(
            mins & 0x3f3f_3f3f,
            high >> 4 & 0x0f0f_0f0f | mins >> 2 & 0x3030_3030,
        ),
    )
}

/// The most inputs one [`BlockStripe`] takes.
pub(crate) const MAX_INPUTS: usize = 8;

/// `outputs[t][r] = dot(W[r, :], inputs[t])` for a stripe of rows and `T` inputs.
pub(crate) struct BlockStripe<F, const T: usize> {
    pub(crate) format: F,
    /// `rows` rows, `row_bytes` apart.
    pub(crate) weights: *const u8,
    pub(crate) row_bytes: usize,
    pub(crate) rows: usize,
    /// As many blocks each as a row of weights fills, the last one perhaps in part.
    pub(crate) inputs: [*const ActivationBlock; T],
    /// Room for `rows` values each.
    pub(crate) outputs: [*mut f32; T],
}

impl<F: Format, const T: usize> Kernel for BlockStripe<F, T> {
    type Output = ();

    // One row after the other: rows are short, and several streams in one page of memory defeat
    // the prefetcher (measured: a fourth of the speed with four rows at once).
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let whole = self.row_bytes / F::BYTES;
        let rest = self.row_bytes % F::BYTES;
        for row in 0..self.rows {
            // SAFETY: the row exists.
            let weights = unsafe { self.weights.add(row * self.row_bytes) };
            let mut sums = [s.splat(0.0); T];
            for block in 0..whole {
                // SAFETY: the row has `whole` blocks.
                let unpacked = unsafe { self.format.unpack(s, weights.add(block * F::BYTES)) };
                // SAFETY: inputs have as many blocks as weights.
                unsafe { self.add_block(s, &unpacked, block, &mut sums) };
            }
            if rest > 0 {
                let mut padded = [0u8; 272];
                // SAFETY: `rest` bytes remain in the row, fewer than a block, and no format has
                // blocks longer than the buffer; inputs are padded to whole blocks.
                unsafe {
                    let from = weights.add(whole * F::BYTES);
                    std::ptr::copy_nonoverlapping(from, padded.as_mut_ptr(), rest);
                    let unpacked = self.format.unpack(s, padded.as_ptr());
                    self.add_block(s, &unpacked, whole, &mut sums);
                }
            }
            for t in 0..T {
                // SAFETY: outputs have room for all rows.
                unsafe { *self.outputs[t].add(row) = s.sum(sums[t]) };
            }
        }
    }
}

impl<F: Format, const T: usize> BlockStripe<F, T> {
    /// Adds a block's products with all inputs.
    ///
    /// # Safety
    /// Inputs must have a block `block`.
    #[inline(always)]
    unsafe fn add_block<S: Simd>(
        &self,
        s: S,
        weights: &Unpacked<S>,
        block: usize,
        sums: &mut [S::F; T],
    ) {
        for t in 0..T {
            // SAFETY: as the caller promises.
            let input = unsafe { &*self.inputs[t].add(block) };
            sums[t] = if F::SIGNED {
                s.add_block::<true>(sums[t], weights, input)
            } else {
                s.add_block::<false>(sums[t], weights, input)
            };
        }
    }
}
