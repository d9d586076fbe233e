//! `tidemill bench`: how fast a model runs on this machine, and how far that is from what the
//! machine allows.
//!
//! Options and tables are in the form that people know from `llama-bench` and
//! `llama-batched-bench`: every list is crossed with every other one. What is counted and how is
//! in `docs/performance.md`.

mod identity;
pub(crate) mod limits;
mod lists;
mod load;
mod machine;
mod on_demand;
mod plan;
mod record;
mod report;
mod results;
mod runner;
mod state;
mod stats;
mod suite;
mod tokens;
mod turns;
mod xxh64;

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::args::Global;
use crate::exit::Failure;
use crate::interrupt;
use crate::model_args::{Backend, CacheType, LoadArgs};
use crate::placement::PlacementArgs;
use lists::{Counts, Pair};
use plan::{CLASSES, Test};
use report::{Form, Report};

/// Measure how fast models run here.
///
/// Numbers may be lists and ranges: 512, or 1,2,4, or 1-8, 0-4096+1024, 512-4096*2; every
/// combination is measured. Without other wishes a prompt of 512 tokens and an answer of 128 are.
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// Models: GGUF files or folders of checkpoints (default: the one inside the program).
    #[arg(short, long, value_name = "PATH", num_args = 1.., env = "TIDEMILL_MODEL")]
    model: Vec<PathBuf>,
    /// Prompts of so many tokens; 0 for none.
    #[arg(short = 'p', long, value_name = "N")]
    n_prompt: Option<Counts>,
    /// Answers of so many tokens; 0 for none.
    #[arg(short = 'n', long, value_name = "N")]
    n_gen: Option<Counts>,
    /// A prompt and then an answer, timed together: -pg 512,128.
    #[arg(long, value_name = "P,N")]
    pg: Vec<Pair>,
    /// Tokens that the sequence holds before.
    #[arg(short = 'd', long, value_name = "N", default_value = "0")]
    n_depth: Counts,
    /// Sequences that decode at once, each with its own keys, values and state; -n tokens each.
    #[arg(long, value_name = "N")]
    npl: Option<Counts>,
    /// A conversation of so many turns: the time to each answer's first token. The first question
    /// has -p tokens, answers have -n.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    turns: Option<u32>,
    /// A short, a medium and a long prompt (128, 2,048 and 16,384 tokens) until the first token.
    #[arg(long)]
    classes: bool,
    /// From the path to the first token, with the file in the system's cache (warm) or without
    /// (cold; others that use the file are slowed down too).
    #[arg(long, value_name = "WHICH", num_args = 0..=1, value_delimiter = ',',
          default_missing_value = "cold,warm")]
    load: Vec<LoadKind>,
    /// Saving and restoring a sequence's state: of the models given, or of every member of the
    /// family.
    #[arg(long)]
    state: bool,
    /// Read bandwidth of this machine, with one thread and with all.
    #[arg(long)]
    bandwidth: bool,
    /// Tokens handed over at once.
    #[arg(short, long, value_name = "N", default_value = "2048")]
    batch_size: Counts,
    /// Tokens that go through the model at once.
    #[arg(long, value_name = "N", default_value = "512", visible_alias = "ub")]
    ubatch_size: Counts,
    /// How keys are kept.
    #[arg(
        long,
        value_name = "TYPE",
        default_value = "f16",
        visible_alias = "ctk",
        value_delimiter = ','
    )]
    cache_type_k: Vec<CacheType>,
    /// How values are kept.
    #[arg(
        long,
        value_name = "TYPE",
        default_value = "f16",
        visible_alias = "ctv",
        value_delimiter = ','
    )]
    cache_type_v: Vec<CacheType>,
    /// How often each is measured.
    #[arg(short, long, value_name = "N", default_value_t = 5,
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    repetitions: u32,
    /// The form of the results.
    #[arg(short, long, value_name = "FORM", default_value = "md")]
    output: Form,
    /// Do not run each test once before it counts.
    #[arg(long)]
    no_warmup: bool,
    /// Hash all of each file, not samples of it.
    #[arg(long)]
    full_hash: bool,
    /// Where to compute.
    #[arg(long, value_name = "NAME", default_value = "cpu")]
    backend: Backend,
    #[command(flatten)]
    memory: LoadArgs,
    #[command(flatten)]
    placement: PlacementArgs,
    /// Measure only what is asked for on standard input, a line at a time: the name of a test that
    /// the other options plan, such as `tg64 @ d4096`, or `read bandwidth`. Each line is answered
    /// by one repetition's result. For programs that measure two engines in turn.
    #[arg(long)]
    on_demand: bool,
}

