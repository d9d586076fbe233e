//! The same tokens, whatever the scheduler does: greedy answers to the tiny model's held-out
//! prompts and to random models' random prompts do not depend on what else runs, how prompts are
//! cut, what was cached, what had to go, forks, pauses, or threads.
//!
//! By default a selection of roads that has every value of every dimension; all of them with
//! `cargo test --release -p tidemill-engine --test scheduling -- --ignored --nocapture`.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests end where they are surprised, and report"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use formats::DType;
use tidemill_engine::cache::CacheSettings;
use tidemill_engine::{
    BackendChoice, EngineSettings, Event, KvTypes, Miss, OpenedModel, Request, RequestId,
    Scheduler, SchedulerSettings, TokenRules,
};

const ANSWER: usize = 16;

/// One way to an answer.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Road {
    /// Answers at once.
    batch: usize,
    chunk: usize,
    detour: Detour,
    threads: usize,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Detour {
    /// Everything is read.
    Plain,
    /// Most of each prompt was read before.
    Hit,
    /// As much, but not all of it could be kept.
    Evicted,
    /// Two answers to each prompt.
    Fork,
    /// Others of higher priority come in between.
    Paused,
}

const PLAIN: Road = Road {
    batch: 1,
    chunk: 512,
    detour: Detour::Plain,
    threads: 1,
};

const DETOURS: [Detour; 5] = [
    Detour::Plain,
    Detour::Hit,
    Detour::Evicted,
    Detour::Fork,
    Detour::Paused,
];

fn selection() -> Vec<Road> {
    let road = |batch, chunk, detour, threads| Road {
        batch,
        chunk,
        detour,
        threads,
    };
    vec![
        road(16, 64, Detour::Plain, 2),
        road(16, 1, Detour::Hit, 1),
        road(16, 512, Detour::Hit, 2),
        road(16, 64, Detour::Evicted, 1),
        road(16, 64, Detour::Fork, 2),
        road(1, 64, Detour::Paused, 2),
        road(16, 512, Detour::Paused, 1),
    ]
}

fn all() -> Vec<Road> {
    let mut roads = Vec::new();
    for batch in [1, 16] {
        for chunk in [1, 64, 512] {
            for detour in DETOURS {
                for threads in [1, 2] {
                    roads.push(Road {
                        batch,
                        chunk,
                        detour,
                        threads,
                    });
                }
            }
        }
    }
    roads
}

struct Model {
    opened: OpenedModel,
    rules: Arc<TokenRules>,
    kv: DType,
}

fn scheduler(model: &Model, road: Road, context: usize, prompts: usize) -> Scheduler {
    let sequences = match road.detour {
        // All prompts stay in memory.
        Detour::Hit => prompts,
        Detour::Plain | Detour::Evicted | Detour::Fork | Detour::Paused => 1,
    };
    let engine = EngineSettings {
        context,
        // Each entry has a last page of its own.
        total_tokens: sequences * (context + 6 * 64),
        sequences: road.batch,
        kv: KvTypes::both(model.kv),
    };
    let pool = Arc::new(cpu::Pool::new(road.threads));
    let backend = BackendChoice::Cpu(cpu::Cpu::new(pool).unwrap());
    let engine = model.opened.load(backend, &engine, |_, _| {}).unwrap();
    let snapshot_bytes = match road.detour {
        Detour::Plain | Detour::Fork | Detour::Paused => 0,
        Detour::Hit => 1 << 30,
        Detour::Evicted => 12 * engine.state_bytes(),
    };
    let settings = SchedulerSettings {
        batch_tokens: 512.max(road.chunk),
        chunk_tokens: road.chunk,
        cache: CacheSettings {
            snapshot_bytes,
            gap: 16,
            ..CacheSettings::default()
        },
        ..SchedulerSettings::default()
    };
    Scheduler::new(engine, Arc::clone(&model.rules), settings)
}

fn request(prompt: &[u32], most: usize) -> Request {
    let mut request = Request::new(prompt.to_vec());
    request.limits.max_tokens = Some(most);
    request
}

/// What the answers came to, and what happened on the way.
#[derive(Default)]
struct Told {
    answers: BTreeMap<(RequestId, usize), Vec<u32>>,
    cached: usize,
    evicted: usize,
}

fn step(scheduler: &mut Scheduler, told: &mut Told) {
    for event in scheduler.step() {
        match event {
            Event::Token {
                request,
                choice,
                token,
                ..
            } => told
                .answers
                .entry((request, choice))
                .or_default()
                .push(token),
            Event::Started { reuse, .. } => {
                told.cached += usize::from(reuse.cached > 0);
                told.evicted += usize::from(matches!(reuse.rest, Miss::Evicted { .. }));
            }
            Event::Failed { error, .. } => panic!("{error}"),
            _ => {}
        }
    }
}

fn run(scheduler: &mut Scheduler, told: &mut Told) {
    while !scheduler.is_idle() {
        step(scheduler, told);
    }
    scheduler.assert_consistent();
}

