//! Weights, each on its side.

use std::sync::Arc;

use tensor::reference::shape_error;
use tensor::{Accelerator, Host, MlpWeights, MoeWeights, OpError, StoredExperts};

use crate::expert_cache::ExpertCache;
use crate::hybrid::Place;

/// A weight matrix.
pub enum Matrix<A: Accelerator, H: Host> {
    /// Of an accelerator, by its number.
    Accelerator(usize, A::Matrix),
    /// Of the host.
    Host(H::Matrix),
}

/// Small parameters, which every device has.
pub struct Vector<A: Accelerator, H: Host> {
    pub(crate) accelerators: Vec<A::Vector>,
    pub(crate) host: H::Vector,
}

/// All experts of a layer.
pub enum Experts<A: Accelerator, H: Host> {
    /// Of an accelerator, by its number.
    Accelerator(usize, A::Experts),
    /// Of the host.
    Host(HostExperts<A, H>),
}

/// A layer's experts on the host.
pub struct HostExperts<A: Accelerator, H: Host> {
    /// As the host uses them.
    pub(crate) experts: H::Experts,
    /// As they are stored, for the accelerator.
    pub(crate) stored: Arc<StoredExperts>,
    /// Its number among those on the host.
    pub(crate) layer: usize,
    /// Copies of some.
    pub(crate) cache: Option<Arc<ExpertCache<A>>>,
}

/// Which experts each row uses, where they were chosen.
pub enum Routing<A: Accelerator, H: Host> {
    /// By an accelerator, by its number.
    Accelerator(usize, A::Routing),
    /// By the host.
    Host(H::Routing),
}

impl<A: Accelerator, H: Host> Vector<A, H> {
    pub(crate) fn here(&self, number: usize) -> Result<&A::Vector, OpError> {
        let found = self.accelerators.get(number);
        found.ok_or_else(|| OpError::Memory(format!("parameters without accelerator {number}")))
    }
}

impl<A: Accelerator, H: Host> Matrix<A, H> {
    pub(crate) fn place(&self) -> Place {
        match self {
            Self::Accelerator(number, _) => Place::Accelerator(*number),
            Self::Host(_) => Place::Host,
        }
    }

    pub(crate) fn here(&self, number: usize) -> Result<&A::Matrix, OpError> {
        match self {
            Self::Accelerator(own, matrix) if *own == number => Ok(matrix),
            _ => apart(Place::Accelerator(number), self.place()),
        }
    }

    pub(crate) fn there(&self) -> Result<&H::Matrix, OpError> {
        match self {
            Self::Host(matrix) => Ok(matrix),
            Self::Accelerator(..) => apart(Place::Host, self.place()),
        }
    }
}

/// The same weights of another form.
pub(crate) fn mlp<M: Copy, N>(
    weights: MlpWeights<M>,
    form: impl Fn(M) -> Result<N, OpError>,
) -> Result<MlpWeights<N>, OpError> {
    Ok(MlpWeights {
        gate: form(weights.gate)?,
        up: form(weights.up)?,
        down: form(weights.down)?,
    })
}

/// The same block with `experts`, and its other weights of another form.
pub(crate) fn moe<M: Copy, E, N, F>(
    weights: &MoeWeights<M, E>,
    experts: F,
    form: impl Fn(M) -> Result<N, OpError>,
) -> Result<MoeWeights<N, F>, OpError> {
    let shared = match weights.shared {
        Some((shared, gate)) => Some((mlp(shared, &form)?, form(gate)?)),
        None => None,
    };
    Ok(MoeWeights {
        router: form(weights.router)?,
        top_k: weights.top_k,
        renormalise: weights.renormalise,
        experts,
        shared,
    })
}

pub(crate) fn apart<T>(expected: Place, found: Place) -> Result<T, OpError> {
    shape_error(
        "hybrid",
        format!("weights that are used together on {expected:?}"),
        format!("one on {found:?}"),
    )
}
