//! The same tokens with speculation as without: on every road that a prompt can take through the
//! caches, greedy and sampled, alone and together with others, on the tiny trained model.
//!
//! `TIDEMILL_PROMPTS=200 cargo test --release -p tidemill-engine --test speculation -- --nocapture`
//! takes more prompts and shows what was accepted.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests end where they are surprised, and report"
)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use formats::DType;
use tidemill_engine::cache::disk::{DiskSettings, DiskTier};
use tidemill_engine::cache::{Boundary, BoundaryKind};
use tidemill_engine::speculate::{Depth, DraftCounts, Speculation, SpeculationSettings};
use tidemill_engine::{
    BackendChoice, EngineSettings, Event, KvTypes, OpenedModel, Request, RequestId, ReusedFrom,
    Scheduler, SchedulerSettings, TokenRules,
};

const ANSWER: usize = 48;

/// Where prompts come from.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Cache {
    Off,
    /// Each prompt was asked before.
    Memory,
    /// It was asked before a restart.
    Disk,
    /// Two answers to each prompt.
    Fork,
}

#[derive(Debug, Clone, Copy)]
struct Road {
    speculation: Option<SpeculationSettings>,
    cache: Cache,
    /// Sequences that are answered together.
    together: usize,
    chunk: usize,
    threads: usize,
    kv: DType,
}

fn ways() -> Vec<(String, Option<SpeculationSettings>)> {
    let settings = |head, lookup, most, depth| {
        Some(SpeculationSettings {
            head,
            lookup,
            most,
            depth,
        })
    };
    let mut ways = vec![
        ("none".to_owned(), None),
        ("lookup".to_owned(), settings(false, true, 4, Depth::Full)),
        (
            "adaptive".to_owned(),
            settings(true, true, 4, Depth::Adaptive),
        ),
    ];
    for most in 1..=4 {
        ways.push((
            format!("head k={most}"),
            settings(true, false, most, Depth::Full),
        ));
    }
    ways
}

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/tiny")
}

fn prompts(count: usize) -> Vec<Vec<u32>> {
    let text = std::fs::read_to_string(folder().join("heldout.jsonl")).unwrap();
    let all: Vec<Vec<u32>> = text
        .lines()
        .map(|line| {
            let row: serde_json::Value = serde_json::from_str(line).unwrap();
            serde_json::from_value(row["prompt_ids"].clone()).unwrap()
        })
        .collect();
    let count = count.min(all.len());
    (0..count)
        .map(|index| all[index * all.len() / count].clone())
        .collect()
}

fn prompt_count() -> usize {
    std::env::var("TIDEMILL_PROMPTS").map_or(4, |count| count.parse().unwrap())
}

fn start(opened: &OpenedModel, road: Road, cache: Option<&Path>) -> Scheduler {
    let settings = EngineSettings {
        total_tokens: 1024 * road.together + 4096,
        sequences: road.together,
        kv: KvTypes::both(road.kv),
        ..EngineSettings::single(1024)
    };
    let pool = Arc::new(cpu::Pool::new(road.threads));
    let backend = BackendChoice::Cpu(cpu::Cpu::new(pool).unwrap());
    let numerics = backend.numerics();
    let engine = opened.load(backend, &settings, |_, _| {}).unwrap();
    let drafter = road.speculation.map(|speculation| {
        // A clock that makes drafts look good and then bad, so that depths change.
        let mut now = 0u64;
        let clock = Box::new(move || {
            now += 1 + now / 3 % 5;
            Duration::from_micros(now)
        });
        Speculation::new(&engine, opened.config.hidden_size, speculation, clock)
    });
    let rules = TokenRules::all(opened.config.vocab_size)
        .ending_at(opened.tokenizer().unwrap().stop_tokens());
    let scheduling = SchedulerSettings {
        chunk_tokens: road.chunk,
        ..SchedulerSettings::default()
    };
    let mut scheduler = Scheduler::new(engine, Arc::new(rules), scheduling);
    if let Some(drafter) = drafter {
        scheduler = scheduler.with_drafter(Box::new(drafter));
    }
    if let Some(folder) = cache {
        let settings =
            DiskSettings::new(folder.to_owned(), 1 << 30, opened, &settings, &numerics).unwrap();
        scheduler = scheduler.with_tier(Box::new(DiskTier::open(&settings).unwrap()));
    }
    scheduler
}

