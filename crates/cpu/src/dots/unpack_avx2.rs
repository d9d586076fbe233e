//! Quantised blocks in AVX2: 32 codes to a register.
//!
//! `vpmaddubsw` multiplies unsigned with signed bytes and adds pairs in 16 bits, saturating: codes
//! below 64 cannot overflow. Q8_0 moves the sign of the weight to the activation first.

use std::arch::x86_64::*;

use super::blocks::{BlockDots, Unpacked, k_scales_and_mins};
use crate::activations::ActivationBlock;
use crate::simd::avx2::Avx2;

/// An expression of intrinsics on registers.
macro_rules! avx2 {
    ($expression:expr) => {{
        // SAFETY: `self` exists only where the machine has the instructions; no memory is used.
        unsafe { $expression }
    }};
}

/// For each 32 codes of 128, the part of 16 values that each lane of four products belongs to.
const PART_OF_LANE: [[i32; 8]; 4] = [
    [0, 0, 0, 0, 1, 1, 1, 1],
    [2, 2, 2, 2, 3, 3, 3, 3],
    [4, 4, 4, 4, 5, 5, 5, 5],
    [6, 6, 6, 6, 7, 7, 7, 7],
];
/// Lanes 0, 0, 1, 1, 2, 2, 3, 3.
const TWICE: [i32; 8] = [0, 0, 1, 1, 2, 2, 3, 3];
/// The same of lanes 4 to 7.
const TWICE_HIGH: [i32; 8] = [4, 4, 5, 5, 6, 6, 7, 7];

impl Avx2 {
    #[inline(always)]
    fn lanes(self, lanes: [i32; 8]) -> __m256i {
        // SAFETY: the array is as large as the vector.
        unsafe { _mm256_loadu_si256(lanes.as_ptr().cast()) }
    }

    /// Eight factors, each twice.
    #[inline(always)]
    fn twice(self, factors: __m256) -> [__m256; 2] {
        avx2!([
            _mm256_permutevar8x32_ps(factors, self.lanes(TWICE)),
            _mm256_permutevar8x32_ps(factors, self.lanes(TWICE_HIGH)),
        ])
    }

    #[inline(always)]
    fn scale_bytes(self, factor: f32, bytes: u64) -> __m256 {
        avx2!({
            let bytes = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(bytes as i64));
            _mm256_mul_ps(_mm256_set1_ps(factor), _mm256_cvtepi32_ps(bytes))
        })
    }

    #[inline(always)]
    fn half(self, bits: u16) -> f32 {
        avx2!(_mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(i32::from(
            bits
        )))))
    }

    /// The low four bits of Q4_K and Q5_K.
    ///
    /// # Safety
    /// `from` must point to 128 bytes.
    #[inline(always)]
    unsafe fn k_nibbles(self, from: *const u8) -> [__m256i; 8] {
        let mut codes = [avx2!(_mm256_setzero_si256()); 8];
        for pair in 0..4 {
            // SAFETY: 32 of the 128 bytes.
            let bytes = unsafe { _mm256_loadu_si256(from.add(pair * 32).cast()) };
            avx2!({
                let low = _mm256_set1_epi8(15);
                codes[pair * 2] = _mm256_and_si256(bytes, low);
                codes[pair * 2 + 1] = _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), low);
            });
        }
        codes
    }

    /// Scales and minima of Q4_K and Q5_K.
    ///
    /// # Safety
    /// `from` must point to the block's first 16 bytes.
    #[inline(always)]
    unsafe fn k_factors(self, from: *const u8) -> ([__m256; 2], [__m256; 2]) {
        // SAFETY: d, dmin and twelve bytes of packed factors.
        let (d, dmin, packed) = unsafe {
            (
                from.cast::<u16>().read_unaligned(),
                from.add(2).cast::<u16>().read_unaligned(),
                from.add(4).cast::<[u8; 12]>().read(),
            )
        };
        let (scales, mins) = k_scales_and_mins(packed);
        (
            self.twice(self.scale_bytes(self.half(d), scales)),
            self.twice(self.scale_bytes(self.half(dmin), mins)),
        )
    }
}

impl BlockDots for Avx2 {
    type F = __m256;
    type Codes = [__m256i; 8];
    type Factors = [__m256; 2];

