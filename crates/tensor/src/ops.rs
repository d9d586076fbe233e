//! The op contract: what a device must be able to do to run the model.
//!
//! Operations are coarse and fused on purpose: each is what a device can do in one or two
//! launches, and a contract of small ones would forbid that. Activations are f32 `[rows, cols]`
//! with a row per token of the [`Batch`]; weights stay in their file's encoding. Section numbers
//! in the docs are those of the model specification of the family (see `docs/model.md`).
//!
//! Every result must depend on a row's own sequence alone, never on what else is in the batch.

use formats::DType;

use crate::batch::{Batch, PageId, StateId};
use crate::likely::{Likely, MostLikely};
use crate::matrix::StoredMatrix;
use crate::memory::{MemoryLayout, StateSnapshot};
use crate::tensor::Tensor;

/// What can go wrong in an operation.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpError {
    /// Operands do not fit each other.
    #[error("{op}: expected {expected}, found {found}")]
    Shape {
        /// The operation.
        op: &'static str,
        /// What would have fitted.
        expected: String,
        /// What was given.
        found: String,
    },
    /// A weight's type has no decoder.
    #[error(
        "tensor {name}: type {dtype} cannot hold weights; re-quantise the file to another type"
    )]
    Undecodable {
        /// The tensor.
        name: String,
        /// Its type.
        dtype: DType,
    },
    /// A weight's bytes do not fit its shape.
    #[error(
        "tensor {name}: {found} bytes do not make a [{rows}, {cols}] matrix of type {dtype}; \
         the file is damaged or its shape is wrong"
    )]
    WrongBytes {
        /// The tensor.
        name: String,
        /// Its type.
        dtype: DType,
        /// Its rows.
        rows: usize,
        /// Its columns.
        cols: usize,
        /// The bytes it has.
        found: usize,
    },
    /// A token id the embedding has no row for.
    #[error(
        "token id {token} is outside the vocabulary of {vocabulary}; was the prompt tokenized for another model?"
    )]
    TokenOutOfRange {
        /// The id.
        token: u32,
        /// The embedding's rows.
        vocabulary: usize,
    },
    /// Sequence memory could not be made or used.
    #[error("sequence memory: {0}")]
    Memory(String),
    /// The device failed.
    #[error("{device}: {message}")]
    Device {
        /// Which device.
        device: &'static str,
        /// What it said.
        message: String,
    },
}

/// How value heads are laid out over key heads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadOrder {
    /// Value head h reads key head `h / (value_heads / key_heads)`: Hugging Face, qwen3next GGUF.
    Grouped,
    /// Value head h reads key head `h % key_heads`: qwen35 and qwen35moe GGUF.
    Tiled,
}

/// The sizes of gated attention (section 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttentionShape {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Values per head.
    pub head_dim: usize,
}

/// The sizes of a Gated DeltaNet block (section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeltaShape {
    /// Heads of q and k.
    pub key_heads: usize,
    /// Heads of v; a multiple of `key_heads`.
    pub value_heads: usize,
    /// Values per head of q and k.
    pub key_dim: usize,
    /// Values per head of v.
    pub value_dim: usize,
    /// Taps of the causal convolution.
    pub conv_taps: usize,
    /// Which key head a value head reads.
    pub order: HeadOrder,
}

impl DeltaShape {
    /// The channels of the convolution: q, k and v.
    pub fn channels(&self) -> usize {
        2 * self.key_heads * self.key_dim + self.value_heads * self.value_dim
    }

    /// The key head that value head `value_head` reads.
    pub fn key_head(&self, value_head: usize) -> usize {
        match self.order {
            HeadOrder::Grouped => value_head / (self.value_heads / self.key_heads),
            HeadOrder::Tiled => value_head % self.key_heads,
        }
    }
}

/// Rotary embedding over three axes (section 10): frequency j of a head turns the pair
/// (j, j + R/2) of its first R values by `position[axes[j]] * frequencies[j]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Rotary {
    /// `[R / 2]`, radians per position; YaRN already applied.
    pub frequencies: Vec<f32>,
    /// `[R / 2]`: 0 time, 1 height, 2 width.
    pub axes: Vec<u8>,
    /// Multiplies cosine and sine (YaRN's attention factor, else 1).
    pub scale: f32,
}

impl Rotary {
    /// Cosines and sines `[R / 2]` for one token.
    pub fn angles(&self, position: [u32; 3], cos: &mut [f32], sin: &mut [f32]) {
        for (j, (&frequency, &axis)) in self.frequencies.iter().zip(&self.axes).enumerate() {
            let (s, c) = (position[axis as usize] as f32 * frequency).sin_cos();
            cos[j] = c * self.scale;
            sin[j] = s * self.scale;
        }
    }
}

/// A gated MLP, `down(act(gate x) * (up x))`.
#[derive(Debug, Clone, Copy)]
pub struct MlpWeights<M> {
    /// `[width, hidden]`
    pub gate: M,
    /// `[width, hidden]`
    pub up: M,
    /// `[hidden, width]`
    pub down: M,
}