/// What a model's file is when it is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LoadKind {
    /// On disk only.
    Cold,
    /// In the system's cache.
    Warm,
}

/// What is measured when nothing is asked for, as `llama-bench` does.
const USUAL_PROMPT: usize = 512;
const USUAL_ANSWER: usize = 128;

/// Measures what was asked for.
pub(crate) fn run(args: &BenchArgs, global: &Global) -> anyhow::Result<()> {
    interrupt::listen()?;
    args.check()?;
    let mut report = Report::new(args.output);
    let outcome = suite::Suite::new(args, global, &mut report).run();
    // What was measured before an interruption is worth having.
    report.end()?;
    outcome
}

impl BenchArgs {
    fn check(&self) -> Result<(), Failure> {
        let sizes = [("-b", &self.batch_size), ("-ub", &self.ubatch_size)];
        let zero = sizes.iter().find(|(_, list)| list.contains(&0));
        let sequences = self.npl.as_ref().is_some_and(|list| list.contains(&0));
        if let Some((name, _)) = zero {
            return Err(Failure::Usage(format!("{name} 0 would run nothing")));
        }
        if sequences {
            return Err(Failure::Usage("-npl 0 would run nothing".to_owned()));
        }
        let types = self.cache_type_k.len() * self.cache_type_v.len();
        if self.on_demand && (self.model.len() > 1 || types > 1) {
            let why =
                "--on-demand keeps one engine: give one model and one type of keys and values";
            return Err(Failure::Usage(why.to_owned()));
        }
        Ok(())
    }

    /// Whether something was asked for beside plain prompts and answers.
    fn is_special(&self) -> bool {
        self.npl.is_some()
            || self.turns.is_some()
            || self.classes
            || !self.load.is_empty()
            || self.state
            || self.bandwidth
    }

    fn prompts(&self) -> Vec<usize> {
        match &self.n_prompt {
            Some(list) => list.to_vec(),
            None => vec![USUAL_PROMPT],
        }
    }

    fn answers(&self) -> Vec<usize> {
        match &self.n_gen {
            Some(list) => list.to_vec(),
            None => vec![USUAL_ANSWER],
        }
    }

    /// The tests of a loaded model, in the order of the table.
    fn tests(&self) -> Vec<Test> {
        let mut tests = Vec::new();
        let takes_prompts = self.turns.is_none();
        let takes_answers = self.npl.is_none() && self.turns.is_none();
        let wants = |list: &Option<Counts>| list.is_some() || !self.is_special();
        if takes_prompts && wants(&self.n_prompt) {
            let prompts = self.prompts().into_iter().filter(|&count| count > 0);
            tests.extend(prompts.map(Test::Prefill));
        }
        let answers: Vec<_> = self
            .answers()
            .into_iter()
            .filter(|&count| count > 0)
            .collect();
        if takes_answers && wants(&self.n_gen) {
            let decode = |&tokens| Test::Decode {
                tokens,
                sequences: 1,
            };
            tests.extend(answers.iter().map(decode));
        }
        tests.extend(self.pg.iter().copied().map(Test::Both));
        for &sequences in self.npl.iter().flat_map(|list| list.iter()) {
            let decode = |&tokens| Test::Decode { tokens, sequences };
            tests.extend(answers.iter().map(decode));
        }
        if self.classes {
            tests.extend(CLASSES.map(|(name, tokens)| Test::Class { name, tokens }));
        }
        if let Some(turns) = self.turns {
            for prompt in self.prompts() {
                let talk = |&answer: &usize| Test::Turns {
                    turns: turns as usize,
                    prompt: prompt.max(1),
                    answer,
                };
                tests.extend(answers.iter().map(talk));
            }
        }
        if self.state && !self.model.is_empty() {
            tests.extend([Test::StateSave, Test::StateRestore]);
        }
        tests
    }

    /// Whether a model is needed at all.
    fn needs_model(&self) -> bool {
        !self.load.is_empty() || !self.tests().is_empty()
    }
}
