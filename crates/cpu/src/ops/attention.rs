//! Gated attention over pages.
//!
//! Keys are taken in pieces of [`PIECE`] positions, counted from the sequence's start. A piece
//! gives each query the largest score, the sum of exponentials and the weighted sum of values over
//! its keys in order; pieces are then merged in order. So a query's result depends on nothing but
//! its own keys: not on page size, on the chunk it came in, or on who computed which piece.

use std::ops::Range;
use std::sync::OnceLock;

use formats::DType;
use tensor::reference::{check_batch, check_shape, rotate, shape_error};
use tensor::{AttentionShape, Batch, HostMemory, OpError, PageId, Rotary, Span, Tensor, quant};

use super::is_multiple;
use super::norm::Norm;
use crate::cpu::Cpu;
use crate::dots::float::{FloatKind, FloatRows};
use crate::parts::Parts;
use crate::scratch::with_scratch;
use crate::simd::{Kernel, Simd, exp, sigmoid};

/// Positions per piece.
const PIECE: usize = 128;
/// Queries a task takes at once, so that keys and values are read once for all of them.
const QUERIES: usize = 32;

/// Where an operation works: a layer's pages, for the rows of a batch.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) layer: usize,
    pub(super) batch: &'a Batch,
    pub(super) shape: &'a AttentionShape,
}

impl Place<'_> {
    fn check(&self, op: &'static str, memory: &HostMemory) -> Result<(), OpError> {
        let (layout, shape) = (memory.layout(), self.shape);
        check_batch(self.batch, layout)?;
        if self.layer >= layout.attention_layers {
            let expected = format!("an attention layer below {}", layout.attention_layers);
            return shape_error(op, expected, format!("layer {}", self.layer));
        }
        let sizes = |shape: &AttentionShape| (shape.kv_heads, shape.head_dim);
        if sizes(shape) != sizes(&layout.attention) || !is_multiple(shape.heads, shape.kv_heads) {
            let expected = format!("heads for the memory's {:?}", layout.attention);
            return shape_error(op, expected, format!("{shape:?}"));
        }
        Ok(())
    }
}

