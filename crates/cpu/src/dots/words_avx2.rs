//! Integer products in AVX2: eight lanes.
//!
//! `vpmaddubsw` multiplies unsigned with signed bytes and adds pairs in 16 bits, saturating: codes
//! below 64 cannot overflow. Larger ones are kept signed, and their sign is moved to the activation
//! first. Where there is `vpdpbusd`, it takes unsigned codes of any size.

use std::arch::x86_64::*;

use super::words::{BYTES_OF_SIGNS, Bias, Rows, Words, bits_of_signs};
use crate::simd::avx2::Avx2;

/// With a larger bias codes may be too large.
const MAX_BIAS: u8 = 32;

/// An expression of intrinsics on registers.
macro_rules! avx2 {
    ($expression:expr) => {{
        // SAFETY: `self` exists only where the machine has the instructions; no memory is used.
        unsafe { $expression }
    }};
}

impl<const VNNI: bool> Avx2<VNNI> {
    /// Transposes four by four words within each 128 bits.
    #[inline(always)]
    fn transpose_halves(self, rows: [__m256i; 4]) -> [__m256i; 4] {
        let [a, b, c, d] = rows;
        avx2!({
            let (ab_low, ab_high) = (_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
            let (cd_low, cd_high) = (_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
            [
                _mm256_unpacklo_epi64(ab_low, cd_low),
                _mm256_unpackhi_epi64(ab_low, cd_low),
                _mm256_unpacklo_epi64(ab_high, cd_high),
                _mm256_unpackhi_epi64(ab_high, cd_high),
            ]
        })
    }
}

/// `vpdpbusd`, in the encoding that [`Isa::AvxVnni`](crate::Isa::AvxVnni) asks for.
#[inline(always)]
unsafe fn add_products(sum: __m256i, codes: __m256i, activations: __m256i) -> __m256i {
    // SAFETY: as the caller promises.
    unsafe {
        #[cfg(not(test))]
        return _mm256_dpbusd_avx_epi32(sum, codes, activations);
        #[cfg(test)]
        return _mm256_dpbusd_epi32(sum, codes, activations);
    }
}

impl<const VNNI: bool> Words for Avx2<VNNI> {
    type F = __m256;
    type I = __m256i;
    const INTERLEAVES: bool = true;
    const HAS_SHORT_SUMS: bool = !VNNI;
    const HAS_DOTS_OF_FOUR: bool = false;

    #[inline(always)]
    unsafe fn load_words(self, from: *const u8) -> __m256i {
        // SAFETY: as the caller promises.
        unsafe { _mm256_load_si256(from.cast()) }
    }

    #[inline(always)]
    unsafe fn store_words(self, to: *mut u8, words: __m256i) {
        // SAFETY: as the caller promises.
        unsafe { _mm256_store_si256(to.cast(), words) }
    }

    #[inline(always)]
    unsafe fn read_words(self, from: *const u8) -> __m256i {
        // SAFETY: as the caller promises.
        unsafe { _mm256_loadu_si256(from.cast()) }
    }

    #[inline(always)]
    unsafe fn read_halves(self, from: *const u8) -> __m256i {
        // SAFETY: as the caller promises.
        unsafe { _mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast())) }
    }

    #[inline(always)]
    unsafe fn read_bytes(self, from: *const u8) -> __m256i {
        // SAFETY: as the caller promises.
        unsafe { _mm256_cvtepu8_epi32(_mm_loadl_epi64(from.cast())) }
    }

    #[inline(always)]
    fn splat_bytes(self, byte: u8) -> __m256i {
        avx2!(_mm256_set1_epi8(byte as i8))
    }

    #[inline(always)]
    fn splat_words(self, word: u32) -> __m256i {
        avx2!(_mm256_set1_epi32(word as i32))
    }

    #[inline(always)]
    fn and(self, a: __m256i, b: __m256i) -> __m256i {
        avx2!(_mm256_and_si256(a, b))
    }

