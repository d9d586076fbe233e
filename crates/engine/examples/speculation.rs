//! Tokens per second with speculation off, adaptive, and at every fixed depth, for several batches.
//!
//! ```text
//! cargo run --release --example speculation -p tidemill-engine
//! cargo run --release --example speculation -p tidemill-engine -- MODEL.gguf --forced 0.8
//! ```
//!
//! Without a model it is the tiny trained one on its held-out prompts. `--forced P` is for weights
//! that were never trained: their drafts would never be right, so an oracle that knows the answers
//! prescribes that a share P of them is, at the cost that drafting has. Answers are compared; they
//! may not differ. The rounds of all settings are run in turn and the fastest of each counts.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a program for people, which ends where it is surprised"
)]

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use tidemill_engine::speculate::{Depth, DraftCounts, Oracle, Speculation, SpeculationSettings};
use tidemill_engine::{
    BackendChoice, EngineSettings, Event, OpenedModel, Request, Scheduler, SchedulerSettings,
    TokenRules,
};

const BATCHES: [usize; 4] = [1, 2, 4, 8];
/// Tokens of prompt and answer.
const CONTEXT: usize = 1024;

struct Options {
    model: PathBuf,
    forced: Option<f64>,
    threads: usize,
    tokens: usize,
    rounds: usize,
    lookup: bool,
}

fn options() -> Options {
    let tiny = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/tiny/tidemill-tiny.gguf");
    let mut options = Options {
        model: tiny,
        forced: None,
        threads: cpu::default_threads(),
        tokens: 128,
        rounds: 3,
        lookup: false,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().expect("a value behind the option");
        match word.as_str() {
            "--forced" => options.forced = Some(value().parse().unwrap()),
            "--threads" => options.threads = value().parse().unwrap(),
            "--tokens" => options.tokens = value().parse().unwrap(),
            "--rounds" => options.rounds = value().parse().unwrap(),
            "--lookup" => options.lookup = true,
            _ => options.model = PathBuf::from(word),
        }
    }
    options
}

/// One way to speculate.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    Off,
    Adaptive,
    Fixed(usize),
}

/// What one run showed.
struct Outcome {
    tokens_per_second: f64,
    counts: DraftCounts,
    answers: Vec<Vec<u32>>,
}

type Answers = HashMap<Vec<u32>, Vec<u32>>;

