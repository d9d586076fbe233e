//! How requests share the machine, and what is kept of their prompts.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use engine::cache::CacheSettings;
use engine::cache::disk::{DiskSettings, DiskTier};
use engine::scheduler::SchedulerSettings;
use engine::{EngineSettings, OpenedModel, Scheduler, TokenRules};

use crate::exit::Failure;
use crate::fit::Steps;
use crate::model_args::Loaded;
use crate::speculation::SpeculationArgs;
use crate::{output, size};

/// Flags of the scheduler.
#[derive(Debug, Clone, PartialEq, Args)]
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
    /// RAM for the states of prompts that were read, so that they need not be read again, in MiB
    /// or with a unit (4G); 0 for none, on disk neither.
    #[arg(long, value_name = "SIZE", default_value = "2048", value_parser = size::bytes)]
    cache_ram: u64,
    /// A folder that keeps prompts that were read until the next start. It is made if need be;
    /// models can share it.
    #[arg(long, value_name = "DIR", env = "TIDEMILL_CACHE_DIR")]
    cache_dir: Option<PathBuf>,
    /// The most that folder may hold, in MiB or with a unit (20G).
    #[arg(long, value_name = "SIZE", default_value = "10G", value_parser = size::bytes)]
    cache_disk: u64,
    #[command(flatten)]
    speculation: SpeculationArgs,
}

impl SchedulingArgs {
    /// The most sequences at once; `usual` where nobody says.
    pub(crate) fn sequences(&self, usual: usize) -> usize {
        self.parallel.map_or(usual, |parallel| parallel as usize)
    }

    /// The largest steps there are.
    pub(crate) fn steps(&self) -> Steps {
        Steps {
            tokens: self.batch_size as usize,
            of_a_prompt: self.ubatch_size as usize,
        }
    }

    /// Refuses what this model cannot do, before it is loaded. Returns the model that is to draft
    /// for it, if there is one.
    pub(crate) fn check(&self, opened: &OpenedModel) -> anyhow::Result<Option<OpenedModel>> {
        self.speculation.check(opened)
    }

    /// A scheduler over a loaded model, with all that was asked for; `settings` are those of
    /// [`Self::settings`] and of the engine, `draft` is what [`Self::check`] returned.
    ///
    /// # Errors
    /// If the draft model cannot be loaded or the cache's folder cannot be used.
    pub(crate) fn start(
        &self,
        loaded: Loaded,
        (opened, draft): (&OpenedModel, Option<OpenedModel>),
        (settings, of_engine): (SchedulerSettings, &EngineSettings),
        rules: Arc<TokenRules>,
    ) -> anyhow::Result<Scheduler> {
        let drafter = self
            .speculation
            .drafter(&loaded, opened, draft, of_engine)?;
        let tier = self.tier(opened, of_engine, &loaded.numerics)?;
        let mut scheduler = Scheduler::new(loaded.engine, rules, settings);
        if let Some(drafter) = drafter {
            scheduler = scheduler.with_drafter(Box::new(drafter));
        }
        if let Some(tier) = tier {
            scheduler = scheduler.with_tier(Box::new(tier));
        }
        Ok(scheduler)
    }

    fn tier(
        &self,
        opened: &OpenedModel,
        settings: &EngineSettings,
        numerics: &str,
    ) -> anyhow::Result<Option<DiskTier>> {
        let Some(folder) = &self.cache_dir else {
            return Ok(None);
        };
        let budget = self.cache_disk;
        let disk = DiskSettings::new(folder.clone(), budget, opened, settings, numerics)?;
        let least = (disk.shape.state_bytes + disk.shape.page_bytes) as u64;
        if self.cache_ram == 0 {
            let why = "--cache-dir needs some --cache-ram: prompts come back by way of it";
            return Err(Failure::Usage(why.to_owned()).into());
        }
        if budget < least {
            return Err(Failure::Usage(format!(
                "--cache-disk is {}, and one prompt of this model takes {} or more",
                output::bytes(budget),
                output::bytes(least),
            ))
            .into());
        }
        Ok(Some(DiskTier::open(&disk)?))
    }

    pub(crate) fn settings(&self) -> SchedulerSettings {
        SchedulerSettings {
            batch_tokens: self.batch_size as usize,
            chunk_tokens: self.ubatch_size as usize,
            cache: CacheSettings {
                snapshot_bytes: usize::try_from(self.cache_ram).unwrap_or(usize::MAX),
                ..CacheSettings::default()
            },
            ..SchedulerSettings::default()
        }
    }
}
