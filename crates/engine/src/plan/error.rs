//! Why there is no plan.

use tensor::OpError;

use super::anatomy::{Block, Piece};
use super::budget::Budget;

/// Why there is no plan.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// A tensor cannot have the size its header says.
    #[error("tensor {name} cannot have its shape in its type; the file is damaged")]
    Tensor {
        /// Its name.
        name: String,
    },
    /// Something that every model has is not there.
    #[error("the file has no tensors for {piece:?} of {block:?}; is this a whole model?")]
    Missing {
        /// Where.
        block: Block,
        /// What.
        piece: Piece,
    },
    /// Keys or values cannot be stored so.
    #[error("{0}")]
    Types(String),
    /// It does not fit. The budget is the one of the placement that came nearest: CPU and RAM alone.
    #[error(
        "{} of RAM are needed ({} weights, {} keys and values, {} states, {} buffers, {} left to others), \
         and {} are free",
        gib(budget.needed()), gib(budget.weights), gib(budget.keys_values), gib(budget.states),
        gib(budget.buffers), gib(budget.reserve), gib(budget.free)
    )]
    DoesNotFit {
        /// What RAM alone would have to hold.
        budget: Box<Budget>,
    },
}

impl From<OpError> for PlanError {
    fn from(error: OpError) -> Self {
        Self::Types(error.to_string())
    }
}

/// Bytes in GiB, as people read them.
pub(super) fn gib(bytes: u64) -> String {
    format!("{:.2} GiB", bytes as f64 / f64::from(1 << 30))
}
