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
use std::sync::{Arc, Mutex, PoisonError};

use engine::plan::{Device, Placement};
use engine::{BackendChoice, Engine, EngineSettings, KvTypes, OnGpu, OpenedModel, Work, argmax};
use formats::DType;
use gpu::standin::{self, Build};
use gpu::{Asked, Gpu, Options};
use model::FeedForwardKind;
use tensor::Reference;
use tidemill_engine as engine;

/// The stand-in has one device and no locks.
static ONE: Mutex<()> = Mutex::new(());

fn stand_in() -> Option<Gpu> {
    gpu(false)
}

/// The stand-in, or this machine's GPU; with kernels that wait by themselves for those before them if `dependent`.
fn gpu(dependent: bool) -> Option<Gpu> {
    let with = |options| Options {
        dependent,
        ..options
    };
    if std::env::var_os("TIDEMILL_TEST_GPU").is_some() {
        let options = Options {
            cache: Some(std::env::temp_dir().join("tidemill-test-kernels")),
            ..Options::default()
        };
        return Some(Gpu::open(with(options)).unwrap());
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let Some(options) = standin::options(folder, &Build::default()).unwrap() else {
        println!("SKIPPED: no g++ to build the stand-in GPU with; no model was run on it");
        return None;
    };
    Some(Gpu::open(with(options)).unwrap())
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

fn host() -> cpu::Cpu {
    cpu::Cpu::new(Arc::new(cpu::Pool::new(1))).unwrap()
}

fn on(gpu: &Gpu, placement: Option<Placement>) -> OnGpu {
    OnGpu {
        gpus: vec![gpu.clone()],
        host: host(),
        placement,
        stream_from: None,
        copied_per_step: 0,
    }
}

/// Every `step`th layer's experts in RAM.
fn experts_in_ram(gpu: &Gpu, opened: &OpenedModel, step: usize) -> OnGpu {
    let mut placement = Placement::all_on(Device::Gpu(0), opened.config.layers.len());
    for place in placement.layers.iter_mut().step_by(step) {
        place.experts = Device::Ram;
    }
    placement.stream_rooms = 1;
    on(gpu, Some(placement))
}

/// All on the GPU, and what can be in RAM.
fn placements(gpu: &Gpu, opened: &OpenedModel) -> Vec<(&'static str, OnGpu)> {
    let layers = opened.config.layers.len();
    let mut ends = Placement::all_on(Device::Gpu(0), layers);
    (ends.embedding, ends.head, ends.mtp) = (Device::Ram, Device::Ram, Device::Ram);
    let mut split = Placement::all_on(Device::Ram, layers);
    for place in &mut split.layers[layers / 2..] {
        (place.rest, place.experts) = (Device::Gpu(0), Device::Gpu(0));
    }
    let mut all = vec![
        ("all on the GPU", on(gpu, None)),
        ("the first layers in RAM", on(gpu, Some(split))),
        ("embedding and heads in RAM", on(gpu, Some(ends))),
    ];
    if matches!(opened.config.feed_forward, FeedForwardKind::Experts { .. }) {
        // The stand-in is both; what crosses between GPUs goes by way of the host.
        let mut two = Placement::all_on(Device::Gpu(1), layers);
        for (index, place) in two.layers.iter_mut().enumerate().take(layers / 2) {
            place.rest = Device::Gpu(0);
            place.experts = if index == 0 {
                Device::Ram
            } else {
                Device::Gpu(0)
            };
        }
        let mut over_two = on(gpu, Some(two));
        over_two.gpus.push(gpu.clone());
        all.push(("over two GPUs", over_two));
        all.extend([
            ("experts in RAM", experts_in_ram(gpu, opened, 1)),
            (
                "every second layer's experts in RAM",
                experts_in_ram(gpu, opened, 2),
            ),
        ]);
    }
    all
}

/// Checks that a prompt in pieces is answered as in one, with the same bits; returns the answer.
fn check_pieces(
    what: &str,
    engine: &mut Engine,
    prompt: &[u32],
    chunks: &[usize],
    len: usize,
) -> (Vec<u32>, Vec<f32>) {
    let first = answer(engine, prompt, usize::MAX, len);
    for &chunk in chunks {
        let (tokens, logits) = answer(engine, prompt, chunk, len);
        assert_eq!(tokens, first.0, "{what}: pieces of {chunk}");
        let mut both = first.1.iter().zip(&logits);
        let same = both.all(|(a, b)| a.to_bits() == b.to_bits());
        assert!(same, "{what}: pieces of {chunk} give other logits");
    }
    engine.assert_consistent();
    first
}

fn largest_difference(exact: &[f32], found: &[f32]) -> f32 {
    let both = exact.iter().zip(found);
    both.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

fn check(path: &Path, prompt: &[u32], kv: DType, len: usize) {
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(gpu) = stand_in() else { return };
    let opened = OpenedModel::open(path).unwrap();
    let reference = BackendChoice::Reference(Reference::default());
    let (judged, exact) = answer(&mut load(&opened, reference, kv), prompt, usize::MAX, len);
    let name = path.display();
    for (what, choice) in placements(&gpu, &opened) {
        let what = format!("{name}, {what}");
        let is_whole = choice.placement.is_none();
        let mut engine = load(&opened, BackendChoice::Gpu(Box::new(choice)), kv);
        // The stand-in is slow.
        let chunks: &[usize] = if is_whole { &[5, 1] } else { &[7] };
        let (tokens, logits) = check_pieces(&what, &mut engine, prompt, chunks, len);
        assert_eq!(tokens, judged, "{what}");
        let largest = largest_difference(&exact, &logits);
        println!("{what}: as the reference's; largest logit difference {largest:.1e}");
    }
    if matches!(opened.config.feed_forward, FeedForwardKind::Experts { .. }) {
        // Streamed weights are computed by the GPU, as if they had been there.
        let choice = OnGpu {
            stream_from: Some(4),
            ..experts_in_ram(&gpu, &opened, 1)
        };
        let mut engine = load(&opened, BackendChoice::Gpu(Box::new(choice)), kv);
        let (tokens, _) = answer(&mut engine, prompt, usize::MAX, len);
        assert_eq!(tokens, judged, "{name}, streamed");
        check_copies(&gpu, &opened, prompt, &judged);
    }
    check_overlap(&opened, prompt, kv, &judged);

    let layers = opened.config.layers.len();
    // Embedding, layers of up to 11, the last norm, the row that is asked for and the head.
    for (choice, most) in [(on(&gpu, None), 11), (experts_in_ram(&gpu, &opened, 1), 14)] {
        let is_whole = choice.placement.is_none();
        let mut engine = load(&opened, BackendChoice::Gpu(Box::new(choice)), kv);
        let asked = asked_for_a_token(&gpu, &mut engine, prompt);
        println!(
            "{name}: {} launches for a token through {layers} layers, {} calls, {} of them new to the driver",
            asked.kernels, asked.calls, asked.changes
        );
        assert!(asked.kernels as usize <= most * layers + 4, "{asked:?}");
        assert_eq!(asked.changes, 0, "a token like the one before");
        // The few before and after the batch and the row are brought there go one by one. With experts
        // in RAM a layer is two runs.
        let runs = if is_whole {
            asked.kernels as usize / 16
        } else {
            2 * layers
        };
        assert!(asked.calls as usize <= 8 + runs, "{asked:?}");
    }
}

/// Checks that answers stay what they are where kernels come to the GPU while those before them run.
fn check_overlap(opened: &OpenedModel, prompt: &[u32], kv: DType, judged: &[u32]) {
    let gpu = gpu(true).unwrap();
    let mut choices = vec![on(&gpu, None)];
    if matches!(opened.config.feed_forward, FeedForwardKind::Experts { .. }) {
        choices.push(experts_in_ram(&gpu, opened, 2));
    }
    for choice in choices {
        let mut engine = load(opened, BackendChoice::Gpu(Box::new(choice)), kv);
        let before = gpu.driver().asked();
        let (tokens, _) = answer(&mut engine, prompt, 5, judged.len());
        assert_eq!(tokens, judged, "kernels that overlap");
        let asked = gpu.driver().asked().since(&before);
        println!(
            "of {} kernels, {} overlap",
            asked.kernels, asked.overlapping
        );
        let most_do = asked.overlapping > asked.kernels / 2;
        assert!(most_do || gpu.no_overlap().is_some(), "{asked:?}");
    }
}

/// Checks that answers stay what they are while copies of experts come and go on the GPU.
fn check_copies(gpu: &Gpu, opened: &OpenedModel, prompt: &[u32], judged: &[u32]) {
    // Few tokens at a time, and prompts with whole layers copied, one while the other is computed with.
    for stream_from in [None, Some(4)] {
        let mut choice = OnGpu {
            stream_from,
            copied_per_step: 1 << 20,
            ..experts_in_ram(gpu, opened, 1)
        };
        let placement = choice.placement.as_mut().unwrap();
        placement.stream_rooms = 2;
        placement
            .layers
            .iter_mut()
            .for_each(|place| place.cached = 0.4);
        let mut engine = load(opened, BackendChoice::Gpu(Box::new(choice)), DType::F16);
        for round in 0..2 {
            let (tokens, _) = answer(&mut engine, prompt, usize::MAX, judged.len());
            assert_eq!(tokens, judged, "round {round} with copies, {stream_from:?}");
        }
        // Other texts use other experts.
        for shift in [1, 13] {
            let other: Vec<u32> = prompt.iter().map(|token| token / 2 + shift).collect();
            answer(&mut engine, &other, 2, judged.len());
        }
        let (tokens, _) = answer(&mut engine, prompt, 3, judged.len());
        assert_eq!(tokens, judged, "after others, with copies, {stream_from:?}");
        let counts = engine.expert_counts().unwrap();
        println!("copies of experts, {stream_from:?}: {counts:?}");
        assert!(counts.hits > 0 && counts.misses > 0, "{counts:?}");
        assert!(counts.replaced > 0, "{counts:?}");
    }
}

/// What the driver is asked for one more token of one sequence, when there were some before.
fn asked_for_a_token(gpu: &Gpu, engine: &mut Engine, prompt: &[u32]) -> Asked {
    let sequence = engine.start().unwrap();
    let mut asked = Asked::default();
    for token in &prompt[..5] {
        let before = gpu.driver().asked();
        let work = Work {
            sequence,
            tokens: vec![*token],
            logits: vec![0],
        };
        engine.step(&[work]).unwrap();
        asked = gpu.driver().asked().since(&before);
    }
    asked
}

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(path)
}

fn prompt_of(golden: &Path) -> Vec<u32> {
    let text = std::fs::read_to_string(golden.join("prompt.json")).unwrap();
    let ids = text.trim().trim_matches(['[', ']']).split(',');
    ids.map(|id| id.trim().parse().unwrap()).collect()
}

fn golden(name: &str) {
    let folder = repository("crates/model/tests/goldens").join(name);
    check(&folder, &prompt_of(&folder), DType::F16, 12);
}

/// By how much the most likely token leads the next one, where that is least.
fn least_lead(logits: &[f32], vocab: usize) -> f32 {
    let leads = logits.chunks_exact(vocab).map(|row| {
        let best = argmax(row) as usize;
        let others = row.iter().enumerate().filter(|(token, _)| *token != best);
        row[best]
            - others
                .map(|(_, logit)| *logit)
                .fold(f32::NEG_INFINITY, f32::max)
    });
    leads.fold(f32::INFINITY, f32::min)
}

/// A lead of the most likely token that rounding activations does not turn. It moves logits of these models, whose
/// weights are random, by 0.8 to 1.6 at most, and the first two hardly against each other.
const CLEAR_LEAD: f32 = 0.5;

/// Quantised weights and pages, in a file of another program: what rounding activations costs is what it
/// costs on the CPU. The prompt is the longest beginning of the golden one whose answer is clear to the reference.
fn quantised(name: &str) {
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(gpu) = stand_in() else { return };
    let golden = repository("crates/model/tests/goldens").join(name);
    let file = repository("crates/engine/tests/foreign").join(format!("{name}-q8_0.gguf"));
    let (opened, prompt) = (OpenedModel::open(&file).unwrap(), prompt_of(&golden));
    let of = |choice, prompt: &[u32]| answer(&mut load(&opened, choice, DType::Q8_0), prompt, 7, 4);
    let judge = |len: usize| {
        let reference = BackendChoice::Reference(Reference::default());
        let (judged, exact) = of(reference, &prompt[..len]);
        let vocab = exact.len() / judged.len();
        (least_lead(&exact, vocab) > CLEAR_LEAD).then_some((len, judged, exact))
    };
    let clear = (prompt.len() / 2..=prompt.len()).rev().find_map(judge);
    let (len, judged, exact) = clear.expect("half of the prompts are not all near ties");
    let (_, cpu) = of(BackendChoice::Cpu(host()), &prompt[..len]);
    let rounding = largest_difference(&exact, &cpu);
    let choices = [
        ("all on the GPU", on(&gpu, None)),
        (
            "every second layer's experts in RAM",
            experts_in_ram(&gpu, &opened, 2),
        ),
    ];
    for (what, choice) in choices {
        let (tokens, logits) = of(BackendChoice::Gpu(Box::new(choice)), &prompt[..len]);
        let largest = largest_difference(&exact, &logits);
        println!(
            "{name} in Q8_0, {len} tokens, {what}: largest logit difference {largest:.2}, the CPU's {rounding:.2}"
        );
        assert_eq!(tokens, judged, "{name}, {what}");
        assert!(largest < 1.5 * rounding, "{largest} and {rounding}");
    }
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
fn quantised_models_answer_as_the_reference() {
    quantised("dense_text");
    quantised("qwen3_next");
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
