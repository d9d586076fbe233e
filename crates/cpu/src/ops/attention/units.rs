//! What the products of attention are made of: vectors of 32-bit units, each one f32 or a pair of
//! bf16.
//!
//! Where the machine multiplies pairs of bf16 it does twice the products of f32 per instruction,
//! and attention to a long context is little else. Sums are f32 in both. Keys, values, queries and
//! softmax weights are then rounded to the 8 bits of bf16: for caches that hold no more than that
//! themselves. Products with f32 and f16 caches are f32, and so are all of
//! [`Activations::Exact`](crate::Activations).

use formats::DType;

use crate::cpu::{Activations, Cpu};
use crate::isa::Isa;
use crate::simd::{Kernel, Simd};

/// Vectors of units, and products of them.
pub(super) trait Units: Copy {
    /// The instruction set; its f32 vectors hold units, too.
    type S: Simd;
    /// Values per unit.
    const VALUES: usize;

    fn simd(self) -> Self::S;

    /// `sum + a . b` in each lane.
    fn multiply_add(self, sum: Vector<Self>, a: Vector<Self>, b: Vector<Self>) -> Vector<Self>;

    /// Writes two vectors of consecutive values as units.
    ///
    /// # Safety
    /// `to` must point to room for `2 / VALUES` vectors.
    unsafe fn store_values(self, to: *mut f32, first: Vector<Self>, second: Vector<Self>);

    /// Writes two rows' values, of which those in the same lane are multiplied with neighbours, as
    /// `2 / VALUES` rows of units, `stride` apart.
    ///
    /// # Safety
    /// `to` must point to room for a vector, and for a second one `stride` further.
    unsafe fn store_rows(
        self,
        to: *mut f32,
        stride: usize,
        first: Vector<Self>,
        second: Vector<Self>,
    );

    /// The sum over the units of both vectors of what [`Units::store_values`] makes of weights.
    fn add_weights(
        self,
        sum: Vector<Self>,
        first: Vector<Self>,
        second: Vector<Self>,
    ) -> Vector<Self>;
}

/// A vector of lanes.
pub(super) type Vector<U> = <<U as Units>::S as crate::dots::words::Words>::F;

/// Work that is compiled for each kind of units.
pub(super) trait UnitKernel {
    /// As [`Kernel::run`].
    fn run<U: Units>(self, units: U);
}

/// Which units a backend uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UnitKind {
    /// One f32.
    Single,
    /// Two bf16, on AVX-512 with its bf16 extension.
    Pair,
}

impl UnitKind {
    /// The units for a cache of these types of keys and values.
    pub(super) fn of(cpu: &Cpu, types: [DType; 2]) -> Self {
        let is_fine = |dtype| matches!(dtype, DType::F32 | DType::F16);
        let is_exact = cpu.activations == Activations::Exact || types.into_iter().any(is_fine);
        if !is_exact && cpu.isa() == Isa::Avx512 && has_bf16() {
            Self::Pair
        } else {
            Self::Single
        }
    }

    /// Values per unit.
    pub(super) fn values(self) -> usize {
        match self {
            Self::Single => 1,
            Self::Pair => 2,
        }
    }

    pub(super) fn run(self, cpu: &Cpu, kernel: impl UnitKernel) {
        match self {
            // SAFETY: `of` has found AVX-512, which the backend checked, and bf16.
            #[cfg(target_arch = "x86_64")]
            Self::Pair => unsafe { pair::run(kernel) },
            _ => cpu.dispatch.run(OnSingles(kernel)),
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn has_bf16() -> bool {
    is_x86_feature_detected!("avx512bf16")
}

#[cfg(not(target_arch = "x86_64"))]
fn has_bf16() -> bool {
    false
}

struct OnSingles<K>(K);

impl<K: UnitKernel> Kernel for OnSingles<K> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        self.0.run(Single(s));
    }
}

/// Units of one f32.
#[derive(Clone, Copy)]
pub(super) struct Single<S>(pub(super) S);

impl<S: Simd> Units for Single<S> {
    type S = S;
    const VALUES: usize = 1;

    #[inline(always)]
    fn simd(self) -> S {
        self.0
    }

