//! What can go wrong in a step.

use tensor::OpError;

use crate::constraint::ConstraintError;
use crate::engine::SequenceId;

/// What can go wrong in a step.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// A sequence would grow past the context.
    #[error(
        "the sequence would hold {wanted} tokens and the context is {context}; shorten the prompt \
         or raise --ctx-size (-c)"
    )]
    ContextFull {
        /// Tokens it would hold.
        wanted: usize,
        /// Tokens it may hold.
        context: usize,
    },
    /// A token the model has no row for.
    #[error(
        "token id {token} is outside the vocabulary of {vocabulary}; were these ids made with \
         another model's tokenizer?"
    )]
    TokenOutOfRange {
        /// The id.
        token: u32,
        /// The rows of the embedding.
        vocabulary: usize,
    },
    /// No page or state is free.
    #[error("no {what} is free; end a sequence or start with more memory")]
    OutOfMemory {
        /// Page or state.
        what: &'static str,
    },
    /// A sequence that was ended or never started.
    #[error("there is no sequence {0:?}")]
    NoSuchSequence(SequenceId),
    /// The same sequence twice in one step.
    #[error("{0:?} appears twice in one step")]
    Twice(SequenceId),
    /// The answer's grammar cannot be followed any further.
    #[error(transparent)]
    Constraint(#[from] ConstraintError),
    /// The backend failed.
    #[error(transparent)]
    Op(#[from] OpError),
}
