//! A GPU with the processor beside it, and which of them has which part of a model.

use cpu::Cpu;
use gpu::Gpu;
use hybrid::{Hybrid, Place, Places};
use model::weights::Part;
use model::{Config, LayerKind};

use crate::plan::{Device, Placement};

/// A GPU, with the processor beside it for what is not on it.
#[derive(Debug, Clone)]
pub struct OnGpu {
    /// The device.
    pub gpu: Gpu,
    /// What computes with weights in RAM.
    pub host: Cpu,
    /// Where each part goes; `None` for all of it on the GPU.
    pub placement: Option<Placement>,
    /// Rows of a step from which on the experts of a layer that lie in RAM are copied to the GPU instead of
    /// computed by the processor; `None` for never. The GPU needs room for those of one layer.
    pub stream_from: Option<usize>,
}

impl OnGpu {
    /// What decides how it rounds.
    pub(crate) fn numerics(&self) -> String {
        let gpu = self.gpu.numerics();
        match &self.placement {
            None => gpu,
            Some(placement) => format!(
                "{gpu}, {}, {placement:?}, {:?}",
                self.host.numerics(),
                self.stream_from
            ),
        }
    }

    /// The backend for a model of these sizes, which loads each part to its place, with the processor as
    /// `host`.
    pub(crate) fn backend(&self, config: &Config, host: Cpu) -> Hybrid<Gpu, Cpu> {
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
        Hybrid::new(self.gpu.clone(), host, places, self.stream_from)
    }

    /// Where a part goes.
    pub(crate) fn place(&self, part: Part) -> Place {
        let Some(placement) = &self.placement else {
            return Place::Accelerator;
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
            _ => Place::Accelerator,
        }
    }
}
