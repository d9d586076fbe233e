//! What the products of attention are made of: vectors of 32-bit units, each one f32 or a pair of whole
//! numbers of 16 bits.
//!
//! Where the machine multiplies pairs of whole numbers and adds them up in one instruction, it does twice the products of
//! f32 per instruction, and attention to a long context is little else. See `whole` for how rows become whole
//! numbers, and what that rounds. Products with f32 caches are f32, and so are all of
//! [`Activations::Exact`](crate::Activations).

use formats::DType;

use super::few;
use super::pack::Cached;
use super::scales::RowScales;
#[cfg(target_arch = "x86_64")]
use super::whole;
use crate::cpu::{Activations, Cpu};
use crate::dots::float::F32;
use crate::isa::Isa;
use crate::simd::{Kernel, Simd};

/// Vectors of units, and products of them.
pub(super) trait Units: Copy {
    /// The instruction set; its f32 vectors hold units, too.
    type S: Simd;
    /// Values per unit.
    const VALUES: usize;
    /// Whether values are whole numbers, which are to be multiplied with a scale of their row.
    const WHOLE: bool;

    fn simd(self) -> Self::S;

    /// `sum + a . b` in each lane.
    fn multiply_add(self, sum: Vector<Self>, a: Vector<Self>, b: Vector<Self>) -> Vector<Self>;

    /// Sums as numbers.
    fn numbers(self, sums: Vector<Self>) -> Vector<Self>;

    /// Writes two vectors of consecutive values as units. Whole ones are rounded, and must be below 2^15.
    ///
    /// # Safety
    /// `to` must point to room for `2 / VALUES` vectors.
    unsafe fn store_values(self, to: *mut f32, first: Vector<Self>, second: Vector<Self>);

    /// Writes the units of a query, padded with zeros. Returns its scale.
    ///
    /// # Safety
    /// `row` must point to `cols` values, `to` to room for `padded / VALUES`. `padded` is a multiple of two
    /// vectors.
    unsafe fn pack_query(self, row: *const f32, cols: usize, padded: usize, to: *mut f32) -> f32;

    /// What so many keys become whole with, [`super::scales::TOGETHER`] at most.
    ///
    /// # Safety
    /// The rows must be as [`Cached::load`] wants them.
    unsafe fn scales_of_keys<C: Cached>(self, rows: &[*const u8], cols: usize) -> RowScales;

    /// The same for values.
    ///
    /// # Safety
    /// As [`Units::scales_of_keys`].
    unsafe fn scales_of_values<C: Cached>(self, rows: &[*const u8], cols: usize) -> RowScales;

    /// Writes the units of two vectors of a key's values, zeros beyond `cols`.
    ///
    /// # Safety
    /// As [`Cached::load`]; `to` must point to room for `2 / VALUES` vectors.
    unsafe fn pack_key<C: Cached>(
        self,
        row: *const u8,
        at: usize,
        cols: usize,
        factor: f32,
        to: *mut f32,
    );

    /// Writes two vectors of the values of each of two rows, of which those in the same lane are multiplied with
    /// neighbours, as `2 / VALUES` rows of units, `stride` apart; zeros beyond `cols`.
    ///
    /// # Safety
    /// As [`Cached::load`]; `to` must point to room for two vectors, and for two more `stride` further.
    unsafe fn pack_values<C: Cached>(
        self,
        rows: [*const u8; 2],
        at: usize,
        cols: usize,
        factors: [f32; 2],
        to: (*mut f32, usize),
    );
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
    /// Two whole numbers, on AVX-512.
    Whole,
}

impl UnitKind {
    /// The units for a cache of these types of keys and values, in heads of so many values.
    pub(super) fn of(cpu: &Cpu, types: [DType; 2], head_dim: usize) -> Self {
        let is_exact = cpu.activations == Activations::Exact || types.contains(&DType::F32);
        if !is_exact && cpu.isa() == Isa::Avx512 && head_dim <= super::scales::MOST_VALUES {
            Self::Whole
        } else {
            Self::Single
        }
    }

    /// Values per unit.
    pub(super) fn values(self) -> usize {
        match self {
            Self::Single => 1,
            Self::Whole => 2,
        }
    }

    /// The most queries for which packing keys and values does not pay.
    pub(super) fn few(self) -> usize {
        match self {
            Self::Single => few::MOST,
            Self::Whole => few::MOST_WHOLE,
        }
    }

    pub(super) fn run(self, cpu: &Cpu, kernel: impl UnitKernel) {
        match self {
            // SAFETY: `of` has found AVX-512, which the backend checked.
            #[cfg(target_arch = "x86_64")]
            Self::Whole => unsafe { whole::run(kernel) },
            _ => cpu.dispatch.run(OnSingles(kernel)),
        }
    }
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
    const WHOLE: bool = false;

    #[inline(always)]
    fn simd(self) -> S {
        self.0
    }

    #[inline(always)]
    fn multiply_add(self, sum: S::F, a: S::F, b: S::F) -> S::F {
        self.0.mul_add(a, b, sum)
    }

    #[inline(always)]
    fn numbers(self, sums: S::F) -> S::F {
        sums
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
    unsafe fn pack_query(self, row: *const f32, cols: usize, padded: usize, to: *mut f32) -> f32 {
        for at in (0..padded).step_by(2 * S::LANES) {
            // SAFETY: as the caller promises.
            unsafe { self.pack_key::<F32>(row.cast(), at, cols, 1.0, to.add(at)) };
        }
        1.0
    }

    #[inline(always)]
    unsafe fn scales_of_keys<C: Cached>(self, _rows: &[*const u8], _cols: usize) -> RowScales {
        RowScales::NONE
    }

    #[inline(always)]
    unsafe fn scales_of_values<C: Cached>(self, _rows: &[*const u8], _cols: usize) -> RowScales {
        RowScales::NONE
    }

    #[inline(always)]
    unsafe fn pack_key<C: Cached>(
        self,
        row: *const u8,
        at: usize,
        cols: usize,
        _factor: f32,
        to: *mut f32,
    ) {
        // SAFETY: as the caller promises.
        unsafe {
            let first = C::load(self.0, row, at, cols);
            self.store_values(to, first, C::load(self.0, row, at + S::LANES, cols));
        }
    }

    #[inline(always)]
    unsafe fn pack_values<C: Cached>(
        self,
        rows: [*const u8; 2],
        at: usize,
        cols: usize,
        _factors: [f32; 2],
        (to, stride): (*mut f32, usize),
    ) {
        // SAFETY: as the caller promises.
        unsafe {
            self.pack_key::<C>(rows[0], at, cols, 1.0, to);
            self.pack_key::<C>(rows[1], at, cols, 1.0, to.add(stride));
        }
    }
}
