//! What two devices need beyond [`Ops`] so that one computes a part of the model for the other.

use crate::matrix::StoredMatrix;
use crate::ops::{MlpWeights, MoeWeights, OpError, Ops, StoredExperts};
use crate::reference::HostRouting;
use crate::tensor::Tensor;

/// A weight matrix of a device.
type Matrix<'a, O> = &'a <O as Ops>::Matrix;

/// A device with memory of its own, which can be copied to while it computes.
pub trait Accelerator: Ops {
    /// Room for some of a layer's experts, one to a slot, each brought by itself.
    type Slots;

    /// Room for all experts of a layer, of one layer after the other.
    type Room;

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

    /// Room for `slots` of a layer's experts, none of which is there.
    ///
    /// # Errors
    /// If there is no memory, or the experts are not of one shape and type.
    fn expert_slots(&self, stored: &StoredExperts, slots: usize) -> Result<Self::Slots, OpError>;

    /// Begins to copy an expert into a slot, beside the work that was asked for. What the slot had may
    /// still be read by that work, and by none that is asked for later.
    ///
    /// # Errors
    /// If there is no such slot, or the expert is unlike those that the slots were made for.
    fn bring_expert(
        &self,
        slots: &mut Self::Slots,
        slot: usize,
        expert: &MlpWeights<StoredMatrix>,
    ) -> Result<(), OpError>;

    /// Whether what was brought into a slot is there. It does not wait.
    fn has_come(&self, slots: &mut Self::Slots, slot: usize) -> Result<bool, OpError>;

    /// Says in which slot each of the layer's experts is to be found, from the next work on.
    fn set_slots(&self, slots: &mut Self::Slots, slot_of: &[Option<usize>]) -> Result<(), OpError>;

    /// [`Ops::experts`] without those that are in no slot: they add nothing, and the others' weights stay
    /// what they were.
    fn experts_in_slots(
        &self,
        x: &Self::Tensor,
        routing: &Self::Routing,
        weights: &MoeWeights<Matrix<'_, Self>, &Self::Slots>,
    ) -> Result<Self::Tensor, OpError>;

    /// Room for the experts of a layer, of which it has none. It gets its memory when it is filled.
    fn room(&self) -> Self::Room;

    /// Begins to copy all experts of a layer into a room, beside the work that was asked for; only work that
    /// reads the room is waited for.
    ///
    /// # Errors
    /// As [`Ops::load_experts`]. The room has nothing then.
    fn fill_room(&self, room: &mut Self::Room, stored: &StoredExperts) -> Result<(), OpError>;

    /// [`Ops::experts`] with those of a room, as soon as they have come.
    fn experts_in_room(
        &self,
        x: &Self::Tensor,
        routing: &Self::Routing,
        weights: MoeWeights<Matrix<'_, Self>, &mut Self::Room>,
    ) -> Result<Self::Tensor, OpError>;
}

/// The processor beside it, whose activations are plain ones.
pub trait Host: Ops<Tensor = Tensor> {
    /// Takes what another device chose, or a part of it: rows may have different numbers of experts.
    fn take_routing(&self, routing: HostRouting) -> Result<Self::Routing, OpError>;

    /// [`Ops::experts`] without a shared expert.
    fn routed_experts(
        &self,
        x: &Tensor,
        routing: &Self::Routing,
        experts: &Self::Experts,
    ) -> Result<Tensor, OpError>;
}
