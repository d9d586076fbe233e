//! The gated delta rule in its recurrent form.
//!
//! A task takes one value head of one span. It first applies the held rows of a span under
//! speculation, then runs the span's rows, without writing the state back if they are to be held.
//! The kernel is in `steps`; it runs some tokens at once, for which q, k and the factors are
//! prepared here.

mod steps;

use tensor::reference::{check_batch, check_shape, shape_error, sigmoid, softplus};
use tensor::{Batch, DeltaShape, HostMemory, OpError, Slots, Span, Tensor};

use super::check_distinct_states;
use crate::cpu::Cpu;
use crate::parts::Parts;
use crate::scratch::with_scratch;

use self::steps::{Prepare, Steps, scratch_len, token_len};

/// Tokens that are prepared and run at once.
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
    let mut out = Tensor::unspecified(rows, heads * shape.value_dim);
    let outputs = Parts::new(out.data_mut());
    for_each_head(cpu, slots, batch, shape, |span, head, state, held| {
        replay_steps(cpu, shape, &held[..span.replay * held_step_len], state);
        let head = Head {
            shape,
            inputs,
            head,
        };
        head.run(cpu, span, state, held, &outputs);
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
    let token_len = token_len(key_dim, value_dim);
    let scratch_len = scratch_len(key_dim, value_dim);
    with_scratch(scratch_len + TOKENS * (token_len + value_dim), |buffers| {
        let (scratch, buffers) = buffers.split_at_mut(scratch_len);
        let (tokens, outputs) = buffers.split_at_mut(TOKENS * token_len);
        for held in held.chunks(TOKENS * step_len) {
            let steps = held.len() / step_len;
            for (step, token) in held.chunks(step_len).zip(tokens.chunks_mut(token_len)) {
                let (q, rest) = token.split_at_mut(key_dim);
                // Nobody asks for the outputs.
                q.fill(0.0);
                rest.copy_from_slice(step);
                rest[key_dim + value_dim] = step[key_dim + value_dim].exp();
            }
            cpu.dispatch.run(Steps {
                key_dim,
                value_dim,
                tokens: &tokens[..steps * token_len],
                from: state.as_ptr(),
                to: Some(state.as_mut_ptr()),
                outputs,
                scratch,
            });
        }
    });
}

/// One value head of a batch.
struct Head<'a> {
    shape: &'a DeltaShape,
    inputs: &'a DeltaInputs<'a>,
    head: usize,
}

impl Head<'_> {
    /// Runs the head for one span; its outputs are the head's columns of the span's rows.
    fn run(
        &self,
        cpu: &Cpu,
        span: &Span,
        state: &mut [f32],
        held: &mut [f32],
        outputs: &Parts<'_, f32>,
    ) {
        let DeltaShape {
            key_dim, value_dim, ..
        } = *self.shape;
        let output_stride = self.shape.value_heads * value_dim;
        let token_len = token_len(key_dim, value_dim);
        // Held rows work on a copy, which is needed only if they are run in several pieces.
        let copy_len = if span.hold && span.rows.len() > TOKENS {
            state.len()
        } else {
            0
        };
        let mut held = held.chunks_mut(key_dim + value_dim + 2);
        let scratch_len = scratch_len(key_dim, value_dim);
        let results_len = TOKENS * value_dim;
        with_scratch(
            scratch_len + TOKENS * token_len + results_len + copy_len,
            |buffers| {
                let (scratch, buffers) = buffers.split_at_mut(scratch_len);
                let (tokens, buffers) = buffers.split_at_mut(TOKENS * token_len);
                let (results, copy) = buffers.split_at_mut(results_len);
                let (mut from, place) = if span.hold {
                    (state.as_ptr(), copy.as_mut_ptr())
                } else {
                    (state.as_ptr(), state.as_mut_ptr())
                };
                for first in span.rows.clone().step_by(TOKENS) {
                    let rows = first..span.rows.end.min(first + TOKENS);
                    let tokens = &mut tokens[..rows.len() * token_len];
                    self.prepare(cpu, rows.start, tokens);
                    if span.hold {
                        let log_decays = rows.clone().map(|row| self.log_decay(row));
                        let steps = tokens.chunks(token_len).zip(log_decays);
                        for ((token, log_decay), held) in steps.zip(&mut held) {
                            held.copy_from_slice(&token[key_dim..]);
                            held[key_dim + value_dim] = log_decay;
                        }
                    }
                    let is_last = rows.end == span.rows.end;
                    cpu.dispatch.run(Steps {
                        key_dim,
                        value_dim,
                        tokens,
                        from,
                        to: (!span.hold || !is_last).then_some(place),
                        outputs: results,
                        scratch,
                    });
                    // Together, since each row's part comes from far away.
                    for (row, result) in rows.zip(results.chunks(value_dim)) {
                        let start = row * output_stride + self.head * value_dim;
                        // SAFETY: each task has columns of its own in the rows of its span.
                        let output = unsafe { outputs.part(start..start + value_dim) };
                        output.copy_from_slice(result);
                    }
                    from = place.cast_const();
                }
            },
        );
    }

    /// Prepares the tokens of rows from `first` on.
    fn prepare(&self, cpu: &Cpu, first: usize, tokens: &mut [f32]) {
        let DeltaShape {
            key_heads,
            key_dim,
            value_dim,
            ..
        } = *self.shape;
        let keys = key_heads * key_dim;
        let key_start = self.shape.key_head(self.head) * key_dim;
        for (index, token) in tokens.chunks_mut(token_len(key_dim, value_dim)).enumerate() {
            let row = first + index;
            let factors = &mut token[2 * key_dim + value_dim..];
            factors[0] = self.log_decay(row).exp();
            factors[1] = sigmoid(self.inputs.b.row(row)[self.head]);
        }
        let qkv = &self.inputs.qkv;
        let channels = qkv.data()[first * qkv.cols()..].as_ptr();
        cpu.dispatch.run(Prepare {
            key_dim,
            value_dim,
            channels,
            stride: qkv.cols(),
            query: key_start,
            key: keys + key_start,
            value: 2 * keys + self.head * value_dim,
            tokens,
        });
    }

    fn log_decay(&self, row: usize) -> f32 {
        let rate = softplus(self.inputs.a.row(row)[self.head] + self.inputs.dt_bias[self.head]);
        self.inputs.decay[self.head] * rate
    }
}
