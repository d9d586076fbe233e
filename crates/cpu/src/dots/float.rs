//! Dot products of float weights with f32 inputs.

use crate::simd::{Dispatch, Kernel, MAX_LANES, Simd};

/// How float weights are stored; each converts to f32 exactly.
pub(crate) trait Stored: Copy {
    /// The bytes of one value.
    const BYTES: usize;

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

    /// The first `rows` of these rows.
    pub(crate) fn take(self, rows: usize) -> Self {
        let rows = rows.min(self.rows);
        Self { rows, ..self }
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

    /// Adds to each value of `output(i)` the sum over rows r, in order, of `weights(i)[r]` times
    /// the row's value, for i below `outputs`.
    ///
    /// # Safety
    /// The rows must exist, weights have `rows` values, and outputs `cols` values that nobody else
    /// uses meanwhile.
    pub(crate) unsafe fn mix(
        &self,
        dispatch: Dispatch,
        outputs: usize,
        weights: impl Fn(usize) -> *const f32,
        output: impl Fn(usize) -> *mut f32,
    ) {
        let mut i = 0;
        while i < outputs {
            match outputs - i {
                1 => self.mix_group::<1>(dispatch, i, &weights, &output),
                2 => self.mix_group::<2>(dispatch, i, &weights, &output),
                3 => self.mix_group::<3>(dispatch, i, &weights, &output),
                _ => self.mix_group::<4>(dispatch, i, &weights, &output),
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

    fn mix_group<const T: usize>(
        &self,
        dispatch: Dispatch,
        first: usize,
        weights: &impl Fn(usize) -> *const f32,
        output: &impl Fn(usize) -> *mut f32,
    ) {
        let weights = std::array::from_fn(|t| weights(first + t));
        let outputs: [*mut f32; T] = std::array::from_fn(|t| output(first + t));
        match self.kind {
            FloatKind::F32 => dispatch.run(FloatMix(F32, self, weights, outputs)),
            FloatKind::F16 => dispatch.run(FloatMix(F16, self, weights, outputs)),
            FloatKind::Bf16 => dispatch.run(FloatMix(Bf16, self, weights, outputs)),
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

/// `outputs[t] += sum over r of weights[t][r] * W[r, :]` for `T` outputs.
struct FloatMix<'a, W, const T: usize>(W, &'a FloatRows, [*const f32; T], [*mut f32; T]);

impl<W: Stored, const T: usize> Kernel for FloatMix<'_, W, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let cols = self.1.cols;
        let mut at = 0;
        if S::LANES == 16 {
            while at + 4 * S::LANES <= cols {
                self.run_columns::<S, 4>(s, at);
                at += 4 * S::LANES;
            }
        }
        while at + 2 * S::LANES <= cols {
            self.run_columns::<S, 2>(s, at);
            at += 2 * S::LANES;
        }
        while at < cols {
            self.run_columns::<S, 1>(s, at);
            at += S::LANES;
        }
    }
}

impl<W: Stored, const T: usize> FloatMix<'_, W, T> {
    /// `V` vectors of columns from `at` on; a single one may be partial.
    #[inline(always)]
    fn run_columns<S: Simd, const V: usize>(&self, s: S, at: usize) {
        let Self(_, matrix, weights, outputs) = self;
        let rest = matrix.cols - at;
        let mut sums = [[s.splat(0.0); V]; T];
        for t in 0..T {
            for v in 0..V {
                let column = v * S::LANES;
                // SAFETY: in this function every access is to `rest` columns or fewer from `at` on.
                sums[t][v] = unsafe { s.load_up_to(outputs[t].add(at + column), rest - column) };
            }
        }
        for row in 0..matrix.rows {
            let mut values = [s.splat(0.0); V];
            for v in 0..V {
                let column = v * S::LANES;
                // SAFETY: as above.
                values[v] = unsafe {
                    let from = matrix
                        .first
                        .add(row * matrix.row_bytes + (at + column) * W::BYTES);
                    if V > 1 || rest >= S::LANES {
                        W::load(s, from)
                    } else {
                        W::load_first(s, from, rest)
                    }
                };
            }
            for t in 0..T {
                // SAFETY: there is a weight for each row.
                let weight = s.splat(unsafe { *weights[t].add(row) });
                for v in 0..V {
                    sums[t][v] = s.mul_add(values[v], weight, sums[t][v]);
                }
            }
        }
        for t in 0..T {
            for v in 0..V {
                let column = v * S::LANES;
                // SAFETY: as above.
                unsafe { s.store_up_to(outputs[t].add(at + column), sums[t][v], rest - column) };
            }
        }
    }
}
