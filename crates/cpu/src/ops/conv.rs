//! The causal depthwise convolution.

use tensor::reference::{check_batch, check_shape, shape_error};
use tensor::{Batch, DeltaShape, HostMemory, OpError, Slots, Tensor};

use super::check_distinct_states;
use crate::cpu::{Cpu, Vector};
use crate::parts::Parts;
use crate::simd::{Kernel, Simd, silu};

/// Channels per task.
const CHANNELS: usize = 2048;
/// Rows of a tile, and the taps that released models have.
const ROWS: usize = 4;
const TAPS: usize = 4;

pub(super) fn causal_conv(
    cpu: &Cpu,
    memory: &mut HostMemory,
    layer: usize,
    batch: &Batch,
    shape: &DeltaShape,
    weight: &Vector,
    input: &Tensor,
) -> Result<Tensor, OpError> {
    const OP: &str = "causal_conv";
    let (channels, taps) = (shape.channels(), shape.conv_taps);
    check_batch(batch, memory.layout())?;
    check_distinct_states(batch)?;
    super::check_delta_layer(OP, memory, layer, shape)?;
    check_shape(OP, "an input", input, batch.rows(), channels)?;
    if weight.values.len() != channels * taps {
        let found = weight.values.len().to_string();
        return shape_error(OP, format!("[{channels}, {taps}] taps"), found);
    }
    let slots = memory.conv_slots(layer);
    slots.check(batch)?;
    let mut out = Tensor::unspecified(batch.rows(), channels);
    let work = Work {
        channels,
        taps,
        weights: weight.transposed(taps),
        input: input.data(),
    };
    work.run(cpu, slots, batch, &Parts::new(out.data_mut()));
    slots.finish(batch);
    Ok(out)
}

/// Replays held inputs in every layer, for a batch that brings no rows.
pub(super) fn replay(cpu: &Cpu, memory: &mut HostMemory, batch: &Batch) {
    let DeltaShape { conv_taps, .. } = memory.layout().delta;
    let work = Work {
        channels: memory.layout().delta.channels(),
        taps: conv_taps,
        weights: &[],
        input: &[],
    };
    for layer in 0..memory.layout().delta_layers {
        let slots = memory.conv_slots(layer);
        work.run(cpu, slots, batch, &Parts::new(&mut []));
        slots.finish(batch);
    }
}

/// A batch's operands.
struct Work<'a> {
    channels: usize,
    taps: usize,
    /// `[taps, channels]`; not needed where there are no rows.
    weights: &'a [f32],
    /// `[rows, channels]`
    input: &'a [f32],
}

impl Work<'_> {
    fn run(&self, cpu: &Cpu, slots: &mut Slots, batch: &Batch, outputs: &Parts<'_, f32>) {
        let (channels, taps) = (self.channels, self.taps);
        let state_len = (taps - 1) * channels;
        let held_len = slots.held.len() / slots.counts.len().max(1);
        let states = Parts::new(&mut slots.states);
        let held = Parts::new(&mut slots.held);
        let stripes = channels.div_ceil(CHANNELS);
        cpu.pool.run(batch.spans.len() * stripes, |task| {
            let span = &batch.spans[task / stripes];
            let start = task % stripes * CHANNELS;
            let state = span.state.0 as usize;
            // A span of no rows may have no operands either, and a state no history.
            let from = |values: &[f32], at: usize| {
                let values = values.get(at + start..).unwrap_or_default();
                values.as_ptr()
            };
            let row = if span.rows.is_empty() {
                0
            } else {
                span.rows.start * channels + start
            };
            cpu.dispatch.run(Conv {
                channels,
                taps,
                columns: channels.min(start + CHANNELS) - start,
                rows: span.rows.len(),
                replay: span.replay,
                hold: span.hold,
                weights: from(self.weights, 0),
                input: from(self.input, span.rows.start * channels),
                state: states.at(state * state_len + start.min(state_len)),
                held: held.at(state * held_len + start.min(held_len)),
                output: outputs.at(row),
            });
        });
    }
}

