//! What a step must read and multiply at least: the limits that speed is judged by.
//!
//! Counted from the tensors of the file and the sizes of the model (`docs/performance.md`).
//! Activations are left out: those of one token stay in the caches.

use formats::DType;
use model::weights::{FeedForward, Layer, Mixer};
use model::{Config, LayerKind, Weights};
use tensor::{MemoryLayout, MlpWeights, OpError, Reference, StoredMatrix};

/// The experts of one layer, each of the same size.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Experts {
    count: usize,
    top_k: usize,
    /// Bytes of one.
    bytes: f64,
    /// Multiplications with one, per token.
    macs: f64,
}

/// A model's counts.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Limits {
    /// All weights, the multi-token-prediction head included.
    pub(crate) parameters: u64,
    /// Weights that every step reads once, without experts and output head.
    common_bytes: f64,
    common_macs: f64,
    experts: Vec<Experts>,
    head_bytes: f64,
    head_macs: f64,
    /// One row of the embedding.
    embedding_bytes: f64,
    /// Recurrent state of one sequence.
    state_bytes: f64,
    /// Multiplications of delta rule (recurrent form) and convolution per token.
    delta_macs: f64,
    /// Keys and values of one token in all layers.
    token_bytes: f64,
    /// Multiplications of a token with the key and value of one earlier token, in all layers.
    attention_macs: f64,
}

/// Bytes that a decoding step moves, per token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Traffic {
    /// Active weights.
    pub(crate) weights: f64,
    /// Recurrent state, read and written.
    pub(crate) state: f64,
    /// Keys and values.
    pub(crate) cache: f64,
}

impl Traffic {
    pub(crate) fn total(&self) -> f64 {
        self.weights + self.state + self.cache
    }
}

impl Limits {
    /// Counts a model's weights and memory. `layout` has the types of keys and values.
    ///
    /// # Errors
    /// If the layout's types do not fit the model.
    pub(crate) fn count(
        weights: &Weights<Reference>,
        config: &Config,
        layout: &MemoryLayout,
    ) -> Result<Self, OpError> {
        let head = weights.head.as_ref().unwrap_or(&weights.embedding);
        let (key_row, value_row) = layout.row_bytes()?;
        let attention = config.count(LayerKind::Attention) as f64;
        let delta = config.count(LayerKind::Delta) as f64;
        let per_head = config.delta.key_dim * config.delta.value_dim;
        let taps = config.delta.conv_taps * config.delta.channels();
        let mut limits = Self {
            parameters: parameters(weights),
            common_bytes: bytes(weights.norm.len()),
            common_macs: 0.0,
            experts: Vec::new(),
            head_bytes: head.bytes().len() as f64,
            head_macs: macs(head),
            embedding_bytes: weights.embedding.row_bytes() as f64,
            state_bytes: layout.state_bytes() as f64,
            delta_macs: delta * (3 * config.delta.value_heads * per_head + taps) as f64,
            token_bytes: attention * (config.attention.kv_heads * (key_row + value_row)) as f64,
            attention_macs: attention
                * (2 * config.attention.heads * config.attention.head_dim) as f64,
        };
        weights.layers.iter().for_each(|layer| limits.add(layer));
        Ok(limits)
    }

    fn add(&mut self, layer: &Layer<Reference>) {
        for part in parts(layer) {
            self.common_bytes += part.bytes;
            self.common_macs += part.macs;
        }
        if let FeedForward::Experts(moe) = &layer.feed_forward {
            let all = &moe.experts.experts;
            let count = all.len().max(1);
            let sum = |of: fn(&StoredMatrix) -> f64| {
                all.iter().flat_map(matrices).map(of).sum::<f64>() / count as f64
            };
            self.experts.push(Experts {
                count,
                top_k: moe.top_k,
                bytes: sum(stored_bytes),
                macs: sum(macs),
            });
        }
    }

    /// What one token costs where `sequences` decode together, each with `context` tokens to
    /// read (its own new one included), on average. Which experts the sequences share is not
    /// known: uniform routing is assumed.
    pub(crate) fn decode(&self, sequences: usize, context: f64) -> Traffic {
        let sharers = sequences.max(1) as f64;
        let experts: f64 = self
            .experts
            .iter()
            .map(|experts| experts.step(sharers))
            .sum();
        Traffic {
            weights: (self.common_bytes + self.head_bytes + experts) / sharers
                + self.embedding_bytes,
            state: 2.0 * self.state_bytes,
            cache: self.token_bytes * context,
        }
    }

