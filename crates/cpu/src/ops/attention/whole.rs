//! Units of two whole numbers of 16 bits, and the instructions for them.

use std::arch::x86_64::*;

use super::pack::Cached;
use super::scales::{LARGEST, LARGEST_KEY, LEAST, RowScales, Scale, TOGETHER};
use super::units::{UnitKernel, Units};
use crate::simd::Simd;
use crate::simd::avx512::Avx512;

const LANES: usize = Avx512::LANES;

/// Units of AVX-512 with VNNI.
#[derive(Clone, Copy)]
pub(super) struct Whole(Avx512);

/// Work that is for whole numbers only.
pub(super) trait WholeKernel {
    /// As [`crate::simd::Kernel::run`].
    fn run(self, units: Whole);
}

/// # Safety
/// The machine must have what [`Avx512`] needs.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) unsafe fn run<K: UnitKernel>(kernel: K) {
    // SAFETY: as the caller promises.
    kernel.run(Whole(unsafe { Avx512::new() }));
}

/// The same for work that is for whole numbers only.
///
/// # Safety
/// As [`run`].
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) unsafe fn run_whole<K: WholeKernel>(kernel: K) {
    // SAFETY: as the caller promises.
    kernel.run(Whole(unsafe { Avx512::new() }));
}

/// An expression of intrinsics on registers.
macro_rules! avx512 {
    ($expression:expr) => {{
        // SAFETY: `self` is proof of the instructions; no memory is used.
        unsafe { $expression }
    }};
}

/// Every second of the 16 bits of two vectors, from the first on.
static EVEN: [u16; 32] = {
    let mut order = [0; 32];
    let mut lane = 0;
    while lane < 32 {
        order[lane] = 2 * lane as u16;
        lane += 1;
    }
    order
};

impl Whole {
    /// The sum of each vector's lanes, in its lane.
    #[inline(always)]
    pub(super) fn sums_across(self, v: [__m512; 16]) -> __m512 {
        // In each 128 bits a sum of each of four; then in each two of 128 bits, in all of them.
        let (a, b) = (
            self.four([v[0], v[1], v[2], v[3]]),
            self.four([v[4], v[5], v[6], v[7]]),
        );
        let (c, d) = (
            self.four([v[8], v[9], v[10], v[11]]),
            self.four([v[12], v[13], v[14], v[15]]),
        );
        let sums = self.quarters(self.quarters(a, b), self.quarters(c, d));
        avx512!(_mm512_castsi512_ps(sums))
    }

