//! Where each tensor of a GGUF file comes from in the bound checkpoint.
//!
//! Norms already have their 1 added and decays are `-exp(A_log)` when a checkpoint is bound. What
//! is left to change is the order of the value heads: the `qwen35` architectures have them tiled
//! over the key heads (k0 v0, k1 v0, ..., k0 v1, ...), checkpoints group them by key head.

use model::weights::{Attention, DeltaNet, FeedForward, Layer, Mixer, Mtp};
use model::{Architecture, Config, Weights};
use tensor::{DeltaShape, Reference, StoredMatrix};

use crate::export::{Part, Slot};

/// A tensor's values.
pub(super) enum Source<'a> {
    /// Parameters as f32.
    Values(Vec<f32>),
    /// Rows of stored matrices.
    Rows(Rows<'a>),
}

/// Rows of matrices of equal width, one matrix below the other.
pub(super) struct Rows<'a> {
    pub(super) matrices: Vec<&'a StoredMatrix>,
    /// Which row comes when; `None` for all in order.
    pub(super) rows: Option<Vec<usize>>,
    /// Which column comes when; `None` for all in order.
    pub(super) columns: Option<Vec<usize>>,
}

impl<'a> Rows<'a> {
    fn of(matrices: Vec<&'a StoredMatrix>) -> Self {
        Self {
            matrices,
            rows: None,
            columns: None,
        }
    }

    fn in_order(mut self, rows: Option<Vec<usize>>) -> Source<'a> {
        self.rows = rows;
        Source::Rows(self)
    }
}

impl<'a> From<&'a StoredMatrix> for Source<'a> {
    fn from(matrix: &'a StoredMatrix) -> Self {
        Source::Rows(Rows::of(vec![matrix]))
    }
}

/// The tensor is not among the weights: layout and weights contradict each other.
#[derive(Debug, thiserror::Error)]
#[error("the checkpoint has no weights for tensor {0}")]
pub(super) struct NoSource(String);

/// Finds a tensor's values.
pub(super) fn of<'a>(
    slot: &Slot,
    weights: &'a Weights<Reference>,
    config: &Config,
) -> Result<Source<'a>, NoSource> {
    let found = match slot.block {
        None => of_model(slot.part, weights),
        Some(block) => match weights.layers.get(block) {
            Some(layer) => of_layer(slot.part, layer, config),
            None => (weights.mtp.as_ref()).and_then(|mtp| of_mtp(slot.part, mtp, config)),
        },
    };
    found.ok_or_else(|| NoSource(slot.name()))
}

fn of_model<'a>(part: Part, weights: &'a Weights<Reference>) -> Option<Source<'a>> {
    Some(match part {
        Part::Embedding => (&weights.embedding).into(),
        Part::OutputNorm => Source::Values(weights.norm.clone()),
        Part::Output => weights.head.as_ref()?.into(),
        _ => return None,
    })
}

fn of_mtp<'a>(part: Part, mtp: &'a Mtp<Reference>, config: &Config) -> Option<Source<'a>> {
    Some(match part {
        Part::MtpJoin => (&mtp.join).into(),
        Part::MtpEmbeddingNorm => Source::Values(mtp.embedding_norm.clone()),
        Part::MtpHiddenNorm => Source::Values(mtp.hidden_norm.clone()),
        Part::MtpNorm => Source::Values(mtp.norm.clone()),
        Part::MtpEmbedding => mtp.embedding.as_ref()?.into(),
        Part::MtpHead => mtp.head.as_ref()?.into(),
        _ => return of_layer(part, &mtp.layer, config),
    })
}

fn of_layer<'a>(part: Part, layer: &'a Layer<Reference>, config: &Config) -> Option<Source<'a>> {
    match part {
        Part::NormIn => return Some(Source::Values(layer.norm_in.clone())),
        Part::NormMid => return Some(Source::Values(layer.norm_mid.clone())),
        _ => {}
    }
    let mixed = match &layer.mixer {
        Mixer::Attention { weights, .. } => of_attention(part, weights),
        Mixer::Delta { weights, .. } => of_delta(part, weights, config),
    };
    mixed.or_else(|| of_feed_forward(part, &layer.feed_forward))
}

fn of_attention<'a>(part: Part, weights: &'a Attention<Reference>) -> Option<Source<'a>> {
    Some(match part {
        Part::QueryGate => (&weights.query_gate).into(),
        Part::Key => (&weights.key).into(),
        Part::Value => (&weights.value).into(),
        Part::AttentionOutput => (&weights.output).into(),
        Part::QueryNorm => Source::Values(weights.query_norm.clone()),
        Part::KeyNorm => Source::Values(weights.key_norm.clone()),
        _ => return None,
    })
}