#[expect(
    clippy::too_many_arguments,
    reason = "one fused operation of the contract"
)]
pub(super) fn inputs(
    cpu: &Cpu,
    memory: &mut HostMemory,
    place: Place<'_>,
    rotary: &Rotary,
    (query_norm, key_norm, eps): (&[f32], &[f32], f32),
    query_gate: &Tensor,
    mut key: Tensor,
    value: &Tensor,
) -> Result<(Tensor, Tensor), OpError> {
    const OP: &str = "attention_inputs";
    let AttentionShape {
        heads,
        kv_heads,
        head_dim,
    } = *place.shape;
    let (batch, rows) = (place.batch, place.batch.rows());
    place.check(OP, memory)?;
    let both = heads * 2 * head_dim;
    check_shape(OP, "queries and gates", query_gate, rows, both)?;
    check_shape(OP, "keys", &key, rows, kv_heads * head_dim)?;
    check_shape(OP, "values", value, rows, kv_heads * head_dim)?;
    let half = rotary.frequencies.len();
    if 2 * half > head_dim || query_norm.len() != head_dim || key_norm.len() != head_dim {
        let expected = format!("norms and rotation of {head_dim}");
        return shape_error(OP, expected, "other sizes");
    }
    if rotary.axes.len() != half || rotary.axes.iter().any(|axis| *axis > 2) {
        return shape_error(OP, format!("{half} axes of three"), "other axes");
    }

    let slots = slots_of_rows(batch, memory.layout().page_tokens)?;
    let (key_bytes, value_bytes) = memory.layout().row_bytes()?;
    let (key_type, value_type) = (memory.layout().key_type, memory.layout().value_type);
    let page_tokens = memory.layout().page_tokens;
    let (page_keys, page_values) = memory.layer_pages(place.layer);
    let (page_keys, page_values) = (Parts::new(page_keys), Parts::new(page_values));
    let (query_cols, key_cols) = (heads * head_dim, kv_heads * head_dim);
    let mut query = Tensor::zeros(rows, query_cols);
    let mut gate = Tensor::zeros(rows, query_cols);
    let gates = Parts::new(gate.data_mut());
    let keys = Parts::new(key.data_mut());
    let failure = OnceLock::new();
    cpu.for_rows(query.data_mut(), query_cols, 4 * both, |row, query| {
        // SAFETY: rows do not overlap, and each is worked on once.
        let (gate, key) = unsafe {
            (
                gates.part(row * query_cols..(row + 1) * query_cols),
                keys.part(row * key_cols..(row + 1) * key_cols),
            )
        };
        with_scratch(2 * half, |angles| {
            let (cos, sin) = angles.split_at_mut(half);
            rotary.angles(batch.positions[row], cos, sin);
            let turn = |x: &mut [f32], weight| {
                cpu.dispatch.run(Norm { x, weight, eps });
                rotate(x, cos, sin);
            };
            for (head, both) in query_gate.row(row).chunks_exact(2 * head_dim).enumerate() {
                let columns = head * head_dim..(head + 1) * head_dim;
                gate[columns.clone()].copy_from_slice(&both[head_dim..]);
                query[columns.clone()].copy_from_slice(&both[..head_dim]);
                turn(&mut query[columns], query_norm);
            }
            let values = value.row(row).chunks_exact(head_dim);
            for (head, (key, value)) in key.chunks_exact_mut(head_dim).zip(values).enumerate() {
                turn(key, key_norm);
                let (page, slot) = slots[row];
                let at = (page.0 as usize * kv_heads + head) * page_tokens + slot;
                // SAFETY: no two rows have the same slot.
                let (page_key, page_value) = unsafe {
                    (
                        page_keys.part(at * key_bytes..(at + 1) * key_bytes),
                        page_values.part(at * value_bytes..(at + 1) * value_bytes),
                    )
                };
                let written = quant::encode(key_type, key, page_key)
                    .and_then(|()| quant::encode(value_type, value, page_value));
                if let Err(error) = written {
                    failure.get_or_init(|| error);
                }
            }
        });
    });
    match failure.into_inner() {
        Some(error) => Err(OpError::Memory(format!("key/value cache: {error}"))),
        None => Ok((query, gate)),
    }
}

/// The page and the slot in it that each row's key and value go to.
///
/// # Errors
/// If two rows have the same: they are written at the same time.
fn slots_of_rows(batch: &Batch, page_tokens: usize) -> Result<Vec<(PageId, usize)>, OpError> {
    let mut slots = Vec::with_capacity(batch.rows());
    for span in &batch.spans {
        let positions = span.past..span.past + span.rows.len();
        slots.extend(positions.map(|at| (span.pages[at / page_tokens], at % page_tokens)));
    }
    let mut sorted = slots.clone();
    sorted.sort_unstable();
    match sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(OpError::Memory(format!(
            "page {} is written twice in a batch",
            pair[0].0.0
        ))),
        None => Ok(slots),
    }
}

