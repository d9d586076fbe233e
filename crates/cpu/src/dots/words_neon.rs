//! Integer products in NEON: eight lanes in two registers.
//!
//! `sdot` multiplies signed bytes and adds four products to each word, without overflow. Codes below
//! 128 may keep their bias.

use std::arch::aarch64::*;
use std::arch::asm;

use super::words::{BYTES_OF_SIGNS, Bias, Rows, Words, bits_of_signs};
use crate::simd::neon::{Neon, neon};

/// With a larger bias codes may be too large.
const MAX_BIAS: u8 = 32;

/// Whether codes keep their bias, so that sums have to make up for it.
#[inline(always)]
pub(super) fn keeps_bias(bias: Bias) -> bool {
    bias.of_codes != 0 && bias.of_codes <= MAX_BIAS
}

/// Eight words.
type I = [uint32x4_t; 2];

impl Neon {
    #[inline(always)]
    fn map(self, a: I, f: impl Fn(uint32x4_t) -> uint32x4_t) -> I {
        [f(a[0]), f(a[1])]
    }

    #[inline(always)]
    fn zip_words(self, a: I, b: I, f: impl Fn(uint32x4_t, uint32x4_t) -> uint32x4_t) -> I {
        [f(a[0], b[0]), f(a[1], b[1])]
    }

    /// Word w of four rows of 16 bytes, beginning with row `first`, side by side.
    ///
    /// # Safety
    /// The rows must have 16 bytes each.
    #[inline(always)]
    unsafe fn transpose_four(self, rows: Rows, first: usize) -> [uint32x4_t; 4] {
        // SAFETY: as the caller promises.
        let row = |row: usize| unsafe { vreinterpretq_u32_u8(vld1q_u8(rows.row(first + row))) };
        let [a, b, c, d] = [row(0), row(1), row(2), row(3)];
        neon!({
            let pairs = |low: uint32x4_t, high: uint32x4_t| {
                let (low, high) = (vreinterpretq_u64_u32(low), vreinterpretq_u64_u32(high));
                [
                    vreinterpretq_u32_u64(vzip1q_u64(low, high)),
                    vreinterpretq_u32_u64(vzip2q_u64(low, high)),
                ]
            };
            let [first, second] = pairs(vzip1q_u32(a, b), vzip1q_u32(c, d));
            let [third, fourth] = pairs(vzip2q_u32(a, b), vzip2q_u32(c, d));
            [first, second, third, fourth]
        })
    }
}

