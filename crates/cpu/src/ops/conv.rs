//! The causal depthwise convolution.

use tensor::reference::{check_batch, check_shape, shape_error};
use tensor::{Batch, DeltaShape, HostMemory, OpError, Tensor};

use super::check_distinct_states;
use crate::cpu::{Cpu, Vector};
use crate::parts::Parts;
use crate::simd::{Kernel, Simd, silu};

/// Channels per task.
const CHANNELS: usize = 2048;

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
    let mut out = Tensor::zeros(batch.rows(), channels);
    let state_len = memory.layout().conv_len();
    let states = Parts::new(memory.conv_states(layer));
    let outputs = Parts::new(out.data_mut());
    let weights = weight.transposed(taps);
    let stripes = channels.div_ceil(CHANNELS);
    cpu.pool.run(batch.spans.len() * stripes, |task| {
        let span = &batch.spans[task / stripes];
        let start = task % stripes * CHANNELS;
        if span.rows.is_empty() {
            return;
        }
        cpu.dispatch.run(Conv {
            channels,
            taps,
            columns: channels.min(start + CHANNELS) - start,
            rows: span.rows.len(),
            weights: weights[start..].as_ptr(),
            input: input.data()[span.rows.start * channels + start..].as_ptr(),
            state: states.at(span.state.0 as usize * state_len + start),
            output: outputs.at(span.rows.start * channels + start),
        });
    });
    Ok(out)
}

/// Some channels of one span. All matrices are `[.., channels]` and begin at the first channel.
struct Conv {
    channels: usize,
    taps: usize,
    columns: usize,
    rows: usize,
    /// `[taps, channels]`
    weights: *const f32,
    /// `[rows, channels]`
    input: *const f32,
    /// `[taps - 1, channels]`, oldest first; the next one when done.
    state: *mut f32,
    /// `[rows, channels]`
    output: *mut f32,
}

impl Kernel for Conv {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let history = self.taps - 1;
        for at in (0..self.columns).step_by(S::LANES) {
            let rest = self.columns - at;
            // Row `index` of the window over time: the state's rows, then the input's.
            let window = |index: usize| {
                // SAFETY: the state has `history` rows, the input the rows after them.
                unsafe {
                    if index < history {
                        self.state.add(index * self.channels + at).cast_const()
                    } else {
                        self.input.add((index - history) * self.channels + at)
                    }
                }
            };
            for row in 0..self.rows {
                let mut sum = s.splat(0.0);
                for tap in 0..self.taps {
                    // SAFETY: `rest` channels remain in every row.
                    unsafe {
                        let weight = s.load_up_to(self.weights.add(tap * self.channels + at), rest);
                        let value = s.load_up_to(window(row + tap), rest);
                        sum = s.mul_add(weight, value, sum);
                    }
                }
                // SAFETY: likewise.
                unsafe {
                    let to = self.output.add(row * self.channels + at);
                    s.store_up_to(to, silu(s, sum), rest);
                }
            }
            // Rows move towards the older end, so none is overwritten before it was read.
            for index in 0..history {
                // SAFETY: likewise.
                unsafe {
                    let value = s.load_up_to(window(self.rows + index), rest);
                    s.store_up_to(self.state.add(index * self.channels + at), value, rest);
                }
            }
        }
    }
}
