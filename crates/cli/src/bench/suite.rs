//! Goes through models, engines and tests, and hands each result to the report.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use engine::{Engine, EngineSettings, KvTypes, OpenedModel};

use super::identity::{HashKind, hash_files};
use super::limits::Limits;
use super::load;
use super::machine::{Machine, ProcessMemory};
use super::plan::{self, Case, Setup, Test};
use super::record::Record;
use super::report::Report;
use super::runner::Runner;
use super::{BenchArgs, LoadKind, on_demand, state};
use crate::args::Global;
use crate::fit::Steps;
use crate::model_args::Device;
use crate::{embedded, output};

/// Everything that was asked for.
pub(super) struct Suite<'a> {
    pub(super) args: &'a BenchArgs,
    global: &'a Global,
    pub(super) report: &'a mut Report,
    pub(super) machine: Machine,
    /// Read bandwidth by number of threads, measured once.
    bandwidths: Vec<(usize, f64)>,
}

/// What is known of a model before it is loaded.
pub(super) struct Subject {
    pub(super) opened: OpenedModel,
    files: Vec<PathBuf>,
    pub(super) hash: Option<u64>,
}

impl<'a> Suite<'a> {
    pub(super) fn new(args: &'a BenchArgs, global: &'a Global, report: &'a mut Report) -> Self {
        Self {
            args,
            global,
            report,
            machine: Machine::look(),
            bandwidths: Vec::new(),
        }
    }

    pub(super) fn run(&mut self) -> anyhow::Result<()> {
        if self.args.bandwidth {
            self.bandwidth()?;
        }
        if self.args.state && self.args.model.is_empty() {
            let threads = self.threads()[0];
            for record in state::of_family(&self.machine, threads, self.args.repetitions)? {
                self.report.add(&record)?;
            }
        }
        if !self.args.needs_model() {
            return Ok(());
        }
        if self.args.model.is_empty() {
            return self.model(None);
        }
        // A wrong path is better known now than after an hour of the ones before it.
        for path in &self.args.model {
            open(Some(path))?;
        }
        let paths = &self.args.model;
        paths.iter().try_for_each(|path| self.model(Some(path)))
    }

    /// The numbers of threads to measure with.
    fn threads(&self) -> Vec<usize> {
        self.global
            .thread_list()
            .iter()
            .map(|count| count.get())
            .collect()
    }

    fn bandwidth(&mut self) -> anyhow::Result<()> {
        let mut threads = match self.global.has_threads() {
            true => self.threads(),
            false => vec![1, self.threads()[0]],
        };
        threads.dedup();
        for threads in threads {
            let record = self.bandwidth_of(threads)?;
            self.report.add(&record)?;
        }
        Ok(())
    }

    /// Measures the read bandwidth anew.
    pub(super) fn bandwidth_of(&mut self, threads: usize) -> anyhow::Result<Record> {
        let pool = cpu::Pool::new(threads);
        let found = cpu::bandwidth::measure_read(&pool, BANDWIDTH_BYTES, BANDWIDTH_PASSES)
            .context("measure the read bandwidth")?;
        ProcessMemory::forget_peak();
        // A neighbour only ever slows a pass down, so the best one of the run is the machine's.
        let best = self
            .known_bandwidth(threads)
            .map_or(found.best, |known| known.max(found.best));
        self.bandwidths.retain(|(known, _)| *known != threads);
        self.bandwidths.push((threads, best));
        let mut record = Record::new("bandwidth", BANDWIDTH.to_owned(), &self.machine, threads);
        record.read_bandwidth = Some(found.best);
        record.bytes_per_second = Some(found.median);
        Ok(record)
    }

    pub(super) fn known_bandwidth(&self, threads: usize) -> Option<f64> {
        let known = self.bandwidths.iter().find(|(known, _)| *known == threads);
        known.map(|(_, rate)| *rate)
    }