impl<M> MlpWeights<M> {
    /// The same, borrowed.
    pub fn as_ref(&self) -> MlpWeights<&M> {
        MlpWeights {
            gate: &self.gate,
            up: &self.up,
            down: &self.down,
        }
    }
}

/// All experts of a layer as they lie in the file; each is an MLP of the same sizes.
#[derive(Debug, Clone)]
pub struct StoredExperts {
    /// One entry per expert.
    pub experts: Vec<MlpWeights<StoredMatrix>>,
}

/// A mixture-of-experts block (section 7).
#[derive(Debug, Clone)]
pub struct MoeWeights<M, E> {
    /// `[experts, hidden]`
    pub router: M,
    /// How many experts a token uses.
    pub top_k: usize,
    /// Whether the chosen experts' probabilities are renormalised to sum 1.
    pub renormalise: bool,
    /// The routed experts.
    pub experts: E,
    /// The expert every token uses, and `[1, hidden]` for its sigmoid gate.
    pub shared: Option<(MlpWeights<M>, M)>,
}

impl<M, E> MoeWeights<M, E> {
    /// The same, borrowed.
    pub fn as_ref(&self) -> MoeWeights<&M, &E> {
        MoeWeights {
            router: &self.router,
            top_k: self.top_k,
            renormalise: self.renormalise,
            experts: &self.experts,
            shared: self.shared.as_ref().map(|(mlp, gate)| (mlp.as_ref(), gate)),
        }
    }
}

/// What a device must be able to do. One value of it is one device with its threads or streams.
pub trait Ops {
    /// Activations, f32 `[rows, cols]`.
    type Tensor;
    /// A weight matrix.
    type Matrix;
    /// Small f32 parameters: norms, biases, convolution taps.
    type Vector;
    /// All experts of one layer.
    type Experts;
    /// Which experts each row uses, with their weights.
    type Routing;
    /// Pages and states of all sequences.
    type Memory;

    // Loading

    /// Takes a weight; may repack its blocks, never changes their values.
    fn load_matrix(&self, stored: StoredMatrix) -> Result<Self::Matrix, OpError>;

    /// Takes f32 parameters.
    fn load_vector(&self, values: Vec<f32>) -> Result<Self::Vector, OpError>;

    /// Takes a layer's experts.
    fn load_experts(&self, stored: StoredExperts) -> Result<Self::Experts, OpError>;

    // The model's maths

    /// Rows `tokens` of the embedding: `[tokens, hidden]`.
    fn embed(&self, table: &Self::Matrix, tokens: &[u32]) -> Result<Self::Tensor, OpError>;

    /// Adds `addend` to the residual `x` in place, then returns its RMS norm (section 4):
    /// `x * rsqrt(mean(x^2) + eps) * weight`, where `weight` is what is multiplied (1 + w already).
    fn add_norm(
        &self,
        x: &mut Self::Tensor,
        addend: Option<&Self::Tensor>,
        weight: &Self::Vector,
        eps: f32,
    ) -> Result<Self::Tensor, OpError>;

    /// `[x W0^T, x W1^T, ...]`: several weights at once, since they share their input.
    fn linear<const N: usize>(
        &self,
        x: &Self::Tensor,
        weights: [&Self::Matrix; N],
    ) -> Result<[Self::Tensor; N], OpError>;

    /// The rows at `rows`, in that order.
    fn select_rows(&self, x: &Self::Tensor, rows: &[usize]) -> Result<Self::Tensor, OpError>;

    /// `[left, right]`, column-wise.
    fn concat(&self, left: &Self::Tensor, right: &Self::Tensor) -> Result<Self::Tensor, OpError>;

    /// Prepares attention (section 5, steps 1 to 5). `query_gate` is `[rows, heads * 2 *
    /// head_dim]`, per head query then gate; `key` and `value` are `[rows, kv_heads * head_dim]`.
    /// Norms and rotates queries and keys, writes keys and values to the pages of attention layer
    /// `layer`, and returns queries and gates, each `[rows, heads * head_dim]`.
    #[expect(clippy::too_many_arguments, reason = "one fused operation")]
    fn attention_inputs(
        &self,
        memory: &mut Self::Memory,
        layer: usize,
        batch: &Batch,
        shape: &AttentionShape,
        rotary: &Rotary,
        norms: (&Self::Vector, &Self::Vector, f32),
        query_gate: Self::Tensor,
        key: Self::Tensor,
        value: Self::Tensor,
    ) -> Result<(Self::Tensor, Self::Tensor), OpError>;

    /// Causal attention over each span's pages, times `sigmoid(gate)` (section 5, steps 6 and 7):
    /// `[rows, heads * head_dim]`.
    fn attention(
        &self,
        memory: &Self::Memory,
        layer: usize,
        batch: &Batch,
        shape: &AttentionShape,
        query: Self::Tensor,
        gate: Self::Tensor,
    ) -> Result<Self::Tensor, OpError>;

    /// Causal depthwise convolution over each span, continued from and kept in its state, then
    /// SiLU (section 6, step 2). `weight` is `[channels, taps]`, oldest tap first. Held rows are
    /// replayed and rows held back as the span says.
    fn causal_conv(
        &self,
        memory: &mut Self::Memory,
        layer: usize,
        batch: &Batch,
        shape: &DeltaShape,
        weight: &Self::Vector,
        input: Self::Tensor,
    ) -> Result<Self::Tensor, OpError>;

