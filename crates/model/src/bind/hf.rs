//! Hugging Face checkpoints of the family, in every layout that is published (section 3).
//!
//! Zero-centred norms get their 1 added here and decays become `-exp(A_log)`, so that the forward
//! pass sees what GGUF files hold. Value heads stay grouped.

use formats::StoredTensor;
use formats::hf::{HfConfig, HfQuantization, HfRope, HfTextConfig, LayerType, ModelType};
use formats::safetensors::Checkpoint;
use tensor::{
    AttentionShape, DeltaShape, HeadOrder, MlpWeights, MoeWeights, Reference, StoredExperts,
    StoredMatrix,
};

use super::{BindError, Binder, Source, check};
use crate::config::{Architecture, Config, FeedForwardKind, LayerKind};
use crate::rotary::{RotaryConfig, Yarn};
use crate::weights::{Attention, DeltaNet, FeedForward, Layer, Mixer, Mtp, Weights};

/// Turns a configuration into sizes. Whether there is a multi-token-prediction head is asked of
/// the checkpoint: re-exports often drop it, and older configurations do not speak of it.
///
/// # Errors
/// If the configuration asks for something that we do not have.
pub fn config_from_hf(hf: &HfConfig, checkpoint: &Checkpoint) -> Result<Config, BindError> {
    let text = &hf.text;
    let unsupported = |what: &str| Err(BindError::Unsupported(what.to_owned()));
    if text.attention_bias {
        return unsupported("attention_bias is true; no released model of the family has biases");
    }
    if !text.attn_output_gate {
        return unsupported("attn_output_gate is false; every model of the family has the gate");
    }
    if text.hidden_act != "silu" {
        return unsupported(&format!(
            "hidden_act is {:?}; the family uses silu",
            text.hidden_act
        ));
    }
    let (architecture, order) = match hf.model_type {
        ModelType::Qwen35Moe => (Architecture::Qwen35Moe, HeadOrder::Grouped),
        ModelType::Qwen35 => (Architecture::Qwen35, HeadOrder::Grouped),
        ModelType::Qwen3Next => (Architecture::Qwen3Next, HeadOrder::Grouped),
    };
    check(Config {
        architecture,
        vocab_size: text.vocab_size,
        hidden_size: text.hidden_size,
        layers: text
            .layer_types
            .iter()
            .map(|kind| match kind {
                LayerType::FullAttention => LayerKind::Attention,
                LayerType::LinearAttention => LayerKind::Delta,
            })
            .collect(),
        attention: AttentionShape {
            heads: text.num_attention_heads,
            kv_heads: text.num_key_value_heads,
            head_dim: text.head_dim,
        },
        delta: DeltaShape {
            key_heads: text.linear_num_key_heads,
            value_heads: text.linear_num_value_heads,
            key_dim: text.linear_key_head_dim,
            value_dim: text.linear_value_head_dim,
            conv_taps: text.linear_conv_kernel_dim,
            order,
        },
        rotary: rotary(&text.rope, text.head_dim),
        feed_forward: feed_forward(text)?,
        rms_norm_eps: text.rms_norm_eps as f32,
        context_length: text.max_position_embeddings,
        mtp_layers: usize::from(checkpoint.contains("mtp.fc.weight")),
    })
}

fn feed_forward(text: &HfTextConfig) -> Result<FeedForwardKind, BindError> {
    let Some(moe) = &text.moe else {
        let width = text.intermediate_size.ok_or_else(|| BindError::Field {
            field: "intermediate_size".to_owned(),
            expected: "the width of the dense layers".to_owned(),
            found: "missing".to_owned(),
        })?;
        return Ok(FeedForwardKind::Dense { width });
    };
    if !moe.dense_layers.is_empty() {
        return Err(BindError::Unsupported(format!(
            "layers {:?} are dense among experts; no released model of the family has such",
            moe.dense_layers
        )));
    }
    Ok(FeedForwardKind::Experts {
        count: moe.num_experts,
        top_k: moe.num_experts_per_tok,
        width: moe.moe_intermediate_size,
        shared_width: moe.shared_expert_intermediate_size,
        renormalise: moe.norm_topk_prob,
    })
}

