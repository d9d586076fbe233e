//! What rounding keys and values does to logits, measured where it is judged.

use std::sync::Arc;

use formats::DType;
use tensor::StateSnapshot;
use tidemill_engine::{Checkpoint, Engine, EngineSettings, KvTypes, SequenceId, Work, argmax};

use crate::journey::Answer;
use crate::subject::Subject;

/// The tokens that could win: the best so many of the vocabulary.
const RIVALS: usize = 8;

/// For each token of each answer: how far f16 keys and values move the logits of two rivals apart,
/// at most, from where f32 ones have them. Only where the best two are closer than that can another
/// token win.
pub(crate) fn moved_by_f16(subject: &Subject, answers: &[Answer]) -> Vec<Vec<f32>> {
    let longest = subject.prompts.iter().map(Vec::len).max().unwrap();
    let most = answers.iter().map(|answer| answer.tokens.len()).max();
    let [mut fine, mut coarse] = [DType::F32, DType::F16].map(|kv| {
        let settings = EngineSettings {
            kv: KvTypes::both(kv),
            ..EngineSettings::single(longest + most.unwrap())
        };
        let backend = (subject.on)(1);
        subject.opened.load(backend, &settings, |_, _| {}).unwrap()
    });
    let both = subject.prompts.iter().zip(answers);
    both.map(|(prompt, answer)| {
        let [fine, coarse] = [&mut fine, &mut coarse].map(|engine| logits(engine, prompt, answer));
        let rows = fine.iter().zip(&coarse);
        rows.map(|(fine, coarse)| spread(fine, coarse)).collect()
    })
    .collect()
}

/// What it would do to keep states in bf16: for each answer that goes on from a kept prompt, how far
/// its logits are moved apart at most, and how many of its tokens would be others.
pub(crate) fn moved_by_bf16_states(subject: &Subject, answers: &[Answer]) -> Vec<(f32, usize)> {
    let longest = subject.prompts.iter().map(Vec::len).max().unwrap();
    let most = answers.iter().map(|answer| answer.tokens.len()).max();
    let settings = EngineSettings {
        kv: KvTypes::both(DType::F32),
        ..EngineSettings::single(longest + most.unwrap())
    };
    let backend = (subject.on)(1);
    let mut engine = subject.opened.load(backend, &settings, |_, _| {}).unwrap();
    let both = subject.prompts.iter().zip(answers);
    both.map(|(prompt, answer)| {
        let id = engine.start().unwrap();
        let (last, before) = prompt.split_last().unwrap();
        if !before.is_empty() {
            run(&mut engine, id, before.to_vec(), Vec::new());
        }
        let point = engine.checkpoint(id).unwrap();
        let tokens = [&[*last], &answer.tokens[..answer.tokens.len() - 1]].concat();
        let all = || (0..tokens.len()).collect();
        let exact = run(&mut engine, id, tokens.clone(), all());
        let copy = engine.copy_checkpoint(&point);
        let values = point.state().values.iter().map(|&value| to_bf16(value));
        let state = Arc::new(StateSnapshot {
            values: values.collect::<Vec<f32>>().into(),
        });
        let rounded = Checkpoint::new(copy.tokens(), copy.into_pages(), state);
        engine.restore(id, &rounded).unwrap();
        let coarse = run(&mut engine, id, tokens.clone(), all());
        engine.discard(point);
        engine.discard(rounded);
        engine.end(id).unwrap();
        let rows = exact.iter().zip(&coarse);
        let moved = rows.clone().map(|(exact, coarse)| spread(exact, coarse));
        let others = rows.filter(|(exact, coarse)| argmax(exact) != argmax(coarse));
        (moved.fold(0.0, f32::max), others.count())
    })
    .collect()
}

fn to_bf16(value: f32) -> f32 {
    let bits = value.to_bits();
    f32::from_bits((bits + 0x7fff + ((bits >> 16) & 1)) & 0xffff_0000)
}

fn run(engine: &mut Engine, id: SequenceId, tokens: Vec<u32>, logits: Vec<usize>) -> Vec<Vec<f32>> {
    let count = logits.len();
    let work = Work {
        sequence: id,
        tokens,
        logits,
    };
    let outputs = engine.step(&[work]).unwrap();
    (0..count).map(|row| outputs[0].row(row).to_vec()).collect()
}

/// The logits from which each token of an answer was chosen.
fn logits(engine: &mut Engine, prompt: &[u32], answer: &Answer) -> Vec<Vec<f32>> {
    let sequence = engine.start().unwrap();
    let (_, before) = answer.tokens.split_last().unwrap();
    let tokens = [prompt, before].concat();
    let wanted = prompt.len() - 1..tokens.len();
    let rows = run(engine, sequence, tokens, wanted.collect());
    engine.end(sequence).unwrap();
    rows
}

/// The largest change of a difference between two of the best values.
fn spread(before: &[f32], after: &[f32]) -> f32 {
    let mut best: Vec<usize> = (0..before.len()).collect();
    best.select_nth_unstable_by(RIVALS, |&a, &b| before[b].total_cmp(&before[a]));
    let changes = best.iter().take(RIVALS).map(|&at| after[at] - before[at]);
    let (least, most) = changes.fold((f32::MAX, f32::MIN), |(least, most), change| {
        (least.min(change), most.max(change))
    });
    most - least
}
