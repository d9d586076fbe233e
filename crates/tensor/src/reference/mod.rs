//! The op contract in plain f32 loops: slow, obvious, and the judge of every fast kernel.
//!
//! Everything is written as the specification writes it, one row after the other, weights decoded
//! row by row. Sums run in index order. Nothing here is tuned, on purpose.

mod attention;
mod delta;
mod moe;
mod slots;

pub use attention::rotate;
pub use delta::{DeltaStep, chunked_delta_rule, recurrent_delta_rule, softplus};
pub use moe::choose;
pub use slots::{ReferenceRoom, ReferenceSlots};

use crate::batch::{Batch, PageId, StateId};
use crate::handover::Host;
use crate::likely::{Likely, MostLikely};
use crate::matrix::StoredMatrix;
use crate::memory::{HostMemory, MemoryLayout, StateSnapshot};
use crate::ops::{
    AttentionShape, DeltaShape, MlpWeights, MoeWeights, OpError, Ops, Rotary, StoredExperts,
};
use crate::tensor::Tensor;

/// The scalar backend.
#[derive(Debug, Clone, Default)]
pub struct Reference {
    /// How runs of several tokens go through the delta rule.
    pub delta: DeltaForm,
}

/// The two equal forms of the delta rule (section 6 and 6.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeltaForm {
    /// Token by token.
    #[default]
    Recurrent,
    /// In chunks of this many tokens, as a triangular solve.
    Chunked(usize),
}

/// The experts each row uses: `[rows][top_k]` of (expert, weight), most likely first.
#[derive(Debug, Clone, PartialEq)]
pub struct HostRouting {
    /// Per row and choice the expert and its weight.
    pub choices: Vec<Vec<(usize, f32)>>,
}

/// `x . y`
pub(crate) fn dot(x: &[f32], y: &[f32]) -> f32 {
    x.iter().zip(y).map(|(a, b)| a * b).sum()
}

/// `1 / (1 + e^-x)`
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// `x * sigmoid(x)`
pub fn silu(x: f32) -> f32 {
    x * sigmoid(x)
}

/// RMS norm of one row in place: `x * rsqrt(mean(x^2) + eps) * weight`.
pub fn rms_norm(x: &mut [f32], weight: &[f32], eps: f32) {
    let mean_square = dot(x, x) / x.len() as f32;
    let factor = 1.0 / (mean_square + eps).sqrt();
    for (value, weight) in x.iter_mut().zip(weight) {
        *value = *value * factor * weight;
    }
}

/// An error about operands that do not fit.
pub fn shape_error<T>(
    op: &'static str,
    expected: impl Into<String>,
    found: impl Into<String>,
) -> Result<T, OpError> {
    Err(OpError::Shape {
        op,
        expected: expected.into(),
        found: found.into(),
    })
}

/// Checks that `x` has `cols` columns and a row per token.
pub fn check_shape(
    op: &'static str,
    what: &str,
    x: &Tensor,
    rows: usize,
    cols: usize,
) -> Result<(), OpError> {
    if (x.rows(), x.cols()) == (rows, cols) {
        return Ok(());
    }
    let found = format!("[{}, {}]", x.rows(), x.cols());
    shape_error(op, format!("{what} of [{rows}, {cols}]"), found)
}

/// A tensor of values that came from outside.
pub fn upload(rows: usize, cols: usize, values: Vec<f32>) -> Result<Tensor, OpError> {
    if Some(values.len()) != rows.checked_mul(cols) {
        let found = format!("{} values", values.len());
        return shape_error("upload", format!("[{rows}, {cols}]"), found);
    }
    Ok(Tensor::from_vec(rows, cols, values))
}

/// Checks a batch against the memory it runs in: every row belongs to one span, and every span
/// has the pages, the state and the room for held rows that it needs.
pub fn check_batch(batch: &Batch, layout: &MemoryLayout) -> Result<(), OpError> {
    let memory = |message: String| Err(OpError::Memory(message));
    if batch.positions.len() != batch.rows() {
        return memory(format!(
            "{} positions for {} rows",
            batch.positions.len(),
            batch.rows()
        ));
    }
    let mut next = 0;
    for span in &batch.spans {
        if span.rows.start != next || span.rows.end < next {
            return memory(format!(
                "rows {:?} of a span do not follow row {next}",
                span.rows
            ));
        }
        next = span.rows.end;
        let needed = (span.past + span.rows.len()).div_ceil(layout.page_tokens);
        if span.pages.len() < needed {
            return memory(format!(
                "a span has {} pages and needs {needed}",
                span.pages.len()
            ));
        }
        if let Some(page) = span
            .pages
            .iter()
            .find(|page| page.0 as usize >= layout.pages)
        {
            return memory(format!("page {} of {}", page.0, layout.pages));
        }
        if span.state.0 as usize >= layout.states {
            return memory(format!("state {} of {}", span.state.0, layout.states));
        }
        if span.hold && span.rows.len() > layout.held_rows {
            return memory(format!(
                "a span is to hold back {} rows, and the memory was made for {}",
                span.rows.len(),
                layout.held_rows
            ));
        }
    }
    if next != batch.rows() {
        return memory(format!("spans cover {next} of {} rows", batch.rows()));
    }
    Ok(())
}

