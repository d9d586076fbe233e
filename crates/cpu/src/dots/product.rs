//! The walk over a stripe of quantised rows and all inputs: unpack, multiply, next.

use std::cell::RefCell;
use std::marker::PhantomData;

use super::direct::{Direct, Unpack};
use super::pair_kernels::{DIRECT_PAIRS, DirectPairs, TilesOfPairs, UnpackForPairs};
use super::pairs::{Pair, Paired};
use super::panel::{BLOCKS_AT_ONCE, Format, GROUPS, Panel};
use super::source::{Interleaved, Source};
use super::tile::{Input, Span, Tiles};
use super::words::Rows;
use crate::activations::{ActivationGroup, Quantised};
use crate::isa::Isa;
use crate::matrix::Destination;
use crate::simd::{Dispatch, MAX_LANES};

/// Inputs that are multiplied before the next panel's turn: as many as this many bytes hold, which
/// stay in the second cache, but no more than [`MOST_INPUTS`].
const INPUT_BYTES: usize = 384 << 10;
const MOST_INPUTS: usize = 256;
/// How far ahead of what is multiplied an interleaved panel is asked for. It is one stream that the
/// hardware follows, too, but not fast enough across pages.
const AHEAD: usize = 8 << 10;
/// As many inputs as are worth taking two by two. With two, weaving codes takes as many
/// instructions as it saves.
const FEWEST_PAIRED: usize = 3;
/// As many bytes as the longest block has, or more.
const MAX_BYTES: usize = 288;

/// What a product needs room for: too much to be cleared for each stripe.
struct Workspace {
    panel: Panel,
    inputs: [Input; MOST_INPUTS],
    paired: Paired,
}

/// Inputs of one product.
#[derive(Clone, Copy)]
enum Inputs<'a> {
    Single(&'a [Input]),
    Paired(&'a [Pair]),
}

thread_local! {
    static WORKSPACE: RefCell<Box<Workspace>> = RefCell::new(Box::new(Workspace {
        panel: Panel::new(),
        inputs: [Input {
            groups: std::ptr::null(),
            output: std::ptr::null_mut(),
        }; MOST_INPUTS],
        paired: Paired::default(),
    }));
}

/// Some consecutive rows of a quantised matrix, and the place of their products.
pub(crate) struct Stripe<'a> {
    pub(crate) weights: *const u8,
    pub(crate) row_bytes: usize,
    pub(crate) rows: usize,
    /// How many rows, from the first one on, lie in interleaved panels: whole panels, perhaps more
    /// than the stripe's rows.
    pub(crate) interleaved: usize,
    pub(crate) inputs: &'a Quantised,
    /// The rows of `inputs` to multiply with.
    pub(crate) tokens: &'a [u32],
    pub(crate) to: Destination,
}

/// Blocks of a panel's rows.
#[derive(Clone, Copy)]
struct Blocks<B> {
    rows: B,
    count: usize,
    /// The groups in use of the last one.
    groups: usize,
    span: Span,
}

impl Stripe<'_> {
    /// Computes the products.
    ///
    /// # Safety
    /// The weights must be `rows` rows of the format, `inputs` as long as they are, and the
    /// destination free.
    pub(crate) unsafe fn dots<F: Format>(&self, dispatch: Dispatch) {
        let lanes = dispatch.lanes();
        let groups = self.row_bytes * GROUPS / F::BYTES;
        let most = INPUT_BYTES / size_of::<ActivationGroup>() / groups.max(1);
        let most = most.clamp(8, MOST_INPUTS);
        WORKSPACE.with_borrow_mut(|workspace| {
            let Workspace {
                panel,
                inputs,
                paired,
            } = &mut **workspace;
            for first in (0..self.tokens.len()).step_by(most) {
                let count = most.min(self.tokens.len() - first);
                for (index, input) in inputs[..count].iter_mut().enumerate() {
                    let row = self.inputs.row(self.tokens[first + index] as usize);
                    *input = Input {
                        groups: row[..groups].as_ptr(),
                        output: self.to.row(first + index),
                    };
                }
                let mut batch = Inputs::Single(&inputs[..count]);
                if dispatch.has_pairs() && count >= FEWEST_PAIRED {
                    // SAFETY: inputs have so many groups.
                    let pairs = unsafe { paired.fill::<F::Form>(&inputs[..count], groups) };
                    batch = Inputs::Paired(pairs);
                }
                for row in (0..self.rows).step_by(lanes) {
                    // SAFETY: the rows exist.
                    unsafe { self.panel::<F>(dispatch, row, batch, panel) };
                }
            }
        });
    }

    /// Multiplies a panel's rows, or as many as there are, with inputs.
    ///
    /// # Safety
    /// There must be such rows, and inputs as long as they are.
    unsafe fn panel<F: Format>(
        &self,
        dispatch: Dispatch,
        row: usize,
        inputs: Inputs<'_>,
        panel: &mut Panel,
    ) {
        let lanes = dispatch.lanes();
        let (whole, rest) = (self.row_bytes / F::BYTES, self.row_bytes % F::BYTES);
        let first = Blocks {
            rows: Rows {
                first: self.weights.wrapping_add(row * self.row_bytes),
                stride: self.row_bytes,
            },
            count: whole,
            groups: GROUPS,
            span: Span {
                group: 0,
                row,
                rows: lanes.min(self.rows - row),
            },
        };
        panel.ahead = first.rows.row(lanes);
        if row + lanes <= self.interleaved {
            panel.ahead = first.rows.first.wrapping_add(AHEAD);
            let blocks = Blocks {
                rows: Interleaved(first.rows.first),
                count: whole,
                groups: GROUPS,
                span: first.span,
            };
            // SAFETY: an interleaved panel has so many blocks in all lanes.
            unsafe { multiply::<F, _>(dispatch, blocks, inputs, panel) };
            return;
        }
        let mut done = 0;
        if first.span.rows == lanes {
            // SAFETY: so many blocks exist in all lanes.
            unsafe { multiply::<F, _>(dispatch, first, inputs, panel) };
            done = whole;
        }
        // What is left has rows or bytes missing.
        for block in done..self.row_bytes.div_ceil(F::BYTES) {
            let bytes = if block < whole { F::BYTES } else { rest };
            let from = first.rows.skip(block * F::BYTES);
            let mut edge = Edge([[0; MAX_BYTES]; MAX_LANES]);
            let blocks = Blocks {
                // SAFETY: as many rows and bytes exist.
                rows: unsafe { edge.copy(from, first.span.rows, bytes) },
                count: 1,
                groups: bytes * GROUPS / F::BYTES,
                span: Span {
                    group: block * GROUPS,
                    ..first.span
                },
            };
            // SAFETY: the edge has all lanes.
            unsafe { multiply::<F, _>(dispatch, blocks, inputs, panel) };
        }
    }
}

