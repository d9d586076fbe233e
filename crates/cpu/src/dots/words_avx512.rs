//! Integer products in AVX-512 with VNNI: sixteen lanes.
//!
//! `vpdpbusd` multiplies unsigned with signed bytes: codes are made unsigned, activations are
//! signed and broadcast by the instruction itself.

use std::arch::x86_64::*;

use super::words::{BYTES_OF_SIGNS, Bias, Rows, Words, bits_of_signs};
use crate::simd::avx512::Avx512;

/// An expression of intrinsics on registers.
macro_rules! avx512 {
    ($expression:expr) => {{
        // SAFETY: `self` exists only where the machine has the instructions; no memory is used.
        unsafe { $expression }
    }};
}

impl Avx512 {
    /// Transposes four by four words within each 128 bits.
    #[inline(always)]
    fn transpose_quarters(self, rows: [__m512i; 4]) -> [__m512i; 4] {
        let [a, b, c, d] = rows;
        avx512!({
            let (ab_low, ab_high) = (_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
            let (cd_low, cd_high) = (_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
            [
                _mm512_unpacklo_epi64(ab_low, cd_low),
                _mm512_unpackhi_epi64(ab_low, cd_low),
                _mm512_unpacklo_epi64(ab_high, cd_high),
                _mm512_unpackhi_epi64(ab_high, cd_high),
            ]
        })
    }
}

impl Words for Avx512 {
    type F = __m512;
    type I = __m512i;
    const INTERLEAVES: bool = true;
    const HAS_SHORT_SUMS: bool = false;
    const HAS_DOTS_OF_FOUR: bool = false;

    #[inline(always)]
    unsafe fn load_words(self, from: *const u8) -> __m512i {
        // SAFETY: as the caller promises.
        unsafe { _mm512_load_si512(from.cast()) }
    }

    #[inline(always)]
    unsafe fn store_words(self, to: *mut u8, words: __m512i) {
        // SAFETY: as the caller promises.
        unsafe { _mm512_store_si512(to.cast(), words) }
    }

    #[inline(always)]
    unsafe fn read_words(self, from: *const u8) -> __m512i {
        // SAFETY: as the caller promises.
        unsafe { _mm512_loadu_si512(from.cast()) }
    }

    #[inline(always)]
    unsafe fn read_halves(self, from: *const u8) -> __m512i {
        // SAFETY: as the caller promises.
        unsafe { _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast())) }
    }

    #[inline(always)]
    unsafe fn read_bytes(self, from: *const u8) -> __m512i {
        // SAFETY: as the caller promises.
        unsafe { _mm512_cvtepu8_epi32(_mm_loadu_si128(from.cast())) }
    }

    #[inline(always)]
    fn splat_bytes(self, byte: u8) -> __m512i {
        avx512!(_mm512_set1_epi8(byte as i8))
    }

    #[inline(always)]
    fn splat_words(self, word: u32) -> __m512i {
        avx512!(_mm512_set1_epi32(word as i32))
    }

    #[inline(always)]
    fn and(self, a: __m512i, b: __m512i) -> __m512i {
        avx512!(_mm512_and_si512(a, b))
    }

    #[inline(always)]
    fn or(self, a: __m512i, b: __m512i) -> __m512i {
        avx512!(_mm512_or_si512(a, b))
    }

    #[inline(always)]
    fn add_words(self, a: __m512i, b: __m512i) -> __m512i {
        avx512!(_mm512_add_epi32(a, b))
    }

    #[inline(always)]
    fn add_bytes(self, a: __m512i, b: __m512i) -> __m512i {
        avx512!(_mm512_add_epi8(a, b))
    }

    #[inline(always)]
    fn shift_left(self, a: __m512i, bits: u32) -> __m512i {
        avx512!(_mm512_sll_epi32(a, _mm_cvtsi32_si128(bits as i32)))
    }

    #[inline(always)]
    fn shift_right(self, a: __m512i, bits: u32) -> __m512i {
        avx512!(_mm512_srl_epi32(a, _mm_cvtsi32_si128(bits as i32)))
    }

    #[inline(always)]
    fn shift_right_signed(self, a: __m512i, bits: u32) -> __m512i {
        avx512!(_mm512_sra_epi32(a, _mm_cvtsi32_si128(bits as i32)))
    }

    #[inline(always)]
    fn table(self, entries: &[u8; 16]) -> __m512i {
        // SAFETY: the table has 16 bytes.
        let table = unsafe { _mm_loadu_si128(entries.as_ptr().cast()) };
        avx512!(_mm512_broadcast_i32x4(table))
    }

    #[inline(always)]
    fn lookup(self, table: __m512i, indices: __m512i) -> __m512i {
        avx512!(_mm512_shuffle_epi8(table, indices))
    }

    #[inline(always)]
    fn negate(self, bytes: __m512i, signs: __m512i, word: usize) -> __m512i {
        let spread = self.lookup(signs, self.table(&BYTES_OF_SIGNS[word / 2]));
        let bits = self.splat_words(bits_of_signs(word));
        avx512!({
            let negative = _mm512_test_epi8_mask(spread, bits);
            _mm512_mask_sub_epi8(bytes, negative, _mm512_setzero_si512(), bytes)
        })
    }

