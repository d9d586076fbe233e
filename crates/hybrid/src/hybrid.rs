//! The backend: its devices, and what is where.

use std::sync::Arc;

use tensor::OpError;

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

/// The op contract on accelerators and a host. A clone is the same devices.
#[derive(Debug, Clone)]
pub struct Hybrid<A, H> {
    pub(crate) accelerators: Arc<[A]>,
    pub(crate) host: H,
    pub(crate) places: Arc<Places>,
    /// Rows from which on a layer's experts are copied to the accelerator rather than computed by the host.
    pub(crate) stream_from: usize,
    pub(crate) loads_to: Place,
}

impl<A: Clone, H: Clone> Hybrid<A, H> {
    /// Devices with layers in these places. With at least `stream_from` rows in a step, experts that lie on
    /// the host are copied to the accelerator of their layer, which needs room for those of one; `None`
    /// leaves them to the host always.
    ///
    /// # Panics
    /// If there is no accelerator.
    pub fn new(accelerators: Vec<A>, host: H, places: Places, stream_from: Option<usize>) -> Self {
        assert!(!accelerators.is_empty(), "there is an accelerator");
        Self {
            accelerators: accelerators.into(),
            host,
            places: Arc::new(places),
            stream_from: stream_from.unwrap_or(usize::MAX),
            loads_to: Place::Accelerator(0),
        }
    }

    /// The same devices; weights that this one loads go to `place`.
    pub fn loading_to(&self, place: Place) -> Self {
        Self {
            loads_to: place,
            ..self.clone()
        }
    }
}

impl<A, H> Hybrid<A, H> {
    pub(crate) fn accelerator(&self, number: usize) -> Result<&A, OpError> {
        let found = self.accelerators.get(number);
        found.ok_or_else(|| OpError::Shape {
            op: "hybrid",
            expected: format!("one of {} accelerators", self.accelerators.len()),
            found: format!("number {number}"),
        })
    }
}
