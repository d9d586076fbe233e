//! The backend: its devices, and what is where.

use std::sync::{Arc, Mutex};

use tensor::{Accelerator, OpError};

use crate::expert_cache::{Copies, ExpertCounts, ExpertUse};
use crate::streaming::{Rooms, Streamed};

/// Where weights or a layer's memory are, and what computes with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    /// An accelerator and its memory, by its number.
    Accelerator(usize),
    /// The processor and RAM.
    Host,
}

/// Where the memory of sequences is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Places {
    /// Keys and values of each attention layer.
    pub attention: Vec<Place>,
    /// The state of each delta layer.
    pub delta: Vec<Place>,
}

/// How experts that lie on the host are copied to the accelerator of their layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copying {
    /// Rows of a step from which on all of a layer's experts are copied and computed there; `None` for never.
    pub stream_from: Option<usize>,
    /// Layers for which there is room then on each accelerator: with two, one is copied while the other is
    /// computed with; with none, none is copied.
    pub rooms: usize,
    /// Bytes of single experts, to be kept, that are copied in a step to an accelerator at most; one expert may
    /// be in any case, unless it is 0.
    pub bytes_per_step: usize,
}

impl Default for Copying {
    /// Nothing is copied.
    fn default() -> Self {
        Self {
            stream_from: None,
            rooms: 1,
            bytes_per_step: 0,
        }
    }
}

/// The op contract on accelerators and a host. A clone is the same devices.
pub struct Hybrid<A: Accelerator, H> {
    pub(crate) host: H,
    pub(crate) loads_to: Place,
    /// Where the rest of a layer is whose experts go to the host, and which share of them has copies there.
    pub(crate) copies_to: Option<(usize, f64)>,
    pub(crate) shared: Arc<Shared<A>>,
}

/// What all clones have.
pub(crate) struct Shared<A: Accelerator> {
    pub(crate) accelerators: Box<[A]>,
    pub(crate) places: Places,
    /// Rows from which on a layer's experts are streamed.
    pub(crate) stream_from: usize,
    pub(crate) streamed: Mutex<Streamed>,
    /// Of each accelerator.
    pub(crate) rooms: Box<[Mutex<Rooms<A>>]>,
    pub(crate) copies: Box<[Mutex<Copies<A>>]>,
    pub(crate) uses: ExpertUse,
}

impl<A: Accelerator, H: Clone> Clone for Hybrid<A, H> {
    fn clone(&self) -> Self {
        Self {
            host: self.host.clone(),
            shared: Arc::clone(&self.shared),
            ..*self
        }
    }
}

impl<A: Accelerator, H: Clone> Hybrid<A, H> {
    /// Devices with layers in these places.
    ///
    /// # Panics
    /// If there is no accelerator.
    pub fn new(accelerators: Vec<A>, host: H, places: Places, copying: Copying) -> Self {
        assert!(!accelerators.is_empty(), "there is an accelerator");
        let count = accelerators.len();
        let rooms = (0..count).map(|_| Mutex::new(Rooms::new(copying.rooms)));
        let copies = (0..count).map(|_| Mutex::new(Copies::new(copying.bytes_per_step)));
        Self {
            host,
            loads_to: Place::Accelerator(0),
            copies_to: None,
            shared: Arc::new(Shared {
                rooms: rooms.collect(),
                copies: copies.collect(),
                accelerators: accelerators.into(),
                places,
                stream_from: match copying.rooms {
                    0 => usize::MAX,
                    _ => copying.stream_from.unwrap_or(usize::MAX),
                },
                streamed: Mutex::default(),
                uses: ExpertUse::default(),
            }),
        }
    }

    /// The same devices; weights that this one loads go to `place`.
    pub fn loading_to(&self, place: Place) -> Self {
        Self {
            loads_to: place,
            copies_to: None,
            ..self.clone()
        }
    }

    /// The same devices; experts that this one loads go to the host, with room on an accelerator for copies of
    /// a share of each layer's, from 0 to 1.
    pub fn loading_beside(&self, accelerator: usize, share: f64) -> Self {
        Self {
            loads_to: Place::Host,
            copies_to: Some((accelerator, share)),
            ..self.clone()
        }
    }
}

impl<A: Accelerator, H> Hybrid<A, H> {
    /// Where hits and misses of experts' copies are counted.
    pub fn expert_use(&self) -> ExpertUse {
        self.shared.uses.clone()
    }

    /// Hits and misses of experts' copies so far.
    pub fn expert_counts(&self) -> ExpertCounts {
        self.shared.uses.counts()
    }

    pub(crate) fn accelerators(&self) -> &[A] {
        &self.shared.accelerators
    }

    pub(crate) fn places(&self) -> &Places {
        &self.shared.places
    }

    pub(crate) fn accelerator(&self, number: usize) -> Result<&A, OpError> {
        self.of(&self.shared.accelerators, number)
    }

    /// What belongs to an accelerator.
    pub(crate) fn of<'a, T>(&'a self, all: &'a [T], number: usize) -> Result<&'a T, OpError> {
        let found = all.get(number);
        found.ok_or_else(|| OpError::Shape {
            op: "hybrid",
            expected: format!("one of {} accelerators", self.accelerators().len()),
            found: format!("number {number}"),
        })
    }
}
