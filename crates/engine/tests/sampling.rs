//! The sampler against the definitions of its stages, written plainly in f64.
#![expect(clippy::unwrap_used, reason = "tests end where they are surprised")]

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use tidemill_engine::sampling::{
    Choice, Logprobs, LogprobsOf, Mask, Sampler, SamplerSettings, SettingsError, Stage,
    TokenLogprobs, TokenRules, Xtc, argmax,
};

/// Numbers that look random, the same every time.
fn noise(seed: u64, count: usize, spread: f32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    // The sum of three is nearly normal, as logits are.
    (0..count)
        .map(|_| (next() + next() + next() - 1.5) * spread)
        .collect()
}

fn sampler(settings: SamplerSettings, vocabulary: usize) -> Sampler {
    Sampler::new(settings, Arc::new(TokenRules::all(vocabulary))).unwrap()
}

fn warm() -> SamplerSettings {
    SamplerSettings {
        temperature: 1.0,
        ..SamplerSettings::default()
    }
}

/// The stages by their definitions: tokens with logits, most likely first.
struct Plain {
    left: Vec<(u32, f64)>,
    /// Moves every bound a little, for cases where rounding decides.
    slack: f64,
}

impl Plain {
    fn probabilities(&self) -> Vec<f64> {
        let best = self.left[0].1;
        let weights: Vec<f64> = self.left.iter().map(|(_, l)| (l - best).exp()).collect();
        let total: f64 = weights.iter().sum();
        weights.into_iter().map(|weight| weight / total).collect()
    }

    fn entropy(&self) -> f64 {
        let p = self.probabilities();
        -p.iter()
            .filter(|p| **p > 0.0)
            .map(|p| p * p.ln())
            .sum::<f64>()
    }

    fn keep(&mut self, kept: &[bool]) {
        let mut kept = kept.iter();
        self.left.retain(|_| *kept.next().unwrap());
    }

    fn run(&mut self, stage: Stage, settings: &SamplerSettings) {
        let p = self.probabilities();
        let slack = self.slack;
        match stage {
            Stage::Temperature => {
                let mut t = f64::from(settings.temperature);
                let range = f64::from(settings.temperature_range);
                if range > 0.0 {
                    let most = (self.left.len() as f64).ln();
                    let certainty = if most > 0.0 {
                        self.entropy() / most
                    } else {
                        0.0
                    };
                    let low = (t - range).max(0.0);
                    t = low
                        + (t + range - low)
                            * certainty.powf(f64::from(settings.temperature_exponent));
                }
                self.left
                    .iter_mut()
                    .for_each(|(_, logit)| *logit /= t.max(1e-4));
            }
            Stage::TopK => self.left.truncate(settings.top_k.max(1)),
            Stage::TopP => {
                let mut sum = 0.0;
                let last = p.iter().position(|p| {
                    sum += p;
                    sum >= f64::from(settings.top_p) + slack
                });
                self.left
                    .truncate(last.map_or(self.left.len(), |last| last + 1));
            }
            Stage::MinP => {
                let kept: Vec<bool> = p
                    .iter()
                    .map(|x| x / p[0] >= f64::from(settings.min_p) * (1.0 + slack))
                    .collect();
                self.keep(&kept);
            }
            Stage::TopNSigma => {
                let n = self.left.len() as f64;
                let mean = self.left.iter().map(|(_, l)| l).sum::<f64>() / n;
                let squares: f64 = self.left.iter().map(|(_, l)| (l - mean).powi(2)).sum();
                let sigma = (squares / n).sqrt();
                let least =
                    self.left[0].1 - f64::from(settings.top_n_sigma) * sigma * (1.0 - slack) - 1e-9;
                self.left.retain(|(_, logit)| *logit >= least);
            }
            Stage::Typical => {
                let entropy = self.entropy();
                let mut order: Vec<usize> = (0..p.len()).collect();
                order.sort_by(|&a, &b| {
                    let deviation = |i: usize| (-p[i].ln() - entropy).abs();
                    deviation(a).total_cmp(&deviation(b))
                });
                let mut kept = vec![false; p.len()];
                let mut sum = 0.0;
                for index in order {
                    kept[index] = true;
                    sum += p[index];
                    if sum >= f64::from(settings.typical_p) + slack {
                        break;
                    }
                }
                self.keep(&kept);
            }
            Stage::Xtc => {
                let threshold = f64::from(settings.xtc.threshold) + slack;
                let top = p.iter().filter(|p| **p >= threshold).count();
                self.left.drain(..top.saturating_sub(1));
            }
            _ => {}
        }
    }
}