/// Knows the answers, and errs so often that a share of its drafts is right.
fn oracle(answers: Answers, share: f64) -> Oracle {
    Box::new(move |tokens, most| {
        let known = answers
            .iter()
            .find(|(prompt, _)| tokens.starts_with(prompt));
        let Some((prompt, answer)) = known else {
            return Vec::new();
        };
        let at = tokens.len() - prompt.len();
        let rest = answer.get(at..).unwrap_or_default();
        let draft = |(index, &token): (usize, &u32)| {
            // A number in 0..1 that looks random and is always the same.
            let x = ((at + index) as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let is_right = ((x ^ (x >> 31)) % 1000) as f64 / 1000.0 < share;
            if is_right { token } else { token ^ 1 }
        };
        rest.iter().take(most).enumerate().map(draft).collect()
    })
}

/// Prompts of a batch: the tiny model's own, or any tokens.
fn prompts(opened: &OpenedModel, options: &Options, batch: usize) -> Vec<Vec<u32>> {
    if options.forced.is_some() {
        let vocabulary = opened.config.vocab_size as u32;
        let token = |sequence: usize, at: u32| (at * 7919 + sequence as u32 * 104_729) % vocabulary;
        return (0..batch)
            .map(|sequence| (0..48).map(|at| token(sequence, at)).collect())
            .collect();
    }
    let folder = options.model.parent().unwrap();
    let text = std::fs::read_to_string(folder.join("heldout.jsonl")).unwrap();
    let all: Vec<Vec<u32>> = text
        .lines()
        .map(|line| {
            let row: serde_json::Value = serde_json::from_str(line).unwrap();
            serde_json::from_value(row["prompt_ids"].clone()).unwrap()
        })
        .filter(|prompt: &Vec<u32>| prompt.len() + options.tokens < CONTEXT)
        .collect();
    // Spread over the tasks.
    let many = 4 * batch;
    (0..many)
        .map(|index| all[index * all.len() / many].clone())
        .collect()
}

fn run(
    opened: &OpenedModel,
    options: &Options,
    batch: usize,
    way: Way,
    known: &Answers,
) -> Outcome {
    let backend =
        BackendChoice::Cpu(cpu::Cpu::new(Arc::new(cpu::Pool::new(options.threads))).unwrap());
    let settings = EngineSettings {
        total_tokens: batch * CONTEXT,
        sequences: batch,
        ..EngineSettings::single(CONTEXT)
    };
    let engine = opened.load(backend, &settings, |_, _| {}).unwrap();
    let tokenizer = opened.tokenizer().unwrap();
    let rules = TokenRules::all(opened.config.vocab_size).ending_at(tokenizer.stop_tokens());
    let (depth, most) = match way {
        Way::Off => (Depth::Full, 0),
        Way::Adaptive => (Depth::Adaptive, 4),
        Way::Fixed(depth) => (Depth::Full, depth),
    };
    let speculation = SpeculationSettings {
        head: true,
        lookup: options.lookup,
        most,
        depth,
    };
    let start = Instant::now();
    let clock = Box::new(move || start.elapsed());
    let mut drafter = Speculation::new(&engine, opened.config.hidden_size, speculation, clock);
    if let Some(share) = options.forced {
        drafter = drafter.with_oracle(oracle(known.clone(), share));
    }
    let mut scheduler = Scheduler::new(engine, Arc::new(rules), SchedulerSettings::default());
    if way != Way::Off {
        scheduler = scheduler.with_drafter(Box::new(drafter));
    }
    let mut ids = Vec::new();
    for prompt in prompts(opened, options, batch) {
        let mut request = Request::new(prompt);
        request.limits.max_tokens = Some(options.tokens);
        request.sampling.ignore_eos = options.forced.is_some();
        request.cache = false;
        ids.push(scheduler.submit(request).unwrap());
    }
    let mut answers = vec![Vec::new(); ids.len()];
    // Prompts are the same work for all: only steps without them count.
    let (mut seconds, mut tokens) = (0.0, 0);
    while !scheduler.is_idle() {
        let began = Instant::now();
        let events = scheduler.step();
        let took = began.elapsed().as_secs_f64();
        let mut is_prefill = false;
        let mut chosen = 0;
        for event in events {
            match event {
                Event::PrefillProgress { .. } => is_prefill = true,
                Event::Token { request, token, .. } => {
                    let at = ids.iter().position(|&id| id == request).unwrap();
                    answers[at].push(token);
                    chosen += 1;
                }
                _ => {}
            }
        }
        if !is_prefill {
            seconds += took;
            tokens += chosen;
        }
    }
    Outcome {
        tokens_per_second: f64::from(tokens) / seconds,
        counts: scheduler.drafts(),
        answers,
    }
}

fn main() {
    let options = options();
    let opened = OpenedModel::open(&options.model).unwrap();
    println!(
        "{}, {} threads, {} tokens, fastest of {} rounds{}",
        options.model.file_name().unwrap().display(),
        options.threads,
        options.tokens,
        options.rounds,
        options.forced.map_or(String::new(), |share| format!(
            ", {share} of the drafts right"
        )),
    );
    println!(
        "| batch | off | adaptive | gain | drafted a token | accepted | k=1 | k=2 | k=3 | k=4 |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    let ways = [Way::Off, Way::Adaptive];
    let ways: Vec<Way> = ways.into_iter().chain((1..=4).map(Way::Fixed)).collect();
    for batch in BATCHES {
        let prompts = prompts(&opened, &options, batch);
        let plain = run(&opened, &options, batch, Way::Off, &Answers::new());
        let known: Answers = prompts.into_iter().zip(plain.answers.clone()).collect();
        let mut best = vec![0.0f64; ways.len()];
        let mut counts = DraftCounts::default();
        for _ in 0..options.rounds {
            for (best, &way) in best.iter_mut().zip(&ways) {
                let outcome = run(&opened, &options, batch, way, &known);
                assert!(outcome.answers == plain.answers, "the same answers");
                *best = best.max(outcome.tokens_per_second);
                if way == Way::Adaptive {
                    counts = outcome.counts;
                }
            }
        }
        let generated: usize = plain.answers.iter().map(Vec::len).sum();
        println!(
            "| {batch} | {:.1} | {:.1} | {:+.0} % | {:.2} | {:.0} % | {:.1} | {:.1} | {:.1} | {:.1} |",
            best[0],
            best[1],
            (best[1] / best[0] - 1.0) * 100.0,
            counts.drafted as f64 / generated as f64,
            counts.accepted as f64 / (counts.drafted.max(1)) as f64 * 100.0,
            best[2],
            best[3],
            best[4],
            best[5],
        );
    }
}