    #[inline(always)]
    fn to_float(self, words: __m512i) -> __m512 {
        avx512!(_mm512_cvtepi32_ps(words))
    }

    #[inline(always)]
    fn as_float(self, words: __m512i) -> __m512 {
        avx512!(_mm512_castsi512_ps(words))
    }

    #[inline(always)]
    fn half_to_float(self, words: __m512i) -> __m512 {
        avx512!(_mm512_cvtph_ps(_mm512_cvtepi32_epi16(words)))
    }

    #[inline(always)]
    unsafe fn transpose_16(self, rows: Rows) -> [__m512i; 4] {
        // Row i beside rows i + 4, i + 8 and i + 12.
        let four = |i: usize| {
            // SAFETY: each row has 16 bytes.
            let row = |row: usize| unsafe { _mm_loadu_si128(rows.row(row).cast()) };
            avx512!({
                let all = _mm512_castsi128_si512(row(i));
                let all = _mm512_mask_broadcast_i32x4(all, 0x00f0, row(i + 4));
                let all = _mm512_mask_broadcast_i32x4(all, 0x0f00, row(i + 8));
                _mm512_mask_broadcast_i32x4(all, 0xf000, row(i + 12))
            })
        };
        self.transpose_quarters([four(0), four(1), four(2), four(3)])
    }

    #[inline(always)]
    unsafe fn transpose_32(self, rows: Rows) -> [__m512i; 8] {
        // Row i beside row i + 4.
        let two = |i: usize| {
            // SAFETY: each row has 32 bytes.
            let row = |row: usize| unsafe { _mm256_loadu_si256(rows.row(row).cast()) };
            avx512!(_mm512_inserti64x4::<1>(
                _mm512_castsi256_si512(row(i)),
                row(i + 4)
            ))
        };
        let upper = self.transpose_quarters([two(0), two(1), two(2), two(3)]);
        let lower = self.transpose_quarters([two(8), two(9), two(10), two(11)]);
        let mut words = [avx512!(_mm512_setzero_si512()); 8];
        for word in 0..4 {
            avx512!({
                words[word] = _mm512_shuffle_i32x4::<0b10_00_10_00>(upper[word], lower[word]);
                words[4 + word] = _mm512_shuffle_i32x4::<0b11_01_11_01>(upper[word], lower[word]);
            });
        }
        words
    }

    #[inline(always)]
    unsafe fn gather_halves(self, rows: Rows) -> __m512i {
        // SAFETY: each row has 2 bytes.
        let half = |row: usize| unsafe { rows.row(row).cast::<i16>().read_unaligned() };
        avx512!(_mm512_cvtepu16_epi32(_mm256_setr_epi16(
            half(0),
            half(1),
            half(2),
            half(3),
            half(4),
            half(5),
            half(6),
            half(7),
            half(8),
            half(9),
            half(10),
            half(11),
            half(12),
            half(13),
            half(14),
            half(15),
        )))
    }

    #[inline(always)]
    unsafe fn gather_bytes(self, rows: Rows) -> __m512i {
        // SAFETY: each row has a byte.
        let byte = |row: usize| unsafe { *rows.row(row) as i8 };
        avx512!(_mm512_cvtepu8_epi32(_mm_setr_epi8(
            byte(0),
            byte(1),
            byte(2),
            byte(3),
            byte(4),
            byte(5),
            byte(6),
            byte(7),
            byte(8),
            byte(9),
            byte(10),
            byte(11),
            byte(12),
            byte(13),
            byte(14),
            byte(15),
        )))
    }

    /// With the bias of the sums, if that is larger.
    #[inline(always)]
    fn prepare(self, bias: Bias, codes: __m512i) -> __m512i {
        if bias.of_codes == 0 || bias.of_codes >= bias.of_sums {
            codes
        } else {
            self.add_bytes(codes, self.splat_bytes(bias.of_sums - bias.of_codes))
        }
    }

    #[inline(always)]
    fn prepare_signed(self, codes: __m512i) -> __m512i {
        self.add_bytes(codes, self.splat_bytes(128))
    }

    #[inline(always)]
    fn begin(self, bias: Bias, bias_sum: i32) -> __m512i {
        if bias.of_codes == 0 {
            self.splat_words(0)
        } else {
            let factor = bias.of_codes.div_ceil(bias.of_sums);
            self.splat_words((bias_sum * i32::from(factor)) as u32)
        }
    }

    #[inline(always)]
    unsafe fn dot(
        self,
        _bias: Bias,
        sum: __m512i,
        codes: __m512i,
        activations: *const i8,
    ) -> __m512i {
        // SAFETY: as the caller promises.
        let four = unsafe { activations.cast::<i32>().read_unaligned() };
        avx512!(_mm512_dpbusd_epi32(sum, codes, _mm512_set1_epi32(four)))
    }
}
