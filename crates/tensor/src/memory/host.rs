//! Sequence memory in host RAM: key/value pages, recurrent states and their held rows.

use super::{Buffer, MemoryLayout, StateSnapshot};
use crate::batch::{Batch, PageId, Span, StateId};
use crate::ops::OpError;
use crate::quant;

/// Pages and states of all sequences, in host RAM.
#[derive(Debug, Clone)]
pub struct HostMemory {
    layout: MemoryLayout,
    key_bytes: usize,
    value_bytes: usize,
    /// Per attention layer: `[pages, kv_heads, page_tokens]` rows of `key_bytes`.
    keys: Vec<Buffer<u8>>,
    /// Likewise, of `value_bytes`.
    values: Vec<Buffer<u8>>,
    /// Per delta layer: states `[states, taps - 1, channels]`, held inputs `[states, held_rows,
    /// channels]`.
    conv: Vec<Slots>,
    /// Per delta layer: states `[states, value_heads, key_dim, value_dim]`, held steps `[states,
    /// value_heads, held_rows, held_step_len]`.
    delta: Vec<Slots>,
}

/// One of a delta layer's two states, for all sequences.
#[derive(Debug, Clone)]
pub struct Slots {
    /// `[states, ..]`
    pub states: Buffer<f32>,
    /// What the held rows would add: per state room for [`MemoryLayout::held_rows`] of them.
    pub held: Buffer<f32>,
    /// Per state how many rows it holds back.
    pub counts: Vec<usize>,
}

impl Slots {
    fn new(states: usize, state_len: usize, held_len: usize) -> Result<Self, OpError> {
        Ok(Self {
            states: Buffer::zeroed(states * state_len)?,
            held: Buffer::zeroed(states * held_len)?,
            counts: vec![0; states],
        })
    }

    /// The state's values.
    fn state(&self, state: StateId) -> &[f32] {
        let len = self.states.len() / self.counts.len();
        &self.states[state.0 as usize * len..][..len]
    }

    /// A state's values and those of its held rows.
    pub fn slot(&mut self, state: StateId) -> (&mut [f32], &mut [f32]) {
        let (at, slots) = (state.0 as usize, self.counts.len());
        let (len, held_len) = (self.states.len() / slots, self.held.len() / slots);
        (
            &mut self.states[at * len..][..len],
            &mut self.held[at * held_len..][..held_len],
        )
    }

    /// Checks that each state has the rows that its span is to replay.
    ///
    /// # Errors
    /// If one has not.
    pub fn check(&self, batch: &Batch) -> Result<(), OpError> {
        let short = |span: &&Span| span.replay > self.counts[span.state.0 as usize];
        match batch.spans.iter().find(short) {
            Some(Span { state, replay, .. }) => Err(OpError::Memory(format!(
                "{replay} held rows of state {} are to be replayed, and it has {}",
                state.0, self.counts[state.0 as usize]
            ))),
            None => Ok(()),
        }
    }

