//! The tensors of a GGUF file of the family: names and shapes from the sizes alone.

use model::{Architecture, Config, FeedForwardKind, LayerKind};

/// What a tensor is in the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Embedding,
    OutputNorm,
    Output,
    NormIn,
    NormMid,
    QueryGate,
    Key,
    Value,
    AttentionOutput,
    QueryNorm,
    KeyNorm,
    Qkv,
    Z,
    Conv,
    A,
    B,
    /// Both in one matrix, as qwen3next has them.
    BetaAlpha,
    DtBias,
    Decay,
    DeltaNorm,
    DeltaOutput,
    Router,
    ExpertGates,
    ExpertUps,
    ExpertDowns,
    SharedSwitch,
    SharedGate,
    SharedUp,
    SharedDown,
    Gate,
    Up,
    Down,
    MtpJoin,
    MtpEmbeddingNorm,
    MtpHiddenNorm,
    MtpNorm,
    MtpEmbedding,
    MtpHead,
}

impl Part {
    /// The name in the file, after `blk.N.` for those that belong to a layer.
    fn name(self) -> &'static str {
        match self {
            Part::Embedding => "token_embd.weight",
            Part::OutputNorm => "output_norm.weight",
            Part::Output => "output.weight",
            Part::NormIn => "attn_norm.weight",
            Part::NormMid => "post_attention_norm.weight",
            Part::QueryGate => "attn_q.weight",
            Part::Key => "attn_k.weight",
            Part::Value => "attn_v.weight",
            Part::AttentionOutput => "attn_output.weight",
            Part::QueryNorm => "attn_q_norm.weight",
            Part::KeyNorm => "attn_k_norm.weight",
            Part::Qkv => "attn_qkv.weight",
            Part::Z => "attn_gate.weight",
            Part::Conv => "ssm_conv1d.weight",
            Part::A => "ssm_alpha.weight",
            Part::B => "ssm_beta.weight",
            Part::BetaAlpha => "ssm_ba.weight",
            Part::DtBias => "ssm_dt.bias",
            Part::Decay => "ssm_a",
            Part::DeltaNorm => "ssm_norm.weight",
            Part::DeltaOutput => "ssm_out.weight",
            Part::Router => "ffn_gate_inp.weight",
            Part::ExpertGates => "ffn_gate_exps.weight",
            Part::ExpertUps => "ffn_up_exps.weight",
            Part::ExpertDowns => "ffn_down_exps.weight",
            Part::SharedSwitch => "ffn_gate_inp_shexp.weight",
            Part::SharedGate => "ffn_gate_shexp.weight",
            Part::SharedUp => "ffn_up_shexp.weight",
            Part::SharedDown => "ffn_down_shexp.weight",
            Part::Gate => "ffn_gate.weight",
            Part::Up => "ffn_up.weight",
            Part::Down => "ffn_down.weight",
            Part::MtpJoin => "nextn.eh_proj.weight",
            Part::MtpEmbeddingNorm => "nextn.enorm.weight",
            Part::MtpHiddenNorm => "nextn.hnorm.weight",
            Part::MtpNorm => "nextn.shared_head_norm.weight",
            Part::MtpEmbedding => "nextn.embed_tokens.weight",
            Part::MtpHead => "nextn.shared_head_head.weight",
        }
    }
}

/// A tensor that the file will have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) part: Part,
    /// The layer it belongs to; the multi-token-prediction head is the one after the last.
    pub(crate) block: Option<usize>,
    /// Outermost dimension first.
    pub(crate) shape: Vec<usize>,
}

impl Slot {
    /// The name in the file.
    pub(crate) fn name(&self) -> String {
        match self.block {
            Some(block) => format!("blk.{block}.{}", self.part.name()),
            None => self.part.name().to_owned(),
        }
    }
}

/// Tensors that a file has or has not, whatever its sizes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Extras {
    /// An output head of its own; without, the embedding is the head.
    pub(crate) head: bool,
    /// The multi-token-prediction head has an embedding of its own.
    pub(crate) mtp_embedding: bool,
    /// The multi-token-prediction head has an output head of its own.
    pub(crate) mtp_head: bool,
}

