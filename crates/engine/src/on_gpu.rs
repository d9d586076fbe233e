//! GPUs with the processor beside them, and which of them has which part of a model.

use cpu::Cpu;
use gpu::Gpu;
use hybrid::{Copying, Hybrid, Place, Places};
use model::weights::Part;
use model::{Config, LayerKind};
use tensor::OpError;

use crate::plan::{Device, Placement};

/// GPUs, with the processor beside them for what is not on them.
#[derive(Debug, Clone)]
pub struct OnGpu {
    /// The devices, at least one, as the placement numbers them.
    pub gpus: Vec<Gpu>,
    /// What computes with weights in RAM.
    pub host: Cpu,
    /// Where each part goes; `None` for all of it on the first GPU.
    pub placement: Option<Placement>,
    /// Rows of a step from which on the experts of a layer that lie in RAM are copied to the GPU instead of
    /// computed by the processor; `None` for never, as where the placement has no room for them.
    pub stream_from: Option<usize>,
    /// Bytes of single experts that are copied to a GPU in a step at most, to be kept where the placement has
    /// room for copies.
    pub copied_per_step: usize,
}

impl OnGpu {
    /// What decides how it rounds.
    pub(crate) fn numerics(&self) -> String {
        let gpus: Vec<String> = self.gpus.iter().map(Gpu::numerics).collect();
        match &self.placement {
            None => gpus.join(", "),
            Some(placement) => {
                // How many copies there is room for depends on what is free at a start; that there are some is
                // what matters.
                let mut placement = placement.clone();
                placement.stream_rooms = 0;
                for place in &mut placement.layers {
                    place.cached = if place.cached > 0.0 { 1.0 } else { 0.0 };
                }
                let (host, from) = (self.host.numerics(), self.stream_from);
                format!("{gpus:?}, {host}, {placement:?}, {from:?}")
            }
        }
    }

    /// The backend for a model of these sizes, with the processor as `host`.
    ///
    /// # Errors
    /// If a part is to go to a GPU that there is not.
    pub(crate) fn backend(&self, config: &Config, host: Cpu) -> Result<Hybrid<Gpu, Cpu>, OpError> {
        let count = self.gpus.len();
        let devices = self.placement.as_ref().map(Placement::devices);
        let is_missing = |device: &Device| matches!(device, Device::Gpu(gpu) if *gpu >= count);
        let missing = devices.unwrap_or_default().into_iter().find(is_missing);
        if let Some(device) = missing.or((count == 0).then_some(Device::Gpu(0))) {
            return Err(OpError::Memory(format!(
                "a part of the model is to go to {device:?}, and there are {count} GPUs"
            )));
        }
        let layers = (0..).zip(&config.layers);
        let of_kind = |wanted: LayerKind| {
            layers
                .clone()
                .filter(move |(_, kind)| **kind == wanted)
                .map(|(layer, _)| self.place(Part::Layer(layer)))
        };
        // The engine makes pages for the layer of drafts whether it is used or not.
        let of_drafts = std::iter::repeat_n(self.place(Part::Mtp), config.mtp_layers.min(1));
        let places = Places {
            attention: of_kind(LayerKind::Attention).chain(of_drafts).collect(),
            delta: of_kind(LayerKind::Delta).collect(),
        };
        let placement = self.placement.as_ref();
        let copying = Copying {
            stream_from: self.stream_from,
            rooms: placement.map_or(1, |placement| placement.stream_rooms),
            bytes_per_step: self.copied_per_step,
        };
        Ok(Hybrid::new(self.gpus.clone(), host, places, copying))
    }

    /// The backends that load each layer's experts where they are in RAM and a GPU keeps copies of some.
    pub(crate) fn copied(&self, backend: &Hybrid<Gpu, Cpu>) -> Vec<Option<Hybrid<Gpu, Cpu>>> {
        let layers = self
            .placement
            .iter()
            .flat_map(|placement| &placement.layers);
        let of_layer = layers.map(|place| match (place.rest, place.experts) {
            (Device::Gpu(gpu), Device::Ram) if place.cached > 0.0 => {
                Some(backend.loading_beside(gpu, place.cached))
            }
            _ => None,
        });
        of_layer.collect()
    }

    /// Where a part goes.
    pub(crate) fn place(&self, part: Part) -> Place {
        let Some(placement) = &self.placement else {
            return Place::Accelerator(0);
        };
        let layer = |layer: usize| placement.layers.get(layer);
        let device = match part {
            Part::Embedding => Some(placement.embedding),
            Part::Layer(index) => layer(index).map(|place| place.rest),
            Part::Experts(index) => layer(index).map(|place| place.experts),
            Part::Head => Some(placement.head),
            Part::Mtp => Some(match placement.mtp {
                Device::Nowhere => placement.head,
                device => device,
            }),
        };
        match device {
            Some(Device::Ram) => Place::Host,
            Some(Device::Gpu(number)) => Place::Accelerator(number),
            // Nothing that is loaded stays in the file.
            Some(Device::Nowhere) | None => Place::Accelerator(0),
        }
    }
}
