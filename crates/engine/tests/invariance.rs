//! The same tokens, whatever the road: one sequence's greedy answer may not depend on the chunks
//! its prompt came in, on what else was in the batch, on the number of threads, or on forks and
//! restored checkpoints in the middle.
//!
//! A new feature adds its roads to [`roads`]. Run with `--nocapture` for the table of largest
//! logit differences.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests end where they are surprised, and report"
)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine::{
    BackendChoice, Checkpoint, Engine, EngineSettings, KvTypes, OpenedModel, SequenceId, Work,
    argmax,
};
use formats::DType;
use tensor::Reference;
use tidemill_engine as engine;

const ANSWER: usize = 24;

/// One way to an answer.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Road {
    threads: usize,
    chunk: usize,
    /// How many other sequences share every step.
    neighbours: usize,
    detour: Detour,
}

/// What happens in the middle of prompt and answer.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Detour {
    None,
    /// Go on in a fork, while the original takes another way.
    Fork,
    /// Go astray and come back to a checkpoint.
    Restore,
    /// Leave the device, as bytes, and come back to other pages.
    Move,
}

fn roads() -> Vec<Road> {
    let plain = Road {
        threads: 1,
        chunk: usize::MAX,
        neighbours: 0,
        detour: Detour::None,
    };
    let mut roads = vec![plain];
    for threads in [1, 2, 3] {
        for chunk in [1, 7, 64, usize::MAX] {
            for neighbours in [0, 3] {
                for detour in [Detour::None, Detour::Fork, Detour::Restore, Detour::Move] {
                    roads.push(Road {
                        threads,
                        chunk,
                        neighbours,
                        detour,
                    });
                }
            }
        }
    }
    roads
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../model/tests/goldens")
        .join(name)
}

fn prompt_of(folder: &Path) -> Vec<u32> {
    let text = std::fs::read_to_string(folder.join("prompt.json")).unwrap();
    text.trim()
        .trim_matches(['[', ']'])
        .split(',')
        .map(|id| id.trim().parse().unwrap())
        .collect()
}

fn load(opened: &OpenedModel, threads: usize, kv: DType) -> Engine {
    let settings = EngineSettings {
        context: 256,
        total_tokens: 8 * 256,
        sequences: 8,
        kv: KvTypes::both(kv),
    };
    let backend = match threads {
        0 => BackendChoice::Reference(Reference::default()),
        _ => BackendChoice::Cpu(cpu::Cpu::new(Arc::new(cpu::Pool::new(threads))).unwrap()),
    };
    opened.load(backend, &settings, |_, _| {}).unwrap()
}

/// Other sequences that take part in every step, at lengths of their own.
struct Neighbours {
    sequences: Vec<SequenceId>,
    step: u32,
}

impl Neighbours {
    fn new(engine: &mut Engine, count: usize) -> Self {
        Self {
            sequences: (0..count).map(|_| engine.start().unwrap()).collect(),
            step: 0,
        }
    }

    /// One step of the main sequence, with each neighbour's next run of tokens around it.
    fn step(&mut self, engine: &mut Engine, main: Work) -> Vec<f32> {
        self.step += 1;
        let mut work: Vec<Work> = Vec::new();
        for (index, &sequence) in self.sequences.iter().enumerate() {
            let room = 256 - engine.tokens(sequence).unwrap();
            let count = [1, 3, 5][(index + self.step as usize) % 3].min(room);
            if count > 0 {
                let tokens = (0..count as u32)
                    .map(|i| (self.step * 31 + i * 7) % 200)
                    .collect();
                work.push(Work {
                    sequence,
                    tokens,
                    logits: vec![0],
                });
            }
        }
        let at = work.len() / 2;
        work.insert(at, main);
        let outputs = engine.step(&work).unwrap();
        outputs[at].data().to_vec()
    }
}

/// Prompt and greedy answer: the answer's tokens and the logits that each was chosen from.
fn take(engine: &mut Engine, prompt: &[u32], road: Road) -> (Vec<u32>, Vec<f32>) {
    let mut neighbours = Neighbours::new(engine, road.neighbours);
    let mut sequence = engine.start().unwrap();
    let mut last = Vec::new();
    let chunks: Vec<&[u32]> = prompt.chunks(road.chunk.min(prompt.len())).collect();
    for (index, chunk) in chunks.iter().enumerate() {
        if index == chunks.len() / 2 {
            sequence = wander(engine, sequence, road.detour, &chunk[..1]);
        }
        let tokens = chunk.to_vec();
        last = neighbours.step(
            engine,
            Work {
                sequence,
                logits: vec![tokens.len() - 1],
                tokens,
            },
        );
    }
    let (mut answer, mut logits) = (Vec::new(), Vec::new());
    for index in 0..ANSWER {
        let token = argmax(&last);
        answer.push(token);
        logits.extend_from_slice(&last);
        if index == ANSWER / 2 {
            sequence = wander(engine, sequence, road.detour, &[token, token]);
        }
        last = neighbours.step(
            engine,
            Work {
                sequence,
                tokens: vec![token],
                logits: vec![0],
            },
        );
    }
    engine.end(sequence).unwrap();
    neighbours
        .sequences
        .iter()
        .for_each(|&neighbour| engine.end(neighbour).unwrap());
    engine.assert_consistent();
    (answer, logits)
}

