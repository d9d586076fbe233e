//! The door through which tokens are proposed before the model has chosen them.
//!
//! Drafts never change an answer: each is verified by the model in the next step, and the sampler
//! chooses as if it had not been there.

use crate::engine::{Engine, SequenceId};
use crate::error::EngineError;

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
pub trait Drafter: Send {
    /// For each sequence the tokens that may follow, at most `most`, often none.
    ///
    /// # Errors
    /// If the device fails.
    fn draft(
        &mut self,
        engine: &mut Engine,
        sequences: &[ToDraft<'_>],
    ) -> Result<Vec<Vec<u32>>, EngineError>;

    /// Tells what became of the drafts of a sequence.
    fn verified(&mut self, sequence: SequenceId, drafted: usize, accepted: usize);

    /// A sequence has ended.
    fn forget(&mut self, sequence: SequenceId);
}
