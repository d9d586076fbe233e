//! The mixes that are planned for: those that this program writes, and those that files of others have.
//!
//! The rules of [`Quantised`] are those of llama.cpp's quantiser (`src/llama-quant.cpp`) where it is given a matrix of
//! importance, as makers of such files give it one; tests have the sizes that it says itself. Files whose names begin with `UD` have
//! types that were chosen tensor by tensor: only their headers tell (`-hf`, `-m URL`).

use clap::ValueEnum;
use formats::DType;
use model::{Config, FeedForwardKind};

use crate::export::{Mix, Part, Slot};

/// How a file stores a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stored {
    Written(Mix),
    Quantised(Quantised),
}

/// Mixes that this program reads and does not write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[expect(
    non_camel_case_types,
    reason = "the field's names, as they are in file names"
)]
#[value(rename_all = "verbatim")]
pub(super) enum Quantised {
    IQ4_NL,
    IQ4_XS,
    Q3_K_M,
    IQ3_M,
    IQ3_XXS,
    Q2_K,
    IQ2_M,
    IQ2_XXS,
}

/// All that are compared, the largest first.
pub(super) const MIXES: [Stored; 16] = [
    Stored::Written(Mix::BF16),
    Stored::Written(Mix::Q8_0),
    Stored::Written(Mix::Q6_K),
    Stored::Written(Mix::Q5_K_M),
    Stored::Written(Mix::Q5_K_S),
    Stored::Written(Mix::Q4_K_M),
    Stored::Written(Mix::Q4_K_S),
    Stored::Written(Mix::MXFP4_MOE),
    Stored::Quantised(Quantised::IQ4_NL),
    Stored::Quantised(Quantised::IQ4_XS),
    Stored::Quantised(Quantised::Q3_K_M),
    Stored::Quantised(Quantised::IQ3_M),
    Stored::Quantised(Quantised::IQ3_XXS),
    Stored::Quantised(Quantised::Q2_K),
    Stored::Quantised(Quantised::IQ2_M),
    Stored::Quantised(Quantised::IQ2_XXS),
];

impl std::fmt::Display for Stored {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Written(mix) => mix.fmt(f),
            // The variants are spelled as the mixes are.
            Self::Quantised(mix) => std::fmt::Debug::fmt(mix, f),
        }
    }
}

impl From<Mix> for Stored {
    fn from(mix: Mix) -> Self {
        Self::Written(mix)
    }
}

impl Stored {
    /// The mix of a name, in capitals or not.
    pub(super) fn named(name: &str) -> Option<Self> {
        let written = Mix::from_str(name, true).map(Self::Written);
        let other = || Quantised::from_str(name, true).map(Self::Quantised);
        written.or_else(|_| other()).ok()
    }

    /// What this tensor is stored in.
    pub(super) fn dtype(self, slot: &Slot, config: &Config, has_head: bool) -> DType {
        match self {
            Self::Written(mix) => mix.dtype(slot, config, has_head),
            Self::Quantised(mix) => mix.dtype(slot, config, has_head),
        }
    }
}

impl Quantised {
    /// What most matrices are stored in.
    fn base(self) -> DType {
        match self {
            Self::IQ4_NL => DType::IQ4_NL,
            Self::IQ4_XS => DType::IQ4_XS,
            Self::Q3_K_M => DType::Q3_K,
            Self::IQ3_M => DType::IQ3_S,
            Self::IQ3_XXS => DType::IQ3_XXS,
            Self::Q2_K => DType::Q2_K,
            Self::IQ2_M => DType::IQ2_S,
            Self::IQ2_XXS => DType::IQ2_XXS,
        }
    }

