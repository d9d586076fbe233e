//! Why there is no plan.

use tensor::OpError;

use super::anatomy::{Block, Piece};
use super::budget::Budget;
use super::placement::Device;

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
    /// It does not fit. Where places were looked for, the budget is the one of the placement that came
    /// nearest: CPU and RAM alone.
    #[error("{}", needed(budget))]
    DoesNotFit {
        /// What a device would have to hold.
        budget: Box<Budget>,
    },
}

impl From<OpError> for PlanError {
    fn from(error: OpError) -> Self {
        Self::Types(error.to_string())
    }
}

/// What a device is short of.
fn needed(budget: &Budget) -> String {
    let device = match budget.device {
        Device::Gpu(index) => format!("GPU {index}"),
        Device::Ram | Device::Nowhere => "RAM".to_owned(),
    };
    let mut parts = vec![
        (budget.weights, "weights"),
        (budget.keys_values, "keys and values"),
        (budget.states, "states"),
        (budget.buffers, "buffers"),
        (budget.reserve, "left to others"),
    ];
    if budget.driver > 0 {
        parts.insert(4, (budget.driver, "the driver's"));
    }
    let parts: Vec<String> = parts
        .iter()
        .map(|(bytes, what)| format!("{} {what}", gib(*bytes)))
        .collect();
    format!(
        "{} of {device} are needed ({}), and {} are free",
        gib(budget.needed()),
        parts.join(", "),
        gib(budget.free)
    )
}

/// Bytes in GiB, as people read them.
pub(super) fn gib(bytes: u64) -> String {
    format!("{:.2} GiB", bytes as f64 / f64::from(1 << 30))
}
