//! Layers whose experts come over the link as a whole, for steps of many rows.
//!
//! Rooms of an accelerator are filled one after the other. Where there are two, the next layer's experts are
//! copied while this one's are computed with. What a room has stays right, for weights do not change.

use std::sync::Arc;

use tensor::{Accelerator, OpError, StoredExperts};

/// An accelerator's rooms, the one used last at the end.
pub(crate) struct Rooms<A: Accelerator> {
    most: usize,
    rooms: Vec<Held<A>>,
}

struct Held<A: Accelerator> {
    layer: Option<usize>,
    room: A::Room,
}

/// Layers whose experts are on the host, in the order in which they were loaded.
#[derive(Debug, Default)]
pub(crate) struct Streamed(Vec<Layer>);

#[derive(Debug)]
struct Layer {
    stored: Arc<StoredExperts>,
    /// Where they are used, once they were.
    on: Option<usize>,
}

impl Streamed {
    /// One more; returns its number.
    pub(crate) fn push(&mut self, stored: &Arc<StoredExperts>) -> usize {
        self.0.push(Layer {
            stored: Arc::clone(stored),
            on: None,
        });
        self.0.len() - 1
    }

    /// Takes note of where a layer is used.
    pub(crate) fn used_on(&mut self, layer: usize, accelerator: usize) {
        if let Some(layer) = self.0.get_mut(layer) {
            layer.on = Some(accelerator);
        }
    }

    /// The layer after this one, with where it is used, if both are known.
    pub(crate) fn after(&self, layer: usize) -> Option<(usize, usize, Arc<StoredExperts>)> {
        let next = self.0.get(layer + 1)?;
        Some((layer + 1, next.on?, Arc::clone(&next.stored)))
    }
}

impl<A: Accelerator> Rooms<A> {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            most: most.max(1),
            rooms: Vec::new(),
        }
    }

    /// A room in which a layer's experts are, or are coming to.
    pub(crate) fn with(
        &mut self,
        accelerator: &A,
        layer: usize,
        stored: &StoredExperts,
    ) -> Result<&mut A::Room, OpError> {
        let found = self.rooms.iter().position(|room| room.layer == Some(layer));
        let held = match found {
            Some(index) => self.rooms.remove(index),
            None => {
                let mut held = if self.rooms.len() < self.most {
                    let room = accelerator.room();
                    Held { layer: None, room }
                } else {
                    self.rooms.remove(0)
                };
                held.layer = None;
                let filled = accelerator.fill_room(&mut held.room, stored);
                if filled.is_ok() {
                    held.layer = Some(layer);
                }
                self.rooms.push(held);
                filled?;
                return self.last();
            }
        };
        self.rooms.push(held);
        self.last()
    }

    fn last(&mut self) -> Result<&mut A::Room, OpError> {
        let last = self.rooms.last_mut().map(|held| &mut held.room);
        last.ok_or_else(|| OpError::Memory("no room for a layer's experts".into()))
    }

    /// Whether a layer can come while another is computed with.
    pub(crate) fn has_two(&self) -> bool {
        self.most > 1
    }
}
