//! The causal convolution and the gated delta rule, as section 6 writes them.

use super::{DeltaForm, check_batch, check_shape, dot, shape_error, sigmoid, silu};
use crate::batch::{Batch, StateId};
use crate::memory::{HostMemory, MemoryLayout};
use crate::ops::{DeltaShape, OpError};
use crate::tensor::Tensor;

/// Added to the sum of squares of q and k before the root.
const L2_EPS: f32 = 1e-6;

pub(super) fn causal_conv(
    memory: &mut HostMemory,
    layer: usize,
    batch: &Batch,
    shape: &DeltaShape,
    weight: &[f32],
    input: &Tensor,
) -> Result<Tensor, OpError> {
    let (channels, taps) = (shape.channels(), shape.conv_taps);
    check_batch(batch, memory.layout())?;
    check_shape("causal_conv", "an input", input, batch.rows(), channels)?;
    if weight.len() != channels * taps {
        return shape_error(
            "causal_conv",
            format!("[{channels}, {taps}] taps"),
            weight.len().to_string(),
        );
    }
    let slots = memory.conv_slots(layer);
    slots.check(batch)?;
    let mut out = Tensor::zeros(batch.rows(), channels);
    for span in &batch.spans {
        let (state, held) = slots.slot(span.state);
        replay_inputs(state, &held[..span.replay * channels]);
        // The window over time: taps - 1 rows of state, then the new rows.
        let mut window = state.to_vec();
        for row in span.rows.clone() {
            window.extend_from_slice(input.row(row));
        }
        for (index, row) in span.rows.clone().enumerate() {
            for channel in 0..channels {
                let sum = (0..taps)
                    .map(|tap| {
                        weight[channel * taps + tap] * window[(index + tap) * channels + channel]
                    })
                    .sum();
                out.row_mut(row)[channel] = silu(sum);
            }
        }
        if span.hold {
            let inputs = &window[state.len()..];
            held[..inputs.len()].copy_from_slice(inputs);
        } else {
            state.copy_from_slice(&window[span.rows.len() * channels..]);
        }
    }
    slots.finish(batch);
    Ok(out)
}

/// Moves a convolution state on by some rows of inputs.
fn replay_inputs(state: &mut [f32], inputs: &[f32]) {
    let window = [&*state, inputs].concat();
    state.copy_from_slice(&window[inputs.len()..]);
}

/// Applies a state's first held rows and forgets the others.
pub(super) fn settle(memory: &mut HostMemory, state: StateId, rows: usize) -> Result<(), OpError> {
    // As a span that brings nothing of its own.
    let mut batch = Batch::default();
    batch.push_speculative(&[], 0, Vec::new(), state, rows, false);
    check_batch(&batch, memory.layout())?;
    let layout = memory.layout().clone();
    for layer in 0..layout.delta_layers {
        let slots = memory.conv_slots(layer);
        slots.check(&batch)?;
        let (values, held) = slots.slot(state);
        replay_inputs(values, &held[..rows * layout.delta.channels()]);
        slots.finish(&batch);

        let slots = memory.delta_slots(layer);
        slots.check(&batch)?;
        let (values, held) = slots.slot(state);
        for head in 0..layout.delta.value_heads {
            replay_steps(&layout, head, rows, values, held);
        }
        slots.finish(&batch);
    }
    Ok(())
}

/// Applies a head's first `rows` held rows; returns the head's state and held rows.
fn replay_steps<'a>(
    layout: &MemoryLayout,
    head: usize,
    rows: usize,
    states: &'a mut [f32],
    held: &'a mut [f32],
) -> (&'a mut [f32], &'a mut [f32]) {
    let DeltaShape {
        key_dim, value_dim, ..
    } = layout.delta;
    let head_len = key_dim * value_dim;
    let state = &mut states[head * head_len..][..head_len];
    let held_len = layout.held_rows * layout.held_step_len();
    let held = &mut held[head * held_len..][..held_len];
    let steps: Vec<DeltaStep> = held
        .chunks(layout.held_step_len())
        .take(rows)
        .map(|step| DeltaStep::from_held(step, key_dim))
        .collect();
    recurrent_delta_rule(state, &steps);
    (state, held)
}

/// One token of one value head, ready for the delta rule.
#[derive(Debug, Clone, PartialEq)]
pub struct DeltaStep {
    /// `[key_dim]`, L2-normalised and scaled by `key_dim^-1/2`.
    pub q: Vec<f32>,
    /// `[key_dim]`, L2-normalised.
    pub k: Vec<f32>,
    /// `[value_dim]`
    pub v: Vec<f32>,
    /// The log of the decay, at most 0.
    pub g: f32,
    /// The write strength, between 0 and 1.
    pub beta: f32,
}

