//! Sequence memory on the device.
//!
//! A page is one piece: for each attention layer its key rows, then its value rows (see
//! `kernels/cache.cuh`). A state is one piece in the order of a snapshot: for each delta layer the
//! convolution's, then the rule's. So each is copied at once. Held rows lie apart.

use formats::DType;
use tensor::reference::check_batch;
use tensor::{Batch, Buffer, MemoryLayout, OpError, PageId, StateId, StateSnapshot};

use crate::args;
use crate::driver::{Address, Memory};
use crate::formats_on_device::number;
use crate::gpu::Gpu;

/// Pages and states of all sequences.
pub struct PagesAndStates {
    pub(crate) layout: MemoryLayout,
    pages: Memory,
    states: Memory,
    held: Memory,
    /// Bytes of a row of keys and of values.
    strides: (usize, usize),
    /// Per delta layer and state, how many rows it holds back.
    pub(crate) conv_held: Vec<Vec<usize>>,
    pub(crate) delta_held: Vec<Vec<usize>>,
}

/// Where a layer's values of all states are: of slot 0, and how many values from slot to slot.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slots {
    pub(crate) states: Address,
    pub(crate) state_stride: u64,
    pub(crate) held: Address,
    pub(crate) held_stride: u64,
}

const F32: usize = size_of::<f32>();

impl PagesAndStates {
    pub(crate) fn new(gpu: &Gpu, layout: &MemoryLayout) -> Result<Self, OpError> {
        let (key, value) = layout.row_bytes()?;
        let attention = layout.attention;
        let is_kept = |dtype| {
            matches!(
                dtype,
                DType::F32 | DType::F16 | DType::BF16 | DType::Q8_0 | DType::Q4_0
            )
        };
        let fits = attention.head_dim.is_multiple_of(8) && attention.head_dim <= 256;
        let unset = layout.attention_layers == 0;
        if !unset && (!fits || layout.key_type != layout.value_type || !is_kept(layout.key_type)) {
            return Err(OpError::Memory(format!(
                "keys as {} and values as {} of {} a head cannot be kept on a GPU: both must be f16, bf16, \
                 f32, q8_0 or q4_0, of a multiple of 8 up to 256",
                layout.key_type, layout.value_type, attention.head_dim
            )));
        }
        let strides = (key.next_multiple_of(16), value.next_multiple_of(16));
        let too_many = || OpError::Memory("pages or states are too many".into());
        let product = |factors: &[usize]| {
            let product = factors.iter().try_fold(1usize, |n, f| n.checked_mul(*f));
            product.ok_or_else(too_many)
        };
        let rows = product(&[
            layout.attention_layers,
            attention.kv_heads,
            layout.page_tokens,
        ])?;
        let page = product(&[rows, strides.0 + strides.1])?;
        // What steps with other memory left there would be in the way.
        gpu.pool.clear();
        let pages = gpu.pool.allocate(product(&[page, layout.pages])?)?;
        let state = product(&[layout.states, layout.state_bytes()])?;
        let states = gpu.pool.allocate(state)?;
        gpu.driver.clear(&states, 0, state)?;
        let held = gpu
            .pool
            .allocate(product(&[layout.states, layout.held_bytes()])?)?;
        let none = vec![vec![0; layout.states]; layout.delta_layers];
        Ok(Self {
            layout: layout.clone(),
            pages,
            states,
            held,
            strides,
            conv_held: none.clone(),
            delta_held: none,
        })
    }