    /// In each 128 bits the sums of those of each vector.
    #[inline(always)]
    fn four(self, v: [__m512; 4]) -> __m512i {
        avx512!({
            let (a, b) = (_mm512_castps_si512(v[0]), _mm512_castps_si512(v[1]));
            let (c, d) = (_mm512_castps_si512(v[2]), _mm512_castps_si512(v[3]));
            let ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
            let cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
            _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd))
        })
    }

    /// Adds quarters of `a`, first and second, third and fourth, then those of `b`.
    #[inline(always)]
    fn quarters(self, a: __m512i, b: __m512i) -> __m512i {
        avx512!({
            let even = _mm512_shuffle_i32x4::<0b10_00_10_00>(a, b);
            let odd = _mm512_shuffle_i32x4::<0b11_01_11_01>(a, b);
            _mm512_add_epi32(even, odd)
        })
    }

    /// The nearest whole numbers of two vectors times their factors, which must be below 2^15: lanes of the first in
    /// the lower halves of units, those of the second in the upper ones.
    #[inline(always)]
    fn pair(self, first: __m512, second: __m512, factors: [f32; 2]) -> __m512 {
        avx512!({
            let first = _mm512_mul_ps(first, _mm512_set1_ps(factors[0]));
            // In the upper half at once; a half of what counts there makes cutting off what is below rounding.
            let (factor, half) = (
                _mm512_set1_ps(factors[1] * 65_536.0),
                _mm512_set1_ps(32_768.0),
            );
            let second = _mm512_fmadd_ps(second, factor, half);
            let (first, second) = (_mm512_cvtps_epi32(first), _mm512_cvtps_epi32(second));
            // Where the mask has ones the second, else the first.
            let upper = _mm512_set1_epi32(-65_536);
            _mm512_castsi512_ps(_mm512_ternarylogic_epi32::<0xca>(upper, second, first))
        })
    }

    /// The largest magnitude of a row, or what none exceeds.
    ///
    /// # Safety
    /// As [`Cached::load`].
    #[inline(always)]
    unsafe fn largest<C: Cached>(self, row: *const u8, cols: usize) -> f32 {
        let s = self.0;
        // SAFETY: as the caller promises.
        unsafe {
            if C::IS_F16 {
                return self.largest_half(row, cols);
            }
            if let Some(bound) = C::bound(row, cols) {
                return bound;
            }
            let mut largest = s.splat(0.0);
            for at in (0..cols).step_by(LANES) {
                largest = s.max(largest, _mm512_abs_ps(C::load(s, row, at, cols)));
            }
            s.largest(largest)
        }
    }

    /// The largest magnitude of a row of halves: they come in the order of their bits.
    ///
    /// # Safety
    /// `row` must point to so many.
    #[inline(always)]
    unsafe fn largest_half(self, row: *const u8, cols: usize) -> f32 {
        let (sign, whole) = avx512!((_mm512_set1_epi16(i16::MIN), cols / 32 * 32));
        let mut largest = avx512!(_mm512_setzero_si512());
        // SAFETY: as the caller promises; what is masked out is not read.
        unsafe {
            for at in (0..whole).step_by(32) {
                let halves = _mm512_loadu_si512(row.add(2 * at).cast());
                largest = _mm512_max_epu16(largest, _mm512_andnot_si512(sign, halves));
            }
            if whole < cols {
                let mask = ((1_u32 << (cols - whole)) - 1) as __mmask32;
                let halves = _mm512_maskz_loadu_epi16(mask, row.add(2 * whole).cast());
                largest = _mm512_max_epu16(largest, _mm512_andnot_si512(sign, halves));
            }
        }
        avx512!({
            let high = _mm512_extracti64x4_epi64::<1>(largest);
            let sixteen = _mm256_max_epu16(_mm512_castsi512_si256(largest), high);
            let high = _mm256_extracti128_si256::<1>(sixteen);
            let eight = _mm_max_epu16(_mm256_castsi256_si128(sixteen), high);
            // There is an instruction for the smallest.
            let least = _mm_minpos_epu16(_mm_xor_si128(eight, _mm_set1_epi16(-1)));
            _mm_cvtss_f32(_mm_cvtph_ps(_mm_xor_si128(least, _mm_set1_epi16(-1))))
        })
    }

    /// A vector of a row's values; zeros beyond `cols`, which nothing is if the row is `FULL`.
    ///
    /// # Safety
    /// As [`Cached::load`].
    #[inline(always)]
    unsafe fn load<C: Cached, const FULL: bool>(
        self,
        row: *const u8,
        at: usize,
        cols: usize,
    ) -> __m512 {
        // SAFETY: as the caller promises.
        unsafe {
            match FULL {
                true => C::load_within(self.0, row, at),
                false => C::load(self.0, row, at, cols),
            }
        }
    }

    /// What rows are scaled with whose largest number is to be `size`.
    ///
    /// # Safety
    /// As [`Cached::load`].
    #[inline(always)]
    unsafe fn scales<C: Cached>(self, rows: &[*const u8], cols: usize, size: f32) -> RowScales {
        let mut all = RowScales::NONE;
        for (lane, row) in rows.iter().enumerate().take(TOGETHER) {
            // SAFETY: as the caller promises.
            all.scales[lane] = unsafe { self.largest::<C>(*row, cols) };
        }
        // SAFETY: they are a vector each.
        unsafe {
            let s = self.0;
            // In this order what is no number stays none.
            let largest = s.max(s.splat(LEAST), s.load(all.scales.as_ptr()));
            let factors = s.div(s.splat(size), largest);
            s.store(all.factors.as_mut_ptr(), factors);
            s.store(all.scales.as_mut_ptr(), s.mul(largest, s.splat(1.0 / size)));
        }
        all
    }

    /// The units of 32 values of a key, of which 16 are beside the next 16.
    ///
    /// # Safety
    /// As [`Whole::load`], with factors of [`Units::scales_of_keys`].
    #[inline(always)]
    pub(super) unsafe fn key<C: Cached, const FULL: bool>(
        self,
        row: *const u8,
        at: usize,
        cols: usize,
        factor: f32,
    ) -> __m512 {
        // SAFETY: as the caller promises.
        unsafe {
            let first = self.load::<C, FULL>(row, at, cols);
            let second = self.load::<C, FULL>(row, at + LANES, cols);
            self.pair(first, second, [factor; 2])
        }
    }

    /// 16 values of each of two rows, beside each other.
    ///
    /// # Safety
    /// As [`Whole::load`], with factors of [`Units::scales_of_values`].
    #[inline(always)]
    pub(super) unsafe fn values<C: Cached, const FULL: bool>(
        self,
        rows: [*const u8; 2],
        at: usize,
        cols: usize,
        factors: [f32; 2],
    ) -> __m512 {
        // SAFETY: as the caller promises.
        unsafe {
            let first = self.load::<C, FULL>(rows[0], at, cols);
            let second = self.load::<C, FULL>(rows[1], at, cols);
            self.pair(first, second, factors)
        }
    }
}

