//! The tiny trained model under our engine against Hugging Face transformers, on every held-out
//! prompt (`models/tiny/evaluate.py` made both files).
//!
//! Equal tokens mean equal accuracy in every task. Where two tokens are as good as equally likely,
//! rounding decides; such a place is reported, with the margin.
#![expect(clippy::unwrap_used, reason = "tests end where they are surprised")]

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;
use text::{ChatRequest, Message, Prompt, SpecialTokens, Tokenizer};
use tidemill_engine::{
    BackendChoice, Engine, EngineSettings, OpenedModel, SequenceId, Work, argmax,
};

/// As in `evaluate.py`.
const MAX_NEW_TOKENS: usize = 192;
/// Sequences that are answered together.
const TOGETHER: usize = 16;
/// Logits of f32 engines differ by less than this on this model.
const ROUNDING: f32 = 1e-3;

#[derive(Deserialize)]
struct HeldOut {
    id: String,
    task: String,
    messages: Vec<Message>,
    tools: Vec<Value>,
    enable_thinking: Option<bool>,
    prompt: String,
    prompt_ids: Vec<u32>,
}

#[derive(Deserialize)]
struct HfResult {
    id: String,
    ids: Vec<u32>,
    correct: bool,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/tiny")
}

fn lines<T: for<'a> Deserialize<'a>>(name: &str) -> Vec<T> {
    let text = std::fs::read_to_string(folder().join(name)).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn open() -> OpenedModel {
    OpenedModel::open(&folder().join("tidemill-tiny.gguf")).unwrap()
}

/// One greedy answer in the making.
struct Answer {
    sequence: SequenceId,
    tokens: Vec<u32>,
    /// Between the best and the second-best logit, for each token.
    margins: Vec<f32>,
    next: Vec<u32>,
}

/// Greedy answers to all prompts, `TOGETHER` at a time, each step a ragged batch.
fn answers(engine: &mut Engine, prompts: &[Vec<u32>], stop: &[u32]) -> Vec<(Vec<u32>, Vec<f32>)> {
    let mut done = vec![None; prompts.len()];
    let mut waiting = prompts.iter().enumerate();
    let mut running: Vec<(usize, Answer)> = Vec::new();
    loop {
        while running.len() < TOGETHER
            && let Some((index, prompt)) = waiting.next()
        {
            let sequence = engine.start().unwrap();
            let next = prompt.clone();
            running.push((
                index,
                Answer {
                    sequence,
                    tokens: vec![],
                    margins: vec![],
                    next,
                },
            ));
        }
        if running.is_empty() {
            return done
                .into_iter()
                .map(|answer| answer.expect("all are answered"))
                .collect();
        }
        let work: Vec<Work> = running
            .iter()
            .map(|(_, Answer { sequence, next, .. })| Work {
                sequence: *sequence,
                tokens: next.clone(),
                logits: vec![next.len() - 1],
            })
            .collect();
        let outputs = engine.step(&work).unwrap();
        for ((_, answer), logits) in running.iter_mut().zip(&outputs) {
            let best = argmax(logits.data());
            let others = logits
                .data()
                .iter()
                .enumerate()
                .filter(|&(at, _)| at != best as usize);
            let second = others
                .map(|(_, &logit)| logit)
                .fold(f32::NEG_INFINITY, f32::max);
            answer.margins.push(logits.data()[best as usize] - second);
            answer.tokens.push(best);
            answer.next = vec![best];
        }
        running.retain(|(index, answer)| {
            let last = answer.tokens.last().expect("one was just chosen");
            if !stop.contains(last) && answer.tokens.len() < MAX_NEW_TOKENS {
                return true;
            }
            engine.end(answer.sequence).unwrap();
            done[*index] = Some((answer.tokens.clone(), answer.margins.clone()));
            false
        });
    }
}

#[test]
fn prompts_are_rendered_and_encoded_as_in_training() {
    let opened = open();
    let (template, tokenizer) = (opened.template().unwrap(), opened.tokenizer().unwrap());
    for row in lines::<HeldOut>("heldout.jsonl") {
        let mut request = ChatRequest::new(row.messages);
        request.tools = row.tools;
        request.enable_thinking = row.enable_thinking;
        let prompt = Prompt::new(&template, &tokenizer, &request, SpecialTokens::Parse).unwrap();
        assert_eq!(prompt.text, row.prompt, "{}", row.id);
        assert_eq!(prompt.tokens, row.prompt_ids, "{}", row.id);
    }
}

#[test]
fn answers_equal_those_of_transformers() {
    let opened = open();
    let tokenizer: Tokenizer = opened.tokenizer().unwrap();
    let settings = EngineSettings {
        context: opened.config.context_length,
        total_tokens: TOGETHER * opened.config.context_length,
        sequences: TOGETHER,
        ..EngineSettings::single(0)
    };
    let settings = EngineSettings {
        kv: tidemill_engine::KvTypes::both(formats::DType::F32),
        ..settings
    };
    let pool = Arc::new(cpu::Pool::new(cpu::default_threads()));
    let backend = BackendChoice::Cpu(cpu::Cpu::new(pool).unwrap());
    let mut engine = opened.load(backend, &settings, |_, _| {}).unwrap();

    let held_out: Vec<HeldOut> = lines("heldout.jsonl");
    let prompts: Vec<Vec<u32>> = held_out.iter().map(|row| row.prompt_ids.clone()).collect();
    let ours = answers(&mut engine, &prompts, tokenizer.stop_tokens());
    engine.assert_consistent();

    let theirs: HashMap<String, HfResult> = lines::<HfResult>("hf_results.jsonl")
        .into_iter()
        .map(|result| (result.id.clone(), result))
        .collect();
    let mut accuracy: std::collections::BTreeMap<&str, (usize, usize)> = Default::default();
    let mut close_calls = 0;
    for (row, (tokens, margins)) in held_out.iter().zip(&ours) {
        let expected = &theirs[&row.id];
        let without_stop: Vec<u32> = tokens
            .iter()
            .copied()
            .filter(|t| !tokenizer.is_stop(*t))
            .collect();
        let wanted: Vec<u32> = expected
            .ids
            .iter()
            .copied()
            .filter(|t| !tokenizer.is_stop(*t))
            .collect();
        let (right, all) = accuracy.entry(&row.task).or_default();
        *right += usize::from(expected.correct);
        *all += 1;
        if without_stop == wanted {
            continue;
        }
        let at = without_stop
            .iter()
            .zip(&wanted)
            .take_while(|(a, b)| a == b)
            .count();
        println!(
            "{}: token {at} differs, at a margin of {:.1e}",
            row.id, margins[at]
        );
        assert!(margins[at] < ROUNDING, "{}: token {at}", row.id);
        close_calls += 1;
    }
    for (task, (right, all)) in &accuracy {
        println!("{task}: {right} of {all} right, as under transformers");
    }
    println!(
        "{} prompts, {close_calls} decided by rounding",
        held_out.len()
    );
}
