//! One line of results, with everything that is needed to judge and repeat it.
//!
//! Where `llama-bench` has a field of the same meaning it has the same name here, so that scripts
//! that read its results read these.

use serde::Serialize;

use super::identity::HashKind;
use super::machine::{COMMIT, Machine, ProcessMemory, VERSION};
use super::stats::Spread;

/// A result. Fields that do not apply are `null`.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Record {
    /// What was measured, such as `pp512`, with the depth behind ` @ d`.
    pub(super) test: String,
    /// `prefill`, `decode`, `both`, `class`, `turn`, `state`, `load` or `bandwidth`.
    pub(super) kind: &'static str,

    // The program and the machine.
    build_version: &'static str,
    build_commit: Option<&'static str>,
    cpu_info: Option<String>,
    pub(super) isa: Option<String>,
    cores: usize,
    ram_bytes: Option<u64>,
    system: String,
    huge_pages: Option<String>,
    pub(super) test_time: String,

    // The model.
    pub(super) model_filename: Option<String>,
    pub(super) model_type: Option<String>,
    pub(super) model_size: Option<u64>,
    pub(super) model_n_params: Option<u64>,
    pub(super) model_hash: Option<String>,
    pub(super) model_hash_kind: Option<&'static str>,

    // Settings.
    pub(super) backend: Option<String>,
    pub(super) n_threads: usize,
    pub(super) n_batch: Option<usize>,
    pub(super) n_ubatch: Option<usize>,
    pub(super) type_k: Option<String>,
    pub(super) type_v: Option<String>,
    pub(super) use_mmap: Option<bool>,
    pub(super) use_mlock: Option<bool>,
    /// New tokens of the prompt.
    pub(super) n_prompt: usize,
    /// Generated tokens of each sequence.
    pub(super) n_gen: usize,
    /// Tokens that the sequence held before.
    pub(super) n_depth: usize,
    pub(super) n_sequences: usize,

    // Times.
    avg_ns: Option<f64>,
    stddev_ns: Option<f64>,
    min_ns: Option<f64>,
    pub(super) median_ns: Option<f64>,
    max_ns: Option<f64>,
    samples_ns: Vec<u64>,
    /// Tokens per second.
    pub(super) avg_ts: Option<f64>,
    pub(super) stddev_ts: Option<f64>,
    min_ts: Option<f64>,
    pub(super) median_ts: Option<f64>,
    max_ts: Option<f64>,
    samples_ts: Vec<f64>,
    /// Median time until the first token of the answer was chosen.
    pub(super) first_token_ms: Option<f64>,

    // Limits, from the medians.
    /// Bytes read (and state written) per token: weights, state, keys and values.
    pub(super) bytes_per_token: Option<f64>,
    pub(super) weight_bytes_per_token: Option<f64>,
    pub(super) state_bytes_per_token: Option<f64>,
    pub(super) cache_bytes_per_token: Option<f64>,
    pub(super) bytes_per_second: Option<f64>,
    /// What this machine reads with as many threads, measured in the same run.
    pub(super) read_bandwidth: Option<f64>,
    pub(super) bandwidth_fraction: Option<f64>,
    pub(super) macs_per_token: Option<f64>,
    pub(super) macs_per_second: Option<f64>,
    /// Bytes of one sequence's recurrent state.
    pub(super) state_bytes: Option<f64>,

    // Memory of the process after the test.
    peak_memory_bytes: Option<u64>,
    private_memory_bytes: Option<u64>,
    /// What else a reader should know.
    pub(super) note: Option<String>,
}

