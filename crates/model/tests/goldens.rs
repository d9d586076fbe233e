//! The model on the scalar reference against Hugging Face transformers, on tiny random-weight
//! checkpoints of every kind (made by `scripts/make_goldens.py`).
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests end where they are surprised, and report"
)]

use std::path::{Path, PathBuf};

use formats::DType;
use formats::hf::HfConfig;
use formats::safetensors::Checkpoint;
use tensor::reference::DeltaForm;
use tensor::{Batch, HostMemory, Ops, PageId, Reference, StateId};
use tidemill_model::Model;
use tidemill_model::bind::{config_from_hf, weights_from_checkpoint};

/// What an f32 implementation can be expected to reach on these models (their logits have a
/// standard deviation of 2.5).
const TOLERANCE: f32 = 5e-4;
const STATE: StateId = StateId(0);

struct Golden {
    name: &'static str,
    model: Model<Reference>,
    expected: Checkpoint,
    prompt: Vec<u32>,
}

fn directory(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/goldens")
        .join(name)
}

impl Golden {
    fn open(name: &'static str, config_file: &str) -> Self {
        let directory = directory(name);
        let hf = HfConfig::read(&directory.join(config_file)).unwrap();
        let checkpoint = Checkpoint::open(&directory).unwrap();
        let config = config_from_hf(&hf, &checkpoint).unwrap();
        let weights = weights_from_checkpoint(&checkpoint, &hf, &config).unwrap();
        let prompt = std::fs::read_to_string(directory.join("prompt.json")).unwrap();
        Self {
            name,
            model: Model::new(config, weights),
            expected: Checkpoint::open(&directory.join("golden.safetensors")).unwrap(),
            prompt: serde_json::from_str(&prompt).unwrap(),
        }
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        let stored = self.expected.tensor(name).unwrap();
        stored
            .bytes
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
            .collect()
    }

    fn ids(&self, name: &str) -> Vec<u32> {
        let stored = self.expected.tensor(name).unwrap();
        stored
            .bytes
            .chunks_exact(4)
            .map(|b| u32::from_le_bytes(b.try_into().unwrap()))
            .collect()
    }

    fn memory(&self, ops: &Reference) -> HostMemory {
        ops.new_memory(
            &self
                .model
                .config
                .memory_layout(DType::F32, DType::F32, 16, 16, 2),
        )
        .unwrap()
    }

    fn pages() -> Vec<PageId> {
        // Neither in order nor from 0, so that a page table that is ignored is noticed.
        (0..16).rev().map(PageId).collect()
    }

    /// All rows' logits of `tokens` after `past` tokens.
    fn run(
        &self,
        ops: &Reference,
        memory: &mut HostMemory,
        tokens: &[u32],
        past: usize,
    ) -> Vec<f32> {
        let mut batch = Batch::default();
        batch.push_text(tokens, past, Self::pages(), STATE);
        let hidden = self.model.forward(ops, memory, &batch).unwrap();
        let rows: Vec<usize> = (0..tokens.len()).collect();
        self.model.logits(ops, &hidden, &rows).unwrap().into_vec()
    }

    fn compare(&self, what: &str, actual: &[f32], expected: &[f32]) {
        assert_eq!(actual.len(), expected.len(), "{}: {what}", self.name);
        let difference = actual
            .iter()
            .zip(expected)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max);
        println!("{}: {what}: largest difference {difference:.1e}", self.name);
        assert!(
            difference < TOLERANCE,
            "{}: {what}: {difference}",
            self.name
        );
    }
}

fn argmax(logits: &[f32]) -> u32 {
    (0..logits.len())
        .max_by(|&a, &b| logits[a].total_cmp(&logits[b]))
        .unwrap() as u32
}

/// Prompt in chunks of `chunk`, then 16 greedy tokens.
fn check_text(golden: &Golden, form: DeltaForm, chunk: usize) {
    let ops = Reference { delta: form };
    let mut memory = golden.memory(&ops);
    let mut logits = Vec::new();
    for (index, tokens) in golden.prompt.chunks(chunk).enumerate() {
        logits.extend(golden.run(&ops, &mut memory, tokens, index * chunk));
    }
    let what = format!("prompt in chunks of {chunk}, {form:?}");
    golden.compare(&what, &logits, &golden.floats("logits"));

    let vocabulary = golden.model.config.vocab_size;
    let expected = golden.ids("greedy_tokens");
    let mut last = logits[logits.len() - vocabulary..].to_vec();
    let mut all = Vec::new();
    let mut tokens = Vec::new();
    for past in golden.prompt.len()..golden.prompt.len() + expected.len() {
        let token = argmax(&last);
        tokens.push(token);
        last = golden.run(&ops, &mut memory, &[token], past);
        all.extend_from_slice(&last);
    }
    assert_eq!(
        tokens, expected,
        "{}: greedy tokens after {what}",
        golden.name
    );
    golden.compare("greedy logits", &all, &golden.floats("greedy_logits"));
}

