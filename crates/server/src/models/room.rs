//! Room for one more model: who has to leave.

use std::sync::PoisonError;

use super::LoadError;
use super::registry::{Registry, State};
use super::status::{Leaving, Phase, Slot};

/// Whoever wanted the model has left.
#[derive(Debug, thiserror::Error)]
#[error("nobody waits for the model any more")]
pub(super) struct NobodyWaits;

impl Registry {
    /// Waits until there is room for a model that is being loaded, and makes it: what was used least
    /// recently has to leave, idle models before busy ones. Answers under way come to their ends.
    ///
    /// # Errors
    /// When nobody waits for the model any more, or the server is going down.
    pub(super) fn make_room(&self, model: usize) -> Result<(), LoadError> {
        let mut state = self.held();
        loop {
            let is_wanted = state.slots.get(model).is_some_and(|slot| slot.leases > 0);
            if state.is_closed || !is_wanted {
                // Those told to leave for this one may stay.
                let for_room = |slot: &&mut Slot| slot.leaving == Leaving::ForRoom;
                let leaving = state.slots.iter_mut().filter(for_room);
                leaving.for_each(|slot| slot.leaving = Leaving::No);
                self.tell();
                return Err(Box::new(NobodyWaits));
            }
            if self.fits(&state, model, false) {
                if let Some(slot) = state.slots.get_mut(model)
                    && let Phase::Loading { has_room, .. } = &mut slot.phase
                {
                    *has_room = true;
                }
                return Ok(());
            }
            let is_idle = |number: &usize| {
                let slot = state.slots.get(*number);
                slot.is_some_and(|slot| slot.leaving != Leaving::No && slot.leases == 0)
            };
            let leaving = loaded(&state).find(is_idle);
            if let Some(idle) = leaving {
                state = self.end(state, idle);
                continue;
            }
            if !self.fits(&state, model, true)
                && let Some(next) = next_to_leave(&state)
                && let Some(slot) = state.slots.get_mut(next)
            {
                slot.leaving = Leaving::ForRoom;
                continue;
            }
            let waited = self.changed.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Whether there is room for a model; with `without_leaving`, once those have left that were
    /// told to.
    fn fits(&self, state: &State, model: usize, without_leaving: bool) -> bool {
        let (mut count, mut bytes) = (0, 0);
        for (number, (slot, offer)) in state.slots.iter().zip(&self.offers).enumerate() {
            let has_left = without_leaving && slot.leaving != Leaving::No;
            if number != model && slot.holds_memory() && !has_left {
                count += 1;
                bytes += offer.facts.file_bytes;
            }
        }
        let own = self.offers.get(model).map_or(0, |o| o.facts.file_bytes);
        let has_bytes = self.limits.bytes.is_none_or(|most| bytes + own <= most);
        count == 0 || (count < self.limits.most && has_bytes)
    }
}

fn loaded(state: &State) -> impl Iterator<Item = usize> {
    let slots = state.slots.iter().enumerate();
    slots
        .filter(|(_, slot)| matches!(slot.phase, Phase::Loaded(_)))
        .map(|(number, _)| number)
}

/// The loaded model that leaves next.
fn next_to_leave(state: &State) -> Option<usize> {
    let slots = state.slots.iter().enumerate();
    slots
        .filter(|(_, slot)| matches!(slot.phase, Phase::Loaded(_)) && slot.leaving == Leaving::No)
        .min_by_key(|(_, slot)| (slot.leases > 0, slot.used))
        .map(|(number, _)| number)
}