    #[inline(always)]
    fn multiply_add(self, sum: S::F, a: S::F, b: S::F) -> S::F {
        self.0.mul_add(a, b, sum)
    }

    #[inline(always)]
    unsafe fn store_values(self, to: *mut f32, first: S::F, second: S::F) {
        // SAFETY: as the caller promises.
        unsafe {
            self.0.store(to, first);
            self.0.store(to.add(S::LANES), second);
        }
    }

    #[inline(always)]
    unsafe fn store_rows(self, to: *mut f32, stride: usize, first: S::F, second: S::F) {
        // SAFETY: as the caller promises.
        unsafe {
            self.0.store(to, first);
            self.0.store(to.add(stride), second);
        }
    }

    #[inline(always)]
    fn add_weights(self, sum: S::F, first: S::F, second: S::F) -> S::F {
        self.0.add(self.0.add(sum, first), second)
    }
}

#[cfg(target_arch = "x86_64")]
mod pair {
    use std::arch::x86_64::*;

    use super::{UnitKernel, Units};
    use crate::simd::Simd;
    use crate::simd::avx512::Avx512;

    /// Units of two bf16. Proof that the machine has AVX-512 with bf16.
    #[derive(Clone, Copy)]
    struct Pair(Avx512);

    /// # Safety
    /// The machine must have what [`Avx512`] needs, and AVX-512 BF16.
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni,avx512bf16")]
    pub(super) unsafe fn run<K: UnitKernel>(kernel: K) {
        // SAFETY: as the caller promises.
        kernel.run(Pair(unsafe { Avx512::new() }));
    }

    /// Bits of a register in another type.
    macro_rules! bits {
        ($from:ty, $to:ty, $value:expr) => {{
            // SAFETY: vectors of the same size, for which all bits are valid.
            unsafe { std::mem::transmute::<$from, $to>($value) }
        }};
    }

    impl Pair {
        /// The bf16 of `first`, then those of `second`.
        #[inline(always)]
        fn narrow(self, first: __m512, second: __m512) -> __m512i {
            // SAFETY: `self` is proof of the instructions; no memory is used.
            let narrow = unsafe { _mm512_cvtne2ps_pbh(second, first) };
            bits!(__m512bh, __m512i, narrow)
        }
    }

    impl Units for Pair {
        type S = Avx512;
        const VALUES: usize = 2;

        #[inline(always)]
        fn simd(self) -> Avx512 {
            self.0
        }

        #[inline(always)]
        fn multiply_add(self, sum: __m512, a: __m512, b: __m512) -> __m512 {
            let (a, b) = (bits!(__m512, __m512bh, a), bits!(__m512, __m512bh, b));
            // SAFETY: `self` is proof of the instructions; no memory is used.
            unsafe { _mm512_dpbf16_ps(sum, a, b) }
        }

        #[inline(always)]
        unsafe fn store_values(self, to: *mut f32, first: __m512, second: __m512) {
            // SAFETY: as the caller promises.
            unsafe { _mm512_storeu_si512(to.cast(), self.narrow(first, second)) };
        }

        #[inline(always)]
        unsafe fn store_rows(self, to: *mut f32, _stride: usize, first: __m512, second: __m512) {
            let narrow = self.narrow(first, second);
            // SAFETY: `self` is proof of the instructions; `to` as the caller promises.
            unsafe {
                let order = _mm512_loadu_si512(BESIDE.as_ptr().cast());
                _mm512_storeu_si512(to.cast(), _mm512_permutexvar_epi16(order, narrow));
            }
        }

        #[inline(always)]
        fn add_weights(self, sum: __m512, first: __m512, second: __m512) -> __m512 {
            // As they are multiplied: rounded.
            let ones = self.0.splat(f32::from_bits(0x3f80_3f80));
            let weights = bits!(__m512i, __m512, self.narrow(first, second));
            self.multiply_add(sum, weights, ones)
        }
    }

    /// Lane i of the first 16 and of the second beside each other.
    static BESIDE: [u16; 32] = {
        let mut order = [0; 32];
        let mut lane = 0;
        while lane < 16 {
            order[2 * lane] = lane as u16;
            order[2 * lane + 1] = 16 + lane as u16;
            lane += 1;
        }
        order
    };
}
