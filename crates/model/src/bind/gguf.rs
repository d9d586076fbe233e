//! GGUF files of the family (see `docs/gguf.md`).
//!
//! Norm weights have their 1 added and decays are `-exp(A_log)` in these files already.

use formats::StoredTensor;
use formats::gguf::{GgufFile, Metadata};
use tensor::{
    AttentionShape, DeltaShape, HeadOrder, MlpWeights, MoeWeights, Reference, StoredExperts,
    StoredMatrix,
};

use super::{BindError, Binder, Source, check, multiple, size};
use crate::config::{Architecture, Config, FeedForwardKind, LayerKind};
use crate::rotary::{RotaryConfig, Yarn};
use crate::weights::{Attention, DeltaNet, FeedForward, Layer, Mixer, Mtp, Weights};

/// Reads the sizes of a model.
///
/// # Errors
/// If the architecture is not of the family, or a key is missing, of the wrong type or absurd.
pub fn config_from_gguf(file: &GgufFile) -> Result<Config, BindError> {
    let metadata = file.metadata();
    let name: &str = metadata.get("general.architecture")?;
    let architecture = match name {
        "qwen35moe" => Architecture::Qwen35Moe,
        "qwen35" => Architecture::Qwen35,
        "qwen3next" => Architecture::Qwen3Next,
        _ => {
            let supported = "qwen35moe, qwen35 and qwen3next";
            return Err(BindError::Architecture {
                found: name.to_owned(),
                supported,
            });
        }
    };
    let keys = Keys {
        metadata,
        prefix: name,
    };

    let blocks = keys.size("block_count")?;
    let mtp_layers = keys.find::<usize>("nextn_predict_layers")?.unwrap_or(0);
    if mtp_layers >= blocks {
        return Err(BindError::Field {
            field: keys.key("nextn_predict_layers"),
            expected: format!("less than the {blocks} blocks"),
            found: mtp_layers.to_string(),
        });
    }
    let trunk = blocks - mtp_layers;
    let layers = match metadata.find::<Vec<bool>>(&keys.key("attention.recurrent_layers"))? {
        Some(recurrent) if recurrent.len() >= trunk => recurrent[..trunk]
            .iter()
            .map(|&delta| {
                if delta {
                    LayerKind::Delta
                } else {
                    LayerKind::Attention
                }
            })
            .collect(),
        Some(recurrent) => {
            return Err(BindError::Field {
                field: keys.key("attention.recurrent_layers"),
                expected: format!("an entry for each of {trunk} layers"),
                found: format!("{} entries", recurrent.len()),
            });
        }
        None => {
            let interval = keys.find::<usize>("full_attention_interval")?.unwrap_or(4);
            Config::pattern(trunk, size("full_attention_interval", interval)?)
        }
    };

    let head_dim = keys.size("attention.key_length")?;
    if let Some(value_length) = keys.find::<usize>("attention.value_length")?
        && value_length != head_dim
    {
        return Err(BindError::Field {
            field: keys.key("attention.value_length"),
            expected: format!("the key length {head_dim}"),
            found: value_length.to_string(),
        });
    }
    let attention = AttentionShape {
        heads: keys.per_layer("attention.head_count", blocks)?,
        kv_heads: keys.per_layer("attention.head_count_kv", blocks)?,
        head_dim,
    };

    let state_size = keys.size("ssm.state_size")?;
    let value_heads = keys.size("ssm.time_step_rank")?;
    let inner = keys.size("ssm.inner_size")?;
    multiple(&keys.key("ssm.inner_size"), inner, value_heads)?;
    let delta = DeltaShape {
        key_heads: keys.size("ssm.group_count")?,
        value_heads,
        key_dim: state_size,
        value_dim: inner / value_heads,
        conv_taps: keys.size("ssm.conv_kernel")?,
        order: match architecture {
            Architecture::Qwen3Next => HeadOrder::Grouped,
            Architecture::Qwen35Moe | Architecture::Qwen35 => HeadOrder::Tiled,
        },
    };

    let vocab_size = file
        .tensor_info("token_embd.weight")
        .and_then(|info| info.shape.first().copied())
        .ok_or_else(|| BindError::Missing {
            name: "token_embd.weight".to_owned(),
        })?;
    let feed_forward = match keys.find::<usize>("expert_count")?.unwrap_or(0) {
        0 => FeedForwardKind::Dense {
            width: keys.size("feed_forward_length")?,
        },
        count => FeedForwardKind::Experts {
            count: size("expert_count", count)?,
            top_k: keys.size("expert_used_count")?,
            width: keys.size("expert_feed_forward_length")?,
            shared_width: keys
                .find::<usize>("expert_shared_feed_forward_length")?
                .unwrap_or(0),
            renormalise: true,
        },
    };
    check(Config {
        architecture,
        vocab_size: size("the vocabulary", vocab_size)?,
        hidden_size: keys.size("embedding_length")?,
        layers,
        attention,
        delta,
        rotary: rotary(&keys, head_dim)?,
        feed_forward,
        rms_norm_eps: metadata.get::<f32>(&keys.key("attention.layer_norm_rms_epsilon"))?,
        context_length: keys.size("context_length")?,
        mtp_layers,
    })
}

