//! The files as they are written: every field may be missing or null.

use serde::Deserialize;

/// A value, or a list of them.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(super) enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

impl<T> OneOrMany<T> {
    pub(super) fn into_vec(self) -> Vec<T> {
        match self {
            Self::One(value) => vec![value],
            Self::Many(values) => values,
        }
    }
}

/// The list that a missing, single or listed value stands for.
pub(super) fn many<T>(values: Option<OneOrMany<T>>) -> Vec<T> {
    values.map(OneOrMany::into_vec).unwrap_or_default()
}

/// `config.json`. In a flat file the text model's fields are beside the others.
#[derive(Debug, Deserialize)]
pub(super) struct Config {
    pub(super) model_type: Option<String>,
    pub(super) text_config: Option<Text>,
    pub(super) vision_config: Option<Vision>,
    pub(super) image_token_id: Option<u32>,
    pub(super) video_token_id: Option<u32>,
    pub(super) vision_start_token_id: Option<u32>,
    pub(super) vision_end_token_id: Option<u32>,
    pub(super) quantization_config: Option<Quantization>,
}

/// The text model, at the top level or in `text_config`.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Text {
    pub(super) vocab_size: Option<usize>,
    pub(super) hidden_size: Option<usize>,
    pub(super) intermediate_size: Option<usize>,
    pub(super) num_hidden_layers: Option<usize>,
    pub(super) num_attention_heads: Option<usize>,
    pub(super) num_key_value_heads: Option<usize>,
    pub(super) head_dim: Option<usize>,
    pub(super) hidden_act: Option<String>,
    pub(super) max_position_embeddings: Option<usize>,
    pub(super) rms_norm_eps: Option<f64>,
    pub(super) attention_bias: Option<bool>,
    pub(super) attn_output_gate: Option<bool>,
    pub(super) rope_parameters: Option<Rope>,
    pub(super) rope_scaling: Option<Rope>,
    pub(super) rope_theta: Option<f64>,
    pub(super) partial_rotary_factor: Option<f64>,
    pub(super) original_max_position_embeddings: Option<usize>,
    pub(super) linear_conv_kernel_dim: Option<usize>,
    pub(super) linear_key_head_dim: Option<usize>,
    pub(super) linear_value_head_dim: Option<usize>,
    pub(super) linear_num_key_heads: Option<usize>,
    pub(super) linear_num_value_heads: Option<usize>,
    pub(super) moe_intermediate_size: Option<usize>,
    pub(super) shared_expert_intermediate_size: Option<usize>,
    pub(super) num_experts: Option<usize>,
    pub(super) num_experts_per_tok: Option<usize>,
    pub(super) norm_topk_prob: Option<bool>,
    pub(super) decoder_sparse_step: Option<usize>,
    pub(super) mlp_only_layers: Option<Vec<usize>>,
    pub(super) layer_types: Option<Vec<String>>,
    pub(super) full_attention_interval: Option<usize>,
    pub(super) mtp_num_hidden_layers: Option<usize>,
    pub(super) tie_word_embeddings: Option<bool>,
    pub(super) bos_token_id: Option<u32>,
    pub(super) eos_token_id: Option<OneOrMany<u32>>,
    pub(super) pad_token_id: Option<u32>,
    pub(super) dtype: Option<String>,
    /// What `dtype` was called before.
    pub(super) torch_dtype: Option<String>,
    pub(super) quantization_config: Option<Quantization>,
}

/// `rope_parameters`, once called `rope_scaling`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub(super) struct Rope {
    pub(super) rope_type: Option<String>,
    /// What `rope_type` was called before.
    pub(super) r#type: Option<String>,
    pub(super) rope_theta: Option<f64>,
    pub(super) partial_rotary_factor: Option<f64>,
    pub(super) mrope_section: Option<Vec<usize>>,
    pub(super) factor: Option<f64>,
    pub(super) original_max_position_embeddings: Option<usize>,
    pub(super) attention_factor: Option<f64>,
    pub(super) beta_fast: Option<f64>,
    pub(super) beta_slow: Option<f64>,
    pub(super) mscale: Option<f64>,
    pub(super) mscale_all_dim: Option<f64>,
    pub(super) truncate: Option<bool>,
}

/// `vision_config`.
#[derive(Debug, Deserialize)]
pub(super) struct Vision {
    pub(super) depth: Option<usize>,
    pub(super) hidden_size: Option<usize>,
    pub(super) hidden_act: Option<String>,
    pub(super) intermediate_size: Option<usize>,
    pub(super) num_heads: Option<usize>,
    pub(super) in_channels: Option<usize>,
    pub(super) patch_size: Option<OneOrMany<usize>>,
    pub(super) spatial_merge_size: Option<usize>,
    pub(super) temporal_patch_size: Option<OneOrMany<usize>>,
    pub(super) out_hidden_size: Option<usize>,
    pub(super) num_position_embeddings: Option<usize>,
}

/// `quantization_config`.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Quantization {
    pub(super) quant_method: Option<String>,
    pub(super) weight_block_size: Option<Vec<usize>>,
    pub(super) activation_scheme: Option<String>,
    pub(super) modules_to_not_convert: Option<Vec<String>>,
    /// Another name of the same.
    pub(super) ignored_layers: Option<Vec<String>>,
}

/// `generation_config.json`.
#[derive(Debug, Deserialize)]
pub(super) struct Generation {
    pub(super) bos_token_id: Option<u32>,
    pub(super) eos_token_id: Option<OneOrMany<u32>>,
    pub(super) pad_token_id: Option<u32>,
    pub(super) do_sample: Option<bool>,
    pub(super) temperature: Option<f64>,
    pub(super) top_k: Option<u32>,
    pub(super) top_p: Option<f64>,
    pub(super) min_p: Option<f64>,
    pub(super) presence_penalty: Option<f64>,
    pub(super) repetition_penalty: Option<f64>,
}
