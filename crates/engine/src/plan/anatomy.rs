//! A model taken apart: tensors in groups, and what a token reads and multiplies of each.

use std::collections::BTreeMap;

use formats::{DType, TensorInfo};
use model::weights::FREQUENT_TOKENS;
use model::{Config, FeedForwardKind, LayerKind};
use tensor::OpError;

use super::error::PlanError;
use super::names::place_of;
use super::placement::{Device, Placement};
use super::wish::Wish;

/// A tensor of a file, by what its header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredTensorSize {
    /// Its name in the file.
    pub name: String,
    /// How it is stored.
    pub dtype: DType,
    /// Outermost dimension first.
    pub shape: Vec<usize>,
}

/// Where in the model a group is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Block {
    /// Before and behind the layers.
    Model,
    /// A layer, counted from 0.
    Layer(usize),
    /// The multi-token-prediction head.
    Mtp,
    /// What reads images.
    Vision,
}

/// What a group is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Piece {
    /// The embedding; the output head as well where the file has none.
    Embedding,
    /// The mixer of an attention layer, with the norm before it.
    Attention,
    /// The mixer of a delta layer, with the norm before it.
    Delta,
    /// What chooses experts, or in dense models the norm before the feed-forward part.
    Router,
    /// The expert that every token uses.
    Shared,
    /// The experts of which a token uses a few.
    Experts,
    /// The feed-forward part of a dense layer.
    Dense,
    /// What joins embedding and hidden state in the multi-token-prediction head, with its norms.
    Join,
    /// The norm before the output head.
    Norm,
    /// The output head.
    Head,
    /// What reads images.
    Vision,
    /// Tensors that nothing here needs.
    Unused,
}

/// Tensors that lie together and are used together.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// Where in the model.
    pub block: Block,
    /// What it is.
    pub piece: Piece,
    /// The names of its tensors.
    pub tensors: Vec<String>,
    /// As stored.
    pub bytes: u64,
    /// Values, of matrices and vectors.
    pub values: u64,
    /// Multiplications that a token makes if it uses all of it: the values of its matrices.
    pub macs: f64,
    /// Of these, those with weights of 16 bits, F16 and BF16, for which inputs are not rounded.
    pub half_macs: f64,
    /// Bytes of each storage type.
    pub types: BTreeMap<DType, u64>,
}

/// The experts of a layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ExpertsAnatomy {
    /// How many there are.
    pub count: f64,
    /// How many a token uses.
    pub top_k: f64,
    /// Bytes of one.
    pub bytes: f64,
    /// Multiplications with one, per token.
    pub macs: f64,
    /// Of these, those with weights of 16 bits.
    pub half_macs: f64,
}

/// A model's groups and sizes.
#[derive(Debug, Clone, PartialEq)]
pub struct Anatomy {
    /// The model's sizes.
    pub config: Config,
    /// All tensors, each in exactly one.
    pub groups: Vec<Group>,
}

impl Group {
    /// On a GPU, which holds the values of types that its kernels do not know as f32.
    pub fn bytes_in_vram(&self) -> u64 {
        let of_type = |(&dtype, &bytes): (&DType, &u64)| match gpu::held_as(dtype) {
            held if held == dtype => bytes,
            _ => {
                let values = bytes / dtype.block_bytes() as u64 * dtype.block_len() as u64;
                values.saturating_mul(size_of::<f32>() as u64)
            }
        };
        let bytes = self.types.iter().map(of_type);
        bytes.fold(0, u64::saturating_add)
    }

    fn empty(block: Block, piece: Piece) -> Self {
        Self {
            block,
            piece,
            tensors: Vec::new(),
            bytes: 0,
            values: 0,
            macs: 0.0,
            half_macs: 0.0,
            types: BTreeMap::new(),
        }
    }

