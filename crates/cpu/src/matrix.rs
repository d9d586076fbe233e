//! Weights as they lie in the file, with the kernel that reads them.

use std::borrow::Cow;
use std::ops::Range;

use formats::DType;
use tensor::{StoredMatrix, Tensor};

use crate::activations::{ActivationBlock, Quantised};
use crate::cpu::Activations;
use crate::dots::blocks::{BlockStripe, Format, MAX_INPUTS, Q4K, Q5K, Q6K, Q8_0};
use crate::dots::float::{FloatKind, FloatRows};
use crate::isa::Isa;
use crate::scratch::with_scratch;
use crate::simd::Dispatch;

/// Rows that the generic kernel decodes before it multiplies them.
const DECODED_ROWS: usize = 8;

/// A weight matrix: the file's bytes, and how to multiply with them.
#[derive(Debug, Clone)]
pub struct Matrix {
    stored: StoredMatrix,
    kernel: MatrixKernel,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MatrixKernel {
    Float(FloatKind),
    Q8_0,
    Q4K,
    Q5K,
    Q6K,
    /// Any type: rows are decoded to f32 a few at a time.
    Decoded,
}

/// The input rows of a product, in the forms that its weights need.
pub(crate) struct Inputs<'a> {
    pub(crate) exact: &'a Tensor,
    /// Made if some weight [`Matrix::wants_quantised`].
    pub(crate) quantised: Option<Cow<'a, Quantised>>,
}

/// Where the outputs for one input row go, and how far apart those of two rows are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Destination {
    pub(crate) first: *mut f32,
    pub(crate) stride: usize,
}

impl Matrix {
    pub(crate) fn new(stored: StoredMatrix, activations: Activations) -> Self {
        let kernel = match (stored.dtype(), activations) {
            // Block scales are for the decoder to apply.
            _ if stored.scales().is_some() => MatrixKernel::Decoded,
            (DType::F32, _) => MatrixKernel::Float(FloatKind::F32),
            (DType::F16, _) => MatrixKernel::Float(FloatKind::F16),
            (DType::BF16, _) => MatrixKernel::Float(FloatKind::Bf16),
            (DType::Q8_0, Activations::Quantised) => MatrixKernel::Q8_0,
            (DType::Q4_K, Activations::Quantised) => MatrixKernel::Q4K,
            (DType::Q5_K, Activations::Quantised) => MatrixKernel::Q5K,
            (DType::Q6_K, Activations::Quantised) => MatrixKernel::Q6K,
            _ => MatrixKernel::Decoded,
        };
        Self { stored, kernel }
    }

    /// The weight as it was loaded.
    pub fn stored(&self) -> &StoredMatrix {
        &self.stored
    }

    /// Outputs of `y = W x`.
    pub fn rows(&self) -> usize {
        self.stored.rows()
    }

    /// Inputs of `y = W x`.
    pub fn cols(&self) -> usize {
        self.stored.cols()
    }

    /// Whether its kernel multiplies with 8-bit activations.
    pub(crate) fn wants_quantised(&self) -> bool {
        !matches!(self.kernel, MatrixKernel::Float(_) | MatrixKernel::Decoded)
    }

    /// Computes the outputs `outputs` for the input rows `rows`: output r of the i-th of them goes
    /// to `to.first + i * to.stride + r - outputs.start`.
    ///
    /// # Panics
    /// If a row or an output is out of range, or the inputs lack the form this matrix wants.
    ///
    /// # Safety
    /// These places must exist, and nobody else may use them meanwhile.
    pub(crate) unsafe fn dots(
        &self,
        dispatch: Dispatch,
        inputs: &Inputs<'_>,
        rows: &[u32],
        outputs: Range<usize>,
        to: Destination,
    ) {
        assert_eq!(inputs.exact.cols(), self.cols(), "{}", self.stored.name);
        assert!(outputs.start <= outputs.end && outputs.end <= self.rows());
        if outputs.is_empty() {
            return;
        }
        let row_bytes = self.stored.row_bytes();
        let bytes = &self.stored.bytes()[outputs.start * row_bytes..outputs.end * row_bytes];
        let stripe = Stripe {
            weights: bytes.as_ptr(),
            row_bytes,
            rows: outputs.len(),
            to,
        };
        let floats = |kind| FloatRows {
            kind,
            first: bytes.as_ptr(),
            row_bytes,
            rows: outputs.len(),
            cols: self.cols(),
        };
        let input = |i: usize| inputs.exact.row(rows[i] as usize).as_ptr();
        let output = |i| to.row(i);
        // SAFETY: the bytes are those rows; the destination is the caller's promise.
        unsafe {
            match self.kernel {
                MatrixKernel::Float(kind) => {
                    floats(kind).dots(dispatch, rows.len(), input, output);
                }
                MatrixKernel::Q8_0 => stripe.dots(dispatch, Q8_0, inputs.quantised(), rows),
                MatrixKernel::Q4K => stripe.dots(dispatch, Q4K, inputs.quantised(), rows),
                MatrixKernel::Q5K => stripe.dots(dispatch, Q5K, inputs.quantised(), rows),
                MatrixKernel::Q6K => stripe.dots(dispatch, Q6K, inputs.quantised(), rows),
                MatrixKernel::Decoded => {
                    self.decoded_dots(dispatch, inputs.exact, rows, outputs, to)
                }
            }
        }
    }

