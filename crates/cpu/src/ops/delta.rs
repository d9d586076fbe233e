//! The gated delta rule in its recurrent form.
//!
//! The columns of a state are independent of each other, so a task takes one value head of one
//! span and walks it in blocks of columns that stay in the first-level cache: per token a block is
//! read once for `S^T k` and once more for the update, of which only the first comes from memory.

use tensor::reference::{check_batch, check_shape, shape_error, sigmoid, softplus};
use tensor::{Batch, DeltaShape, HostMemory, OpError, Span, Tensor};

use super::check_distinct_states;
use crate::cpu::Cpu;
use crate::parts::Parts;
use crate::scratch::with_scratch;
use crate::simd::{Kernel, Simd, sum_of_squares};

/// Added to the sum of squares of q and k before the root.
const L2_EPS: f32 = 1e-6;

/// Tokens whose q and k are prepared at once.
const TOKENS: usize = 32;

/// The operands of the rule, as in [`tensor::Ops::delta_rule`].
pub(super) struct DeltaInputs<'a> {
    pub(super) qkv: &'a Tensor,
    pub(super) a: &'a Tensor,
    pub(super) b: &'a Tensor,
    pub(super) decay: &'a [f32],
    pub(super) dt_bias: &'a [f32],
}

pub(super) fn delta_rule(
    cpu: &Cpu,
    memory: &mut HostMemory,
    layer: usize,
    batch: &Batch,
    shape: &DeltaShape,
    inputs: &DeltaInputs<'_>,
) -> Result<Tensor, OpError> {
    const OP: &str = "delta_rule";
    let (heads, rows) = (shape.value_heads, batch.rows());
    check_batch(batch, memory.layout())?;
    check_distinct_states(batch)?;
    super::check_delta_layer(OP, memory, layer, shape)?;
    check_shape(OP, "q, k and v", inputs.qkv, rows, shape.channels())?;
    check_shape(OP, "a", inputs.a, rows, heads)?;
    check_shape(OP, "b", inputs.b, rows, heads)?;
    if inputs.decay.len() != heads || inputs.dt_bias.len() != heads {
        let found = inputs.decay.len().to_string();
        return shape_error(OP, format!("{heads} decays"), found);
    }
    let mut out = Tensor::zeros(rows, heads * shape.value_dim);
    let head_len = shape.key_dim * shape.value_dim;
    let states = Parts::new(memory.delta_states(layer));
    let outputs = Parts::new(out.data_mut());
    cpu.pool.run(batch.spans.len() * heads, |task| {
        let (span, head) = (&batch.spans[task / heads], task % heads);
        let start = (span.state.0 as usize * heads + head) * head_len;
        // SAFETY: each task has a head of a state of its own: states are distinct.
        let state = unsafe { states.part(start..start + head_len) };
        run_head(cpu, shape, inputs, span, head, state, &outputs);
    });
    Ok(out)
}

/// One value head of one span; its outputs are the head's columns of the span's rows.
fn run_head(
    cpu: &Cpu,
    shape: &DeltaShape,
    inputs: &DeltaInputs<'_>,
    span: &Span,
    head: usize,
    state: &mut [f32],
    outputs: &Parts<'_, f32>,
) {
    let DeltaShape {
        key_heads,
        key_dim,
        value_dim,
        ..
    } = *shape;
    let key_start = shape.key_head(head) * key_dim;
    let keys = key_heads * key_dim;
    let value_start = 2 * keys + head * value_dim;
    let row_len = 2 * key_dim + 2;
    with_scratch(TOKENS * row_len, |prepared| {
        for first in span.rows.clone().step_by(TOKENS) {
            let rows = first..span.rows.end.min(first + TOKENS);
            for (row, prepared) in rows.clone().zip(prepared.chunks_mut(row_len)) {
                let qkv = inputs.qkv.row(row);
                let (q, rest) = prepared.split_at_mut(key_dim);
                let (k, factors) = rest.split_at_mut(key_dim);
                cpu.dispatch.run(Normalise {
                    x: &qkv[key_start..][..key_dim],
                    scale: 1.0 / (key_dim as f32).sqrt(),
                    out: q,
                });
                cpu.dispatch.run(Normalise {
                    x: &qkv[keys + key_start..][..key_dim],
                    scale: 1.0,
                    out: k,
                });
                let rate = softplus(inputs.a.row(row)[head] + inputs.dt_bias[head]);
                factors[0] = (inputs.decay[head] * rate).exp();
                factors[1] = sigmoid(inputs.b.row(row)[head]);
            }
            let value_cols = shape.value_heads * value_dim;
            cpu.dispatch.run(Steps {
                key_dim,
                value_dim,
                prepared: &prepared[..rows.len() * row_len],
                values: inputs.qkv.data()[rows.start * inputs.qkv.cols() + value_start..].as_ptr(),
                value_stride: inputs.qkv.cols(),
                state: state.as_mut_ptr(),
                outputs: outputs.at(rows.start * value_cols + head * value_dim),
                output_stride: value_cols,
            });
        }
    });
}