    fn model(&mut self, path: Option<&Path>) -> anyhow::Result<()> {
        let opened = open(path)?;
        let files = match embedded::is_embedded(&opened) {
            true => Vec::new(),
            false => opened.files(),
        };
        let kind = self.hash_kind();
        let hash = match files.is_empty() {
            true => None,
            false => Some(hash_files(&files, kind)?),
        };
        let mut subject = Subject {
            opened,
            files,
            hash,
        };
        for threads in self.threads() {
            for &key in &self.args.cache_type_k {
                for &value in &self.args.cache_type_v {
                    let setup = Setup {
                        threads,
                        key_type: key.into(),
                        value_type: value.into(),
                    };
                    self.engine(&mut subject, &setup)?;
                }
            }
        }
        Ok(())
    }

    pub(super) fn hash_kind(&self) -> HashKind {
        match self.args.full_hash {
            true => HashKind::Full,
            false => HashKind::Sampled,
        }
    }

    /// All tests that share an engine.
    fn engine(&mut self, subject: &mut Subject, setup: &Setup) -> anyhow::Result<()> {
        let cases = plan::cases(
            &self.args.tests(),
            &self.args.n_depth,
            &self.args.batch_size,
            &self.args.ubatch_size,
        );
        let settings = settings(setup, &cases);
        let layout = settings.layout(&subject.opened.config);
        let limits = Limits::count(&subject.opened.weights()?, &subject.opened.config, &layout)?;
        if !self.args.load.is_empty() {
            self.loads(subject, setup, &settings, &limits)?;
        }
        if cases.is_empty() {
            return Ok(());
        }
        if self.known_bandwidth(setup.threads).is_none() {
            self.bandwidth_of(setup.threads)?;
        }
        let engine = self.load(&mut subject.opened, setup.threads, &settings)?;
        let mut runner = Runner::new(engine, subject.opened.config.vocab_size);
        if self.args.on_demand {
            return on_demand::answer(self, subject, setup, &limits, &mut runner, &cases);
        }
        for case in &cases {
            self.case(subject, setup, &limits, &mut runner, case)?;
        }
        Ok(())
    }

    fn load(
        &self,
        opened: &mut OpenedModel,
        threads: usize,
        settings: &EngineSettings,
    ) -> anyhow::Result<Engine> {
        let args = &self.args;
        let most = args.ubatch_size.iter().copied().max().unwrap_or(1);
        let steps = Steps {
            tokens: most,
            of_a_prompt: most,
        };
        let pool = || Arc::new(cpu::Pool::new(threads));
        let device = Device::open(args.backend, pool, args.memory, args.placement.clone())?;
        let (engine, _) = device.load(opened, (settings, steps), &|_, _| {})?;
        Ok(engine)
    }

    /// Loads, cold and warm.
    fn loads(
        &mut self,
        subject: &Subject,
        setup: &Setup,
        settings: &EngineSettings,
        limits: &Limits,
    ) -> anyhow::Result<()> {
        let path = self
            .args
            .model
            .iter()
            .find(|path| **path == subject.opened.path)
            .cloned();
        for kind in &self.args.load {
            let is_cold = *kind == LoadKind::Cold;
            let (mut ready, mut first, mut note) = (Vec::new(), Vec::new(), None);
            for _ in 0..self.args.repetitions {
                if is_cold {
                    match forget(&subject.files) {
                        Ok(kept) => note = kept,
                        Err(why) => {
                            output::note(&format!("no cold load of {}: {why}", subject.name()));
                            break;
                        }
                    }
                }
                let loaded = load::time(|| {
                    let mut opened = open(path.as_deref())?;
                    let engine = self.load(&mut opened, setup.threads, settings)?;
                    Ok((opened, engine))
                })?;
                ready.push(loaded.ready);
                first.push(loaded.first_token);
            }
            if ready.is_empty() {
                continue;
            }
            let name = if is_cold { "load cold" } else { "load warm" };
            let mut record = self.record("load", name.to_owned(), subject, setup, limits);
            record.n_prompt = load::PROMPT;
            record.set_times(&first, 0);
            record.first_token_ms = record.median_ns.map(|time| time / 1e6);
            let mut ready: Vec<_> = ready.iter().map(|time| time.as_secs_f64() * 1e3).collect();
            ready.sort_by(f64::total_cmp);
            let ready = format!("ready after {:.1} ms", ready[ready.len() / 2]);
            record.note = Some(match note {
                Some(kept) => format!("{ready}, {kept}"),
                None => ready,
            });
            self.report.add(&record)?;
        }
        Ok(())
    }

