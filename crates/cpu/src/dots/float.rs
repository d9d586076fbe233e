//! Dot products of float weights with f32 inputs.

use crate::simd::{Dispatch, Kernel, MAX_LANES, Simd};

/// How float weights are stored; each converts to f32 exactly.
pub(crate) trait Stored: Copy {
    /// The bytes of one value.
    const BYTES: usize;
    /// Whether it is [`F16`].
    const IS_F16: bool = false;

    /// A vector of values.
    ///
    /// # Safety
    /// `from` must point to `S::LANES` values; no alignment is needed.
    unsafe fn load<S: Simd>(s: S, from: *const u8) -> S::F;

    /// `count` values, at most `S::LANES`, then zeros.
    ///
    /// # Safety
    /// `from` must point to `count` values.
    #[inline(always)]
    unsafe fn load_first<S: Simd>(s: S, from: *const u8, count: usize) -> S::F {
        let mut padded = [0u8; 4 * MAX_LANES];
        // SAFETY: `count` values exist and fit; the buffer holds a whole vector.
        unsafe {
            std::ptr::copy_nonoverlapping(from, padded.as_mut_ptr(), count * Self::BYTES);
            Self::load(s, padded.as_ptr())
        }
    }
}

/// IEEE single precision.
#[derive(Debug, Clone, Copy)]
pub(crate) struct F32;
/// IEEE half precision.
#[derive(Debug, Clone, Copy)]
pub(crate) struct F16;
/// The upper half of an f32.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bf16;

impl Stored for F32 {
    const BYTES: usize = 4;

    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, from: *const u8) -> S::F {
        // SAFETY: as the caller promises.
        unsafe { s.load(from.cast()) }
    }
}

impl Stored for F16 {
    const BYTES: usize = 2;
    const IS_F16: bool = true;

    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, from: *const u8) -> S::F {
        // SAFETY: as the caller promises.
        unsafe { s.load_f16(from.cast()) }
    }
}

impl Stored for Bf16 {
    const BYTES: usize = 2;

    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, from: *const u8) -> S::F {
        // SAFETY: as the caller promises.
        unsafe { s.load_bf16(from.cast()) }
    }
}

/// The types that have a [`Stored`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FloatKind {
    /// [`F32`]
    F32,
    /// [`F16`]
    F16,
    /// [`Bf16`]
    Bf16,
}

/// A matrix of floats in memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FloatRows {
    pub(crate) kind: FloatKind,
    /// `rows` rows of `cols` values, `row_bytes` apart; no alignment is needed.
    pub(crate) first: *const u8,
    pub(crate) row_bytes: usize,
    pub(crate) rows: usize,
    pub(crate) cols: usize,
}

impl FloatRows {
    /// Rows of f32, one after the other.
    pub(crate) fn decoded(values: &[f32], cols: usize) -> Self {
        Self {
            kind: FloatKind::F32,
            first: values.as_ptr().cast(),
            row_bytes: cols * size_of::<f32>(),
            rows: values.len() / cols.max(1),
            cols,
        }
    }

    /// `output(i)[r] = dot(row r, input(i))` for i below `inputs`.
    ///
    /// # Safety
    /// The rows must exist, inputs have `cols` values, and outputs room for `rows` values that
    /// nobody else uses meanwhile.
    pub(crate) unsafe fn dots(
        &self,
        dispatch: Dispatch,
        inputs: usize,
        input: impl Fn(usize) -> *const f32,
        output: impl Fn(usize) -> *mut f32,
    ) {
        let mut i = 0;
        while i < inputs {
            match inputs - i {
                1 => self.dot_group::<1>(dispatch, i, &input, &output),
                2 => self.dot_group::<2>(dispatch, i, &input, &output),
                3 => self.dot_group::<3>(dispatch, i, &input, &output),
                _ => self.dot_group::<4>(dispatch, i, &input, &output),
            }
            i += 4;
        }
    }

    fn dot_group<const T: usize>(
        &self,
        dispatch: Dispatch,
        first: usize,
        input: &impl Fn(usize) -> *const f32,
        output: &impl Fn(usize) -> *mut f32,
    ) {
        let inputs = std::array::from_fn(|t| input(first + t));
        let outputs: [*mut f32; T] = std::array::from_fn(|t| output(first + t));
        match self.kind {
            FloatKind::F32 => dispatch.run(FloatDots(F32, self, inputs, outputs)),
            FloatKind::F16 => dispatch.run(FloatDots(F16, self, inputs, outputs)),
            FloatKind::Bf16 => dispatch.run(FloatDots(Bf16, self, inputs, outputs)),
        }
    }
}

/// `outputs[t][r] = dot(W[r, :], inputs[t])` for `T` inputs.
///
/// Per pair: vectors of the row in order, each multiplied and added to one accumulator; the last,
/// if partial, is filled with zeros; then the sum of the lanes.
struct FloatDots<'a, W, const T: usize>(W, &'a FloatRows, [*const f32; T], [*mut f32; T]);

impl<W: Stored, const T: usize> Kernel for FloatDots<'_, W, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        // With one input reading decides, and one stream is read twice as fast as eight. With more
        // inputs, as many accumulators as the registers hold.
        if T == 1 {
            self.run_tiles::<S, 1>(s);
        } else if S::LANES == 16 {
            self.run_tiles::<S, 4>(s);
        } else {
            self.run_tiles::<S, 2>(s);
        }
    }
}

impl<W: Stored, const T: usize> FloatDots<'_, W, T> {
    /// All rows, `R` at a time.
    #[inline(always)]
    fn run_tiles<S: Simd, const R: usize>(&self, s: S) {
        let Self(_, matrix, inputs, outputs) = self;
        let (rows, cols) = (matrix.rows, matrix.cols);
        let mut row = 0;
        while row < rows {
            // Past the end the last row is computed again and dropped.
            let mut weights = [matrix.first; R];
            for (r, weights) in weights.iter_mut().enumerate() {
                // SAFETY: the row exists.
                *weights = unsafe { matrix.first.add((row + r).min(rows - 1) * matrix.row_bytes) };
            }
            let mut sums = [[s.splat(0.0); T]; R];
            let mut at = 0;
            while at + S::LANES <= cols {
                for t in 0..T {
                    // SAFETY: the vector lies within the input and the rows.
                    let x = unsafe { s.load(inputs[t].add(at)) };
                    for r in 0..R {
                        // SAFETY: likewise.
                        let w = unsafe { W::load(s, weights[r].add(at * W::BYTES)) };
                        sums[r][t] = s.mul_add(w, x, sums[r][t]);
                    }
                }
                at += S::LANES;
            }
            if at < cols {
                for t in 0..T {
                    // SAFETY: `cols - at` values remain.
                    let x = unsafe { s.load_first(inputs[t].add(at), cols - at) };
                    for r in 0..R {
                        // SAFETY: likewise.
                        let w =
                            unsafe { W::load_first(s, weights[r].add(at * W::BYTES), cols - at) };
                        sums[r][t] = s.mul_add(w, x, sums[r][t]);
                    }
                }
            }
            for r in 0..R {
                if row + r < rows {
                    for t in 0..T {
                        // SAFETY: outputs have room for all rows.
                        unsafe { *outputs[t].add(row + r) = s.sum(sums[r][t]) };
                    }
                }
            }
            row += R;
        }
    }
}
