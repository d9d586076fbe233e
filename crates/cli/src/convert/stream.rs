//! Writes a tensor of the checkpoint in its new type.

use std::io::Write;

use formats::DType;
use tensor::quant::{self, QuantError};

use super::source::{Rows, Source};
use crate::export::{Report, Stopped, write_rows};

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
    write_rows(rows.len(), row_bytes, out, report, |index, out| {
        rows.encode(index, dtype, out)
    })
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

    fn encode(&self, index: usize, dtype: DType, out: &mut [u8]) -> Result<(), QuantError> {
        // Matrices of one tensor are all of one size (experts, or b and a).
        let height = self.matrices[0].rows();
        let row = self.rows.as_ref().map_or(index, |rows| rows[index]);
        let (matrix, row) = (self.matrices[row / height], row % height);
        if matrix.dtype() == dtype && matrix.scales().is_none() && self.columns.is_none() {
            out.copy_from_slice(&matrix.bytes()[row * matrix.row_bytes()..][..out.len()]);
            return Ok(());
        }
        let mut values = vec![0.0; matrix.cols()];
        matrix.decode_row(row, &mut values);
        if let Some(columns) = &self.columns {
            values = columns.iter().map(|&column| values[column]).collect();
        }
        check_range(dtype, &values)?;
        quant::encode(dtype, &values, out)
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