fn rotary(rope: &HfRope, head_dim: usize) -> RotaryConfig {
    let yarn = rope.yarn.as_ref().map(|yarn| Yarn {
        factor: yarn.factor,
        original_context: yarn.original_max_position_embeddings as f64,
        beta_fast: yarn.beta_fast,
        beta_slow: yarn.beta_slow,
        truncate: yarn.truncate,
        attention_factor: yarn.attention_factor.or_else(|| {
            let scale = |m: f64| 0.1 * m * yarn.factor.max(1.0).ln() + 1.0;
            Some(scale(yarn.mscale?) / scale(yarn.mscale_all_dim?))
        }),
    });
    RotaryConfig {
        theta: rope.theta,
        dims: (head_dim as f64 * rope.partial_rotary_factor) as usize,
        sections: rope.mrope_section,
        yarn,
    }
}

/// The rows and columns of an FP8 matrix that share a scale.
fn fp8_block(hf: &HfConfig) -> Result<[usize; 2], BindError> {
    /// Larger than any matrix: one scale for all of it.
    const WHOLE: usize = 1 << 30;
    match &hf.quantization {
        None => Ok([128, 128]),
        Some(HfQuantization::Fp8 {
            weight_block_size, ..
        }) => Ok(weight_block_size.unwrap_or([WHOLE, WHOLE])),
        Some(HfQuantization::Other { method }) => Err(BindError::Unsupported(format!(
            "the checkpoint is quantised by {method:?}; use one in bf16 or fp8, or a GGUF file"
        ))),
    }
}

/// A checkpoint and how its FP8 matrices are scaled.
struct HfSource<'a> {
    checkpoint: &'a Checkpoint,
    fp8_block: [usize; 2],
}

impl Source for HfSource<'_> {
    fn find(&self, name: &str) -> Result<Option<StoredTensor>, BindError> {
        match self.checkpoint.contains(name) {
            true => Ok(Some(self.checkpoint.tensor(name)?)),
            false => Ok(None),
        }
    }

    fn fp8_block(&self) -> [usize; 2] {
        self.fp8_block
    }
}

/// Binds a checkpoint's tensors.
///
/// # Errors
/// If a tensor is missing, has another shape than the configuration asks for, or a type that
/// cannot be used.
pub fn weights_from_checkpoint(
    checkpoint: &Checkpoint,
    hf: &HfConfig,
    config: &Config,
) -> Result<Weights<Reference>, BindError> {
    let source = HfSource {
        checkpoint,
        fp8_block: fp8_block(hf)?,
    };
    let binder = Binder { source: &source };
    // Composite checkpoints have a vision model beside the text model; flat ones do not. The
    // tensors decide: re-exports mix flat configurations with composite names.
    let composite = binder.has("model.language_model.embed_tokens.weight")?;
    let prefix = if composite {
        "model.language_model"
    } else {
        "model"
    };
    let bind = Bind { binder, config };
    let Config {
        vocab_size: vocab,
        hidden_size: hidden,
        ..
    } = *config;

    let mut counts = [0, 0];
    let layers = config.layers.iter().enumerate().map(|(layer, &kind)| {
        let count = &mut counts[(kind == LayerKind::Attention) as usize];
        *count += 1;
        bind.layer(&format!("{prefix}.layers.{layer}"), kind, *count - 1)
    });
    Ok(Weights {
        embedding: bind
            .binder
            .matrix(&format!("{prefix}.embed_tokens.weight"), vocab, hidden)?,
        layers: layers.collect::<Result<_, _>>()?,
        norm: bind.zero_centred(&format!("{prefix}.norm.weight"), hidden)?,
        head: bind
            .binder
            .optional_matrix("lm_head.weight", vocab, hidden)?,
        mtp: bind.mtp()?,
    })
}

struct Bind<'a> {
    binder: Binder<'a>,
    config: &'a Config,
}

