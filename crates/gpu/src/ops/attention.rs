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

/// The most bytes that splits which run side by side may leave for their joining.
const MOST_PARTIAL_BYTES: usize = 64 << 20;
/// Queries of a block on tensor cores: pairs of a row and one of the heads that share a key head.
const FEW_QUERIES: usize = 16;
const MANY_QUERIES: usize = 64;

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
        let on_device = self.device_batch(batch)?;
        let mut out = self.tensor(rows, heads * head_dim)?;
        if head_dim.is_multiple_of(GROUP) {
            out.codes = self.codes(rows, heads * head_dim)?;
        }
        let (codes, scales) = code_addresses(out.codes.as_ref());
        let splits = most_splits(on_device.most_visible);
        let road = Road::of(memory.layout.key_type, shape, on_device.most_rows);
        let blocks = road.blocks(batch);
        let partial_bytes = rows * heads * splits * (head_dim + 2) * size_of::<f32>();
        // With few rows the splits of a row run side by side; with many, rows alone fill the device.
        let fills = blocks >= road.blocks_at_once * self.driver.device().multiprocessors;
        let is_split = splits > 1 && !fills && partial_bytes <= MOST_PARTIAL_BYTES;
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
        let grid = [road.columns, rows, depth];
        // SAFETY: the shapes were checked, and so were the batch's pages against the memory; there is room
        // for as many splits as the row that sees the most has.
        unsafe { self.launch(road.kernel, grid, road.threads, &args)? };
        if is_split {
            let grid = [heads.div_ceil(BLOCK_HEADS), rows, 1];
            // SAFETY: as above.
            unsafe { self.launch("attention_join", grid, BLOCK_HEADS * WARP, &args)? };
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

/// Which kernel attends, and what its blocks take.
struct Road {
    kernel: &'static str,
    threads: usize,
    /// Blocks beside each other for one row.
    columns: usize,
    /// Rows of a span that go together, from its first one on.
    together: usize,
    /// Blocks that a multiprocessor should have to be busy.
    blocks_at_once: usize,
}

impl Road {
    /// That of pages of a type for a batch whose longest span has `most_rows` rows. The results are the same
    /// bits for any number of rows.
    fn of(key_type: DType, shape: &AttentionShape, most_rows: usize) -> Self {
        let AttentionShape {
            heads,
            kv_heads,
            head_dim,
        } = *shape;
        let has_tiles = key_type != DType::F32 && head_dim.is_multiple_of(16);
        if !has_tiles {
            return Self {
                kernel: match key_type {
                    DType::F32 => "attention_f32",
                    DType::F16 => "attention_f16",
                    DType::BF16 => "attention_bf16",
                    DType::Q8_0 => "attention_q8_0",
                    _ => "attention_q4_0",
                },
                threads: BLOCK_HEADS * WARP,
                columns: heads.div_ceil(BLOCK_HEADS),
                together: 1,
                blocks_at_once: 4,
            };
        }
        let sharing = heads / kv_heads;
        let has_many = most_rows * sharing.min(MANY_QUERIES) > MANY_QUERIES;
        let (queries, threads) = match has_many {
            true => (MANY_QUERIES, 256),
            false => (FEW_QUERIES, 128),
        };
        let heads_of_block = sharing.min(queries);
        Self {
            kernel: match (key_type, has_many) {
                (DType::F16, false) => "attention_few_f16",
                (DType::F16, true) => "attention_many_f16",
                (DType::BF16, false) => "attention_few_bf16",
                (DType::BF16, true) => "attention_many_bf16",
                (DType::Q8_0, false) => "attention_few_q8_0",
                (DType::Q8_0, true) => "attention_many_q8_0",
                (_, false) => "attention_few_q4_0",
                (_, true) => "attention_many_q4_0",
            },
            threads,
            columns: kv_heads * sharing.div_ceil(heads_of_block),
            together: queries / heads_of_block,
            blocks_at_once: if has_many { 1 } else { 2 },
        }
    }

    /// Blocks that have something to do, in one split.
    fn blocks(&self, batch: &Batch) -> usize {
        let rows = batch.spans.iter().map(|span| span.rows.len());
        self.columns * rows.map(|rows| rows.div_ceil(self.together)).sum::<usize>()
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