    /// One layer's part of the pages, as kernels take it.
    pub(crate) fn cache(&self, op: &'static str, layer: usize) -> Result<args::Cache, OpError> {
        let layout = &self.layout;
        if layer >= layout.attention_layers {
            return no_layer(op, layer, layout.attention_layers);
        }
        let rows = layout.attention.kv_heads * layout.page_tokens;
        let layer_bytes = rows * (self.strides.0 + self.strides.1);
        let keys = self.pages.address() + (layer * layer_bytes) as u64;
        Ok(args::Cache {
            keys,
            values: keys + (rows * self.strides.0) as u64,
            page_stride: self.page_bytes() as u64,
            key_stride: self.strides.0 as i32,
            value_stride: self.strides.1 as i32,
            key_type: number(layout.key_type) as i32,
            value_type: number(layout.value_type) as i32,
            page_tokens: layout.page_tokens as i32,
            kv_heads: layout.attention.kv_heads as i32,
            head_dim: layout.attention.head_dim as i32,
        })
    }

    /// One layer's convolution states.
    pub(crate) fn conv(&self, op: &'static str, layer: usize) -> Result<Slots, OpError> {
        self.slots(op, layer, (0, 0))
    }

    /// One layer's delta states.
    pub(crate) fn delta(&self, op: &'static str, layer: usize) -> Result<Slots, OpError> {
        let conv_held = self.layout.held_rows * self.layout.delta.channels();
        let before = (self.layout.conv_len(), conv_held);
        self.slots(op, layer, before)
    }

    /// The slots `before` values into a layer's.
    fn slots(
        &self,
        op: &'static str,
        layer: usize,
        before: (usize, usize),
    ) -> Result<Slots, OpError> {
        let layout = &self.layout;
        if layer >= layout.delta_layers {
            return no_layer(op, layer, layout.delta_layers);
        }
        let state_stride = layout.state_bytes() / F32;
        let held_stride = layout.held_bytes() / F32;
        let at = |stride: usize, before: usize| {
            ((layer * (stride / layout.delta_layers) + before) * F32) as u64
        };
        Ok(Slots {
            states: self.states.address() + at(state_stride, before.0),
            state_stride: state_stride as u64,
            held: self.held.address() + at(held_stride, before.1),
            held_stride: held_stride as u64,
        })
    }

    fn page_bytes(&self) -> usize {
        let layout = &self.layout;
        layout.attention_layers
            * layout.attention.kv_heads
            * layout.page_tokens
            * (self.strides.0 + self.strides.1)
    }

    fn check_page(&self, page: PageId) -> Result<usize, OpError> {
        if page.0 as usize >= self.layout.pages {
            return Err(OpError::Memory(format!(
                "page {} of {}",
                page.0, self.layout.pages
            )));
        }
        Ok(page.0 as usize * self.page_bytes())
    }

    fn check_state(&self, state: StateId) -> Result<usize, OpError> {
        if state.0 as usize >= self.layout.states {
            return Err(OpError::Memory(format!(
                "state {} of {}",
                state.0, self.layout.states
            )));
        }
        Ok(state.0 as usize * self.layout.state_bytes())
    }

    /// Checks a batch, and that no two of its spans share a state.
    pub(crate) fn check(&self, batch: &Batch) -> Result<(), OpError> {
        check_batch(batch, &self.layout)?;
        let mut states: Vec<StateId> = batch.spans.iter().map(|span| span.state).collect();
        states.sort_unstable();
        let twice = states.windows(2).find(|pair| pair[0] == pair[1]);
        if let Some(pair) = twice {
            return Err(OpError::Memory(format!(
                "two spans have state {}",
                pair[0].0
            )));
        }
        Ok(())
    }

    fn check_settled(&self, state: StateId) -> Result<(), OpError> {
        let all = self.conv_held.iter().chain(&self.delta_held);
        match all.map(|held| held[state.0 as usize]).max().unwrap_or(0) {
            0 => Ok(()),
            held => Err(OpError::Memory(format!(
                "state {} holds back {held} rows; settle it before it is copied",
                state.0
            ))),
        }
    }

    fn forget_held(&mut self, state: StateId) {
        for held in self.conv_held.iter_mut().chain(&mut self.delta_held) {
            held[state.0 as usize] = 0;
        }
    }

