//! How tokens are chosen: a preset of the model cards, and flags over it.

use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use engine::SamplerSettings;
use engine::sampling::{PRESETS, Preset, SettingsError, preset};

use crate::exit::Failure;

/// Flags of the sampler. The order of its steps: penalties, temperature, top-k, top-p, min-p.
#[derive(Debug, Args)]
pub(crate) struct SamplingArgs {
    /// Values to start from.
    #[arg(long, value_name = "NAME", default_value = "auto", value_parser = Base::parser())]
    preset: Base,
    /// Divides logits; 0 takes the most likely token.
    #[arg(long, value_name = "T", visible_alias = "temp")]
    temperature: Option<f32>,
    /// Only this many most likely tokens; 0 for all.
    #[arg(long, value_name = "N")]
    top_k: Option<usize>,
    /// Only the fewest tokens that together reach this probability.
    #[arg(long, value_name = "P")]
    top_p: Option<f32>,
    /// Only tokens at least this probable relative to the most probable.
    #[arg(long, value_name = "P")]
    min_p: Option<f32>,
    /// Divides the logits of tokens seen lately; 1 for none.
    #[arg(long, value_name = "F")]
    repeat_penalty: Option<f32>,
    /// Subtracted from the logits of tokens seen lately.
    #[arg(long, value_name = "F")]
    presence_penalty: Option<f32>,
    /// Subtracted as often as a token was seen lately.
    #[arg(long, value_name = "F")]
    frequency_penalty: Option<f32>,
    /// How many tokens back the penalties look (default: at all of them).
    #[arg(long, value_name = "N")]
    repeat_last_n: Option<usize>,
    /// Of the random numbers (default: another each time).
    #[arg(short, long, value_name = "N")]
    seed: Option<u64>,
}

/// Where the values come from that no flag gives.
#[derive(Debug, Clone, Copy)]
enum Base {
    /// `thinking` or `instruct`, as the template decides; greedy for the model inside the program.
    Auto,
    /// The most likely token, always.
    Greedy,
    /// Of a model card.
    Card(&'static Preset),
}

impl Base {
    /// What `--preset` takes.
    fn parser() -> impl TypedValueParser<Value = Self> {
        let cards = PRESETS
            .iter()
            .map(|card| PossibleValue::new(card.name).help(format!("The card's: {}", card.about)));
        let others = [
            PossibleValue::new("auto").help(
                "thinking or instruct, as the template decides; greedy for the model inside \
                 the program",
            ),
            PossibleValue::new("greedy").help("The most likely token, always"),
        ];
        PossibleValuesParser::new(others.into_iter().chain(cards)).map(|name| match name.as_str() {
            "greedy" => Self::Greedy,
            other => preset(other).map_or(Self::Auto, Self::Card),
        })
    }

    fn settings(self, is_thinking: bool, is_embedded: bool) -> SamplerSettings {
        let plain = SamplerSettings::default();
        match self {
            Self::Greedy => plain,
            Self::Auto if is_embedded => plain,
            Self::Auto => Preset::for_mode(is_thinking).over(plain),
            Self::Card(card) => card.over(plain),
        }
    }
}

impl SamplingArgs {
    /// The settings for an answer that starts with thinking or not. `is_embedded` is the tiny
    /// model, whose answers are to be exact.
    pub(super) fn settings(
        &self,
        is_thinking: bool,
        is_embedded: bool,
    ) -> Result<SamplerSettings, Failure> {
        let base = self.preset.settings(is_thinking, is_embedded);
        let settings = SamplerSettings {
            temperature: self.temperature.unwrap_or(base.temperature),
            top_k: self.top_k.unwrap_or(base.top_k),
            top_p: self.top_p.unwrap_or(base.top_p),
            min_p: self.min_p.unwrap_or(base.min_p),
            repeat_penalty: self.repeat_penalty.unwrap_or(base.repeat_penalty),
            presence_penalty: self.presence_penalty.unwrap_or(base.presence_penalty),
            frequency_penalty: self.frequency_penalty.unwrap_or(base.frequency_penalty),
            penalty_window: self.repeat_last_n.or(base.penalty_window),
            seed: self.seed.unwrap_or_else(clock_seed),
            ..base
        };
        let usage = |error: SettingsError| Failure::Usage(error.to_string());
        settings.validate().map_err(usage)?;
        Ok(settings)
    }
}

/// A seed that differs from run to run.
fn clock_seed() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |time| time.as_nanos() as u64)
}
