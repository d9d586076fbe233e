//! The vector operations that kernels are written in, once per instruction set.
//!
//! A kernel is a value that implements [`Kernel`]: its `run` is generic over [`Simd`], always
//! inlined, and compiled once per instruction set inside a function that has the set enabled.
//! [`Dispatch::run`] picks one. The tokens [`Scalar`](scalar::Scalar) and so on are the proof that
//! the machine has the set, so that arithmetic on vectors needs no `unsafe`; only memory does.
//!
//! No operation reorders or contracts by itself: what a kernel writes is what is rounded. Where
//! the scalar set has no fused multiply-add it rounds twice.

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
mod math;
#[cfg(target_arch = "aarch64")]
pub(crate) mod neon;
pub(crate) mod scalar;

use crate::dots::pairs::Pairs;
#[cfg(target_arch = "aarch64")]
use crate::dots::pairs_neon::I8mm;
#[cfg(test)]
use crate::dots::pairs_plain::PlainPairs;
use crate::dots::words::Words;
use crate::isa::Isa;

pub(crate) use math::{exp, sigmoid, silu, sum_of_squares};

/// One instruction set's operations on vectors of `LANES` f32.
pub(crate) trait Simd: Words {
    /// Values per vector.
    const LANES: usize;

    /// All lanes `value`.
    fn splat(self, value: f32) -> Self::F;

    /// `LANES` values.
    ///
    /// # Safety
    /// `from` must point to `LANES` values; no alignment is needed.
    unsafe fn load(self, from: *const f32) -> Self::F;

    /// Writes `LANES` values.
    ///
    /// # Safety
    /// `to` must point to room for `LANES` values; no alignment is needed.
    unsafe fn store(self, to: *mut f32, vector: Self::F);

    /// `LANES` half-precision values, exactly.
    ///
    /// # Safety
    /// `from` must point to `LANES` values; no alignment is needed.
    unsafe fn load_f16(self, from: *const u16) -> Self::F;

    /// `LANES` bfloat16 values, exactly.
    ///
    /// # Safety
    /// `from` must point to `LANES` values; no alignment is needed.
    unsafe fn load_bf16(self, from: *const u16) -> Self::F;

    /// `LANES` signed bytes, as values.
    ///
    /// # Safety
    /// `from` must point to `LANES` bytes.
    unsafe fn load_i8(self, from: *const i8) -> Self::F;

    /// The low (or high) halves of `LANES` bytes, as values from 0 to 15.
    ///
    /// # Safety
    /// `from` must point to `LANES` bytes.
    unsafe fn load_nibbles<const HIGH: bool>(self, from: *const u8) -> Self::F;

    /// The first `count` values, then zeros.
    ///
    /// # Safety
    /// `from` must point to `count` values, at most `LANES`.
    #[inline(always)]
    unsafe fn load_first(self, from: *const f32, count: usize) -> Self::F {
        let mut padded = [0.0; MAX_LANES];
        // SAFETY: `count` values exist by the caller's promise and fit by LANES <= MAX_LANES.
        unsafe {
            std::ptr::copy_nonoverlapping(from.cast::<u8>(), padded.as_mut_ptr().cast(), 4 * count);
            self.load(padded.as_ptr())
        }
    }