impl DeltaStep {
    /// Writes what of it changes the state, as a held row.
    fn hold(&self, held: &mut [f32]) {
        let (k, rest) = held.split_at_mut(self.k.len());
        let (v, factors) = rest.split_at_mut(self.v.len());
        k.copy_from_slice(&self.k);
        v.copy_from_slice(&self.v);
        factors.copy_from_slice(&[self.g, self.beta]);
    }

    /// Reads a held row; what it would output is not known any more.
    fn from_held(held: &[f32], key_dim: usize) -> Self {
        let (k, rest) = held.split_at(key_dim);
        let (v, factors) = rest.split_at(rest.len() - 2);
        Self {
            q: vec![0.0; key_dim],
            k: k.to_vec(),
            v: v.to_vec(),
            g: factors[0],
            beta: factors[1],
        }
    }
}

#[expect(
    clippy::too_many_arguments,
    reason = "one fused operation of the contract"
)]
pub(super) fn delta_rule(
    form: DeltaForm,
    memory: &mut HostMemory,
    layer: usize,
    batch: &Batch,
    shape: &DeltaShape,
    qkv: &Tensor,
    (a, b): (&Tensor, &Tensor),
    (decay, dt_bias): (&[f32], &[f32]),
) -> Result<Tensor, OpError> {
    let DeltaShape {
        value_heads,
        value_dim,
        ..
    } = *shape;
    check_batch(batch, memory.layout())?;
    check_shape(
        "delta_rule",
        "q, k and v",
        qkv,
        batch.rows(),
        shape.channels(),
    )?;
    check_shape("delta_rule", "a", a, batch.rows(), value_heads)?;
    check_shape("delta_rule", "b", b, batch.rows(), value_heads)?;
    if decay.len() != value_heads || dt_bias.len() != value_heads {
        return shape_error(
            "delta_rule",
            format!("{value_heads} decays"),
            decay.len().to_string(),
        );
    }
    let layout = memory.layout().clone();
    let slots = memory.delta_slots(layer);
    slots.check(batch)?;
    let mut out = Tensor::zeros(batch.rows(), value_heads * value_dim);
    for span in &batch.spans {
        for head in 0..value_heads {
            let step = |row: usize| {
                prepare(
                    shape,
                    head,
                    qkv.row(row),
                    a.row(row)[head],
                    b.row(row)[head],
                    decay[head],
                    dt_bias[head],
                )
            };
            let steps: Vec<DeltaStep> = span.rows.clone().map(step).collect();
            let (states, held) = slots.slot(span.state);
            let (state, held) = replay_steps(&layout, head, span.replay, states, held);
            let outputs = if span.hold {
                for (step, held) in steps.iter().zip(held.chunks_mut(layout.held_step_len())) {
                    step.hold(held);
                }
                recurrent_delta_rule(&mut state.to_vec(), &steps)
            } else {
                match form {
                    DeltaForm::Chunked(len) if steps.len() > 1 => steps
                        .chunks(len.max(1))
                        .flat_map(|chunk| chunked_delta_rule(state, chunk))
                        .collect(),
                    _ => recurrent_delta_rule(state, &steps),
                }
            };
            for (row, output) in span.rows.clone().zip(outputs) {
                out.row_mut(row)[head * value_dim..][..value_dim].copy_from_slice(&output);
            }
        }
    }
    slots.finish(batch);
    Ok(out)
}

/// Splits, normalises and scales one token's q, k, v for one value head; decay and beta from a, b.
fn prepare(
    shape: &DeltaShape,
    head: usize,
    qkv: &[f32],
    a: f32,
    b: f32,
    decay: f32,
    dt_bias: f32,
) -> DeltaStep {
    let DeltaShape {
        key_heads,
        key_dim,
        value_dim,
        ..
    } = *shape;
    let key_head = shape.key_head(head);
    let normalised = |x: &[f32], scale: f32| -> Vec<f32> {
        let factor = scale / (dot(x, x) + L2_EPS).sqrt();
        x.iter().map(|value| value * factor).collect()
    };
    let (queries, rest) = qkv.split_at(key_heads * key_dim);
    let (keys, values) = rest.split_at(key_heads * key_dim);
    DeltaStep {
        q: normalised(
            &queries[key_head * key_dim..][..key_dim],
            1.0 / (key_dim as f32).sqrt(),
        ),
        k: normalised(&keys[key_head * key_dim..][..key_dim], 1.0),
        v: values[head * value_dim..][..value_dim].to_vec(),
        g: decay * softplus(a + dt_bias),
        beta: sigmoid(b),
    }
}