fn request(prompt: &[u32], index: usize, road: Road) -> Request {
    let mut request = Request::new(prompt.to_vec());
    request.limits.max_tokens = Some(ANSWER);
    // Every other one is sampled.
    if index % 2 == 1 {
        request.sampling.temperature = 0.9;
        request.sampling.seed = index as u64;
    }
    request.cache = road.cache != Cache::Off;
    request.choices = if road.cache == Cache::Fork { 2 } else { 1 };
    request.boundaries = vec![Boundary {
        offset: prompt.len() - 1,
        kind: BoundaryKind::EndOfMessage(0),
    }];
    request
}

/// The first answer to each prompt, and where the prompts came from.
fn answers(
    scheduler: &mut Scheduler,
    prompts: &[Vec<u32>],
    road: Road,
) -> (Vec<Vec<u32>>, Vec<ReusedFrom>) {
    let mut ids: BTreeMap<RequestId, usize> = BTreeMap::new();
    for (index, prompt) in prompts.iter().enumerate() {
        let id = scheduler.submit(request(prompt, index, road)).unwrap();
        ids.insert(id, index);
    }
    let mut answers = vec![Vec::new(); prompts.len()];
    let mut reused = vec![ReusedFrom::Nowhere; prompts.len()];
    while !scheduler.is_idle() {
        for event in scheduler.step() {
            match event {
                Event::Token {
                    request,
                    choice: 0,
                    token,
                    ..
                } => answers[ids[&request]].push(token),
                Event::Started { request, reuse } => reused[ids[&request]] = reuse.from,
                Event::Failed { error, .. } => panic!("{error}"),
                _ => {}
            }
        }
    }
    scheduler.assert_consistent();
    (answers, reused)
}

/// Takes a road; returns the answers and what speculation did.
fn take(opened: &OpenedModel, prompts: &[Vec<u32>], road: Road) -> (Vec<Vec<u32>>, DraftCounts) {
    let disk = tempfile::tempdir().unwrap();
    let folder = (road.cache == Cache::Disk).then_some(disk.path());
    let mut scheduler = start(opened, road, folder);
    if matches!(road.cache, Cache::Memory | Cache::Disk) {
        answers(&mut scheduler, prompts, road);
    }
    if road.cache == Cache::Disk {
        drop(scheduler);
        scheduler = start(opened, road, folder);
    }
    let (answers, reused) = answers(&mut scheduler, prompts, road);
    let expected = match road.cache {
        Cache::Off => Some(ReusedFrom::Nowhere),
        Cache::Memory => Some(ReusedFrom::Memory),
        Cache::Disk => Some(ReusedFrom::Tier),
        // Prompts of a task begin alike.
        Cache::Fork => None,
    };
    if let Some(expected) = expected {
        let found = reused.iter().filter(|&&from| from == expected).count();
        assert!(2 * found > prompts.len(), "{road:?}: {reused:?}");
    }
    (answers, scheduler.drafts())
}

fn check(kv: DType) {
    let opened = OpenedModel::open(&folder().join("tidemill-tiny.gguf")).unwrap();
    let prompts = prompts(prompt_count());
    let plain = Road {
        speculation: None,
        cache: Cache::Off,
        together: 1,
        chunk: 512,
        threads: 1,
        kv,
    };
    let (expected, _) = take(&opened, &prompts, plain);
    let mut roads = 0;
    for (name, speculation) in ways() {
        let mut counts = DraftCounts::default();
        for cache in [Cache::Off, Cache::Memory, Cache::Disk, Cache::Fork] {
            for (together, chunk, threads) in [(1, 512, 1), (8, 7, 2), (3, 64, 1)] {
                let road = Road {
                    speculation,
                    cache,
                    together,
                    chunk,
                    threads,
                    kv,
                };
                let (answers, drafted) = take(&opened, &prompts, road);
                for (index, (answer, expected)) in answers.iter().zip(&expected).enumerate() {
                    assert_eq!(answer, expected, "prompt {index}, {name}, {road:?}");
                }
                counts.add(&drafted);
                roads += 1;
            }
        }
        let rates: Vec<String> = counts
            .by_position
            .iter()
            .map(|t| format!("{:.0} %", 100.0 * t.accepted as f64 / t.tried.max(1) as f64))
            .collect();
        println!(
            "{kv}, {name}: {} of {} drafts accepted; by position {}",
            counts.accepted,
            counts.drafted,
            rates.join(", ")
        );
        assert_eq!(counts.drafted > 0, speculation.is_some(), "{name}");
    }
    println!(
        "{kv}: {roads} roads of {} prompts, all equal",
        prompts.len()
    );
}

#[test]
fn answers_do_not_depend_on_speculation() {
    check(DType::F32);
}

#[test]
fn nor_with_f16_keys_and_values() {
    check(DType::F16);
}
