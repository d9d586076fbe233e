//! The models whose answers are compared, and what they are asked.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use gpu::standin::{self, Build};
use tidemill_engine::plan::{Device, Placement};
use tidemill_engine::{BackendChoice, OnGpu, OpenedModel, TokenRules};

/// A model and its prompts.
pub(crate) struct Subject {
    pub(crate) name: String,
    pub(crate) opened: OpenedModel,
    pub(crate) rules: Arc<TokenRules>,
    /// No two are equal.
    pub(crate) prompts: Vec<Vec<u32>>,
    /// Whether drafts of its head are worth nothing, so that they have to be prescribed.
    pub(crate) is_random: bool,
    /// How far apart f16 keys and values may move two logits: twice the most that was measured, in
    /// all of the long test's rows.
    pub(crate) most_by_f16: f32,
    /// Where it computes, with so many threads.
    pub(crate) on: Box<dyn Fn(usize) -> BackendChoice>,
}

/// Parts of a model that are in RAM where a GPU computes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum InRam {
    Nothing,
    /// Of every layer.
    Experts,
    /// The same, and the GPU keeps copies of those that are used most. Which are there, and so how a value is
    /// rounded, depends on the road; the tokens should not.
    ExpertsWithCopies,
    /// The first half of the layers, and of the others the experts.
    Layers,
    /// The embedding and both heads.
    Ends,
}

impl InRam {
    fn placement(self, layers: usize) -> Placement {
        let mut placement = Placement::all_on(Device::Gpu(0), layers);
        for (index, place) in placement.layers.iter_mut().enumerate() {
            match self {
                Self::Nothing | Self::Ends => {}
                Self::Experts => place.experts = Device::Ram,
                Self::ExpertsWithCopies => {
                    place.experts = Device::Ram;
                    place.cached = 0.4;
                }
                Self::Layers => {
                    place.experts = Device::Ram;
                    if index < layers / 2 {
                        place.rest = Device::Ram;
                    }
                }
            }
        }
        if matches!(self, Self::Ends) {
            let ends = [
                &mut placement.embedding,
                &mut placement.head,
                &mut placement.mtp,
            ];
            ends.into_iter().for_each(|end| *end = Device::Ram);
        }
        placement
    }
}

/// The stand-in for a GPU, or with `TIDEMILL_TEST_GPU` set this machine's; `None` without a compiler to build
/// the former with.
pub(crate) fn gpu() -> Option<gpu::Gpu> {
    if std::env::var_os("TIDEMILL_TEST_GPU").is_some() {
        return Some(gpu::Gpu::open(gpu::Options::default()).unwrap());
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let options = standin::options(folder, &Build::default()).unwrap()?;
    Some(gpu::Gpu::open(options).unwrap())
}

impl Subject {
    /// The same on a GPU with the CPU beside it.
    pub(crate) fn on_gpu(mut self, gpu: &gpu::Gpu, in_ram: InRam) -> Self {
        let gpu = gpu.clone();
        let layers = self.opened.config.layers.len();
        self.name = format!("{} on a GPU, in RAM {in_ram:?}", self.name);
        self.on = Box::new(move |threads| {
            BackendChoice::Gpu(Box::new(OnGpu {
                gpus: vec![gpu.clone()],
                host: cpu::Cpu::new(Arc::new(cpu::Pool::new(threads))).unwrap(),
                placement: Some(in_ram.placement(layers)),
                stream_from: None,
                copied_per_step: 64 << 10,
            }))
        });
        self
    }

    /// With prompts of at most so many tokens.
    pub(crate) fn short(mut self, most: usize) -> Self {
        self.prompts
            .iter_mut()
            .for_each(|prompt| prompt.truncate(most));
        self
    }

    /// With some of its prompts: those of one part of several.
    pub(crate) fn part(mut self, (part, of): (usize, usize)) -> Self {
        let mut index = 0;
        self.prompts.retain(|_| {
            index += 1;
            (index - 1) % of == part
        });
        self
    }
}

fn folder(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// No prompt is longer: a few pages and chunks, so that many roads can be taken.
const LONGEST: usize = 256;

/// The trained model inside the program, with so many of its held-out prompts.
pub(crate) fn tiny(prompts: usize) -> Subject {
    let folder = folder("../../models/tiny");
    let opened = OpenedModel::open(&folder.join("tidemill-tiny.gguf")).unwrap();
    let text = std::fs::read_to_string(folder.join("heldout.jsonl")).unwrap();
    let mut all: Vec<Vec<u32>> = Vec::new();
    for line in text.lines() {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        let prompt: Vec<u32> = serde_json::from_value(row["prompt_ids"].clone()).unwrap();
        if prompt.len() <= LONGEST && !all.contains(&prompt) {
            all.push(prompt);
        }
    }
    // From all tasks, and of all lengths.
    all.sort_by_key(Vec::len);
    let count = prompts.min(all.len());
    Subject {
        name: "tiny".to_owned(),
        rules: Arc::new(TokenRules::of(&opened.tokenizer().unwrap())),
        prompts: (0..count)
            .map(|index| all[index * all.len() / count].clone())
            .collect(),
        opened,
        is_random: false,
        most_by_f16: 0.83,
        on: Box::new(|threads| BackendChoice::cpu(threads).unwrap()),
    }
}

/// A small model of random weights, whose answers hang on every value, with random prompts.
pub(crate) fn random(name: &str, prompts: usize) -> Subject {
    let opened = OpenedModel::open(&folder("../model/tests/goldens").join(name)).unwrap();
    let vocabulary = opened.config.vocab_size;
    let prompt = |seed: usize| -> Vec<u32> {
        let len = 3 + seed * 37 % 150;
        (0..len)
            .map(|at| ((at * at * 7 + at * seed + seed) % vocabulary) as u32)
            .collect()
    };
    Subject {
        name: name.to_owned(),
        rules: Arc::new(TokenRules::all(vocabulary)),
        opened,
        prompts: (1..=prompts).map(prompt).collect(),
        is_random: true,
        most_by_f16: 0.005,
        on: Box::new(|threads| BackendChoice::cpu(threads).unwrap()),
    }
}
