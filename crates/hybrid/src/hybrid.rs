//! The backend: two devices, and what is where.

use std::sync::Arc;

/// Where weights or a layer's memory are, and what computes with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    /// The accelerator and its memory.
    Accelerator,
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

/// The op contract on two devices. A clone is the same devices.
#[derive(Debug, Clone)]
pub struct Hybrid<A, H> {
    pub(crate) accelerator: A,
    pub(crate) host: H,
    pub(crate) places: Arc<Places>,
    /// Rows from which on a layer's experts are copied to the accelerator rather than computed by the host.
    pub(crate) stream_from: usize,
    pub(crate) loads_to: Place,
}

impl<A: Clone, H: Clone> Hybrid<A, H> {
    /// Two devices with layers in these places. With at least `stream_from` rows in a step, experts that
    /// lie on the host are copied to the accelerator, which needs room for those of one layer; `None` leaves
    /// them to the host always.
    pub fn new(accelerator: A, host: H, places: Places, stream_from: Option<usize>) -> Self {
        Self {
            accelerator,
            host,
            places: Arc::new(places),
            stream_from: stream_from.unwrap_or(usize::MAX),
            loads_to: Place::Accelerator,
        }
    }

    /// The same devices; weights that this one loads go to `place`.
    pub fn loading_to(&self, place: Place) -> Self {
        Self {
            loads_to: place,
            ..self.clone()
        }
    }

    /// The accelerator.
    pub fn accelerator(&self) -> &A {
        &self.accelerator
    }
}