    /// Multiplications of a prefill of `tokens` tokens behind `depth` others, with one row of
    /// logits.
    pub(crate) fn prefill(&self, tokens: usize, depth: usize) -> f64 {
        let rows = tokens as f64;
        let experts: f64 = self
            .experts
            .iter()
            .map(|experts| experts.top_k as f64 * experts.macs)
            .sum();
        // Token i of the prompt sees depth + i + 1.
        let seen = rows * depth as f64 + rows * (rows + 1.0) / 2.0;
        rows * (self.common_macs + experts + self.delta_macs)
            + seen * self.attention_macs
            + self.head_macs
    }

    /// The bytes of one sequence's recurrent state.
    pub(crate) fn state_bytes(&self) -> f64 {
        self.state_bytes
    }
}

impl Experts {
    /// The bytes of those that at least one of `sharers` tokens chose.
    fn step(&self, sharers: f64) -> f64 {
        let count = self.count as f64;
        let is_chosen = 1.0 - (1.0 - self.top_k as f64 / count).powf(sharers);
        count * is_chosen * self.bytes
    }
}

/// A weight's values, bytes and multiplications per token.
struct Part {
    values: f64,
    bytes: f64,
    macs: f64,
}

/// Everything of a layer that each token uses.
fn parts(layer: &Layer<Reference>) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut matrix = |stored: &StoredMatrix| {
        parts.push(Part {
            values: macs(stored),
            bytes: stored_bytes(stored),
            macs: macs(stored),
        });
    };
    let mut values = layer.norm_in.len() + layer.norm_mid.len();
    match &layer.mixer {
        Mixer::Attention { weights, .. } => {
            [
                &weights.query_gate,
                &weights.key,
                &weights.value,
                &weights.output,
            ]
            .into_iter()
            .for_each(&mut matrix);
            values += weights.query_norm.len() + weights.key_norm.len();
        }
        Mixer::Delta { weights, .. } => {
            [
                &weights.qkv,
                &weights.z,
                &weights.a,
                &weights.b,
                &weights.output,
            ]
            .into_iter()
            .for_each(&mut matrix);
            values += weights.conv.len() + weights.decay.len();
            values += weights.dt_bias.len() + weights.norm.len();
        }
    }
    match &layer.feed_forward {
        FeedForward::Dense(mlp) => matrices(mlp).into_iter().for_each(&mut matrix),
        FeedForward::Experts(moe) => {
            matrix(&moe.router);
            if let Some((mlp, gate)) = &moe.shared {
                matrices(mlp).into_iter().for_each(&mut matrix);
                matrix(gate);
            }
        }
    }
    parts.push(Part {
        values: values as f64,
        bytes: bytes(values),
        macs: 0.0,
    });
    parts
}

fn matrices(mlp: &MlpWeights<StoredMatrix>) -> [&StoredMatrix; 3] {
    [&mlp.gate, &mlp.up, &mlp.down]
}

fn macs(stored: &StoredMatrix) -> f64 {
    stored.rows() as f64 * stored.cols() as f64
}

fn stored_bytes(stored: &StoredMatrix) -> f64 {
    let scales = stored.scales().map_or(0, |scales| scales.factors.len());
    stored.bytes().len() as f64 + bytes(scales)
}

/// Small parameters are f32 once they are loaded.
fn bytes(values: usize) -> f64 {
    (values * DType::F32.block_bytes()) as f64
}