/// The distribution behind all stages, by their definitions.
fn by_definition(logits: &[f32], settings: &SamplerSettings, slack: f64) -> BTreeMap<u32, f64> {
    let mut left: Vec<(u32, f64)> = (0..)
        .zip(logits.iter().map(|&logit| f64::from(logit)))
        .filter(|(_, logit)| *logit > f64::NEG_INFINITY)
        .collect();
    left.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let mut plain = Plain { left, slack };
    for &stage in &settings.samplers {
        plain.run(stage, settings);
    }
    let p = plain.probabilities();
    plain.left.iter().map(|(token, _)| *token).zip(p).collect()
}

/// The distribution that the sampler draws from.
fn drawn_from(choice: &Choice) -> BTreeMap<u32, f64> {
    let top = &choice.logprobs.as_ref().unwrap().top;
    top.iter()
        .map(|&(token, logprob)| (token, f64::from(logprob).exp()))
        .collect()
}

fn agree(ours: &BTreeMap<u32, f64>, plain: &BTreeMap<u32, f64>) -> bool {
    let significant = plain.iter().filter(|(_, p)| **p > 1e-30);
    let same_tokens = ours
        .keys()
        .filter(|t| ours[t] > 1e-30)
        .eq(significant.map(|(t, _)| t));
    same_tokens && ours.iter().all(|(t, p)| (p - plain[t]).abs() < 2e-5)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn each_order_of_stages_does_what_the_definitions_say(
        seed in any::<u64>(),
        vocabulary in 1usize..900,
        spread in 1.0f32..12.0,
        order in Just(Stage::DEFAULT_ORDER[2..].to_vec()).prop_shuffle(),
        count in 0usize..8,
        (temperature, range, exponent) in (0.3f32..2.0, prop_oneof![Just(0.0f32), 0.1f32..1.0], 0.5f32..2.0),
        (top_k, top_p, min_p) in (1usize..60, 0.1f32..1.0, 0.0001f32..0.5),
        (typical_p, top_n_sigma, threshold) in (0.1f32..1.0, 0.3f32..4.0, 0.01f32..0.5),
    ) {
        let settings = SamplerSettings {
            samplers: order[..count.min(order.len())].to_vec(),
            temperature,
            temperature_range: range,
            temperature_exponent: exponent,
            top_k,
            top_p,
            min_p,
            typical_p,
            top_n_sigma,
            xtc: Xtc { probability: 1.0, threshold },
            logprobs: Some(Logprobs { top: Logprobs::MOST, of: LogprobsOf::Draw }),
            seed,
            ..SamplerSettings::default()
        };
        let logits = noise(seed, vocabulary, spread);
        let choice = sampler(settings.clone(), vocabulary).choose(&mut logits.clone(), None);
        let ours = drawn_from(&choice);
        prop_assert!(ours.contains_key(&choice.token));
        let agrees = [0.0, 1e-5, -1e-5]
            .iter()
            .any(|&slack| agree(&ours, &by_definition(&logits, &settings, slack)));
        prop_assert!(agrees, "{:?}\n{:?}\n{:?}", settings.samplers, ours,
            by_definition(&logits, &settings, 0.0));
    }

    #[test]
    fn a_mask_is_as_good_as_impossible_logits(
        seed in any::<u64>(),
        vocabulary in 4000usize..9000,
        share in prop_oneof![Just(0.001f32), Just(0.3), Just(0.8)],
        greedy in any::<bool>(),
    ) {
        let settings = SamplerSettings {
            temperature: if greedy { 0.0 } else { 1.2 },
            top_k: 40,
            top_p: 0.9,
            seed,
            ..SamplerSettings::default()
        };
        let logits = noise(seed, vocabulary, 9.0);
        let chances = noise(seed ^ 77, vocabulary, 1.0);
        let mut mask = Mask::none(vocabulary);
        let mut impossible = logits.clone();
        for (token, chance) in (0u32..).zip(chances) {
            // `chance` is between -1.5 and 1.5, mostly near 0.
            if token == 17 || chance.abs() < share {
                mask.allow(token);
            } else {
                impossible[token as usize] = f32::NEG_INFINITY;
            }
        }
        let mut sampler = sampler(settings, vocabulary);
        let masked = sampler.choose(&mut logits.clone(), Some(&mask));
        prop_assert!(mask.allows(masked.token));
        prop_assert_eq!(masked, sampler.choose(&mut impossible, None));
    }

    #[test]
    fn hostile_logits_give_an_allowed_token(
        wild in prop::collection::vec(prop_oneof![
            Just(f32::NAN), Just(f32::INFINITY), Just(f32::NEG_INFINITY), Just(f32::MAX),
            Just(f32::MIN), Just(0.0f32), Just(f32::MIN_POSITIVE), any::<f32>(),
        ], 1..40),
        temperature in prop_oneof![Just(0.0f32), 0.0f32..100.0],
        order in Just(Stage::DEFAULT_ORDER.to_vec()).prop_shuffle(),
        allowed in prop::option::of(0u32..40),
        of in prop_oneof![Just(LogprobsOf::Model), Just(LogprobsOf::Draw)],
    ) {
        let settings = SamplerSettings {
            samplers: order,
            temperature,
            temperature_range: temperature / 3.0,
            top_k: 7,
            top_p: 0.9,
            min_p: 0.01,
            typical_p: 0.9,
            top_n_sigma: 2.0,
            xtc: Xtc { probability: 0.5, threshold: 0.1 },
            repeat_penalty: 1.3,
            presence_penalty: 0.5,
            logprobs: Some(Logprobs { top: 3, of }),
            ..SamplerSettings::default()
        };
        let mut sampler = sampler(settings, wild.len());
        let mask = allowed.filter(|&token| (token as usize) < wild.len()).map(|token| {
            let mut mask = Mask::none(wild.len());
            mask.allow(token);
            mask
        });
        for _ in 0..3 {
            let choice = sampler.choose(&mut wild.clone(), mask.as_ref());
            prop_assert!((choice.token as usize) < wild.len());
            prop_assert!(mask.as_ref().is_none_or(|mask| mask.allows(choice.token)));
            let logprobs = choice.logprobs.unwrap();
            prop_assert!(logprobs.top.iter().all(|(_, logprob)| !logprob.is_nan()));
            sampler.accept(choice.token);
        }
    }
}

