//! The sizes of the family's members (section 1 of `docs/model.md`).

use model::{Architecture, Config, FeedForwardKind, RotaryConfig};
use tensor::{AttentionShape, DeltaShape, HeadOrder};

/// A member of the family by its name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Preset {
    pub(crate) name: &'static str,
    architecture: Architecture,
    vocab_size: usize,
    hidden_size: usize,
    pub(crate) layers: usize,
    attention: AttentionShape,
    delta: DeltaShape,
    feed_forward: FeedForwardKind,
    /// Whether the embedding is the output head.
    pub(crate) tied: bool,
}

const VOCABULARY: usize = 248_320;

const fn attention(heads: usize, kv_heads: usize) -> AttentionShape {
    AttentionShape {
        heads,
        kv_heads,
        head_dim: 256,
    }
}

const fn delta(value_heads: usize, order: HeadOrder) -> DeltaShape {
    DeltaShape {
        key_heads: 16,
        value_heads,
        key_dim: 128,
        value_dim: 128,
        conv_taps: 4,
        order,
    }
}

const fn experts(count: usize, top_k: usize, width: usize) -> FeedForwardKind {
    FeedForwardKind::Experts {
        count,
        top_k,
        width,
        shared_width: width,
        renormalise: true,
    }
}

const fn moe(
    name: &'static str,
    hidden_size: usize,
    layers: usize,
    heads: usize,
    value_heads: usize,
    feed_forward: FeedForwardKind,
) -> Preset {
    Preset {
        name,
        architecture: Architecture::Qwen35Moe,
        vocab_size: VOCABULARY,
        hidden_size,
        layers,
        attention: attention(heads, 2),
        delta: delta(value_heads, HeadOrder::Tiled),
        feed_forward,
        tied: false,
    }
}

const fn dense(
    name: &'static str,
    hidden_size: usize,
    layers: usize,
    attention: AttentionShape,
    value_heads: usize,
    width: usize,
    tied: bool,
) -> Preset {
    Preset {
        name,
        architecture: Architecture::Qwen35,
        vocab_size: VOCABULARY,
        hidden_size,
        layers,
        attention,
        delta: delta(value_heads, HeadOrder::Tiled),
        feed_forward: FeedForwardKind::Dense { width },
        tied,
    }
}

/// All of them, and a tiny one for tests.
pub(crate) const PRESETS: [Preset; 9] = [
    moe("qwen3.5-35b-a3b", 2048, 40, 16, 32, experts(256, 8, 512)),
    moe("qwen3.5-122b-a10b", 3072, 48, 32, 64, experts(256, 8, 1024)),
    moe(
        "qwen3.5-397b-a17b",
        4096,
        60,
        32,
        64,
        experts(512, 10, 1024),
    ),
    dense("qwen3.5-27b", 5120, 64, attention(24, 4), 48, 17408, false),
    dense("qwen3.5-9b", 4096, 32, attention(16, 4), 32, 12288, false),
    dense("qwen3.5-4b", 2560, 32, attention(16, 4), 32, 9216, true),
    dense("qwen3.5-0.8b", 1024, 24, attention(8, 2), 16, 3584, true),
    Preset {
        name: "qwen3-next-80b-a3b",
        architecture: Architecture::Qwen3Next,
        vocab_size: 151_936,
        hidden_size: 2048,
        layers: 48,
        attention: attention(16, 2),
        delta: delta(32, HeadOrder::Grouped),
        feed_forward: experts(512, 10, 512),
        tied: false,
    },
    // Nobody has published this one: it is the 35B's shape in a few megabytes.
    Preset {
        name: "tiny",
        architecture: Architecture::Qwen35Moe,
        vocab_size: 2048,
        hidden_size: 256,
        layers: 8,
        attention: AttentionShape {
            heads: 4,
            kv_heads: 2,
            head_dim: 64,
        },
        delta: DeltaShape {
            key_heads: 2,
            value_heads: 4,
            key_dim: 64,
            value_dim: 64,
            conv_taps: 4,
            order: HeadOrder::Tiled,
        },
        feed_forward: experts(16, 4, 256),
        tied: false,
    },
];

/// The preset of that name; `qwen3.5-` may be left out.
pub(crate) fn find(name: &str) -> Option<&'static Preset> {
    let name = name.to_ascii_lowercase();
    PRESETS.iter().find(|preset| {
        let short = preset.name.trim_start_matches("qwen3.5-");
        preset.name == name || short == name || preset.name.trim_start_matches("qwen3-") == name
    })
}

impl Preset {
    /// The sizes with this many layers, with or without the multi-token-prediction head.
    pub(crate) fn config(&self, layers: usize, mtp: bool) -> Config {
        // A quarter of each head turns. Its frequencies are shared evenly by the three axes, what
        // is left over goes to the first ones: 11, 11 and 10 of 32.
        let dims = self.attention.head_dim / 4;
        let share = |axis: usize| (dims / 2 + 2 - axis) / 3;
        let has_axes = self.architecture != Architecture::Qwen3Next;
        Config {
            architecture: self.architecture,
            vocab_size: self.vocab_size,
            hidden_size: self.hidden_size,
            layers: Config::pattern(layers, 4),
            attention: self.attention,
            delta: self.delta,
            rotary: RotaryConfig {
                theta: 1e7,
                dims,
                sections: has_axes.then(|| [share(0), share(1), share(2)]),
                yarn: None,
            },
            feed_forward: self.feed_forward,
            rms_norm_eps: 1e-6,
            context_length: 262_144,
            mtp_layers: usize::from(mtp),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_are_found_by_full_and_short_name() {
        assert_eq!(find("35B-A3B").unwrap().name, "qwen3.5-35b-a3b");
        assert_eq!(find("next-80b-a3b").unwrap().name, "qwen3-next-80b-a3b");
        assert!(find("gpt-2").is_none());
    }

    #[test]
    fn sections_are_the_published_ones() {
        let config = find("27b").unwrap().config(64, true);
        assert_eq!(config.rotary.dims, 64);
        assert_eq!(config.rotary.sections, Some([11, 11, 10]));
    }

    /// The shapes add up to the sizes in the names: the check that no number above is mistyped.
    #[test]
    fn the_parameter_counts_come_out_right() {
        let check = |name: &str, billions: f64| {
            let preset = find(name).unwrap();
            let extras = crate::export::Extras {
                head: !preset.tied,
                ..Default::default()
            };
            let slots = crate::export::layout::slots(&preset.config(preset.layers, false), extras);
            let count: usize = slots
                .iter()
                .map(|slot| slot.shape.iter().product::<usize>())
                .sum();
            let found = count as f64 / 1e9;
            assert!((found / billions - 1.0).abs() < 1e-3, "{name}: {found} B");
        };
        check("35b-a3b", 34.66);
        check("122b-a10b", 122.1);
        check("27b", 26.90);
        check("397b-a17b", 396.3);
        check("9b", 8.95);
        check("next-80b-a3b", 79.67);
    }
}