fn check_every_chunking(name: &'static str) {
    let golden = Golden::open(name, "config.json");
    for chunk in [1, 7, 64, 150] {
        check_text(&golden, DeltaForm::Recurrent, chunk);
    }
    check_text(&golden, DeltaForm::Chunked(64), 150);
    check_text(&golden, DeltaForm::Chunked(16), 70);
}

/// A two-token prompt (shorter than the convolution) and some greedy tokens.
fn check_short_prompt(golden: &Golden) {
    let ops = Reference::default();
    let mut memory = golden.memory(&ops);
    let mut tokens = golden.prompt[..2].to_vec();
    tokens.extend(golden.ids("short_tokens"));
    let mut logits = golden.run(&ops, &mut memory, &tokens[..2], 0);
    for (index, &token) in tokens[2..].iter().enumerate() {
        logits.extend(golden.run(&ops, &mut memory, &[token], 2 + index));
    }
    golden.compare("two-token prompt", &logits, &golden.floats("short_logits"));
}

/// The state that a prompt leaves in the last delta layer.
fn check_state(golden: &Golden) {
    let ops = Reference::default();
    let mut memory = golden.memory(&ops);
    golden.run(&ops, &mut memory, &golden.prompt, 0);
    let layer = memory.layout().delta_layers - 1;
    golden.compare(
        "delta state",
        memory.delta_state(layer, STATE),
        &golden.floats("recurrent_state"),
    );
    // Ours is [taps - 1, channels], theirs [channels, taps - 1].
    let theirs = golden.floats("conv_state");
    let times = memory.layout().delta.conv_taps - 1;
    let channels = theirs.len() / times;
    let transposed: Vec<f32> = (0..times)
        .flat_map(|time| (0..channels).map(move |channel| (time, channel)))
        .map(|(time, channel)| theirs[channel * times + time])
        .collect();
    golden.compare(
        "convolution state",
        memory.conv_state(layer, STATE),
        &transposed,
    );
}

/// Greedy tokens by speculation: guesses of which a changing number is right are held back, and
/// those that were right are replayed. Every row must be that of the plain road, to the bit.
fn check_speculation(golden: &Golden) {
    const HELD: usize = 5;
    let ops = Reference::default();
    let expected = golden.ids("greedy_tokens");
    let vocabulary = golden.model.config.vocab_size;
    let mut memory = golden.memory(&ops);
    golden.run(&ops, &mut memory, &golden.prompt, 0);
    let start = memory.clone();
    let plain: Vec<f32> = (0..expected.len())
        .flat_map(|at| {
            let past = golden.prompt.len() + at;
            golden.run(&ops, &mut memory, &[expected[at]], past)
        })
        .collect();

    let mut layout = start.layout().clone();
    layout.held_rows = HELD;
    let mut memory = ops.new_memory(&layout).unwrap();
    golden.run(&ops, &mut memory, &golden.prompt, 0);
    let (mut done, mut kept) = (0, 0);
    for step in 0.. {
        // Of a step's rows the first is always right: it is no guess.
        let right = (1 + step * 3 % HELD).min(expected.len() - done);
        let wrong = (step % 3).min(HELD - right);
        if right == 0 {
            break;
        }
        let mut tokens = expected[done..done + right].to_vec();
        tokens.extend((0..wrong).map(|i| (i + step) as u32 % 7));
        let mut batch = Batch::default();
        let past = golden.prompt.len() + done;
        batch.push_speculative(&tokens, past, Golden::pages(), STATE, kept, true);
        let hidden = golden.model.forward(&ops, &mut memory, &batch).unwrap();
        let rows: Vec<usize> = (0..right).collect();
        let logits = golden.model.logits(&ops, &hidden, &rows).unwrap();
        let found: Vec<u32> = logits.data().iter().map(|x| x.to_bits()).collect();
        let range = done * vocabulary..(done + right) * vocabulary;
        let expected: Vec<u32> = plain[range].iter().map(|x| x.to_bits()).collect();
        assert!(found == expected, "{}: step {step}", golden.name);
        (done, kept) = (done + right, right);
    }
    assert!(ops.snapshot(&memory, STATE).is_err());
    ops.settle(&mut memory, STATE, kept).unwrap();
    let mut plain_memory = start;
    for (at, &token) in expected.iter().enumerate() {
        let past = golden.prompt.len() + at;
        golden.run(&ops, &mut plain_memory, &[token], past);
    }
    assert!(
        ops.snapshot(&memory, STATE).unwrap() == ops.snapshot(&plain_memory, STATE).unwrap(),
        "{}: states",
        golden.name
    );
}