    #[inline(always)]
    unsafe fn unpack_q8_0(self, from: *const u8) -> Unpacked<Self> {
        let mut codes = [avx2!(_mm256_setzero_si256()); 8];
        for (block, codes) in codes.iter_mut().enumerate() {
            // SAFETY: the codes of a block of 34 bytes, from the third on.
            *codes = unsafe { _mm256_loadu_si256(from.add(block * 34 + 2).cast()) };
        }
        // SAFETY: each of the eight blocks begins with its scale.
        let half = |block: usize| unsafe { from.add(block * 34).cast::<i16>().read_unaligned() };
        let scales = avx2!(_mm256_cvtph_ps(_mm_set_epi16(
            half(7),
            half(6),
            half(5),
            half(4),
            half(3),
            half(2),
            half(1),
            half(0),
        )));
        Unpacked {
            codes,
            scales: self.twice(scales),
            mins: [avx2!(_mm256_setzero_ps()); 2],
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
                _mm256_loadu_si256(from.add(16).cast()),
            )
        };
        for (group, codes) in codes.iter_mut().enumerate() {
            *codes = avx2!({
                let bit = _mm256_set1_epi8((1u8 << group) as i8);
                let set = _mm256_cmpeq_epi8(_mm256_and_si256(high, bit), bit);
                _mm256_or_si256(*codes, _mm256_and_si256(set, _mm256_set1_epi8(16)))
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
        let mut codes = [avx2!(_mm256_setzero_si256()); 8];
        for half in 0..2 {
            // SAFETY: each half has 64 bytes of low bits and 32 of high ones.
            let (low, high) = unsafe {
                let low = from.add(half * 64);
                (
                    [
                        _mm256_loadu_si256(low.cast()),
                        _mm256_loadu_si256(low.add(32).cast()),
                    ],
                    _mm256_loadu_si256(from.add(128 + half * 32).cast()),
                )
            };
            // Bits 4 and 5 of the code come from bits 2 k and 2 k + 1 in quarter k.
            avx2!({
                let (low_bits, high_bits) = (_mm256_set1_epi8(15), _mm256_set1_epi8(0x30));
                let high = [
                    _mm256_slli_epi16::<4>(high),
                    _mm256_slli_epi16::<2>(high),
                    high,
                    _mm256_srli_epi16::<2>(high),
                ];
                for quarter in 0..4 {
                    let low = low[quarter % 2];
                    let low = if quarter < 2 {
                        low
                    } else {
                        _mm256_srli_epi16::<4>(low)
                    };
                    codes[half * 4 + quarter] = _mm256_or_si256(
                        _mm256_and_si256(low, low_bits),
                        _mm256_and_si256(high[quarter], high_bits),
                    );
                }
            });
        }
        // SAFETY: 16 scales and d end the block.
        let (bytes, d) = unsafe {
            (
                _mm_loadu_si128(from.add(192).cast()),
                from.add(208).cast::<u16>().read_unaligned(),
            )
        };
        let d = self.half(d);
        avx2!({
            let d = _mm256_set1_ps(d);
            let low = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes));
            let high = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128::<8>(bytes)));
            let scales = [_mm256_mul_ps(d, low), _mm256_mul_ps(d, high)];
            let offset = _mm256_set1_ps(32.0);
            Unpacked {
                codes,
                scales,
                mins: [
                    _mm256_mul_ps(scales[0], offset),
                    _mm256_mul_ps(scales[1], offset),
                ],
            }
        })
    }

    #[inline(always)]
    fn add_block<const SIGNED: bool>(
        self,
        mut sum: __m256,
        weights: &Unpacked<Self>,
        activations: &ActivationBlock,
    ) -> __m256 {
        for half in 0..2 {
            // SAFETY: eight of sixteen values, aligned to 32 bytes.
            let (a_scales, a_sums) = unsafe {
                (
                    _mm256_load_ps(activations.scales.as_ptr().add(half * 8)),
                    _mm256_load_ps(activations.sums.as_ptr().add(half * 8)),
                )
            };
            let scales = avx2!(_mm256_mul_ps(weights.scales[half], a_scales));
            for quarter in 0..4 {
                let group = half * 4 + quarter;
                let w = weights.codes[group];
                // SAFETY: 32 of the 256 codes, aligned to 32 bytes.
                let a =
                    unsafe { _mm256_load_si256(activations.codes.as_ptr().add(group * 32).cast()) };
                sum = avx2!({
                    let pairs = if SIGNED {
                        _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(a, w))
                    } else {
                        _mm256_maddubs_epi16(w, a)
                    };
                    let dots = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
                    let scales =
                        _mm256_permutevar8x32_ps(scales, self.lanes(PART_OF_LANE[quarter]));
                    _mm256_fmadd_ps(_mm256_cvtepi32_ps(dots), scales, sum)
                });
            }
            if !SIGNED {
                sum = avx2!(_mm256_fnmadd_ps(weights.mins[half], a_sums, sum));
            }
        }
        sum
    }
}
