//! Turns times into results: rates, and how far they are from the limits.

use std::sync::Arc;

use super::limits::Limits;
use super::lists::Pair;
use super::plan::{Case, Setup, Test};
use super::record::Record;
use super::runner::Sample;
use super::state;
use super::suite::{Subject, Suite};
use crate::model_args::Backend;

impl Suite<'_> {
    /// A result without times, with all that is known of machine, model and settings.
    pub(super) fn record(
        &self,
        kind: &'static str,
        test: String,
        subject: &Subject,
        setup: &Setup,
        limits: &Limits,
    ) -> Record {
        let mut record = Record::new(kind, test, &self.machine, setup.threads);
        let config = &subject.opened.config;
        let architecture = config.architecture.gguf_name();
        record.model_filename = Some(subject.opened.path.display().to_string());
        record.model_type = Some(format!(
            "{architecture} {}L {}",
            config.layers.len(),
            subject.name()
        ));
        record.model_size = Some(subject.opened.file_bytes());
        record.model_n_params = Some(limits.parameters);
        record.set_hash(subject.hash, self.hash_kind());
        record.isa = match self.args.backend {
            Backend::Cpu => cpu::Cpu::new(Arc::new(cpu::Pool::new(1)))
                .ok()
                .map(|cpu| cpu.isa().to_string()),
            Backend::Gpu | Backend::Reference => None,
        };
        record.backend = Some(format!("{:?}", self.args.backend).to_lowercase());
        record.type_k = Some(setup.key_type.name().to_lowercase());
        let memory = self.args.memory.options();
        record.use_mmap = Some(memory.mmap);
        record.use_mlock = Some(memory.mlock);
        record.type_v = Some(setup.value_type.name().to_lowercase());
        record
    }

    /// A result of several repetitions.
    pub(super) fn result(
        &self,
        subject: &Subject,
        setup: &Setup,
        limits: &Limits,
        case: &Case,
        samples: &[Sample],
    ) -> Record {
        let Sample {
            turn,
            tokens,
            cached,
            ..
        } = samples[0];
        let (kind, name) = match case.test {
            Test::Prefill(_) => ("prefill", case.name()),
            Test::Decode { .. } => ("decode", case.name()),
            Test::Both(_) => ("both", case.name()),
            Test::Class { .. } => ("class", case.name()),
            Test::Turns { .. } => ("turn", format!("turn {turn}: {tokens} new")),
            Test::StateSave | Test::StateRestore => ("state", case.name()),
        };
        let mut record = self.record(kind, name, subject, setup, limits);
        record.n_batch = Some(case.batch);
        record.n_ubatch = Some(case.ubatch);
        record.n_depth = cached;
        record.n_sequences = case.test.sequences();
        let times: Vec<_> = samples.iter().map(|sample| sample.time).collect();
        record.set_times(&times, tokens);
        let mut first: Vec<_> = samples
            .iter()
            .filter_map(|sample| sample.first_token)
            .collect();
        first.sort();
        record.first_token_ms = first
            .get(first.len() / 2)
            .map(|time| time.as_secs_f64() * 1e3);
        let rate = record.median_ts;
        let prefill = |record: &mut Record, tokens: usize, depth: usize| {
            let macs = limits.prefill(tokens, depth) / tokens as f64;
            record.macs_per_token = Some(macs);
            record.macs_per_second = rate.map(|rate| rate * macs);
        };
        match case.test {
            Test::Prefill(tokens) | Test::Class { tokens, .. } => {
                record.n_prompt = tokens;
                prefill(&mut record, tokens, cached);
            }
            Test::Turns { answer, .. } => {
                record.n_prompt = tokens;
                record.n_gen = answer;
                record.note = Some(format!("{cached} cached"));
                prefill(&mut record, tokens, cached);
            }
            Test::Both(Pair { prompt, generated }) => {
                record.n_prompt = prompt;
                record.n_gen = generated;
            }
            Test::Decode { tokens, sequences } => {
                record.n_gen = tokens;
                // Step i reads the keys and values of depth + i + 1 tokens.
                let context = cached as f64 + (tokens as f64 + 1.0) / 2.0;
                let traffic = limits.decode(sequences, context);
                record.bytes_per_token = Some(traffic.total());
                record.weight_bytes_per_token = Some(traffic.weights);
                record.state_bytes_per_token = Some(traffic.state);
                record.cache_bytes_per_token = Some(traffic.cache);
                record.bytes_per_second = rate.map(|rate| rate * traffic.total());
                record.read_bandwidth = self.known_bandwidth(setup.threads);
                record.bandwidth_fraction = record
                    .bytes_per_second
                    .zip(record.read_bandwidth)
                    .map(|(rate, bandwidth)| rate / bandwidth);
            }
            Test::StateSave | Test::StateRestore => {
                state::describe(&mut record, limits.state_bytes());
            }
        }
        record
    }
}
