//! The gated delta rule in its recurrent form.
//!
//! The columns of a state are independent of each other, so a task takes one value head of one
//! span and walks it in blocks of columns that stay in the first-level cache. One pass over a
//! block finishes a token and reads the state for the next one, so that a token costs a load, a
//! store and four operations per vector. The order of operations on each value is that of one
//! token after the other, whatever the blocks.
//!
//! Held rows of a span under speculation are applied first, in place; rows that are to be held
//! back work on a copy of the head's state that never leaves the cache.

use tensor::reference::{check_batch, check_shape, shape_error, sigmoid, softplus};
use tensor::{Batch, DeltaShape, HostMemory, OpError, Slots, Span, Tensor};

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
    let held_step_len = memory.layout().held_step_len();
    let slots = memory.delta_slots(layer);
    slots.check(batch)?;
    let mut out = Tensor::zeros(rows, heads * shape.value_dim);
    let outputs = Parts::new(out.data_mut());
    for_each_head(cpu, slots, batch, shape, |span, head, state, held| {
        replay_steps(cpu, shape, &held[..span.replay * held_step_len], state);
        run_head(cpu, shape, inputs, span, head, state, held, &outputs);
    });
    slots.finish(batch);
    Ok(out)
}

/// Replays held steps in every layer, for a batch that brings no rows.
pub(super) fn replay(cpu: &Cpu, memory: &mut HostMemory, batch: &Batch) {
    let shape = memory.layout().delta;
    let held_step_len = memory.layout().held_step_len();
    for layer in 0..memory.layout().delta_layers {
        let slots = memory.delta_slots(layer);
        for_each_head(cpu, slots, batch, &shape, |span, _, state, held| {
            replay_steps(cpu, &shape, &held[..span.replay * held_step_len], state);
        });
        slots.finish(batch);
    }
}

/// Calls `body` for each value head of each span with its state and its held steps.
fn for_each_head(
    cpu: &Cpu,
    slots: &mut Slots,
    batch: &Batch,
    shape: &DeltaShape,
    body: impl Fn(&Span, usize, &mut [f32], &mut [f32]) + Sync,
) {
    let heads = shape.value_heads;
    let head_len = shape.key_dim * shape.value_dim;
    let held_len = slots.held.len() / (slots.counts.len() * heads).max(1);
    let states = Parts::new(&mut slots.states);
    let all_held = Parts::new(&mut slots.held);
    cpu.pool.run(batch.spans.len() * heads, |task| {
        let (span, head) = (&batch.spans[task / heads], task % heads);
        let index = span.state.0 as usize * heads + head;
        // SAFETY: each task has a head of a state of its own: states are distinct.
        let (state, held) = unsafe {
            (
                states.part(index * head_len..(index + 1) * head_len),
                all_held.part(index * held_len..(index + 1) * held_len),
            )
        };
        body(span, head, state, held);
    });
}

/// Applies held steps to one value head's state.
fn replay_steps(cpu: &Cpu, shape: &DeltaShape, held: &[f32], state: &mut [f32]) {
    let DeltaShape {
        key_dim, value_dim, ..
    } = *shape;
    let step_len = key_dim + value_dim + 2;
    let row_len = 2 * key_dim + 2;
    with_scratch(TOKENS * row_len + value_dim, |buffers| {
        let (prepared, outputs) = buffers.split_at_mut(TOKENS * row_len);
        for held in held.chunks(TOKENS * step_len) {
            let steps = held.len() / step_len;
            for (step, prepared) in held.chunks(step_len).zip(prepared.chunks_mut(row_len)) {
                let (q, rest) = prepared.split_at_mut(key_dim);
                // Nobody asks for the outputs.
                q.fill(0.0);
                rest[..key_dim].copy_from_slice(&step[..key_dim]);
                rest[key_dim] = step[step_len - 2].exp();
                rest[key_dim + 1] = step[step_len - 1];
            }
            cpu.dispatch.run(Steps {
                key_dim,
                value_dim,
                prepared: &prepared[..steps * row_len],
                values: held[key_dim..].as_ptr(),
                value_stride: step_len,
                from: state.as_ptr(),
                to: state.as_mut_ptr(),
                outputs: outputs.as_mut_ptr(),
                output_stride: 0,
            });
        }
    });
}

