//! Sequence memory on both sides: each has that of its own layers.

use tensor::{Accelerator, Buffer, Host, MemoryLayout, OpError, PageId, StateId, StateSnapshot};

use crate::hybrid::{Hybrid, Place};

/// Pages and states of all sequences. A side without layers has none.
pub struct Memory<A: Accelerator, H: Host> {
    pub(crate) accelerator: Option<A::Memory>,
    pub(crate) host: Option<H::Memory>,
    /// Of the accelerator's layers: of a state, and of a page if the host has layers too.
    state_bytes: usize,
    page_bytes: usize,
}

/// A layer of one side, by its number among that side's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Local {
    Accelerator(usize),
    Host(usize),
}

/// Which of a side's layers layer `layer` is.
pub(crate) fn local(places: &[Place], layer: usize) -> Result<Local, OpError> {
    let Some(&place) = places.get(layer) else {
        return Err(OpError::Shape {
            op: "hybrid",
            expected: format!("a layer below {}", places.len()),
            found: format!("layer {layer}"),
        });
    };
    let before = count(&places[..layer], place);
    Ok(match place {
        Place::Accelerator => Local::Accelerator(before),
        Place::Host => Local::Host(before),
    })
}

fn count(places: &[Place], place: Place) -> usize {
    places.iter().filter(|&&there| there == place).count()
}

/// A side's memory, which there is where a layer is.
pub(crate) fn some<M>(memory: Option<M>) -> Result<M, OpError> {
    memory.ok_or_else(|| OpError::Memory("a layer without memory".into()))
}

impl<A: Accelerator, H: Host> Hybrid<A, H> {
    pub(crate) fn memory(&self, layout: &MemoryLayout) -> Result<Memory<A, H>, OpError> {
        let places = &self.places;
        let found = (places.attention.len(), places.delta.len());
        if found != (layout.attention_layers, layout.delta_layers) {
            return Err(OpError::Memory(format!(
                "places for {} attention and {} delta layers of {} and {}",
                found.0, found.1, layout.attention_layers, layout.delta_layers
            )));
        }
        let of = |place| MemoryLayout {
            attention_layers: count(&places.attention, place),
            delta_layers: count(&places.delta, place),
            ..layout.clone()
        };
        let has_layers = |layout: &MemoryLayout| layout.attention_layers + layout.delta_layers > 0;
        let (here, there) = (of(Place::Accelerator), of(Place::Host));
        let accelerator = has_layers(&here).then(|| self.accelerator.new_memory(&here));
        let accelerator = accelerator.transpose()?;
        let host = has_layers(&there).then(|| self.host.new_memory(&there));
        let host = host.transpose()?;
        // Only the accelerator knows its own form.
        let page_bytes = match (&accelerator, &host) {
            (Some(memory), Some(_)) if layout.pages > 0 => {
                self.accelerator.read_page(memory, PageId(0))?.len()
            }
            _ => 0,
        };
        Ok(Memory {
            accelerator,
            host,
            state_bytes: here.state_bytes(),
            page_bytes,
        })
    }

    /// A page of both sides: the accelerator's layers, then the host's.
    pub(crate) fn read_both(
        &self,
        memory: &Memory<A, H>,
        page: PageId,
    ) -> Result<Vec<u8>, OpError> {
        let mut bytes = match &memory.accelerator {
            Some(memory) => self.accelerator.read_page(memory, page)?,
            None => Vec::new(),
        };
        if let Some(host) = &memory.host {
            bytes.extend(self.host.read_page(host, page)?);
        }
        Ok(bytes)
    }

    pub(crate) fn write_both(
        &self,
        memory: &mut Memory<A, H>,
        page: PageId,
        bytes: &[u8],
    ) -> Result<(), OpError> {
        let (here, there) = match &memory.host {
            Some(_) => bytes.split_at_checked(memory.page_bytes).ok_or_else(|| {
                let len = bytes.len();
                OpError::Memory(format!("a page of {len} bytes does not fit this placement"))
            })?,
            None => (bytes, &[][..]),
        };
        if let Some(memory) = &mut memory.accelerator {
            self.accelerator.write_page(memory, page, here)?;
        }
        match &mut memory.host {
            Some(memory) => self.host.write_page(memory, page, there),
            None => Ok(()),
        }
    }

    /// A state of both sides: the accelerator's layers, then the host's.
    pub(crate) fn snapshot_both(
        &self,
        memory: &Memory<A, H>,
        state: StateId,
    ) -> Result<StateSnapshot, OpError> {
        let here = memory.accelerator.as_ref();
        let here = here.map(|memory| self.accelerator.snapshot(memory, state));
        let there = memory.host.as_ref();
        let there = there.map(|memory| self.host.snapshot(memory, state));
        match (here.transpose()?, there.transpose()?) {
            (Some(here), Some(there)) => {
                let mut values = Buffer::zeroed(here.values.len() + there.values.len())?;
                let (first, rest) = values.split_at_mut(here.values.len());
                first.copy_from_slice(&here.values);
                rest.copy_from_slice(&there.values);
                Ok(StateSnapshot { values })
            }
            (Some(one), None) | (None, Some(one)) => Ok(one),
            (None, None) => some(None),
        }
    }

    pub(crate) fn restore_both(
        &self,
        memory: &mut Memory<A, H>,
        state: StateId,
        snapshot: &StateSnapshot,
    ) -> Result<(), OpError> {
        match (&mut memory.accelerator, &mut memory.host) {
            (Some(here), Some(there)) => {
                let own = memory.state_bytes / size_of::<f32>();
                let Some((first, rest)) = snapshot.values.split_at_checked(own) else {
                    return Err(OpError::Memory(format!(
                        "a snapshot of {} bytes does not fit this placement",
                        snapshot.bytes()
                    )));
                };
                let part = |values: &[f32]| -> Result<StateSnapshot, OpError> {
                    let mut buffer = Buffer::zeroed(values.len())?;
                    buffer.copy_from_slice(values);
                    Ok(StateSnapshot { values: buffer })
                };
                self.accelerator.restore(here, state, &part(first)?)?;
                self.host.restore(there, state, &part(rest)?)
            }
            (Some(memory), None) => self.accelerator.restore(memory, state, snapshot),
            (None, Some(memory)) => self.host.restore(memory, state, snapshot),
            (None, None) => Ok(()),
        }
    }
}
