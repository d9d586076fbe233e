//! Gated attention over pages.
//!
//! Keys are taken in pieces of [`PIECE`] positions, counted from the sequence's start. A piece
//! gives each query the largest score, the sum of exponentials and the weighted sum of values over
//! its keys in order; pieces are then merged in order. So a query's result depends on nothing but
//! its own keys: not on page size, on the chunk it came in, or on who computed which piece.
//!
//! A task takes some rows of a span with all query heads of one key head. Keys and values of a
//! piece are read from their pages once for all of them, and packed as `pack` says; `tile`
//! multiplies. Where there are too few rows for the threads, a task takes one piece only, and where
//! they are too few to pack for, `few` multiplies with what lies in the pages.

#[cfg_attr(
    not(target_arch = "x86_64"),
    expect(dead_code, reason = "only x86-64 multiplies whole numbers")
)]
mod few;
#[cfg(target_arch = "x86_64")]
mod few_whole;
mod inputs;
#[cfg_attr(
    not(target_arch = "x86_64"),
    expect(dead_code, reason = "only x86-64 multiplies whole numbers")
)]
mod pack;
#[cfg_attr(
    not(any(test, target_arch = "x86_64")),
    expect(dead_code, reason = "only x86-64 multiplies whole numbers")
)]
mod scales;
mod softmax;
mod tile;
mod units;
#[cfg(target_arch = "x86_64")]
mod whole;

use std::ops::Range;

use formats::DType;
use tensor::reference::{check_batch, check_shape, shape_error};
use tensor::{AttentionShape, Batch, HostMemory, OpError, PageId, Span, Tensor, quant};

use self::few::Few;
use self::pack::{CachedRows, PackQueries, TILE, is_packable, pack_keys, pack_values};
use self::softmax::{Finish, Merge};
use self::tile::{Attend, QUERIES, Scales, Softmax};
use self::units::UnitKind;
use super::is_multiple;
use crate::cpu::Cpu;
use crate::parts::Parts;
use crate::scratch::with_scratch;

pub(super) use self::inputs::inputs;

/// Positions per piece: packed keys and values of so many stay in the second-level cache.
const PIECE: usize = 256;
/// Bytes of packed queries a task takes at most, likewise.
const QUERY_BYTES: usize = 128 << 10;

