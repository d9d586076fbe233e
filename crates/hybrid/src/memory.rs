//! Sequence memory on every side: each has that of its own layers.

use tensor::{Accelerator, Buffer, Host, MemoryLayout, OpError, PageId, StateId, StateSnapshot};

use crate::hybrid::{Hybrid, Place};

/// Pages and states of all sequences. A side without layers has none.
pub struct Memory<A: Accelerator, H: Host> {
    /// One for each accelerator.
    pub(crate) accelerators: Vec<Option<A::Memory>>,
    pub(crate) host: Option<H::Memory>,
    /// Of each accelerator's layers: of a page, and of a state.
    parts: Vec<Part>,
}

#[derive(Debug, Clone, Copy)]
struct Part {
    page_bytes: usize,
    state_values: usize,
}

/// Where layer `layer` is, and which of that side's layers it is.
pub(crate) fn local(places: &[Place], layer: usize) -> Result<(Place, usize), OpError> {
    let Some(&place) = places.get(layer) else {
        return Err(OpError::Shape {
            op: "hybrid",
            expected: format!("a layer below {}", places.len()),
            found: format!("layer {layer}"),
        });
    };
    Ok((place, count(&places[..layer], place)))
}

fn count(places: &[Place], place: Place) -> usize {
    places.iter().filter(|&&there| there == place).count()
}

fn no_memory() -> OpError {
    OpError::Memory("a layer without memory".into())
}

impl<A: Accelerator, H: Host> Memory<A, H> {
    pub(crate) fn here(&self, number: usize) -> Result<&A::Memory, OpError> {
        let memory = self.accelerators.get(number).and_then(Option::as_ref);
        memory.ok_or_else(no_memory)
    }

    pub(crate) fn here_mut(&mut self, number: usize) -> Result<&mut A::Memory, OpError> {
        let memory = self.accelerators.get_mut(number).and_then(Option::as_mut);
        memory.ok_or_else(no_memory)
    }

    pub(crate) fn there(&self) -> Result<&H::Memory, OpError> {
        self.host.as_ref().ok_or_else(no_memory)
    }

    pub(crate) fn there_mut(&mut self) -> Result<&mut H::Memory, OpError> {
        self.host.as_mut().ok_or_else(no_memory)
    }
}

impl<A: Accelerator, H: Host> Hybrid<A, H> {
    pub(crate) fn memory(&self, layout: &MemoryLayout) -> Result<Memory<A, H>, OpError> {
        let places = self.places();
        let found = (places.attention.len(), places.delta.len());
        if found != (layout.attention_layers, layout.delta_layers) {
            return Err(OpError::Memory(format!(
                "places for {} attention and {} delta layers of {} and {}",
                found.0, found.1, layout.attention_layers, layout.delta_layers
            )));
        }
        let of = |place| {
            let layout = MemoryLayout {
                attention_layers: count(&places.attention, place),
                delta_layers: count(&places.delta, place),
                ..layout.clone()
            };
            (layout.attention_layers + layout.delta_layers > 0).then_some(layout)
        };
        let (mut accelerators, mut parts) = (Vec::new(), Vec::new());
        for (number, accelerator) in self.accelerators().iter().enumerate() {
            let layout = of(Place::Accelerator(number));
            let memory = layout.as_ref().map(|layout| accelerator.new_memory(layout));
            let memory = memory.transpose()?;
            // Only the accelerator knows its own form of a page.
            let page_bytes = match &memory {
                Some(memory) if layout.as_ref().is_some_and(|layout| layout.pages > 0) => {
                    accelerator.read_page(memory, PageId(0))?.len()
                }
                _ => 0,
            };
            let state_bytes = layout.map_or(0, |layout| layout.state_bytes());
            accelerators.push(memory);
            parts.push(Part {
                page_bytes,
                state_values: state_bytes / size_of::<f32>(),
            });
        }
        let host = of(Place::Host).map(|layout| self.host.new_memory(&layout));
        Ok(Memory {
            accelerators,
            host: host.transpose()?,
            parts,
        })
    }