/// `ln(1 + e^x)`, without overflow.
pub fn softplus(x: f32) -> f32 {
    if x > 20.0 { x } else { x.exp().ln_1p() }
}

/// The rule token by token. `state` is `[key_dim, value_dim]`; returns the outputs `[value_dim]`.
pub fn recurrent_delta_rule(state: &mut [f32], steps: &[DeltaStep]) -> Vec<Vec<f32>> {
    let mut outputs = Vec::with_capacity(steps.len());
    for DeltaStep { q, k, v, g, beta } in steps {
        let width = v.len();
        // S <- alpha S;  r = S^T k
        let alpha = g.exp();
        let mut read = vec![0.0; width];
        for (row, k) in state.chunks_mut(width).zip(k) {
            for (cell, read) in row.iter_mut().zip(&mut read) {
                *cell *= alpha;
                *read += *cell * k;
            }
        }
        // S <- S + k (beta (v - r))^T;  o = S^T q
        let mut output = vec![0.0; width];
        for ((row, k), q) in state.chunks_mut(width).zip(k).zip(q) {
            for (i, cell) in row.iter_mut().enumerate() {
                *cell += k * (beta * (v[i] - read[i]));
                output[i] += *cell * q;
            }
        }
        outputs.push(output);
    }
    outputs
}

/// The rule for one chunk at once (section 6.1): a unit triangular solve for the written values,
/// then the outputs, then the state at the chunk's end. The same function as
/// [`recurrent_delta_rule`] in exact arithmetic.
pub fn chunked_delta_rule(state: &mut [f32], steps: &[DeltaStep]) -> Vec<Vec<f32>> {
    let Some(width) = steps.first().map(|step| step.v.len()) else {
        return Vec::new();
    };
    // G_i = g_1 + ... + g_i
    let mut total = 0.0;
    let cumulative: Vec<f32> = steps
        .iter()
        .map(|step| {
            total += step.g;
            total
        })
        .collect();
    // S^T x
    let read = |state: &[f32], x: &[f32]| {
        let mut out = vec![0.0; width];
        for (row, x) in state.chunks(width).zip(x) {
            for (out, cell) in out.iter_mut().zip(row) {
                *out += cell * x;
            }
        }
        out
    };

    // u_i = beta_i (v_i - e^(G_i) S0^T k_i - sum_(j<i) e^(G_i - G_j) (k_i . k_j) u_j)
    let mut written: Vec<Vec<f32>> = Vec::with_capacity(steps.len());
    for (i, step) in steps.iter().enumerate() {
        let mut u = read(state, &step.k);
        u.iter_mut()
            .zip(&step.v)
            .for_each(|(u, v)| *u = v - cumulative[i].exp() * *u);
        for (j, earlier) in written.iter().enumerate() {
            let weight = (cumulative[i] - cumulative[j]).exp() * dot(&step.k, &steps[j].k);
            u.iter_mut()
                .zip(earlier)
                .for_each(|(u, e)| *u -= weight * e);
        }
        u.iter_mut().for_each(|u| *u *= step.beta);
        written.push(u);
    }

    // o_i = e^(G_i) S0^T q_i + sum_(j<=i) e^(G_i - G_j) (q_i . k_j) u_j
    let mut outputs = Vec::with_capacity(steps.len());
    for (i, step) in steps.iter().enumerate() {
        let mut output = read(state, &step.q);
        output.iter_mut().for_each(|o| *o *= cumulative[i].exp());
        for (j, u) in written.iter().enumerate().take(i + 1) {
            let weight = (cumulative[i] - cumulative[j]).exp() * dot(&step.q, &steps[j].k);
            output.iter_mut().zip(u).for_each(|(o, u)| *o += weight * u);
        }
        outputs.push(output);
    }

    // S_B = e^(G_B) S0 + sum_j e^(G_B - G_j) k_j u_j^T
    state.iter_mut().for_each(|cell| *cell *= total.exp());
    for ((step, u), g) in steps.iter().zip(&written).zip(&cumulative) {
        let weight = (total - g).exp();
        for (row, k) in state.chunks_mut(width).zip(&step.k) {
            row.iter_mut()
                .zip(u)
                .for_each(|(cell, u)| *cell += weight * k * u);
        }
    }
    outputs
}
