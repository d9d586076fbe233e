//! The text model's part of `config.json`.

use super::config::ModelType;
use super::error::Problem;
use super::raw::{self, many};
use super::rope::HfRope;

/// What a layer mixes tokens with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerType {
    /// `full_attention`.
    FullAttention,
    /// `linear_attention`: Gated DeltaNet.
    LinearAttention,
}

/// The text model. Fields are called as in the file.
#[derive(Debug, Clone, PartialEq)]
pub struct HfTextConfig {
    /// Rows of the embedding; the last ones may be padding.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the dense feed-forward block; `None` where no layer can have one.
    pub intermediate_size: Option<usize>,
    /// Layers of the trunk, without the MTP head.
    pub num_hidden_layers: usize,
    /// Query heads of an attention layer.
    pub num_attention_heads: usize,
    /// Key and value heads of an attention layer; divides the number of query heads.
    pub num_key_value_heads: usize,
    /// Width of an attention head.
    pub head_dim: usize,
    /// The activation, `silu` in all released models.
    pub hidden_act: String,
    /// The longest context the model was made for.
    pub max_position_embeddings: usize,
    /// Added to the mean square under the root of every norm.
    pub rms_norm_eps: f64,
    /// Whether the attention projections have biases.
    pub attention_bias: bool,
    /// Whether attention is gated, as it is in all models of the family.
    pub attn_output_gate: bool,
    /// Rotary positions.
    pub rope: HfRope,
    /// Taps of the delta layers' convolution.
    pub linear_conv_kernel_dim: usize,
    /// Width of a key head of a delta layer.
    pub linear_key_head_dim: usize,
    /// Width of a value head of a delta layer.
    pub linear_value_head_dim: usize,
    /// Key heads of a delta layer.
    pub linear_num_key_heads: usize,
    /// Value heads of a delta layer; a multiple of the number of key heads.
    pub linear_num_value_heads: usize,
    /// The experts; `None` in dense models.
    pub moe: Option<HfMoe>,
    /// One entry per layer.
    pub layer_types: Vec<LayerType>,
    /// Layers of the multi-token prediction head; 0 if the file does not speak of one.
    pub mtp_num_hidden_layers: usize,
    /// This level's `tie_word_embeddings`; see [`super::HfConfig::tie_word_embeddings`].
    pub tie_word_embeddings: bool,
    /// The token before every text, if any.
    pub bos_token_id: Option<u32>,
    /// The tokens that end a text.
    pub eos_token_ids: Vec<u32>,
    /// The token that fills batches, if any.
    pub pad_token_id: Option<u32>,
    /// The type that most weights have, such as `bfloat16`.
    pub dtype: Option<String>,
}

/// The experts of every layer. Fields are called as in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HfMoe {
    /// Experts per layer.
    pub num_experts: usize,
    /// Experts that a token uses.
    pub num_experts_per_tok: usize,
    /// Width of an expert.
    pub moe_intermediate_size: usize,
    /// Width of the expert that every token uses.
    pub shared_expert_intermediate_size: usize,
    /// Whether the chosen experts' weights are made to sum to 1; always, except in `qwen3_next`.
    pub norm_topk_prob: bool,
    /// Layers that have a dense block instead, ascending; only `qwen3_next` can have such.
    pub dense_layers: Vec<usize>,
}

/// The class defaults of the reference library that differ between the kinds of model.
struct Defaults {
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: Option<usize>,
    num_hidden_layers: usize,
    num_key_value_heads: usize,
    /// Experts, and how many of them a token uses.
    experts: Option<(usize, usize)>,
}

fn defaults(model_type: ModelType) -> Defaults {
    match model_type {
        ModelType::Qwen35Moe => Defaults {
            vocab_size: 248_320,
            hidden_size: 2048,
            intermediate_size: None,
            num_hidden_layers: 40,
            num_key_value_heads: 2,
            experts: Some((256, 8)),
        },
        ModelType::Qwen35 => Defaults {
            vocab_size: 248_320,
            hidden_size: 4096,
            intermediate_size: Some(12_288),
            num_hidden_layers: 32,
            num_key_value_heads: 4,
            experts: None,
        },
        ModelType::Qwen3Next => Defaults {
            vocab_size: 151_936,
            hidden_size: 2048,
            intermediate_size: Some(5632),
            num_hidden_layers: 48,
            num_key_value_heads: 2,
            experts: Some((512, 10)),
        },
    }
}