/// Some channels of one span. All matrices are `[.., channels]` and begin at the first channel.
struct Conv {
    channels: usize,
    taps: usize,
    columns: usize,
    rows: usize,
    replay: usize,
    hold: bool,
    /// `[taps, channels]`
    weights: *const f32,
    /// `[rows, channels]`
    input: *const f32,
    /// `[taps - 1, channels]`, oldest first; the next one when done.
    state: *mut f32,
    /// `[held_rows, channels]`: the first `replay` of them are to be applied; those to be held
    /// back when done.
    held: *mut f32,
    /// `[rows, channels]`
    output: *mut f32,
}

impl Kernel for Conv {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        // Some rows of a few vectors at a time: whole lines of memory in order, and each value of
        // the window is loaded about twice instead of once per tap.
        let mut row = 0;
        while row < self.rows {
            let count = (self.rows - row).min(ROWS);
            for at in (0..self.columns).step_by(S::LANES) {
                if count == ROWS && self.taps == TAPS {
                    self.run_tile(s, row, at);
                } else {
                    (row..row + count).for_each(|row| self.run_vector(s, row, at));
                }
            }
            row += count;
        }
        // Rows move towards the older end, so none is overwritten before it was read.
        let history = self.taps - 1;
        let first = self.replay + if self.hold { 0 } else { self.rows };
        for index in 0..if first > 0 { history } else { 0 } {
            self.copy_row(s, self.window(first + index), self.state, index);
        }
        for row in 0..if self.hold { self.rows } else { 0 } {
            // Rows that were to be replayed are not needed any more.
            self.copy_row(s, self.window(history + self.replay + row), self.held, row);
        }
    }
}

impl Conv {
    /// Row `index` of the window over time: the state's rows, those to be replayed, then the
    /// input's.
    #[inline(always)]
    fn window(&self, index: usize) -> *const f32 {
        let history = self.taps - 1;
        let before = history + self.replay;
        // SAFETY: each has the rows that are taken from it here.
        unsafe {
            if index < history {
                self.state.add(index * self.channels).cast_const()
            } else if index < before {
                self.held
                    .add((index - history) * self.channels)
                    .cast_const()
            } else {
                self.input.add((index - before) * self.channels)
            }
        }
    }

    /// One vector of one row.
    #[inline(always)]
    fn run_vector<S: Simd>(&self, s: S, row: usize, at: usize) {
        let rest = self.columns - at;
        let mut sum = s.splat(0.0);
        for tap in 0..self.taps {
            // SAFETY: `rest` channels remain in every row.
            unsafe {
                let weight = s.load_up_to(self.weights.add(tap * self.channels + at), rest);
                let value = s.load_up_to(self.window(self.replay + row + tap).add(at), rest);
                sum = s.mul_add(weight, value, sum);
            }
        }
        // SAFETY: likewise.
        unsafe {
            let to = self.output.add(row * self.channels + at);
            s.store_up_to(to, silu(s, sum), rest);
        }
    }

    /// One vector of [`ROWS`] rows, for [`TAPS`] taps: the same operations on each value.
    #[inline(always)]
    fn run_tile<S: Simd>(&self, s: S, row: usize, at: usize) {
        let rest = self.columns - at;
        let mut values = [s.splat(0.0); ROWS + TAPS - 1];
        for (index, value) in values.iter_mut().enumerate() {
            // SAFETY: `rest` channels remain in every row.
            *value = unsafe { s.load_up_to(self.window(self.replay + row + index).add(at), rest) };
        }
        let mut sums = [s.splat(0.0); ROWS];
        for tap in 0..TAPS {
            // SAFETY: likewise.
            let weight = unsafe { s.load_up_to(self.weights.add(tap * self.channels + at), rest) };
            for index in 0..ROWS {
                sums[index] = s.mul_add(weight, values[index + tap], sums[index]);
            }
        }
        for (index, sum) in sums.into_iter().enumerate() {
            // SAFETY: likewise.
            unsafe {
                let to = self.output.add((row + index) * self.channels + at);
                s.store_up_to(to, silu(s, sum), rest);
            }
        }
    }

    /// Copies a row to row `index` of `to`.
    #[inline(always)]
    fn copy_row<S: Simd>(&self, s: S, from: *const f32, to: *mut f32, index: usize) {
        for at in (0..self.columns).step_by(S::LANES) {
            let rest = self.columns - at;
            // SAFETY: `rest` channels remain in both.
            unsafe {
                let value = s.load_up_to(from.add(at), rest);
                s.store_up_to(to.add(index * self.channels + at), value, rest);
            }
        }
    }
}
