//! Models on the GPU backend, whose driver and kernels are the stand-in on this machine's CPU: the greedy
//! answers of the reference, whatever the road, and how many launches a token takes.
//!
//! Without a compiler for the stand-in there is nothing to run: the tests say so. Run with `--nocapture`
//! for the figures. With `TIDEMILL_TEST_GPU` set, the same on this machine's GPU.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests end where they are surprised, and report"
)]

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use engine::{BackendChoice, Engine, EngineSettings, KvTypes, OpenedModel, Work, argmax};
use formats::DType;
use gpu::standin::{self, Build};
use gpu::{Gpu, Options};
use tensor::Reference;
use tidemill_engine as engine;

/// The stand-in has one device and no locks.
static ONE: Mutex<()> = Mutex::new(());

fn stand_in() -> Option<Gpu> {
    if std::env::var_os("TIDEMILL_TEST_GPU").is_some() {
        return Some(Gpu::open(Options::default()).unwrap());
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let Some(options) = standin::options(folder, &Build::default()).unwrap() else {
        println!("SKIPPED: no g++ to build the stand-in GPU with; no model was run on it");
        return None;
    };
    Some(Gpu::open(options).unwrap())
}

fn load(opened: &OpenedModel, backend: BackendChoice, kv: DType) -> Engine {
    let settings = EngineSettings {
        context: 256,
        total_tokens: 3 * 256,
        sequences: 3,
        kv: KvTypes::both(kv),
    };
    opened.load(backend, &settings, |_, _| {}).unwrap()
}

/// The greedy answer to a prompt that comes in pieces of `chunk`, and the logits it was chosen from.
fn answer(engine: &mut Engine, prompt: &[u32], chunk: usize, len: usize) -> (Vec<u32>, Vec<f32>) {
    let sequence = engine.start().unwrap();
    let mut step = |tokens: &[u32]| {
        let work = Work {
            sequence,
            tokens: tokens.to_vec(),
            logits: vec![tokens.len() - 1],
        };
        engine.step(&[work]).unwrap().remove(0).into_vec()
    };
    let mut last = prompt.chunks(chunk).map(&mut step).last().unwrap();
    let (mut tokens, mut logits) = (Vec::new(), Vec::new());
    for _ in 0..len {
        tokens.push(argmax(&last));
        logits.extend_from_slice(&last);
        last = step(&tokens[tokens.len() - 1..]);
    }
    engine.end(sequence).unwrap();
    (tokens, logits)
}

fn check(path: &Path, prompt: &[u32], kv: DType, len: usize) {
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(gpu) = stand_in() else { return };
    let opened = OpenedModel::open(path).unwrap();
    let reference = BackendChoice::Reference(Reference::default());
    let (judged, exact) = answer(&mut load(&opened, reference, kv), prompt, usize::MAX, len);
    let mut engine = load(&opened, BackendChoice::Gpu(gpu.clone()), kv);
    let mut first: Option<Vec<f32>> = None;
    for chunk in [usize::MAX, 5, 1] {
        let (tokens, logits) = answer(&mut engine, prompt, chunk, len);
        assert_eq!(tokens, judged, "{}, pieces of {chunk}", path.display());
        let first = first.get_or_insert_with(|| logits.clone());
        let same = first
            .iter()
            .zip(&logits)
            .all(|(a, b)| a.to_bits() == b.to_bits());
        assert!(
            same,
            "{}: pieces of {chunk} give other logits",
            path.display()
        );
    }
    engine.assert_consistent();

    // One more token of one sequence, all of its work counted.
    let sequence = engine.start().unwrap();
    let mut launches = 0;
    for token in [prompt[0], prompt[1]] {
        let before = gpu.driver().launches();
        let work = Work {
            sequence,
            tokens: vec![token],
            logits: vec![0],
        };
        engine.step(&[work]).unwrap();
        launches = gpu.driver().launches() - before;
    }
    let found = first.unwrap_or_default();
    let largest = exact
        .iter()
        .zip(&found)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max);
    let layers = opened.config.layers.len();
    println!(
        "{}: {len} tokens after {}, as the reference's; largest logit difference {largest:.1e}; \
         {launches} launches for a token through {layers} layers",
        path.display(),
        prompt.len()
    );
    // Embedding, layers of up to 11, the last norm, the row that is asked for and the head.
    assert!(launches as usize <= 11 * layers + 4, "{launches} launches");
}

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(path)
}

fn golden(name: &str) {
    let folder = repository("crates/model/tests/goldens").join(name);
    let text = std::fs::read_to_string(folder.join("prompt.json")).unwrap();
    let ids = text.trim().trim_matches(['[', ']']).split(',');
    let prompt: Vec<u32> = ids.map(|id| id.trim().parse().unwrap()).collect();
    check(&folder, &prompt, DType::F16, 12);
}

#[test]
fn mixtures_of_experts_answer_as_the_reference() {
    golden("moe_text");
}

#[test]
fn dense_models_answer_as_the_reference() {
    golden("dense_text");
}

#[test]
fn qwen3_next_answers_as_the_reference() {
    golden("qwen3_next");
}

#[test]
fn the_trained_model_answers_as_the_reference() {
    let path = repository("models/tiny/tidemill-tiny.gguf");
    let prompt: Vec<u32> = OpenedModel::open(&path)
        .unwrap()
        .tokenizer()
        .unwrap()
        .encode("What is 17 + 25?", text::tokenizer::SpecialTokens::AsText)
        .unwrap();
    check(&path, &prompt, DType::F16, 8);
}
