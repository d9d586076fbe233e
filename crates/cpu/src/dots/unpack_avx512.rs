//! Quantised blocks in AVX-512 with VNNI: 64 codes to a register.
//!
//! `vpdpbusd` multiplies unsigned with signed bytes, so all weights are held as unsigned codes:
//! Q8_0 as `q + 128` with a minimum of 128 scales.

use std::arch::x86_64::*;

use super::blocks::{BlockDots, Unpacked, k_scales_and_mins};
use crate::activations::ActivationBlock;
use crate::simd::avx512::Avx512;

/// An expression of intrinsics on registers.
macro_rules! avx512 {
    ($expression:expr) => {{
        // SAFETY: `self` exists only where the machine has the instructions; no memory is used.
        unsafe { $expression }
    }};
}

/// For each 64 codes, the part of 16 values that each lane of four products belongs to.
const PART_OF_LANE: [[i32; 16]; 4] = {
    let mut parts = [[0; 16]; 4];
    let mut i = 0;
    while i < 64 {
        parts[i / 16][i % 16] = (i / 4) as i32;
        i += 1;
    }
    parts
};
/// Lanes 0, 0, 1, 1, ... 7, 7.
const TWICE: [i32; 16] = [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7];
/// The same of lanes 8 to 15.
const TWICE_HIGH: [i32; 16] = [8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13, 14, 14, 15, 15];
/// Lane 0 eight times, then lane 1.
const FIRST_TWO: [i32; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1];

impl Avx512 {
    #[inline(always)]
    fn lanes(self, lanes: [i32; 16]) -> __m512i {
        // SAFETY: the array is as large as the vector.
        unsafe { _mm512_loadu_si512(lanes.as_ptr().cast()) }
    }

    /// 32 bytes, twice.
    ///
    /// # Safety
    /// `from` must point to them.
    #[inline(always)]
    unsafe fn load_32_twice(self, from: *const u8) -> __m512i {
        // SAFETY: as the caller promises.
        unsafe { _mm512_broadcast_i64x4(_mm256_loadu_si256(from.cast())) }
    }

    /// 16-bit shift counts, one for the first 32 bytes and one for the others.
    #[inline(always)]
    fn shifts(self, first: i16, second: i16) -> __m512i {
        avx512!(_mm512_inserti64x4::<1>(
            _mm512_set1_epi16(first),
            _mm256_set1_epi16(second)
        ))
    }

    /// The low four bits of Q4_K and Q5_K.
    ///
    /// # Safety
    /// `from` must point to 128 bytes.
    #[inline(always)]
    unsafe fn k_nibbles(self, from: *const u8) -> [__m512i; 4] {
        let mut codes = [avx512!(_mm512_setzero_si512()); 4];
        for (pair, codes) in codes.iter_mut().enumerate() {
            // SAFETY: 32 of the 128 bytes.
            let bytes = unsafe { self.load_32_twice(from.add(pair * 32)) };
            *codes = avx512!(_mm512_and_si512(
                _mm512_srlv_epi16(bytes, self.shifts(0, 4)),
                _mm512_set1_epi8(15)
            ));
        }
        codes
    }

    /// Scales and minima of Q4_K and Q5_K.
    ///
    /// # Safety
    /// `from` must point to the block's first 16 bytes.
    #[inline(always)]
    unsafe fn k_factors(self, from: *const u8) -> (__m512, __m512) {
        // SAFETY: the first four bytes are d and dmin, the other twelve the packed factors.
        let (halves, packed) = unsafe {
            (
                from.cast::<i32>().read_unaligned(),
                from.add(4).cast::<[u8; 12]>().read(),
            )
        };
        let (scales, mins) = k_scales_and_mins(packed);
        avx512!({
            let d_dmin = _mm512_castps128_ps512(_mm_cvtph_ps(_mm_cvtsi32_si128(halves)));
            let d_dmin = _mm512_permutexvar_ps(self.lanes(FIRST_TWO), d_dmin);
            let bytes = _mm_set_epi64x(mins as i64, scales as i64);
            let factors = _mm512_mul_ps(d_dmin, _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes)));
            (
                _mm512_permutexvar_ps(self.lanes(TWICE), factors),
                _mm512_permutexvar_ps(self.lanes(TWICE_HIGH), factors),
            )
        })
    }
}

impl BlockDots for Avx512 {
    type F = __m512;
    type Codes = [__m512i; 4];
    type Factors = __m512;

