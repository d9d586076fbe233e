//! Tokens per second with speculation off, adaptive, and at fixed depths, for several batches.
//!
//! ```text
//! cargo run --release --example speculation -p tidemill-engine
//! cargo run --release --example speculation -p tidemill-engine -- MODEL.gguf --forced 0.8
//! ```
//!
//! Without a model it is the tiny trained one on its held-out prompts. `--forced P` is for weights
//! that were never trained: their drafts would never be right, so an oracle that knows the answers
//! prescribes that a share P of them is, at the cost that drafting from frequent tokens has (from
//! all with `--whole`). `--fixed` also runs every
//! fixed depth. Answers are compared; they may not differ.
//!
//! Each round has new prompts, which are answered without speculation, with it, and without it
//! again, by the same engine: two engines differ by up to a tenth, by where their memory lies. What
//! speculation learnt stays, as in a server, and the first round, in which it learns, is not
//! counted. A gain is the median over rounds of the ratio to the mean of both times without it, with
//! the quartiles; beside it the same of the second time without it to the first: the noise. "own" is
//! the share of its time that speculation takes itself: everything but the steps, which means
//! bookkeeping and the drafts' own passes. "without noise" is the gain if each step had taken what
//! steps of its kind take when nobody disturbs (the lower quartile of all of them, with and without
//! speculation), with what speculation took itself. Steps with rows of prompts are timed apart. With
//! `--threads 1` what counts is processor time, which neighbours on the machine hardly change.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a program for people, which ends where it is surprised"
)]

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use timed::{Kind, Timed, Usual};

use rustix::time::{ClockId, clock_gettime};
use tidemill_engine::speculate::{Depth, DraftCounts, Oracle, Speculation, SpeculationSettings};
use tidemill_engine::{
    BackendChoice, DraftVocabulary, EngineSettings, Event, OpenedModel, Request, RequestId,
    Scheduler, SchedulerSettings, TokenRules,
};

mod timed;

const BATCHES: [usize; 4] = [1, 2, 4, 8];
/// Tokens of prompt and answer.
const CONTEXT: usize = 1024;

struct Options {
    model: PathBuf,
    forced: Option<f64>,
    threads: usize,
    tokens: usize,
    rounds: usize,
    batches: Vec<usize>,
    has_fixed: bool,
    lookup: bool,
    vocabulary: DraftVocabulary,
}

fn options() -> Options {
    let tiny = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/tiny/tidemill-tiny.gguf");
    let mut options = Options {
        model: tiny,
        forced: None,
        threads: cpu::default_threads(),
        tokens: 128,
        rounds: 9,
        batches: BATCHES.to_vec(),
        has_fixed: false,
        lookup: false,
        vocabulary: DraftVocabulary::Frequent,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().expect("a value behind the option");
        match word.as_str() {
            "--forced" => options.forced = Some(value().parse().unwrap()),
            "--threads" => options.threads = value().parse().unwrap(),
            "--tokens" => options.tokens = value().parse().unwrap(),
            "--rounds" => options.rounds = value().parse().unwrap(),
            "--batch" => options.batches = vec![value().parse().unwrap()],
            "--fixed" => options.has_fixed = true,
            "--whole" => options.vocabulary = DraftVocabulary::Whole,
            "--lookup" => options.lookup = true,
            _ => options.model = PathBuf::from(word),
        }
    }
    options
}

/// What time is: on the wall, or, of a single thread, on the processor.
#[derive(Clone, Copy)]
enum Timer {
    Wall(Instant),
    Processor,
}

impl Timer {
    fn new(options: &Options) -> Self {
        if options.threads == 1 {
            Self::Processor
        } else {
            Self::Wall(Instant::now())
        }
    }

    fn now(self) -> Duration {
        match self {
            Self::Wall(start) => start.elapsed(),
            Self::Processor => {
                let time = clock_gettime(ClockId::ThreadCPUTime);
                Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
            }
        }
    }
}

/// Of each prompt its answer, as far as it is known.
type Answers = Arc<Mutex<HashMap<Vec<u32>, Vec<u32>>>>;

