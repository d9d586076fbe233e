//! What rounding keys and values does to logits, measured where it is judged.

use formats::DType;
use tidemill_engine::{BackendChoice, Engine, EngineSettings, KvTypes, Work};

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
        let backend = BackendChoice::cpu(1).unwrap();
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

/// The logits from which each token of an answer was chosen.
fn logits(engine: &mut Engine, prompt: &[u32], answer: &Answer) -> Vec<Vec<f32>> {
    let sequence = engine.start().unwrap();
    let (_, before) = answer.tokens.split_last().unwrap();
    let tokens = [prompt, before].concat();
    let wanted = prompt.len() - 1..tokens.len();
    let work = Work {
        sequence,
        logits: wanted.clone().collect(),
        tokens,
    };
    let outputs = engine.step(&[work]).unwrap();
    engine.end(sequence).unwrap();
    (0..wanted.len())
        .map(|row| outputs[0].row(row).to_vec())
        .collect()
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