fn of_delta<'a>(
    part: Part,
    weights: &'a DeltaNet<Reference>,
    config: &Config,
) -> Option<Source<'a>> {
    let shape = &config.delta;
    let order = head_order(config);
    // The rows of the value heads after `skip` others that stay where they are.
    let rows = |skip: usize, width: usize| {
        let order = order.as_ref()?;
        let moved = expand(order, width).map(|row| skip + row);
        Some((0..skip).chain(moved).collect::<Vec<_>>())
    };
    let keys = 2 * shape.key_heads * shape.key_dim;
    let parameters = |values: &[f32], skip: usize, width: usize| {
        let values = match rows(skip, width) {
            Some(order) => order.into_iter().map(|at| values[at]).collect(),
            None => values.to_vec(),
        };
        Source::Values(values)
    };
    Some(match part {
        Part::Qkv => Rows::of(vec![&weights.qkv]).in_order(rows(keys, shape.value_dim)),
        Part::Z => Rows::of(vec![&weights.z]).in_order(rows(0, shape.value_dim)),
        Part::A => Rows::of(vec![&weights.a]).in_order(rows(0, 1)),
        Part::B => Rows::of(vec![&weights.b]).in_order(rows(0, 1)),
        Part::BetaAlpha => {
            Rows::of(vec![&weights.b, &weights.a]).in_order(Some(beta_alpha_rows(shape)))
        }
        Part::Conv => {
            let taps = shape.conv_taps;
            parameters(&weights.conv, keys * taps, shape.value_dim * taps)
        }
        Part::DtBias => parameters(&weights.dt_bias, 0, 1),
        Part::Decay => parameters(&weights.decay, 0, 1),
        Part::DeltaNorm => Source::Values(weights.norm.clone()),
        Part::DeltaOutput => Source::Rows(Rows {
            columns: rows(0, shape.value_dim),
            ..Rows::of(vec![&weights.output])
        }),
        _ => return None,
    })
}

/// The value heads in the file's order, or `None` where that is the checkpoint's.
fn head_order(config: &Config) -> Option<Vec<usize>> {
    let shape = &config.delta;
    if config.architecture == Architecture::Qwen3Next || shape.key_heads == shape.value_heads {
        return None;
    }
    let group = shape.value_heads / shape.key_heads;
    let tiled = (0..group)
        .flat_map(|member| (0..shape.key_heads).map(move |key_head| key_head * group + member));
    Some(tiled.collect())
}

/// The rows of heads that have `width` rows each.
fn expand(heads: &[usize], width: usize) -> impl Iterator<Item = usize> {
    heads
        .iter()
        .flat_map(move |&head| head * width..(head + 1) * width)
}

/// qwen3next's order in its one matrix: per key head its b rows, then its a rows. Here all b rows
/// lie above all a rows.
fn beta_alpha_rows(shape: &DeltaShape) -> Vec<usize> {
    let group = shape.value_heads / shape.key_heads;
    (0..shape.key_heads)
        .flat_map(|key_head| {
            let first = key_head * group;
            let a = shape.value_heads + first;
            (first..first + group).chain(a..a + group)
        })
        .collect()
}

fn of_feed_forward<'a>(part: Part, weights: &'a FeedForward<Reference>) -> Option<Source<'a>> {
    let moe = match weights {
        FeedForward::Dense(mlp) => {
            return Some(match part {
                Part::Gate => (&mlp.gate).into(),
                Part::Up => (&mlp.up).into(),
                Part::Down => (&mlp.down).into(),
                _ => return None,
            });
        }
        FeedForward::Experts(moe) => moe,
    };
    let experts = moe.experts.experts.iter();
    let stacked = |matrices: Vec<&'a StoredMatrix>| Source::Rows(Rows::of(matrices));
    Some(match part {
        Part::Router => (&moe.router).into(),
        Part::ExpertGates => stacked(experts.map(|expert| &expert.gate).collect()),
        Part::ExpertUps => stacked(experts.map(|expert| &expert.up).collect()),
        Part::ExpertDowns => stacked(experts.map(|expert| &expert.down).collect()),
        Part::SharedSwitch => (&moe.shared.as_ref()?.1).into(),
        Part::SharedGate => (&moe.shared.as_ref()?.0.gate).into(),
        Part::SharedUp => (&moe.shared.as_ref()?.0.up).into(),
        Part::SharedDown => (&moe.shared.as_ref()?.0.down).into(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tensor::HeadOrder;

    fn shape(key_heads: usize, value_heads: usize) -> DeltaShape {
        DeltaShape {
            key_heads,
            value_heads,
            key_dim: 1,
            value_dim: 1,
            conv_taps: 4,
            order: HeadOrder::Grouped,
        }
    }

    #[test]
    fn heads_are_tiled_over_the_key_heads() {
        let mut config = crate::synth::presets::find("qwen3.5-35b-a3b")
            .unwrap()
            .config(4, true);
        config.delta = shape(2, 6);
        let order = head_order(&config).unwrap();
        assert_eq!(order, [0, 3, 1, 4, 2, 5]);
        // Written at place t, head order[t] reads key head t % 2, as it did before.
        for (place, head) in order.into_iter().enumerate() {
            assert_eq!(config.delta.key_head(head), place % 2);
        }
        config.architecture = Architecture::Qwen3Next;
        assert_eq!(head_order(&config), None);
    }

    #[test]
    fn beta_and_alpha_alternate_by_key_head() {
        assert_eq!(
            beta_alpha_rows(&shape(2, 4)),
            [0, 1, 4, 5, 2, 3, 6, 7],
            "b0 b1 a0 a1 b2 b3 a2 a3"
        );
    }
}