impl Units for Whole {
    type S = Avx512;
    const VALUES: usize = 2;
    const WHOLE: bool = true;

    #[inline(always)]
    fn simd(self) -> Avx512 {
        self.0
    }

    #[inline(always)]
    fn multiply_add(self, sum: __m512, a: __m512, b: __m512) -> __m512 {
        avx512!(_mm512_castsi512_ps(_mm512_dpwssd_epi32(
            _mm512_castps_si512(sum),
            _mm512_castps_si512(a),
            _mm512_castps_si512(b),
        )))
    }

    #[inline(always)]
    fn numbers(self, sums: __m512) -> __m512 {
        avx512!(_mm512_cvtepi32_ps(_mm512_castps_si512(sums)))
    }

    #[inline(always)]
    unsafe fn store_values(self, to: *mut f32, first: __m512, second: __m512) {
        // SAFETY: as the caller promises.
        unsafe {
            let (first, second) = (_mm512_cvtps_epi32(first), _mm512_cvtps_epi32(second));
            let order = _mm512_loadu_si512(EVEN.as_ptr().cast());
            let units = _mm512_permutex2var_epi16(first, order, second);
            _mm512_storeu_si512(to.cast(), units);
        }
    }

    #[inline(always)]
    unsafe fn pack_query(self, row: *const f32, cols: usize, padded: usize, to: *mut f32) -> f32 {
        let s = self.0;
        let (mut sum, mut largest) = (s.splat(0.0), s.splat(0.0));
        for at in (0..cols).step_by(LANES) {
            // SAFETY: as the caller promises.
            let magnitudes = unsafe { _mm512_abs_ps(s.load_up_to(row.add(at), cols - at)) };
            sum = s.add(sum, magnitudes);
            largest = s.max(largest, magnitudes);
        }
        let Scale { factor, scale } = Scale::of_query(s.sum(sum), s.largest(largest), cols);
        for at in (0..padded).step_by(2 * LANES) {
            // SAFETY: as the caller promises; beyond the row nothing is read.
            unsafe {
                let next = at + LANES;
                let first = s.load_up_to(row.wrapping_add(at), cols.saturating_sub(at));
                let second = s.load_up_to(row.wrapping_add(next), cols.saturating_sub(next));
                s.store(to.add(at / 2), self.pair(first, second, [factor; 2]));
            }
        }
        scale
    }