    #[inline(always)]
    fn or(self, a: __m256i, b: __m256i) -> __m256i {
        avx2!(_mm256_or_si256(a, b))
    }

    #[inline(always)]
    fn add_words(self, a: __m256i, b: __m256i) -> __m256i {
        avx2!(_mm256_add_epi32(a, b))
    }

    #[inline(always)]
    fn add_bytes(self, a: __m256i, b: __m256i) -> __m256i {
        avx2!(_mm256_add_epi8(a, b))
    }

    #[inline(always)]
    fn shift_left(self, a: __m256i, bits: u32) -> __m256i {
        avx2!(_mm256_sll_epi32(a, _mm_cvtsi32_si128(bits as i32)))
    }

    #[inline(always)]
    fn shift_right(self, a: __m256i, bits: u32) -> __m256i {
        avx2!(_mm256_srl_epi32(a, _mm_cvtsi32_si128(bits as i32)))
    }

    #[inline(always)]
    fn shift_right_signed(self, a: __m256i, bits: u32) -> __m256i {
        avx2!(_mm256_sra_epi32(a, _mm_cvtsi32_si128(bits as i32)))
    }

    #[inline(always)]
    fn table(self, entries: &[u8; 16]) -> __m256i {
        // SAFETY: the table has 16 bytes.
        let table = unsafe { _mm_loadu_si128(entries.as_ptr().cast()) };
        avx2!(_mm256_broadcastsi128_si256(table))
    }

    #[inline(always)]
    fn lookup(self, table: __m256i, indices: __m256i) -> __m256i {
        avx2!(_mm256_shuffle_epi8(table, indices))
    }

    #[inline(always)]
    fn negate(self, bytes: __m256i, signs: __m256i, word: usize) -> __m256i {
        let spread = self.lookup(signs, self.table(&BYTES_OF_SIGNS[word / 2]));
        let bits = self.splat_words(bits_of_signs(word));
        avx2!({
            let negative = _mm256_cmpeq_epi8(_mm256_and_si256(spread, bits), bits);
            _mm256_sub_epi8(_mm256_xor_si256(bytes, negative), negative)
        })
    }

    #[inline(always)]
    fn to_float(self, words: __m256i) -> __m256 {
        avx2!(_mm256_cvtepi32_ps(words))
    }

    #[inline(always)]
    fn as_float(self, words: __m256i) -> __m256 {
        avx2!(_mm256_castsi256_ps(words))
    }

    #[inline(always)]
    fn half_to_float(self, words: __m256i) -> __m256 {
        avx2!({
            let low = _mm256_and_si256(words, _mm256_set1_epi32(0xffff));
            let packed = _mm256_packus_epi32(low, low);
            let halves = _mm256_permute4x64_epi64::<0b00_00_10_00>(packed);
            _mm256_cvtph_ps(_mm256_castsi256_si128(halves))
        })
    }

    #[inline(always)]
    unsafe fn transpose_16(self, rows: Rows) -> [__m256i; 4] {
        // Row i beside row i + 4.
        let two = |i: usize| {
            // SAFETY: each row has 16 bytes.
            let row = |row: usize| unsafe { _mm_loadu_si128(rows.row(row).cast()) };
            avx2!(_mm256_inserti128_si256::<1>(
                _mm256_castsi128_si256(row(i)),
                row(i + 4)
            ))
        };
        self.transpose_halves([two(0), two(1), two(2), two(3)])
    }

    #[inline(always)]
    unsafe fn transpose_32(self, rows: Rows) -> [__m256i; 8] {
        // SAFETY: each row has twice 16 bytes.
        let ([a, b, c, d], [e, f, g, h]) =
            unsafe { (self.transpose_16(rows), self.transpose_16(rows.skip(16))) };
        [a, b, c, d, e, f, g, h]
    }

