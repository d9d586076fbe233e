//! Sequence memory in host RAM: key/value pages and recurrent states.
//!
//! Who owns which page and state is the engine's business; here they are numbered slots.

use formats::DType;

use crate::batch::{PageId, Span, StateId};
use crate::ops::{AttentionShape, DeltaShape, OpError};
use crate::quant;

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
}

/// A sequence's recurrent state, copied out of a device.
#[derive(Debug, Clone, PartialEq)]
pub struct StateSnapshot {
    /// For each delta layer its convolution state, then its delta state.
    pub values: Vec<f32>,
}

impl StateSnapshot {
    /// The memory it takes.
    pub fn bytes(&self) -> usize {
        self.values.len() * size_of::<f32>()
    }
}

/// Pages and states of all sequences, in host RAM.
#[derive(Debug, Clone)]
pub struct HostMemory {
    layout: MemoryLayout,
    key_bytes: usize,
    value_bytes: usize,
    /// Per attention layer: `[pages, kv_heads, page_tokens]` rows of `key_bytes`.
    keys: Vec<Vec<u8>>,
    /// Likewise, of `value_bytes`.
    values: Vec<Vec<u8>>,
    /// Per delta layer: `[states, taps - 1, channels]`.
    conv: Vec<Vec<f32>>,
    /// Per delta layer: `[states, value_heads, key_dim, value_dim]`.
    delta: Vec<Vec<f32>>,
}

impl HostMemory {
    /// Makes zeroed memory. The system gives pages to it when they are first written.
    ///
    /// # Errors
    /// If the types do not fit the head size, or sizes overflow.
    pub fn new(layout: &MemoryLayout) -> Result<Self, OpError> {
        let (key_bytes, value_bytes) = layout.row_bytes()?;
        let rows = layout
            .pages
            .checked_mul(layout.attention.kv_heads)
            .and_then(|n| n.checked_mul(layout.page_tokens))
            .filter(|n| n.checked_mul(key_bytes.max(value_bytes)).is_some())
            .ok_or_else(|| OpError::Memory(format!("{} pages are too many", layout.pages)))?;
        let zeros = |count: usize, len: usize| -> Vec<Vec<f32>> {
            (0..count).map(|_| vec![0.0; layout.states * len]).collect()
        };
        Ok(Self {
            key_bytes,
            value_bytes,
            keys: (0..layout.attention_layers)
                .map(|_| vec![0; rows * key_bytes])
                .collect(),
            values: (0..layout.attention_layers)
                .map(|_| vec![0; rows * value_bytes])
                .collect(),
            conv: zeros(layout.delta_layers, layout.conv_len()),
            delta: zeros(layout.delta_layers, layout.delta_len()),
            layout: layout.clone(),
        })
    }

    /// The sizes it was made with.
    pub fn layout(&self) -> &MemoryLayout {
        &self.layout
    }

    fn row_index(&self, page: PageId, kv_head: usize, slot: usize) -> usize {
        let heads = self.layout.attention.kv_heads;
        (page.0 as usize * heads + kv_head) * self.layout.page_tokens + slot
    }

    /// The encoded keys of one head in one page: `page_tokens` rows.
    pub fn page_keys(&self, layer: usize, page: PageId, kv_head: usize) -> &[u8] {
        let start = self.row_index(page, kv_head, 0) * self.key_bytes;
        &self.keys[layer][start..][..self.layout.page_tokens * self.key_bytes]
    }

    /// The encoded values of one head in one page: `page_tokens` rows.
    pub fn page_values(&self, layer: usize, page: PageId, kv_head: usize) -> &[u8] {
        let start = self.row_index(page, kv_head, 0) * self.value_bytes;
        &self.values[layer][start..][..self.layout.page_tokens * self.value_bytes]
    }

    /// Writes the key and value of one head for the token at `at` (its index in the sequence).
    ///
    /// # Errors
    /// If the values cannot be encoded.
    pub fn write_key_value(
        &mut self,
        layer: usize,
        span: &Span,
        at: usize,
        kv_head: usize,
        key: &[f32],
        value: &[f32],
    ) -> Result<(), OpError> {
        let page_tokens = self.layout.page_tokens;
        let row = self.row_index(span.pages[at / page_tokens], kv_head, at % page_tokens);
        let encode = |dtype, values: &[f32], out: &mut [u8]| {
            quant::encode(dtype, values, out)
                .map_err(|e| OpError::Memory(format!("key/value cache: {e}")))
        };
        let key_row = &mut self.keys[layer][row * self.key_bytes..][..self.key_bytes];
        encode(self.layout.key_type, key, key_row)?;
        let value_row = &mut self.values[layer][row * self.value_bytes..][..self.value_bytes];
        encode(self.layout.value_type, value, value_row)
    }

    /// One layer's convolution state of a sequence: `[taps - 1, channels]`, oldest first.
    pub fn conv_state(&mut self, layer: usize, state: StateId) -> &mut [f32] {
        let len = self.layout.conv_len();
        &mut self.conv[layer][state.0 as usize * len..][..len]
    }

    /// One layer's delta state of a sequence: `[value_heads, key_dim, value_dim]`.
    pub fn delta_state(&mut self, layer: usize, state: StateId) -> &mut [f32] {
        let len = self.layout.delta_len();
        &mut self.delta[layer][state.0 as usize * len..][..len]
    }

