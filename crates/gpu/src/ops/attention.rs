//! Gated attention over pages.

use std::sync::{Arc, PoisonError};

use formats::DType;
use tensor::reference::shape_error;
use tensor::{AttentionShape, Batch, OpError, Rotary};

use super::check_tensor;
use crate::args;
use crate::gpu::{GROUP, Gpu, WARP, code_addresses};
use crate::matrix::Vector;
use crate::memory::PagesAndStates;
use crate::pool::Buffer;
use crate::tensor_on_device::Activations;

/// Heads of a block, each with a warp.
const BLOCK_HEADS: usize = 4;
/// The fewest keys of a split, as in the kernel.
const SPLIT: usize = 256;
const MOST_SPLITS: usize = 64;

/// A layer's queries, gates, keys and values as its products give them.
pub(super) struct Inputs<'a> {
    pub(super) query_gate: &'a Activations,
    pub(super) key: &'a Activations,
    pub(super) value: &'a Activations,
}

impl Gpu {
    #[expect(
        clippy::too_many_arguments,
        reason = "one fused operation of the contract"
    )]
    pub(super) fn prepare_attention(
        &self,
        memory: &PagesAndStates,
        layer: usize,
        batch: &Batch,
        shape: &AttentionShape,
        rotary: &Rotary,
        (query_norm, key_norm, eps): (&Vector, &Vector, f32),
        inputs: &Inputs<'_>,
    ) -> Result<(Activations, Activations), OpError> {
        const OP: &str = "attention_inputs";
        let AttentionShape {
            heads,
            kv_heads,
            head_dim,
        } = *shape;
        check_shape_of(OP, memory, batch, shape)?;
        let cache = memory.cache(OP, layer)?;
        let rows = batch.rows();
        let wide = heads * 2 * head_dim;
        check_tensor(OP, "queries and gates", inputs.query_gate, rows, wide)?;
        check_tensor(OP, "keys", inputs.key, rows, kv_heads * head_dim)?;
        check_tensor(OP, "values", inputs.value, rows, kv_heads * head_dim)?;
        let half = rotary.frequencies.len();
        let fits = 2 * half <= head_dim && rotary.axes.len() == half;
        let axes_are_known = rotary.axes.iter().all(|axis| *axis < 3);
        if !fits || !axes_are_known || query_norm.len != head_dim || key_norm.len != head_dim {
            return shape_error(
                OP,
                format!("norms and rotation of {head_dim}"),
                "other sizes",
            );
        }
        let on_device = self.device_batch(batch)?;
        let turns = self.rotary_on_device(rotary)?;
        let query = self.tensor(rows, heads * head_dim)?;
        let gate = self.tensor(rows, heads * head_dim)?;
        let args = args::AttentionInputs {
            spans: on_device.spans(),
            row_spans: on_device.row_spans(),
            pages: on_device.pages(),
            positions: on_device.positions(),
            query_gate: inputs.query_gate.values.address(),
            key: inputs.key.values.address(),
            value: inputs.value.values.address(),
            query_norm: query_norm.memory.address(),
            key_norm: key_norm.memory.address(),
            frequencies: turns.address(),
            axes: turns.address() + (half * size_of::<f32>()) as u64,
            query: query.values.address(),
            gate: gate.values.address(),
            cache,
            heads: heads as i32,
            half: half as i32,
            rotary_scale: rotary.scale,
            eps,
        };
        let grid = [(heads + kv_heads).div_ceil(BLOCK_HEADS), rows, 1];
        // SAFETY: the shapes were checked, and so were the batch's pages against the memory.
        unsafe { self.launch(OP, grid, BLOCK_HEADS * WARP, &args)? };
        Ok((query, gate))
    }

    pub(super) fn attend(
        &self,
        memory: &PagesAndStates,
        layer: usize,
        batch: &Batch,
        shape: &AttentionShape,
        query: &Activations,
        gate: &Activations,
    ) -> Result<Activations, OpError> {
        const OP: &str = "attention";
        let AttentionShape {
            heads, head_dim, ..
        } = *shape;
        check_shape_of(OP, memory, batch, shape)?;
        let cache = memory.cache(OP, layer)?;
        let rows = batch.rows();
        check_tensor(OP, "queries", query, rows, heads * head_dim)?;
        check_tensor(OP, "gates", gate, rows, heads * head_dim)?;
        let kernel = match memory.layout.key_type {
            DType::F32 => "attention_f32",
            DType::F16 => "attention_f16",
            DType::BF16 => "attention_bf16",
            DType::Q8_0 => "attention_q8_0",
            _ => "attention_q4_0",
        };
        let on_device = self.device_batch(batch)?;
        let mut out = self.tensor(rows, heads * head_dim)?;
        if head_dim.is_multiple_of(GROUP) {
            out.codes = self.codes(rows, heads * head_dim)?;
        }
        let (codes, scales) = code_addresses(out.codes.as_ref());
        let blocks = heads.div_ceil(BLOCK_HEADS);
        let splits = most_splits(on_device.most_visible);
        // With few rows the splits of a row run side by side; with many, rows alone fill the device.
        let is_split = splits > 1 && rows * blocks < 4 * self.driver.device().multiprocessors;
        let partial_bytes = rows * heads * splits * (head_dim + 2) * size_of::<f32>();
        let partials = is_split.then(|| self.take(partial_bytes)).transpose()?;
        let args = args::Attention {
            spans: on_device.spans(),
            row_spans: on_device.row_spans(),
            pages: on_device.pages(),
            query: query.values.address(),
            gate: gate.values.address(),
            out: out.values.address(),
            codes,
            scales,
            partials: partials.as_ref().map_or(0, |partials| partials.address()),
            splits: splits as i32,
            cache,
            heads: heads as i32,
            score_scale: 1.0 / (head_dim as f32).sqrt(),
        };
        let depth = if is_split { splits } else { 1 };
        // SAFETY: the shapes were checked, and so were the batch's pages against the memory; there is room
        // for as many splits as the row that sees the most has.
        unsafe { self.launch(kernel, [blocks, rows, depth], BLOCK_HEADS * WARP, &args)? };
        if is_split {
            // SAFETY: as above.
            unsafe {
                self.launch(
                    "attention_join",
                    [blocks, rows, 1],
                    BLOCK_HEADS * WARP,
                    &args,
                )?
            };
        }
        Ok(out)
    }

    /// Frequencies, then axes: uploaded once a model.
    fn rotary_on_device(&self, rotary: &Rotary) -> Result<Arc<Buffer>, OpError> {
        let mut last = self.rotary.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, buffer)) = &*last
            && known == rotary
        {
            return Ok(Arc::clone(buffer));
        }
        let frequencies = rotary.frequencies.iter().flat_map(|f| f.to_le_bytes());
        let bytes: Vec<u8> = frequencies.chain(rotary.axes.iter().copied()).collect();
        let buffer = Arc::new(self.upload_bytes(&bytes)?);
        *last = Some((rotary.clone(), Arc::clone(&buffer)));
        Ok(buffer)
    }
}

/// The most splits that a row has of up to `visible` keys: rows that see less may have more, for their
/// splits are shorter.
fn most_splits(visible: usize) -> usize {
    visible.div_ceil(SPLIT).min(MOST_SPLITS)
}

fn check_shape_of(
    op: &'static str,
    memory: &PagesAndStates,
    batch: &Batch,
    shape: &AttentionShape,
) -> Result<(), OpError> {
    memory.check(batch)?;
    let fits = shape.kv_heads > 0 && shape.heads.is_multiple_of(shape.kv_heads);
    if !fits || *shape != memory.layout.attention {
        let expected = format!("{:?}", memory.layout.attention);
        return shape_error(op, expected, format!("{shape:?}"));
    }
    Ok(())
}
