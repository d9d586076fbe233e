//! Ten thousand requests of mixed sizes on the tiny model, with cancels, speculation, cached
//! prompts, and a fifth less memory than they would need.
//!
//! ```text
//! cargo run --release --example soak -p tidemill-engine -- [REQUESTS] [CACHE_DIR]
//! ```
//!
//! Every answer is compared with the plain road's: one sequence, no cache, no speculation. In the
//! end pages, states and snapshots have to be back at zero, and nobody may have waited for long.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a program for people, which ends where it is surprised"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use tidemill_engine::cache::disk::{DiskSettings, DiskTier};
use tidemill_engine::cache::{Boundary, BoundaryKind, CacheSettings};
use tidemill_engine::speculate::{Speculation, SpeculationSettings};
use tidemill_engine::{
    BackendChoice, EngineSettings, Event, OpenedModel, Request, RequestId, Scheduler,
    SchedulerSettings, TokenRules,
};

/// Sequences at once.
const SEQUENCES: usize = 16;
/// Different requests; each is asked many times.
const KINDS: usize = 240;
/// The most tokens of prompt and answer.
const LONGEST: usize = 448;
/// Requests in the queue and running.
const OPEN: usize = 48;

/// A fixed sequence of numbers that look random.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }
}

fn scheduler(
    opened: &OpenedModel,
    settings: EngineSettings,
    scheduling: SchedulerSettings,
) -> (Scheduler, String) {
    let pool = Arc::new(cpu::Pool::new(cpu::default_threads()));
    let backend = BackendChoice::Cpu(cpu::Cpu::new(pool).unwrap());
    let numerics = backend.numerics();
    let engine = opened.load(backend, &settings, |_, _| {}).unwrap();
    let rules = TokenRules::all(opened.config.vocab_size)
        .ending_at(opened.tokenizer().unwrap().stop_tokens());
    (
        Scheduler::new(engine, Arc::new(rules), scheduling),
        numerics,
    )
}

/// Requests of all sizes: short questions, long contexts, several answers, sampled and greedy.
fn kinds() -> Vec<Request> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/tiny");
    let text = std::fs::read_to_string(folder.join("heldout.jsonl")).unwrap();
    let prompts: Vec<Vec<u32>> = text
        .lines()
        .map(|line| {
            let row: serde_json::Value = serde_json::from_str(line).unwrap();
            serde_json::from_value(row["prompt_ids"].clone()).unwrap()
        })
        .collect();
    let mut chance = Chance(3);
    let kind = |index: usize| {
        let mut prompt = prompts[chance.below(prompts.len())].clone();
        if index.is_multiple_of(4) {
            // A conversation: several held-out ones in a row.
            for _ in 0..chance.below(6) {
                prompt.extend_from_slice(&prompts[chance.below(prompts.len())]);
            }
        }
        prompt.truncate(LONGEST * 3 / 4);
        let mut request = Request::new(prompt);
        let room = LONGEST - request.prompt.len();
        request.limits.max_tokens = Some(chance.below(room.min(120)));
        request.choices = if index.is_multiple_of(7) { 2 } else { 1 };
        request.priority = chance.below(3) as i32 - 1;
        request.speculation = !index.is_multiple_of(5);
        if index.is_multiple_of(2) {
            request.sampling.temperature = 0.9;
            request.sampling.seed = index as u64;
        }
        request.boundaries = vec![Boundary {
            offset: request.prompt.len() - 1,
            kind: BoundaryKind::EndOfMessage(0),
        }];
        request
    };
    (0..KINDS).map(kind).collect()
}

type Answers = Vec<Vec<u32>>;

/// Each kind's answers on the plain road.
fn plain_answers(opened: &OpenedModel, kinds: &[Request]) -> Vec<Answers> {
    let scheduling = SchedulerSettings {
        cache: CacheSettings::off(),
        ..SchedulerSettings::default()
    };
    let (mut scheduler, _) = scheduler(opened, EngineSettings::single(512), scheduling);
    let mut all = Vec::new();
    for kind in kinds {
        scheduler.submit(kind.clone()).unwrap();
        let mut answers = vec![Vec::new(); kind.choices];
        while !scheduler.is_idle() {
            for event in scheduler.step() {
                if let Event::Token { choice, token, .. } = event {
                    answers[choice].push(token);
                }
            }
        }
        all.push(answers);
    }
    all
}

/// A request under way.
struct Open {
    kind: usize,
    answers: Answers,
    since: u64,
    started: bool,
    /// The step in which the client leaves.
    leaves: Option<u64>,
}