fn parameters(weights: &Weights<Reference>) -> u64 {
    let layer = |layer: &Layer<Reference>| -> f64 {
        let common: f64 = parts(layer).iter().map(|part| part.values).sum();
        let experts: f64 = match &layer.feed_forward {
            FeedForward::Dense(_) => 0.0,
            FeedForward::Experts(moe) => moe
                .experts
                .experts
                .iter()
                .flat_map(matrices)
                .map(macs)
                .sum(),
        };
        common + experts
    };
    let tables = [Some(&weights.embedding), weights.head.as_ref()];
    let mtp = weights.mtp.as_ref().map_or(0.0, |mtp| {
        let tables = [Some(&mtp.join), mtp.embedding.as_ref(), mtp.head.as_ref()];
        let norms = mtp.embedding_norm.len() + mtp.hidden_norm.len() + mtp.norm.len();
        layer(&mtp.layer) + tables.into_iter().flatten().map(macs).sum::<f64>() + norms as f64
    });
    let all = weights.norm.len() as f64
        + weights.layers.iter().map(layer).sum::<f64>()
        + tables.into_iter().flatten().map(macs).sum::<f64>()
        + mtp;
    all as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::EngineSettings;

    /// The model inside the program, counted by hand from its sizes: width 256, three delta
    /// layers and one of attention, 6 experts of which 2 are used, a shared one, all 256 wide,
    /// 2,048 tied embedding rows. Matrices are BF16, the rest F32.
    fn tiny() -> Limits {
        let opened = crate::embedded::open().unwrap();
        let weights = opened.weights().unwrap();
        let layout = EngineSettings::single(64).layout(&opened.config);
        Limits::count(&weights, &opened.config, &layout).unwrap()
    }

    const WIDTH: f64 = 256.0;
    /// q, k, v of 2 x 64, 2 x 64 and 4 x 64 values; z; a and b; the output.
    const DELTA: f64 = (512.0 + 256.0 + 8.0) * WIDTH + WIDTH * 256.0;
    /// Queries and gates of 4 x 64, keys and values of 2 x 64; the output.
    const ATTENTION: f64 = (512.0 + 128.0 + 128.0) * WIDTH + WIDTH * 256.0;
    const EXPERT: f64 = 3.0 * 256.0 * WIDTH;
    const ROUTER: f64 = 6.0 * WIDTH;
    const SWITCH: f64 = WIDTH;
    const HEAD: f64 = 2048.0 * WIDTH;

    #[test]
    fn parameters_are_those_of_the_model_card() {
        assert_eq!(tiny().parameters, 8_872_664);
    }

    #[test]
    fn multiplications_by_hand() {
        let every_layer = ROUTER + SWITCH + 3.0 * EXPERT;
        let state = 3.0 * (3.0 * 4.0 * 64.0 * 64.0 + 4.0 * 512.0);
        let per_token = 3.0 * DELTA + ATTENTION + 4.0 * every_layer + state;
        // 10 tokens behind 100: the first sees 101, the last 110.
        let pairs = (101..=110).sum::<u32>();
        let attention = f64::from(pairs) * 2.0 * 4.0 * 64.0;
        assert_eq!(tiny().prefill(10, 100), 10.0 * per_token + attention + HEAD);
    }

    #[test]
    fn state_and_cache_by_hand() {
        let limits = tiny();
        let state = 3.0 * (4.0 * 64.0 * 64.0 + 3.0 * 512.0) * 4.0;
        assert_eq!(limits.state_bytes(), state);
        let traffic = limits.decode(1, 33.0);
        assert_eq!(traffic.state, 2.0 * state);
        // f16, keys and values, two heads of 64, one attention layer.
        assert_eq!(traffic.cache, 33.0 * 2.0 * 2.0 * 2.0 * 64.0);
    }

    #[test]
    fn weights_by_hand() {
        let norms = 9.0 * WIDTH + 2.0 * 64.0 + 3.0 * (512.0 * 4.0 + 4.0 + 4.0 + 64.0);
        let f32s = 3.0 * 8.0 * WIDTH + 4.0 * (ROUTER + SWITCH) + norms;
        let bf16s = 3.0 * (DELTA - 8.0 * WIDTH) + ATTENTION + 4.0 * EXPERT + HEAD;
        let common = 4.0 * f32s + 2.0 * bf16s;
        let row = 2.0 * WIDTH;
        let one = common + 4.0 * 2.0 * EXPERT * 2.0 + row;
        let limits = tiny();
        assert!((limits.decode(1, 1.0).weights - one).abs() < 1e-6);
        // Of 6 experts, three tokens that take 2 each are expected to take 6 (1 - (2/3)^3).
        let chosen = 6.0 * (1.0 - 8.0 / 27.0);
        let three = (common + 4.0 * chosen * EXPERT * 2.0) / 3.0 + row;
        assert!((limits.decode(3, 1.0).weights - three).abs() < 1e-6);
    }
}