/// One value head of one span; its outputs are the head's columns of the span's rows.
#[expect(clippy::too_many_arguments, reason = "all that there is to one head")]
fn run_head(
    cpu: &Cpu,
    shape: &DeltaShape,
    inputs: &DeltaInputs<'_>,
    span: &Span,
    head: usize,
    state: &mut [f32],
    held: &mut [f32],
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
    let value_cols = shape.value_heads * value_dim;
    let row_len = 2 * key_dim + 2;
    let copy_len = if span.hold { state.len() } else { 0 };
    let mut held = held.chunks_mut(key_dim + value_dim + 2);
    with_scratch(TOKENS * row_len + copy_len, |buffers| {
        let (prepared, copy) = buffers.split_at_mut(TOKENS * row_len);
        let (mut from, to) = if span.hold {
            (state.as_ptr(), copy.as_mut_ptr())
        } else {
            (state.as_ptr(), state.as_mut_ptr())
        };
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
                let log_decay = inputs.decay[head] * rate;
                factors[0] = log_decay.exp();
                factors[1] = sigmoid(inputs.b.row(row)[head]);
                if span.hold
                    && let Some(held) = held.next()
                {
                    let (held_key, rest) = held.split_at_mut(key_dim);
                    held_key.copy_from_slice(k);
                    rest[..value_dim].copy_from_slice(&qkv[value_start..][..value_dim]);
                    rest[value_dim] = log_decay;
                    rest[value_dim + 1] = factors[1];
                }
            }
            cpu.dispatch.run(Steps {
                key_dim,
                value_dim,
                prepared: &prepared[..rows.len() * row_len],
                values: inputs.qkv.data()[rows.start * inputs.qkv.cols() + value_start..].as_ptr(),
                value_stride: inputs.qkv.cols(),
                from,
                to,
                outputs: outputs.at(rows.start * value_cols + head * value_dim),
                output_stride: value_cols,
            });
            from = to.cast_const();
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
    /// The state before, `[key_dim, value_dim]`.
    from: *const f32,
    /// Where it goes; may be the same place.
    to: *mut f32,
    /// o of the first token; the next one's is `output_stride` further.
    outputs: *mut f32,
    output_stride: usize,
}

impl Kernel for Steps<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let mut column = 0;
        // Two vectors hide the latency of the sums, and 128 rows of them leave room in the
        // first-level cache. A single vector may be partial.
        while column + 2 * S::LANES <= self.value_dim {
            self.run_columns::<S, 2>(s, column);
            column += 2 * S::LANES;
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
        let tokens = self.prepared.len() / (2 * self.key_dim + 2);
        let mut read = self.first_read::<S, V>(s, column);
        for token in 0..tokens {
            let (is_first, is_last) = (token == 0, token + 1 == tokens);
            read = match (is_first, is_last) {
                (true, true) => self.run_token::<S, V, true, true>(s, column, token, read),
                (true, false) => self.run_token::<S, V, true, false>(s, column, token, read),
                (false, true) => self.run_token::<S, V, false, true>(s, column, token, read),
                (false, false) => self.run_token::<S, V, false, false>(s, column, token, read),
            };
        }
    }

    /// q, k, alpha and beta of a token.
    fn token(&self, token: usize) -> (*const f32, *const f32, f32, f32) {
        let row_len = 2 * self.key_dim + 2;
        let prepared = &self.prepared[token * row_len..][..row_len];
        let (alpha, beta) = (prepared[row_len - 2], prepared[row_len - 1]);
        (
            prepared.as_ptr(),
            prepared[self.key_dim..].as_ptr(),
            alpha,
            beta,
        )
    }

    /// `(alpha S)^T k` for the first token.
    #[inline(always)]
    fn first_read<S: Simd, const V: usize>(&self, s: S, column: usize) -> [S::F; V] {
        let rest = self.value_dim - column;
        let (_, k, alpha, _) = self.token(0);
        let alpha = s.splat(alpha);
        let mut read = [s.splat(0.0); V];
        for i in 0..self.key_dim {
            for v in 0..V {
                let at = v * S::LANES;
                // SAFETY: row i of the state has `rest` values from `column` on, and k a value.
                unsafe {
                    let place = self.from.add(i * self.value_dim + column + at);
                    let cell = s.mul(load::<S, V>(s, place, rest - at), alpha);
                    read[v] = s.mul_add(cell, s.splat(*k.add(i)), read[v]);
                }
            }
        }
        read
    }

    /// One token, given `(alpha S)^T k`; returns the same for the next one. Between tokens the
    /// state is kept with the next one's alpha applied.
    #[inline(always)]
    fn run_token<S: Simd, const V: usize, const FIRST: bool, const LAST: bool>(
        &self,
        s: S,
        column: usize,
        token: usize,
        read: [S::F; V],
    ) -> [S::F; V] {
        let rest = self.value_dim - column;
        let (q, k, alpha, beta) = self.token(token);
        let (_, next_k, next_alpha, _) = self.token(if LAST { token } else { token + 1 });
        let (alpha, next_alpha) = (s.splat(alpha), s.splat(next_alpha));
        let from = if FIRST {
            self.from
        } else {
            self.to.cast_const()
        };
        let mut write = [s.splat(0.0); V];
        for v in 0..V {
            let at = v * S::LANES;
            // SAFETY: in this function every access is to `rest` values or fewer that follow
            // `column` in a row of the state, of v or of o, or to one of `key_dim` values of q or k.
            let value = unsafe {
                let from = self.values.add(token * self.value_stride + column + at);
                load::<S, V>(s, from, rest - at)
            };
            write[v] = s.mul(s.splat(beta), s.sub(value, read[v]));
        }
        let mut output = [s.splat(0.0); V];
        let mut next_read = [s.splat(0.0); V];
        for i in 0..self.key_dim {
            // SAFETY: as above.
            let (query, key, next_key) = unsafe {
                (
                    s.splat(*q.add(i)),
                    s.splat(*k.add(i)),
                    s.splat(*next_k.add(i)),
                )
            };
            for v in 0..V {
                let at = v * S::LANES;
                let offset = i * self.value_dim + column + at;
                // SAFETY: as above.
                unsafe {
                    let mut cell = load::<S, V>(s, from.add(offset), rest - at);
                    if FIRST {
                        cell = s.mul(cell, alpha);
                    }
                    cell = s.mul_add(key, write[v], cell);
                    output[v] = s.mul_add(cell, query, output[v]);
                    if !LAST {
                        cell = s.mul(cell, next_alpha);
                        next_read[v] = s.mul_add(cell, next_key, next_read[v]);
                    }
                    store::<S, V>(s, self.to.add(offset), cell, rest - at);
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
        next_read
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
