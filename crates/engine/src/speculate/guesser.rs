//! Who computes drafts: the model's own head, or another model.

use std::ops::Range;
use std::sync::Arc;

use super::draft_model::DraftModel;
use super::head::{Done, Head, ToGuess};
use crate::engine::{Engine, SequenceId};
use crate::error::EngineError;

/// Computes drafts. What it has to be told differs; the rest is the same for both.
#[derive(Debug)]
pub(super) enum Guesser {
    Head(Head),
    Model(Box<DraftModel>),
}

impl Guesser {
    /// Follows a sequence from now on; see [`Head::begin`].
    pub(super) fn begin(
        &mut self,
        sequence: SequenceId,
        past: usize,
        known: usize,
        hidden: Option<&[f32]>,
    ) {
        match self {
            Self::Head(head) => head.begin(sequence, past, known, hidden),
            Self::Model(model) => model.begin(sequence),
        }
    }

    pub(super) fn follows(&self, sequence: SequenceId) -> bool {
        match self {
            Self::Head(head) => head.follows(sequence),
            Self::Model(model) => model.follows(sequence),
        }
    }

    /// Whether it can guess for a sequence of which so many tokens were run.
    pub(super) fn is_ready(&self, sequence: SequenceId, past: usize) -> bool {
        match self {
            Self::Head(head) => head.is_ready(sequence, past),
            Self::Model(model) => model.follows(sequence),
        }
    }

    /// Whether it wants hidden rows of these positions.
    pub(super) fn wants(&self, sequence: SequenceId, positions: &Range<usize>) -> bool {
        match self {
            Self::Head(head) => head.wants(sequence, positions),
            Self::Model(_) => false,
        }
    }

    pub(super) fn forget(&mut self, sequence: SequenceId) {
        match self {
            Self::Head(head) => head.forget(sequence),
            Self::Model(model) => model.forget(sequence),
        }
    }

    /// Takes the hidden rows of the last tokens that were run and stay.
    pub(super) fn ran(
        &mut self,
        engine: &Engine,
        sequence: SequenceId,
        rows: &[f32],
    ) -> Result<(), EngineError> {
        match self {
            Self::Head(head) => head.ran(engine, sequence, rows),
            Self::Model(_) => Ok(()),
        }
    }

    /// Is ready for a sequence's pages to be copied; see [`Head::settle`].
    pub(super) fn settle(
        &mut self,
        engine: &mut Engine,
        sequence: SequenceId,
        tokens: &[u32],
    ) -> Result<Option<Arc<[f32]>>, EngineError> {
        match self {
            Self::Head(head) => head.settle(engine, sequence, tokens),
            Self::Model(_) => Ok(None),
        }
    }

    /// Drafts for several sequences at once, as many tokens as each asks for.
    pub(super) fn guess(
        &mut self,
        engine: &mut Engine,
        sequences: &[ToGuess<'_>],
        done: impl FnMut(Done),
    ) -> Result<Vec<Vec<u32>>, EngineError> {
        match self {
            Self::Head(head) => head.guess(engine, sequences, done),
            Self::Model(model) => Ok(model.guess(sequences, done)),
        }
    }
}
