//! How requests share the machine, and what is kept of their prompts.

use clap::Args;
use engine::cache::CacheSettings;
use engine::scheduler::SchedulerSettings;

/// Flags of the scheduler.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct SchedulingArgs {
    /// Tokens that go through the model in one step, of all requests together.
    #[arg(short, long, value_name = "N", default_value_t = 512,
          value_parser = clap::value_parser!(u32).range(1..))]
    batch_size: u32,
    /// Tokens of one prompt in a step [short: -ub].
    #[arg(long, value_name = "N", default_value_t = 512, alias = "ub",
          value_parser = clap::value_parser!(u32).range(1..))]
    ubatch_size: u32,
    /// How many answers are computed at once; they share the context's memory (default: 1, in
    /// `serve` 4) [short: -np].
    #[arg(long, value_name = "N", alias = "np", value_parser = clap::value_parser!(u32).range(1..))]
    parallel: Option<u32>,
    /// RAM for the states of prompts that were read, so that they need not be read again, in MiB;
    /// 0 for none.
    #[arg(long, value_name = "MIB", default_value_t = 2048)]
    cache_ram: usize,
}

impl SchedulingArgs {
    /// The most sequences at once; `usual` where nobody says.
    pub(crate) fn sequences(&self, usual: usize) -> usize {
        self.parallel.map_or(usual, |parallel| parallel as usize)
    }

    pub(crate) fn settings(&self) -> SchedulerSettings {
        SchedulerSettings {
            batch_tokens: self.batch_size as usize,
            chunk_tokens: self.ubatch_size as usize,
            cache: CacheSettings {
                snapshot_bytes: self.cache_ram.saturating_mul(1 << 20),
                ..CacheSettings::default()
            },
            ..SchedulerSettings::default()
        }
    }
}