    /// The gated delta rule (section 6, steps 3 to 7) over each span, continued from and kept in
    /// its state. `qkv` is `[rows, channels]`, `a` and `b` are `[rows, value_heads]`, `decay` is
    /// `-exp(A_log)` and `dt_bias` its companion, each `[value_heads]`. Held rows are replayed and
    /// rows held back as the span says. Returns `[rows, value_heads * value_dim]`.
    #[expect(clippy::too_many_arguments, reason = "one fused operation")]
    fn delta_rule(
        &self,
        memory: &mut Self::Memory,
        layer: usize,
        batch: &Batch,
        shape: &DeltaShape,
        qkv: Self::Tensor,
        a: &Self::Tensor,
        b: &Self::Tensor,
        decay: &Self::Vector,
        dt_bias: &Self::Vector,
    ) -> Result<Self::Tensor, OpError>;

    /// Per head of `weight.len()` values: RMS norm, times `weight`, times `silu(gate)` (section 4).
    fn gated_norm(
        &self,
        x: Self::Tensor,
        gate: &Self::Tensor,
        weight: &Self::Vector,
        eps: f32,
    ) -> Result<Self::Tensor, OpError>;

    /// Chooses each row's experts (section 7). These may lie elsewhere.
    fn route<E>(
        &self,
        x: &Self::Tensor,
        weights: &MoeWeights<&Self::Matrix, E>,
    ) -> Result<Self::Routing, OpError>;

    /// The chosen experts' weighted sum plus the gated shared expert (section 7).
    fn experts(
        &self,
        x: &Self::Tensor,
        routing: &Self::Routing,
        weights: &MoeWeights<&Self::Matrix, &Self::Experts>,
    ) -> Result<Self::Tensor, OpError>;

    /// A dense gated MLP with SiLU.
    fn mlp(
        &self,
        x: &Self::Tensor,
        weights: MlpWeights<&Self::Matrix>,
    ) -> Result<Self::Tensor, OpError>;

    /// Brings activations to the host.
    fn read(&self, x: Self::Tensor) -> Result<Tensor, OpError>;

    /// The most likely tokens of rows of `logits`, at least as many as are wanted of each row (equals of
    /// the last one come with it), in any order: for a device where they are found at less cost than all
    /// logits are read. `None` if it is not such a device, or not for these: then read them.
    fn most_likely(
        &self,
        _logits: &Self::Tensor,
        _wanted: MostLikely,
    ) -> Result<Option<Vec<Vec<Likely>>>, OpError> {
        Ok(None)
    }

    /// Takes activations from the host: `[rows, cols]`, row after row.
    ///
    /// # Errors
    /// If `values` are not as many.
    fn upload(&self, rows: usize, cols: usize, values: Vec<f32>) -> Result<Self::Tensor, OpError>;

    /// The number of rows.
    fn rows(&self, x: &Self::Tensor) -> usize;

    // Sequence memory

    /// Makes memory for sequences.
    fn new_memory(&self, layout: &MemoryLayout) -> Result<Self::Memory, OpError>;

    /// Applies a state's first `rows` held rows to it, in every layer, and forgets the others.
    /// Afterwards it is the state of a sequence of which exactly these tokens were run.
    ///
    /// # Errors
    /// If it has not so many.
    fn settle(&self, memory: &mut Self::Memory, state: StateId, rows: usize)
    -> Result<(), OpError>;

    /// Sets a state to that of an empty sequence; held rows are forgotten.
    fn clear_state(&self, memory: &mut Self::Memory, state: StateId) -> Result<(), OpError>;

    /// Copies a state, for a fork.
    ///
    /// # Errors
    /// If it holds rows back: [`Ops::settle`] it first.
    fn copy_state(
        &self,
        memory: &mut Self::Memory,
        from: StateId,
        to: StateId,
    ) -> Result<(), OpError>;

    /// Copies a page, for a fork in the middle of it.
    fn copy_page(&self, memory: &mut Self::Memory, from: PageId, to: PageId)
    -> Result<(), OpError>;

    /// Copies a page to the host, in the device's own form: for [`Ops::write_page`] only.
    fn read_page(&self, memory: &Self::Memory, page: PageId) -> Result<Vec<u8>, OpError>;

    /// Puts a page back that was read from memory of the same layout.
    fn write_page(
        &self,
        memory: &mut Self::Memory,
        page: PageId,
        bytes: &[u8],
    ) -> Result<(), OpError>;

    /// Copies a state to the host.
    ///
    /// # Errors
    /// If it holds rows back: [`Ops::settle`] it first.
    fn snapshot(&self, memory: &Self::Memory, state: StateId) -> Result<StateSnapshot, OpError>;

    /// Puts a snapshot back, exactly; held rows are forgotten.
    fn restore(
        &self,
        memory: &mut Self::Memory,
        state: StateId,
        snapshot: &StateSnapshot,
    ) -> Result<(), OpError>;
}