    /// One layer's convolution states of all slots, for devices that update several at once:
    /// `[states, taps - 1, channels]`.
    pub fn conv_states(&mut self, layer: usize) -> &mut [f32] {
        &mut self.conv[layer]
    }

    /// One layer's delta states of all slots: `[states, value_heads, key_dim, value_dim]`.
    pub fn delta_states(&mut self, layer: usize) -> &mut [f32] {
        &mut self.delta[layer]
    }

    /// One layer's encoded keys and values of all pages, for devices that write several at once:
    /// each `[pages, kv_heads, page_tokens]` rows of one head.
    pub fn layer_pages(&mut self, layer: usize) -> (&mut [u8], &mut [u8]) {
        (&mut self.keys[layer], &mut self.values[layer])
    }

    /// Sets a state to that of an empty sequence.
    pub fn clear_state(&mut self, state: StateId) {
        for layer in 0..self.layout.delta_layers {
            self.conv_state(layer, state).fill(0.0);
            self.delta_state(layer, state).fill(0.0);
        }
    }

    /// Copies a state to another slot.
    pub fn copy_state(&mut self, from: StateId, to: StateId) {
        let copy = |states: &mut Vec<f32>, len: usize| {
            let start = from.0 as usize * len;
            states.copy_within(start..start + len, to.0 as usize * len);
        };
        let (conv_len, delta_len) = (self.layout.conv_len(), self.layout.delta_len());
        self.conv
            .iter_mut()
            .for_each(|states| copy(states, conv_len));
        self.delta
            .iter_mut()
            .for_each(|states| copy(states, delta_len));
    }

    /// Copies a page to another, in every layer.
    pub fn copy_page(&mut self, from: PageId, to: PageId) {
        let rows = self.layout.attention.kv_heads * self.layout.page_tokens;
        let copy = |pages: &mut Vec<u8>, row_bytes: usize| {
            let len = rows * row_bytes;
            let start = from.0 as usize * len;
            pages.copy_within(start..start + len, to.0 as usize * len);
        };
        let (key_bytes, value_bytes) = (self.key_bytes, self.value_bytes);
        self.keys
            .iter_mut()
            .for_each(|pages| copy(pages, key_bytes));
        self.values
            .iter_mut()
            .for_each(|pages| copy(pages, value_bytes));
    }

    /// Copies a page out: for each attention layer its encoded keys, then its encoded values.
    pub fn read_page(&self, page: PageId) -> Vec<u8> {
        let rows = self.layout.attention.kv_heads * self.layout.page_tokens;
        let (keys, values) = (rows * self.key_bytes, rows * self.value_bytes);
        let mut bytes = Vec::with_capacity(self.keys.len() * (keys + values));
        for (layer_keys, layer_values) in self.keys.iter().zip(&self.values) {
            bytes.extend_from_slice(&layer_keys[page.0 as usize * keys..][..keys]);
            bytes.extend_from_slice(&layer_values[page.0 as usize * values..][..values]);
        }
        bytes
    }

    /// Puts the bytes of [`HostMemory::read_page`] into a page.
    ///
    /// # Errors
    /// If they were read from memory of another layout.
    pub fn write_page(&mut self, page: PageId, bytes: &[u8]) -> Result<(), OpError> {
        let rows = self.layout.attention.kv_heads * self.layout.page_tokens;
        let (keys, values) = (rows * self.key_bytes, rows * self.value_bytes);
        let expected = self.keys.len() * (keys + values);
        if bytes.len() != expected {
            return Err(OpError::Memory(format!(
                "a page of {} bytes does not fit pages of {expected}; it is of another model",
                bytes.len()
            )));
        }
        let mut rest = bytes;
        for (layer_keys, layer_values) in self.keys.iter_mut().zip(&mut self.values) {
            let (key, tail) = rest.split_at(keys);
            let (value, tail) = tail.split_at(values);
            layer_keys[page.0 as usize * keys..][..keys].copy_from_slice(key);
            layer_values[page.0 as usize * values..][..values].copy_from_slice(value);
            rest = tail;
        }
        Ok(())
    }

    /// Copies a state out.
    pub fn snapshot(&self, state: StateId) -> StateSnapshot {
        let (conv_len, delta_len) = (self.layout.conv_len(), self.layout.delta_len());
        let mut values = Vec::with_capacity(self.layout.state_bytes() / size_of::<f32>());
        for (conv, delta) in self.conv.iter().zip(&self.delta) {
            values.extend_from_slice(&conv[state.0 as usize * conv_len..][..conv_len]);
            values.extend_from_slice(&delta[state.0 as usize * delta_len..][..delta_len]);
        }
        StateSnapshot { values }
    }

    /// Puts a snapshot back.
    ///
    /// # Errors
    /// If it was made with another layout.
    pub fn restore(&mut self, state: StateId, snapshot: &StateSnapshot) -> Result<(), OpError> {
        if snapshot.bytes() != self.layout.state_bytes() {
            return Err(OpError::Memory(format!(
                "a snapshot of {} bytes does not fit states of {}; it is of another model",
                snapshot.bytes(),
                self.layout.state_bytes()
            )));
        }
        let mut rest = snapshot.values.as_slice();
        for layer in 0..self.layout.delta_layers {
            let (conv, tail) = rest.split_at(self.layout.conv_len());
            let (delta, tail) = tail.split_at(self.layout.delta_len());
            self.conv_state(layer, state).copy_from_slice(conv);
            self.delta_state(layer, state).copy_from_slice(delta);
            rest = tail;
        }
        Ok(())
    }
}
