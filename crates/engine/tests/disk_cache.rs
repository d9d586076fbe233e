//! A conversation that goes on after a restart: cached prompts come back from disk, with the same
//! answers, and whatever is wrong with the files costs time only.
#![expect(clippy::unwrap_used, reason = "tests end where they are surprised")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use formats::DType;
use tidemill_engine::cache::disk::{DiskSettings, DiskTier};
use tidemill_engine::cache::{Boundary, BoundaryKind};
use tidemill_engine::speculate::{Depth, Speculation, SpeculationSettings};
use tidemill_engine::{
    BackendChoice, EngineSettings, Event, KvTypes, Miss, OpenedModel, Request, Reuse, ReusedFrom,
    Scheduler, SchedulerSettings, TokenRules, Usage,
};

fn open() -> OpenedModel {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/tiny/tidemill-tiny.gguf");
    OpenedModel::open(&path).unwrap()
}

/// A server's life: a scheduler on the tiny model with this cache directory, or none.
fn start(opened: &OpenedModel, folder: Option<&Path>, speculates: bool) -> Scheduler {
    start_with(opened, folder, speculates, (DType::F16, 1000))
}

/// As [`start`], with keys and values of a type, and room on disk for so many states with a page.
fn start_with(
    opened: &OpenedModel,
    folder: Option<&Path>,
    speculates: bool,
    (kv, room): (DType, u64),
) -> Scheduler {
    let settings = EngineSettings {
        total_tokens: 4096,
        sequences: 2,
        kv: KvTypes::both(kv),
        ..EngineSettings::single(1024)
    };
    let backend = BackendChoice::Cpu(
        cpu::Cpu::new(Arc::new(cpu::Pool::new(cpu::default_threads()))).unwrap(),
    );
    let numerics = backend.numerics();
    let engine = opened.load(backend, &settings, |_, _| {}).unwrap();
    let clock = Box::new(|| Duration::ZERO);
    let speculation = SpeculationSettings {
        depth: Depth::Full,
        ..SpeculationSettings::default()
    };
    let drafter = Speculation::new(&engine, opened.config.hidden_size, speculation, clock);
    let rules = TokenRules::all(opened.config.vocab_size);
    let mut scheduler = Scheduler::new(engine, Arc::new(rules), SchedulerSettings::default());
    if let Some(folder) = folder {
        let folder = folder.to_owned();
        let mut settings = DiskSettings::new(folder, 0, opened, &settings, &numerics).unwrap();
        let shape = settings.shape;
        settings.budget_bytes = room * (shape.state_bytes + shape.page_bytes) as u64;
        scheduler = scheduler.with_tier(Box::new(DiskTier::open(&settings).unwrap()));
    }
    if speculates {
        scheduler = scheduler.with_drafter(Box::new(drafter));
    }
    scheduler
}

fn answer(scheduler: &mut Scheduler, prompt: &[u32]) -> (Vec<u32>, Reuse, Usage) {
    let mut request = Request::new(prompt.to_vec());
    request.limits.max_tokens = Some(40);
    request.sampling.temperature = 0.8;
    request.sampling.seed = 11;
    request.boundaries = vec![
        Boundary {
            offset: 40,
            kind: BoundaryKind::EndOfSystem,
        },
        Boundary {
            offset: prompt.len() - 3,
            kind: BoundaryKind::EndOfMessage(1),
        },
    ];
    scheduler.submit(request).unwrap();
    let (mut tokens, mut reused, mut used) = (Vec::new(), None, None);
    while !scheduler.is_idle() {
        for event in scheduler.step() {
            match event {
                Event::Token { token, .. } => tokens.push(token),
                Event::Started { reuse, .. } => reused = Some(reuse),
                Event::Finished { usage, .. } => used = Some(usage),
                _ => {}
            }
        }
        scheduler.assert_consistent();
    }
    (tokens, reused.unwrap(), used.unwrap())
}

/// Text that the tiny model can go on with.
fn prompt(opened: &OpenedModel, text: &str) -> Vec<u32> {
    let tokenizer = opened.tokenizer().unwrap();
    let mut tokens = tokenizer.encode(text, text::SpecialTokens::Parse).unwrap();
    while tokens.len() < 150 {
        tokens.extend_from_within(..50.min(tokens.len()));
    }
    tokens
}

const TURN: &str =
    "<|im_start|>user\nWhat is 12 + 30? Then add 5.<|im_end|>\n<|im_start|>assistant\n";