impl Bind<'_> {
    /// A norm stored as w and used as 1 + w.
    fn zero_centred(&self, name: &str, len: usize) -> Result<Vec<f32>, BindError> {
        let mut weight = self.binder.vector(name, len)?;
        weight.iter_mut().for_each(|w| *w += 1.0);
        Ok(weight)
    }

    fn layer(
        &self,
        at: &str,
        kind: LayerKind,
        index: usize,
    ) -> Result<Layer<Reference>, BindError> {
        let hidden = self.config.hidden_size;
        Ok(Layer {
            norm_in: self.zero_centred(&format!("{at}.input_layernorm.weight"), hidden)?,
            mixer: match kind {
                LayerKind::Attention => Mixer::Attention {
                    index,
                    weights: self.attention(at)?,
                },
                LayerKind::Delta => Mixer::Delta {
                    index,
                    weights: self.delta(at)?,
                },
            },
            norm_mid: self
                .zero_centred(&format!("{at}.post_attention_layernorm.weight"), hidden)?,
            feed_forward: match self.config.feed_forward {
                FeedForwardKind::Dense { width } => {
                    FeedForward::Dense(self.mlp(&format!("{at}.mlp"), width)?)
                }
                FeedForwardKind::Experts { .. } => {
                    FeedForward::Experts(self.moe(&format!("{at}.mlp"))?)
                }
            },
        })
    }

    fn attention(&self, at: &str) -> Result<Attention<Reference>, BindError> {
        let AttentionShape {
            heads,
            kv_heads,
            head_dim,
        } = self.config.attention;
        let hidden = self.config.hidden_size;
        let matrix = |part: &str, rows, cols| {
            self.binder
                .matrix(&format!("{at}.self_attn.{part}.weight"), rows, cols)
        };
        Ok(Attention {
            query_gate: matrix("q_proj", heads * 2 * head_dim, hidden)?,
            key: matrix("k_proj", kv_heads * head_dim, hidden)?,
            value: matrix("v_proj", kv_heads * head_dim, hidden)?,
            output: matrix("o_proj", hidden, heads * head_dim)?,
            query_norm: self.zero_centred(&format!("{at}.self_attn.q_norm.weight"), head_dim)?,
            key_norm: self.zero_centred(&format!("{at}.self_attn.k_norm.weight"), head_dim)?,
        })
    }

    fn delta(&self, at: &str) -> Result<DeltaNet<Reference>, BindError> {
        let shape = self.config.delta;
        let DeltaShape {
            key_heads,
            value_heads,
            key_dim,
            value_dim,
            conv_taps,
            ..
        } = shape;
        let (hidden, channels) = (self.config.hidden_size, shape.channels());
        let name = |part: &str| format!("{at}.linear_attn.{part}");
        let matrix = |part: &str, rows, cols| self.binder.matrix(&name(part), rows, cols);
        let (qkv, z, b, a) = if self.config.architecture == Architecture::Qwen3Next {
            let rows = 2 * key_heads * key_dim + 2 * value_heads * value_dim;
            let (qkv, z) = split_qkvz(&matrix("in_proj_qkvz.weight", rows, hidden)?, &shape);
            let (b, a) = split_ba(
                &matrix("in_proj_ba.weight", 2 * value_heads, hidden)?,
                &shape,
            );
            (qkv, z, b, a)
        } else {
            (
                matrix("in_proj_qkv.weight", channels, hidden)?,
                matrix("in_proj_z.weight", value_heads * value_dim, hidden)?,
                matrix("in_proj_b.weight", value_heads, hidden)?,
                matrix("in_proj_a.weight", value_heads, hidden)?,
            )
        };
        let log_decay = self.binder.vector(&name("A_log"), value_heads)?;
        Ok(DeltaNet {
            qkv,
            z,
            a,
            b,
            conv: self
                .binder
                .vector_of(&name("conv1d.weight"), &[channels, 1, conv_taps])?,
            decay: log_decay.iter().map(|a| -a.exp()).collect(),
            dt_bias: self.binder.vector(&name("dt_bias"), value_heads)?,
            norm: self.binder.vector(&name("norm.weight"), value_dim)?,
            output: matrix("out_proj.weight", hidden, value_heads * value_dim)?,
        })
    }

    fn mlp(&self, at: &str, width: usize) -> Result<MlpWeights<StoredMatrix>, BindError> {
        let hidden = self.config.hidden_size;
        let matrix = |part: &str, rows, cols| {
            self.binder
                .matrix(&format!("{at}.{part}_proj.weight"), rows, cols)
        };
        Ok(MlpWeights {
            gate: matrix("gate", width, hidden)?,
            up: matrix("up", width, hidden)?,
            down: matrix("down", hidden, width)?,
        })
    }

    fn moe(&self, at: &str) -> Result<MoeWeights<StoredMatrix, StoredExperts>, BindError> {
        let FeedForwardKind::Experts {
            count,
            top_k,
            width,
            shared_width,
            renormalise,
        } = self.config.feed_forward
        else {
            unreachable!("only called for experts")
        };
        let hidden = self.config.hidden_size;
        let fused = format!("{at}.experts.gate_up_proj");
        let experts = if self.binder.has(&fused)? {
            let stack = |name: &str, rows, cols| -> Result<StoredMatrix, BindError> {
                let tensor = self.binder.tensor(name, &[count, rows, cols])?;
                let StoredTensor {
                    name, dtype, bytes, ..
                } = tensor;
                Ok(StoredMatrix::from_parts(
                    name,
                    dtype,
                    count * rows,
                    cols,
                    bytes,
                )?)
            };
            let down = stack(&format!("{at}.experts.down_proj"), hidden, width)?;
            fused_experts(
                &stack(&fused, 2 * width, hidden)?,
                &down,
                count,
                width,
                hidden,
            )
        } else {
            (0..count)
                .map(|expert| self.mlp(&format!("{at}.experts.{expert}"), width))
                .collect::<Result<_, _>>()?
        };
        let shared = match shared_width {
            0 => None,
            _ => Some((
                self.mlp(&format!("{at}.shared_expert"), shared_width)?,
                self.binder
                    .matrix(&format!("{at}.shared_expert_gate.weight"), 1, hidden)?,
            )),
        };
        Ok(MoeWeights {
            router: self
                .binder
                .matrix(&format!("{at}.gate.weight"), count, hidden)?,
            top_k,
            renormalise,
            experts: StoredExperts { experts },
            shared,
        })
    }

    /// The multi-token-prediction head, where the checkpoint has it.
    fn mtp(&self) -> Result<Option<Mtp<Reference>>, BindError> {
        let Config {
            vocab_size: vocab,
            hidden_size: hidden,
            ..
        } = *self.config;
        if self.config.mtp_layers == 0 {
            return Ok(None);
        }
        let index = self.config.count(LayerKind::Attention);
        Ok(Some(Mtp {
            embedding_norm: self.zero_centred("mtp.pre_fc_norm_embedding.weight", hidden)?,
            hidden_norm: self.zero_centred("mtp.pre_fc_norm_hidden.weight", hidden)?,
            join: self.binder.matrix("mtp.fc.weight", hidden, 2 * hidden)?,
            layer: self.layer("mtp.layers.0", LayerKind::Attention, index)?,
            norm: self.zero_centred("mtp.norm.weight", hidden)?,
            embedding: self
                .binder
                .optional_matrix("mtp.embed_tokens.weight", vocab, hidden)?,
            head: self
                .binder
                .optional_matrix("mtp.lm_head.weight", vocab, hidden)?,
            frequent: None,
        }))
    }
}