/// Adds to each word of `sum` the products of its four bytes of `a` and `b`.
#[inline(always)]
fn dot_bytes(_proof: Neon, sum: uint32x4_t, a: uint32x4_t, b: uint32x4_t) -> uint32x4_t {
    let mut sum = sum;
    // SAFETY: registers in, registers out; whoever has a `Neon` has the instruction, whose
    // intrinsic is not stable.
    unsafe {
        asm!(
            ".arch_extension dotprod",
            "sdot {sum:v}.4s, {a:v}.16b, {b:v}.16b",
            sum = inout(vreg) sum,
            a = in(vreg) a,
            b = in(vreg) b,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sum
}

/// Adds to each word of `sum` the products of its four bytes of `codes` and the four of `activations` that are
/// word `WORD`: so one load serves four words, and nothing is broadcast.
#[inline(always)]
fn dot_word<const WORD: usize>(
    _proof: Neon,
    sum: uint32x4_t,
    codes: uint32x4_t,
    activations: uint8x16_t,
) -> uint32x4_t {
    let mut sum = sum;
    // SAFETY: as in `dot_bytes`.
    unsafe {
        asm!(
            ".arch_extension dotprod",
            "sdot {sum:v}.4s, {codes:v}.16b, {activations:v}.4b[{word}]",
            sum = inout(vreg) sum,
            codes = in(vreg) codes,
            activations = in(vreg) activations,
            word = const WORD,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sum
}

impl Words for Neon {
    type F = [float32x4_t; 2];
    type I = I;
    const INTERLEAVES: bool = true;
    const HAS_SHORT_SUMS: bool = false;
    const HAS_DOTS_OF_FOUR: bool = true;

    #[inline(always)]
    unsafe fn load_words(self, from: *const u8) -> I {
        // SAFETY: as the caller promises.
        unsafe { self.read_words(from) }
    }

    #[inline(always)]
    unsafe fn store_words(self, to: *mut u8, words: I) {
        // SAFETY: as the caller promises.
        unsafe {
            vst1q_u8(to, vreinterpretq_u8_u32(words[0]));
            vst1q_u8(to.add(16), vreinterpretq_u8_u32(words[1]));
        }
    }

    #[inline(always)]
    unsafe fn read_words(self, from: *const u8) -> I {
        // SAFETY: as the caller promises.
        let bytes = unsafe { [vld1q_u8(from), vld1q_u8(from.add(16))] };
        neon!(bytes.map(|bytes| vreinterpretq_u32_u8(bytes)))
    }

    #[inline(always)]
    unsafe fn read_halves(self, from: *const u8) -> I {
        // SAFETY: as the caller promises.
        let bytes = unsafe { vld1q_u8(from) };
        neon!({
            let halves = vreinterpretq_u16_u8(bytes);
            [vmovl_u16(vget_low_u16(halves)), vmovl_high_u16(halves)]
        })
    }

    #[inline(always)]
    unsafe fn read_bytes(self, from: *const u8) -> I {
        // SAFETY: as the caller promises.
        let bytes = unsafe { vld1_u8(from) };
        neon!({
            let halves = vmovl_u8(bytes);
            [vmovl_u16(vget_low_u16(halves)), vmovl_high_u16(halves)]
        })
    }

    #[inline(always)]
    fn splat_bytes(self, byte: u8) -> I {
        neon!([vreinterpretq_u32_u8(vdupq_n_u8(byte)); 2])
    }

    #[inline(always)]
    fn splat_words(self, word: u32) -> I {
        neon!([vdupq_n_u32(word); 2])
    }

    #[inline(always)]
    fn and(self, a: I, b: I) -> I {
        self.zip_words(a, b, |a, b| neon!(vandq_u32(a, b)))
    }

    #[inline(always)]
    fn or(self, a: I, b: I) -> I {
        self.zip_words(a, b, |a, b| neon!(vorrq_u32(a, b)))
    }

    #[inline(always)]
    fn add_words(self, a: I, b: I) -> I {
        self.zip_words(a, b, |a, b| neon!(vaddq_u32(a, b)))
    }

    #[inline(always)]
    fn add_bytes(self, a: I, b: I) -> I {
        self.zip_words(a, b, |a, b| {
            neon!({
                let sum = vaddq_u8(vreinterpretq_u8_u32(a), vreinterpretq_u8_u32(b));
                vreinterpretq_u32_u8(sum)
            })
        })
    }

    #[inline(always)]
    fn shift_left(self, a: I, bits: u32) -> I {
        self.map(a, |a| neon!(vshlq_u32(a, vdupq_n_s32(bits as i32))))
    }

    #[inline(always)]
    fn shift_right(self, a: I, bits: u32) -> I {
        self.map(a, |a| neon!(vshlq_u32(a, vdupq_n_s32(-(bits as i32)))))
    }

    #[inline(always)]
    fn shift_right_signed(self, a: I, bits: u32) -> I {
        self.map(a, |a| {
            neon!({
                let shifted = vshlq_s32(vreinterpretq_s32_u32(a), vdupq_n_s32(-(bits as i32)));
                vreinterpretq_u32_s32(shifted)
            })
        })
    }

    #[inline(always)]
    fn table(self, entries: &[u8; 16]) -> I {
        // SAFETY: the table has 16 bytes.
        let table = unsafe { vld1q_u8(entries.as_ptr()) };
        neon!([vreinterpretq_u32_u8(table); 2])
    }

    #[inline(always)]
    fn lookup(self, table: I, indices: I) -> I {
        self.zip_words(table, indices, |table, indices| {
            neon!({
                let found = vqtbl1q_u8(vreinterpretq_u8_u32(table), vreinterpretq_u8_u32(indices));
                vreinterpretq_u32_u8(found)
            })
        })
    }

    #[inline(always)]
    fn negate(self, bytes: I, signs: I, word: usize) -> I {
        let spread = self.lookup(signs, self.table(&BYTES_OF_SIGNS[word / 2]));
        let bits = neon!(vreinterpretq_u8_u32(vdupq_n_u32(bits_of_signs(word))));
        self.zip_words(bytes, spread, |bytes, spread| {
            neon!({
                let negative = vtstq_u8(vreinterpretq_u8_u32(spread), bits);
                let flipped = veorq_u8(vreinterpretq_u8_u32(bytes), negative);
                vreinterpretq_u32_u8(vsubq_u8(flipped, negative))
            })
        })
    }

    #[inline(always)]
    fn to_float(self, words: I) -> [float32x4_t; 2] {
        neon!(words.map(|words| vcvtq_f32_s32(vreinterpretq_s32_u32(words))))
    }

    #[inline(always)]
    fn as_float(self, words: I) -> [float32x4_t; 2] {
        neon!(words.map(|words| vreinterpretq_f32_u32(words)))
    }

    #[inline(always)]
    fn half_to_float(self, words: I) -> [float32x4_t; 2] {
        words.map(|words| self.widen_halves(neon!(vmovn_u32(words))))
    }

    #[inline(always)]
    unsafe fn transpose_16(self, rows: Rows) -> [I; 4] {
        // SAFETY: as the caller promises.
        let (low, high) = unsafe { (self.transpose_four(rows, 0), self.transpose_four(rows, 4)) };
        [
            [low[0], high[0]],
            [low[1], high[1]],
            [low[2], high[2]],
            [low[3], high[3]],
        ]
    }

    #[inline(always)]
    unsafe fn transpose_32(self, rows: Rows) -> [I; 8] {
        // SAFETY: each row has twice 16 bytes.
        let ([a, b, c, d], [e, f, g, h]) =
            unsafe { (self.transpose_16(rows), self.transpose_16(rows.skip(16))) };
        [a, b, c, d, e, f, g, h]
    }

    #[inline(always)]
    unsafe fn gather_halves(self, rows: Rows) -> I {
        // SAFETY: each row has 2 bytes.
        let half = |row: usize| unsafe { rows.row(row).cast::<u16>().read_unaligned() };
        let halves: [u16; 8] = [
            half(0),
            half(1),
            half(2),
            half(3),
            half(4),
            half(5),
            half(6),
            half(7),
        ];
        // SAFETY: these are the bytes of eight halves.
        unsafe { self.read_halves(halves.as_ptr().cast()) }
    }

    #[inline(always)]
    unsafe fn gather_bytes(self, rows: Rows) -> I {
        // SAFETY: each row has a byte.
        let byte = |row: usize| unsafe { *rows.row(row) };
        let bytes: [u8; 8] = [
            byte(0),
            byte(1),
            byte(2),
            byte(3),
            byte(4),
            byte(5),
            byte(6),
            byte(7),
        ];
        // SAFETY: these are eight bytes.
        unsafe { self.read_bytes(bytes.as_ptr()) }
    }

    /// Large codes become signed; others stay below 64, with their bias.
    #[inline(always)]
    fn prepare(self, bias: Bias, codes: I) -> I {
        if bias.of_codes > MAX_BIAS {
            self.add_bytes(codes, self.splat_bytes(bias.of_codes.wrapping_neg()))
        } else {
            codes
        }
    }

    #[inline(always)]
    fn prepare_signed(self, codes: I) -> I {
        codes
    }

    #[inline(always)]
    fn begin(self, bias: Bias, bias_sum: i32) -> I {
        if keeps_bias(bias) {
            let shift = bias.of_sums.ilog2() - bias.of_codes.ilog2();
            self.splat_words((bias_sum >> shift) as u32)
        } else {
            self.splat_words(0)
        }
    }

    #[inline(always)]
    unsafe fn dot(self, _bias: Bias, sum: I, codes: I, activations: *const i8) -> I {
        // SAFETY: as the caller promises.
        let four = unsafe { activations.cast::<u32>().read_unaligned() };
        let activations = neon!(vdupq_n_u32(four));
        self.zip_words(sum, codes, |sum, codes| {
            dot_bytes(self, sum, codes, activations)
        })
    }

    #[inline(always)]
    unsafe fn dot_four(self, _bias: Bias, sum: I, codes: [I; 4], activations: *const i8) -> I {
        // SAFETY: as the caller promises.
        let activations = unsafe { vld1q_u8(activations.cast()) };
        let mut sum = sum;
        for half in 0..2 {
            let sums = dot_word::<0>(self, sum[half], codes[0][half], activations);
            let sums = dot_word::<1>(self, sums, codes[1][half], activations);
            let sums = dot_word::<2>(self, sums, codes[2][half], activations);
            sum[half] = dot_word::<3>(self, sums, codes[3][half], activations);
        }
        sum
    }
}