impl HfTextConfig {
    pub(super) fn from_raw(raw: raw::Text, model_type: ModelType) -> Result<Self, Problem> {
        let defaults = defaults(model_type);
        let size = |field, value: Option<usize>, default: usize, limit: usize| {
            checked_size(field, value.unwrap_or(default), limit)
        };
        let layers = size(
            "num_hidden_layers",
            raw.num_hidden_layers,
            defaults.num_hidden_layers,
            1024,
        )?;
        let max_position_embeddings = size(
            "max_position_embeddings",
            raw.max_position_embeddings,
            32_768,
            1 << 32,
        )?;
        let config = Self {
            vocab_size: size("vocab_size", raw.vocab_size, defaults.vocab_size, 1 << 24)?,
            hidden_size: size("hidden_size", raw.hidden_size, defaults.hidden_size, WIDTH)?,
            intermediate_size: match raw.intermediate_size.or(defaults.intermediate_size) {
                Some(width) => Some(checked_size("intermediate_size", width, WIDTH)?),
                None => None,
            },
            num_hidden_layers: layers,
            num_attention_heads: size("num_attention_heads", raw.num_attention_heads, 16, HEADS)?,
            num_key_value_heads: size(
                "num_key_value_heads",
                raw.num_key_value_heads,
                defaults.num_key_value_heads,
                HEADS,
            )?,
            head_dim: size("head_dim", raw.head_dim, 256, HEADS)?,
            rms_norm_eps: checked_positive("rms_norm_eps", raw.rms_norm_eps.unwrap_or(1e-6))?,
            attention_bias: raw.attention_bias.unwrap_or(false),
            attn_output_gate: raw.attn_output_gate.unwrap_or(true),
            rope: HfRope::from_raw(&raw, model_type, max_position_embeddings)?,
            linear_conv_kernel_dim: size(
                "linear_conv_kernel_dim",
                raw.linear_conv_kernel_dim,
                4,
                64,
            )?,
            linear_key_head_dim: size("linear_key_head_dim", raw.linear_key_head_dim, 128, HEADS)?,
            linear_value_head_dim: size(
                "linear_value_head_dim",
                raw.linear_value_head_dim,
                128,
                HEADS,
            )?,
            linear_num_key_heads: size(
                "linear_num_key_heads",
                raw.linear_num_key_heads,
                16,
                HEADS,
            )?,
            linear_num_value_heads: size(
                "linear_num_value_heads",
                raw.linear_num_value_heads,
                32,
                HEADS,
            )?,
            moe: match defaults.experts {
                Some(experts) => Some(HfMoe::from_raw(&raw, model_type, experts, layers)?),
                None => None,
            },
            layer_types: layer_types(raw.layer_types, raw.full_attention_interval, layers)?,
            mtp_num_hidden_layers: match raw.mtp_num_hidden_layers {
                None | Some(0) => 0,
                Some(layers) => checked_size("mtp_num_hidden_layers", layers, 64)?,
            },
            tie_word_embeddings: raw.tie_word_embeddings.unwrap_or(false),
            bos_token_id: raw.bos_token_id,
            eos_token_ids: many(raw.eos_token_id),
            pad_token_id: raw.pad_token_id,
            dtype: raw.dtype.or(raw.torch_dtype),
            hidden_act: raw.hidden_act.unwrap_or_else(|| "silu".to_owned()),
            max_position_embeddings,
        };
        config.check_heads()?;
        Ok(config)
    }

    fn check_heads(&self) -> Result<(), Problem> {
        check_multiple(
            "num_attention_heads",
            self.num_attention_heads,
            "num_key_value_heads",
            self.num_key_value_heads,
        )?;
        check_multiple(
            "linear_num_value_heads",
            self.linear_num_value_heads,
            "linear_num_key_heads",
            self.linear_num_key_heads,
        )
    }
}