fn main() {
    let mut words = std::env::args().skip(1);
    let requests: usize = words.next().map_or(10_000, |count| count.parse().unwrap());
    let cache_dir: Option<PathBuf> = words.next().map(PathBuf::from);

    let tiny = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/tiny/tidemill-tiny.gguf");
    let opened = OpenedModel::open(&tiny).unwrap();
    let kinds = kinds();
    let expected = plain_answers(&opened, &kinds);
    let longest = kinds
        .iter()
        .map(|kind| kind.prompt.len() + kind.limits.max_tokens.unwrap_or(0))
        .max()
        .unwrap();
    let mean = kinds
        .iter()
        .map(|kind| kind.prompt.len() + kind.limits.max_tokens.unwrap_or(0))
        .sum::<usize>()
        / kinds.len();

    let needed = SEQUENCES * mean;
    let settings = EngineSettings {
        total_tokens: needed * 8 / 10 - SEQUENCES * 64,
        sequences: SEQUENCES,
        ..EngineSettings::single(512)
    };
    let scheduling = SchedulerSettings {
        queue: 2 * OPEN,
        parked_bytes: 8 << 20,
        cache: CacheSettings {
            snapshot_bytes: 16 << 20,
            gap: 32,
            spacing: 128,
            tail: 2,
        },
        ..SchedulerSettings::default()
    };
    let (mut scheduler, numerics) = scheduler(&opened, settings, scheduling);
    let start = Instant::now();
    let clock = Box::new(move || start.elapsed());
    let speculation = SpeculationSettings::default();
    let drafter = Speculation::new(
        scheduler.engine(),
        opened.config.hidden_size,
        speculation,
        clock,
    );
    scheduler = scheduler.with_drafter(Box::new(drafter));
    if let Some(folder) = cache_dir {
        let settings = DiskSettings::new(folder, 256 << 20, &opened, &settings, &numerics).unwrap();
        scheduler = scheduler.with_tier(Box::new(DiskTier::open(&settings).unwrap()));
    }

    let mut chance = Chance(9);
    let mut open: BTreeMap<RequestId, Open> = BTreeMap::new();
    let (mut submitted, mut compared, mut left, mut steps) = (0, 0, 0, 0u64);
    let (mut longest_wait, mut longest_life, mut pauses) = (0, 0, 0);
    while submitted < requests || !open.is_empty() {
        while submitted < requests && open.len() < OPEN {
            let kind = chance.below(KINDS);
            let id = scheduler.submit(kinds[kind].clone()).unwrap();
            let leaves = (chance.below(10) == 0).then(|| steps + chance.below(60) as u64);
            open.insert(
                id,
                Open {
                    kind,
                    answers: vec![Vec::new(); kinds[kind].choices],
                    since: steps,
                    started: false,
                    leaves,
                },
            );
            submitted += 1;
        }
        steps += 1;
        for event in scheduler.step() {
            match event {
                Event::Token {
                    request,
                    choice,
                    token,
                    ..
                } => open.get_mut(&request).unwrap().answers[choice].push(token),
                Event::Started { request, .. } => {
                    let entry = open.get_mut(&request).unwrap();
                    entry.started = true;
                    longest_wait = longest_wait.max(steps - entry.since);
                }
                Event::Paused { .. } => pauses += 1,
                Event::Failed { error, .. } => panic!("{error}"),
                _ => {}
            }
        }
        let known: Vec<RequestId> = scheduler.requests().iter().map(|r| r.request).collect();
        let done: Vec<RequestId> = open
            .keys()
            .filter(|id| !known.contains(id))
            .copied()
            .collect();
        for id in done {
            let Open {
                kind,
                answers,
                since,
                ..
            } = open.remove(&id).unwrap();
            assert!(
                answers == expected[kind],
                "request {} of kind {kind}",
                id.number()
            );
            longest_life = longest_life.max(steps - since);
            compared += 1;
        }
        let leaving = open
            .iter()
            .filter(|(_, o)| o.leaves.is_some_and(|at| at <= steps));
        for id in leaving.map(|(&id, _)| id).collect::<Vec<_>>() {
            assert!(scheduler.cancel(id));
            open.remove(&id);
            left += 1;
        }
        if steps.is_multiple_of(64) {
            scheduler.assert_consistent();
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    let metrics = scheduler.metrics();
    let drafts = scheduler.drafts();
    let before = scheduler.memory();
    scheduler.clear_cache();
    scheduler.assert_consistent();
    let memory = scheduler.memory();
    assert_eq!(memory.free_pages, memory.pages, "pages are back");
    assert_eq!(memory.free_states, memory.states, "states are back");
    assert_eq!(
        (memory.cache_bytes, memory.parked_bytes),
        (0, 0),
        "snapshots are back"
    );

    println!(
        "{requests} requests of {KINDS} kinds, up to {longest} tokens (mean {mean}), {SEQUENCES} sequences"
    );
    println!(
        "memory: {} pages of 64 tokens for a need of {}; snapshots kept in the end {}, then 0",
        memory.pages,
        needed.div_ceil(64),
        before.cache_entries
    );
    println!("{compared} answered as on the plain road, {left} cancelled, 0 failed");
    println!(
        "{steps} steps, {seconds:.0} s, {} tokens generated, {} of {} prompt tokens cached",
        metrics.generated, metrics.cached_tokens, metrics.prompt_tokens
    );
    println!(
        "{pauses} pauses, {} resumed, {} computed again, {} snapshots kept, {} evicted",
        metrics.resumed, metrics.dropped, metrics.kept, metrics.evicted
    );
    println!("{} of {} drafts accepted", drafts.accepted, drafts.drafted);
    println!("longest wait for a start {longest_wait} steps, longest life {longest_life} steps");
}