/// Cuts experts whose gate and up rows lie in one tensor: `[count, 2 * width, hidden]`, gate
/// above up, and `down` `[count, hidden, width]`.
pub(super) fn fused_experts(
    gate_up: &StoredMatrix,
    down: &StoredMatrix,
    count: usize,
    width: usize,
    hidden: usize,
) -> Vec<MlpWeights<StoredMatrix>> {
    (0..count)
        .map(|expert| {
            let first = expert * 2 * width;
            MlpWeights {
                gate: gate_up.slice_rows(first..first + width),
                up: gate_up.slice_rows(first + width..first + 2 * width),
                down: down.slice_rows(expert * hidden..(expert + 1) * hidden),
            }
        })
        .collect()
}

/// qwen3_next's fused projection (section 13): per key head its q, k, v and z rows. Returns
/// `[q of all heads, k, v]` and z, value heads grouped.
pub fn split_qkvz(fused: &StoredMatrix, shape: &DeltaShape) -> (StoredMatrix, StoredMatrix) {
    let DeltaShape {
        key_heads,
        value_heads,
        key_dim,
        value_dim,
        ..
    } = *shape;
    let values = value_heads / key_heads * value_dim;
    let per_head = 2 * key_dim + 2 * values;
    let rows = |offset: usize, len: usize| {
        (0..key_heads).flat_map(move |head| {
            let start = head * per_head + offset;
            start..start + len
        })
    };
    let qkv: Vec<usize> = rows(0, key_dim)
        .chain(rows(key_dim, key_dim))
        .chain(rows(2 * key_dim, values))
        .collect();
    let z: Vec<usize> = rows(2 * key_dim + values, values).collect();
    (fused.gather_rows(&qkv), fused.gather_rows(&z))
}

/// qwen3_next's fused projection (section 13): per key head its b rows, then its a rows. Returns
/// b and a, value heads grouped.
pub fn split_ba(fused: &StoredMatrix, shape: &DeltaShape) -> (StoredMatrix, StoredMatrix) {
    let group = shape.value_heads / shape.key_heads;
    let rows = |offset: usize| -> Vec<usize> {
        (0..shape.value_heads)
            .map(|head| head / group * 2 * group + offset + head % group)
            .collect()
    };
    (fused.gather_rows(&rows(0)), fused.gather_rows(&rows(group)))
}