/// Multiplies some blocks with inputs.
///
/// # Safety
/// The blocks must exist for all lanes, and the inputs have as many groups.
unsafe fn multiply<F: Format, B: Source>(
    dispatch: Dispatch,
    blocks: Blocks<B>,
    inputs: Inputs<'_>,
    panel: &mut Panel,
) {
    let inputs = match inputs {
        Inputs::Single(inputs) => inputs,
        Inputs::Paired(pairs) => {
            multiply_pairs::<F, B>(dispatch, blocks, pairs, panel);
            return;
        }
    };
    let most = match dispatch.isa() {
        Isa::Avx512 => F::MOST_DIRECT,
        // Half the registers.
        _ => F::MOST_DIRECT.min(4),
    };
    // Groups that a block lacks must not be multiplied: inputs lack them too.
    if blocks.groups == GROUPS && inputs.len() <= most {
        // Powers of two, not every number: each is code of its own for each format, and unpacking
        // what lies in the first cache once more costs less than that.
        let mut rest = inputs;
        let ahead = panel.ahead;
        while !rest.is_empty() {
            let count = 1 << rest.len().ilog2();
            let (some, others) = rest.split_at(count);
            panel.ahead = ahead;
            match count {
                1 => direct::<F, B, 1>(dispatch, blocks, some, panel),
                2 => direct::<F, B, 2>(dispatch, blocks, some, panel),
                4 => direct::<F, B, 4>(dispatch, blocks, some, panel),
                8 => direct::<F, B, 8>(dispatch, blocks, some, panel),
                _ => unreachable!("no more than eight"),
            }
            rest = others;
        }
        return;
    }
    for block in (0..blocks.count).step_by(BLOCKS_AT_ONCE) {
        let count = BLOCKS_AT_ONCE.min(blocks.count - block);
        dispatch.run(Unpack {
            format: PhantomData::<F>,
            rows: blocks.rows,
            first: block,
            blocks: count,
            panel,
        });
        dispatch.run(Tiles {
            form: PhantomData::<F::Form>,
            panel,
            groups: (count - 1) * GROUPS + blocks.groups,
            inputs,
            span: Span {
                group: blocks.span.group + block * GROUPS,
                ..blocks.span
            },
        });
    }
}

/// As [`multiply`], two inputs at a time.
fn multiply_pairs<F: Format, B: Source>(
    dispatch: Dispatch,
    blocks: Blocks<B>,
    pairs: &[Pair],
    panel: &mut Panel,
) {
    if let Ok(pairs) = <&[Pair; DIRECT_PAIRS]>::try_from(pairs)
        && blocks.groups == GROUPS
        && 2 * DIRECT_PAIRS <= F::MOST_DIRECT
    {
        dispatch.run_pairs(DirectPairs {
            format: PhantomData::<F>,
            rows: blocks.rows,
            blocks: blocks.count,
            pairs,
            span: blocks.span,
            panel,
        });
        return;
    }
    for block in (0..blocks.count).step_by(BLOCKS_AT_ONCE) {
        let count = BLOCKS_AT_ONCE.min(blocks.count - block);
        dispatch.run_pairs(UnpackForPairs {
            format: PhantomData::<F>,
            rows: blocks.rows,
            first: block,
            blocks: count,
            panel,
        });
        dispatch.run_pairs(TilesOfPairs {
            form: PhantomData::<F::Form>,
            panel,
            groups: (count - 1) * GROUPS + blocks.groups,
            pairs,
            span: Span {
                group: blocks.span.group + block * GROUPS,
                ..blocks.span
            },
        });
    }
}

fn direct<F: Format, B: Source, const T: usize>(
    dispatch: Dispatch,
    blocks: Blocks<B>,
    inputs: &[Input],
    panel: &mut Panel,
) {
    dispatch.run(Direct::<F, B, T> {
        format: PhantomData,
        rows: blocks.rows,
        blocks: blocks.count,
        inputs,
        span: blocks.span,
        panel,
    });
}

/// A block's rows where some are missing, or end early: zeros take their place.
struct Edge([[u8; MAX_BYTES]; MAX_LANES]);

impl Edge {
    /// # Safety
    /// As many rows must have as many bytes.
    unsafe fn copy(&mut self, from: Rows, rows: usize, bytes: usize) -> Rows {
        for (index, row) in self.0[..rows].iter_mut().enumerate() {
            let to = row[..bytes].as_mut_ptr();
            // SAFETY: as the caller promises; the slice of the buffer is checked.
            unsafe { std::ptr::copy_nonoverlapping(from.row(index), to, bytes) };
        }
        Rows {
            first: self.0.as_ptr().cast(),
            stride: MAX_BYTES,
        }
    }
}