    fn add(&mut self, name: String, dtype: DType, bytes: u64, values: u64) {
        // Headers of damaged files add up to more than there is.
        self.bytes = self.bytes.saturating_add(bytes);
        self.values = self.values.saturating_add(values);
        let of_type = self.types.entry(dtype).or_default();
        *of_type = of_type.saturating_add(bytes);
        self.tensors.push(name);
    }
}

impl Anatomy {
    /// Takes a model apart.
    ///
    /// # Errors
    /// If a tensor cannot have its shape, or layers are missing.
    pub fn new(
        config: Config,
        tensors: impl IntoIterator<Item = StoredTensorSize>,
    ) -> Result<Self, PlanError> {
        let mut groups: BTreeMap<(Block, Piece), Group> = BTreeMap::new();
        for tensor in tensors {
            let place = place_of(&tensor.name, &config);
            let (block, piece) = place.unwrap_or((Block::Model, Piece::Unused));
            let bytes = tensor.dtype.bytes_for(&tensor.shape);
            let Some(bytes) = bytes.map(|bytes| bytes as u64) else {
                return Err(PlanError::Tensor { name: tensor.name });
            };
            let dims = tensor.shape.iter().map(|&dim| dim as u64);
            let values: u64 = dims.fold(1, u64::saturating_mul);
            let entry = groups.entry((block, piece));
            let group = entry.or_insert_with(|| Group::empty(block, piece));
            if is_multiplied(&tensor) {
                group.macs += values as f64;
                if matches!(tensor.dtype, DType::F16 | DType::BF16) {
                    group.half_macs += values as f64;
                }
            }
            group.add(tensor.name, tensor.dtype, bytes, values);
        }
        let anatomy = Self {
            config,
            groups: groups.into_values().collect(),
        };
        anatomy.check()?;
        Ok(anatomy)
    }

    /// Takes a model apart by the tables of its files.
    ///
    /// # Errors
    /// As [`Anatomy::new`], and if a tensor is of an unknown type.
    pub fn from_table(config: Config, tensors: &[TensorInfo]) -> Result<Self, PlanError> {
        let sizes: Result<Vec<StoredTensorSize>, PlanError> = tensors
            .iter()
            .map(|tensor| match tensor.dtype.known() {
                Some(dtype) => Ok(StoredTensorSize {
                    name: tensor.name.clone(),
                    dtype,
                    shape: tensor.shape.clone(),
                }),
                None => Err(PlanError::Tensor {
                    name: tensor.name.clone(),
                }),
            })
            .collect();
        Self::new(config, sizes?)
    }

    /// The same with what reads images, from a file of its own.
    ///
    /// # Errors
    /// As [`Anatomy::from_table`].
    pub fn with_vision(mut self, tensors: &[TensorInfo]) -> Result<Self, PlanError> {
        for tensor in tensors {
            let (Some(dtype), Some(bytes)) = (tensor.dtype.known(), tensor.byte_len) else {
                return Err(PlanError::Tensor {
                    name: tensor.name.clone(),
                });
            };
            let found = self
                .groups
                .iter_mut()
                .find(|group| group.block == Block::Vision);
            let group = match found {
                Some(group) => group,
                None => {
                    self.groups.push(Group::empty(Block::Vision, Piece::Vision));
                    self.groups.last_mut().expect("it was just added")
                }
            };
            group.add(tensor.name.clone(), dtype, bytes, tensor.value_count());
        }
        Ok(self)
    }

    /// Every layer must have its parts: a split file of which parts are missing has not.
    fn check(&self) -> Result<(), PlanError> {
        let missing = |block, piece| match self.group(block, piece) {
            Some(_) => Ok(()),
            None => Err(PlanError::Missing { block, piece }),
        };
        missing(Block::Model, Piece::Embedding)?;
        let feed = match self.config.feed_forward {
            FeedForwardKind::Dense { .. } => Piece::Dense,
            FeedForwardKind::Experts { .. } => Piece::Experts,
        };
        for (layer, kind) in self.config.layers.iter().enumerate() {
            missing(Block::Layer(layer), mixer(*kind))?;
            missing(Block::Layer(layer), feed)?;
        }
        Ok(())
    }