    pub(crate) fn clear_state(&mut self, gpu: &Gpu, state: StateId) -> Result<(), OpError> {
        let at = self.check_state(state)?;
        gpu.driver
            .clear(&self.states, at, self.layout.state_bytes())?;
        self.forget_held(state);
        Ok(())
    }

    pub(crate) fn copy_state(
        &mut self,
        gpu: &Gpu,
        from: StateId,
        to: StateId,
    ) -> Result<(), OpError> {
        let (from_at, to_at) = (self.check_state(from)?, self.check_state(to)?);
        self.check_settled(from)?;
        let bytes = self.layout.state_bytes();
        gpu.driver
            .copy((&self.states, to_at), (&self.states, from_at), bytes)?;
        self.forget_held(to);
        Ok(())
    }

    pub(crate) fn snapshot(&self, gpu: &Gpu, state: StateId) -> Result<StateSnapshot, OpError> {
        let at = self.check_state(state)?;
        self.check_settled(state)?;
        let mut values = Buffer::<f32>::zeroed(self.layout.state_bytes() / F32)?;
        gpu.driver.download(&self.states, at, &mut values)?;
        Ok(StateSnapshot { values })
    }

    pub(crate) fn restore(
        &mut self,
        gpu: &Gpu,
        state: StateId,
        snapshot: &StateSnapshot,
    ) -> Result<(), OpError> {
        let at = self.check_state(state)?;
        if snapshot.bytes() != self.layout.state_bytes() {
            return Err(OpError::Memory(format!(
                "a snapshot of {} bytes does not fit states of {}; it is of another model",
                snapshot.bytes(),
                self.layout.state_bytes()
            )));
        }
        let bytes: Vec<u8> = snapshot
            .values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        gpu.uploads.send(&self.states, at, &bytes)?;
        self.forget_held(state);
        Ok(())
    }

    pub(crate) fn copy_page(&mut self, gpu: &Gpu, from: PageId, to: PageId) -> Result<(), OpError> {
        let (from, to) = (self.check_page(from)?, self.check_page(to)?);
        let bytes = self.page_bytes();
        Ok(gpu
            .driver
            .copy((&self.pages, to), (&self.pages, from), bytes)?)
    }

    pub(crate) fn read_page(&self, gpu: &Gpu, page: PageId) -> Result<Vec<u8>, OpError> {
        let at = self.check_page(page)?;
        let mut bytes = vec![0u8; self.page_bytes()];
        gpu.driver.download(&self.pages, at, &mut bytes)?;
        Ok(bytes)
    }

    pub(crate) fn write_page(
        &mut self,
        gpu: &Gpu,
        page: PageId,
        bytes: &[u8],
    ) -> Result<(), OpError> {
        let at = self.check_page(page)?;
        if bytes.len() != self.page_bytes() {
            return Err(OpError::Memory(format!(
                "a page of {} bytes does not fit pages of {}; it is of another model or device",
                bytes.len(),
                self.page_bytes()
            )));
        }
        Ok(gpu.uploads.send(&self.pages, at, bytes)?)
    }
}

fn no_layer<T>(op: &'static str, layer: usize, layers: usize) -> Result<T, OpError> {
    Err(OpError::Shape {
        op,
        expected: format!("a layer below {layers}"),
        found: format!("layer {layer}"),
    })
}

/// Checks that states have the rows that a batch is to replay.
pub(crate) fn check_held(held: &[usize], batch: &Batch) -> Result<(), OpError> {
    for span in &batch.spans {
        let has = held[span.state.0 as usize];
        if span.replay > has {
            return Err(OpError::Memory(format!(
                "{} held rows of state {} are to be replayed, and it has {has}",
                span.replay, span.state.0
            )));
        }
    }
    Ok(())
}

/// Notes which rows each span of a batch leaves behind as held rows.
pub(crate) fn note_held(held: &mut [usize], batch: &Batch) {
    for span in &batch.spans {
        held[span.state.0 as usize] = if span.hold { span.rows.len() } else { 0 };
    }
}
