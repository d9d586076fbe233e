//! The causal convolution and the gated delta rule.

use tensor::reference::shape_error;
use tensor::{Batch, DeltaShape, HeadOrder, OpError, StateId};

use super::check_tensor;
use crate::args;
use crate::batch::DeviceBatch;
use crate::gpu::{Gpu, WARP};
use crate::matrix::Vector;
use crate::memory::{PagesAndStates, check_held, note_held};
use crate::tensor_on_device::Activations;

const CONV_THREADS: usize = 128;
const CONV_TILE: usize = 64;
const MOST_TAPS: usize = 8;
/// Threads of a column of a head's state.
const PARTS: usize = 4;
const MOST_DIM: usize = 128;

/// What the rule reads beside q, k and v.
pub(super) struct DeltaInputs<'a> {
    pub(super) qkv: &'a Activations,
    pub(super) a: &'a Activations,
    pub(super) b: &'a Activations,
    pub(super) decay: &'a Vector,
    pub(super) dt_bias: &'a Vector,
}

impl Gpu {
    pub(super) fn convolve(
        &self,
        memory: &mut PagesAndStates,
        layer: usize,
        batch: &Batch,
        shape: &DeltaShape,
        weight: &Vector,
        input: &Activations,
    ) -> Result<Activations, OpError> {
        const OP: &str = "causal_conv";
        check_shape_of(OP, memory, batch, shape)?;
        let (channels, taps) = (shape.channels(), shape.conv_taps);
        check_tensor(OP, "an input", input, batch.rows(), channels)?;
        if weight.len != channels * taps {
            return shape_error(
                OP,
                format!("[{channels}, {taps}] taps"),
                weight.len.to_string(),
            );
        }
        let slots = memory.conv(OP, layer)?;
        check_held(&memory.conv_held[layer], batch)?;
        let on_device = self.device_batch(batch)?;
        let out = self.tensor(batch.rows(), channels)?;
        let tiles = on_device.most_rows.div_ceil(CONV_TILE).max(1);
        let args = args::Conv {
            spans: on_device.spans(),
            input: input.values.address(),
            weight: weight.memory.address(),
            out: out.values.address(),
            states: slots.states,
            state_stride: slots.state_stride,
            held: slots.held,
            held_stride: slots.held_stride,
            channels: channels as i32,
            taps: taps as i32,
            updates: i32::from(tiles == 1),
        };
        let blocks = [channels.div_ceil(CONV_THREADS), batch.spans.len()];
        // SAFETY: the shapes were checked, and so were the batch's states and held rows against the memory.
        unsafe {
            self.launch(OP, [blocks[0], blocks[1], tiles], CONV_THREADS, &args)?;
            if tiles > 1 {
                self.launch(
                    "conv_states",
                    [blocks[0], blocks[1], 1],
                    CONV_THREADS,
                    &args,
                )?;
            }
        }
        note_held(&mut memory.conv_held[layer], batch);
        Ok(out)
    }

    pub(super) fn run_delta_rule(
        &self,
        memory: &mut PagesAndStates,
        layer: usize,
        batch: &Batch,
        shape: &DeltaShape,
        inputs: &DeltaInputs<'_>,
    ) -> Result<Activations, OpError> {
        const OP: &str = "delta_rule";
        check_shape_of(OP, memory, batch, shape)?;
        let (rows, heads) = (batch.rows(), shape.value_heads);
        check_tensor(OP, "q, k and v", inputs.qkv, rows, shape.channels())?;
        check_tensor(OP, "a", inputs.a, rows, heads)?;
        check_tensor(OP, "b", inputs.b, rows, heads)?;
        if inputs.decay.len != heads || inputs.dt_bias.len != heads {
            return shape_error(OP, format!("{heads} decays"), inputs.decay.len.to_string());
        }
        let args = args::Delta {
            qkv: inputs.qkv.values.address(),
            a: inputs.a.values.address(),
            b: inputs.b.values.address(),
            decay: inputs.decay.memory.address(),
            dt_bias: inputs.dt_bias.memory.address(),
            ..args::Delta::default()
        };
        check_held(&memory.delta_held[layer_of(OP, memory, layer)?], batch)?;
        let out = self.tensor(rows, heads * shape.value_dim)?;
        let on_device = self.device_batch(batch)?;
        let args = args::Delta {
            out: out.values.address(),
            ..args
        };
        self.launch_delta(memory, layer, batch, &on_device, args)?;
        note_held(&mut memory.delta_held[layer], batch);
        Ok(out)
    }

