//! What choosing a token costs, beside the model.
//!
//! ```text
//! cargo bench -p tidemill-engine --bench sampling
//! ```
//!
//! Rows of 248,320 logits, nearly normal as a model's, and an answer of a thousand tokens so far.
//! Prints the best and the median of many choices in microseconds; the copy that each choice
//! works on is not counted.
#![expect(clippy::print_stdout, reason = "a benchmark's result")]
#![expect(clippy::unwrap_used, reason = "a benchmark ends where it is surprised")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use tidemill_engine::sampling::{
    Dry, Logprobs, LogprobsOf, Mask, Sampler, SamplerSettings, TokenRules, Xtc, preset,
};

const VOCABULARY: usize = 248_320;
const ROUNDS: usize = 200;

fn main() {
    let greedy = SamplerSettings::default();
    let card = preset("thinking").unwrap().over(greedy.clone());
    let warm = SamplerSettings {
        temperature: 1.0,
        ..greedy.clone()
    };
    let with = |change: fn(&mut SamplerSettings)| {
        let mut settings = warm.clone();
        change(&mut settings);
        settings
    };
    println!("{:44} {:>8} {:>8}", "us per token", "best", "median");
    measure("greedy", &greedy, None);
    measure("top-k 20, top-p 0.95, presence 1.5", &card, None);
    let mut most = Mask::from_words(vec![u32::MAX; VOCABULARY / 32], VOCABULARY);
    measure("the same, all tokens allowed", &card, Some(&most));
    most = Mask::none(VOCABULARY);
    (0..VOCABULARY as u32)
        .filter(|token| token % 3 != 0)
        .for_each(|token| most.allow(token));
    measure("the same, two of three allowed", &card, Some(&most));
    let mut few = Mask::none(VOCABULARY);
    (0..VOCABULARY as u32)
        .step_by(5000)
        .for_each(|token| few.allow(token));
    measure("the same, fifty tokens allowed", &card, Some(&few));
    let model = SamplerSettings {
        logprobs: Some(Logprobs {
            top: 20,
            of: LogprobsOf::Model,
        }),
        ..card.clone()
    };
    measure("the same, 20 log-probabilities of the model", &model, None);
    let draw = SamplerSettings {
        logprobs: Some(Logprobs {
            top: 20,
            of: LogprobsOf::Draw,
        }),
        ..card.clone()
    };
    measure("the same, 20 log-probabilities of the draw", &draw, None);
    let dry = SamplerSettings {
        dry: Dry {
            multiplier: 0.8,
            ..Dry::default()
        },
        ..card
    };
    measure("the same, DRY", &dry, None);
    measure("temperature alone", &warm, None);
    measure("top-p 0.95", &with(|s| s.top_p = 0.95), None);
    measure("min-p 0.05", &with(|s| s.min_p = 0.05), None);
    measure("top-n-sigma 1.5", &with(|s| s.top_n_sigma = 1.5), None);
    let xtc = with(|s| {
        s.xtc = Xtc {
            probability: 1.0,
            threshold: 0.1,
        };
    });
    measure("xtc", &xtc, None);
    measure("typical 0.9", &with(|s| s.typical_p = 0.9), None);
}

fn measure(name: &str, settings: &SamplerSettings, mask: Option<&Mask>) {
    let rules = Arc::new(TokenRules::all(VOCABULARY));
    let mut sampler = Sampler::new(settings.clone(), rules).unwrap();
    let logits = logits();
    for index in 0..1000u32 {
        sampler.accept(index * index % 3001);
    }
    let mut row = logits.clone();
    let mut times: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            row.copy_from_slice(&logits);
            let start = Instant::now();
            let choice = sampler.choose(&mut row, mask);
            let time = start.elapsed().as_secs_f64();
            black_box(&choice);
            sampler.accept(choice.token);
            time * 1e6
        })
        .collect();
    times.sort_by(f64::total_cmp);
    println!("{name:44} {:8.1} {:8.1}", times[0], times[ROUNDS / 2]);
}

/// Nearly normal, with the spread and the few high values that a trained model has.
fn logits() -> Vec<f32> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut uniform = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    let mut logits: Vec<f32> = (0..VOCABULARY)
        .map(|_| (uniform() + uniform() + uniform() + uniform() - 2.0) * 4.0)
        .collect();
    for rank in 0..40 {
        logits[rank * 6007] = 16.0 - rank as f32 * 0.3;
    }
    logits
}