    /// The group at a place, if there is one.
    pub fn group(&self, block: Block, piece: Piece) -> Option<&Group> {
        let mut groups = self.groups.iter();
        groups.find(|group| (group.block, group.piece) == (block, piece))
    }

    /// The bytes of a group; 0 if there is none.
    pub fn bytes(&self, block: Block, piece: Piece) -> u64 {
        self.group(block, piece).map_or(0, |group| group.bytes)
    }

    /// The same on a GPU.
    pub fn bytes_in_vram(&self, block: Block, piece: Piece) -> u64 {
        self.group(block, piece).map_or(0, Group::bytes_in_vram)
    }

    /// What a GPU holds of the head once more, for drafts; elsewhere they read the head itself.
    pub(super) fn drafts_head_in_vram(&self) -> u64 {
        let vocabulary = self.config.vocab_size;
        if self.config.mtp_layers == 0 || vocabulary < 2 * FREQUENT_TOKENS {
            return 0;
        }
        let head = u128::from(self.head().bytes_in_vram());
        (head * FREQUENT_TOKENS as u128 / vocabulary as u128) as u64
    }

    /// The groups of a layer that every token uses.
    pub(super) fn common(&self, block: Block) -> impl Iterator<Item = &Group> {
        let is_common = move |group: &&Group| {
            group.block == block && !matches!(group.piece, Piece::Experts | Piece::Unused)
        };
        self.groups.iter().filter(is_common)
    }

    /// The bytes of all groups that satisfy a condition.
    pub(super) fn sum(&self, condition: impl Fn(&Group) -> bool) -> u64 {
        let groups = self.groups.iter().filter(|group| condition(group));
        groups.fold(0, |sum, group| sum.saturating_add(group.bytes))
    }

    /// The same on a GPU.
    pub(super) fn sum_in_vram(&self, condition: impl Fn(&Group) -> bool) -> u64 {
        let groups = self.groups.iter().filter(|group| condition(group));
        groups.fold(0, |sum, group| sum.saturating_add(group.bytes_in_vram()))
    }

    /// All tensors.
    pub fn stored_bytes(&self) -> u64 {
        self.sum(|_| true)
    }

    /// What of a model lies in RAM.
    pub fn bytes_in_ram(&self, placement: &Placement) -> u64 {
        self.sum(|group| placement.of(group) == Device::Ram)
    }

    /// The experts of a layer or of the multi-token-prediction head.
    pub fn experts(&self, block: Block) -> Option<ExpertsAnatomy> {
        let FeedForwardKind::Experts { count, top_k, .. } = self.config.feed_forward else {
            return None;
        };
        let group = self.group(block, Piece::Experts)?;
        let count = count.max(1) as f64;
        Some(ExpertsAnatomy {
            count,
            top_k: top_k as f64,
            bytes: group.bytes as f64 / count,
            macs: group.macs / count,
            half_macs: group.half_macs / count,
        })
    }

    /// The output head: a group of its own, or the embedding.
    pub fn head(&self) -> &Group {
        let own = self.group(Block::Model, Piece::Head);
        own.or_else(|| self.group(Block::Model, Piece::Embedding))
            .expect("a model without embedding is refused when it is taken apart")
    }

    /// Whether the embedding is the output head.
    pub fn is_tied(&self) -> bool {
        self.head().piece == Piece::Embedding
    }

    /// Bytes of weights that one decoded token reads: everything of every layer but the experts it does
    /// not use, and the head. One row of the embedding is left out.
    pub fn read_bytes(&self) -> f64 {
        let blocks = (0..self.config.layers.len()).map(Block::Layer);
        let layers: f64 = blocks
            .map(|block| {
                let common: u64 = self.common(block).map(|group| group.bytes).sum();
                let experts = self.experts(block);
                common as f64 + experts.map_or(0.0, |experts| experts.top_k * experts.bytes)
            })
            .sum();
        let norm = self.bytes(Block::Model, Piece::Norm);
        layers + (self.head().bytes + norm) as f64
    }

