//! The walk over a stripe of quantised rows and all inputs: unpack, multiply, next.

use std::marker::PhantomData;

use super::panel::{Format, GROUPS, Panel};
use super::tile::{Direct, InputsOf, MAX_INPUTS, Tile, Unpack};
use super::words::Rows;
use crate::activations::Quantised;
use crate::isa::Isa;
use crate::matrix::Destination;
use crate::simd::{Dispatch, MAX_LANES};

/// Inputs that are multiplied before the next panel's turn: so many stay in the second cache.
const INPUTS_AT_ONCE: usize = 96;
/// As many bytes as the longest block has, or more.
const MAX_BYTES: usize = 288;

/// Some consecutive rows of a quantised matrix, and the place of their products.
pub(crate) struct Stripe<'a> {
    pub(crate) weights: *const u8,
    pub(crate) row_bytes: usize,
    pub(crate) rows: usize,
    pub(crate) inputs: &'a Quantised,
    /// The rows of `inputs` to multiply with.
    pub(crate) tokens: &'a [u32],
    pub(crate) to: Destination,
}

/// Blocks of a panel's rows.
struct Place {
    rows: Rows,
    /// The first row, and how many are meant: fewer than lanes at the end.
    row: usize,
    lanes: usize,
    /// The first block, and how many groups of it are in use.
    block: usize,
    groups: usize,
}