/// Metadata under the architecture's prefix.
struct Keys<'a> {
    metadata: &'a Metadata,
    prefix: &'a str,
}

impl Keys<'_> {
    fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.prefix)
    }

    fn size(&self, key: &str) -> Result<usize, BindError> {
        size(&self.key(key), self.metadata.get(&self.key(key))?)
    }

    fn find<'a, T: formats::gguf::FromValue<'a>>(
        &'a self,
        key: &str,
    ) -> Result<Option<T>, BindError> {
        Ok(self.metadata.find(&self.key(key))?)
    }

    /// One value for all layers, or an array in which all (non-zero) entries are equal: delta
    /// layers may be given 0 heads.
    fn per_layer(&self, key: &str, blocks: usize) -> Result<usize, BindError> {
        let key = self.key(key);
        let values = self
            .metadata
            .find_per_layer::<usize>(&key, blocks)?
            .unwrap_or_default();
        let mut used = values.iter().copied().filter(|&value| value != 0);
        let first = size(&key, used.next().unwrap_or(0))?;
        if used.any(|value| value != first) {
            return Err(BindError::Unsupported(format!(
                "{key} differs between layers, which no published model of the family does"
            )));
        }
        Ok(first)
    }
}

fn rotary(keys: &Keys<'_>, head_dim: usize) -> Result<RotaryConfig, BindError> {
    let sections = match keys.find::<Vec<usize>>("rope.dimension_sections")? {
        Some(sections) if sections.len() >= 3 => Some([sections[0], sections[1], sections[2]]),
        Some(sections) => {
            return Err(BindError::Field {
                field: keys.key("rope.dimension_sections"),
                expected: "three sections".to_owned(),
                found: format!("{sections:?}"),
            });
        }
        None => None,
    };
    let scaling = keys.find::<&str>("rope.scaling.type")?.unwrap_or("none");
    let yarn = match scaling {
        "none" => None,
        "yarn" => {
            let float = |key: &str| keys.find::<f32>(key).map(|v| v.map(f64::from));
            let factor = float("rope.scaling.factor")?.unwrap_or(1.0);
            let original = keys.find::<usize>("rope.scaling.original_context_length")?;
            let original = match original {
                Some(original) => original,
                None => keys.size("context_length")?,
            };
            let attention_factor = float("rope.scaling.attn_factor")?;
            Some(Yarn {
                factor,
                original_context: original as f64,
                beta_fast: float("rope.scaling.yarn_beta_fast")?.unwrap_or(32.0),
                beta_slow: float("rope.scaling.yarn_beta_slow")?.unwrap_or(1.0),
                truncate: true,
                // The file's factor comes on top of YaRN's own.
                attention_factor: attention_factor
                    .map(|extra| extra * (0.1 * factor.max(1.0).ln() + 1.0)),
            })
        }
        other => {
            return Err(BindError::Unsupported(format!(
                "{} is {other:?}; this family uses none or yarn",
                keys.key("rope.scaling.type")
            )));
        }
    };
    Ok(RotaryConfig {
        theta: keys.find::<f32>("rope.freq_base")?.map_or(1e4, f64::from),
        dims: keys
            .find::<usize>("rope.dimension_count")?
            .unwrap_or(head_dim),
        sections,
        yarn,
    })
}

