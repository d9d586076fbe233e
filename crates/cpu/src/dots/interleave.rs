//! Interleaving: words of a panel's rows side by side, as products want them.
//!
//! A matrix takes as many bytes as before, and each panel the same ones. So one that is read again
//! and again need not be transposed each time: a third to a half of the instructions of a product
//! with one input are gone, and a panel is one stream of bytes instead of sixteen.

use super::panel::{Format, Unit};
use super::words::Rows;
use crate::simd::{Dispatch, Kernel, MAX_LANES, Simd};

/// How rows of a matrix are to be interleaved.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Interleaving {
    /// What a row's bytes are, again and again.
    pub(crate) layout: &'static [Unit],
    pub(crate) row_bytes: usize,
    /// Rows of a panel.
    pub(crate) lanes: usize,
}

impl Interleaving {
    /// How to interleave rows of a format; `None` if that makes no sense for it or the instruction
    /// set, or if a row is no whole number of its blocks.
    pub(crate) fn of<F: Format>(dispatch: Dispatch, row_bytes: usize) -> Option<Self> {
        let is_possible =
            dispatch.interleaves() && !F::LAYOUT.is_empty() && row_bytes.is_multiple_of(F::BYTES);
        is_possible.then_some(Self {
            layout: F::LAYOUT,
            row_bytes,
            lanes: dispatch.lanes(),
        })
    }

    /// Copies rows, those of whole panels interleaved. The last rows, too few for a panel, stay as
    /// they are.
    ///
    /// # Panics
    /// If the two differ in length.
    pub(crate) fn copy(&self, dispatch: Dispatch, from: &[u8], to: &mut [u8]) {
        assert_eq!(from.len(), to.len());
        assert_eq!(self.lanes, dispatch.lanes());
        let panel = self.lanes * self.row_bytes;
        let (from_panels, to_panels) = (from.chunks_exact(panel), to.chunks_exact_mut(panel));
        let rest = from_panels.remainder();
        for (from, to) in from_panels.zip(to_panels) {
            dispatch.run(InterleavePanel {
                layout: self.layout,
                row_bytes: self.row_bytes,
                from,
                to,
            });
        }
        let start = to.len() - rest.len();
        to[start..].copy_from_slice(rest);
    }
}

/// Interleaves the rows of a panel.
struct InterleavePanel<'a> {
    layout: &'static [Unit],
    row_bytes: usize,
    from: &'a [u8],
    to: &'a mut [u8],
}

impl Kernel for InterleavePanel<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        assert_eq!(self.from.len(), S::LANES * self.row_bytes);
        assert_eq!(self.to.len(), self.from.len());
        let mut at = 0;
        while at < self.row_bytes {
            for unit in self.layout {
                let (count, bytes) = match *unit {
                    Unit::Words(count) => (count, 4),
                    Unit::Halves(count) => (count, 2),
                    Unit::Bytes(count) => (count, 1),
                };
                let mut done = 0;
                while bytes == 4 && done + 8 <= count {
                    let rows = Rows {
                        first: self.from[at..].as_ptr(),
                        stride: self.row_bytes,
                    };
                    assert!(at + 32 <= self.row_bytes);
                    // SAFETY: each row has 32 bytes from there on.
                    let words = unsafe { s.transpose_32(rows) };
                    let to = &mut self.to[S::LANES * at..S::LANES * (at + 32)];
                    for word in 0..8 {
                        let mut lanes = Lanes([0; 4 * MAX_LANES]);
                        // SAFETY: there is room for the largest vector, aligned to it.
                        unsafe { s.store_words(lanes.0.as_mut_ptr(), words[word]) };
                        let lanes = &lanes.0[..4 * S::LANES];
                        to[word * 4 * S::LANES..][..4 * S::LANES].copy_from_slice(lanes);
                    }
                    done += 8;
                    at += 32;
                }
                for _ in done..count {
                    for row in 0..S::LANES {
                        let from = &self.from[row * self.row_bytes + at..][..bytes];
                        self.to[S::LANES * at + row * bytes..][..bytes].copy_from_slice(from);
                    }
                    at += bytes;
                }
            }
        }
    }
}

/// A vector in memory.
#[repr(align(64))]
struct Lanes([u8; 4 * MAX_LANES]);
