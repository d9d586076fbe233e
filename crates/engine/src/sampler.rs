//! From logits to a token.
//!
//! The order: penalties, temperature, top-k, top-p, min-p, then a draw. That is the order in which
//! the model cards' values are meant (as in Hugging Face transformers and vLLM).

use std::collections::VecDeque;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// How tokens are chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SamplerSettings {
    /// Divides logits; 0 takes the most likely token.
    pub temperature: f32,
    /// Only this many most likely tokens; 0 for all.
    pub top_k: usize,
    /// Only the fewest tokens that together reach this probability; 1 for all.
    pub top_p: f32,
    /// Only tokens at least this probable relative to the most probable; 0 for all.
    pub min_p: f32,
    /// Divides (or, below 0, multiplies) the logits of tokens seen before; 1 for none.
    pub repeat_penalty: f32,
    /// Subtracted from the logits of tokens seen before.
    pub presence_penalty: f32,
    /// Subtracted as often as a token was seen.
    pub frequency_penalty: f32,
    /// How many of the latest tokens the penalties look at.
    pub penalty_window: usize,
    /// Of the random numbers.
    pub seed: u64,
}

impl Default for SamplerSettings {
    /// Greedy, without penalties.
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repeat_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            penalty_window: 64,
            seed: 0,
        }
    }
}

impl SamplerSettings {
    /// What is wrong with the values, if anything.
    ///
    /// # Errors
    /// The message names the value, its bounds and what was given.
    pub fn validate(&self) -> Result<(), String> {
        let bounded = |name: &str, value: f32, low: f32, high: f32| {
            if (low..=high).contains(&value) {
                return Ok(());
            }
            Err(format!("{name} is {value}, expected {low} to {high}"))
        };
        bounded("temperature", self.temperature, 0.0, 100.0)?;
        bounded("top_p", self.top_p, 0.0, 1.0)?;
        bounded("min_p", self.min_p, 0.0, 1.0)?;
        bounded("repeat_penalty", self.repeat_penalty, 0.01, 100.0)?;
        bounded("presence_penalty", self.presence_penalty, -100.0, 100.0)?;
        bounded("frequency_penalty", self.frequency_penalty, -100.0, 100.0)
    }
}

/// Chooses one sequence's tokens; the same seed and logits give the same tokens.
#[derive(Debug, Clone)]
pub struct Sampler {
    settings: SamplerSettings,
    random: ChaCha8Rng,
    recent: VecDeque<u32>,
}

/// The index of the largest logit; the lowest of equals. 0 if all are NaN.
pub fn argmax(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (index, &logit) in logits.iter().enumerate() {
        if logit > logits[best] || (logits[best].is_nan() && !logit.is_nan()) {
            best = index;
        }
    }
    best as u32
}

impl Sampler {
    /// A sampler at the start of its random numbers.
    pub fn new(settings: SamplerSettings) -> Self {
        let random = ChaCha8Rng::seed_from_u64(settings.seed);
        Self {
            settings,
            random,
            recent: VecDeque::new(),
        }
    }

    /// Tells the penalties of a token, prompt or answer.
    pub fn saw(&mut self, token: u32) {
        self.recent.push_back(token);
        if self.recent.len() > self.settings.penalty_window {
            self.recent.pop_front();
        }
    }

    /// Chooses the next token and remembers it.
    pub fn choose(&mut self, logits: &mut [f32]) -> u32 {
        self.penalise(logits);
        let token = if self.settings.temperature <= 0.0 {
            argmax(logits)
        } else {
            self.draw(logits)
        };
        self.saw(token);
        token
    }

    fn penalise(&self, logits: &mut [f32]) {
        let SamplerSettings {
            repeat_penalty,
            presence_penalty,
            frequency_penalty,
            ..
        } = self.settings;
        if (repeat_penalty, presence_penalty, frequency_penalty) == (1.0, 0.0, 0.0) {
            return;
        }
        let mut seen: Vec<u32> = self.recent.iter().copied().collect();
        seen.sort_unstable();
        for run in seen.chunk_by(|a, b| a == b) {
            let Some(logit) = logits.get_mut(run[0] as usize) else {
                continue;
            };
            *logit = if *logit > 0.0 {
                *logit / repeat_penalty
            } else {
                *logit * repeat_penalty
            };
            *logit -= presence_penalty + frequency_penalty * run.len() as f32;
        }
    }

