//! What two devices need beyond [`Ops`] so that one computes a part of the model for the other.

use crate::ops::{MlpWeights, OpError, Ops};
use crate::reference::HostRouting;
use crate::tensor::Tensor;

/// A weight matrix of a device.
type Matrix<'a, O> = &'a <O as Ops>::Matrix;

/// A device with memory of its own.
pub trait Accelerator: Ops {
    /// Copies activations to the host, which waits for them.
    fn download(&self, x: &Self::Tensor) -> Result<Tensor, OpError>;

    /// Copies to the host which experts were chosen. The host waits.
    fn download_routing(&self, routing: &Self::Routing) -> Result<HostRouting, OpError>;

    /// The part of [`Ops::experts`] that every token has: `shared` of `x`, times `sigmoid(gate x)`
    /// (section 7).
    fn shared_expert(
        &self,
        x: &Self::Tensor,
        shared: (MlpWeights<Matrix<'_, Self>>, Matrix<'_, Self>),
    ) -> Result<Self::Tensor, OpError>;

    /// Adds `addend` to `x` in place.
    fn add(&self, x: &mut Self::Tensor, addend: &Self::Tensor) -> Result<(), OpError>;
}

/// The processor beside it, whose activations are plain ones.
pub trait Host: Ops<Tensor = Tensor> {
    /// Takes what another device chose.
    ///
    /// # Errors
    /// If rows have different numbers of experts.
    fn take_routing(&self, routing: HostRouting) -> Result<Self::Routing, OpError>;

    /// [`Ops::experts`] without a shared expert.
    fn routed_experts(
        &self,
        x: &Tensor,
        routing: &Self::Routing,
        experts: &Self::Experts,
    ) -> Result<Tensor, OpError>;
}