    #[inline(always)]
    unsafe fn unpack_q8_0(self, from: *const u8) -> Unpacked<Self> {
        let mut codes = [avx512!(_mm512_setzero_si512()); 4];
        for (pair, codes) in codes.iter_mut().enumerate() {
            // SAFETY: two blocks of 34 bytes, their codes from the third byte on.
            let (low, high) = unsafe {
                let block = from.add(pair * 68);
                (
                    _mm256_loadu_si256(block.add(2).cast()),
                    _mm256_loadu_si256(block.add(36).cast()),
                )
            };
            *codes = avx512!(_mm512_xor_si512(
                _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high),
                _mm512_set1_epi8(-128)
            ));
        }
        // SAFETY: each of the eight blocks begins with its scale.
        let half = |block: usize| unsafe { from.add(block * 34).cast::<i16>().read_unaligned() };
        let scales = avx512!({
            let halves = _mm_set_epi16(
                half(7),
                half(6),
                half(5),
                half(4),
                half(3),
                half(2),
                half(1),
                half(0),
            );
            let scales = _mm512_castps256_ps512(_mm256_cvtph_ps(halves));
            _mm512_permutexvar_ps(self.lanes(TWICE), scales)
        });
        Unpacked {
            codes,
            scales,
            mins: avx512!(_mm512_mul_ps(scales, _mm512_set1_ps(128.0))),
        }
    }

    #[inline(always)]
    unsafe fn unpack_q4_k(self, from: *const u8) -> Unpacked<Self> {
        // SAFETY: the fields of a block of 144 bytes.
        let ((scales, mins), codes) =
            unsafe { (self.k_factors(from), self.k_nibbles(from.add(16))) };
        Unpacked {
            codes,
            scales,
            mins,
        }
    }

    #[inline(always)]
    unsafe fn unpack_q5_k(self, from: *const u8) -> Unpacked<Self> {
        // SAFETY: the fields of a block of 176 bytes.
        let ((scales, mins), mut codes, high) = unsafe {
            (
                self.k_factors(from),
                self.k_nibbles(from.add(48)),
                self.load_32_twice(from.add(16)),
            )
        };
        for (pair, codes) in codes.iter_mut().enumerate() {
            *codes = avx512!({
                let (first, second) = (1 << (2 * pair), 2u8 << (2 * pair));
                let bits = _mm512_inserti64x4::<1>(
                    _mm512_set1_epi8(first),
                    _mm256_set1_epi8(second as i8),
                );
                let set = _mm512_test_epi8_mask(high, bits);
                _mm512_mask_add_epi8(*codes, set, *codes, _mm512_set1_epi8(16))
            });
        }
        Unpacked {
            codes,
            scales,
            mins,
        }
    }

    #[inline(always)]
    unsafe fn unpack_q6_k(self, from: *const u8) -> Unpacked<Self> {
        let mut codes = [avx512!(_mm512_setzero_si512()); 4];
        for half in 0..2 {
            // SAFETY: each half has 64 bytes of low bits and 32 of high ones.
            let (low, high) = unsafe {
                (
                    _mm512_loadu_si512(from.add(half * 64).cast()),
                    self.load_32_twice(from.add(128 + half * 32)),
                )
            };
            // Bits 4 and 5 of the code come from bits 2 k and 2 k + 1 in quarter k.
            avx512!({
                let (low_bits, high_bits) = (_mm512_set1_epi8(15), _mm512_set1_epi8(0x30));
                let high_first = _mm512_sllv_epi16(high, self.shifts(4, 2));
                let high_second = _mm512_srlv_epi16(high, self.shifts(0, 2));
                codes[half * 2] = _mm512_or_si512(
                    _mm512_and_si512(low, low_bits),
                    _mm512_and_si512(high_first, high_bits),
                );
                codes[half * 2 + 1] = _mm512_or_si512(
                    _mm512_and_si512(_mm512_srli_epi16::<4>(low), low_bits),
                    _mm512_and_si512(high_second, high_bits),
                );
            });
        }
        // SAFETY: 16 scales and d end the block.
        let (bytes, d) = unsafe {
            (
                _mm_loadu_si128(from.add(192).cast()),
                from.add(208).cast::<u16>().read_unaligned(),
            )
        };
        let scales = avx512!({
            let d = _mm_cvtph_ps(_mm_cvtsi32_si128(i32::from(d)));
            _mm512_mul_ps(
                _mm512_broadcastss_ps(d),
                _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes)),
            )
        });
        Unpacked {
            codes,
            scales,
            mins: avx512!(_mm512_mul_ps(scales, _mm512_set1_ps(32.0))),
        }
    }

    #[inline(always)]
    fn add_block<const SIGNED: bool>(
        self,
        mut sum: __m512,
        weights: &Unpacked<Self>,
        activations: &ActivationBlock,
    ) -> __m512 {
        // SAFETY: the fields have the size of the vectors and are aligned to 64 bytes.
        let (a_scales, a_sums) = unsafe {
            (
                _mm512_load_ps(activations.scales.as_ptr()),
                _mm512_load_ps(activations.sums.as_ptr()),
            )
        };
        let scales = avx512!(_mm512_mul_ps(weights.scales, a_scales));
        for (quarter, codes) in weights.codes.iter().enumerate() {
            // SAFETY: 64 of the 256 codes, aligned as the block is.
            let a =
                unsafe { _mm512_load_si512(activations.codes.as_ptr().add(quarter * 64).cast()) };
            sum = avx512!({
                let dots = _mm512_dpbusd_epi32(_mm512_setzero_si512(), *codes, a);
                let scales = _mm512_permutexvar_ps(self.lanes(PART_OF_LANE[quarter]), scales);
                _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots), scales, sum)
            });
        }
        avx512!(_mm512_fnmadd_ps(weights.mins, a_sums, sum))
    }
}
