//! A ragged batch: for each sequence a run of new tokens and the memory it owns.
//!
//! There is no separate decode path anywhere: decode is a span of one row.

use std::ops::Range;

/// A page of key/value memory; the same id in every attention layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PageId(pub u32);

/// A slot for one sequence's recurrent state; the same id in every delta layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StateId(pub u32);

/// One sequence's part of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// The batch's rows that belong to this sequence, in order of position.
    pub rows: Range<usize>,
    /// How many of the sequence's tokens are in the key/value pages already.
    pub past: usize,
    /// The sequence's pages in order; together they hold at least `past + rows.len()` tokens.
    pub pages: Vec<PageId>,
    /// The sequence's recurrent state.
    pub state: StateId,
}

/// The new tokens of one step, for all sequences in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// `[rows]`
    pub tokens: Vec<u32>,
    /// `[rows]`: the M-RoPE positions (time, height, width) of each token; three times the same
    /// for text.
    pub positions: Vec<[u32; 3]>,
    /// Disjoint, ascending and covering all rows.
    pub spans: Vec<Span>,
}

impl Batch {
    /// The number of new tokens.
    pub fn rows(&self) -> usize {
        self.tokens.len()
    }

    /// Adds a run of text tokens for one sequence, at positions `past..`.
    pub fn push_text(&mut self, tokens: &[u32], past: usize, pages: Vec<PageId>, state: StateId) {
        let start = self.rows();
        self.tokens.extend_from_slice(tokens);
        self.positions
            .extend((past..past + tokens.len()).map(|at| [at as u32; 3]));
        self.spans.push(Span {
            rows: start..self.rows(),
            past,
            pages,
            state,
        });
    }
}
