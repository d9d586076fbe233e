//! The header of a GGUF file of the family: sizes under the architecture's prefix.

use formats::gguf::{Builder, Value};
use model::{Config, FeedForwardKind, LayerKind};

use super::Mix;

/// Sets everything but the vocabulary.
pub(crate) fn describe(builder: &mut Builder, config: &Config, mix: Mix, name: &str) {
    builder.set("general.architecture", config.architecture.gguf_name());
    builder.set("general.type", "model");
    builder.set("general.name", name);
    builder.set("general.file_type", mix.file_type());
    builder.set("general.quantization_version", 2u32);

    let mut keys = Keys {
        builder,
        prefix: config.architecture.gguf_name(),
    };
    keys.size("block_count", config.layers.len() + config.mtp_layers);
    if config.mtp_layers > 0 {
        keys.size("nextn_predict_layers", config.mtp_layers);
    }
    keys.size("context_length", config.context_length);
    keys.size("embedding_length", config.hidden_size);
    let attention = config.attention;
    keys.size("attention.head_count", attention.heads);
    keys.size("attention.head_count_kv", attention.kv_heads);
    keys.size("attention.key_length", attention.head_dim);
    keys.size("attention.value_length", attention.head_dim);
    keys.set("attention.layer_norm_rms_epsilon", config.rms_norm_eps);
    layer_pattern(&mut keys, config);
    feed_forward(&mut keys, config.feed_forward);
    let delta = config.delta;
    keys.size("ssm.conv_kernel", delta.conv_taps);
    keys.size("ssm.state_size", delta.key_dim);
    keys.size("ssm.group_count", delta.key_heads);
    keys.size("ssm.time_step_rank", delta.value_heads);
    keys.size("ssm.inner_size", delta.value_heads * delta.value_dim);
    rotary(&mut keys, config);
}

struct Keys<'a> {
    builder: &'a mut Builder,
    prefix: &'static str,
}

impl Keys<'_> {
    fn set(&mut self, key: &str, value: impl Into<Value>) {
        self.builder.set(&format!("{}.{key}", self.prefix), value);
    }

    fn size(&mut self, key: &str, value: usize) {
        let value = u32::try_from(value).expect("sizes of models have been checked to be small");
        self.set(key, value);
    }
}

/// The interval says it all for the published models; others list their layers.
fn layer_pattern(keys: &mut Keys<'_>, config: &Config) {
    let first = config
        .layers
        .iter()
        .position(|&kind| kind == LayerKind::Attention);
    let interval = first.map_or(config.layers.len() + 1, |index| index + 1);
    keys.size("full_attention_interval", interval);
    if Config::pattern(config.layers.len(), interval) != config.layers {
        let recurrent = config.layers.iter().map(|&kind| kind == LayerKind::Delta);
        let mtp = std::iter::repeat_n(false, config.mtp_layers);
        let flags: Vec<bool> = recurrent.chain(mtp).collect();
        keys.set("attention.recurrent_layers", flags);
    }
}

fn feed_forward(keys: &mut Keys<'_>, kind: FeedForwardKind) {
    match kind {
        FeedForwardKind::Dense { width } => keys.size("feed_forward_length", width),
        FeedForwardKind::Experts {
            count,
            top_k,
            width,
            shared_width,
            ..
        } => {
            keys.size("expert_count", count);
            keys.size("expert_used_count", top_k);
            keys.size("expert_feed_forward_length", width);
            keys.size("expert_shared_feed_forward_length", shared_width);
        }
    }
}

fn rotary(keys: &mut Keys<'_>, config: &Config) {
    let rotary = &config.rotary;
    keys.set("rope.freq_base", rotary.theta as f32);
    keys.size("rope.dimension_count", rotary.dims);
    if let Some([time, height, width]) = rotary.sections {
        let sections = [time, height, width, 0].map(|section| section as i32);
        keys.set("rope.dimension_sections", sections.to_vec());
    }
    let Some(yarn) = &rotary.yarn else { return };
    keys.set("rope.scaling.type", "yarn");
    keys.set("rope.scaling.factor", yarn.factor as f32);
    keys.size(
        "rope.scaling.original_context_length",
        yarn.original_context as usize,
    );
    keys.set("rope.scaling.yarn_beta_fast", yarn.beta_fast as f32);
    keys.set("rope.scaling.yarn_beta_slow", yarn.beta_slow as f32);
    if let Some(factor) = yarn.attention_factor {
        // The format's factor comes on top of YaRN's own.
        let own = 0.1 * yarn.factor.max(1.0).ln() + 1.0;
        keys.set("rope.scaling.attn_factor", (factor / own) as f32);
    }
}