/// Whether keys and values of less than 32 bits are multiplied as whole numbers.
pub(crate) fn has_whole_numbers(cpu: &Cpu) -> bool {
    UnitKind::of(cpu, [DType::F16; 2], 1) == UnitKind::Whole
}

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
    let mut out = Tensor::unspecified(batch.rows(), cols);
    if out.data().is_empty() {
        return Ok(out);
    }
    let context = Context {
        cpu,
        memory,
        place,
        query,
        gate,
        kind: UnitKind::of(
            cpu,
            [memory.layout().key_type, memory.layout().value_type],
            head_dim,
        ),
        group: heads / kv_heads,
        padded: head_dim.next_multiple_of(TILE * cpu.dispatch.lanes()),
        row_bytes: memory.layout().row_bytes()?,
    };
    let work = context.work();
    let outputs = Parts::new(out.data_mut());
    let (longest, pieces) = work.iter().fold((0, 0), |(longest, sum), work| {
        (work.pieces().max(longest), sum + work.pieces())
    });
    // Whether the last task to be done could keep a thread waiting for long.
    if longest > 1 && 2 * longest * cpu.threads() > pieces {
        context.run_pieces(&work, pieces, &outputs);
    } else {
        cpu.pool.run(work.len(), |index| {
            let work = &work[index];
            with_scratch(context.queries(work) * context.padded, |mixed| {
                let mut softmax = vec![Softmax::EMPTY; context.queries(work)];
                context.run(work, 0..work.pieces(), mixed, &mut softmax);
                for query in 0..work.rows.len() * context.group {
                    let mixed = &mixed[query * context.padded..];
                    // SAFETY: each task has rows and heads of its own.
                    unsafe { context.finish(work, query, mixed, softmax[query], &outputs) };
                }
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
    kind: UnitKind,
    /// Query heads per key head.
    group: usize,
    /// A head's values, padded to whole tiles.
    padded: usize,
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
        // As many as fit the cache, unless that leaves threads without work: each piece can be a task.
        let row_bytes = self.group * self.units() * size_of::<f32>();
        let at_most = (QUERY_BYTES / row_bytes).max(1);
        let mut work = Vec::new();
        for span in &self.place.batch.spans {
            let pieces = (span.past + span.rows.len()).div_ceil(PIECE);
            let share = (self.place.batch.rows() * pieces).div_ceil(2 * self.cpu.threads());
            let rows_at_once = share.clamp(1, at_most);
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

    /// Units of a packed row.
    fn units(&self) -> usize {
        self.padded / self.kind.values()
    }

    /// The queries of some work, with those that fill the last tile.
    fn queries(&self, work: &Work<'_>) -> usize {
        (work.rows.len() * self.group).next_multiple_of(QUERIES)
    }

    /// Runs each piece as a task of its own, then merges them.
    fn run_pieces(&self, work: &[Work<'_>], pieces: usize, outputs: &Parts<'_, f32>) {
        // Where each task's queries begin.
        let (mut tasks, mut first) = (Vec::with_capacity(pieces), Vec::with_capacity(work.len()));
        let mut queries = 0;
        for (index, work) in work.iter().enumerate() {
            first.push(queries);
            for piece in 0..work.pieces() {
                tasks.push((index, piece, queries));
                queries += self.queries(work);
            }
        }
        let padded = self.padded;
        with_scratch(queries * padded, |mixed| {
            let mut softmax = vec![Softmax::EMPTY; queries];
            let (all_mixed, all_softmax) = (Parts::new(mixed), Parts::new(&mut softmax));
            self.cpu.pool.run(tasks.len(), |task| {
                let (index, piece, start) = tasks[task];
                let end = start + self.queries(&work[index]);
                // SAFETY: each task has queries of its own.
                let (mixed, softmax) = unsafe {
                    (
                        all_mixed.part(start * padded..end * padded),
                        all_softmax.part(start..end),
                    )
                };
                self.run(&work[index], piece..piece + 1, mixed, softmax);
            });
            // One task per query: its pieces, in order.
            let merges: Vec<(usize, usize)> = work
                .iter()
                .enumerate()
                .flat_map(|(index, work)| {
                    (0..work.rows.len() * self.group).map(move |query| (index, query))
                })
                .collect();
            self.cpu.pool.run(merges.len(), |task| {
                let (index, query) = merges[task];
                let work = &work[index];
                with_scratch(padded, |sum| {
                    sum.fill(0.0);
                    let mut total = Softmax::EMPTY;
                    for piece in 0..work.pieces() {
                        let at = first[index] + piece * self.queries(work) + query;
                        // SAFETY: nobody writes them any more.
                        let (other, softmax) = unsafe {
                            (
                                all_mixed.part(at * padded..(at + 1) * padded),
                                all_softmax.part(at..at + 1)[0],
                            )
                        };
                        if softmax.is_empty() {
                            continue;
                        }
                        let (merged, factors) = total.merge(softmax);
                        total = merged;
                        self.cpu.dispatch.run(Merge {
                            mixed: sum,
                            other,
                            factors,
                        });
                    }
                    // SAFETY: each task has a row and a head of its own.
                    unsafe { self.finish(work, query, sum, total, outputs) };
                });
            });
        });
    }

    /// Attends to the keys of some pieces. Both results are set: per query `padded` mixed values,
    /// and the softmax they are relative to.
    fn run(
        &self,
        work: &Work<'_>,
        pieces: Range<usize>,
        mixed: &mut [f32],
        softmax: &mut [Softmax],
    ) {
        let (head_dim, units) = (self.place.shape.head_dim, self.units());
        let (cpu, kind, padded) = (self.cpu, self.kind, self.padded);
        let (queries, lanes) = (self.queries(work), cpu.dispatch.lanes());
        mixed.fill(0.0);
        softmax.fill(Softmax::EMPTY);
        // Queries whose scores are kept at a time.
        let scored = if self.are_few(work) { queries } else { QUERIES };
        let lens = [
            queries * units,
            PIECE * units,
            PIECE * units,
            lanes * units,
            scored * PIECE,
            queries,
            PIECE,
            PIECE,
        ];
        with_scratch(lens.iter().sum(), |buffers| {
            let (query_units, buffers) = buffers.split_at_mut(lens[0]);
            let (keys, buffers) = buffers.split_at_mut(lens[1]);
            let (packed, buffers) = buffers.split_at_mut(lens[2]);
            let (row_units, buffers) = buffers.split_at_mut(lens[3]);
            let (scores, buffers) = buffers.split_at_mut(lens[4]);
            // What is not there counts as nothing.
            buffers.fill(0.0);
            let (query_scales, buffers) = buffers.split_at_mut(lens[5]);
            let (key_scales, value_scales) = buffers.split_at_mut(lens[6]);
            let query = |index: usize| {
                let row = work.rows.start + index / self.group;
                let column = (work.kv_head * self.group + index % self.group) * head_dim;
                work.rows
                    .contains(&row)
                    .then(|| self.query.row(row)[column..].as_ptr())
            };
            let rows: Vec<_> = (0..queries).map(query).collect();
            let pack = PackQueries {
                cols: head_dim,
                padded,
                rows: &rows,
                units: query_units,
                scales: query_scales,
            };
            kind.run(cpu, pack);
            let mut visible = vec![0; queries];
            for piece in pieces {
                let start = piece * PIECE;
                for (index, visible) in visible.iter_mut().enumerate() {
                    let row = work.rows.start + index / self.group;
                    if work.rows.contains(&row) {
                        *visible = work.visible(row).saturating_sub(start).min(PIECE);
                    }
                }
                let end = (start + PIECE).min(work.visible(work.rows.end - 1));
                let scale = 1.0 / (head_dim as f32).sqrt();
                if self.are_few(work) {
                    let next = end..work.visible(work.rows.end - 1).min(end + PIECE);
                    self.with_keys(work, start..end, |keys| {
                        self.with_values(work, start..end, |values| {
                            self.with_keys(work, next, |ahead| {
                                let few = Few {
                                    scale,
                                    padded,
                                    queries: query_units,
                                    query_scales,
                                    visible: &visible,
                                    keys,
                                    values,
                                    ahead,
                                    scores,
                                    // Keys' scales are used at once.
                                    value_factors: key_scales,
                                    value_scales,
                                    key_units: row_units,
                                    strip: packed,
                                    mixed,
                                    softmax,
                                };
                                few.attend(kind, cpu);
                            });
                        });
                    });
                    continue;
                }
                self.with_keys(work, start..end, |rows| {
                    pack_keys(kind, cpu, rows, padded, row_units, (keys, key_scales));
                });
                let strip_len = PIECE / kind.values() * TILE * lanes;
                self.with_values(work, start..end, |rows| {
                    pack_values(kind, cpu, rows, padded, strip_len, (packed, value_scales));
                });
                let attend = Attend {
                    scale,
                    padded,
                    queries: query_units,
                    visible: &visible,
                    keys,
                    values: packed,
                    scales: Scales {
                        queries: query_scales,
                        keys: key_scales,
                        values: value_scales,
                    },
                    strip_len,
                    scores,
                    mixed,
                    softmax,
                };
                kind.run(cpu, attend);
            }
        });
    }

    /// Whether a work's queries are so few that packing what they are multiplied with does not pay.
    fn are_few(&self, work: &Work<'_>) -> bool {
        self.queries(work) <= self.kind.few()
    }

    /// Calls `body` with the keys of some positions of a piece.
    fn with_keys(
        &self,
        work: &Work<'_>,
        positions: Range<usize>,
        body: impl FnOnce(CachedRows<'_>),
    ) {
        let (layer, head) = (self.place.layer, work.kv_head);
        let page_keys = |page| self.memory.page_keys(layer, page, head);
        let (dtype, row_bytes) = (self.memory.layout().key_type, self.row_bytes.0);
        self.with_rows(work, positions, dtype, row_bytes, page_keys, body);
    }

    /// Calls `body` with the values of some positions of a piece.
    fn with_values(
        &self,
        work: &Work<'_>,
        positions: Range<usize>,
        body: impl FnOnce(CachedRows<'_>),
    ) {
        let (layer, head) = (self.place.layer, work.kv_head);
        let page_values = |page| self.memory.page_values(layer, page, head);
        let (dtype, row_bytes) = (self.memory.layout().value_type, self.row_bytes.1);
        self.with_rows(work, positions, dtype, row_bytes, page_values, body);
    }

    /// Calls `body` with the encoded keys or values of some positions of a piece: those in their
    /// pages, or if their type cannot be packed, decoded ones.
    fn with_rows<'p>(
        &self,
        work: &Work<'_>,
        positions: Range<usize>,
        dtype: DType,
        row_bytes: usize,
        page_rows: impl Fn(PageId) -> &'p [u8],
        body: impl FnOnce(CachedRows<'_>),
    ) {
        let cols = self.place.shape.head_dim;
        let page_tokens = self.memory.layout().page_tokens;
        let mut places = [[].as_slice(); PIECE];
        let mut at = positions.start;
        while at < positions.end {
            let slot = at % page_tokens;
            let end = positions.end.min(at - slot + page_tokens);
            let rows = &page_rows(work.span.pages[at / page_tokens])[slot * row_bytes..];
            for (row, position) in rows.chunks(row_bytes).zip(at..end) {
                places[position - positions.start] = row;
            }
            at = end;
        }
        let places = &places[..positions.len()];
        let pointers = |rows: &mut dyn Iterator<Item = *const u8>| {
            let mut all = [std::ptr::null(); PIECE];
            all.iter_mut().zip(rows).for_each(|(to, row)| *to = row);
            all
        };
        if is_packable(dtype) {
            let rows = pointers(&mut places.iter().map(|row| row.as_ptr()));
            body(CachedRows {
                dtype,
                cols,
                row_bytes,
                rows: &rows[..places.len()],
            });
            return;
        }
        with_scratch(places.len() * cols, |decoded| {
            for (row, decoded) in places.iter().zip(decoded.chunks_mut(cols)) {
                quant::decode(dtype, row, decoded)
                    .expect("memory keeps rows in types that can be decoded");
            }
            let rows = pointers(&mut decoded.chunks(cols).map(|row| row.as_ptr().cast()));
            body(CachedRows {
                dtype: DType::F32,
                cols,
                row_bytes: cols * size_of::<f32>(),
                rows: &rows[..places.len()],
            });
        });
    }

    /// Divides by the sum of exponentials, applies the gate and writes the output.
    ///
    /// # Safety
    /// Nobody else may use the output of this row and head meanwhile.
    unsafe fn finish(
        &self,
        work: &Work<'_>,
        query: usize,
        mixed: &[f32],
        softmax: Softmax,
        outputs: &Parts<'_, f32>,
    ) {
        let head_dim = self.place.shape.head_dim;
        let row = work.rows.start + query / self.group;
        let column = (work.kv_head * self.group + query % self.group) * head_dim;
        let start = row * self.gate.cols() + column;
        self.cpu.dispatch.run(Finish {
            mixed: &mixed[..head_dim],
            sum: softmax.sum,
            gate: &self.gate.row(row)[column..][..head_dim],
            // SAFETY: as the caller promises.
            out: unsafe { outputs.part(start..start + head_dim) },
        });
    }
}
