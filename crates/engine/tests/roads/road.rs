//! What a road is, all of them, and few that have every pair of turns.

use std::collections::BTreeSet;

use formats::DType;

/// One way to an answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Road {
    /// The most sequences that are answered together.
    pub(crate) together: usize,
    /// The most tokens of a prompt in a step.
    pub(crate) chunk: usize,
    pub(crate) detour: Detour,
    pub(crate) drafts: Drafts,
    /// Of keys and values.
    pub(crate) kv: DType,
    pub(crate) threads: usize,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Detour {
    /// Everything is read.
    Plain,
    /// Prompts, or most of them, were read before.
    Memory,
    /// They were read before a restart.
    Disk,
    /// They were read before, and some of that had to go for others.
    Evicted,
    /// Two answers to each prompt.
    Fork,
    /// Others of higher priority come in between.
    Paused,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Drafts {
    Off,
    /// Always so many, by the model's head.
    Head(usize),
    /// Three, by the same model as a draft model, which sees the end of a prompt only.
    Model,
    /// As many as were found.
    Lookup,
    /// Both, as many as pay, by a clock that makes them look good and then bad.
    Adaptive,
}

const TOGETHER: [usize; 2] = [1, 16];
const CHUNKS: [usize; 3] = [1, 64, 512];
const DETOURS: [Detour; 6] = [
    Detour::Plain,
    Detour::Memory,
    Detour::Disk,
    Detour::Evicted,
    Detour::Fork,
    Detour::Paused,
];
const DRAFTS: [Drafts; 8] = [
    Drafts::Off,
    Drafts::Head(1),
    Drafts::Head(2),
    Drafts::Head(3),
    Drafts::Head(4),
    Drafts::Model,
    Drafts::Lookup,
    Drafts::Adaptive,
];
const KV: [DType; 2] = [DType::F32, DType::F16];
const THREADS: [usize; 2] = [1, 2];

/// The road that all others are compared with.
pub(crate) fn plain(kv: DType) -> Road {
    Road {
        together: 1,
        chunk: 512,
        detour: Detour::Plain,
        drafts: Drafts::Off,
        kv,
        threads: 1,
    }
}

/// Every road.
pub(crate) fn all() -> Vec<Road> {
    let mut roads = vec![plain(DType::F32)];
    roads = vary(&roads, &KV, |road, kv| Road { kv, ..road });
    roads = vary(&roads, &THREADS, |road, threads| Road { threads, ..road });
    roads = vary(&roads, &TOGETHER, |road, together| Road {
        together,
        ..road
    });
    roads = vary(&roads, &CHUNKS, |road, chunk| Road { chunk, ..road });
    roads = vary(&roads, &DETOURS, |road, detour| Road { detour, ..road });
    vary(&roads, &DRAFTS, |road, drafts| Road { drafts, ..road })
}

fn vary<T: Copy>(roads: &[Road], values: &[T], turn: impl Fn(Road, T) -> Road) -> Vec<Road> {
    let each = |&road: &Road| values.iter().map(move |&value| (road, value));
    let each = roads.iter().flat_map(each);
    each.map(|(road, value)| turn(road, value)).collect()
}

/// A road's turns, by their numbers.
fn turns(road: &Road) -> [usize; 6] {
    fn at<T: PartialEq>(values: &[T], value: &T) -> usize {
        let at = values.iter().position(|other| other == value);
        at.expect("roads are made of these values")
    }
    [
        at(&TOGETHER, &road.together),
        at(&CHUNKS, &road.chunk),
        at(&DETOURS, &road.detour),
        at(&DRAFTS, &road.drafts),
        at(&KV, &road.kv),
        at(&THREADS, &road.threads),
    ]
}

/// All pairs of turns of a road, each as (factor, value, factor, value).
fn pairs(road: &Road) -> Vec<(usize, usize, usize, usize)> {
    let turns = turns(road);
    let of = |a: usize| (a + 1..turns.len()).map(move |b| (a, turns[a], b, turns[b]));
    (0..turns.len()).flat_map(of).collect()
}

/// Few roads, in which every two turns of two factors meet.
pub(crate) fn selection() -> Vec<Road> {
    let roads = all();
    let mut missing: BTreeSet<_> = roads.iter().flat_map(pairs).collect();
    let mut chosen = Vec::new();
    while !missing.is_empty() {
        let new = |road: &&Road| pairs(road).iter().filter(|p| missing.contains(p)).count();
        let best = *roads.iter().max_by_key(new).expect("there are roads");
        for pair in pairs(&best) {
            missing.remove(&pair);
        }
        chosen.push(best);
    }
    chosen
}

#[test]
fn every_factor_is_varied() {
    let roads = all();
    assert_eq!(roads.len(), 2 * 3 * 6 * 8 * 2 * 2);
    let distinct: BTreeSet<_> = roads.iter().map(turns).collect();
    assert_eq!(distinct.len(), roads.len(), "no road is there twice");
    let few = selection();
    assert!((48..=66).contains(&few.len()), "{}", few.len());
    let met: BTreeSet<_> = few.iter().flat_map(pairs).collect();
    assert_eq!(met, roads.iter().flat_map(pairs).collect());
}
