//! Holding a model, so that it is not unloaded.

use std::sync::Arc;
use std::time::Instant;

use super::registry::Registry;
use super::{KeptLoaded, Place};
use crate::model::ServedModel;
use crate::worker::Worker;

/// Counts as a user of a model, loaded or not.
pub(crate) struct Ticket {
    registry: Arc<Registry>,
    model: usize,
}

impl Ticket {
    /// One more user; `leases` is the count of that model, whose lock the caller holds.
    pub(super) fn new(registry: &Arc<Registry>, model: usize, leases: &mut usize) -> Self {
        *leases += 1;
        Self {
            registry: Arc::clone(registry),
            model,
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.registry.change(|slots| {
            if let Some(slot) = slots.get_mut(self.model) {
                slot.leases = slot.leases.saturating_sub(1);
                slot.used = Instant::now();
            }
        });
    }
}

/// The use of a loaded model: it stays loaded until this is dropped, and its ticket.
pub(crate) struct Lease {
    /// Dropped before the ticket, so that whoever finds no users finds no way to the thread either.
    worker: Worker,
    served: Arc<ServedModel>,
    place: Place,
    ticket: Arc<Ticket>,
}

impl Lease {
    pub(super) fn new(
        place: Place,
        worker: Worker,
        served: Arc<ServedModel>,
        ticket: Ticket,
    ) -> Self {
        Self {
            worker,
            served,
            place,
            ticket: Arc::new(ticket),
        }
    }

    pub(crate) fn model(&self) -> &Arc<ServedModel> {
        &self.served
    }

    /// What answers call the model.
    pub(crate) fn name(&self) -> String {
        self.served.name().to_owned()
    }

    /// What keeps the model loaded.
    pub(crate) fn ticket(&self) -> Arc<Ticket> {
        Arc::clone(&self.ticket)
    }

    pub(crate) fn worker(&self) -> &Worker {
        &self.worker
    }

    /// For how long the model stays loaded when nobody uses it any more.
    pub(crate) fn keep(&self, kept: KeptLoaded) {
        let registry = &self.ticket.registry;
        registry.change(|slots| {
            if let Some(slot) = slots.get_mut(self.place.model) {
                slot.kept = Some(kept);
            }
        });
    }
}
