//! Flags for several models.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use server::{KeptLoaded, ModelLimits};

use crate::size;

/// Which models there are beside the one of `--model`, and how many of them are loaded.
#[derive(Debug, Args)]
pub(super) struct SeveralArgs {
    /// A folder of models: GGUF files, and folders with one or with a Hugging Face checkpoint. They
    /// are loaded when a request names them.
    #[arg(long, value_name = "DIR", env = "TIDEMILL_MODELS_DIR")]
    pub(super) models_dir: Option<PathBuf>,
    /// A file of profiles: `[name]` and lines such as `preset = coding` below it, which are flags
    /// without their dashes. `[*]` is for all. Profiles of one model share its memory.
    #[arg(long, value_name = "FILE", visible_alias = "models-preset")]
    pub(super) profiles: Option<PathBuf>,
    /// The most models that are loaded at once. For one more, the one that was used least recently
    /// has to leave.
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..))]
    models_max: u32,
    /// The most that the files of loaded models may have together, in MiB or with a unit (64G).
    #[arg(long, value_name = "SIZE", value_parser = size::bytes)]
    models_ram: Option<u64>,
    /// Unload a model that nobody has used for so many seconds (default: it stays until another one
    /// needs its place).
    #[arg(
        long,
        value_name = "SECONDS",
        visible_alias = "sleep-idle-seconds",
        allow_hyphen_values = true
    )]
    model_idle: Option<i64>,
}

impl SeveralArgs {
    pub(super) fn limits(&self) -> ModelLimits {
        let seconds = self.model_idle.and_then(|time| u64::try_from(time).ok());
        ModelLimits {
            most: self.models_max as usize,
            bytes: self.models_ram,
            idle: seconds.map_or(KeptLoaded::Always, |seconds| {
                KeptLoaded::For(Duration::from_secs(seconds))
            }),
        }
    }
}
