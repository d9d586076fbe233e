//! The door through which tokens are proposed before the model has chosen them.
//!
//! Drafts never change an answer: each is verified by the model in the next step, and the sampler
//! chooses as if it had not been there.

use std::ops::Range;
use std::sync::Arc;

use crate::engine::{Engine, SequenceId};
use crate::error::EngineError;
use crate::speculate::DraftCounts;

/// A sequence that may be given drafts.
#[derive(Debug, Clone, Copy)]
pub struct ToDraft<'a> {
    /// Which.
    pub sequence: SequenceId,
    /// Prompt and answer so far; the last one is chosen and not run yet.
    pub tokens: &'a [u32],
    /// The most drafts that can be used.
    pub most: usize,
}

/// Proposes how sequences go on.
///
/// For each sequence it may draft for, it is told of its beginning, of every token that was run,
/// and of its end. In each step it is asked for drafts, then told when the step was done.
pub trait Drafter: Send {
    /// A sequence of `past` tokens begins or goes on, to which others follow: `known` are known
    /// together. `hidden` is what [`Drafter::settle`] returned where it was copied.
    fn begin(&mut self, sequence: SequenceId, past: usize, known: usize, hidden: Option<&[f32]>);

    /// Whether [`Drafter::ran`] needs the hidden rows of a sequence's tokens at these positions.
    fn wants_hidden(&self, sequence: SequenceId, positions: Range<usize>) -> bool;

    /// Tokens of a sequence were run and stay: these are their hidden rows, if they are wanted.
    ///
    /// # Errors
    /// If the device fails.
    fn ran(
        &mut self,
        engine: &Engine,
        sequence: SequenceId,
        hidden: &[f32],
    ) -> Result<(), EngineError>;

    /// A sequence's pages and state are about to be copied. Returns what the copy has to know to
    /// [`Drafter::begin`]: the hidden row of the last token that was run.
    ///
    /// # Errors
    /// If the device fails.
    fn settle(
        &mut self,
        engine: &mut Engine,
        sequence: SequenceId,
        tokens: &[u32],
    ) -> Result<Option<Arc<[f32]>>, EngineError>;

    /// For each sequence the tokens that may follow, at most `most`, often none. The step that
    /// begins now has `others` rows beside one for each of these.
    ///
    /// # Errors
    /// If the device fails.
    fn draft(
        &mut self,
        engine: &mut Engine,
        sequences: &[ToDraft<'_>],
        others: usize,
    ) -> Result<Vec<Vec<u32>>, EngineError>;

    /// Tells what became of the drafts of a sequence.
    fn verified(&mut self, sequence: SequenceId, drafted: usize, accepted: usize);

    /// The step is done. It had so many rows, and `is_answering` says that none of them was of a
    /// prompt.
    fn stepped(&mut self, rows: usize, is_answering: bool);

    /// A sequence has ended.
    fn forget(&mut self, sequence: SequenceId);

    /// Figures since the start.
    fn counts(&self) -> DraftCounts;
}