    fn case(
        &mut self,
        subject: &Subject,
        setup: &Setup,
        limits: &Limits,
        runner: &mut Runner,
        case: &Case,
    ) -> anyhow::Result<()> {
        let bar = output::step_progress("filling");
        runner.reach(case, |done, all| {
            bar.set_length(all as u64);
            bar.set_position(done as u64);
        })?;
        bar.finish_and_clear();
        if !self.args.no_warmup {
            runner.warm_up(case)?;
        }
        let experts = runner.expert_counts();
        let bar = output::step_progress("measuring");
        bar.set_length(u64::from(self.args.repetitions));
        let mut repetitions = Vec::new();
        for _ in 0..self.args.repetitions {
            if matches!(case.test, Test::Turns { .. }) {
                runner.reach(case, |_, _| {})?;
            }
            repetitions.push(runner.run(case)?);
            bar.inc(1);
        }
        bar.finish_and_clear();
        if let (Some(before), Some(after)) = (experts, runner.expert_counts()) {
            output::note(&format!("{}", after.since(&before)));
        }
        // A conversation has a result per turn, everything else one.
        let results = repetitions[0].len();
        for index in 0..results {
            let samples: Vec<_> = repetitions.iter().map(|all| all[index].clone()).collect();
            let record = self.result(subject, setup, limits, case, &samples);
            self.report.add(&record)?;
        }
        Ok(())
    }
}

impl Subject {
    /// The file's name without folder and ending.
    pub(super) fn name(&self) -> String {
        let path = &self.opened.path;
        path.file_stem()
            .unwrap_or(path.as_os_str())
            .to_string_lossy()
            .into_owned()
    }
}

fn open(path: Option<&Path>) -> anyhow::Result<OpenedModel> {
    match path {
        Some(path) => Ok(OpenedModel::open(path)?),
        None => Ok(embedded::open()?),
    }
}

/// An engine with memory for every case.
fn settings(setup: &Setup, cases: &[Case]) -> EngineSettings {
    let (context, sequences, tokens) = plan::memory(cases);
    let mut settings = EngineSettings::single(context.max(load::PROMPT + 1));
    settings.kv = KvTypes {
        key: setup.key_type,
        value: setup.value_type,
    };
    settings.sequences = sequences;
    // A sequence that goes on from a checkpoint writes to a copy of the page they share.
    settings.total_tokens = tokens + sequences * 2 * SPARE_TOKENS;
    settings
}

/// What tables call it.
pub(super) const BANDWIDTH: &str = "read bandwidth";
/// Bytes that are read to measure it: several times what caches hold.
const BANDWIDTH_BYTES: usize = 512 << 20;
const BANDWIDTH_PASSES: usize = 7;

/// More than a page holds.
const SPARE_TOKENS: usize = 128;

/// Drops files from the system's cache; what is still there is worth a note.
fn forget(files: &[PathBuf]) -> anyhow::Result<Option<String>> {
    if files.is_empty() {
        anyhow::bail!("it is inside the program");
    }
    let kept = load::forget(files)?;
    Ok((kept > 0.0).then(|| {
        format!(
            "{:.0} % of the file stayed in the system's cache",
            100.0 * kept
        )
    }))
}