impl HfMoe {
    fn from_raw(
        raw: &raw::Text,
        model_type: ModelType,
        (experts, experts_per_token): (usize, usize),
        layers: usize,
    ) -> Result<Self, Problem> {
        let num_experts = checked_size("num_experts", raw.num_experts.unwrap_or(experts), 1 << 16)?;
        let is_next = model_type == ModelType::Qwen3Next;
        Ok(Self {
            num_experts,
            num_experts_per_tok: checked_size(
                "num_experts_per_tok",
                raw.num_experts_per_tok.unwrap_or(experts_per_token),
                num_experts,
            )?,
            moe_intermediate_size: checked_size(
                "moe_intermediate_size",
                raw.moe_intermediate_size.unwrap_or(512),
                WIDTH,
            )?,
            shared_expert_intermediate_size: checked_size(
                "shared_expert_intermediate_size",
                raw.shared_expert_intermediate_size.unwrap_or(512),
                WIDTH,
            )?,
            // The 3.5 classes have neither of these fields and ignore them.
            norm_topk_prob: !is_next || raw.norm_topk_prob.unwrap_or(true),
            dense_layers: if is_next {
                dense_layers(raw, layers)?
            } else {
                Vec::new()
            },
        })
    }
}

fn dense_layers(raw: &raw::Text, layers: usize) -> Result<Vec<usize>, Problem> {
    let step = raw.decoder_sparse_step.unwrap_or(1);
    let step = checked_size("decoder_sparse_step", step, layers)?;
    let listed = raw.mlp_only_layers.as_deref().unwrap_or_default();
    if listed.len() > layers {
        let found = format!("a list of {}", listed.len());
        return Err(Problem::field(
            "mlp_only_layers",
            found,
            format!("at most {layers}"),
        ));
    }
    let is_dense = |layer: &usize| listed.contains(layer) || !(layer + 1).is_multiple_of(step);
    Ok((0..layers).filter(is_dense).collect())
}

fn layer_types(
    listed: Option<Vec<String>>,
    interval: Option<usize>,
    layers: usize,
) -> Result<Vec<LayerType>, Problem> {
    const FIELD: &str = "layer_types";
    let Some(listed) = listed else {
        let interval = checked_size("full_attention_interval", interval.unwrap_or(4), 1024)?;
        let kind = |layer: usize| match (layer + 1) % interval {
            0 => LayerType::FullAttention,
            _ => LayerType::LinearAttention,
        };
        return Ok((0..layers).map(kind).collect());
    };
    if listed.len() != layers {
        let found = format!("a list of {}", listed.len());
        return Err(Problem::field(
            FIELD,
            found,
            format!("{layers}, one for each layer"),
        ));
    }
    let kind = |name: &String| match name.as_str() {
        "full_attention" => Ok(LayerType::FullAttention),
        "linear_attention" => Ok(LayerType::LinearAttention),
        other => {
            let found = format!("a list with {other:?}");
            Err(Problem::field(
                FIELD,
                found,
                "full_attention and linear_attention only",
            ))
        }
    };
    listed.iter().map(kind).collect()
}

/// Limits far above any model, low enough that products of a few of them do not overflow.
pub(super) const WIDTH: usize = 1 << 24;
pub(super) const HEADS: usize = 1 << 16;

pub(super) fn checked_size(
    field: &'static str,
    value: usize,
    limit: usize,
) -> Result<usize, Problem> {
    if value == 0 || value > limit {
        return Err(Problem::field(field, value, format!("1 to {limit}")));
    }
    Ok(value)
}

pub(super) fn checked_positive(field: &'static str, value: f64) -> Result<f64, Problem> {
    if !(value > 0.0 && value.is_finite()) {
        return Err(Problem::field(field, value, "a number above 0"));
    }
    Ok(value)
}

fn check_multiple(
    field: &'static str,
    value: usize,
    of_field: &'static str,
    of: usize,
) -> Result<(), Problem> {
    if !value.is_multiple_of(of) {
        return Err(Problem::field(
            field,
            value,
            format!("a multiple of {of_field}, {of}"),
        ));
    }
    Ok(())
}