/// `x W^T` for one weight.
fn matmul(x: &Tensor, weight: &StoredMatrix) -> Result<Tensor, OpError> {
    check_shape(
        "linear",
        &format!("an input for {}", weight.name),
        x,
        x.rows(),
        weight.cols(),
    )?;
    let mut out = Tensor::zeros(x.rows(), weight.rows());
    let mut decoded = vec![0.0; weight.cols()];
    for output in 0..weight.rows() {
        weight.decode_row(output, &mut decoded);
        for row in 0..x.rows() {
            out.row_mut(row)[output] = dot(x.row(row), &decoded);
        }
    }
    Ok(out)
}

impl Ops for Reference {
    type Tensor = Tensor;
    type Matrix = StoredMatrix;
    type Vector = Vec<f32>;
    type Experts = StoredExperts;
    type Routing = HostRouting;
    type Memory = HostMemory;

    fn load_matrix(&self, stored: StoredMatrix) -> Result<StoredMatrix, OpError> {
        Ok(stored)
    }

    fn load_vector(&self, values: Vec<f32>) -> Result<Vec<f32>, OpError> {
        Ok(values)
    }

    fn load_experts(&self, stored: StoredExperts) -> Result<StoredExperts, OpError> {
        Ok(stored)
    }

    fn embed(&self, table: &StoredMatrix, tokens: &[u32]) -> Result<Tensor, OpError> {
        let mut out = Tensor::zeros(tokens.len(), table.cols());
        for (row, &token) in tokens.iter().enumerate() {
            if token as usize >= table.rows() {
                return Err(OpError::TokenOutOfRange {
                    token,
                    vocabulary: table.rows(),
                });
            }
            table.decode_row(token as usize, out.row_mut(row));
        }
        Ok(out)
    }

    fn add_norm(
        &self,
        x: &mut Tensor,
        addend: Option<&Tensor>,
        weight: &Vec<f32>,
        eps: f32,
    ) -> Result<Tensor, OpError> {
        check_shape("add_norm", "a residual", x, x.rows(), weight.len())?;
        if let Some(addend) = addend {
            check_shape("add_norm", "an addend", addend, x.rows(), x.cols())?;
            for (value, add) in x.data_mut().iter_mut().zip(addend.data()) {
                *value += add;
            }
        }
        let mut out = x.clone();
        for row in 0..out.rows() {
            rms_norm(out.row_mut(row), weight, eps);
        }
        Ok(out)
    }

    fn linear<const N: usize>(
        &self,
        x: &Tensor,
        weights: [&StoredMatrix; N],
    ) -> Result<[Tensor; N], OpError> {
        let outputs = weights.iter().map(|weight| matmul(x, weight));
        let outputs = outputs.collect::<Result<Vec<_>, _>>()?;
        Ok(outputs.try_into().expect("one output per weight"))
    }

    fn select_rows(&self, x: &Tensor, rows: &[usize]) -> Result<Tensor, OpError> {
        let mut out = Tensor::zeros(rows.len(), x.cols());
        for (to, &from) in rows.iter().enumerate() {
            if from >= x.rows() {
                return shape_error(
                    "select_rows",
                    format!("a row below {}", x.rows()),
                    format!("row {from}"),
                );
            }
            out.row_mut(to).copy_from_slice(x.row(from));
        }
        Ok(out)
    }

    fn concat(&self, left: &Tensor, right: &Tensor) -> Result<Tensor, OpError> {
        check_shape("concat", "a right half", right, left.rows(), right.cols())?;
        let mut out = Tensor::zeros(left.rows(), left.cols() + right.cols());
        for row in 0..left.rows() {
            let (l, r) = out.row_mut(row).split_at_mut(left.cols());
            l.copy_from_slice(left.row(row));
            r.copy_from_slice(right.row(row));
        }
        Ok(out)
    }

    fn attention_inputs(
        &self,
        memory: &mut HostMemory,
        layer: usize,
        batch: &Batch,
        shape: &AttentionShape,
        rotary: &Rotary,
        norms: (&Vec<f32>, &Vec<f32>, f32),
        query_gate: Tensor,
        key: Tensor,
        value: Tensor,
    ) -> Result<(Tensor, Tensor), OpError> {
        attention::inputs(
            memory,
            layer,
            batch,
            shape,
            rotary,
            norms,
            &query_gate,
            key,
            &value,
        )
    }

    fn attention(
        &self,
        memory: &HostMemory,
        layer: usize,
        batch: &Batch,
        shape: &AttentionShape,
        query: Tensor,
        gate: Tensor,
    ) -> Result<Tensor, OpError> {
        attention::attend(memory, layer, batch, shape, &query, &gate)
    }