pub(super) fn attend(
    cpu: &Cpu,
    memory: &HostMemory,
    place: Place<'_>,
    query: &Tensor,
    gate: &Tensor,
) -> Result<Tensor, OpError> {
    const OP: &str = "attention";
    let AttentionShape {
        heads,
        kv_heads,
        head_dim,
    } = *place.shape;
    let (batch, cols) = (place.batch, heads * head_dim);
    place.check(OP, memory)?;
    check_shape(OP, "queries", query, batch.rows(), cols)?;
    check_shape(OP, "gates", gate, batch.rows(), cols)?;
    let mut out = Tensor::zeros(batch.rows(), cols);
    if out.data().is_empty() {
        return Ok(out);
    }
    let context = Context {
        cpu,
        memory,
        place,
        query,
        gate,
        group: heads / kv_heads,
        row_bytes: memory.layout().row_bytes()?,
    };
    let work = context.work();
    let outputs = Parts::new(out.data_mut());
    let pieces: usize = work.iter().map(Work::pieces).sum();
    if work.len() >= 2 * cpu.threads() || pieces <= work.len() {
        cpu.pool.run(work.len(), |index| {
            let work = &work[index];
            let len = context.partial_len(work);
            with_scratch(2 * len, |buffers| {
                let (sum, partial) = buffers.split_at_mut(len);
                context.clear(sum);
                for piece in 0..work.pieces() {
                    context.run_piece(work, piece, partial);
                    context.merge(sum, partial);
                }
                // SAFETY: each task has rows and heads of its own.
                unsafe { context.finish(work, sum, &outputs) };
            });
        });
    } else {
        // Too few heads to keep all threads busy: one task per piece, then merge them.
        let mut first = Vec::with_capacity(work.len());
        let (mut tasks, mut values) = (Vec::with_capacity(pieces), 0);
        for (index, work) in work.iter().enumerate() {
            first.push(values);
            for piece in 0..work.pieces() {
                tasks.push((index, piece, values));
                values += context.partial_len(work);
            }
        }
        let mut partials = vec![0.0; values];
        let parts = Parts::new(&mut partials);
        cpu.pool.run(tasks.len(), |task| {
            let (index, piece, start) = tasks[task];
            let len = context.partial_len(&work[index]);
            // SAFETY: each task has a part of its own.
            let partial = unsafe { parts.part(start..start + len) };
            context.run_piece(&work[index], piece, partial);
        });
        cpu.pool.run(work.len(), |index| {
            let work = &work[index];
            let len = context.partial_len(work);
            with_scratch(len, |sum| {
                context.clear(sum);
                for partial in partials[first[index]..].chunks(len).take(work.pieces()) {
                    context.merge(sum, partial);
                }
                // SAFETY: each task has rows and heads of its own.
                unsafe { context.finish(work, sum, &outputs) };
            });
        });
    }
    Ok(out)
}

/// What all tasks of one call share.
struct Context<'a> {
    cpu: &'a Cpu,
    memory: &'a HostMemory,
    place: Place<'a>,
    query: &'a Tensor,
    gate: &'a Tensor,
    /// Query heads per key head.
    group: usize,
    /// Of an encoded key and an encoded value.
    row_bytes: (usize, usize),
}

/// Consecutive rows of a span, with the query heads of one key head. The queries are numbered
/// row by row.
struct Work<'a> {
    span: &'a Span,
    rows: Range<usize>,
    kv_head: usize,
}

impl Work<'_> {
    /// How many positions the row sees.
    fn visible(&self, row: usize) -> usize {
        self.span.past + (row - self.span.rows.start) + 1
    }

    fn pieces(&self) -> usize {
        self.visible(self.rows.end - 1).div_ceil(PIECE)
    }
}