impl Source for GgufFile {
    fn find(&self, name: &str) -> Result<Option<StoredTensor>, BindError> {
        match self.tensor_info(name) {
            Some(_) => Ok(Some(self.tensor(name)?)),
            None => Ok(None),
        }
    }
}

/// Binds a model's tensors.
///
/// # Errors
/// If a tensor is missing, has another shape than the configuration asks for, or a type that
/// cannot be used.
pub fn weights_from_gguf(
    file: &GgufFile,
    config: &Config,
) -> Result<Weights<Reference>, BindError> {
    let bind = Bind {
        binder: Binder { source: file },
        config,
    };
    let Config {
        vocab_size: vocab,
        hidden_size: hidden,
        ..
    } = *config;
    let mut counts = [0, 0];
    let layers = config.layers.iter().enumerate().map(|(block, &kind)| {
        let count = &mut counts[(kind == LayerKind::Attention) as usize];
        *count += 1;
        bind.layer(block, kind, *count - 1)
    });
    Ok(Weights {
        embedding: bind.binder.matrix("token_embd.weight", vocab, hidden)?,
        layers: layers.collect::<Result<_, _>>()?,
        norm: bind.binder.vector("output_norm.weight", hidden)?,
        head: bind
            .binder
            .optional_matrix("output.weight", vocab, hidden)?,
        mtp: if config.mtp_layers > 0 {
            Some(bind.mtp(config.layers.len())?)
        } else {
            None
        },
    })
}

struct Bind<'a> {
    binder: Binder<'a>,
    config: &'a Config,
}

