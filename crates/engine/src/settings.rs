//! How much memory an engine makes, and in which form.

use formats::DType;
use model::Config;
use tensor::MemoryLayout;

use crate::speculate::MOST_DRAFTS;

/// How keys and values are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KvTypes {
    /// Of keys.
    pub key: DType,
    /// Of values.
    pub value: DType,
}

impl KvTypes {
    /// Both the same.
    pub fn both(dtype: DType) -> Self {
        Self {
            key: dtype,
            value: dtype,
        }
    }
}

/// How much memory an engine makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineSettings {
    /// The most tokens a sequence may hold.
    pub context: usize,
    /// Tokens of all sequences and the prefix cache together; at least the context.
    pub total_tokens: usize,
    /// The most sequences at once.
    pub sequences: usize,
    /// How keys and values are stored.
    pub kv: KvTypes,
}

/// Tokens per page: small enough that forks copy little, large enough that tables stay short.
pub(crate) const PAGE_TOKENS: usize = 64;

impl EngineSettings {
    /// One sequence of this context, f16 keys and values.
    pub fn single(context: usize) -> Self {
        Self {
            context,
            total_tokens: context,
            sequences: 1,
            kv: KvTypes::both(DType::F16),
        }
    }

    /// The memory that a model needs under these settings.
    pub fn layout(&self, config: &Config) -> MemoryLayout {
        // One page more per sequence: each one's last page is partly filled.
        let pages = self.total_tokens.max(self.context).div_ceil(PAGE_TOKENS) + self.sequences;
        let layout = config.memory_layout(
            self.kv.key,
            self.kv.value,
            PAGE_TOKENS,
            pages,
            self.sequences,
        );
        MemoryLayout {
            // The row before the drafts waits with them. This memory is not there until it is
            // written to.
            held_rows: MOST_DRAFTS + 1,
            ..layout
        }
    }
}