    fn dtype(self, slot: &Slot, config: &Config, has_head: bool) -> DType {
        let Some(&cols) = slot.shape.last().filter(|_| slot.shape.len() > 1) else {
            return DType::F32;
        };
        let wanted = match slot.part {
            Part::Router | Part::Conv => return DType::F32,
            Part::Output => self.for_head(cols),
            Part::Embedding if !has_head => self.for_head(cols),
            Part::Embedding => self.for_embedding(),
            Part::Value | Part::Qkv => self.for_values(slot, config),
            Part::QueryGate | Part::Key if self == Self::IQ3_XXS => DType::IQ2_S,
            Part::AttentionOutput => self.for_attention_output(),
            Part::Down | Part::ExpertDowns | Part::SharedDown => self.for_downs(slot, config),
            _ => self.base(),
        };
        fitting(wanted, cols)
    }

    fn for_head(self, cols: usize) -> DType {
        if !cols.is_multiple_of(self.base().block_len()) {
            return DType::Q8_0;
        }
        match self {
            Self::IQ2_XXS | Self::IQ2_M | Self::IQ3_XXS => DType::Q5_K,
            _ => DType::Q6_K,
        }
    }

    fn for_embedding(self) -> DType {
        match self {
            Self::IQ2_XXS => DType::Q2_K,
            Self::IQ2_M | Self::IQ3_XXS => DType::IQ3_S,
            _ => self.base(),
        }
    }

    fn for_values(self, slot: &Slot, config: &Config) -> DType {
        // More heads share what is stored.
        let is_shared = config.attention.heads >= 4 * config.attention.kv_heads.max(1);
        let has_experts = matches!(config.feed_forward, FeedForwardKind::Experts { .. });
        match self {
            Self::IQ2_XXS | Self::IQ2_M if is_shared || has_experts => DType::Q4_K,
            Self::IQ2_XXS => DType::Q2_K,
            Self::IQ2_M => DType::IQ3_S,
            Self::Q2_K if !is_shared => DType::Q3_K,
            Self::IQ3_XXS if !is_shared => DType::IQ3_XXS,
            Self::Q2_K | Self::IQ3_XXS | Self::IQ3_M => DType::Q4_K,
            // One a layer, of either kind.
            Self::Q3_K_M if slot.block < Some(2) => DType::Q5_K,
            Self::Q3_K_M => DType::Q4_K,
            Self::IQ4_NL | Self::IQ4_XS if is_shared => DType::Q5_K,
            Self::IQ4_NL | Self::IQ4_XS => self.base(),
        }
    }

    fn for_attention_output(self) -> DType {
        match self {
            Self::Q2_K => DType::Q3_K,
            Self::IQ3_XXS | Self::IQ2_M => DType::IQ3_S,
            Self::Q3_K_M | Self::IQ3_M => DType::Q4_K,
            _ => self.base(),
        }
    }

    fn for_downs(self, slot: &Slot, config: &Config) -> DType {
        let blocks = config.layers.len() + config.mtp_layers;
        let block = slot.block.unwrap_or(blocks);
        // The smallest mixes count such tensors, of which a layer with experts has two, and not layers.
        let before = match slot.part {
            Part::Down => block,
            Part::ExpertDowns => 2 * block,
            _ => 2 * block + 1,
        };
        match self {
            Self::IQ2_XXS if before < blocks / 8 => DType::Q2_K,
            Self::IQ2_M if before < blocks / 8 => DType::IQ3_S,
            Self::Q2_K => DType::Q3_K,
            Self::Q3_K_M if block < blocks / 16 => DType::Q5_K,
            Self::Q3_K_M => DType::Q4_K,
            Self::IQ3_M if block < blocks / 8 => DType::Q4_K,
            _ => self.base(),
        }
    }
}

/// The type, or what stands for it where rows are no whole blocks.
fn fitting(wanted: DType, cols: usize) -> DType {
    let instead = match wanted {
        DType::Q2_K | DType::Q3_K => DType::Q4_0,
        DType::Q4_K => DType::Q5_0,
        DType::Q5_K => DType::Q5_1,
        DType::Q6_K => DType::Q8_0,
        _ => DType::IQ4_NL,
    };
    [wanted, instead]
        .into_iter()
        .find(|dtype| cols.is_multiple_of(dtype.block_len()))
        .unwrap_or(DType::F16)
}