/// The multi-token-prediction head: every prompt position, then drafts chained from its own
/// output.
fn check_mtp(golden: &Golden) {
    let ops = Reference::default();
    let mut memory = golden.memory(&ops);
    let model = &golden.model;
    assert!(model.has_mtp());
    let mut batch = Batch::default();
    batch.push_text(&golden.prompt, 0, Golden::pages(), STATE);
    let hidden = model.forward(&ops, &mut memory, &batch).unwrap();

    let count = golden.prompt.len() - 1;
    let earlier = ops
        .select_rows(&hidden, &(0..count).collect::<Vec<_>>())
        .unwrap();
    let mut next = Batch::default();
    next.push_text(&golden.prompt[1..], 0, Golden::pages(), STATE);
    let drafted = model
        .draft(&ops, &mut memory, &next, &earlier)
        .unwrap()
        .unwrap();
    let expected = golden.floats("mtp_logits");
    let first = count - expected.len() / model.config.vocab_size;
    let rows: Vec<usize> = (first..count).collect();
    let logits = model.draft_logits(&ops, &drafted, &rows, false).unwrap();
    golden.compare("draft logits", logits.data(), &expected);

    let mut hidden = ops.select_rows(&hidden, &[count]).unwrap();
    let mut token = golden.ids("greedy_tokens")[0];
    let (mut tokens, mut all) = (Vec::new(), Vec::new());
    let expected = golden.ids("mtp_draft_tokens");
    for step in 0..expected.len() {
        let mut next = Batch::default();
        next.push_text(&[token], count + step, Golden::pages(), STATE);
        hidden = model
            .draft(&ops, &mut memory, &next, &hidden)
            .unwrap()
            .unwrap();
        let logits = model.draft_logits(&ops, &hidden, &[0], false).unwrap();
        token = argmax(logits.data());
        tokens.push(token);
        all.extend_from_slice(logits.data());
    }
    assert_eq!(tokens, expected, "{}: chained drafts", golden.name);
    golden.compare(
        "chained draft logits",
        &all,
        &golden.floats("mtp_draft_logits"),
    );
}

/// Positions on three axes that differ, as an image makes them.
fn check_image_positions(golden: &Golden) {
    let ops = Reference::default();
    let mut memory = golden.memory(&ops);
    let axes = golden.ids("mrope_positions");
    let count = axes.len() / 3;
    let mut batch = Batch::default();
    batch.push_text(&golden.prompt[..count], 0, Golden::pages(), STATE);
    for (at, position) in batch.positions.iter_mut().enumerate() {
        *position = [axes[at], axes[count + at], axes[2 * count + at]];
    }
    let hidden = golden.model.forward(&ops, &mut memory, &batch).unwrap();
    let rows: Vec<usize> = (0..count).collect();
    let logits = golden.model.logits(&ops, &hidden, &rows).unwrap();
    golden.compare(
        "positions on three axes",
        logits.data(),
        &golden.floats("mrope_logits"),
    );
}

#[test]
fn two_token_prompts_agree_with_transformers() {
    for name in [
        "moe_text",
        "moe_composite",
        "dense_text",
        "qwen3_next",
        "fp8",
    ] {
        check_short_prompt(&Golden::open(name, "config.json"));
    }
}

#[test]
fn states_agree_with_transformers() {
    for name in [
        "moe_text",
        "moe_composite",
        "dense_text",
        "qwen3_next",
        "fp8",
    ] {
        check_state(&Golden::open(name, "config.json"));
    }
}

#[test]
fn drafts_agree_with_transformers() {
    for name in ["moe_text", "moe_composite", "dense_text", "qwen3_next"] {
        check_mtp(&Golden::open(name, "config.json"));
    }
}

#[test]
fn speculation_is_the_plain_road() {
    for name in ["moe_text", "moe_composite", "dense_text", "qwen3_next"] {
        check_speculation(&Golden::open(name, "config.json"));
    }
}

#[test]
fn positions_on_three_axes_agree_with_transformers() {
    for name in ["moe_composite", "dense_text"] {
        check_image_positions(&Golden::open(name, "config.json"));
    }
}

#[test]
fn yarn_agrees_with_transformers() {
    let golden = Golden::open("dense_text", "config_yarn.json");
    let ops = Reference::default();
    let mut memory = golden.memory(&ops);
    let logits = golden.run(&ops, &mut memory, &golden.prompt, 0);
    golden.compare("YaRN", &logits, &golden.floats("yarn_logits"));
}

#[test]
fn moe_text_agrees_with_transformers() {
    check_every_chunking("moe_text");
}

#[test]
fn moe_composite_agrees_with_transformers() {
    check_every_chunking("moe_composite");
}

#[test]
fn dense_text_agrees_with_transformers() {
    check_every_chunking("dense_text");
}

#[test]
fn qwen3_next_agrees_with_transformers() {
    check_every_chunking("qwen3_next");
}

#[test]
fn fp8_agrees_with_transformers() {
    check_every_chunking("fp8");
}
