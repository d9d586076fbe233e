//! Weights as they lie in their file.

use formats::{DType, SharedBytes, StoredTensor};

use crate::ops::OpError;
use crate::quant;

/// Scales of an FP8 checkpoint: one factor per `block[0]` x `block[1]` values of a matrix.
#[derive(Debug, Clone)]
pub struct BlockScales {
    /// Rows and columns that share a factor (128, 128 in published files).
    pub block: [usize; 2],
    /// `[ceil(rows / block[0]), ceil(cols / block[1])]`, row-major, multiplied to the values.
    pub factors: std::sync::Arc<[f32]>,
}

/// A matrix `[rows, cols]` in its file's encoding: `y = W x` maps `cols` inputs to `rows` outputs.
#[derive(Debug, Clone)]
pub struct StoredMatrix {
    /// For messages.
    pub name: String,
    dtype: DType,
    rows: usize,
    cols: usize,
    row_bytes: usize,
    bytes: SharedBytes,
    scales: Option<BlockScales>,
}

impl StoredMatrix {
    /// Reads a tensor as a matrix: its last dimension is the columns, the others together the rows.
    ///
    /// # Errors
    /// If the type cannot be decoded or the bytes do not fit the shape.
    pub fn new(stored: StoredTensor) -> Result<Self, OpError> {
        let StoredTensor {
            name,
            dtype,
            shape,
            bytes,
        } = stored;
        let cols = shape.last().copied().unwrap_or(1);
        let rows = shape[..shape.len().saturating_sub(1)].iter().product();
        Self::from_parts(name, dtype, rows, cols, bytes)
    }

    /// A matrix from its parts.
    ///
    /// # Errors
    /// As [`StoredMatrix::new`].
    pub fn from_parts(
        name: String,
        dtype: DType,
        rows: usize,
        cols: usize,
        bytes: SharedBytes,
    ) -> Result<Self, OpError> {
        if !quant::can_decode(dtype) {
            return Err(OpError::Undecodable { name, dtype });
        }
        let row_bytes = match dtype.row_bytes(cols) {
            Some(n) if n.checked_mul(rows) == Some(bytes.len()) => n,
            _ => {
                let found = bytes.len();
                return Err(OpError::WrongBytes {
                    name,
                    dtype,
                    rows,
                    cols,
                    found,
                });
            }
        };
        Ok(Self {
            name,
            dtype,
            rows,
            cols,
            row_bytes,
            bytes,
            scales: None,
        })
    }

    /// The same matrix with FP8 block scales.
    ///
    /// # Errors
    /// If the number of factors does not fit the shape.
    pub fn with_scales(mut self, scales: BlockScales) -> Result<Self, OpError> {
        let [block_rows, block_cols] = scales.block;
        let expected =
            self.rows.div_ceil(block_rows.max(1)) * self.cols.div_ceil(block_cols.max(1));
        if block_rows == 0 || block_cols == 0 || scales.factors.len() != expected {
            return Err(OpError::Shape {
                op: "block scales",
                expected: format!("{expected} factors for {}", self.name),
                found: format!("{} factors", scales.factors.len()),
            });
        }
        self.scales = Some(scales);
        Ok(self)
    }

    /// Asks the system to begin reading this matrix if it is not in memory, without waiting.
    pub fn will_need(&self) {
        self.bytes.will_need();
    }

    /// How the values are stored.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Outputs of `y = W x`.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Inputs of `y = W x`.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The bytes of one row.
    pub fn row_bytes(&self) -> usize {
        self.row_bytes
    }

    /// All rows' bytes, one after the other.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The same, to be kept.
    pub fn shared_bytes(&self) -> &SharedBytes {
        &self.bytes
    }

    /// The scales of an FP8 matrix.
    pub fn scales(&self) -> Option<&BlockScales> {
        self.scales.as_ref()
    }

    /// Some consecutive rows as a matrix of their own, sharing the bytes.
    ///
    /// # Panics
    /// If the rows are out of range, or the matrix has block scales that the cut would split.
    pub fn slice_rows(&self, rows: std::ops::Range<usize>) -> Self {
        let bytes = self
            .bytes
            .slice(rows.start * self.row_bytes..rows.end * self.row_bytes)
            .expect("callers cut within the matrix");
        let scales = self.scales.as_ref().map(|scales| {
            let [block_rows, block_cols] = scales.block;
            assert_eq!(rows.start % block_rows, 0, "a cut between scale blocks");
            let per_row = self.cols.div_ceil(block_cols);
            let first = rows.start / block_rows * per_row;
            let last = rows.end.div_ceil(block_rows) * per_row;
            BlockScales {
                block: scales.block,
                factors: scales.factors[first..last].into(),
            }
        });
        Self {
            name: self.name.clone(),
            rows: rows.len(),
            bytes,
            scales,
            ..*self
        }
    }

    /// The rows at `order`, copied into a new matrix.
    ///
    /// # Panics
    /// If a row is out of range.
    pub fn gather_rows(&self, order: &[usize]) -> Self {
        let mut bytes = Vec::with_capacity(order.len() * self.row_bytes);
        for &row in order {
            bytes.extend_from_slice(&self.bytes[row * self.row_bytes..][..self.row_bytes]);
        }
        assert!(
            self.scales.is_none(),
            "no published FP8 layout needs its rows reordered"
        );
        Self {
            name: self.name.clone(),
            rows: order.len(),
            bytes: SharedBytes::from_vec(bytes),
            scales: None,
            ..*self
        }
    }

    /// Decodes one row to f32.
    ///
    /// # Panics
    /// If `row` is out of range or `out` does not hold `cols` values.
    pub fn decode_row(&self, row: usize, out: &mut [f32]) {
        assert_eq!(out.len(), self.cols, "a row of {}", self.name);
        let bytes = &self.bytes[row * self.row_bytes..][..self.row_bytes];
        quant::decode(self.dtype, bytes, out).expect("type and sizes were checked in from_parts");
        if let Some(BlockScales { block, factors }) = &self.scales {
            let per_row = self.cols.div_ceil(block[1]);
            let factors = &factors[row / block[0] * per_row..][..per_row];
            for (values, factor) in out.chunks_mut(block[1]).zip(factors) {
                values.iter_mut().for_each(|value| *value *= factor);
            }
        }
    }

    /// All values, decoded.
    pub fn decode(&self) -> Vec<f32> {
        let mut values = vec![0.0; self.rows * self.cols];
        for (row, out) in values.chunks_mut(self.cols.max(1)).enumerate() {
            self.decode_row(row, out);
        }
        values
    }
}
