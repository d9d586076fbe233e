//! Sequence memory: its sizes, and what is copied out of it.
//!
//! Who owns which page and state is the engine's business; here they are numbered slots.

mod buffer;
mod host;

use formats::DType;

use crate::ops::{AttentionShape, DeltaShape, OpError};
use crate::quant;

pub use buffer::Buffer;
pub use host::{HostMemory, Slots};

/// The sizes of sequence memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryLayout {
    /// Layers with keys and values (the multi-token-prediction layer included).
    pub attention_layers: usize,
    /// Their sizes.
    pub attention: AttentionShape,
    /// How keys are stored; a row of `head_dim` values must be whole blocks of it.
    pub key_type: DType,
    /// How values are stored; likewise.
    pub value_type: DType,
    /// Tokens per page.
    pub page_tokens: usize,
    /// Pages in the pool; each holds `page_tokens` tokens of every attention layer.
    pub pages: usize,
    /// Layers with recurrent state.
    pub delta_layers: usize,
    /// Their sizes.
    pub delta: DeltaShape,
    /// State slots in the pool.
    pub states: usize,
    /// The most rows that a state can hold back until it is known whether they stay; 0 for none.
    pub held_rows: usize,
}

impl MemoryLayout {
    /// The bytes of one key row and one value row of one head.
    ///
    /// # Errors
    /// If `head_dim` values are not whole blocks of a type that can be written.
    pub fn row_bytes(&self) -> Result<(usize, usize), OpError> {
        let bytes = |dtype: DType| match dtype.row_bytes(self.attention.head_dim) {
            Some(bytes) if quant::can_encode(dtype) => Ok(bytes),
            _ => Err(OpError::Memory(format!(
                "keys and values of {} per head cannot be kept as {dtype}; use f16, bf16, f32, \
                 q8_0 or q4_0",
                self.attention.head_dim
            ))),
        };
        Ok((bytes(self.key_type)?, bytes(self.value_type)?))
    }

    /// The bytes of one page over all layers.
    ///
    /// # Errors
    /// As [`MemoryLayout::row_bytes`].
    pub fn page_bytes(&self) -> Result<usize, OpError> {
        let (key, value) = self.row_bytes()?;
        Ok(self.attention_layers * self.attention.kv_heads * self.page_tokens * (key + value))
    }

    /// The f32 values of one layer's convolution state: `[taps - 1, channels]`, oldest first.
    pub fn conv_len(&self) -> usize {
        (self.delta.conv_taps - 1) * self.delta.channels()
    }

    /// The f32 values of one layer's delta state: `[value_heads, key_dim, value_dim]`.
    pub fn delta_len(&self) -> usize {
        self.delta.value_heads * self.delta.key_dim * self.delta.value_dim
    }

    /// The bytes of one sequence's recurrent state over all layers.
    pub fn state_bytes(&self) -> usize {
        self.delta_layers * (self.conv_len() + self.delta_len()) * size_of::<f32>()
    }

    /// The f32 values of one held row of one value head: k `[key_dim]`, v `[value_dim]`, the log
    /// of the decay, and the write strength.
    pub fn held_step_len(&self) -> usize {
        self.delta.key_dim + self.delta.value_dim + 2
    }

    /// The bytes that one sequence's held rows take beside its state, over all layers.
    pub fn held_bytes(&self) -> usize {
        let row = self.delta.channels() + self.delta.value_heads * self.held_step_len();
        self.delta_layers * self.held_rows * row * size_of::<f32>()
    }
}

/// A sequence's recurrent state, copied out of a device.
#[derive(Debug, Clone, PartialEq)]
pub struct StateSnapshot {
    /// For each delta layer its convolution state, then its delta state.
    pub values: Buffer<f32>,
}

impl StateSnapshot {
    /// The memory it takes.
    pub fn bytes(&self) -> usize {
        self.values.len() * size_of::<f32>()
    }
}