/// `out = x * scale / sqrt(sum(x^2) + eps)`
struct Normalise<'a> {
    x: &'a [f32],
    scale: f32,
    out: &'a mut [f32],
}

impl Kernel for Normalise<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let factor = self.scale / (sum_of_squares(s, self.x) + L2_EPS).sqrt();
        for (out, x) in self.out.iter_mut().zip(self.x) {
            *out = x * factor;
        }
    }
}

/// Some tokens of one head:
///
/// ```text
/// S <- alpha S;  d = beta (v - S^T k);  S <- S + k d^T;  o = S^T q
/// ```
struct Steps<'a> {
    key_dim: usize,
    value_dim: usize,
    /// Per token q, k (each `[key_dim]`), alpha and beta.
    prepared: &'a [f32],
    /// v of the first token; the next one's is `value_stride` further.
    values: *const f32,
    value_stride: usize,
    /// `[key_dim, value_dim]`
    state: *mut f32,
    /// o of the first token; the next one's is `output_stride` further.
    outputs: *mut f32,
    output_stride: usize,
}

impl Kernel for Steps<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let mut column = 0;
        // Four vectors hide the latency of the sums; a single one may be partial.
        while column + 4 * S::LANES <= self.value_dim {
            self.run_columns::<S, 4>(s, column);
            column += 4 * S::LANES;
        }
        while column < self.value_dim {
            self.run_columns::<S, 1>(s, column);
            column += S::LANES;
        }
    }
}

impl Steps<'_> {
    /// All tokens for `V` vectors of columns from `column` on, the last of which may be partial.
    #[inline(always)]
    fn run_columns<S: Simd, const V: usize>(&self, s: S, column: usize) {
        let rest = self.value_dim - column;
        let row_len = 2 * self.key_dim + 2;
        for (token, prepared) in self.prepared.chunks_exact(row_len).enumerate() {
            let (q, k) = (prepared.as_ptr(), prepared[self.key_dim..].as_ptr());
            let alpha = s.splat(prepared[row_len - 2]);
            let beta = s.splat(prepared[row_len - 1]);
            // SAFETY: in this function every access is to `rest` values or fewer that follow
            // `column` in a row of the state, of v or of o, or to one of `key_dim` values of q or k.
            let state = unsafe { self.state.add(column) };
            let mut read = [s.splat(0.0); V];
            for i in 0..self.key_dim {
                // SAFETY: as above.
                let key = s.splat(unsafe { *k.add(i) });
                for v in 0..V {
                    let at = v * S::LANES;
                    // SAFETY: as above.
                    let cell =
                        unsafe { load::<S, V>(s, state.add(i * self.value_dim + at), rest - at) };
                    read[v] = s.mul_add(s.mul(cell, alpha), key, read[v]);
                }
            }
            let mut write = [s.splat(0.0); V];
            for v in 0..V {
                let at = v * S::LANES;
                // SAFETY: as above.
                let value = unsafe {
                    let from = self.values.add(token * self.value_stride + column + at);
                    load::<S, V>(s, from, rest - at)
                };
                write[v] = s.mul(beta, s.sub(value, read[v]));
            }
            let mut output = [s.splat(0.0); V];
            for i in 0..self.key_dim {
                // SAFETY: as above.
                let (key, query) = unsafe { (s.splat(*k.add(i)), s.splat(*q.add(i))) };
                for v in 0..V {
                    let at = v * S::LANES;
                    // SAFETY: as above.
                    unsafe {
                        let place = state.add(i * self.value_dim + at);
                        let cell = s.mul(load::<S, V>(s, place, rest - at), alpha);
                        let cell = s.mul_add(key, write[v], cell);
                        store::<S, V>(s, place, cell, rest - at);
                        output[v] = s.mul_add(cell, query, output[v]);
                    }
                }
            }
            for v in 0..V {
                let at = v * S::LANES;
                // SAFETY: as above.
                unsafe {
                    let to = self.outputs.add(token * self.output_stride + column + at);
                    store::<S, V>(s, to, output[v], rest - at);
                }
            }
        }
    }
}

/// A vector, which may be partial only where one column of vectors is worked on.
///
/// # Safety
/// `from` must point to `remaining` values, or to a whole vector if `V` is above 1.
#[inline(always)]
unsafe fn load<S: Simd, const V: usize>(s: S, from: *const f32, remaining: usize) -> S::F {
    // SAFETY: as the caller promises.
    unsafe {
        if V > 1 {
            s.load(from)
        } else {
            s.load_up_to(from, remaining)
        }
    }
}

/// Writes a vector; as [`load`].
///
/// # Safety
/// As [`load`].
#[inline(always)]
unsafe fn store<S: Simd, const V: usize>(s: S, to: *mut f32, vector: S::F, remaining: usize) {
    // SAFETY: as the caller promises.
    unsafe {
        if V > 1 {
            s.store(to, vector);
        } else {
            s.store_up_to(to, vector, remaining);
        }
    }
}
