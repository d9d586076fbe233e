//! Random schedules: whatever is asked when, and however short memory is, every answer is that of
//! the plain road, everything ends, and nothing is left behind.
//!
//! `PROPTEST_CASES=20000 cargo test --release -p tidemill-engine fuzz` looks further.

use proptest::prelude::*;

use super::*;
use crate::cache::{Boundary, BoundaryKind};
use crate::speculate::{Depth, SpeculationSettings};
use crate::toy::POISON;

#[derive(Debug, Clone)]
enum Act {
    Submit(Box<Request>),
    Cancel(prop::sample::Index),
    Steps(usize),
    ClearCache,
}

fn requests() -> impl Strategy<Value = Request> {
    let family = 0u32..3;
    let text = (family, 1usize..60, prop::collection::vec(0u32..22, 0..6));
    let limits = (prop::option::of(0usize..20), 0usize..4, any::<bool>());
    let manner = (
        1usize..4,
        -1i32..2,
        any::<bool>(),
        0u64..4,
        prop::bool::weighted(0.05),
    );
    (
        text,
        limits,
        manner,
        prop::collection::vec(any::<prop::sample::Index>(), 0..5),
    )
        .prop_map(
            |(
                (family, len, tail),
                (max, min, stops),
                (choices, priority, warm, seed, poison),
                ends,
            )| {
                let mut tokens = prompt(family, len);
                tokens.extend(tail);
                if poison {
                    let middle = tokens.len() / 2;
                    tokens[middle] = POISON;
                }
                let mut offsets: Vec<usize> =
                    ends.iter().map(|end| end.index(tokens.len() + 1)).collect();
                offsets.sort_unstable();
                let kind = |message| match message {
                    0 => BoundaryKind::EndOfSystem,
                    message => BoundaryKind::EndOfMessage(message),
                };
                let mut request = Request::new(tokens);
                request.boundaries = offsets
                    .into_iter()
                    .enumerate()
                    .map(|(message, offset)| Boundary {
                        offset,
                        kind: kind(message),
                    })
                    .collect();
                request.limits.max_tokens = max;
                request.sampling.min_tokens = min;
                if stops {
                    request.limits.stop_tokens = vec![3, 5];
                }
                request.choices = choices;
                request.priority = priority;
                request.sampling.temperature = f32::from(u8::from(warm));
                request.sampling.seed = seed;
                request.keep_before = vec![7];
                request.cache = seed != 3;
                request.speculation = seed != 2;
                request
            },
        )
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        6 => requests().prop_map(|request| Act::Submit(Box::new(request))),
        1 => any::<prop::sample::Index>().prop_map(Act::Cancel),
        4 => (1usize..12).prop_map(Act::Steps),
        1 => Just(Act::ClearCache),
    ];
    prop::collection::vec(act, 1..25)
}

fn sizes() -> impl Strategy<Value = (ToySize, SchedulerSettings)> {
    let memory = (
        prop_oneof![Just(1usize), Just(3), Just(4), Just(16)],
        0usize..40,
        1usize..5,
    );
    let budgets = (
        1usize..40,
        1usize..20,
        prop_oneof![Just(0usize), 0usize..2000, Just(1 << 20)],
    );
    let cache = (
        prop_oneof![Just(0usize), 0usize..2000, Just(1 << 20)],
        1usize..20,
    );
    (memory, budgets, cache).prop_map(
        |((page_tokens, more_pages, states), (batch, chunk, parked), (cache, gap))| {
            let context = 80usize;
            let size = ToySize {
                page_tokens,
                // As an engine is made: one sequence of the whole context always fits.
                pages: context.div_ceil(page_tokens) + 1 + more_pages,
                states,
                context,
            };
            let settings = SchedulerSettings {
                batch_tokens: batch,
                chunk_tokens: chunk,
                queue: 100,
                choices: 4,
                parked_bytes: parked,
                cache: CacheSettings {
                    snapshot_bytes: cache,
                    gap,
                    spacing: 16,
                    tail: 2,
                },
            };
            (size, settings)
        },
    )
}

fn speculation() -> impl Strategy<Value = Option<SpeculationSettings>> {
    let settings = (any::<bool>(), any::<bool>(), 1usize..7, any::<bool>());
    let settings = settings.prop_map(|(head, lookup, most, is_full)| SpeculationSettings {
        head,
        lookup,
        most,
        depth: if is_full {
            Depth::Full
        } else {
            Depth::Adaptive
        },
    });
    prop::option::weighted(0.7, settings)
}

fn check(
    size: ToySize,
    settings: SchedulerSettings,
    speculation: Option<SpeculationSettings>,
    acts: Vec<Act>,
) {
    let mut bench = Bench::new(size, settings);
    if let Some(speculation) = speculation {
        bench.speculate(speculation);
    }
    let mut asked: Vec<(RequestId, Request)> = Vec::new();
    let mut cancelled = Vec::new();
    for act in acts {
        match act {
            Act::Submit(request) => {
                let id = bench.submit((*request).clone());
                asked.push((id, *request));
            }
            Act::Cancel(which) if !asked.is_empty() => {
                let id = which.get(&asked).0;
                if bench.scheduler.cancel(id) {
                    cancelled.push(id);
                }
                bench.scheduler.assert_consistent();
            }
            Act::Cancel(_) => {}
            Act::Steps(count) => (0..count).for_each(|_| drop(bench.step())),
            Act::ClearCache => bench.scheduler.clear_cache(),
        }
    }
    bench.run();
    for (id, request) in &asked {
        if cancelled.contains(id) {
            continue;
        }
        let outcome = &bench.outcomes[id];
        if request.prompt.contains(&POISON) {
            assert!(outcome.error.is_some(), "{request:?}");
        } else {
            check_answers(request, outcome, size.context);
        }
    }
    bench.assert_all_is_free();
}

proptest! {
    #[test]
    fn schedules_never_change_answers(
        (size, settings) in sizes(), speculation in speculation(), acts in acts(),
    ) {
        check(size, settings, speculation, acts);
    }
}