    fn causal_conv(
        &self,
        memory: &mut HostMemory,
        layer: usize,
        batch: &Batch,
        shape: &DeltaShape,
        weight: &Vec<f32>,
        input: Tensor,
    ) -> Result<Tensor, OpError> {
        delta::causal_conv(memory, layer, batch, shape, weight, &input)
    }

    fn delta_rule(
        &self,
        memory: &mut HostMemory,
        layer: usize,
        batch: &Batch,
        shape: &DeltaShape,
        qkv: Tensor,
        a: &Tensor,
        b: &Tensor,
        decay: &Vec<f32>,
        dt_bias: &Vec<f32>,
    ) -> Result<Tensor, OpError> {
        delta::delta_rule(
            self.delta,
            memory,
            layer,
            batch,
            shape,
            &qkv,
            (a, b),
            (decay, dt_bias),
        )
    }

    fn gated_norm(
        &self,
        mut x: Tensor,
        gate: &Tensor,
        weight: &Vec<f32>,
        eps: f32,
    ) -> Result<Tensor, OpError> {
        check_shape("gated_norm", "a gate", gate, x.rows(), x.cols())?;
        if !x.cols().is_multiple_of(weight.len().max(1)) {
            return shape_error("gated_norm", "whole heads", format!("{} columns", x.cols()));
        }
        for head in x.data_mut().chunks_mut(weight.len().max(1)) {
            rms_norm(head, weight, eps);
        }
        for (value, gate) in x.data_mut().iter_mut().zip(gate.data()) {
            *value *= silu(*gate);
        }
        Ok(x)
    }

    fn route<E>(
        &self,
        x: &Tensor,
        weights: &MoeWeights<&StoredMatrix, E>,
    ) -> Result<HostRouting, OpError> {
        let logits = matmul(x, weights.router)?;
        let choices = (0..x.rows())
            .map(|row| moe::choose(logits.row(row), weights.top_k, weights.renormalise))
            .collect();
        Ok(HostRouting { choices })
    }

    fn experts(
        &self,
        x: &Tensor,
        routing: &HostRouting,
        weights: &MoeWeights<&StoredMatrix, &StoredExperts>,
    ) -> Result<Tensor, OpError> {
        moe::experts(x, routing, weights.experts, weights.shared)
    }

    fn mlp(&self, x: &Tensor, weights: MlpWeights<&StoredMatrix>) -> Result<Tensor, OpError> {
        moe::mlp(x, weights)
    }

    fn read(&self, x: Tensor) -> Result<Tensor, OpError> {
        Ok(x)
    }

    fn most_likely(
        &self,
        logits: &Tensor,
        wanted: MostLikely,
    ) -> Result<Option<Vec<Vec<Likely>>>, OpError> {
        Ok(Some(wanted.of_rows(logits)))
    }

    fn upload(&self, rows: usize, cols: usize, values: Vec<f32>) -> Result<Tensor, OpError> {
        upload(rows, cols, values)
    }

    fn rows(&self, x: &Tensor) -> usize {
        x.rows()
    }

    fn new_memory(&self, layout: &MemoryLayout) -> Result<HostMemory, OpError> {
        HostMemory::new(layout)
    }

    fn settle(&self, memory: &mut HostMemory, state: StateId, rows: usize) -> Result<(), OpError> {
        delta::settle(memory, state, rows)
    }

    fn clear_state(&self, memory: &mut HostMemory, state: StateId) -> Result<(), OpError> {
        memory.clear_state(state);
        Ok(())
    }

    fn copy_state(
        &self,
        memory: &mut HostMemory,
        from: StateId,
        to: StateId,
    ) -> Result<(), OpError> {
        memory.copy_state(from, to)
    }

    fn copy_page(&self, memory: &mut HostMemory, from: PageId, to: PageId) -> Result<(), OpError> {
        memory.copy_page(from, to);
        Ok(())
    }

    fn read_page(&self, memory: &HostMemory, page: PageId) -> Result<Vec<u8>, OpError> {
        Ok(memory.read_page(page))
    }

    fn write_page(
        &self,
        memory: &mut HostMemory,
        page: PageId,
        bytes: &[u8],
    ) -> Result<(), OpError> {
        memory.write_page(page, bytes)
    }

    fn snapshot(&self, memory: &HostMemory, state: StateId) -> Result<StateSnapshot, OpError> {
        memory.snapshot(state)
    }

    fn restore(
        &self,
        memory: &mut HostMemory,
        state: StateId,
        snapshot: &StateSnapshot,
    ) -> Result<(), OpError> {
        memory.restore(state, snapshot)
    }
}

impl Host for Reference {
    fn take_routing(&self, routing: HostRouting) -> Result<HostRouting, OpError> {
        Ok(routing)
    }

    fn routed_experts(
        &self,
        x: &Tensor,
        routing: &HostRouting,
        experts: &StoredExperts,
    ) -> Result<Tensor, OpError> {
        moe::experts(x, routing, experts, None)
    }
}