    #[inline(always)]
    unsafe fn scales_of_keys<C: Cached>(self, rows: &[*const u8], cols: usize) -> RowScales {
        // SAFETY: as the caller promises.
        unsafe { self.scales::<C>(rows, cols, LARGEST_KEY) }
    }

    #[inline(always)]
    unsafe fn scales_of_values<C: Cached>(self, rows: &[*const u8], cols: usize) -> RowScales {
        // SAFETY: as the caller promises.
        unsafe { self.scales::<C>(rows, cols, LARGEST) }
    }

    #[inline(always)]
    unsafe fn pack_key<C: Cached>(
        self,
        row: *const u8,
        at: usize,
        cols: usize,
        factor: f32,
        to: *mut f32,
    ) {
        // SAFETY: as the caller promises.
        unsafe {
            self.0
                .store(to, self.key::<C, false>(row, at, cols, factor))
        };
    }

    #[inline(always)]
    unsafe fn pack_values<C: Cached>(
        self,
        rows: [*const u8; 2],
        at: usize,
        cols: usize,
        factors: [f32; 2],
        (to, _): (*mut f32, usize),
    ) {
        // SAFETY: as the caller promises.
        unsafe {
            for at in [at, at + LANES] {
                let to = to.add(at % (2 * LANES));
                self.0
                    .store(to, self.values::<C, false>(rows, at, cols, factors));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Sums([[i32; 16]; 16]);

    impl WholeKernel for Sums {
        #[inline(always)]
        fn run(self, u: Whole) {
            let mut vectors = [u.simd().splat(0.0); 16];
            for (vector, lanes) in vectors.iter_mut().zip(&self.0) {
                // SAFETY: sixteen words.
                *vector = unsafe { u.simd().load(lanes.as_ptr().cast()) };
            }
            let mut found = [0_i32; 16];
            // SAFETY: likewise.
            unsafe {
                u.simd()
                    .store(found.as_mut_ptr().cast(), u.sums_across(vectors))
            };
            assert_eq!(found, self.0.map(|lanes| lanes.iter().sum::<i32>()));
        }
    }

    #[test]
    fn sums_across_are_in_order() {
        if crate::Isa::Avx512.is_supported() {
            let lane = |vector: usize, lane: usize| (lane * lane + 1000 * vector) as i32 - 5;
            let lanes = |vector| std::array::from_fn(|index| lane(vector, index));
            // SAFETY: the machine has it.
            unsafe { run_whole(Sums(std::array::from_fn(lanes))) };
        } else {
            eprintln!("skipped: no AVX-512 here");
        }
    }

    struct Largest<'a>(&'a [half::f16]);

    impl WholeKernel for Largest<'_> {
        #[inline(always)]
        fn run(self, u: Whole) {
            let expected = self
                .0
                .iter()
                .fold(0.0_f32, |most, v| most.max(v.to_f32().abs()));
            // SAFETY: so many halves.
            let found = unsafe { u.largest_half(self.0.as_ptr().cast(), self.0.len()) };
            assert_eq!(found, expected, "{:?}", self.0);
        }
    }

    #[test]
    fn the_largest_half_is_found() {
        if !crate::Isa::Avx512.is_supported() {
            eprintln!("skipped: no AVX-512 here");
            return;
        }
        let mut random = crate::tests::Random::new(3);
        for size in [0.0, 1e-7_f32, 1e-3, 1.0, 6e4] {
            for cols in [1, 31, 32, 100, 256] {
                let half = |v: f32| half::f16::from_f32((v * size).clamp(-6e4, 6e4));
                let row: Vec<_> = random.values(cols).into_iter().map(half).collect();
                // SAFETY: the machine has it.
                unsafe { run_whole(Largest(&row)) };
            }
        }
    }
}