#[test]
fn draws_follow_the_distribution() {
    // Over the whole vocabulary, and over a list.
    for top_k in [0, 3] {
        let mut sampler = sampler(SamplerSettings { top_k, ..warm() }, 5000);
        let mut logits = vec![-30.0f32; 5000];
        logits[4..7].copy_from_slice(&[0.0, 1.0, 0.5]);
        logits[4999] = f32::NEG_INFINITY;
        let mut counts = BTreeMap::new();
        for _ in 0..20_000 {
            let token = sampler.choose(&mut logits.clone(), None).token;
            *counts.entry(token).or_insert(0) += 1;
            sampler.accept(token);
        }
        let total: f64 = logits[4..7].iter().map(|&l| f64::from(l).exp()).sum();
        for token in 4..7u32 {
            let share = f64::from(counts[&token]) / 20_000.0;
            let expected = f64::from(logits[token as usize]).exp() / total;
            assert!(
                (share - expected).abs() < 0.015,
                "{token}: {share}, not {expected}"
            );
        }
        assert_eq!(counts.len(), 3);
    }
}

#[test]
fn a_choice_depends_on_seed_and_place_alone() {
    let settings = SamplerSettings {
        seed: 42,
        presence_penalty: 0.3,
        ..warm()
    };
    let rows: Vec<Vec<f32>> = (0..50).map(|row| noise(row, 3000, 6.0)).collect();
    let mut plain = sampler(settings.clone(), 3000);
    let answer: Vec<u32> = rows
        .iter()
        .map(|row| {
            let token = plain.choose(&mut row.clone(), None).token;
            plain.accept(token);
            token
        })
        .collect();

    // Verifying drafts: rows in order, up to the first that is not as drafted.
    let mut verified = Vec::new();
    let mut speculating = sampler(settings.clone(), 3000);
    while verified.len() < answer.len() {
        let from = verified.len();
        let width = (from * 7 % 5 + 1).min(answer.len() - from);
        let mut draft = answer[from..from + width].to_vec();
        if from % 3 == 0 {
            draft[width - 1] ^= 1;
        }
        for (row, drafted) in rows[from..].iter().zip(draft) {
            let token = speculating.choose(&mut row.clone(), None).token;
            speculating.accept(token);
            verified.push(token);
            if token != drafted {
                break;
            }
        }
    }
    assert_eq!(verified, answer);

    let other = SamplerSettings {
        seed: 43,
        ..settings
    };
    let mut other = sampler(other, 3000);
    let tokens = rows.iter().map(|row| {
        let token = other.choose(&mut row.clone(), None).token;
        other.accept(token);
        token
    });
    assert_ne!(tokens.collect::<Vec<_>>(), answer);
}

