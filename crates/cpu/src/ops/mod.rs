//! The operations of the contract, a file per family.

pub(crate) mod attention;
mod conv;
mod delta;
mod linear;
mod moe;
mod norm;
mod state;

use tensor::reference::{check_batch, check_shape, shape_error, upload};
use tensor::{
    AttentionShape, Batch, DeltaShape, Host, HostMemory, HostRouting, MemoryLayout, MlpWeights,
    MoeWeights, OpError, Ops, PageId, Rotary, StateId, StateSnapshot, StoredExperts, StoredMatrix,
    Tensor,
};

use crate::cpu::{Cpu, Vector};
use crate::matrix::Matrix;

pub use moe::{Experts, Routing};

#[cfg(test)]
pub(crate) fn inputs_for_tests<'a>(
    cpu: &Cpu,
    x: &'a Tensor,
    weight: &Matrix,
) -> crate::matrix::Inputs<'a> {
    linear::inputs(cpu, x, &[weight])
}

impl Ops for Cpu {
    type Tensor = Tensor;
    type Matrix = Matrix;
    type Vector = Vector;
    type Experts = Experts;
    type Routing = Routing;
    type Memory = HostMemory;

    fn load_matrix(&self, stored: StoredMatrix) -> Result<Matrix, OpError> {
        Ok(Matrix::new(self, stored))
    }

    fn load_vector(&self, values: Vec<f32>) -> Result<Vector, OpError> {
        Ok(Vector::new(values))
    }

    fn load_experts(&self, stored: StoredExperts) -> Result<Experts, OpError> {
        Experts::new(self, stored)
    }

    fn embed(&self, table: &Matrix, tokens: &[u32]) -> Result<Tensor, OpError> {
        let vocabulary = table.rows();
        if let Some(&token) = tokens.iter().find(|token| **token as usize >= vocabulary) {
            return Err(OpError::TokenOutOfRange { token, vocabulary });
        }
        let mut out = Tensor::unspecified(tokens.len(), table.cols());
        let cols = table.cols();
        self.for_rows(out.data_mut(), cols, cols, |row, values| {
            table.stored().decode_row(tokens[row] as usize, values);
        });
        Ok(out)
    }

    fn add_norm(
        &self,
        x: &mut Tensor,
        addend: Option<&Tensor>,
        weight: &Vector,
        eps: f32,
    ) -> Result<Tensor, OpError> {
        norm::add_norm(self, x, addend, &weight.values, eps)
    }

    fn linear<const N: usize>(
        &self,
        x: &Tensor,
        weights: [&Matrix; N],
    ) -> Result<[Tensor; N], OpError> {
        linear::linear(self, x, weights)
    }

    fn select_rows(&self, x: &Tensor, rows: &[usize]) -> Result<Tensor, OpError> {
        if let Some(row) = rows.iter().find(|row| **row >= x.rows()) {
            let expected = format!("a row below {}", x.rows());
            return shape_error("select_rows", expected, format!("row {row}"));
        }
        let mut out = Tensor::unspecified(rows.len(), x.cols());
        for (to, &from) in rows.iter().enumerate() {
            out.row_mut(to).copy_from_slice(x.row(from));
        }
        Ok(out)
    }

    fn concat(&self, left: &Tensor, right: &Tensor) -> Result<Tensor, OpError> {
        check_shape("concat", "a right half", right, left.rows(), right.cols())?;
        let mut out = Tensor::unspecified(left.rows(), left.cols() + right.cols());
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
        norms: (&Vector, &Vector, f32),
        query_gate: Tensor,
        key: Tensor,
        value: Tensor,
    ) -> Result<(Tensor, Tensor), OpError> {
        let place = attention::Place {
            layer,
            batch,
            shape,
        };
        let norms = (&*norms.0.values, &*norms.1.values, norms.2);
        attention::inputs(self, memory, place, rotary, norms, &query_gate, key, &value)
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
        let place = attention::Place {
            layer,
            batch,
            shape,
        };
        attention::attend(self, memory, place, &query, &gate)
    }