    #[inline(always)]
    unsafe fn gather_halves(self, rows: Rows) -> __m256i {
        // SAFETY: each row has 2 bytes.
        let half = |row: usize| unsafe { rows.row(row).cast::<i16>().read_unaligned() };
        avx2!(_mm256_cvtepu16_epi32(_mm_setr_epi16(
            half(0),
            half(1),
            half(2),
            half(3),
            half(4),
            half(5),
            half(6),
            half(7),
        )))
    }

    #[inline(always)]
    unsafe fn gather_bytes(self, rows: Rows) -> __m256i {
        // SAFETY: each row has a byte.
        let byte = |row: usize| unsafe { i32::from(*rows.row(row)) };
        avx2!(_mm256_setr_epi32(
            byte(0),
            byte(1),
            byte(2),
            byte(3),
            byte(4),
            byte(5),
            byte(6),
            byte(7),
        ))
    }

    /// Large codes become signed; others stay below 64, with their bias. For `vpdpbusd` all get the bias
    /// of the sums, if that is larger.
    #[inline(always)]
    fn prepare(self, bias: Bias, codes: __m256i) -> __m256i {
        if VNNI {
            return if bias.of_codes == 0 || bias.of_codes >= bias.of_sums {
                codes
            } else {
                self.add_bytes(codes, self.splat_bytes(bias.of_sums - bias.of_codes))
            };
        }
        if bias.of_codes > MAX_BIAS {
            self.add_bytes(codes, self.splat_bytes(bias.of_codes.wrapping_neg()))
        } else {
            codes
        }
    }

    #[inline(always)]
    fn prepare_signed(self, codes: __m256i) -> __m256i {
        if VNNI {
            self.add_bytes(codes, self.splat_bytes(128))
        } else {
            codes
        }
    }

    #[inline(always)]
    fn begin(self, bias: Bias, bias_sum: i32) -> __m256i {
        if bias.of_codes == 0 || (!VNNI && bias.of_codes > MAX_BIAS) {
            self.splat_words(0)
        } else if VNNI {
            let factor = bias.of_codes.div_ceil(bias.of_sums);
            self.splat_words((bias_sum * i32::from(factor)) as u32)
        } else {
            let shift = bias.of_sums.ilog2() - bias.of_codes.ilog2();
            self.splat_words((bias_sum >> shift) as u32)
        }
    }

    #[inline(always)]
    unsafe fn dot(
        self,
        bias: Bias,
        sum: __m256i,
        codes: __m256i,
        activations: *const i8,
    ) -> __m256i {
        // SAFETY: as the caller promises.
        let four = unsafe { activations.cast::<i32>().read_unaligned() };
        avx2!({
            let activations = _mm256_set1_epi32(four);
            if VNNI {
                return add_products(sum, codes, activations);
            }
            let pairs = if bias.of_codes > MAX_BIAS {
                let signed = _mm256_sign_epi8(activations, codes);
                _mm256_maddubs_epi16(_mm256_abs_epi8(codes), signed)
            } else {
                _mm256_maddubs_epi16(codes, activations)
            };
            _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
        })
    }

    #[inline(always)]
    unsafe fn dot_short(self, sum: __m256i, codes: __m256i, activations: *const i8) -> __m256i {
        // SAFETY: as the caller promises.
        let four = unsafe { activations.cast::<i32>().read_unaligned() };
        avx2!({
            if VNNI {
                return add_products(sum, codes, _mm256_set1_epi32(four));
            }
            let pairs = _mm256_maddubs_epi16(codes, _mm256_set1_epi32(four));
            _mm256_add_epi16(sum, pairs)
        })
    }

    #[inline(always)]
    fn widen(self, sum: __m256i, short: __m256i) -> __m256i {
        if VNNI {
            return self.add_words(sum, short);
        }
        avx2!(_mm256_add_epi32(
            sum,
            _mm256_madd_epi16(short, _mm256_set1_epi16(1))
        ))
    }
}
