//! Another model drafts: answers stay what they are, and as many drafts are right as the two models
//! agree on.
#![expect(clippy::unwrap_used, reason = "tests end where they are surprised")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use formats::gguf::GgufFile;
use text::{TokenKind, Tokenizer, Vocabulary};
use tidemill_engine::speculate::{
    Depth, DraftCounts, DraftModel, Speculation, SpeculationSettings,
};
use tidemill_engine::{
    BackendChoice, EngineSettings, Event, OpenedModel, Request, Scheduler, SchedulerSettings,
    TokenRules,
};

fn path(inside: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(inside)
}

fn tiny() -> OpenedModel {
    OpenedModel::open(&path("../../models/tiny/tidemill-tiny.gguf")).unwrap()
}

fn golden(name: &str) -> OpenedModel {
    OpenedModel::open(&path("../model/tests/goldens").join(name)).unwrap()
}

/// Answers of at most 24 tokens to these prompts, four at a time, every fourth sampled; with a draft
/// model that reads so many tokens.
fn answers(
    opened: &OpenedModel,
    draft: Option<(&OpenedModel, usize)>,
    depth: Depth,
    prompts: &[Vec<u32>],
) -> (Vec<Vec<u32>>, DraftCounts) {
    let settings = EngineSettings {
        total_tokens: 2048,
        sequences: 4,
        ..EngineSettings::single(512)
    };
    let backend = BackendChoice::cpu(1).unwrap();
    let engine = opened.load(backend.clone(), &settings, |_, _| {}).unwrap();
    let drafter = draft.map(|(draft, window)| {
        let speculation = SpeculationSettings {
            head: false,
            lookup: false,
            most: 3,
            depth,
        };
        let mut now = 0;
        let clock = Box::new(move || {
            now += 1;
            Duration::from_micros(now)
        });
        let settings = DraftModel::engine_settings(&settings);
        let own = draft.load(backend, &settings, |_, _| {}).unwrap();
        let model = DraftModel::new(own, opened.config.vocab_size).with_window(window);
        Speculation::new(&engine, opened.config.hidden_size, speculation, clock).with_model(model)
    });
    let rules = TokenRules::all(opened.config.vocab_size);
    let mut scheduler = Scheduler::new(engine, Arc::new(rules), SchedulerSettings::default());
    if let Some(drafter) = drafter {
        scheduler = scheduler.with_drafter(Box::new(drafter));
    }
    let mut ids = Vec::new();
    for (index, prompt) in prompts.iter().enumerate() {
        let mut request = Request::new(prompt.clone());
        request.limits.max_tokens = Some(24);
        if index % 4 == 3 {
            request.sampling.temperature = 0.8;
            request.sampling.seed = index as u64;
        }
        ids.push(scheduler.submit(request).unwrap());
    }
    let mut answers = vec![Vec::new(); prompts.len()];
    while !scheduler.is_idle() {
        for event in scheduler.step() {
            match event {
                Event::Token { request, token, .. } => {
                    let at = ids.iter().position(|&id| id == request).unwrap();
                    answers[at].push(token);
                }
                Event::Failed { error, .. } => panic!("{error}"),
                _ => {}
            }
        }
    }
    scheduler.assert_consistent();
    (answers, scheduler.drafts())
}

fn held_out(count: usize) -> Vec<Vec<u32>> {
    let text = std::fs::read_to_string(path("../../models/tiny/heldout.jsonl")).unwrap();
    let rows = text.lines().step_by(17).map(|line| {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        serde_json::from_value::<Vec<u32>>(row["prompt_ids"].clone()).unwrap()
    });
    rows.filter(|prompt| prompt.len() < 200)
        .take(count)
        .collect()
}

#[test]
fn a_model_agrees_with_itself() {
    let opened = tiny();
    let prompts = held_out(12);
    let greedy: Vec<Vec<u32>> = prompts.iter().take(3).cloned().collect();
    let (plain, _) = answers(&opened, None, Depth::Full, &greedy);
    let (same, counts) = answers(&opened, Some((&opened, 256)), Depth::Full, &greedy);
    assert_eq!(same, plain);
    assert!(counts.drafted > 20, "{counts:?}");
    assert_eq!(counts.accepted, counts.drafted, "all are right");

    // With less in view, and where answers are sampled, not all are.
    let (plain, _) = answers(&opened, None, Depth::Full, &prompts);
    for (window, depth) in [(8, Depth::Full), (256, Depth::Adaptive)] {
        let (same, counts) = answers(&opened, Some((&opened, window)), depth, &prompts);
        assert_eq!(same, plain);
        assert!(counts.accepted > 0, "{counts:?}");
        let all_are_right = counts.accepted == counts.drafted;
        assert!(depth == Depth::Adaptive || !all_are_right, "{counts:?}");
    }
}

#[test]
fn models_that_know_nothing_of_each_other_agree_on_little() {
    let (opened, other) = (golden("moe_text"), golden("dense_text"));
    let token = |seed: usize, at: usize| ((at * at * 7 + at * seed + seed) % 272) as u32;
    let prompt = |seed: usize| (0..seed * 19).map(|at| token(seed, at)).collect();
    let prompts: Vec<Vec<u32>> = (1..=9).map(prompt).collect();
    let (plain, _) = answers(&opened, None, Depth::Full, &prompts);
    let (same, counts) = answers(&opened, Some((&other, 256)), Depth::Full, &prompts);
    assert_eq!(same, plain);
    assert!(counts.accepted * 10 < counts.drafted, "{counts:?}");
}

#[test]
fn other_vocabularies_are_refused() {
    let file = GgufFile::open(&path("../../models/tiny/tidemill-tiny.gguf")).unwrap();
    let vocabulary = Vocabulary::from_gguf(file.metadata()).unwrap();
    let ours = Tokenizer::new(&vocabulary).unwrap();
    let check = |change: &dyn Fn(&mut Vocabulary)| {
        let mut theirs = vocabulary.clone();
        change(&mut theirs);
        let theirs = Tokenizer::new(&theirs).unwrap();
        DraftModel::check_vocabulary(&ours, &theirs).map_err(|error| error.token as usize)
    };
    let last = vocabulary.tokens.len();
    let pad = |vocabulary: &mut Vocabulary, kind| {
        vocabulary.tokens.push("padding".to_owned());
        vocabulary.kinds.push(kind);
    };
    assert_eq!(check(&|_| {}), Ok(()));
    assert_eq!(check(&|theirs| pad(theirs, TokenKind::Unused)), Ok(()));
    assert_eq!(check(&|theirs| pad(theirs, TokenKind::Control)), Err(last));
    let swaps = |theirs: &mut Vocabulary| theirs.tokens.swap(last - 1, last - 2);
    assert_eq!(check(&swaps), Err(last - 2));
    let mut other = vocabulary.clone();
    swaps(&mut other);
    let error = DraftModel::check_vocabulary(&ours, &Tokenizer::new(&other).unwrap());
    let error = error.unwrap_err().to_string();
    assert!(error.contains("has another vocabulary"), "{error}");
}
