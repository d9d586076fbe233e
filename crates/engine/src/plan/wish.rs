//! What a plan is to make room for.

use formats::DType;

use super::factors::RAM_RESERVE_BYTES;
use crate::settings::{EngineSettings, KvTypes};
use crate::speculate::MOST_DRAFTS;

/// What is asked of a placement.
#[derive(Debug, Clone, PartialEq)]
pub struct Wish {
    /// The most tokens of all sequences together.
    pub context: usize,
    /// How keys and values are stored.
    pub kv: KvTypes,
    /// The most sequences at once.
    pub sequences: usize,
    /// Tokens that go through the model at once (`-b`).
    pub step_tokens: usize,
    /// Tokens of one prompt in a step (`-ub`).
    pub chunk_tokens: usize,
    /// Whether the multi-token-prediction head is used.
    pub mtp: bool,
    /// Whether images are read.
    pub vision: bool,
    /// Bytes of each GPU's memory that are left free.
    pub vram_reserve: u64,
    /// Bytes of RAM that are left to others.
    pub ram_reserve: u64,
    /// The most layers whose experts, in RAM, are copied to a GPU at a time to be computed with there; 0 if
    /// none are to be.
    pub stream_rooms: usize,
    /// Whether there is room for them only where copying is found to be faster than the CPU.
    pub stream_if_faster: bool,
    /// Bytes of each GPU's memory for copies of experts that are in RAM, as far as there is room.
    pub expert_cache: u64,
    /// Bytes of RAM for the states of prompts that were read, as far as there is room.
    pub prompt_cache: u64,
}

impl Default for Wish {
    fn default() -> Self {
        Self {
            context: 32_768,
            kv: KvTypes::both(DType::F16),
            sequences: 1,
            step_tokens: 512,
            chunk_tokens: 512,
            mtp: true,
            vision: false,
            vram_reserve: 1 << 30,
            ram_reserve: RAM_RESERVE_BYTES,
            stream_rooms: 2,
            stream_if_faster: true,
            expert_cache: u64::MAX,
            prompt_cache: 2 << 30,
        }
    }
}

impl Wish {
    /// The memory that an engine makes for it.
    pub fn engine(&self) -> EngineSettings {
        EngineSettings {
            sequences: self.sequences,
            kv: self.kv,
            ..EngineSettings::single(self.context)
        }
    }

    /// Rows whose logits are wanted at a time: each sequence's token and its drafts.
    pub(super) fn logits_rows(&self) -> usize {
        let drafts = if self.mtp { MOST_DRAFTS } else { 0 };
        self.sequences * (1 + drafts)
    }
}