    /// Completes the arguments with what the memory knows, and launches the rule.
    fn launch_delta(
        &self,
        memory: &PagesAndStates,
        layer: usize,
        batch: &Batch,
        on_device: &DeviceBatch,
        args: args::Delta,
    ) -> Result<(), OpError> {
        let shape = memory.layout.delta;
        let slots = memory.delta("delta_rule", layer)?;
        let args = args::Delta {
            spans: on_device.spans(),
            states: slots.states,
            state_stride: slots.state_stride,
            held: slots.held,
            held_stride: slots.held_stride,
            held_rows: memory.layout.held_rows as i32,
            key_heads: shape.key_heads as i32,
            value_heads: shape.value_heads as i32,
            key_dim: shape.key_dim as i32,
            value_dim: shape.value_dim as i32,
            is_tiled: i32::from(shape.order == HeadOrder::Tiled),
            query_scale: 1.0 / (shape.key_dim as f32).sqrt(),
            ..args
        };
        let kernel = if shape.key_dim <= 32 {
            "delta_rule_32"
        } else {
            "delta_rule_128"
        };
        let threads = (shape.value_dim * PARTS).next_multiple_of(WARP);
        let grid = [shape.value_heads, batch.spans.len(), 1];
        // SAFETY: callers have checked shapes, states and held rows; a batch without rows reads no inputs.
        unsafe { self.launch(kernel, grid, threads, &args) }
    }

    /// Applies a state's first held rows, as a span that brings nothing of its own.
    pub(super) fn settle_state(
        &self,
        memory: &mut PagesAndStates,
        state: StateId,
        rows: usize,
    ) -> Result<(), OpError> {
        const OP: &str = "settle";
        let mut batch = Batch::default();
        batch.push_speculative(&[], 0, Vec::new(), state, rows, false);
        memory.check(&batch)?;
        let held = || memory.conv_held.iter().chain(&memory.delta_held);
        held().try_for_each(|held| check_held(held, &batch))?;
        // Nothing to apply: what is held is forgotten.
        if rows > 0 {
            let shape = memory.layout.delta;
            let on_device = self.device_batch(&batch)?;
            for layer in 0..memory.layout.delta_layers {
                let slots = memory.conv(OP, layer)?;
                let args = args::Conv {
                    spans: on_device.spans(),
                    states: slots.states,
                    state_stride: slots.state_stride,
                    held: slots.held,
                    held_stride: slots.held_stride,
                    channels: shape.channels() as i32,
                    taps: shape.conv_taps as i32,
                    ..args::Conv::default()
                };
                let grid = [shape.channels().div_ceil(CONV_THREADS), 1, 1];
                // SAFETY: the state and its held rows were checked; without rows no input is read.
                unsafe { self.launch("conv_states", grid, CONV_THREADS, &args)? };
                let args = args::Delta::default();
                self.launch_delta(memory, layer, &batch, &on_device, args)?;
            }
        }
        let held = memory.conv_held.iter_mut().chain(&mut memory.delta_held);
        held.for_each(|held| note_held(held, &batch));
        Ok(())
    }
}

fn layer_of(op: &'static str, memory: &PagesAndStates, layer: usize) -> Result<usize, OpError> {
    memory.delta(op, layer).map(|_| layer)
}

fn check_shape_of(
    op: &'static str,
    memory: &PagesAndStates,
    batch: &Batch,
    shape: &DeltaShape,
) -> Result<(), OpError> {
    memory.check(batch)?;
    let heads_fit = shape.key_heads > 0 && shape.value_heads.is_multiple_of(shape.key_heads);
    let fits = heads_fit
        && (1..=MOST_DIM).contains(&shape.key_dim)
        && (1..=MOST_DIM).contains(&shape.value_dim)
        && (1..=MOST_TAPS).contains(&shape.conv_taps);
    if !fits || *shape != memory.layout.delta {
        let expected = format!(
            "{:?}, of up to {MOST_DIM} values a head and {MOST_TAPS} taps",
            memory.layout.delta
        );
        return shape_error(op, expected, format!("{shape:?}"));
    }
    Ok(())
}
