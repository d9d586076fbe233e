//! Whether and how tokens are drafted.

use std::time::Instant;

use clap::{Args, ValueEnum};
use engine::speculate::{Depth, MOST_DRAFTS, Speculation, SpeculationSettings};
use engine::{Engine, OpenedModel};

use crate::exit::Failure;

/// Flags of speculation. Drafts never change an answer.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct SpeculationArgs {
    /// Where drafts come from; they change the speed, never the answer.
    #[arg(long, value_name = "HOW", default_value = "auto", alias = "spec-type")]
    spec: Source,
    /// The most tokens drafted at once. How many of them are worth it is measured.
    #[arg(long, value_name = "N", default_value_t = SpeculationSettings::default().most as u8,
          aliases = ["draft", "draft-n"],
          value_parser = clap::value_parser!(u8).range(1..=MOST_DRAFTS as i64))]
    draft_max: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Source {
    /// The model's multi-token-prediction head, if it has one, and look-ups.
    Auto,
    /// The model's multi-token-prediction head.
    #[value(alias = "draft-mtp")]
    Mtp,
    /// What followed the same tokens earlier in prompt and answer.
    #[value(alias = "ngram-simple")]
    Lookup,
    /// Nowhere: one token after the other.
    #[value(alias = "none")]
    Off,
}

impl SpeculationArgs {
    /// Refuses a head that the model does not have.
    pub(crate) fn check(self, opened: &OpenedModel) -> Result<(), Failure> {
        if self.spec == Source::Mtp && opened.config.mtp_layers == 0 {
            let path = opened.path.display();
            return Err(Failure::BadInput(format!(
                "--spec mtp: {path} has no multi-token-prediction head; use --spec lookup, or a \
                 file that was converted with the head"
            )));
        }
        Ok(())
    }

    /// A drafter for an engine with this model; `None` if nothing is to be drafted.
    pub(crate) fn drafter(self, engine: &Engine, opened: &OpenedModel) -> Option<Speculation> {
        let (head, lookup) = match self.spec {
            Source::Off => return None,
            Source::Auto => (true, true),
            Source::Mtp => (true, false),
            Source::Lookup => (false, true),
        };
        let settings = SpeculationSettings {
            head,
            lookup,
            most: usize::from(self.draft_max),
            depth: Depth::Adaptive,
        };
        let start = Instant::now();
        let clock = Box::new(move || start.elapsed());
        let hidden_size = opened.config.hidden_size;
        Some(Speculation::new(engine, hidden_size, settings, clock))
    }
}
