//! Which device has what.

use super::anatomy::{Anatomy, Block, Group, Piece};

/// Where something lies, and what computes with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Device {
    /// A GPU and its memory, by its index in the machine.
    Gpu(usize),
    /// The CPU and RAM.
    Ram,
    /// It stays in the file.
    Nowhere,
}

/// The places of a layer's parts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LayerPlace {
    /// Everything but the experts, with keys and values or the state.
    pub rest: Device,
    /// The experts.
    pub experts: Device,
    /// The share of the experts that the GPU at `rest` keeps copies of, those used last.
    pub cached: f64,
}

/// The places of a model's parts.
#[derive(Debug, Clone, PartialEq)]
pub struct Placement {
    /// Those of each layer.
    pub layers: Vec<LayerPlace>,
    /// That of the embedding.
    pub embedding: Device,
    /// That of the output head and the norm before it.
    pub head: Device,
    /// That of the multi-token-prediction head.
    pub mtp: Device,
    /// That of what reads images.
    pub vision: Device,
    /// That of tensors nobody needs.
    pub unused: Device,
    /// For how many layers' experts each GPU has room that come over the link with a step of many tokens: with
    /// two, one layer's are copied while the other's are computed with. 0 where none come.
    pub stream_rooms: usize,
}

impl Placement {
    /// All of a model of so many layers on one device; images are not read.
    pub fn all_on(device: Device, layers: usize) -> Self {
        let place = LayerPlace {
            rest: device,
            experts: device,
            cached: 0.0,
        };
        Self {
            layers: vec![place; layers],
            embedding: device,
            head: device,
            mtp: device,
            vision: Device::Nowhere,
            unused: Device::Nowhere,
            stream_rooms: 0,
        }
    }

    /// Everything in RAM. Images are read if it says so.
    pub(super) fn on_cpu(anatomy: &Anatomy, vision: bool) -> Self {
        Self {
            vision: if vision { Device::Ram } else { Device::Nowhere },
            unused: Device::Ram,
            ..Self::all_on(Device::Ram, anatomy.config.layers.len())
        }
    }

    /// The one place of a group.
    pub fn of(&self, group: &Group) -> Device {
        self.of_piece(group.block, group.piece)
    }

    /// The one place of a piece of the model.
    pub fn of_piece(&self, block: Block, piece: Piece) -> Device {
        match (block, piece) {
            (_, Piece::Unused) => self.unused,
            (Block::Layer(layer), piece) => match (self.layers.get(layer), piece) {
                (Some(place), Piece::Experts) => place.experts,
                (Some(place), _) => place.rest,
                (None, _) => self.unused,
            },
            (Block::Mtp, _) => self.mtp,
            (Block::Vision, _) => self.vision,
            (Block::Model, Piece::Embedding) => self.embedding,
            (Block::Model, _) => self.head,
        }
    }

    /// All devices that have a part, in order.
    pub fn devices(&self) -> Vec<Device> {
        let parts = [self.embedding, self.head, self.mtp, self.vision];
        let layers = self
            .layers
            .iter()
            .flat_map(|place| [place.rest, place.experts]);
        let mut all: Vec<Device> = layers.chain(parts).collect();
        all.sort_unstable();
        all.dedup();
        all.retain(|&device| device != Device::Nowhere);
        all
    }

    /// Layers whose experts are in RAM while the rest is on a GPU (`--n-cpu-moe`).
    pub fn layers_with_experts_in_ram(&self) -> usize {
        let is_split = |place: &&LayerPlace| {
            place.experts == Device::Ram && matches!(place.rest, Device::Gpu(_))
        };
        self.layers.iter().filter(is_split).count()
    }

    /// The share of the experts in RAM beside layers on GPUs that these keep copies of.
    pub fn copied(&self) -> f64 {
        let split = self.layers_with_experts_in_ram().max(1);
        self.layers.iter().map(|place| place.cached).sum::<f64>() / split as f64
    }

    /// Whether GPUs keep copies of experts that are in RAM.
    pub fn has_copies(&self) -> bool {
        self.layers.iter().any(|place| place.cached > 0.0)
    }

    /// Layers that are on GPUs, experts aside (`-ngl`).
    pub fn layers_on_gpus(&self) -> usize {
        let is_on_gpu = |place: &&LayerPlace| matches!(place.rest, Device::Gpu(_));
        self.layers.iter().filter(is_on_gpu).count()
    }
}