    fn causal_conv(
        &self,
        memory: &mut HostMemory,
        layer: usize,
        batch: &Batch,
        shape: &DeltaShape,
        weight: &Vector,
        input: Tensor,
    ) -> Result<Tensor, OpError> {
        conv::causal_conv(self, memory, layer, batch, shape, weight, &input)
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
        decay: &Vector,
        dt_bias: &Vector,
    ) -> Result<Tensor, OpError> {
        let inputs = delta::DeltaInputs {
            qkv: &qkv,
            a,
            b,
            decay: &decay.values,
            dt_bias: &dt_bias.values,
        };
        delta::delta_rule(self, memory, layer, batch, shape, &inputs)
    }

    fn gated_norm(
        &self,
        x: Tensor,
        gate: &Tensor,
        weight: &Vector,
        eps: f32,
    ) -> Result<Tensor, OpError> {
        norm::gated_norm(self, x, gate, &weight.values, eps)
    }

    fn route<E>(&self, x: &Tensor, weights: &MoeWeights<&Matrix, E>) -> Result<Routing, OpError> {
        moe::route(self, x, weights)
    }

    fn experts(
        &self,
        x: &Tensor,
        routing: &Routing,
        weights: &MoeWeights<&Matrix, &Experts>,
    ) -> Result<Tensor, OpError> {
        moe::experts(self, x, routing, weights.experts, weights.shared)
    }

    fn mlp(&self, x: &Tensor, weights: MlpWeights<&Matrix>) -> Result<Tensor, OpError> {
        moe::mlp(self, x, weights)
    }

    fn read(&self, x: Tensor) -> Result<Tensor, OpError> {
        Ok(x)
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
        settle(self, memory, state, rows)
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
        state::snapshot(self, memory, state)
    }

    fn restore(
        &self,
        memory: &mut HostMemory,
        state: StateId,
        snapshot: &StateSnapshot,
    ) -> Result<(), OpError> {
        state::restore(self, memory, state, snapshot)
    }
}

/// Applies a state's first held rows and forgets the others.
fn settle(cpu: &Cpu, memory: &mut HostMemory, state: StateId, rows: usize) -> Result<(), OpError> {
    // As a span that brings nothing of its own.
    let mut batch = Batch::default();
    batch.push_speculative(&[], 0, Vec::new(), state, rows, false);
    check_batch(&batch, memory.layout())?;
    for layer in 0..memory.layout().delta_layers {
        memory.conv_slots(layer).check(&batch)?;
        memory.delta_slots(layer).check(&batch)?;
    }
    conv::replay(cpu, memory, &batch);
    delta::replay(cpu, memory, &batch);
    Ok(())
}

/// An error unless the spans' states are distinct: their updates run at the same time.
fn check_distinct_states(batch: &Batch) -> Result<(), OpError> {
    let mut states: Vec<StateId> = batch.spans.iter().map(|span| span.state).collect();
    states.sort_unstable();
    match states.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(OpError::Memory(format!(
            "state {} belongs to two spans of a batch",
            pair[0].0
        ))),
        None => Ok(()),
    }
}

/// An error unless the memory has this delta layer and was made for this shape.
fn check_delta_layer(
    op: &'static str,
    memory: &HostMemory,
    layer: usize,
    shape: &DeltaShape,
) -> Result<(), OpError> {
    let layout = memory.layout();
    if layer >= layout.delta_layers {
        let expected = format!("a delta layer below {}", layout.delta_layers);
        return shape_error(op, expected, format!("layer {layer}"));
    }
    if *shape != layout.delta {
        let expected = format!("the memory's {:?}", layout.delta);
        return shape_error(op, expected, format!("{shape:?}"));
    }
    if !is_multiple(shape.value_heads, shape.key_heads) || shape.conv_taps == 0 {
        return shape_error(
            op,
            "value heads in multiples of key heads",
            format!("{shape:?}"),
        );
    }
    Ok(())
}

/// Whether `all` is `n * part` for some n; false if `part` is 0.
fn is_multiple(all: usize, part: usize) -> bool {
    part > 0 && all.is_multiple_of(part)
}

impl Host for Cpu {
    fn take_routing(&self, routing: HostRouting) -> Result<Routing, OpError> {
        Ok(Routing::new(routing))
    }

    fn routed_experts(
        &self,
        x: &Tensor,
        routing: &Routing,
        experts: &Experts,
    ) -> Result<Tensor, OpError> {
        moe::experts(self, x, routing, experts, None)
    }
}