/// Knows the answers, and errs so often that a share of its drafts is right.
fn oracle(answers: Answers, share: f64) -> Oracle {
    Box::new(move |tokens, most| {
        let answers = answers.lock().unwrap();
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

/// The prompts of a round: the tiny model's own, or any tokens.
fn prompts(opened: &OpenedModel, options: &Options, batch: usize, round: usize) -> Vec<Vec<u32>> {
    if options.forced.is_some() {
        let vocabulary = opened.config.vocab_size;
        let token = |sequence: usize, at: usize| {
            ((at * 7919 + sequence * 104_729 + round * 15_485_863) % vocabulary) as u32
        };
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
        .map(|index| all[(index * all.len() / many + round * 7) % all.len()].clone())
        .collect()
}

/// One way to answer, with all that it has learnt.
struct Way {
    scheduler: Scheduler,
    ids: Vec<RequestId>,
    answers: Vec<Vec<u32>>,
    /// Of this round: seconds and tokens of steps without prompts, and seconds of the others.
    seconds: f64,
    tokens: usize,
    prompt_seconds: f64,
    /// Steps without prompts, without what the drafter took of them.
    steps: Vec<(Kind, f64)>,
    had_drafts: bool,
    /// What the drafter took of these.
    own_seconds: f64,
    /// That the drafter took.
    spent: Arc<Mutex<Duration>>,
    timer: Timer,
}

/// What one round of one way showed.
#[derive(Clone)]
struct Outcome {
    tokens_per_second: f64,
    prompt_seconds: f64,
    /// Seconds that the drafter took of steps without prompts.
    own_seconds: f64,
    /// The share of all time.
    own: f64,
    steps: Vec<(Kind, f64)>,
}

impl Way {
    /// With at most so many drafts; adaptive if `depth` says so.
    fn new(
        opened: &OpenedModel,
        options: &Options,
        batch: usize,
        (depth, most): (Depth, usize),
        pool: &Arc<cpu::Pool>,
        known: &Answers,
    ) -> Self {
        let backend = BackendChoice::Cpu(cpu::Cpu::new(Arc::clone(pool)).unwrap());
        let settings = EngineSettings {
            total_tokens: batch * CONTEXT,
            sequences: batch,
            ..EngineSettings::single(CONTEXT)
        };
        let engine = opened.load(backend, &settings, |_, _| {}).unwrap();
        let tokenizer = opened.tokenizer().unwrap();
        let rules = TokenRules::all(opened.config.vocab_size).ending_at(tokenizer.stop_tokens());
        let speculation = SpeculationSettings {
            head: true,
            lookup: options.lookup,
            most,
            depth,
        };
        let clock = Timer::new(options);
        let clock = Box::new(move || clock.now());
        let mut drafter = Speculation::new(&engine, opened.config.hidden_size, speculation, clock);
        if let Some(share) = options.forced {
            drafter = drafter.with_oracle(oracle(Arc::clone(known), share), options.vocabulary);
        }
        let mut scheduler = Scheduler::new(engine, Arc::new(rules), SchedulerSettings::default());
        let spent = Arc::new(Mutex::new(Duration::ZERO));
        let timed = Timed::new(drafter, Timer::new(options), Arc::clone(&spent));
        scheduler = scheduler.with_drafter(Box::new(timed));
        Self {
            scheduler,
            steps: Vec::new(),
            had_drafts: false,
            own_seconds: 0.0,
            spent,
            ids: Vec::new(),
            answers: Vec::new(),
            seconds: 0.0,
            tokens: 0,
            prompt_seconds: 0.0,
            timer: Timer::new(options),
        }
    }

    /// Answers prompts.
    fn answer(&mut self, options: &Options, prompts: &[Vec<u32>], speculates: bool) -> Outcome {
        let request = |prompt: &Vec<u32>| {
            let mut request = Request::new(prompt.clone());
            request.limits.max_tokens = Some(options.tokens);
            request.sampling.ignore_eos = options.forced.is_some();
            request.cache = false;
            request.speculation = speculates;
            request
        };
        self.ids = prompts
            .iter()
            .map(|prompt| self.scheduler.submit(request(prompt)).unwrap())
            .collect();
        self.answers = vec![Vec::new(); prompts.len()];
        (self.seconds, self.tokens, self.prompt_seconds) = (0.0, 0, 0.0);
        let before = *self.spent.lock().unwrap();
        while !self.scheduler.is_idle() {
            self.step();
        }
        let spent = *self.spent.lock().unwrap() - before;
        Outcome {
            tokens_per_second: self.tokens as f64 / self.seconds,
            prompt_seconds: self.prompt_seconds,
            own_seconds: std::mem::take(&mut self.own_seconds),
            own: spent.as_secs_f64() / (self.seconds + self.prompt_seconds),
            steps: std::mem::take(&mut self.steps),
        }
    }

    fn step(&mut self) {
        let (spent, rows) = (
            *self.spent.lock().unwrap(),
            self.scheduler.metrics().decode_rows,
        );
        let began = self.timer.now();
        let events = self.scheduler.step();
        let took = (self.timer.now() - began).as_secs_f64();
        let own = (*self.spent.lock().unwrap() - spent).as_secs_f64();
        let rows = (self.scheduler.metrics().decode_rows - rows) as usize;
        let mut answering = Vec::new();
        let mut is_prefill = false;
        let mut chosen = 0;
        for event in events {
            match event {
                Event::PrefillProgress { .. } => is_prefill = true,
                Event::Token { request, token, .. } => {
                    let at = self.ids.iter().position(|&id| id == request).unwrap();
                    self.answers[at].push(token);
                    chosen += 1;
                    if !answering.contains(&at) {
                        answering.push(at);
                    }
                }
                Event::Failed { error, .. } => panic!("{error}"),
                _ => {}
            }
        }
        if is_prefill {
            self.prompt_seconds += took;
        } else {
            self.seconds += took;
            self.tokens += chosen;
            let kind = (answering.len(), rows, self.had_drafts);
            self.steps.push((kind, took - own));
            self.own_seconds += own;
        }
        self.had_drafts = rows > answering.len();
    }
}

/// Answers the same prompts without speculation, with it, without it again, and at fixed depths.
fn round(
    ways: &mut [Way],
    options: &Options,
    prompts: &[Vec<u32>],
    known: &Answers,
) -> Vec<Outcome> {
    let first = ways[0].answer(options, prompts, false);
    let plain = ways[0].answers.clone();
    *known.lock().unwrap() = prompts.iter().cloned().zip(plain.clone()).collect();
    let with = ways[0].answer(options, prompts, true);
    assert!(ways[0].answers == plain, "the same answers");
    let second = ways[0].answer(options, prompts, false);
    let mean = |value: fn(&Outcome) -> f64| (value(&first) + value(&second)) / 2.0;
    let without = Outcome {
        tokens_per_second: mean(|of| of.tokens_per_second),
        prompt_seconds: mean(|of| of.prompt_seconds),
        own_seconds: 0.0,
        own: mean(|of| of.own),
        steps: Vec::new(),
    };
    let mut outcomes = vec![without, with, first, second];
    for way in &mut ways[1..] {
        outcomes.push(way.answer(options, prompts, true));
        assert!(way.answers == plain, "the same answers");
    }
    outcomes
}

/// The value at a share of the way through the sorted values.
fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[((sorted.len() - 1) as f64 * share).round() as usize]
}

fn percent(ratio: f64) -> f64 {
    (ratio - 1.0) * 100.0
}

fn main() {
    let options = options();
    let opened = OpenedModel::open(&options.model).unwrap();
    println!(
        "{}, {} threads, {} tokens, {} rounds{}",
        options.model.file_name().unwrap().display(),
        options.threads,
        options.tokens,
        options.rounds,
        options.forced.map_or(String::new(), |share| format!(
            ", {share} of the drafts right"
        )),
    );
    println!(
        "| batch | off | adaptive | gain | off against off | without noise | own | prompts | drafted a token | \
         accepted | fixed |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|");
    let pool = Arc::new(cpu::Pool::new(options.threads));
    for &batch in &options.batches {
        let known = Answers::default();
        let mut all = vec![(Depth::Adaptive, 4)];
        if options.has_fixed {
            all.extend((1..=4).map(|most| (Depth::Full, most)));
        }
        let mut ways: Vec<Way> = all
            .iter()
            .map(|&way| Way::new(&opened, &options, batch, way, &pool, &known))
            .collect();
        let mut outcomes = Vec::new();
        let mut before = DraftCounts::default();
        let mut generated = 0;
        for index in 0..=options.rounds {
            let prompts = prompts(&opened, &options, batch, index);
            let outcome = round(&mut ways, &options, &prompts, &known);
            if index == 0 {
                before = ways[0].scheduler.drafts();
                continue;
            }
            generated += ways[0].answers.iter().map(Vec::len).sum::<usize>();
            outcomes.push(outcome);
        }
        let of = |value: &dyn Fn(&[Outcome]) -> f64| -> Vec<f64> {
            outcomes.iter().map(|outcome| value(outcome)).collect()
        };
        let rate = |way: usize| quantile(&of(&|round| round[way].tokens_per_second), 0.5);
        let gains = of(&|round| round[1].tokens_per_second / round[0].tokens_per_second);
        let noise = of(&|round| round[3].tokens_per_second / round[2].tokens_per_second);
        let own = of(&|round| round[1].own);
        let all = outcomes.iter().flatten();
        let usual = Usual::of(&all.flat_map(|of| of.steps.clone()).collect::<Vec<_>>());
        let quiet = of(&|round| {
            let off = usual.seconds(&round[2].steps) + usual.seconds(&round[3].steps);
            off / 2.0 / (usual.seconds(&round[1].steps) + round[1].own_seconds)
        });
        let prompts = of(&|round| round[1].prompt_seconds / round[0].prompt_seconds);
        let counts = ways[0].scheduler.drafts();
        let (drafted, accepted) = (
            counts.drafted - before.drafted,
            counts.accepted - before.accepted,
        );
        // Behind the four outcomes of the first way.
        let fixed: Vec<String> = (4..3 + ways.len())
            .map(|at| format!("{:.1}", rate(at)))
            .collect();
        let spread = |ratios: &[f64]| {
            let [median, low, high] =
                [0.5, 0.25, 0.75].map(|share| percent(quantile(ratios, share)));
            format!("{median:+.1} % ({low:+.1} to {high:+.1})")
        };
        println!(
            "| {batch} | {:.1} | {:.1} | {} | {} | {} | {:.2} % | {:+.1} % | {:.2} | {:.0} % | {} |",
            rate(0),
            rate(1),
            spread(&gains),
            spread(&noise),
            spread(&quiet),
            quantile(&own, 0.5) * 100.0,
            percent(quantile(&prompts, 0.5)),
            drafted as f64 / generated as f64,
            accepted as f64 / drafted.max(1) as f64 * 100.0,
            fixed.join(", "),
        );
    }
}