/// A detour that must leave no trace. Returns the sequence to go on with.
fn wander(engine: &mut Engine, sequence: SequenceId, detour: Detour, astray: &[u32]) -> SequenceId {
    let stray = Work {
        sequence,
        tokens: astray.iter().map(|t| t ^ 1).collect(),
        logits: vec![],
    };
    match detour {
        Detour::None => sequence,
        Detour::Fork => {
            let fork = engine.fork(sequence).unwrap();
            engine.step(&[stray]).unwrap();
            engine.end(sequence).unwrap();
            fork
        }
        Detour::Restore => {
            let point = engine.checkpoint(sequence).unwrap();
            engine.step(&[stray]).unwrap();
            engine.assert_consistent();
            engine.restore(sequence, &point).unwrap();
            engine.discard(point);
            sequence
        }
        Detour::Move => {
            let point = engine.checkpoint(sequence).unwrap();
            let bytes: Vec<Vec<u8>> = point
                .pages()
                .ids()
                .iter()
                .map(|&page| engine.read_page(page).unwrap())
                .collect();
            let (tokens, state) = (point.tokens(), Arc::clone(point.state()));
            engine.discard(point);
            engine.end(sequence).unwrap();
            // Another takes its place.
            let other = engine.start().unwrap();
            let sequence = other;
            engine.step(&[Work { sequence, ..stray }]).unwrap();
            let pages = engine.write_pages(bytes.iter().map(Vec::as_slice)).unwrap();
            let point = Checkpoint::new(tokens, pages, state);
            let sequence = engine.start_from(&point).unwrap();
            engine.discard(point);
            engine.end(other).unwrap();
            sequence
        }
    }
}

fn difference(a: &[f32], b: &[f32]) -> f32 {
    a.iter()
        .zip(b)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max)
}

/// The smallest gap between the best and second-best logit along an answer.
fn margin(logits: &[f32], vocabulary: usize) -> f32 {
    let gap = |row: &[f32]| {
        let best = argmax(row) as usize;
        let others = row.iter().enumerate().filter(|&(index, _)| index != best);
        row[best]
            - others
                .map(|(_, &logit)| logit)
                .fold(f32::NEG_INFINITY, f32::max)
    };
    logits
        .chunks(vocabulary)
        .map(gap)
        .fold(f32::INFINITY, f32::min)
}

fn check(name: &str, kv: DType) {
    let folder = golden(name);
    let opened = OpenedModel::open(&folder).unwrap();
    let prompt = prompt_of(&folder);
    let vocabulary = opened.config.vocab_size;

    let plain = roads()[0];
    let (judged, exact) = take(&mut load(&opened, 0, kv), &prompt, plain);
    let margin = margin(&exact, vocabulary);
    let mut largest_to_reference = 0.0f32;
    let mut largest_between_roads = 0.0f32;
    let mut first: Option<Vec<f32>> = None;
    for road in roads() {
        let (answer, logits) = take(&mut load(&opened, road.threads, kv), &prompt, road);
        assert_eq!(answer, judged, "{name}, {kv}: {road:?} and the reference");
        largest_to_reference = largest_to_reference.max(difference(&logits, &exact));
        let first = first.get_or_insert_with(|| logits.clone());
        largest_between_roads = largest_between_roads.max(difference(&logits, first));
    }
    println!(
        "{name}, {kv} keys and values: {} roads of {ANSWER} tokens; largest logit difference \
         between roads {largest_between_roads:.1e}, to the reference {largest_to_reference:.1e}; \
         smallest margin {margin:.2}",
        roads().len()
    );
    // On one CPU every value is summed in one order, whatever the road: equal to the last bit.
    assert_eq!(largest_between_roads, 0.0, "{name}, {kv}: roads differ");
    assert!(
        largest_to_reference < 5e-4,
        "{name}, {kv}: {largest_to_reference}"
    );
}

#[test]
fn moe_answers_do_not_depend_on_the_road() {
    check("moe_text", DType::F32);
}

#[test]
fn dense_answers_do_not_depend_on_the_road() {
    check("dense_text", DType::F32);
}

#[test]
fn qwen3_next_answers_do_not_depend_on_the_road() {
    check("qwen3_next", DType::F32);
}

#[test]
fn fp8_answers_do_not_depend_on_the_road() {
    check("fp8", DType::F32);
}

#[test]
fn f16_caches_do_not_depend_on_the_road() {
    check("moe_composite", DType::F16);
}