#[test]
fn prompts_come_back_after_a_restart() {
    let opened = open();
    let folder = tempfile::tempdir().unwrap();
    let first = prompt(&opened, TURN);
    for speculates in [false, true] {
        let mut plain = start(&opened, None, false);
        let (expected, ..) = answer(&mut plain, &first);
        let second: Vec<u32> = [&first[..], &expected, &first[..30]].concat();
        let (expected_second, ..) = answer(&mut plain, &second);

        let (tokens, ..) = answer(&mut start(&opened, Some(folder.path()), speculates), &first);
        assert_eq!(tokens, expected);
        // Dropping the scheduler wrote everything. The next process goes on with the conversation.
        let mut next = start(&opened, Some(folder.path()), speculates);
        let (tokens, reuse, usage) = answer(&mut next, &second);
        assert_eq!(tokens, expected_second);
        assert_eq!(reuse.from, ReusedFrom::Tier, "{reuse:?}");
        assert!(reuse.cached >= first.len() - 3, "{reuse:?}");
        assert_eq!(usage.prefilled, second.len() - reuse.cached);
        assert_eq!(usage.drafted > 0, speculates);
        // And a new one that begins with the same system message.
        let other = [&first[..60], &first[..70]].concat();
        let (expected_other, ..) = answer(&mut plain, &other);
        let mut last = start(&opened, Some(folder.path()), speculates);
        let (tokens, reuse, _) = answer(&mut last, &other);
        assert_eq!((tokens, reuse.from), (expected_other, ReusedFrom::Tier));
        assert!(reuse.cached >= 40, "{reuse:?}");
    }
}

#[test]
fn reasons_survive_a_restart() {
    let opened = open();
    let folder = tempfile::tempdir().unwrap();
    let first = prompt(&opened, TURN);
    // Each in a process of its own.
    let why = |prompt: &[u32], kv_and_room| {
        let mut scheduler = start_with(&opened, Some(folder.path()), false, kv_and_room);
        let (_, reuse, _) = answer(&mut scheduler, prompt);
        (reuse.cached, reuse.rest)
    };
    let usual = (DType::F16, 1000);
    assert_eq!(why(&first, usual), (0, Miss::NothingStored));

    let mut edited = first.clone();
    edited[100] += 1;
    let diverged = |token, message| Miss::Diverged {
        token,
        message,
        is_media: false,
    };
    assert_eq!(why(&edited, usual), (40, diverged(100, Some(1))));
    let foreign: Vec<u32> = first.iter().map(|token| token + 1).collect();
    assert_eq!(why(&foreign, usual), (0, diverged(0, Some(1))));
    // The prompt as it was and what it was answered, which is all that is known of it.
    let mut plain = start(&opened, None, false);
    let (answered, ..) = answer(&mut plain, &first);
    let longer = [&first[..], &answered[..answered.len() - 1], &first[..20]].concat();
    assert_eq!(why(&longer, usual).1, Miss::New);
    assert_eq!(why(&longer, (DType::F32, 1000)), (0, Miss::OtherModel));

    // Others take its room.
    for seed in 2..6 {
        let other: Vec<u32> = first.iter().map(|token| token + seed).collect();
        why(&other, (DType::F16, 8));
    }
    let (cached, reason) = why(&longer, usual);
    assert_eq!(cached, 0);
    assert!(
        matches!(reason, Miss::Evicted { tokens } if tokens > first.len()),
        "{reason:?}"
    );
}

#[test]
fn damaged_files_cost_time_only() {
    let opened = open();
    let folder = tempfile::tempdir().unwrap();
    let first = prompt(&opened, TURN);
    let (expected, ..) = answer(&mut start(&opened, Some(folder.path()), true), &first);
    let files: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .flat_map(|entry| std::fs::read_dir(entry.unwrap().path()).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some())
        .collect();
    assert!(files.len() >= 2, "{files:?}");
    for (index, file) in files.iter().enumerate() {
        let mut bytes = std::fs::read(file).unwrap();
        let middle = bytes.len() / 2;
        if index % 2 == 0 {
            bytes[middle] ^= 4;
        } else {
            bytes.truncate(middle);
        }
        std::fs::write(file, bytes).unwrap();
    }
    let mut next = start(&opened, Some(folder.path()), true);
    let (tokens, reuse, _) = answer(&mut next, &first);
    assert_eq!(tokens, expected);
    assert_eq!(reuse.cached, 0, "{reuse:?}");
    // What was dropped is stored again.
    drop(next);
    let (tokens, reuse, _) = answer(&mut start(&opened, Some(folder.path()), true), &first);
    assert_eq!(tokens, expected);
    assert_eq!(reuse.from, ReusedFrom::Tier);
}

#[test]
fn a_full_disk_costs_time_only() {
    let opened = open();
    let folder = tempfile::tempdir().unwrap();
    let first = prompt(&opened, TURN);
    let mut scheduler = start(&opened, Some(folder.path()), true);
    // The folder goes away below the running engine: every write fails from now on.
    std::fs::remove_dir_all(folder.path()).unwrap();
    let (tokens, ..) = answer(&mut scheduler, &first);
    let (again, reuse, _) = answer(&mut scheduler, &first);
    assert_eq!(tokens, again);
    assert_eq!(reuse.from, ReusedFrom::Memory);
    drop(scheduler);
    let (expected, ..) = answer(&mut start(&opened, None, false), &first);
    assert_eq!(tokens, expected);
}
