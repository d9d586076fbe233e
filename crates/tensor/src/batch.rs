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
    /// How many of the state's held rows, from the first, are applied to it before these rows;
    /// the others are forgotten. They are the rows of an earlier span that turned out to stay.
    pub replay: usize,
    /// Whether these rows are held back: computed as always, but not applied to the state, where
    /// they wait as its held rows for a later `replay`.
    pub hold: bool,
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
        self.push_speculative(tokens, past, pages, state, 0, false);
    }

    /// Adds a run of text tokens as [`Batch::push_text`] does, for a sequence under speculation:
    /// the first `replay` rows of the run before are known to stay, and if `hold` is set it is not
    /// known yet which of these rows will (see [`Span`]). `past` counts what stays.
    pub fn push_speculative(
        &mut self,
        tokens: &[u32],
        past: usize,
        pages: Vec<PageId>,
        state: StateId,
        replay: usize,
        hold: bool,
    ) {
        let start = self.rows();
        self.tokens.extend_from_slice(tokens);
        self.positions
            .extend((past..past + tokens.len()).map(|at| [at as u32; 3]));
        self.spans.push(Span {
            rows: start..self.rows(),
            past,
            pages,
            state,
            replay,
            hold,
        });
    }
}