    /// Writes the first `count` values.
    ///
    /// # Safety
    /// `to` must point to room for `count` values, at most `LANES`.
    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, vector: Self::F, count: usize) {
        let mut all = [0.0; MAX_LANES];
        // SAFETY: as in `load_first`.
        unsafe {
            self.store(all.as_mut_ptr(), vector);
            std::ptr::copy_nonoverlapping(all.as_ptr(), to, count);
        }
    }

    /// `remaining` values or a whole vector of them, whichever is less; then zeros.
    ///
    /// # Safety
    /// `from` must point to `remaining` values.
    #[inline(always)]
    unsafe fn load_up_to(self, from: *const f32, remaining: usize) -> Self::F {
        // SAFETY: as the caller promises.
        unsafe {
            if remaining >= Self::LANES {
                self.load(from)
            } else {
                self.load_first(from, remaining)
            }
        }
    }

    /// Writes `remaining` values or a whole vector of them, whichever is less.
    ///
    /// # Safety
    /// `to` must point to room for `remaining` values.
    #[inline(always)]
    unsafe fn store_up_to(self, to: *mut f32, vector: Self::F, remaining: usize) {
        // SAFETY: as the caller promises.
        unsafe {
            if remaining >= Self::LANES {
                self.store(to, vector);
            } else {
                self.store_first(to, vector, remaining);
            }
        }
    }

    /// `a + b`
    fn add(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a - b`
    fn sub(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a * b`
    fn mul(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a / b`
    fn div(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a * b + c`, rounded once where the set can.
    fn mul_add(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// `c - a * b`, rounded once where the set can.
    fn mul_sub_from(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// The smaller of each pair; `b` where one is NaN.
    fn min(self, a: Self::F, b: Self::F) -> Self::F;
    /// The larger of each pair; `b` where one is NaN.
    fn max(self, a: Self::F, b: Self::F) -> Self::F;
    /// The nearest integers, halves to even.
    fn round(self, a: Self::F) -> Self::F;
    /// `2^n` for integral n between -126 and 127.
    fn exp2_integral(self, n: Self::F) -> Self::F;
    /// The sum of all lanes, in an order that is always the same.
    fn sum(self, a: Self::F) -> f32;

    /// The largest of all lanes.
    #[inline(always)]
    fn largest(self, a: Self::F) -> f32 {
        let mut lanes = [f32::NEG_INFINITY; MAX_LANES];
        // SAFETY: there is room for the most lanes.
        unsafe { self.store(lanes.as_mut_ptr(), a) };
        let mut largest = lanes[0];
        for lane in lanes {
            largest = if lane > largest { lane } else { largest };
        }
        largest
    }
}

/// The most lanes any set has.
pub(crate) const MAX_LANES: usize = 16;

/// Work that is compiled for each instruction set.
pub(crate) trait Kernel {
    /// What it returns.
    type Output;

    /// Does the work. Implementations must be `#[inline(always)]` and call nothing that is not,
    /// or intrinsics become function calls.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

/// Work that is compiled for each instruction set that multiplies [`Pairs`].
#[cfg_attr(
    not(any(test, target_arch = "aarch64")),
    expect(dead_code, reason = "this target has no products of pairs")
)]
pub(crate) trait PairKernel {
    /// Does the work. As [`Kernel::run`].
    fn run<P: Pairs>(self, pairs: P);
}

/// An instruction set that was found on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Dispatch {
    isa: Isa,
    /// Whether inputs are taken two by two with plain loops, whatever the set.
    #[cfg(test)]
    has_plain_pairs: bool,
}

impl Dispatch {
    /// `None` if the machine does not have it.
    pub(crate) fn new(isa: Isa) -> Option<Self> {
        isa.is_supported().then_some(Self {
            isa,
            #[cfg(test)]
            has_plain_pairs: false,
        })
    }

    /// Which it is.
    pub(crate) fn isa(self) -> Isa {
        self.isa
    }

    /// Values per vector.
    pub(crate) fn lanes(self) -> usize {
        match self.isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => avx512::Avx512::LANES,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 | Isa::AvxVnni => avx2::Avx2::<false>::LANES,
            #[cfg(target_arch = "aarch64")]
            Isa::Neon | Isa::NeonI8mm => neon::Neon::LANES,
            _ => scalar::Scalar::LANES,
        }
    }

    /// See [`Words::INTERLEAVES`].
    pub(crate) fn interleaves(self) -> bool {
        match self.isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => avx512::Avx512::INTERLEAVES,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 | Isa::AvxVnni => avx2::Avx2::<false>::INTERLEAVES,
            #[cfg(target_arch = "aarch64")]
            Isa::Neon | Isa::NeonI8mm => neon::Neon::INTERLEAVES,
            _ => scalar::Scalar::INTERLEAVES,
        }
    }

    /// Runs a kernel compiled for this instruction set.
    #[inline]
    pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self.isa {
            // SAFETY: `new` has checked that the machine has the set.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => unsafe { run_avx512(kernel) },
            // SAFETY: likewise.
            #[cfg(target_arch = "x86_64")]
            Isa::AvxVnni => unsafe { run_avx_vnni(kernel) },
            // SAFETY: likewise.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => unsafe { run_avx2(kernel) },
            // SAFETY: likewise.
            #[cfg(target_arch = "aarch64")]
            Isa::Neon | Isa::NeonI8mm => unsafe { run_neon(kernel) },
            _ => kernel.run(scalar::Scalar),
        }
    }

    /// Whether there are kernels that take inputs two by two, which is faster for three or more.
    #[inline]
    pub(crate) fn has_pairs(self) -> bool {
        #[cfg(test)]
        if self.has_plain_pairs {
            return true;
        }
        cfg!(target_arch = "aarch64") && self.isa == Isa::NeonI8mm
    }

    /// Runs a kernel that takes inputs two by two.
    ///
    /// # Panics
    /// If this instruction set has none.
    #[inline]
    pub(crate) fn run_pairs<K: PairKernel>(self, kernel: K) {
        #[cfg(test)]
        if self.has_plain_pairs {
            return kernel.run(PlainPairs);
        }
        match self.isa {
            // SAFETY: `new` has checked that the machine has the set.
            #[cfg(target_arch = "aarch64")]
            Isa::NeonI8mm => unsafe { run_i8mm(kernel) },
            isa => {
                drop(kernel);
                unreachable!("{isa} has no products of pairs")
            }
        }
    }

    /// The same with plain loops for pairs, in vectors of the scalar set.
    #[cfg(test)]
    pub(crate) fn with_plain_pairs(self) -> Self {
        assert_eq!(
            self.isa,
            Isa::Scalar,
            "the vectors of both must be the same"
        );
        Self {
            has_plain_pairs: true,
            ..self
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
fn run_avx512<K: Kernel>(kernel: K) -> K::Output {
    // SAFETY: the features are those of this function.
    kernel.run(unsafe { avx512::Avx512::new() })
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
fn run_avx2<K: Kernel>(kernel: K) -> K::Output {
    // SAFETY: the features are those of this function.
    kernel.run(unsafe { avx2::Avx2::<false>::new() })
}

#[cfg(target_arch = "x86_64")]
#[cfg_attr(not(test), target_feature(enable = "avx2,fma,f16c,avxvnni"))]
#[cfg_attr(test, target_feature(enable = "avx2,fma,f16c,avx512vl,avx512vnni"))]
fn run_avx_vnni<K: Kernel>(kernel: K) -> K::Output {
    // SAFETY: the features are those of this function.
    kernel.run(unsafe { avx2::Avx2::<true>::new() })
}

#[cfg(target_arch = "aarch64")]
#[target_feature(enable = "neon,dotprod")]
fn run_neon<K: Kernel>(kernel: K) -> K::Output {
    // SAFETY: the features are those of this function.
    kernel.run(unsafe { neon::Neon::new() })
}

#[cfg(target_arch = "aarch64")]
#[target_feature(enable = "neon,dotprod,i8mm")]
fn run_i8mm<K: PairKernel>(kernel: K) {
    // SAFETY: the features are those of this function.
    kernel.run(unsafe { I8mm::new() })
}

#[cfg(test)]
pub(crate) fn every_dispatch() -> impl Iterator<Item = Dispatch> {
    Isa::ALL.into_iter().filter_map(Dispatch::new)
}
