//! What a model of the family looks like: sizes and layer pattern (sections 1 and 2).

use tensor::{AttentionShape, DeltaShape, MemoryLayout};

use crate::rotary::RotaryConfig;

/// The architectures of the family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// Mixture of experts: 35B-A3B, 122B-A10B, 397B-A17B.
    Qwen35Moe,
    /// Dense: 27B, 9B, 4B, 0.8B.
    Qwen35,
    /// The predecessor with another weight layout: Next-80B-A3B, Coder-Next.
    Qwen3Next,
}

impl Architecture {
    /// The name in GGUF files (`general.architecture`).
    pub fn gguf_name(self) -> &'static str {
        match self {
            Architecture::Qwen35Moe => "qwen35moe",
            Architecture::Qwen35 => "qwen35",
            Architecture::Qwen3Next => "qwen3next",
        }
    }
}

/// How a layer mixes tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerKind {
    /// Gated attention over all earlier tokens.
    Attention,
    /// Gated DeltaNet: a recurrent state of fixed size.
    Delta,
}

/// What follows the mixer in every layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeedForwardKind {
    /// One gated MLP.
    Dense {
        /// Its inner width.
        width: usize,
    },
    /// A few of many gated MLPs, chosen per token, plus one that every token uses.
    Experts {
        /// How many there are.
        count: usize,
        /// How many a token uses.
        top_k: usize,
        /// The inner width of each.
        width: usize,
        /// The inner width of the shared expert; 0 for none.
        shared_width: usize,
        /// Whether the chosen experts' probabilities are renormalised.
        renormalise: bool,
    },
}

/// The sizes and constants of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Which member of the family.
    pub architecture: Architecture,
    /// Rows of the embedding and the output head.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Per layer, first to last, without the multi-token-prediction layers.
    pub layers: Vec<LayerKind>,
    /// Sizes of the attention layers.
    pub attention: AttentionShape,
    /// Sizes of the delta layers.
    pub delta: DeltaShape,
    /// Positions.
    pub rotary: RotaryConfig,
    /// The feed-forward part of every layer.
    pub feed_forward: FeedForwardKind,
    /// Added to mean squares before roots.
    pub rms_norm_eps: f32,
    /// The context the model was trained for.
    pub context_length: usize,
    /// Multi-token-prediction layers the file has (0 or 1 in use).
    pub mtp_layers: usize,
}

impl Config {
    /// The number of layers of one kind.
    pub fn count(&self, kind: LayerKind) -> usize {
        self.layers.iter().filter(|&&layer| layer == kind).count()
    }

    /// Sequence memory for this model: `pages` pages of `page_tokens` tokens in every attention
    /// layer (that of the multi-token-prediction head last) and `states` recurrent states, without
    /// room for held rows.
    pub fn memory_layout(
        &self,
        key_type: formats::DType,
        value_type: formats::DType,
        page_tokens: usize,
        pages: usize,
        states: usize,
    ) -> MemoryLayout {
        MemoryLayout {
            attention_layers: self.count(LayerKind::Attention) + self.mtp_layers.min(1),
            attention: self.attention,
            key_type,
            value_type,
            page_tokens,
            pages,
            delta_layers: self.count(LayerKind::Delta),
            delta: self.delta,
            states,
            held_rows: 0,
        }
    }

    /// The layer pattern of the family: every `interval`-th layer is attention.
    pub fn pattern(layers: usize, interval: usize) -> Vec<LayerKind> {
        (1..=layers)
            .map(|n| {
                if n.is_multiple_of(interval) {
                    LayerKind::Attention
                } else {
                    LayerKind::Delta
                }
            })
            .collect()
    }
}