/// All tensors of a file, in its order.
pub(crate) fn slots(config: &Config, extras: Extras) -> Vec<Slot> {
    let (vocab, hidden) = (config.vocab_size, config.hidden_size);
    let mut list = List {
        config,
        block: None,
        slots: Vec::new(),
    };
    list.add(Part::Embedding, &[vocab, hidden]);
    for (block, &kind) in config.layers.iter().enumerate() {
        list.layer(block, kind);
    }
    if config.mtp_layers > 0 {
        list.layer(config.layers.len(), LayerKind::Attention);
        list.add(Part::MtpJoin, &[hidden, 2 * hidden]);
        list.add(Part::MtpEmbeddingNorm, &[hidden]);
        list.add(Part::MtpHiddenNorm, &[hidden]);
        list.add(Part::MtpNorm, &[hidden]);
        if extras.mtp_embedding {
            list.add(Part::MtpEmbedding, &[vocab, hidden]);
        }
        if extras.mtp_head {
            list.add(Part::MtpHead, &[vocab, hidden]);
        }
    }
    list.block = None;
    list.add(Part::OutputNorm, &[hidden]);
    if extras.head {
        list.add(Part::Output, &[vocab, hidden]);
    }
    list.slots
}

struct List<'a> {
    config: &'a Config,
    block: Option<usize>,
    slots: Vec<Slot>,
}

impl List<'_> {
    fn add(&mut self, part: Part, shape: &[usize]) {
        self.slots.push(Slot {
            part,
            block: self.block,
            shape: shape.to_vec(),
        });
    }

    fn layer(&mut self, block: usize, kind: LayerKind) {
        self.block = Some(block);
        let hidden = self.config.hidden_size;
        self.add(Part::NormIn, &[hidden]);
        match kind {
            LayerKind::Attention => self.attention(),
            LayerKind::Delta => self.delta(),
        }
        self.add(Part::NormMid, &[hidden]);
        self.feed_forward();
    }

    fn attention(&mut self) {
        let hidden = self.config.hidden_size;
        let shape = self.config.attention;
        let (queries, keys) = (
            shape.heads * shape.head_dim,
            shape.kv_heads * shape.head_dim,
        );
        self.add(Part::QueryGate, &[2 * queries, hidden]);
        self.add(Part::Key, &[keys, hidden]);
        self.add(Part::Value, &[keys, hidden]);
        self.add(Part::AttentionOutput, &[hidden, queries]);
        self.add(Part::QueryNorm, &[shape.head_dim]);
        self.add(Part::KeyNorm, &[shape.head_dim]);
    }

    fn delta(&mut self) {
        let hidden = self.config.hidden_size;
        let shape = self.config.delta;
        let (heads, values) = (shape.value_heads, shape.value_heads * shape.value_dim);
        self.add(Part::Qkv, &[shape.channels(), hidden]);
        self.add(Part::Z, &[values, hidden]);
        self.add(Part::Conv, &[shape.channels(), shape.conv_taps]);
        if self.config.architecture == Architecture::Qwen3Next {
            self.add(Part::BetaAlpha, &[2 * heads, hidden]);
        } else {
            self.add(Part::B, &[heads, hidden]);
            self.add(Part::A, &[heads, hidden]);
        }
        self.add(Part::DtBias, &[heads]);
        self.add(Part::Decay, &[heads]);
        self.add(Part::DeltaNorm, &[shape.value_dim]);
        self.add(Part::DeltaOutput, &[hidden, values]);
    }

    fn feed_forward(&mut self) {
        let hidden = self.config.hidden_size;
        match self.config.feed_forward {
            FeedForwardKind::Dense { width } => {
                self.add(Part::Gate, &[width, hidden]);
                self.add(Part::Up, &[width, hidden]);
                self.add(Part::Down, &[hidden, width]);
            }
            FeedForwardKind::Experts {
                count,
                width,
                shared_width,
                ..
            } => {
                self.add(Part::Router, &[count, hidden]);
                self.add(Part::ExpertGates, &[count, width, hidden]);
                self.add(Part::ExpertUps, &[count, width, hidden]);
                self.add(Part::ExpertDowns, &[count, hidden, width]);
                if shared_width > 0 {
                    self.add(Part::SharedSwitch, &[hidden]);
                    self.add(Part::SharedGate, &[shared_width, hidden]);
                    self.add(Part::SharedUp, &[shared_width, hidden]);
                    self.add(Part::SharedDown, &[hidden, shared_width]);
                }
            }
        }
    }
}