    fn draw(&mut self, logits: &[f32]) -> u32 {
        let candidates = self.candidates(logits);
        let total: f64 = candidates.iter().map(|&(_, weight)| weight).sum();
        // 53 random bits make a uniform number in [0, 1).
        let uniform = (self.random.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        let mut left = uniform * total;
        for &(token, weight) in &candidates {
            left -= weight;
            if left < 0.0 {
                return token;
            }
        }
        candidates
            .last()
            .map_or_else(|| argmax(logits), |&(token, _)| token)
    }

    /// What is left after top-k, top-p and min-p: tokens with unnormalised probabilities, most
    /// likely first.
    fn candidates(&self, logits: &[f32]) -> Vec<(u32, f64)> {
        let SamplerSettings {
            temperature,
            top_k,
            top_p,
            min_p,
            ..
        } = self.settings;
        let mut order: Vec<u32> = (0..logits.len() as u32)
            .filter(|&t| logits[t as usize] > f32::NEG_INFINITY)
            .collect();
        let later = |&a: &u32, &b: &u32| {
            logits[b as usize]
                .total_cmp(&logits[a as usize])
                .then(a.cmp(&b))
        };
        if top_k > 0 && top_k < order.len() {
            order.select_nth_unstable_by(top_k - 1, later);
            order.truncate(top_k);
        }
        order.sort_unstable_by(later);
        let Some(&first) = order.first() else {
            return Vec::new();
        };
        let largest = logits[first as usize];
        let weight = |t: u32| f64::from((logits[t as usize] - largest) / temperature).exp();
        let mut kept: Vec<(u32, f64)> = order.into_iter().map(|t| (t, weight(t))).collect();

        if top_p < 1.0 {
            let total: f64 = kept.iter().map(|&(_, weight)| weight).sum();
            let mut sum = 0.0;
            let enough = kept.iter().position(|&(_, weight)| {
                sum += weight;
                sum >= f64::from(top_p) * total
            });
            kept.truncate(enough.map_or(kept.len(), |last| last + 1));
        }
        // The most probable has weight 1.
        kept.retain(|&(_, weight)| weight >= f64::from(min_p));
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(settings: SamplerSettings, logits: &[f32], expected: &[u32]) {
        let mut seen: Vec<u32> = (0..500)
            .map(|seed| {
                Sampler::new(SamplerSettings { seed, ..settings }).choose(&mut logits.to_vec())
            })
            .collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen, expected, "{settings:?}");
    }

    #[test]
    fn each_cut_leaves_the_right_tokens() {
        let logits = [1.0, 3.0, 2.9, f32::NEG_INFINITY, 2.0];
        let warm = SamplerSettings {
            temperature: 1.0,
            ..SamplerSettings::default()
        };
        check(SamplerSettings::default(), &logits, &[1]);
        check(warm, &logits, &[0, 1, 2, 4]);
        check(SamplerSettings { top_k: 2, ..warm }, &logits, &[1, 2]);
        check(SamplerSettings { top_p: 0.5, ..warm }, &logits, &[1, 2]);
        check(SamplerSettings { top_p: 0.0, ..warm }, &logits, &[1]);
        check(SamplerSettings { min_p: 0.3, ..warm }, &logits, &[1, 2, 4]);
        check(
            SamplerSettings {
                temperature: 0.01,
                ..warm
            },
            &[0.0, 1.0],
            &[1],
        );
    }

    #[test]
    fn penalties_turn_away_from_seen_tokens() {
        let check = |settings: SamplerSettings, expected| {
            let mut sampler = Sampler::new(settings);
            sampler.saw(1);
            sampler.saw(1);
            assert_eq!(
                sampler.choose(&mut [1.0, 2.0, 1.5]),
                expected,
                "{settings:?}"
            );
        };
        let plain = SamplerSettings::default();
        check(plain, 1);
        check(
            SamplerSettings {
                repeat_penalty: 1.5,
                ..plain
            },
            2,
        );
        check(
            SamplerSettings {
                presence_penalty: 0.6,
                ..plain
            },
            2,
        );
        check(
            SamplerSettings {
                frequency_penalty: 0.2,
                ..plain
            },
            1,
        );
        check(
            SamplerSettings {
                frequency_penalty: 0.3,
                ..plain
            },
            2,
        );
        check(
            SamplerSettings {
                repeat_penalty: 1.5,
                penalty_window: 0,
                ..plain
            },
            1,
        );
    }

    #[test]
    fn draws_follow_the_distribution_and_the_seed() {
        let settings = SamplerSettings {
            temperature: 1.0,
            seed: 7,
            ..SamplerSettings::default()
        };
        let logits = [0.0f32, 1.0, 2.0];
        let draws = |mut sampler: Sampler| -> Vec<u32> {
            (0..20_000)
                .map(|_| sampler.choose(&mut logits.to_vec()))
                .collect()
        };
        let tokens = draws(Sampler::new(settings));
        assert_eq!(tokens, draws(Sampler::new(settings)));
        let sum: f64 = logits.iter().map(|&l| f64::from(l).exp()).sum();
        for (token, &logit) in logits.iter().enumerate() {
            let share = tokens.iter().filter(|&&t| t as usize == token).count() as f64 / 20_000.0;
            let expected = f64::from(logit).exp() / sum;
            assert!(
                (share - expected).abs() < 0.015,
                "{token}: {share} for {expected}"
            );
        }
    }

    #[test]
    fn hostile_logits_do_not_panic() {
        let warm = SamplerSettings {
            temperature: 0.7,
            top_p: 0.9,
            ..SamplerSettings::default()
        };
        for logits in [
            vec![f32::NAN; 4],
            vec![f32::NEG_INFINITY; 4],
            vec![f32::INFINITY, 1.0],
        ] {
            let len = logits.len() as u32;
            assert!(Sampler::new(warm).choose(&mut logits.clone()) < len);
            assert!(Sampler::new(SamplerSettings::default()).choose(&mut logits.clone()) < len);
        }
    }
}
