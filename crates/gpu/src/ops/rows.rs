//! Rows looked up, chosen, joined, added, brought to the host.

use tensor::reference::shape_error;
use tensor::{OpError, Tensor};

use super::check_tensor;
use crate::args;
use crate::gpu::Gpu;
use crate::matrix::Matrix;
use crate::tensor_on_device::Activations;

const ROW_THREADS: usize = 256;

impl Gpu {
    pub(super) fn look_up(&self, table: &Matrix, tokens: &[u32]) -> Result<Activations, OpError> {
        let vocabulary = table.rows();
        if let Some(&token) = tokens.iter().find(|token| **token as usize >= vocabulary) {
            return Err(OpError::TokenOutOfRange { token, vocabulary });
        }
        let out = self.tensor(tokens.len(), table.cols())?;
        let numbers = self.upload_numbers(tokens)?;
        let args = args::Embed {
            table: table.args(),
            tokens: numbers.address(),
            out: out.values.address(),
        };
        // SAFETY: the tokens are rows of the table, and there is a row of output for each.
        unsafe { self.launch("embed", [tokens.len(), 1, 1], ROW_THREADS, &args)? };
        Ok(out)
    }

    pub(super) fn select(&self, x: &Activations, rows: &[usize]) -> Result<Activations, OpError> {
        if let Some(row) = rows.iter().find(|row| **row >= x.rows) {
            let expected = format!("a row below {}", x.rows);
            return shape_error("select_rows", expected, format!("row {row}"));
        }
        let out = self.tensor(rows.len(), x.cols)?;
        let numbers: Vec<u32> = rows.iter().map(|row| *row as u32).collect();
        let numbers = self.upload_numbers(&numbers)?;
        let args = args::SelectRows {
            x: x.values.address(),
            rows: numbers.address(),
            out: out.values.address(),
            cols: x.cols as i32,
        };
        // SAFETY: the rows exist, and there is a row of output for each.
        unsafe { self.launch("select_rows", [rows.len(), 1, 1], ROW_THREADS, &args)? };
        Ok(out)
    }

    pub(super) fn join(
        &self,
        left: &Activations,
        right: &Activations,
    ) -> Result<Activations, OpError> {
        check_tensor("concat", "a right half", right, left.rows, right.cols)?;
        let out = self.tensor(left.rows, left.cols + right.cols)?;
        let args = args::Concat {
            left: left.values.address(),
            right: right.values.address(),
            out: out.values.address(),
            left_cols: left.cols as i32,
            right_cols: right.cols as i32,
        };
        // SAFETY: both halves have as many rows as the output, which was made for their columns.
        unsafe { self.launch("concat", [left.rows, 1, 1], ROW_THREADS, &args)? };
        Ok(out)
    }

    pub(super) fn add_in_place(
        &self,
        x: &mut Activations,
        addend: &Activations,
    ) -> Result<(), OpError> {
        check_tensor("add", "an addend", addend, x.rows, x.cols)?;
        x.codes = None;
        let args = args::Add {
            x: x.values.address(),
            addend: addend.values.address(),
            cols: x.cols as i32,
        };
        // SAFETY: both have these rows and columns.
        unsafe { self.launch("add", [x.rows, 1, 1], ROW_THREADS, &args) }
    }

    pub(super) fn to_host(&self, x: &Activations) -> Result<Tensor, OpError> {
        let mut values = vec![0.0f32; x.rows * x.cols];
        self.fetch(&x.values, &mut values)?;
        Ok(Tensor::from_vec(x.rows, x.cols, values))
    }

    pub(super) fn take_from_host(
        &self,
        rows: usize,
        cols: usize,
        values: &[f32],
    ) -> Result<Activations, OpError> {
        if Some(values.len()) != rows.checked_mul(cols) {
            let found = format!("{} values", values.len());
            return shape_error("upload", format!("[{rows}, {cols}]"), found);
        }
        let out = self.tensor(rows, cols)?;
        let bytes: Vec<u8> = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        self.send(&out.values, &bytes)?;
        Ok(out)
    }
}