#[test]
fn penalties_turn_away_from_seen_tokens() {
    type Change = fn(&mut SamplerSettings);
    // Token 1 was in the prompt, token 2 twice in the answer.
    let check = |change: Change, expected: u32| {
        let mut settings = SamplerSettings::default();
        change(&mut settings);
        let mut sampler = sampler(settings.clone(), 4);
        sampler.saw(1);
        sampler.accept(2);
        sampler.accept(2);
        let mut logits = [1.0, 1.9, 2.0, -9.0];
        assert_eq!(
            sampler.choose(&mut logits, None).token,
            expected,
            "{settings:?}"
        );
    };
    check(|_| {}, 2);
    check(|s| s.repeat_penalty = 1.2, 2);
    check(|s| s.presence_penalty = 0.2, 1);
    check(|s| s.frequency_penalty = 0.06, 1);
    check(|s| s.frequency_penalty = 0.04, 2);
    check(
        |s| {
            s.repeat_penalty = 2.5;
            s.presence_penalty = -5.0
        },
        2,
    );
    check(|s| s.repeat_penalty = 2.5, 0);
    check(
        |s| {
            s.repeat_penalty = 2.5;
            s.penalty_window = Some(2)
        },
        1,
    );
    check(
        |s| {
            s.presence_penalty = 5.0;
            s.penalty_window = Some(0)
        },
        2,
    );
    check(
        |s| {
            s.presence_penalty = 5.0;
            s.samplers = vec![Stage::TopK]
        },
        2,
    );
    check(
        |s| s.logit_bias = vec![(2, f32::NEG_INFINITY), (0, 0.95)],
        0,
    );
}

#[test]
fn answers_end_when_they_may() {
    let rules = Arc::new(TokenRules::all(4).ending_at(&[3]));
    let settings = SamplerSettings {
        min_tokens: 2,
        ..SamplerSettings::default()
    };
    let mut sampler = Sampler::new(settings.clone(), Arc::clone(&rules)).unwrap();
    let logits = [0.0, 2.0, 1.0, 3.0];
    let mut only_end = Mask::none(4);
    only_end.allow(3);
    for expected in [1, 1, 3, 3] {
        let token = sampler.choose(&mut logits.clone(), None).token;
        assert_eq!(token, expected);
        // Behind a complete grammar there is nothing else.
        assert_eq!(
            sampler.choose(&mut logits.clone(), Some(&only_end)).token,
            3
        );
        sampler.accept(token);
    }
    let forever = SamplerSettings {
        ignore_eos: true,
        ..settings
    };
    let mut sampler = Sampler::new(forever, rules).unwrap();
    sampler.accept(1);
    sampler.accept(1);
    assert_eq!(sampler.choose(&mut logits.clone(), None).token, 1);
}

