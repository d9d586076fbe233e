//! Experts that are brought beside other work: some of a layer in slots, or all of one in a room.

use tensor::reference::shape_error;
use tensor::{MlpWeights, MoeWeights, OpError, StoredExperts, StoredMatrix};

use super::experts::Routing;
use crate::driver::{Event, Memory};
use crate::gpu::Gpu;
use crate::matrix::{ExpertLayouts, Experts, Matrix, Threads, expert_layouts};
use crate::tensor_on_device::Activations;

/// Room for some of a layer's experts.
pub struct Slots {
    layouts: ExpertLayouts,
    /// As many as there are slots.
    experts: Experts,
    states: Vec<State>,
    /// The slot of each of the layer's experts, as i32, or -1.
    slot_of: Memory,
    /// Of the layer.
    among: usize,
}

enum State {
    Empty,
    /// The point at which it is there.
    Coming(Event),
    Here,
}

/// Room for all experts of a layer.
#[derive(Default)]
pub struct Room {
    experts: Option<Experts>,
    /// The point at which they are there, until other work waits for it.
    come: Option<Event>,
    /// The point at which nothing that was asked for reads them any more.
    read: Option<Event>,
}

impl Gpu {
    pub(super) fn slots(&self, stored: &StoredExperts, slots: usize) -> Result<Slots, OpError> {
        let layouts = expert_layouts(stored)?;
        // Kernels that know these types are compiled with the others.
        layouts
            .each()
            .iter()
            .for_each(|layout| self.use_layout(layout));
        let memory = self.pool.allocate(layouts.bytes(slots)?)?;
        let among = stored.experts.len();
        let mut made = Slots {
            layouts,
            experts: layouts.experts(slots, memory),
            states: (0..slots).map(|_| State::Empty).collect(),
            slot_of: self.pool.allocate(among * size_of::<i32>())?,
            among,
        };
        self.set_slots_of(&mut made, &vec![None; among])?;
        Ok(made)
    }

    pub(super) fn bring_to_slot(
        &self,
        slots: &mut Slots,
        slot: usize,
        expert: &MlpWeights<StoredMatrix>,
    ) -> Result<(), OpError> {
        if ExpertLayouts::new(expert)? != slots.layouts {
            let found = format!("{} unlike the others", expert.gate.name);
            return shape_error("slots", "experts of one shape and type", found);
        }
        *slots.state(slot)? = State::Empty;
        // Work that was asked for may read what the slot had.
        self.copies.after_all()?;
        let expert = std::slice::from_ref(expert);
        self.bring_experts(expert, (&slots.experts, slot), Threads::Caller)?;
        *slots.state(slot)? = State::Coming(self.copies.mark()?);
        Ok(())
    }

    pub(super) fn set_slots_of(
        &self,
        slots: &mut Slots,
        slot_of: &[Option<usize>],
    ) -> Result<(), OpError> {
        if slot_of.len() != slots.among {
            let expected = format!("the slots of {} experts", slots.among);
            return shape_error("slots", expected, slot_of.len().to_string());
        }
        for &slot in slot_of.iter().flatten() {
            if !matches!(slots.state(slot)?, State::Here) {
                return shape_error("slots", "an expert that has come", format!("slot {slot}"));
            }
        }
        let numbers = slot_of
            .iter()
            .map(|slot| slot.map_or(-1, |slot| slot as i32));
        let bytes: Vec<u8> = numbers.flat_map(i32::to_le_bytes).collect();
        Ok(self.uploads.send(&slots.slot_of, 0, &bytes)?)
    }

    pub(super) fn run_experts_in_slots(
        &self,
        x: &Activations,
        routing: &Routing,
        weights: &MoeWeights<&Matrix, &Slots>,
    ) -> Result<Activations, OpError> {
        let slots = weights.experts;
        let shared = weights.shared.as_ref().map(|(mlp, _)| *mlp);
        let table = Some(&slots.slot_of);
        self.run_routed(x, routing, (&slots.experts, slots.among, table), shared)
    }

    pub(super) fn fill(&self, room: &mut Room, stored: &StoredExperts) -> Result<(), OpError> {
        let layouts = expert_layouts(stored)?;
        let count = stored.experts.len();
        let bytes = layouts.bytes(count)?;
        let had = room.experts.take().map(|experts| experts.memory);
        let read = room.read.take();
        room.come = None;
        let memory = match had.filter(|memory| memory.bytes() >= bytes) {
            Some(memory) => {
                if let Some(read) = read {
                    self.copies.after(&read)?;
                }
                memory
            }
            None => self.pool.allocate(bytes)?,
        };
        let experts = layouts.experts(count, memory);
        self.bring_experts(&stored.experts, (&experts, 0), Threads::Several)?;
        room.come = Some(self.copies.mark()?);
        room.experts = Some(experts);
        Ok(())
    }

    pub(super) fn run_experts_in_room(
        &self,
        x: &Activations,
        routing: &Routing,
        weights: MoeWeights<&Matrix, &mut Room>,
    ) -> Result<Activations, OpError> {
        let room = weights.experts;
        let Some(experts) = &room.experts else {
            return shape_error("experts", "a room with experts", "none");
        };
        if let Some(come) = &room.come {
            self.driver.wait_for(come)?;
        }
        room.come = None;
        let shared = weights.shared.as_ref().map(|(mlp, _)| *mlp);
        let sum = self.run_routed(x, routing, (experts, experts.count, None), shared);
        // Also where not all of it was asked for.
        room.read = Some(Event::record(&self.driver)?);
        sum
    }
}

impl Slots {
    fn state(&mut self, slot: usize) -> Result<&mut State, OpError> {
        let count = self.states.len();
        match self.states.get_mut(slot) {
            Some(state) => Ok(state),
            None => shape_error("slots", format!("a slot below {count}"), slot.to_string()),
        }
    }

    /// Whether what was brought into a slot is there.
    pub(super) fn has_come(&mut self, slot: usize) -> Result<bool, OpError> {
        let state = self.state(slot)?;
        Ok(match state {
            State::Empty => false,
            State::Here => true,
            State::Coming(point) => {
                let is_here = point.is_reached()?;
                if is_here {
                    *state = State::Here;
                }
                is_here
            }
        })
    }
}
