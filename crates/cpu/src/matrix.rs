//! Weights as they lie in the file or a copy of it, with the kernel that reads them.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use formats::DType;
use tensor::{StoredMatrix, Tensor};

use crate::activations::Quantised;
use crate::copies::Copied;
use crate::cpu::{Activations, Cpu};
use crate::dots::float::{FloatKind, FloatRows};
use crate::dots::formats as blocks;
use crate::dots::interleave::Interleaving;
use crate::dots::product::Stripe;
use crate::scratch::with_scratch;
use crate::simd::Dispatch;

/// Rows that the generic kernel decodes before it multiplies them.
const DECODED_ROWS: usize = 8;

/// A weight matrix: the file's bytes, and how to multiply with them.
#[derive(Debug, Clone)]
pub struct Matrix {
    stored: StoredMatrix,
    kernel: MatrixKernel,
    /// What will be read instead of the stored bytes, if copies are made.
    copy: Option<Arc<Copied>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MatrixKernel {
    Float(FloatKind),
    Integer(IntegerKind),
    /// Any type: rows are decoded to f32 a few at a time.
    Decoded,
}

/// Makes [`IntegerKind`] of a table from storage types to formats.
macro_rules! integer_kinds {
    ($($dtype:ident => $format:ident,)*) => {
        /// The types that have an integer kernel.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        enum IntegerKind {
            $($format,)*
        }

        impl IntegerKind {
            fn of(dtype: DType) -> Option<Self> {
                match dtype {
                    $(DType::$dtype => Some(Self::$format),)*
                    _ => None,
                }
            }

            /// # Safety
            /// As [`Stripe::dots`], for this type.
            unsafe fn dots(self, stripe: &Stripe<'_>, dispatch: Dispatch) {
                match self {
                    // SAFETY: as the caller promises.
                    $(Self::$format => unsafe { stripe.dots::<blocks::$format>(dispatch) },)*
                }
            }

            fn interleaving(self, dispatch: Dispatch, row_bytes: usize) -> Option<Interleaving> {
                match self {
                    $(Self::$format => {
                        Interleaving::of::<blocks::$format>(dispatch, row_bytes)
                    })*
                }
            }
        }
    };
}

integer_kinds! {
    Q8_0 => Q8_0,
    Q4_0 => Q4_0,
    Q4_1 => Q4_1,
    Q5_0 => Q5_0,
    Q5_1 => Q5_1,
    Q2_K => Q2K,
    Q3_K => Q3K,
    Q4_K => Q4K,
    Q5_K => Q5K,
    Q6_K => Q6K,
    IQ4_NL => Iq4Nl,
    IQ4_XS => Iq4Xs,
    IQ3_S => Iq3S,
    IQ3_XXS => Iq3Xxs,
    IQ2_S => Iq2S,
    IQ2_XS => Iq2Xs,
    IQ2_XXS => Iq2Xxs,
    MXFP4 => Mxfp4,
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
    pub(crate) fn new(cpu: &Cpu, stored: StoredMatrix) -> Self {
        let integer = IntegerKind::of(stored.dtype());
        let kernel = match (stored.dtype(), integer, cpu.activations) {
            // Block scales are for the decoder to apply.
            _ if stored.scales().is_some() => MatrixKernel::Decoded,
            (DType::F32, ..) => MatrixKernel::Float(FloatKind::F32),
            (DType::F16, ..) => MatrixKernel::Float(FloatKind::F16),
            (DType::BF16, ..) => MatrixKernel::Float(FloatKind::Bf16),
            (_, Some(kind), Activations::Quantised) => MatrixKernel::Integer(kind),
            _ => MatrixKernel::Decoded,
        };
        let interleaving = match kernel {
            MatrixKernel::Integer(kind) => kind.interleaving(cpu.dispatch, stored.row_bytes()),
            _ => None,
        };
        let copy = match (&cpu.copies, kernel) {
            (None, _) | (_, MatrixKernel::Decoded) => None,
            (Some(copies), _) => Some(copies.of(&stored, interleaving)),
        };
        Self {
            stored,
            kernel,
            copy,
        }
    }

    /// Its bytes, and how many rows from the first one on lie in interleaved panels.
    fn bytes(&self) -> (&[u8], usize) {
        let stored = || (self.stored.bytes(), 0);
        self.copy.as_ref().map_or_else(stored, |copy| {
            copy.get().unwrap_or_else(|| {
                copy.ask();
                stored()
            })
        })
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
        matches!(self.kernel, MatrixKernel::Integer(_))
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
        let (bytes, interleaved) = match self.bytes() {
            // Stripes begin with panels.
            (_, 1..) if !outputs.start.is_multiple_of(dispatch.lanes()) => (self.stored.bytes(), 0),
            bytes => bytes,
        };
        let bytes = &bytes[outputs.start * row_bytes..];
        let interleaved = interleaved.saturating_sub(outputs.start);
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
                MatrixKernel::Integer(kind) => {
                    let stripe = Stripe {
                        weights: bytes.as_ptr(),
                        row_bytes,
                        rows: outputs.len(),
                        interleaved,
                        inputs: inputs.quantised(),
                        tokens: rows,
                        to,
                    };
                    kind.dots(&stripe, dispatch);
                }
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

#[cfg(test)]
impl Matrix {
    /// If there is a copy, how many rows lie in interleaved panels.
    pub(crate) fn copied_for_tests(&self) -> Option<usize> {
        Some(self.copy.as_ref()?.get()?.1)
    }

    pub(crate) fn outputs_for_tests(&self, cpu: &Cpu, x: &Tensor, outputs: Range<usize>) -> Tensor {
        let mut out = Tensor::zeros(x.rows(), outputs.len());
        let inputs = crate::ops::inputs_for_tests(cpu, x, self);
        let rows: Vec<u32> = (0..x.rows() as u32).collect();
        let to = Destination {
            first: out.data_mut().as_mut_ptr(),
            stride: outputs.len(),
        };
        // SAFETY: there is a place for each input's outputs.
        unsafe { self.dots(cpu.dispatch, &inputs, &rows, outputs, to) };
        out
    }
}

impl Destination {
    /// Where the outputs for the i-th input row go.
    pub(crate) fn row(self, i: usize) -> *mut f32 {
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
