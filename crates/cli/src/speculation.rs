//! Whether and how tokens are drafted.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context;
use clap::{Args, ValueEnum};
use engine::speculate::{Depth, DraftModel, MOST_DRAFTS, Speculation, SpeculationSettings};
use engine::{EngineSettings, OpenedModel};

use crate::exit::Failure;
use crate::fit::Steps;
use crate::model_args::Loaded;

/// Flags of speculation. Drafts never change an answer.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub(crate) struct SpeculationArgs {
    /// Where drafts come from; they change the speed, never the answer.
    #[arg(long, value_name = "HOW", default_value = "auto", alias = "spec-type")]
    spec: Source,
    /// The most tokens drafted at once. How many of them are worth it is measured.
    #[arg(long, value_name = "N", default_value_t = SpeculationSettings::default().most as u8,
          aliases = ["draft", "draft-n"],
          value_parser = clap::value_parser!(u8).range(1..=MOST_DRAFTS as i64))]
    draft_max: u8,
    /// A smaller model of the same vocabulary that drafts in place of the model's own head
    /// [short: -md].
    #[arg(long, value_name = "PATH", alias = "md", env = "TIDEMILL_MODEL_DRAFT")]
    model_draft: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Source {
    /// The model's multi-token-prediction head, if it has one, or the model of `--model-draft`, and
    /// look-ups.
    Auto,
    /// The model's multi-token-prediction head.
    #[value(alias = "draft-mtp")]
    Mtp,
    /// The model of `--model-draft`.
    Model,
    /// What followed the same tokens earlier in prompt and answer.
    #[value(alias = "ngram-simple")]
    Lookup,
    /// Nowhere: one token after the other.
    #[value(alias = "none")]
    Off,
}

impl SpeculationArgs {
    /// Refuses what this model cannot do, and opens the draft model, if there is to be one.
    pub(crate) fn check(&self, opened: &OpenedModel) -> anyhow::Result<Option<OpenedModel>> {
        let usage = |why: &str| Err(Failure::Usage(why.to_owned()).into());
        match (self.spec, &self.model_draft) {
            (Source::Mtp, None) if opened.config.mtp_layers == 0 => {
                let path = opened.path.display();
                Err(Failure::BadInput(format!(
                    "--spec mtp: {path} has no multi-token-prediction head; use --spec lookup, or \
                     a file that was converted with the head"
                ))
                .into())
            }
            (Source::Model, None) => usage("--spec model needs a --model-draft"),
            (Source::Mtp | Source::Lookup | Source::Off, Some(_)) => {
                usage("--model-draft drafts with --spec auto or --spec model only")
            }
            (_, None) => Ok(None),
            (_, Some(path)) => {
                let draft = OpenedModel::open(path)?;
                DraftModel::check_vocabulary(&opened.tokenizer()?, &draft.tokenizer()?)
                    .with_context(|| format!("{} cannot draft", path.display()))
                    .map_err(|error| Failure::BadInput(format!("{error:#}")))?;
                Ok(Some(draft))
            }
        }
    }

    /// A drafter for a loaded model, with its draft model if it has one; `None` if nothing is to be
    /// drafted.
    pub(crate) fn drafter(
        &self,
        loaded: &Loaded,
        opened: &OpenedModel,
        draft: Option<OpenedModel>,
        settings: &EngineSettings,
    ) -> anyhow::Result<Option<Speculation>> {
        let (head, lookup) = match self.spec {
            Source::Off => return Ok(None),
            Source::Auto => (draft.is_none(), true),
            Source::Mtp => (true, false),
            Source::Model => (false, false),
            Source::Lookup => (false, true),
        };
        let speculation = SpeculationSettings {
            head,
            lookup,
            most: usize::from(self.draft_max),
            depth: Depth::Adaptive,
        };
        let start = Instant::now();
        let clock = Box::new(move || start.elapsed());
        let hidden_size = opened.config.hidden_size;
        let mut drafter = Speculation::new(&loaded.engine, hidden_size, speculation, clock);
        if let Some(mut draft) = draft {
            let settings = DraftModel::engine_settings(settings);
            let (engine, _) =
                loaded
                    .device
                    .load(&mut draft, (&settings, Steps::default()), &|_, _| {})?;
            let vocabulary = opened.config.vocab_size;
            drafter = drafter.with_model(DraftModel::new(engine, vocabulary));
        }
        Ok(Some(drafter))
    }
}