    /// Bytes of keys and values of one token in one attention layer.
    ///
    /// # Errors
    /// If the types do not fit the model.
    pub fn token_bytes(&self, wish: &Wish) -> Result<u64, OpError> {
        let (key, value) = wish.engine().layout(&self.config).row_bytes()?;
        Ok((self.config.attention.kv_heads * (key + value)) as u64)
    }

    /// Bytes of keys and values in one attention layer: the whole pool of pages.
    ///
    /// # Errors
    /// If the types do not fit the model.
    pub fn cache_bytes(&self, wish: &Wish) -> Result<u64, OpError> {
        let layout = wish.engine().layout(&self.config);
        let tokens = (layout.pages as u64).saturating_mul(layout.page_tokens as u64);
        Ok(self.token_bytes(wish)?.saturating_mul(tokens))
    }

    /// Bytes of one sequence's recurrent state in one delta layer.
    pub fn state_bytes(&self) -> u64 {
        let layout = Wish::default().engine().layout(&self.config);
        ((layout.conv_len() + layout.delta_len()) * size_of::<f32>()) as u64
    }

    /// Bytes of all states in one delta layer, rows that are held back included.
    pub fn states_bytes(&self, wish: &Wish) -> u64 {
        let layout = wish.engine().layout(&self.config);
        let held = layout.held_bytes() / layout.delta_layers.max(1);
        (layout.states as u64).saturating_mul(self.state_bytes() + held as u64)
    }

    /// The most bytes of activations at a time on one device: rows in and out of the widest layer, and the
    /// logits of those rows that are sampled or verified.
    pub fn buffer_bytes(&self, wish: &Wish) -> u64 {
        let Config {
            hidden_size: hidden,
            attention,
            delta,
            ..
        } = &self.config;
        let heads = attention.heads * attention.head_dim;
        let of_attention = 3 * heads + 2 * attention.kv_heads * attention.head_dim;
        let values = delta.value_heads * delta.value_dim;
        let of_delta = delta.channels() + 2 * values + 2 * delta.value_heads;
        let of_feed = match self.config.feed_forward {
            FeedForwardKind::Dense { width } => 2 * width,
            FeedForwardKind::Experts {
                count,
                top_k,
                width,
                shared_width,
                ..
            } => count + top_k * (hidden + 2 * width) + 2 * shared_width,
        };
        let row = 4 * hidden + of_attention.max(of_delta).max(of_feed);
        let logits = wish.logits_rows() * self.config.vocab_size;
        ((wish.step_tokens * row + logits) * size_of::<f32>()) as u64
    }

    /// f32 operations of the delta rule per token and layer, beside its matrices.
    pub(super) fn delta_operations(&self) -> f64 {
        let delta = &self.config.delta;
        let state = delta.value_heads * delta.key_dim * delta.value_dim;
        let conv = delta.conv_taps * delta.channels();
        super::factors::DELTA_OPERATIONS * state as f64 + conv as f64
    }

    /// Multiplications of a token with the key and value of one earlier token in one attention layer.
    pub(super) fn attention_macs(&self) -> f64 {
        (2 * self.config.attention.heads * self.config.attention.head_dim) as f64
    }
}

/// The piece that mixes tokens in a layer of this kind.
pub(super) fn mixer(kind: LayerKind) -> Piece {
    match kind {
        LayerKind::Attention => Piece::Attention,
        LayerKind::Delta => Piece::Delta,
    }
}

/// Whether inputs are multiplied with it: matrices, but not convolutions, which are counted with the rule.
fn is_multiplied(tensor: &StoredTensorSize) -> bool {
    let is_switch = tensor.name.contains("gate_inp_shexp");
    (tensor.shape.len() > 1 || is_switch) && !tensor.name.contains("conv1d")
}
