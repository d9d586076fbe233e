//! Choosing from the most likely tokens alone gives what choosing from all of them does.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use tensor::Likely;
use tidemill_engine::sampling::{
    Sampler, SamplerSettings, Stage, TokenRules, Xtc, argmax, most_likely,
};

/// Logits among which equals, both zeros and impossible ones are.
fn logits(count: usize) -> impl Strategy<Value = Vec<f32>> {
    let one = prop_oneof![
        20 => -12.0f32..12.0,
        3 => (-6i8..6).prop_map(f32::from),
        1 => Just(-0.0),
        1 => Just(f32::NEG_INFINITY),
        1 => Just(f32::NAN),
    ];
    prop::collection::vec(one, count)
}

/// Settings of which each stage does something or, more often, nothing.
fn settings() -> impl Strategy<Value = SamplerSettings> {
    let rarely = |value: f32, idle: f32| prop_oneof![9 => Just(idle), 1 => Just(value)];
    let orders = Just(Stage::DEFAULT_ORDER.to_vec());
    let order = prop_oneof![3 => orders.clone().boxed(), 1 => orders.prop_shuffle().boxed()];
    (
        (order, 0usize..=9),
        prop_oneof![Just(0.0f32), Just(0.6), Just(1.0), Just(1.7)],
        (rarely(0.4, 0.0), rarely(1.5, 0.0), rarely(0.7, 1.0)),
        (
            prop_oneof![1 => Just(0usize), 3 => 1usize..50],
            0.3f32..1.2,
            rarely(0.05, 0.0),
            rarely(0.5, 0.0),
        ),
        (
            prop_oneof![3 => Just(1.0f32), 1 => Just(1.2), 1 => Just(0.9)],
            prop_oneof![3 => Just(0.0f32), 2 => Just(1.5), 1 => Just(-1.0)],
            rarely(0.3, 0.0),
        ),
        (
            prop_oneof![Just(0usize), Just(3)],
            any::<bool>(),
            any::<u64>(),
        ),
    )
        .prop_map(
            |(
                (order, stages),
                temperature,
                (range, sigma, typical),
                (top_k, top_p, min_p, xtc),
                (repeat, presence, frequency),
                (min_tokens, ignore_eos, seed),
            )| {
                SamplerSettings {
                    samplers: order[9 - stages..].to_vec(),
                    temperature,
                    temperature_range: range,
                    top_n_sigma: sigma,
                    typical_p: typical,
                    top_k,
                    top_p: top_p.min(1.0),
                    min_p,
                    xtc: Xtc {
                        probability: xtc,
                        ..Xtc::default()
                    },
                    repeat_penalty: repeat,
                    presence_penalty: presence,
                    frequency_penalty: frequency,
                    min_tokens,
                    ignore_eos,
                    seed,
                    ..SamplerSettings::default()
                }
            },
        )
}

#[test]
fn few_tokens_are_chosen_from_as_all_are() {
    const ROWS: usize = 500;
    let (enough, all) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let mut runner = TestRunner::new(ProptestConfig::with_cases(1500));
    let rows = prop::collection::vec(logits(ROWS), 1..6);
    let tested = runner.run(
        &(settings(), rows, 300usize..=ROWS),
        |(settings, rows, tokens)| {
            let rules = TokenRules::all(tokens).ending_at(&[3, 7, 290]);
            let mut sampler = Sampler::new(settings.clone(), Arc::new(rules)).unwrap();
            (0..40).for_each(|token| sampler.saw(token));
            // What is enough is asked once for a row and those behind it.
            let Some(wanted) = sampler.enough(rows.len() - 1) else {
                all.fetch_add(1, Ordering::Relaxed);
                return Ok(());
            };
            enough.fetch_add(1, Ordering::Relaxed);
            for row in &rows {
                let mut likely = wanted.of_row(row);
                likely.reverse();
                let among = sampler.choose_among(&likely);
                prop_assert_eq!(
                    &among,
                    &sampler.choose(&mut row.clone(), None),
                    "{:?}",
                    settings
                );
                sampler.accept(among.token);
            }
            Ok(())
        },
    );
    tested.unwrap();
    let (enough, all) = (enough.into_inner(), all.into_inner());
    assert!(enough > 300 && all > 300, "{enough} of few, {all} of all");
}

#[test]
fn the_most_likely_of_a_list_is_that_of_the_row() {
    let mut runner = TestRunner::new(ProptestConfig::with_cases(500));
    let tested = runner.run(&logits(60), |row| {
        let tokens = row.iter().zip(0..);
        let list: Vec<Likely> = tokens
            .filter(|(logit, _)| **logit > f32::NEG_INFINITY)
            .map(|(&logit, token)| Likely { token, logit })
            .collect();
        prop_assert_eq!(most_likely(&list), argmax(&row));
        Ok(())
    });
    tested.unwrap();
    assert_eq!(most_likely(&[]), 0);
}