    /// The generic kernel.
    ///
    /// # Safety
    /// As [`Matrix::dots`].
    unsafe fn decoded_dots(
        &self,
        dispatch: Dispatch,
        inputs: &Tensor,
        rows: &[u32],
        outputs: Range<usize>,
        to: Destination,
    ) {
        let cols = self.cols();
        with_scratch(DECODED_ROWS * cols, |decoded| {
            for start in outputs.clone().step_by(DECODED_ROWS) {
                let count = (outputs.end - start).min(DECODED_ROWS);
                for (index, values) in decoded.chunks_mut(cols.max(1)).take(count).enumerate() {
                    self.stored.decode_row(start + index, values);
                }
                let input = |i: usize| inputs.row(rows[i] as usize).as_ptr();
                let output = |i| to.row(i).wrapping_add(start - outputs.start);
                let floats = FloatRows {
                    rows: count,
                    ..FloatRows::decoded(decoded, cols)
                };
                // SAFETY: as many rows were decoded; the destination is the caller's promise.
                unsafe { floats.dots(dispatch, rows.len(), input, output) };
            }
        });
    }
}

impl Destination {
    /// Where the outputs for the i-th input row go.
    fn row(self, i: usize) -> *mut f32 {
        self.first.wrapping_add(i * self.stride)
    }
}

impl Inputs<'_> {
    fn quantised(&self) -> &Quantised {
        self.quantised
            .as_ref()
            .expect("operations quantise inputs for weights that want it")
    }
}

/// Some consecutive rows of a quantised matrix, and the place of their products.
struct Stripe {
    weights: *const u8,
    row_bytes: usize,
    rows: usize,
    to: Destination,
}

impl Stripe {
    /// # Safety
    /// The weights must be `rows` rows of the format, `inputs` as long as they are, and the
    /// destination free.
    unsafe fn dots<F: Format>(&self, dispatch: Dispatch, f: F, inputs: &Quantised, rows: &[u32]) {
        let input = |row: u32| inputs.row(row as usize).as_ptr();
        // AVX2 has half the registers.
        let at_once = match dispatch.isa() {
            Isa::Avx512 => MAX_INPUTS,
            Isa::Avx2 | Isa::Scalar => 4,
        };
        for (index, group) in rows.chunks(at_once).enumerate() {
            let first = index * at_once;
            match *group {
                [a] => self.group(dispatch, f, [a].map(input), first),
                [a, b] => self.group(dispatch, f, [a, b].map(input), first),
                [a, b, c] => self.group(dispatch, f, [a, b, c].map(input), first),
                [a, b, c, d] => self.group(dispatch, f, [a, b, c, d].map(input), first),
                [a, b, c, d, e] => self.group(dispatch, f, [a, b, c, d, e].map(input), first),
                [a, b, c, d, e, g] => {
                    self.group(dispatch, f, [a, b, c, d, e, g].map(input), first);
                }
                [a, b, c, d, e, g, h] => {
                    self.group(dispatch, f, [a, b, c, d, e, g, h].map(input), first);
                }
                [a, b, c, d, e, g, h, i] => {
                    self.group(dispatch, f, [a, b, c, d, e, g, h, i].map(input), first);
                }
                _ => unreachable!("groups have at most eight rows"),
            }
        }
    }

    /// The products of inputs that are `first` and so on among the destination's rows.
    fn group<F: Format, const T: usize>(
        &self,
        dispatch: Dispatch,
        format: F,
        inputs: [*const ActivationBlock; T],
        first: usize,
    ) {
        dispatch.run(BlockStripe {
            format,
            weights: self.weights,
            row_bytes: self.row_bytes,
            rows: self.rows,
            inputs,
            outputs: std::array::from_fn(|t| self.to.row(first + t)),
        });
    }
}
