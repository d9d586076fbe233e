//! Gated attention over pages.
//!
//! Keys are taken in pieces of [`PIECE`] positions, counted from the sequence's start. A piece
//! gives each query the largest score, the sum of exponentials and the weighted sum of values over
//! its keys in order; pieces are then merged in order. So a query's result depends on nothing but
//! its own keys: not on page size, on the chunk it came in, or on who computed which piece.

mod inputs;
mod softmax;

use std::ops::Range;

use formats::DType;
use tensor::reference::{check_batch, check_shape, shape_error};
use tensor::{AttentionShape, Batch, HostMemory, OpError, PageId, Span, Tensor, quant};

use self::softmax::{Finish, Merge, Softmax};
use super::is_multiple;
use crate::cpu::Cpu;
use crate::dots::float::{FloatKind, FloatRows};
use crate::parts::Parts;
use crate::scratch::with_scratch;

pub(super) use self::inputs::inputs;

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
        let fits = sizes(shape) == sizes(&layout.attention) && shape.head_dim > 0;
        if !fits || !is_multiple(shape.heads, shape.kv_heads) {
            let expected = format!("heads for the memory's {:?}", layout.attention);
            return shape_error(op, expected, format!("{shape:?}"));
        }
        Ok(())
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
