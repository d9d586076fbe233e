//! Matrices cut into parts that pinned memory holds.

use std::ops::Range;

use tensor::StoredMatrix;

use crate::args;
use crate::driver::Memory;
use crate::matrix::Layout;

/// Where blocks of a part may begin.
const ALIGNMENT: usize = 256;

/// A matrix, and where it is to lie.
#[derive(Clone, Copy)]
pub(crate) struct Coming<'a> {
    pub(crate) stored: &'a StoredMatrix,
    pub(crate) layout: Layout,
    pub(crate) to: &'a Memory,
    pub(crate) offset: usize,
}

/// Rows of a matrix, and where in a slot they lie on their way.
pub(crate) struct Part<'a> {
    matrix: Coming<'a>,
    rows: Range<usize>,
    start: usize,
}

/// What is still to come.
pub(crate) struct Parts<'a> {
    matrices: &'a [Coming<'a>],
    /// The next row of the first.
    row: usize,
}

impl Coming<'_> {
    /// Bytes of a row on its way: blocks as they are stored, other values as they are to lie.
    fn row_bytes(&self) -> usize {
        match self.layout.is_quantised() {
            true => self.stored.row_bytes(),
            false => self.layout.row_bytes,
        }
    }

    /// All of it on its way.
    pub(crate) fn bytes(&self) -> usize {
        self.stored.rows() * self.row_bytes()
    }
}

impl<'a> Parts<'a> {
    /// All rows of these.
    pub(crate) fn of(matrices: &'a [Coming<'a>]) -> Self {
        let mut all = Self { matrices, row: 0 };
        all.pass_empty();
        all
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.matrices.is_empty()
    }

    pub(crate) fn longest_row(&self) -> usize {
        let rows = self.matrices.iter().map(Coming::row_bytes);
        rows.max().unwrap_or(0)
    }

    /// The next parts that go into a slot of so many bytes together: blocks, of several matrices if they fit, or
    /// rows that lie as they come, of one.
    pub(crate) fn next(&mut self, slot_bytes: usize) -> Vec<Part<'a>> {
        let mut parts: Vec<Part<'a>> = Vec::new();
        let mut start = 0usize;
        while let Some(&matrix) = self.matrices.first() {
            let is_alone = !matrix.layout.is_quantised();
            let left = slot_bytes.saturating_sub(start) / matrix.row_bytes();
            if left == 0 || (is_alone && !parts.is_empty()) {
                break;
            }
            let end = matrix.stored.rows().min(self.row.saturating_add(left));
            let part = Part {
                matrix,
                rows: self.row..end,
                start,
            };
            start = part.end().next_multiple_of(ALIGNMENT);
            parts.push(part);
            self.row = end;
            self.pass_empty();
            if is_alone {
                break;
            }
        }
        parts
    }

    /// Passes over matrices of which nothing is left to come.
    fn pass_empty(&mut self) {
        while let [first, rest @ ..] = self.matrices
            && (self.row == first.stored.rows() || first.row_bytes() == 0)
        {
            (self.matrices, self.row) = (rest, 0);
        }
    }
}

impl Part<'_> {
    /// Where in a slot it begins.
    pub(crate) fn start(&self) -> usize {
        self.start
    }

    pub(crate) fn bytes(&self) -> usize {
        self.rows.len() * self.matrix.row_bytes()
    }

    pub(crate) fn end(&self) -> usize {
        self.start + self.bytes()
    }

    /// Whether it is to be laid out in planes.
    pub(crate) fn is_blocks(&self) -> bool {
        self.matrix.layout.is_quantised()
    }

    /// Where it is to lie, if it is no blocks.
    pub(crate) fn place(&self) -> (&Memory, usize) {
        let Coming { to, offset, .. } = self.matrix;
        (to, offset + self.rows.start * self.matrix.row_bytes())
    }

    /// What is told to lay out its blocks, but for where these are.
    pub(crate) fn repack(&self) -> args::Repack {
        let Coming {
            layout, to, offset, ..
        } = &self.matrix;
        args::Repack {
            blocks: 0,
            to: layout.args(to, *offset),
            first_row: self.rows.start as i32,
            rows: self.rows.len() as i32,
        }
    }

    /// Groups of its blocks.
    pub(crate) fn groups(&self) -> usize {
        self.rows.len() * (self.matrix.layout.cols / 32)
    }

    /// Writes it to its place in a slot.
    pub(crate) fn write(&self, slot: &mut [u8]) {
        let out = &mut slot[self.start..self.end()];
        let Coming { stored, layout, .. } = &self.matrix;
        let (row_bytes, stored_bytes) = (self.matrix.row_bytes(), stored.row_bytes());
        let is_as_stored = layout.dtype == stored.dtype() && stored.scales().is_none();
        if is_as_stored && row_bytes == stored_bytes {
            let (first, end) = (self.rows.start * row_bytes, self.rows.end * row_bytes);
            return out.copy_from_slice(&stored.bytes()[first..end]);
        }
        // Padded, or of a type for which f32 stands.
        let mut values = vec![0.0f32; if is_as_stored { 0 } else { stored.cols() }];
        for (row, out) in self.rows.clone().zip(out.chunks_exact_mut(row_bytes)) {
            let used = if is_as_stored {
                let bytes = &stored.bytes()[row * stored_bytes..][..stored_bytes];
                out[..stored_bytes].copy_from_slice(bytes);
                stored_bytes
            } else {
                stored.decode_row(row, &mut values);
                let (places, _) = out.as_chunks_mut::<4>();
                for (place, value) in places.iter_mut().zip(&values) {
                    *place = value.to_le_bytes();
                }
                size_of_val(&values[..])
            };
            out[used..].fill(0);
        }
    }
}