impl Stripe<'_> {
    /// Computes the products.
    ///
    /// # Safety
    /// The weights must be `rows` rows of the format, `inputs` as long as they are, and the
    /// destination free.
    pub(crate) unsafe fn dots<F: Format>(&self, dispatch: Dispatch) {
        let lanes = dispatch.lanes();
        let mut panel = Panel::new();
        let mut edge = Edge([[0; MAX_BYTES]; MAX_LANES]);
        let (whole, rest) = (self.row_bytes / F::BYTES, self.row_bytes % F::BYTES);
        for first in (0..self.tokens.len()).step_by(INPUTS_AT_ONCE) {
            let inputs = first..self.tokens.len().min(first + INPUTS_AT_ONCE);
            for row in (0..self.rows).step_by(lanes) {
                let rows = Rows {
                    first: self.weights.wrapping_add(row * self.row_bytes),
                    stride: self.row_bytes,
                };
                let mut place = Place {
                    rows,
                    row,
                    lanes: lanes.min(self.rows - row),
                    block: 0,
                    groups: GROUPS,
                };
                panel.ahead = rows.row(lanes);
                if place.lanes == lanes && whole > 0 {
                    // SAFETY: a whole panel has whole blocks.
                    unsafe {
                        self.blocks::<F>(dispatch, &place, whole, inputs.clone(), &mut panel)
                    };
                    place.block = whole;
                }
                // What is left has rows or bytes missing.
                let blocks = self.row_bytes.div_ceil(F::BYTES);
                while place.block < blocks {
                    let bytes = if place.block < whole { F::BYTES } else { rest };
                    let from = rows.skip(place.block * F::BYTES);
                    // SAFETY: as many rows and bytes exist.
                    place.rows = unsafe { edge.copy(from, place.lanes, bytes) };
                    place.groups = bytes * GROUPS / F::BYTES;
                    // SAFETY: the edge has all lanes.
                    unsafe { self.blocks::<F>(dispatch, &place, 1, inputs.clone(), &mut panel) };
                    place.block += 1;
                }
            }
        }
    }

    /// Multiplies some blocks with inputs.
    ///
    /// # Safety
    /// The blocks must exist for all lanes.
    unsafe fn blocks<F: Format>(
        &self,
        dispatch: Dispatch,
        place: &Place,
        blocks: usize,
        inputs: std::ops::Range<usize>,
        panel: &mut Panel,
    ) {
        // The groups that a block lacks must not be multiplied: inputs lack them too.
        let whole = place.groups == GROUPS;
        match inputs.len() {
            1 if whole => self.direct::<F, 1>(dispatch, place, blocks, inputs.start, panel),
            2 if whole => self.direct::<F, 2>(dispatch, place, blocks, inputs.start, panel),
            _ => {
                for index in 0..blocks {
                    let place = Place {
                        rows: place.rows.skip(index * F::BYTES),
                        block: place.block + index,
                        ..*place
                    };
                    dispatch.run(Unpack {
                        format: PhantomData::<F>,
                        rows: place.rows,
                        panel,
                    });
                    self.tiles::<F>(dispatch, &place, panel, inputs.clone());
                    panel.ahead = panel.ahead.wrapping_add(dispatch.lanes() * F::BYTES);
                }
            }
        }
    }

    /// Multiplies an unpacked block with inputs, in tiles of about the same size.
    fn tiles<F: Format>(
        &self,
        dispatch: Dispatch,
        place: &Place,
        panel: &Panel,
        inputs: std::ops::Range<usize>,
    ) {
        // AVX2 has half the registers.
        let most = match dispatch.isa() {
            Isa::Avx512 => MAX_INPUTS,
            Isa::Avx2 | Isa::Scalar => 4,
        };
        let tiles = inputs.len().div_ceil(most);
        let mut at = inputs.start;
        for tile in 0..tiles {
            let count = (inputs.len() + tile) / tiles;
            match count {
                1 => self.tile::<F, 1>(dispatch, place, panel, at),
                2 => self.tile::<F, 2>(dispatch, place, panel, at),
                3 => self.tile::<F, 3>(dispatch, place, panel, at),
                4 => self.tile::<F, 4>(dispatch, place, panel, at),
                5 => self.tile::<F, 5>(dispatch, place, panel, at),
                6 => self.tile::<F, 6>(dispatch, place, panel, at),
                7 => self.tile::<F, 7>(dispatch, place, panel, at),
                8 => self.tile::<F, 8>(dispatch, place, panel, at),
                _ => unreachable!("tiles have at most eight inputs"),
            }
            at += count;
        }
    }

    fn tile<F: Format, const T: usize>(
        &self,
        dispatch: Dispatch,
        place: &Place,
        panel: &Panel,
        at: usize,
    ) {
        dispatch.run(Tile::<F::Form, T> {
            form: PhantomData,
            panel,
            groups: place.groups,
            inputs: self.inputs_of(place, at, 1),
        });
    }

    fn direct<F: Format, const T: usize>(
        &self,
        dispatch: Dispatch,
        place: &Place,
        blocks: usize,
        at: usize,
        panel: &mut Panel,
    ) {
        dispatch.run(Direct::<F, T> {
            format: PhantomData,
            rows: place.rows,
            blocks,
            inputs: self.inputs_of(place, at, blocks),
            panel,
        });
    }

    /// `T` inputs from `at` on, at some blocks.
    #[inline(always)]
    fn inputs_of<const T: usize>(&self, place: &Place, at: usize, blocks: usize) -> InputsOf<T> {
        let mut groups = [std::ptr::null(); T];
        let mut outputs = [std::ptr::null_mut(); T];
        let in_use = (blocks - 1) * GROUPS + place.groups;
        for t in 0..T {
            let row = self.inputs.row(self.tokens[at + t] as usize);
            groups[t] = row[place.block * GROUPS..][..in_use].as_ptr();
            outputs[t] = self.to.row(at + t).wrapping_add(place.row);
        }
        InputsOf {
            groups,
            outputs,
            lanes: place.lanes,
            is_first: place.block == 0,
        }
    }
}

/// A block's rows where some are missing, or end early: zeros take their place.
struct Edge([[u8; MAX_BYTES]; MAX_LANES]);

impl Edge {
    /// # Safety
    /// As many rows must have as many bytes.
    unsafe fn copy(&mut self, from: Rows, rows: usize, bytes: usize) -> Rows {
        for (index, row) in self.0.iter_mut().enumerate() {
            row.fill(0);
            if index < rows {
                // SAFETY: as the caller promises; slices of the buffer are checked.
                unsafe {
                    let to = row[..bytes].as_mut_ptr();
                    std::ptr::copy_nonoverlapping(from.row(index), to, bytes);
                }
            }
        }
        Rows {
            first: self.0.as_ptr().cast(),
            stride: MAX_BYTES,
        }
    }
}
