//! Which type each tensor is stored in: the mixes that quantised files are known by.
//!
//! `Q4_K_M` is no type but a rule: most matrices in Q4_K, and those that quantisation hurts most
//! in Q6_K. The rules follow llama.cpp's quantiser, so that a file behaves as its name leads
//! people to expect. Files of other makers may differ: readers look at each tensor's own type.

use clap::ValueEnum;
use formats::DType;
use model::Config;

use super::layout::{Part, Slot};

/// A mix, by the name that files carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[expect(
    non_camel_case_types,
    reason = "the field's names, as they are in file names"
)]
#[value(rename_all = "verbatim")]
pub(crate) enum Mix {
    F32,
    F16,
    BF16,
    Q8_0,
    Q6_K,
    Q5_K_M,
    Q5_K_S,
    Q4_K_M,
    Q4_K_S,
    /// Experts in MXFP4, the rest in Q8_0.
    MXFP4_MOE,
}

impl std::fmt::Display for Mix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The variants are spelled as the mixes are.
        std::fmt::Debug::fmt(self, f)
    }
}

impl Mix {
    /// The number in `general.file_type`.
    pub(crate) fn file_type(self) -> u32 {
        match self {
            Mix::F32 => 0,
            Mix::F16 => 1,
            Mix::Q8_0 => 7,
            Mix::Q4_K_S => 14,
            Mix::Q4_K_M => 15,
            Mix::Q5_K_S => 16,
            Mix::Q5_K_M => 17,
            Mix::Q6_K => 18,
            Mix::BF16 => 32,
            Mix::MXFP4_MOE => 38,
        }
    }

    /// What most matrices are stored in.
    fn base(self) -> DType {
        match self {
            Mix::F32 => DType::F32,
            Mix::F16 => DType::F16,
            Mix::BF16 => DType::BF16,
            Mix::Q8_0 | Mix::MXFP4_MOE => DType::Q8_0,
            Mix::Q6_K => DType::Q6_K,
            Mix::Q5_K_M | Mix::Q5_K_S => DType::Q5_K,
            Mix::Q4_K_M | Mix::Q4_K_S => DType::Q4_K,
        }
    }

    /// What this tensor is stored in.
    pub(crate) fn dtype(self, slot: &Slot, config: &Config, has_head: bool) -> DType {
        let Some(&cols) = slot.shape.last().filter(|_| slot.shape.len() > 1) else {
            return DType::F32;
        };
        let wanted = match slot.part {
            // Small, and everything after them depends on them.
            Part::Router | Part::Conv | Part::A | Part::B | Part::BetaAlpha => return DType::F32,
            Part::Output => self.for_head(),
            Part::Embedding if !has_head => self.for_head(),
            Part::ExpertGates | Part::ExpertUps if self == Mix::MXFP4_MOE => DType::MXFP4,
            Part::ExpertDowns if self == Mix::MXFP4_MOE => DType::MXFP4,
            Part::Value | Part::Qkv => self.for_values(slot, config),
            Part::Down | Part::ExpertDowns | Part::SharedDown => self.for_downs(slot, config),
            _ => self.base(),
        };
        fitting(wanted, cols)
    }

    fn is_k_mix(self) -> bool {
        self.base().block_len() == 256
    }

    fn for_head(self) -> DType {
        if self.is_k_mix() {
            DType::Q6_K
        } else {
            self.base()
        }
    }

    fn for_values(self, slot: &Slot, config: &Config) -> DType {
        match self {
            Mix::Q4_K_M | Mix::Q5_K_M if needs_more_bits(slot, config) => DType::Q6_K,
            Mix::Q4_K_S if slot.block < Some(4) => DType::Q5_K,
            _ => self.base(),
        }
    }

    fn for_downs(self, slot: &Slot, config: &Config) -> DType {
        let blocks = config.layers.len() + config.mtp_layers;
        match self {
            Mix::Q4_K_M | Mix::Q5_K_M if needs_more_bits(slot, config) => DType::Q6_K,
            Mix::Q4_K_S if slot.block < Some(blocks / 8) => DType::Q5_K,
            _ => self.base(),
        }
    }
}

/// The layers whose sensitive matrices get more bits: the first and last eighth, and every third
/// between.
fn needs_more_bits(slot: &Slot, config: &Config) -> bool {
    let blocks = config.layers.len() + config.mtp_layers;
    let eighth = blocks / 8;
    slot.block
        .is_some_and(|block| block < eighth || block >= 7 * blocks / 8 || (block - eighth) % 3 == 2)
}

/// The type, or a more precise one that rows of this length can have.
fn fitting(wanted: DType, cols: usize) -> DType {
    [wanted, DType::Q8_0, DType::F16]
        .into_iter()
        .find(|dtype| cols.is_multiple_of(dtype.block_len()))
        .expect("every length is a multiple of 1")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::layout::{Extras, slots};
    use crate::synth::presets;

    #[test]
    fn q4_k_m_gives_half_of_the_sensitive_matrices_more_bits() {
        let config = presets::find("qwen3.5-35b-a3b").unwrap().config(40, true);
        let head = Extras {
            head: true,
            ..Extras::default()
        };
        let mut counts = std::collections::BTreeMap::new();
        for slot in slots(&config, head) {
            let dtype = Mix::Q4_K_M.dtype(&slot, &config, true);
            *counts
                .entry(format!("{:?} {dtype}", slot.part))
                .or_insert(0) += 1;
        }
        let count = |key: &str| counts.get(key).copied().unwrap_or(0);
        assert_eq!(count("Output Q6_K"), 1);
        assert_eq!(count("Embedding Q4_K"), 1);
        assert_eq!(count("ExpertGates Q4_K"), 41);
        assert_eq!(count("ExpertDowns Q6_K") + count("ExpertDowns Q4_K"), 41);
        assert_eq!(count("ExpertDowns Q6_K"), 21);
        assert_eq!(count("Router F32"), 41);
        assert_eq!(count("A F32"), 30);
    }

    #[test]
    fn short_rows_fall_back_to_more_precise_types() {
        assert_eq!(fitting(DType::Q4_K, 512), DType::Q4_K);
        assert_eq!(fitting(DType::Q4_K, 96), DType::Q8_0);
        assert_eq!(fitting(DType::MXFP4, 48), DType::F16);
        assert_eq!(fitting(DType::BF16, 3), DType::BF16);
    }
}
