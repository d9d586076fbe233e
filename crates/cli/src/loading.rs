//! What `run` and `serve` have in common: how a model is loaded, and how it answers.

use std::path::PathBuf;

use clap::Args;
use engine::{EngineSettings, OpenedModel};
use text::ChatTemplate;

use crate::model_args::{CacheArgs, ModelArgs};
use crate::sampling_args::SamplingArgs;
use crate::scheduling::SchedulingArgs;

/// What decides what is in memory: models that are loaded with equal values are the same.
#[derive(Debug, Clone, PartialEq, Args)]
pub(crate) struct LoadingArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    #[command(flatten)]
    pub(crate) cache: CacheArgs,
    /// The most tokens of a prompt and its answers together, and of all together that are in memory
    /// (default: what the model was trained for, at most 32768; 0 for all of it).
    #[arg(short, long, value_name = "N")]
    pub(crate) ctx_size: Option<usize>,
    #[command(flatten)]
    pub(crate) scheduling: SchedulingArgs,
    /// A chat template instead of the model's own.
    #[arg(long, value_name = "FILE")]
    pub(crate) chat_template_file: Option<PathBuf>,
}

/// How the model answers; in `serve`, where a request does not say.
#[derive(Debug, Clone, Args)]
pub(crate) struct MannerArgs {
    /// The most tokens of an answer (default: as many as fit the context).
    #[arg(short = 'n', long, value_name = "N", visible_alias = "predict")]
    pub(crate) n_predict: Option<usize>,
    #[command(flatten)]
    pub(crate) sampling: SamplingArgs,
    /// Further variables for the template, as a JSON object.
    #[arg(long, value_name = "JSON")]
    pub(crate) chat_template_kwargs: Option<String>,
}

impl LoadingArgs {
    /// The memory to make for so many tokens and answers at once.
    pub(crate) fn memory(&self, context: usize, sequences: usize) -> EngineSettings {
        EngineSettings {
            sequences,
            kv: self.cache.types(),
            ..EngineSettings::single(context)
        }
    }

    /// The chat template: the one that was named, or the model's own.
    ///
    /// # Errors
    /// When it cannot be read or compiled, or the model has none.
    pub(crate) fn template(&self, opened: &OpenedModel) -> anyhow::Result<ChatTemplate> {
        match &self.chat_template_file {
            Some(path) => Ok(ChatTemplate::from_file(path)?),
            None => Ok(opened.template()?),
        }
    }
}