#[test]
fn log_probabilities_are_those_of_the_logits_and_of_the_draw() {
    let logits = noise(5, 5000, 8.0);
    let settings = SamplerSettings {
        logprobs: Some(Logprobs {
            top: 5,
            of: LogprobsOf::Model,
        }),
        presence_penalty: 3.0,
        ..SamplerSettings::default()
    };
    let mut greedy = sampler(settings.clone(), 5000);
    let choice = greedy.choose(&mut logits.clone(), None);
    let of_model = choice.logprobs.unwrap();
    assert_eq!(choice.token, argmax(&logits));
    assert_eq!(of_model.top.len(), 5);
    // The very same float in both places.
    assert_eq!(of_model.top[0], (choice.token, of_model.logprob));
    let total: f64 = logits.iter().map(|&logit| f64::from(logit).exp()).sum();
    for &(token, logprob) in &of_model.top {
        let want = f64::from(logits[token as usize]) - total.ln();
        assert!(
            (f64::from(logprob) - want).abs() < 1e-5,
            "{logprob}, not {want}"
        );
    }
    assert!(of_model.top.is_sorted_by(|a, b| a.1 >= b.1));

    // After a penalty, the model's own still lists the token that is not chosen any more.
    greedy.accept(choice.token);
    let next = greedy.choose(&mut logits.clone(), None);
    assert_ne!(next.token, choice.token);
    assert_eq!(next.logprobs.unwrap().top, of_model.top);

    let of_draw = SamplerSettings {
        logprobs: Some(Logprobs {
            top: 5,
            of: LogprobsOf::Draw,
        }),
        ..settings
    };
    let mut of_draw = sampler(of_draw, 5000);
    of_draw.accept(choice.token);
    let of_draw = of_draw.choose(&mut logits.clone(), None);
    let listed = of_draw.logprobs.unwrap();
    assert_eq!(listed.top[0], (of_draw.token, listed.logprob));
    assert!(
        listed.logprob > next_logprob(&logits, of_draw.token),
        "the penalised one gave way"
    );
}

fn next_logprob(logits: &[f32], token: u32) -> f32 {
    TokenLogprobs::of_logits(logits, &TokenRules::all(logits.len()), token, 0).logprob
}

#[test]
fn equal_logits_are_ordered_by_token() {
    let settings = SamplerSettings {
        logprobs: Some(Logprobs {
            top: 3,
            of: LogprobsOf::Draw,
        }),
        top_k: 3,
        ..warm()
    };
    let mut logits = vec![0.0f32; 700];
    for token in [650, 3, 400, 80] {
        logits[token] = 1.0;
    }
    let choice = sampler(settings.clone(), 700).choose(&mut logits.clone(), None);
    let tokens: Vec<u32> = choice
        .logprobs
        .unwrap()
        .top
        .iter()
        .map(|&(t, _)| t)
        .collect();
    assert_eq!(tokens, [3, 80, 400]);
    let top = TokenLogprobs::of_logits(&logits, &TokenRules::all(700), 3, 3).top;
    assert_eq!(
        top.iter().map(|&(t, _)| t).collect::<Vec<_>>(),
        [3, 80, 400]
    );
}

#[test]
fn settings_are_checked_against_the_model() {
    let settings = SamplerSettings {
        logit_bias: vec![(4, 1.0)],
        ..SamplerSettings::default()
    };
    let refused = Sampler::new(settings, Arc::new(TokenRules::all(4))).unwrap_err();
    let expected = SettingsError::BiasOutsideVocabulary {
        token: 4,
        vocabulary: 4,
    };
    assert_eq!(refused, expected);
}