impl Bind<'_> {
    fn layer(
        &self,
        block: usize,
        kind: LayerKind,
        index: usize,
    ) -> Result<Layer<Reference>, BindError> {
        let hidden = self.config.hidden_size;
        Ok(Layer {
            norm_in: self
                .binder
                .vector(&format!("blk.{block}.attn_norm.weight"), hidden)?,
            mixer: match kind {
                LayerKind::Attention => Mixer::Attention {
                    index,
                    weights: self.attention(block)?,
                },
                LayerKind::Delta => Mixer::Delta {
                    index,
                    weights: self.delta(block)?,
                },
            },
            norm_mid: self
                .binder
                .vector(&format!("blk.{block}.post_attention_norm.weight"), hidden)?,
            feed_forward: match self.config.feed_forward {
                FeedForwardKind::Dense { width } => FeedForward::Dense(self.mlp(block, "", width)?),
                FeedForwardKind::Experts { .. } => FeedForward::Experts(self.experts(block)?),
            },
        })
    }

    fn attention(&self, block: usize) -> Result<Attention<Reference>, BindError> {
        let AttentionShape {
            heads,
            kv_heads,
            head_dim,
        } = self.config.attention;
        let hidden = self.config.hidden_size;
        let matrix = |part: &str, rows, cols| {
            self.binder
                .matrix(&format!("blk.{block}.{part}.weight"), rows, cols)
        };
        let norm = |part: &str| {
            self.binder
                .vector(&format!("blk.{block}.{part}.weight"), head_dim)
        };
        Ok(Attention {
            query_gate: matrix("attn_q", heads * 2 * head_dim, hidden)?,
            key: matrix("attn_k", kv_heads * head_dim, hidden)?,
            value: matrix("attn_v", kv_heads * head_dim, hidden)?,
            output: matrix("attn_output", hidden, heads * head_dim)?,
            query_norm: norm("attn_q_norm")?,
            key_norm: norm("attn_k_norm")?,
        })
    }

    fn delta(&self, block: usize) -> Result<DeltaNet<Reference>, BindError> {
        let shape = self.config.delta;
        let DeltaShape {
            value_heads,
            value_dim,
            conv_taps,
            ..
        } = shape;
        let (hidden, channels) = (self.config.hidden_size, shape.channels());
        let name = |part: &str| format!("blk.{block}.{part}");
        let matrix = |part: &str, rows, cols| self.binder.matrix(&name(part), rows, cols);
        // qwen3next keeps both in one matrix: per key head its b rows, then its a rows.
        let (b, a) = match self.binder.has(&name("ssm_ba.weight"))? {
            true => {
                let both = matrix("ssm_ba.weight", 2 * value_heads, hidden)?;
                super::hf::split_ba(&both, &shape)
            }
            false => (
                matrix("ssm_beta.weight", value_heads, hidden)?,
                matrix("ssm_alpha.weight", value_heads, hidden)?,
            ),
        };
        Ok(DeltaNet {
            qkv: matrix("attn_qkv.weight", channels, hidden)?,
            z: matrix("attn_gate.weight", value_heads * value_dim, hidden)?,
            a,
            b,
            conv: self
                .binder
                .vector_of(&name("ssm_conv1d.weight"), &[channels, conv_taps])?,
            decay: self.binder.vector(&name("ssm_a"), value_heads)?,
            dt_bias: self.binder.vector(&name("ssm_dt.bias"), value_heads)?,
            norm: self.binder.vector(&name("ssm_norm.weight"), value_dim)?,
            output: matrix("ssm_out.weight", hidden, value_heads * value_dim)?,
        })
    }

    fn mlp(
        &self,
        block: usize,
        suffix: &str,
        width: usize,
    ) -> Result<MlpWeights<StoredMatrix>, BindError> {
        let hidden = self.config.hidden_size;
        let matrix = |part: &str, rows, cols| {
            self.binder.matrix(
                &format!("blk.{block}.ffn_{part}{suffix}.weight"),
                rows,
                cols,
            )
        };
        Ok(MlpWeights {
            gate: matrix("gate", width, hidden)?,
            up: matrix("up", width, hidden)?,
            down: matrix("down", hidden, width)?,
        })
    }

    fn experts(&self, block: usize) -> Result<MoeWeights<StoredMatrix, StoredExperts>, BindError> {
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
        let name = |part: &str| format!("blk.{block}.{part}.weight");
        let stack = |part: &str, rows, cols| -> Result<StoredMatrix, BindError> {
            let tensor = self.binder.tensor(&name(part), &[count, rows, cols])?;
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
        let down = stack("ffn_down_exps", hidden, width)?;
        let experts = if self.binder.has(&name("ffn_gate_up_exps"))? {
            let both = stack("ffn_gate_up_exps", 2 * width, hidden)?;
            super::hf::fused_experts(&both, &down, count, width, hidden)
        } else {
            let gate = stack("ffn_gate_exps", width, hidden)?;
            let up = stack("ffn_up_exps", width, hidden)?;
            let of = |matrix: &StoredMatrix, expert: usize, rows: usize| {
                matrix.slice_rows(expert * rows..(expert + 1) * rows)
            };
            (0..count)
                .map(|expert| MlpWeights {
                    gate: of(&gate, expert, width),
                    up: of(&up, expert, width),
                    down: of(&down, expert, hidden),
                })
                .collect()
        };
        let shared = match shared_width {
            0 => None,
            _ => Some((
                self.mlp(block, "_shexp", shared_width)?,
                self.binder.matrix(&name("ffn_gate_inp_shexp"), 1, hidden)?,
            )),
        };
        Ok(MoeWeights {
            router: self.binder.matrix(&name("ffn_gate_inp"), count, hidden)?,
            top_k,
            renormalise,
            experts: StoredExperts { experts },
            shared,
        })
    }

    fn mtp(&self, block: usize) -> Result<Mtp<Reference>, BindError> {
        let Config {
            vocab_size: vocab,
            hidden_size: hidden,
            ..
        } = *self.config;
        let name = |part: &str| format!("blk.{block}.nextn.{part}.weight");
        let index = self.config.count(LayerKind::Attention);
        Ok(Mtp {
            embedding_norm: self.binder.vector(&name("enorm"), hidden)?,
            hidden_norm: self.binder.vector(&name("hnorm"), hidden)?,
            join: self.binder.matrix(&name("eh_proj"), hidden, 2 * hidden)?,
            layer: self.layer(block, LayerKind::Attention, index)?,
            norm: self.binder.vector(&name("shared_head_norm"), hidden)?,
            embedding: self
                .binder
                .optional_matrix(&name("embed_tokens"), vocab, hidden)?,
            head: self
                .binder
                .optional_matrix(&name("shared_head_head"), vocab, hidden)?,
            frequent: None,
        })
    }
}
