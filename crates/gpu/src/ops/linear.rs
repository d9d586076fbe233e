//! Products with weights, and norms: what surrounds them.

use tensor::reference::shape_error;
use tensor::{MlpWeights, OpError};

use super::check_tensor;
use crate::args;
use crate::gpu::{GROUP, Gpu, code_addresses};
use crate::matrix::{Matrix, Vector};
use crate::tensor_on_device::Activations;

/// Weights of a launch.
const MOST_PARTS: usize = 4;
/// The most inputs that are multiplied one by one.
const MOST_DOTS: usize = 8;
const LINEAR_THREADS: usize = 128;
pub(super) const NORM_THREADS: usize = 256;

/// A kernel for products, with the weight rows and inputs of a block.
struct Kernel {
    name: &'static str,
    weight_rows: usize,
    inputs: usize,
}

impl Kernel {
    const fn dots(name: &'static str, inputs: usize) -> Self {
        Self {
            name,
            weight_rows: 16,
            inputs,
        }
    }
}

const TILES: Kernel = Kernel {
    name: "matmul_64",
    weight_rows: 64,
    inputs: 64,
};

impl Gpu {
    /// `[x W0^T, x W1^T, ...]`, a launch for every four weights.
    pub(crate) fn products(
        &self,
        x: &Activations,
        weights: &[&Matrix],
    ) -> Result<Vec<Activations>, OpError> {
        for weight in weights {
            if weight.cols() != x.cols {
                let found = format!("[{}, {}]", x.rows, x.cols);
                return shape_error("linear", format!("inputs of {}", weight.cols()), found);
            }
        }
        let needs_codes = weights.iter().any(|weight| weight.layout.is_quantised());
        let mut made = None;
        let inputs = self.inputs(x, needs_codes, &mut made)?;
        let outputs = weights
            .iter()
            .map(|weight| self.tensor(x.rows, weight.rows()));
        let outputs = outputs.collect::<Result<Vec<_>, _>>()?;
        let kernel = match x.rows {
            0 | 1 => Kernel::dots("linear_1", 1),
            2 => Kernel::dots("linear_2", 2),
            3 | 4 => Kernel::dots("linear_4", 4),
            5..=MOST_DOTS => Kernel::dots("linear_8", MOST_DOTS),
            _ => TILES,
        };
        let parts: Vec<_> = weights.iter().copied().zip(&outputs).collect();
        for parts in parts.chunks(MOST_PARTS) {
            self.launch_products(&kernel, x.rows, inputs, parts)?;
        }
        Ok(outputs)
    }

    /// Products of up to four weights.
    fn launch_products(
        &self,
        kernel: &Kernel,
        rows: usize,
        inputs: args::Inputs,
        parts: &[(&Matrix, &Activations)],
    ) -> Result<(), OpError> {
        let mut args = args::Linear {
            inputs,
            rows: rows as i32,
            parts: parts.len() as i32,
            ..args::Linear::default()
        };
        let mut blocks = 0;
        for (index, (weight, out)) in parts.iter().enumerate() {
            args.part[index] = args::LinearPart {
                weight: weight.args(),
                out: out.values.address(),
            };
            blocks += weight.rows().div_ceil(kernel.weight_rows);
            args.first_block[index + 1] = blocks as i32;
        }
        let grid = [blocks, rows.div_ceil(kernel.inputs), 1];
        // SAFETY: inputs have the weights' columns, and each output was made for its weight.
        unsafe { self.launch(kernel.name, grid, LINEAR_THREADS, &args) }
    }

    pub(super) fn add_and_norm(
        &self,
        x: &mut Activations,
        addend: Option<&Activations>,
        weight: &Vector,
        eps: f32,
    ) -> Result<Activations, OpError> {
        check_tensor("add_norm", "a residual", x, x.rows, weight.len)?;
        if let Some(addend) = addend {
            check_tensor("add_norm", "an addend", addend, x.rows, x.cols)?;
            x.codes = None;
        }
        let mut out = self.tensor(x.rows, x.cols)?;
        out.codes = self.codes(x.rows, x.cols)?;
        let (codes, scales) = code_addresses(out.codes.as_ref());
        let args = args::AddNorm {
            x: x.values.address(),
            addend: addend.map_or(0, |addend| addend.values.address()),
            weight: weight.memory.address(),
            out: out.values.address(),
            codes,
            scales,
            cols: x.cols as i32,
            eps,
        };
        // SAFETY: all tensors have this shape, and the codes were made for it.
        unsafe { self.launch("add_norm", [x.rows, 1, 1], NORM_THREADS, &args)? };
        Ok(out)
    }

    pub(super) fn norm_and_gate(
        &self,
        x: &Activations,
        gate: &Activations,
        weight: &Vector,
        eps: f32,
    ) -> Result<Activations, OpError> {
        check_tensor("gated_norm", "a gate", gate, x.rows, x.cols)?;
        let dim = weight.len;
        if dim == 0 || !x.cols.is_multiple_of(dim) {
            return shape_error("gated_norm", "whole heads", format!("{} columns", x.cols));
        }
        let heads = x.rows * (x.cols / dim);
        let mut out = self.tensor(x.rows, x.cols)?;
        if dim.is_multiple_of(GROUP) {
            out.codes = self.codes(x.rows, x.cols)?;
        }
        let (codes, scales) = code_addresses(out.codes.as_ref());
        let args = args::GatedNorm {
            x: x.values.address(),
            gate: gate.values.address(),
            weight: weight.memory.address(),
            out: out.values.address(),
            codes,
            scales,
            heads: heads as i32,
            dim: dim as i32,
            eps,
        };
        // SAFETY: all tensors have this shape, and the codes were made for it.
        unsafe { self.launch("gated_norm", [heads.div_ceil(8), 1, 1], NORM_THREADS, &args)? };
        Ok(out)
    }

    /// A dense gated MLP: the experts' kernel with the one expert that all share, then a product.
    pub(super) fn dense(
        &self,
        x: &Activations,
        weights: MlpWeights<&Matrix>,
    ) -> Result<Activations, OpError> {
        let inner = self.shared_inner(x, weights)?;
        let mut outputs = self.products(&inner, &[weights.down])?;
        Ok(outputs.remove(0))
    }
}