impl Record {
    /// A record without model and results.
    pub(super) fn new(kind: &'static str, test: String, machine: &Machine, threads: usize) -> Self {
        let memory = ProcessMemory::now();
        Self {
            test,
            kind,
            build_version: VERSION,
            build_commit: COMMIT,
            cpu_info: machine.cpu.clone(),
            isa: None,
            cores: machine.cores,
            ram_bytes: machine.ram_bytes,
            system: machine.system.clone(),
            huge_pages: machine.huge_pages.clone(),
            test_time: super::machine::timestamp(std::time::SystemTime::now()),
            model_filename: None,
            model_type: None,
            model_size: None,
            model_n_params: None,
            model_hash: None,
            model_hash_kind: None,
            backend: None,
            n_threads: threads,
            n_batch: None,
            n_ubatch: None,
            type_k: None,
            type_v: None,
            use_mmap: None,
            use_mlock: None,
            n_prompt: 0,
            n_gen: 0,
            n_depth: 0,
            n_sequences: 1,
            avg_ns: None,
            stddev_ns: None,
            min_ns: None,
            median_ns: None,
            max_ns: None,
            samples_ns: Vec::new(),
            avg_ts: None,
            stddev_ts: None,
            min_ts: None,
            median_ts: None,
            max_ts: None,
            samples_ts: Vec::new(),
            first_token_ms: None,
            bytes_per_token: None,
            weight_bytes_per_token: None,
            state_bytes_per_token: None,
            cache_bytes_per_token: None,
            bytes_per_second: None,
            read_bandwidth: None,
            bandwidth_fraction: None,
            macs_per_token: None,
            macs_per_second: None,
            state_bytes: None,
            peak_memory_bytes: memory.peak_bytes,
            private_memory_bytes: memory.private_bytes,
            note: None,
        }
    }

    /// Puts the times in; each repetition ran `tokens` tokens (0 where no rate makes sense).
    pub(super) fn set_times(&mut self, times: &[std::time::Duration], tokens: usize) {
        let nanoseconds: Vec<f64> = times.iter().map(|time| time.as_nanos() as f64).collect();
        self.samples_ns = times.iter().map(|time| time.as_nanos() as u64).collect();
        if let Some(spread) = Spread::of(&nanoseconds) {
            self.avg_ns = Some(spread.mean);
            self.stddev_ns = Some(spread.deviation);
            self.min_ns = Some(spread.min);
            self.median_ns = Some(spread.median);
            self.max_ns = Some(spread.max);
        }
        if tokens == 0 {
            return;
        }
        let rate = |time: &std::time::Duration| tokens as f64 / time.as_secs_f64().max(1e-9);
        self.samples_ts = times.iter().map(rate).collect();
        if let Some(spread) = Spread::of(&self.samples_ts) {
            self.avg_ts = Some(spread.mean);
            self.stddev_ts = Some(spread.deviation);
            self.min_ts = Some(spread.min);
            self.median_ts = Some(spread.median);
            self.max_ts = Some(spread.max);
        }
    }

    /// The first line of the machine's description, for tables.
    pub(super) fn machine_line(&self) -> String {
        let mut parts = vec![
            self.cpu_info
                .clone()
                .unwrap_or_else(|| "unknown processor".into()),
        ];
        parts.push(format!("{} cores", self.cores));
        if let Some(bytes) = self.ram_bytes {
            parts.push(format!("{:.1} GiB", bytes as f64 / (1u64 << 30) as f64));
        }
        parts.push(self.system.clone());
        parts.push(match self.build_commit {
            Some(commit) => format!("tidemill {} ({commit})", self.build_version),
            None => format!("tidemill {}", self.build_version),
        });
        parts.join(", ")
    }

    /// What tells the file apart.
    pub(super) fn model_line(&self) -> Option<String> {
        let name = self.model_filename.as_ref()?;
        let size = self.model_size.unwrap_or(0);
        let hash = match (&self.model_hash, self.model_hash_kind) {
            (Some(hash), Some(kind)) => format!(", {kind} {hash}"),
            _ => String::new(),
        };
        Some(format!("{name}: {size} bytes{hash}"))
    }

    pub(super) fn set_hash(&mut self, hash: Option<u64>, kind: HashKind) {
        self.model_hash = hash.map(|hash| format!("{hash:016x}"));
        self.model_hash_kind = hash.map(|_| kind.name());
    }

    /// What the process took, for tables.
    pub(super) fn memory_line(&self) -> Option<String> {
        let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        Some(format!(
            "peak memory {:.0} MiB with mapped files, {:.0} MiB of its own",
            mebibytes(self.peak_memory_bytes?),
            mebibytes(self.private_memory_bytes?)
        ))
    }
}
