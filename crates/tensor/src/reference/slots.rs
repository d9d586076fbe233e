//! The reference in the place of an accelerator, whose memory is the host's.

use super::{HostRouting, Reference, check_shape, moe, shape_error};
use crate::handover::Accelerator;
use crate::matrix::StoredMatrix;
use crate::ops::{MlpWeights, MoeWeights, OpError, StoredExperts};
use crate::tensor::Tensor;

type Mlp = MlpWeights<StoredMatrix>;

/// Some experts of a layer. One that is brought is there when that is asked for the second time, so that
/// who does not wait for it is told.
#[derive(Debug, Clone)]
pub struct ReferenceSlots {
    slots: Vec<Slot>,
    slot_of: Vec<Option<usize>>,
}

#[derive(Debug, Clone)]
enum Slot {
    Empty,
    /// It was asked so often whether it is there.
    Coming(Mlp, usize),
    Here(Mlp),
}

/// All experts of a layer, if any.
#[derive(Debug, Clone, Default)]
pub struct ReferenceRoom(Option<StoredExperts>);

impl ReferenceSlots {
    fn slot(&mut self, slot: usize) -> Result<&mut Slot, OpError> {
        let count = self.slots.len();
        match self.slots.get_mut(slot) {
            Some(slot) => Ok(slot),
            None => shape_error("slots", format!("a slot below {count}"), slot.to_string()),
        }
    }

    /// Experts that are in slots, and routing among them.
    fn chosen(&self, routing: &HostRouting) -> Result<(StoredExperts, HostRouting), OpError> {
        let mut experts = Vec::new();
        let mut choices = Vec::new();
        for row in &routing.choices {
            let mut here = Vec::new();
            for &(expert, weight) in row {
                let Some(slot) = self.slot_of.get(expert).copied().flatten() else {
                    continue;
                };
                let Some(Slot::Here(mlp)) = self.slots.get(slot) else {
                    let found = format!("expert {expert} in slot {slot}, where none is");
                    return shape_error("slots", "an expert that has come", found);
                };
                here.push((experts.len(), weight));
                experts.push(mlp.clone());
            }
            choices.push(here);
        }
        Ok((StoredExperts { experts }, HostRouting { choices }))
    }
}

impl Accelerator for Reference {
    type Slots = ReferenceSlots;
    type Room = ReferenceRoom;

    fn download(&self, x: &Tensor) -> Result<Tensor, OpError> {
        Ok(x.clone())
    }

    fn download_routing(&self, routing: &HostRouting) -> Result<HostRouting, OpError> {
        Ok(routing.clone())
    }

    fn shared_expert(
        &self,
        x: &Tensor,
        shared: (MlpWeights<&StoredMatrix>, &StoredMatrix),
    ) -> Result<Tensor, OpError> {
        moe::shared_expert(x, shared)
    }

    fn add(&self, x: &mut Tensor, addend: &Tensor) -> Result<(), OpError> {
        check_shape("add", "an addend", addend, x.rows(), x.cols())?;
        for (x, addend) in x.data_mut().iter_mut().zip(addend.data()) {
            *x += addend;
        }
        Ok(())
    }

    fn expert_slots(
        &self,
        stored: &StoredExperts,
        slots: usize,
    ) -> Result<ReferenceSlots, OpError> {
        Ok(ReferenceSlots {
            slots: vec![Slot::Empty; slots],
            slot_of: vec![None; stored.experts.len()],
        })
    }

    fn bring_expert(
        &self,
        slots: &mut ReferenceSlots,
        slot: usize,
        expert: &Mlp,
    ) -> Result<(), OpError> {
        *slots.slot(slot)? = Slot::Coming(expert.clone(), 0);
        Ok(())
    }

    fn has_come(&self, slots: &mut ReferenceSlots, slot: usize) -> Result<bool, OpError> {
        let slot = slots.slot(slot)?;
        Ok(match slot {
            Slot::Coming(mlp, 1) => {
                *slot = Slot::Here(mlp.clone());
                true
            }
            Slot::Coming(_, asked) => {
                *asked += 1;
                false
            }
            Slot::Here(_) => true,
            Slot::Empty => false,
        })
    }

    fn set_slots(
        &self,
        slots: &mut ReferenceSlots,
        slot_of: &[Option<usize>],
    ) -> Result<(), OpError> {
        slots.slot_of = slot_of.to_vec();
        Ok(())
    }

    fn experts_in_slots(
        &self,
        x: &Tensor,
        routing: &HostRouting,
        weights: &MoeWeights<&StoredMatrix, &ReferenceSlots>,
    ) -> Result<Tensor, OpError> {
        let (experts, routing) = weights.experts.chosen(routing)?;
        moe::experts(x, &routing, &experts, weights.shared)
    }

    fn room(&self) -> ReferenceRoom {
        ReferenceRoom::default()
    }

    fn fill_room(&self, room: &mut ReferenceRoom, stored: &StoredExperts) -> Result<(), OpError> {
        room.0 = Some(stored.clone());
        Ok(())
    }

    fn experts_in_room(
        &self,
        x: &Tensor,
        routing: &HostRouting,
        weights: MoeWeights<&StoredMatrix, &mut ReferenceRoom>,
    ) -> Result<Tensor, OpError> {
        let Some(experts) = &weights.experts.0 else {
            return shape_error("experts", "a room with experts", "none");
        };
        moe::experts(x, routing, experts, weights.shared)
    }
}
