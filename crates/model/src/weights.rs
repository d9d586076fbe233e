//! What was learnt: the weights of a model, on whichever device (section 3).
//!
//! `Weights<Reference>` is the form that files are bound to: stored matrices and plain vectors.
//! [`Weights::load`] moves it to a device, layer by layer.

use tensor::{MlpWeights, MoeWeights, OpError, Ops, Reference};

/// A whole model's weights on the device of `O`.
pub struct Weights<O: Ops> {
    /// `[vocabulary, hidden]`
    pub embedding: O::Matrix,
    /// First to last.
    pub layers: Vec<Layer<O>>,
    /// `[hidden]`, before the head.
    pub norm: O::Vector,
    /// `[vocabulary, hidden]`; `None` where the embedding is the head.
    pub head: Option<O::Matrix>,
    /// The multi-token-prediction head, where the file has one.
    pub mtp: Option<Mtp<O>>,
}

/// One layer: normalise, mix, add, normalise, feed forward, add.
pub struct Layer<O: Ops> {
    /// `[hidden]`, before the mixer. All norm weights are what is multiplied: 1 + w is done.
    pub norm_in: O::Vector,
    /// How tokens are mixed.
    pub mixer: Mixer<O>,
    /// `[hidden]`, before the feed-forward part.
    pub norm_mid: O::Vector,
    /// What follows.
    pub feed_forward: FeedForward<O>,
}

/// The two ways to mix tokens; `index` counts the layers of the same kind.
pub enum Mixer<O: Ops> {
    /// Section 5.
    Attention {
        /// Which of the attention layers' pages.
        index: usize,
        /// What was learnt.
        weights: Attention<O>,
    },
    /// Section 6.
    Delta {
        /// Which of the delta layers' states.
        index: usize,
        /// What was learnt.
        weights: DeltaNet<O>,
    },
}

/// Gated attention.
pub struct Attention<O: Ops> {
    /// `[heads * 2 * head_dim, hidden]`, per head query rows, then gate rows.
    pub query_gate: O::Matrix,
    /// `[kv_heads * head_dim, hidden]`
    pub key: O::Matrix,
    /// `[kv_heads * head_dim, hidden]`
    pub value: O::Matrix,
    /// `[hidden, heads * head_dim]`
    pub output: O::Matrix,
    /// `[head_dim]`
    pub query_norm: O::Vector,
    /// `[head_dim]`
    pub key_norm: O::Vector,
}

/// Gated DeltaNet.
pub struct DeltaNet<O: Ops> {
    /// `[channels, hidden]`: q of all key heads, k, then v of all value heads.
    pub qkv: O::Matrix,
    /// `[value_heads * value_dim, hidden]`: the output gate z.
    pub z: O::Matrix,
    /// `[value_heads, hidden]`: the decay's input.
    pub a: O::Matrix,
    /// `[value_heads, hidden]`: the write strength's input.
    pub b: O::Matrix,
    /// `[channels, taps]`, oldest tap first.
    pub conv: O::Vector,
    /// `[value_heads]`: `-exp(A_log)`.
    pub decay: O::Vector,
    /// `[value_heads]`
    pub dt_bias: O::Vector,
    /// `[value_dim]`, one for all heads; a plain factor.
    pub norm: O::Vector,
    /// `[hidden, value_heads * value_dim]`
    pub output: O::Matrix,
}

/// The two kinds of feed-forward part.
pub enum FeedForward<O: Ops> {
    /// One gated MLP.
    Dense(MlpWeights<O::Matrix>),
    /// Experts.
    Experts(MoeWeights<O::Matrix, O::Experts>),
}

/// The multi-token-prediction head (section 12).
pub struct Mtp<O: Ops> {
    /// `[hidden]`, for the embedding of the next token.
    pub embedding_norm: O::Vector,
    /// `[hidden]`, for the trunk's final hidden state.
    pub hidden_norm: O::Vector,
    /// `[hidden, 2 * hidden]`: joins both, embedding first.
    pub join: O::Matrix,
    /// An attention layer with pages of its own.
    pub layer: Layer<O>,
    /// `[hidden]`, before the head.
    pub norm: O::Vector,
    /// `[vocabulary, hidden]`; `None` where the trunk's embedding is used.
    pub embedding: Option<O::Matrix>,
    /// `[vocabulary, hidden]`; `None` where the trunk's head is used.
    pub head: Option<O::Matrix>,
    /// `[FREQUENT_TOKENS, hidden]`: the first rows of the head that drafts, where there are many
    /// more. Made when weights are moved to a device.
    pub frequent: Option<O::Matrix>,
}

/// Tokens of which drafts can be chosen alone. Vocabularies list them about in the order of their
/// frequency; their rare half is half of the bytes that a draft would have to read.
pub const FREQUENT_TOKENS: usize = 65_536;

/// A part of a model that is in one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The table in which tokens are looked up.
    Embedding,
    /// A layer without its routed experts.
    Layer(usize),
    /// A layer's routed experts.
    Experts(usize),
    /// The output head, and the norm before it.
    Head,
    /// The multi-token-prediction head.
    Mtp,
}

