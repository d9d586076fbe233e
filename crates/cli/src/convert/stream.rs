//! Writes a tensor row by row in its new type, in parallel, a few megabytes at a time.

use std::io::Write;

use formats::DType;
use rayon::prelude::*;
use tensor::quant::{self, QuantError};

use super::source::{Rows, Source};
use crate::export::{Report, Stopped};

/// Decoded values in flight: enough for many threads, little beside any model.
const CHUNK_VALUES: usize = 4 << 20;

/// Writes a tensor.
pub(super) fn write(
    source: &Source<'_>,
    dtype: DType,
    out: &mut dyn Write,
    report: &Report,
) -> Result<(), Stopped> {
    let rows = match source {
        Source::Values(values) => {
            let mut bytes = vec![0; values.len() * 4];
            quant::encode(DType::F32, values, &mut bytes)?;
            out.write_all(&bytes)?;
            return Ok(report.wrote(bytes.len())?);
        }
        Source::Rows(rows) => rows,
    };
    let cols = rows.cols();
    let row_bytes = dtype
        .row_bytes(cols)
        .ok_or("the type does not fit the rows")?;
    let total = rows.len();
    let chunk = (CHUNK_VALUES / cols.max(1)).clamp(1, total.max(1));
    let mut bytes = vec![0; chunk * row_bytes];
    for first in (0..total).step_by(chunk) {
        let count = chunk.min(total - first);
        let bytes = &mut bytes[..count * row_bytes];
        bytes
            .par_chunks_mut(row_bytes)
            .enumerate()
            .try_for_each_init(
                || Scratch::new(cols),
                |scratch, (index, out)| rows.encode(first + index, dtype, scratch, out),
            )?;
        out.write_all(bytes)?;
        report.wrote(bytes.len())?;
    }
    Ok(())
}

/// Room for a row before and after its columns are reordered.
struct Scratch {
    stored: Vec<f32>,
    ordered: Vec<f32>,
}

impl Scratch {
    fn new(cols: usize) -> Self {
        Self {
            stored: vec![0.0; cols],
            ordered: vec![0.0; cols],
        }
    }
}

impl Rows<'_> {
    fn cols(&self) -> usize {
        self.matrices.first().map_or(0, |matrix| matrix.cols())
    }

    fn len(&self) -> usize {
        match &self.rows {
            Some(rows) => rows.len(),
            None => self.matrices.iter().map(|matrix| matrix.rows()).sum(),
        }
    }

    fn encode(
        &self,
        index: usize,
        dtype: DType,
        scratch: &mut Scratch,
        out: &mut [u8],
    ) -> Result<(), QuantError> {
        // Matrices of one tensor are all of one size (experts, or b and a).
        let height = self.matrices[0].rows();
        let row = self.rows.as_ref().map_or(index, |rows| rows[index]);
        let (matrix, row) = (self.matrices[row / height], row % height);
        if matrix.dtype() == dtype && matrix.scales().is_none() && self.columns.is_none() {
            out.copy_from_slice(&matrix.bytes()[row * matrix.row_bytes()..][..out.len()]);
            return Ok(());
        }
        matrix.decode_row(row, &mut scratch.stored);
        let values = match &self.columns {
            Some(columns) => {
                for (value, &column) in scratch.ordered.iter_mut().zip(columns) {
                    *value = scratch.stored[column];
                }
                &scratch.ordered
            }
            None => &scratch.stored,
        };
        check_range(dtype, values)?;
        quant::encode(dtype, values, out)
    }
}

/// Half precision ends at 65504: larger weights would silently become infinite.
fn check_range(dtype: DType, values: &[f32]) -> Result<(), QuantError> {
    const LARGEST: f32 = 65504.0;
    if dtype != DType::F16 {
        return Ok(());
    }
    match values.iter().position(|value| value.abs() > LARGEST) {
        None => Ok(()),
        Some(index) => Err(QuantError::TooLarge {
            dtype,
            index,
            value: values[index],
        }),
    }
}