/// Each prompt's answer.
fn answers(model: &Model, prompts: &[Vec<u32>], road: Road) -> Vec<Vec<u32>> {
    let longest = prompts.iter().map(Vec::len).max().unwrap();
    let mut scheduler = scheduler(model, road, longest + ANSWER + 1, prompts.len());
    let mut told = Told::default();
    if matches!(road.detour, Detour::Hit | Detour::Evicted) {
        for prompt in prompts {
            let most = prompt.len() - prompt.len() / 3;
            scheduler.submit(request(&prompt[..most], 1)).unwrap();
        }
        run(&mut scheduler, &mut told);
        told = Told::default();
    }
    let mut ids = Vec::new();
    for (index, prompt) in prompts.iter().enumerate() {
        let mut request = request(prompt, ANSWER);
        if road.detour == Detour::Fork {
            request.choices = 2;
        }
        if road.detour == Detour::Paused {
            // Every few steps somebody more urgent comes.
            request.priority = (index % 40 / 8) as i32;
            if index % 8 == 0 {
                (0..3).for_each(|_| step(&mut scheduler, &mut told));
            }
        }
        ids.push(scheduler.submit(request).unwrap());
    }
    run(&mut scheduler, &mut told);

    let metrics = scheduler.metrics();
    match road.detour {
        Detour::Plain => {}
        Detour::Hit => assert_eq!(told.cached, prompts.len(), "{road:?}"),
        Detour::Evicted => {
            assert!(
                told.evicted > 0 && metrics.evicted > 0,
                "{road:?}: {metrics:?}"
            );
        }
        Detour::Paused => assert!(metrics.paused > 0, "{road:?}: {metrics:?}"),
        Detour::Fork => {
            for &id in &ids {
                assert_eq!(
                    told.answers.get(&(id, 0)),
                    told.answers.get(&(id, 1)),
                    "{road:?}"
                );
            }
        }
    }
    scheduler.clear_cache();
    let memory = scheduler.memory();
    assert_eq!(memory.free_pages, memory.pages, "{road:?}");
    assert_eq!(memory.free_states, memory.states, "{road:?}");
    ids.into_iter()
        .map(|id| told.answers.remove(&(id, 0)).unwrap_or_default())
        .collect()
}

fn check(model: &Model, name: &str, prompts: &[Vec<u32>], roads: &[Road]) {
    let plain = answers(model, prompts, PLAIN);
    for &road in roads {
        let other = answers(model, prompts, road);
        for (index, (one, other)) in plain.iter().zip(&other).enumerate() {
            assert_eq!(one, other, "{name}, {}, prompt {index}: {road:?}", model.kv);
        }
    }
    let tokens: usize = plain.iter().map(Vec::len).sum();
    println!(
        "{name}, {} keys and values: {} prompts, {tokens} tokens, equal on {} roads",
        model.kv,
        prompts.len(),
        roads.len()
    );
}

fn tiny(kv: DType) -> (Model, Vec<Vec<u32>>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/tiny");
    let opened = OpenedModel::open(&folder.join("tidemill-tiny.gguf")).unwrap();
    let rules = Arc::new(TokenRules::of(&opened.tokenizer().unwrap()));
    let text = std::fs::read_to_string(folder.join("heldout.jsonl")).unwrap();
    let prompts = text.lines().map(|line| {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        serde_json::from_value(row["prompt_ids"].clone()).unwrap()
    });
    let prompts = prompts.collect();
    (Model { opened, rules, kv }, prompts)
}

/// A model of random weights, whose answers hang on every value, and random prompts.
fn random(name: &str, kv: DType) -> (Model, Vec<Vec<u32>>) {
    let goldens: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/tests/goldens");
    let opened = OpenedModel::open(&goldens.join(name)).unwrap();
    let vocabulary = opened.config.vocab_size;
    let rules = Arc::new(TokenRules::all(vocabulary));
    let prompt = |seed: usize| -> Vec<u32> {
        let len = 3 + seed * 37 % 150;
        (0..len)
            .map(|at| ((at * at * 7 + at * seed + seed) % vocabulary) as u32)
            .collect()
    };
    (Model { opened, rules, kv }, (1..25).map(prompt).collect())
}

/// The shortest 200, so that the default run is quick.
fn shortest(mut prompts: Vec<Vec<u32>>) -> Vec<Vec<u32>> {
    prompts.sort_by_key(Vec::len);
    prompts.truncate(200);
    prompts
}

#[test]
fn trained_answers_do_not_depend_on_the_schedule() {
    let (model, prompts) = tiny(DType::F32);
    check(&model, "tiny", &shortest(prompts), &selection());
}

#[test]
fn answers_with_f16_caches_do_not_depend_on_the_schedule() {
    let (model, prompts) = tiny(DType::F16);
    let prompts: Vec<_> = shortest(prompts).into_iter().step_by(4).collect();
    check(&model, "tiny", &prompts, &selection());
}

#[test]
fn random_answers_do_not_depend_on_the_schedule() {
    for name in ["moe_composite", "dense_text"] {
        let (model, prompts) = random(name, DType::F32);
        check(&model, name, &prompts, &selection());
    }
}

#[test]
#[ignore = "minutes, in a release build"]
fn no_answer_depends_on_any_schedule() {
    for kv in [DType::F32, DType::F16] {
        let (model, prompts) = tiny(kv);
        check(&model, "tiny", &prompts, &all());
        for name in ["moe_text", "moe_composite", "dense_text", "qwen3_next"] {
            let (model, prompts) = random(name, kv);
            check(&model, name, &prompts, &all());
        }
    }
}