impl Weights<Reference> {
    /// Moves the weights to a device: each part by what `ops` names for it. `progress` is told the
    /// layers done and their number.
    ///
    /// # Errors
    /// Whatever the device says.
    pub fn load<'o, O: Ops + 'o>(
        self,
        ops: impl Fn(Part) -> &'o O,
        mut progress: impl FnMut(usize, usize),
    ) -> Result<Weights<O>, OpError> {
        let head = self.head.as_ref().unwrap_or(&self.embedding);
        let of_drafts = |mtp: &Mtp<Reference>| {
            let head = mtp.head.as_ref().unwrap_or(head);
            (head.rows() >= 2 * FREQUENT_TOKENS).then(|| head.slice_rows(0..FREQUENT_TOKENS))
        };
        let frequent = self.mtp.as_ref().and_then(of_drafts);
        let total = self.layers.len();
        let mut layers = Vec::with_capacity(total);
        for (index, layer) in self.layers.into_iter().enumerate() {
            layers.push(layer.load(ops(Part::Layer(index)), ops(Part::Experts(index)))?);
            progress(index + 1, total);
        }
        Ok(Weights {
            embedding: ops(Part::Embedding).load_matrix(self.embedding)?,
            layers,
            norm: ops(Part::Head).load_vector(self.norm)?,
            head: self
                .head
                .map(|head| ops(Part::Head).load_matrix(head))
                .transpose()?,
            mtp: self
                .mtp
                .map(|mtp| Mtp { frequent, ..mtp }.load(ops(Part::Mtp)))
                .transpose()?,
        })
    }
}

impl Layer<Reference> {
    fn load<O: Ops>(self, ops: &O, of_experts: &O) -> Result<Layer<O>, OpError> {
        Ok(Layer {
            norm_in: ops.load_vector(self.norm_in)?,
            mixer: match self.mixer {
                Mixer::Attention { index, weights } => Mixer::Attention {
                    index,
                    weights: weights.load(ops)?,
                },
                Mixer::Delta { index, weights } => Mixer::Delta {
                    index,
                    weights: weights.load(ops)?,
                },
            },
            norm_mid: ops.load_vector(self.norm_mid)?,
            feed_forward: match self.feed_forward {
                FeedForward::Dense(mlp) => FeedForward::Dense(load_mlp(mlp, ops)?),
                FeedForward::Experts(moe) => FeedForward::Experts(load_moe(moe, ops, of_experts)?),
            },
        })
    }
}

impl Attention<Reference> {
    fn load<O: Ops>(self, ops: &O) -> Result<Attention<O>, OpError> {
        Ok(Attention {
            query_gate: ops.load_matrix(self.query_gate)?,
            key: ops.load_matrix(self.key)?,
            value: ops.load_matrix(self.value)?,
            output: ops.load_matrix(self.output)?,
            query_norm: ops.load_vector(self.query_norm)?,
            key_norm: ops.load_vector(self.key_norm)?,
        })
    }
}

impl DeltaNet<Reference> {
    fn load<O: Ops>(self, ops: &O) -> Result<DeltaNet<O>, OpError> {
        Ok(DeltaNet {
            qkv: ops.load_matrix(self.qkv)?,
            z: ops.load_matrix(self.z)?,
            a: ops.load_matrix(self.a)?,
            b: ops.load_matrix(self.b)?,
            conv: ops.load_vector(self.conv)?,
            decay: ops.load_vector(self.decay)?,
            dt_bias: ops.load_vector(self.dt_bias)?,
            norm: ops.load_vector(self.norm)?,
            output: ops.load_matrix(self.output)?,
        })
    }
}

impl Mtp<Reference> {
    fn load<O: Ops>(self, ops: &O) -> Result<Mtp<O>, OpError> {
        Ok(Mtp {
            embedding_norm: ops.load_vector(self.embedding_norm)?,
            hidden_norm: ops.load_vector(self.hidden_norm)?,
            join: ops.load_matrix(self.join)?,
            layer: self.layer.load(ops, ops)?,
            norm: ops.load_vector(self.norm)?,
            embedding: self
                .embedding
                .map(|table| ops.load_matrix(table))
                .transpose()?,
            head: self.head.map(|head| ops.load_matrix(head)).transpose()?,
            frequent: self
                .frequent
                .map(|head| ops.load_matrix(head))
                .transpose()?,
        })
    }
}

fn load_mlp<O: Ops>(
    mlp: MlpWeights<tensor::StoredMatrix>,
    ops: &O,
) -> Result<MlpWeights<O::Matrix>, OpError> {
    Ok(MlpWeights {
        gate: ops.load_matrix(mlp.gate)?,
        up: ops.load_matrix(mlp.up)?,
        down: ops.load_matrix(mlp.down)?,
    })
}

fn load_moe<O: Ops>(
    moe: MoeWeights<tensor::StoredMatrix, tensor::StoredExperts>,
    ops: &O,
    of_experts: &O,
) -> Result<MoeWeights<O::Matrix, O::Experts>, OpError> {
    let shared = match moe.shared {
        Some((mlp, gate)) => Some((load_mlp(mlp, ops)?, ops.load_matrix(gate)?)),
        None => None,
    };
    Ok(MoeWeights {
        router: ops.load_matrix(moe.router)?,
        top_k: moe.top_k,
        renormalise: moe.renormalise,
        experts: of_experts.load_experts(moe.experts)?,
        shared,
    })
}
