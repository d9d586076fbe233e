//! The model on the scalar reference against Hugging Face transformers, on tiny random-weight
//! checkpoints of every kind (made by `scripts/make_goldens.py`).

use std::path::{Path, PathBuf};

use formats::DType;
use formats::hf::HfConfig;
use formats::safetensors::Checkpoint;
use tidemill_model::bind::{config_from_hf, weights_from_checkpoint};
use tidemill_model::Model;
use tensor::reference::DeltaForm;
use tensor::{Batch, HostMemory, Ops, PageId, Reference, StateId};

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
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens").join(name)
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
        stored.bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
    }

    fn ids(&self, name: &str) -> Vec<u32> {
        let stored = self.expected.tensor(name).unwrap();
        stored.bytes.chunks_exact(4).map(|b| u32::from_le_bytes(b.try_into().unwrap())).collect()
    }

    fn memory(&self, ops: &Reference) -> HostMemory {
        ops.new_memory(&self.model.config.memory_layout(DType::F32, DType::F32, 16, 16, 2)).unwrap()
    }

    fn pages() -> Vec<PageId> {
        // Neither in order nor from 0, so that a page table that is ignored is noticed.
        (0..16).rev().map(PageId).collect()
    }

    /// All rows' logits of `tokens` after `past` tokens.
    fn run(&self, ops: &Reference, memory: &mut HostMemory, tokens: &[u32], past: usize) -> Vec<f32> {
        let mut batch = Batch::default();
        batch.push_text(tokens, past, Self::pages(), STATE);
        let hidden = self.model.forward(ops, memory, &batch).unwrap();
        let rows: Vec<usize> = (0..tokens.len()).collect();
        self.model.logits(ops, &hidden, &rows).unwrap().into_vec()
    }

    fn compare(&self, what: &str, actual: &[f32], expected: &[f32]) {
        assert_eq!(actual.len(), expected.len(), "{}: {what}", self.name);
        let difference =
            actual.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        println!("{}: {what}: largest difference {difference:.1e}", self.name);
        assert!(difference < TOLERANCE, "{}: {what}: {difference}", self.name);
    }
}

fn argmax(logits: &[f32]) -> u32 {
    (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap() as u32
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
    assert_eq!(tokens, expected, "{}: greedy tokens after {what}", golden.name);
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