impl Context<'_> {
    fn work(&self) -> Vec<Work<'_>> {
        let rows_at_once = (QUERIES / self.group).max(1);
        let mut work = Vec::new();
        for span in &self.place.batch.spans {
            for start in span.rows.clone().step_by(rows_at_once) {
                for kv_head in 0..self.place.shape.kv_heads {
                    work.push(Work {
                        span,
                        rows: start..span.rows.end.min(start + rows_at_once),
                        kv_head,
                    });
                }
            }
        }
        work
    }

    fn queries(&self, work: &Work<'_>) -> usize {
        work.rows.len() * self.group
    }

    /// Values of a partial result: per query its mixed values `[head_dim]`, then the largest score
    /// and the sum of exponentials.
    fn partial_len(&self, work: &Work<'_>) -> usize {
        self.queries(work) * (self.place.shape.head_dim + 2)
    }

    /// Makes a partial result of no keys.
    fn clear(&self, partial: &mut [f32]) {
        let head_dim = self.place.shape.head_dim;
        for query in partial.chunks_exact_mut(head_dim + 2) {
            query.fill(0.0);
            query[head_dim] = f32::NEG_INFINITY;
        }
    }

    /// The partial result of the keys of one piece.
    fn run_piece(&self, work: &Work<'_>, piece: usize, partial: &mut [f32]) {
        let head_dim = self.place.shape.head_dim;
        let (dispatch, layout) = (self.cpu.dispatch, self.memory.layout());
        let start = piece * PIECE;
        self.clear(partial);
        // Rows that see nothing of this piece come first.
        let blind = work.rows.clone().filter(|row| work.visible(*row) <= start);
        let rows = work.rows.start + blind.count()..work.rows.end;
        let first_query = (rows.start - work.rows.start) * self.group;
        let partial = &mut partial[first_query * (head_dim + 2)..];
        let queries = rows.len() * self.group;
        let end = (start + PIECE).min(work.visible(rows.end - 1));

        with_scratch(queries * PIECE, |scores| {
            let products = Parts::new(scores);
            let head = work.kv_head * self.group;
            let query = |index: usize| {
                let column = (head + index % self.group) * head_dim;
                self.query.row(rows.start + index / self.group)[column..].as_ptr()
            };
            self.for_each_run(work, start..end, |positions, page, slot| {
                let keys = self.memory.page_keys(self.place.layer, page, work.kv_head);
                let bytes = &keys[slot * self.row_bytes.0..][..positions.len() * self.row_bytes.0];
                let product = |index: usize| products.at(index * PIECE + positions.start - start);
                with_floats(layout.key_type, bytes, positions.len(), head_dim, |keys| {
                    // SAFETY: queries are `head_dim` long, and each has a row of scores.
                    unsafe { keys.dots(dispatch, queries, query, product) };
                });
            });
            for (index, scores) in scores.chunks_exact_mut(PIECE).enumerate() {
                let visible = work.visible(rows.start + index / self.group).min(end) - start;
                let (largest, sum) = dispatch.run(Softmax {
                    scores: &mut scores[..visible],
                    scale: 1.0 / (head_dim as f32).sqrt(),
                });
                partial[index * (head_dim + 2) + head_dim] = largest;
                partial[index * (head_dim + 2) + head_dim + 1] = sum;
            }
            let mixed = Parts::new(partial);
            self.for_each_run(work, start..end, |positions, page, slot| {
                let values = self
                    .memory
                    .page_values(self.place.layer, page, work.kv_head);
                let bytes =
                    &values[slot * self.row_bytes.1..][..positions.len() * self.row_bytes.1];
                with_floats(
                    layout.value_type,
                    bytes,
                    positions.len(),
                    head_dim,
                    |values| {
                        for (index, row) in rows.clone().enumerate() {
                            let seen = work.visible(row).min(positions.end);
                            let first = index * self.group;
                            let weights = |head: usize| {
                                scores[(first + head) * PIECE + positions.start - start..].as_ptr()
                            };
                            let output = |head: usize| mixed.at((first + head) * (head_dim + 2));
                            let values = values.take(seen.saturating_sub(positions.start));
                            // SAFETY: each query has a weight for each key that it sees, and a row
                            // of mixed values.
                            unsafe { values.mix(dispatch, self.group, weights, output) };
                        }
                    },
                );
            });
        });
    }

    /// Calls `body` for each run of positions that lie in one page, in order, with the page and
    /// the first position's slot in it.
    fn for_each_run(
        &self,
        work: &Work<'_>,
        positions: Range<usize>,
        mut body: impl FnMut(Range<usize>, PageId, usize),
    ) {
        let page_tokens = self.memory.layout().page_tokens;
        let mut at = positions.start;
        while at < positions.end {
            let slot = at % page_tokens;
            let end = positions.end.min(at - slot + page_tokens);
            body(at..end, work.span.pages[at / page_tokens], slot);
            at = end;
        }
    }

    /// Adds a piece's partial result to that of the pieces before it.
    fn merge(&self, sum: &mut [f32], partial: &[f32]) {
        let len = self.place.shape.head_dim + 2;
        for (sum, partial) in sum.chunks_exact_mut(len).zip(partial.chunks_exact(len)) {
            if partial[len - 2] == f32::NEG_INFINITY {
                continue;
            }
            self.cpu.dispatch.run(Merge { sum, partial });
        }
    }

    /// Divides by the sums of exponentials, applies the gates and writes the outputs.
    ///
    /// # Safety
    /// Nobody else may use the outputs of these rows and heads meanwhile.
    unsafe fn finish(&self, work: &Work<'_>, sum: &[f32], outputs: &Parts<'_, f32>) {
        let head_dim = self.place.shape.head_dim;
        for (index, query) in sum.chunks_exact(head_dim + 2).enumerate() {
            let row = work.rows.start + index / self.group;
            let column = (work.kv_head * self.group + index % self.group) * head_dim;
            let start = row * self.gate.cols() + column;
            self.cpu.dispatch.run(Finish {
                mixed: &query[..head_dim],
                sum: query[head_dim + 1],
                gate: &self.gate.row(row)[column..][..head_dim],
                // SAFETY: as the caller promises.
                out: unsafe { outputs.part(start..start + head_dim) },
            });
        }
    }
}