    /// What every side does to its memory; accelerators are told their number.
    pub(crate) fn on_each(
        &self,
        memory: &mut Memory<A, H>,
        mut here: impl FnMut(usize, &A, &mut A::Memory) -> Result<(), OpError>,
        there: impl FnOnce(&H, &mut H::Memory) -> Result<(), OpError>,
    ) -> Result<(), OpError> {
        let sides = self.accelerators().iter().zip(&mut memory.accelerators);
        for (number, (accelerator, memory)) in sides.enumerate() {
            if let Some(memory) = memory {
                here(number, accelerator, memory)?;
            }
        }
        match &mut memory.host {
            Some(memory) => there(&self.host, memory),
            None => Ok(()),
        }
    }

    /// A page of all sides: the accelerators' layers, then the host's.
    pub(crate) fn read_all(&self, memory: &Memory<A, H>, page: PageId) -> Result<Vec<u8>, OpError> {
        let mut bytes = Vec::new();
        for (accelerator, memory) in self.accelerators().iter().zip(&memory.accelerators) {
            if let Some(memory) = memory {
                bytes.extend(accelerator.read_page(memory, page)?);
            }
        }
        if let Some(memory) = &memory.host {
            bytes.extend(self.host.read_page(memory, page)?);
        }
        Ok(bytes)
    }

    pub(crate) fn write_all(
        &self,
        memory: &mut Memory<A, H>,
        page: PageId,
        bytes: &[u8],
    ) -> Result<(), OpError> {
        let parts = memory.parts.iter().map(|part| part.page_bytes);
        let (own, rest) = cut(bytes, parts, memory.host.is_some()).ok_or_else(|| {
            let len = bytes.len();
            OpError::Memory(format!("a page of {len} bytes does not fit this placement"))
        })?;
        self.on_each(
            memory,
            |number, accelerator, memory| accelerator.write_page(memory, page, own[number]),
            |host, memory| host.write_page(memory, page, rest),
        )
    }

    /// A state of all sides: the accelerators' layers, then the host's.
    pub(crate) fn snapshot_all(
        &self,
        memory: &Memory<A, H>,
        state: StateId,
    ) -> Result<StateSnapshot, OpError> {
        let mut parts = Vec::new();
        for (accelerator, memory) in self.accelerators().iter().zip(&memory.accelerators) {
            if let Some(memory) = memory {
                parts.push(accelerator.snapshot(memory, state)?);
            }
        }
        if let Some(memory) = &memory.host {
            parts.push(self.host.snapshot(memory, state)?);
        }
        if parts.len() == 1 {
            return Ok(parts.remove(0));
        }
        let mut values = Buffer::zeroed(parts.iter().map(|part| part.values.len()).sum())?;
        let mut rest = &mut values[..];
        for part in &parts {
            let (first, after) = rest.split_at_mut(part.values.len());
            first.copy_from_slice(&part.values);
            rest = after;
        }
        Ok(StateSnapshot { values })
    }

    pub(crate) fn restore_all(
        &self,
        memory: &mut Memory<A, H>,
        state: StateId,
        snapshot: &StateSnapshot,
    ) -> Result<(), OpError> {
        let wrong = || {
            let bytes = snapshot.bytes();
            OpError::Memory(format!(
                "a snapshot of {bytes} bytes does not fit this placement"
            ))
        };
        let parts = memory.parts.iter().map(|part| part.state_values);
        let has_host = memory.host.is_some();
        let (own, rest) = cut(&snapshot.values, parts, has_host).ok_or_else(wrong)?;
        let part = |values: &[f32]| -> Result<StateSnapshot, OpError> {
            let mut buffer = Buffer::zeroed(values.len())?;
            buffer.copy_from_slice(values);
            Ok(StateSnapshot { values: buffer })
        };
        self.on_each(
            memory,
            |number, accelerator, memory| accelerator.restore(memory, state, &part(own[number])?),
            |host, memory| host.restore(memory, state, &part(rest)?),
        )
    }
}

/// What is in pieces of these lengths, and what is left; `None` if there is not so much, or something is
/// left that nobody has.
fn cut<T>(
    mut all: &[T],
    lengths: impl Iterator<Item = usize>,
    may_be_left: bool,
) -> Option<(Vec<&[T]>, &[T])> {
    let mut pieces = Vec::new();
    for len in lengths {
        let (piece, rest) = all.split_at_checked(len)?;
        pieces.push(piece);
        all = rest;
    }
    (may_be_left || all.is_empty()).then_some((pieces, all))
}