    /// Notes which rows each span of a finished batch left behind as held rows.
    pub fn finish(&mut self, batch: &Batch) {
        for span in &batch.spans {
            self.counts[span.state.0 as usize] = if span.hold { span.rows.len() } else { 0 };
        }
    }
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
        let pages = |row_bytes: usize| -> Result<Vec<Buffer<u8>>, OpError> {
            (0..layout.attention_layers)
                .map(|_| Buffer::zeroed(rows * row_bytes))
                .collect()
        };
        let held = layout.held_rows;
        let slots = |state_len: usize, held_len: usize| -> Result<Vec<Slots>, OpError> {
            (0..layout.delta_layers)
                .map(|_| Slots::new(layout.states, state_len, held_len))
                .collect()
        };
        Ok(Self {
            key_bytes,
            value_bytes,
            keys: pages(key_bytes)?,
            values: pages(value_bytes)?,
            conv: slots(layout.conv_len(), held * layout.delta.channels())?,
            delta: slots(
                layout.delta_len(),
                held * layout.delta.value_heads * layout.held_step_len(),
            )?,
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
        self.conv[layer].slot(state).0
    }

    /// One layer's delta state of a sequence: `[value_heads, key_dim, value_dim]`.
    pub fn delta_state(&mut self, layer: usize, state: StateId) -> &mut [f32] {
        self.delta[layer].slot(state).0
    }

    /// One layer's convolution states of all sequences: `[states, taps - 1, channels]`, with held
    /// inputs `[states, held_rows, channels]`.
    pub fn conv_slots(&mut self, layer: usize) -> &mut Slots {
        &mut self.conv[layer]
    }

    /// One layer's delta states of all sequences: `[states, value_heads, key_dim, value_dim]`,
    /// with held steps `[states, value_heads, held_rows, held_step_len]`
    /// (see [`MemoryLayout::held_step_len`]).
    pub fn delta_slots(&mut self, layer: usize) -> &mut Slots {
        &mut self.delta[layer]
    }

    /// How many rows a state holds back.
    pub fn held(&self, state: StateId) -> usize {
        let slots = self.conv.iter().chain(&self.delta);
        slots
            .map(|slots| slots.counts[state.0 as usize])
            .max()
            .unwrap_or(0)
    }

    /// An error if a state holds rows back: it is not known then what it is the state of.
    ///
    /// # Errors
    /// As it says.
    pub fn check_settled(&self, state: StateId) -> Result<(), OpError> {
        match self.held(state) {
            0 => Ok(()),
            held => Err(OpError::Memory(format!(
                "state {} holds back {held} rows; settle it before it is copied",
                state.0
            ))),
        }
    }

    fn forget_held(&mut self, state: StateId) {
        for slots in self.conv.iter_mut().chain(&mut self.delta) {
            slots.counts[state.0 as usize] = 0;
        }
    }

    /// One layer's encoded keys and values of all pages, for devices that write several at once:
    /// each `[pages, kv_heads, page_tokens]` rows of one head.
    pub fn layer_pages(&mut self, layer: usize) -> (&mut [u8], &mut [u8]) {
        (&mut self.keys[layer], &mut self.values[layer])
    }

    /// Sets a state to that of an empty sequence.
    pub fn clear_state(&mut self, state: StateId) {
        for slots in self.conv.iter_mut().chain(&mut self.delta) {
            slots.slot(state).0.fill(0.0);
        }
        self.forget_held(state);
    }

    /// Copies a state to another slot.
    ///
    /// # Errors
    /// If it holds rows back.
    pub fn copy_state(&mut self, from: StateId, to: StateId) -> Result<(), OpError> {
        self.check_settled(from)?;
        for slots in self.conv.iter_mut().chain(&mut self.delta) {
            let len = slots.state(from).len();
            let start = from.0 as usize * len;
            slots
                .states
                .copy_within(start..start + len, to.0 as usize * len);
        }
        self.forget_held(to);
        Ok(())
    }

    /// Copies a page to another, in every layer.
    pub fn copy_page(&mut self, from: PageId, to: PageId) {
        let rows = self.layout.attention.kv_heads * self.layout.page_tokens;
        let copy = |pages: &mut Buffer<u8>, row_bytes: usize| {
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

    /// A state's parts, in the order of a snapshot.
    ///
    /// # Errors
    /// If it holds rows back.
    pub fn state_parts(&self, state: StateId) -> Result<Vec<&[f32]>, OpError> {
        self.check_settled(state)?;
        let layers = self.conv.iter().zip(&self.delta);
        let parts = layers.flat_map(|(conv, delta)| [conv.state(state), delta.state(state)]);
        Ok(parts.collect())
    }

    /// A state's parts, in the order of a snapshot, to be written. Held rows are forgotten.
    pub fn state_parts_mut(&mut self, state: StateId) -> Vec<&mut [f32]> {
        self.forget_held(state);
        let layers = self.conv.iter_mut().zip(&mut self.delta);
        layers
            .flat_map(|(conv, delta)| [conv.slot(state).0, delta.slot(state).0])
            .collect()
    }

    /// Copies a state out.
    ///
    /// # Errors
    /// If it holds rows back.
    pub fn snapshot(&self, state: StateId) -> Result<StateSnapshot, OpError> {
        let parts = self.state_parts(state)?;
        let mut values = Buffer::zeroed(self.layout.state_bytes() / size_of::<f32>())?;
        let mut rest = &mut values[..];
        for part in parts {
            let (to, tail) = rest.split_at_mut(part.len());
            to.copy_from_slice(part);
            rest = tail;
        }
        Ok(StateSnapshot { values })
    }

    /// Puts a snapshot back; held rows are forgotten.
    ///
    /// # Errors
    /// If it was made with another layout.
    pub fn restore(&mut self, state: StateId, snapshot: &StateSnapshot) -> Result<(), OpError> {
        self.check_snapshot(snapshot)?;
        let mut rest = &snapshot.values[..];
        for part in self.state_parts_mut(state) {
            let (from, tail) = rest.split_at(part.len());
            part.copy_from_slice(from);
            rest = tail;
        }
        Ok(())
    }

    /// An error if a snapshot is not of states like these.
    ///
    /// # Errors
    /// As it says.
    pub fn check_snapshot(&self, snapshot: &StateSnapshot) -> Result<(), OpError> {
        if snapshot.bytes() != self.layout.state_bytes() {
            return Err(OpError::Memory(format!(
                "a snapshot of {} bytes does not fit states of {}; it is of another model",
                snapshot.bytes(),
                self.layout.state_bytes()
            )));
        }
        Ok(())
    }
}