/// Gives encoded rows to `body` as plain floats: as they are, or decoded.
fn with_floats(dtype: DType, bytes: &[u8], rows: usize, cols: usize, body: impl FnOnce(FloatRows)) {
    let kind = match dtype {
        DType::F32 => FloatKind::F32,
        DType::F16 => FloatKind::F16,
        DType::BF16 => FloatKind::Bf16,
        _ => {
            with_scratch(rows * cols, |decoded| {
                quant::decode(dtype, bytes, decoded)
                    .expect("memory keeps rows in types that can be decoded");
                body(FloatRows::decoded(decoded, cols));
            });
            return;
        }
    };
    body(FloatRows {
        kind,
        first: bytes.as_ptr(),
        row_bytes: bytes.len() / rows.max(1),
        rows,
        cols,
    });
}

/// Scales scores and replaces them with exponentials relative to the largest; returns the largest
/// and the sum of exponentials.
struct Softmax<'a> {
    scores: &'a mut [f32],
    scale: f32,
}

impl Kernel for Softmax<'_> {
    type Output = (f32, f32);

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> (f32, f32) {
        let mut largest = f32::NEG_INFINITY;
        for score in self.scores.iter_mut() {
            *score *= self.scale;
            largest = if *score > largest { *score } else { largest };
        }
        let offset = s.splat(largest);
        let mut sum = s.splat(0.0);
        let len = self.scores.len();
        for at in (0..len).step_by(S::LANES) {
            // SAFETY: `len - at` values remain.
            unsafe {
                let place = self.scores.as_mut_ptr().add(at);
                let score = s.load_up_to(place, len - at);
                s.store_up_to(place, exp(s, s.sub(score, offset)), len - at);
                // Loaded again, so that lanes beyond the end count as zero.
                sum = s.add(sum, s.load_up_to(place, len - at));
            }
        }
        (largest, s.sum(sum))
    }
}

/// Merges two partial results of one query, as [`Context::partial_len`] lays them out.
struct Merge<'a> {
    sum: &'a mut [f32],
    partial: &'a [f32],
}

impl Kernel for Merge<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let head_dim = self.sum.len() - 2;
        let (before, new) = (self.sum[head_dim], self.partial[head_dim]);
        let largest = before.max(new);
        let (before, new) = ((before - largest).exp(), (new - largest).exp());
        for at in (0..head_dim).step_by(S::LANES) {
            let rest = head_dim - at;
            // SAFETY: `rest` values remain in both.
            unsafe {
                let place = self.sum.as_mut_ptr().add(at);
                let old = s.mul(s.load_up_to(place, rest), s.splat(before));
                let partial = s.load_up_to(self.partial.as_ptr().add(at), rest);
                s.store_up_to(place, s.mul_add(partial, s.splat(new), old), rest);
            }
        }
        self.sum[head_dim] = largest;
        self.sum[head_dim + 1] = self.sum[head_dim + 1] * before + self.partial[head_dim + 1] * new;
    }
}

/// `out = mixed / sum * sigmoid(gate)`
struct Finish<'a> {
    mixed: &'a [f32],
    sum: f32,
    gate: &'a [f32],
    out: &'a mut [f32],
}

impl Kernel for Finish<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let factor = s.splat(1.0 / self.sum);
        let len = self.out.len();
        assert!(len == self.mixed.len() && len == self.gate.len());
        for at in (0..len).step_by(S::LANES) {
            // SAFETY: `len - at` values remain in all three.
            unsafe {
                let mixed = s.load_up_to(self.mixed.as_ptr().add(at), len - at);
                let gate = s.load_up_to(self.gate.as_ptr().add(at), len - at);
                let y = s.mul(s.mul(mixed, factor), sigmoid(s, gate));
                s.store_up_to(self.out.as_mut_ptr().add(at), y, len - at);
            }
        }
    }
}
