//! How tokens are chosen: a preset of the model cards, and flags over it.

use clap::{Args, ValueEnum};
use engine::SamplerSettings;

use crate::exit::Failure;

/// Flags of the sampler. The order of its steps: penalties, temperature, top-k, top-p, min-p.
#[derive(Debug, Args)]
pub(crate) struct SamplingArgs {
    /// Values to start from.
    #[arg(long, value_name = "NAME", default_value = "auto")]
    preset: Preset,
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
    /// How many tokens back the penalties look.
    #[arg(long, value_name = "N")]
    repeat_last_n: Option<usize>,
    /// Of the random numbers (default: another each time).
    #[arg(short, long, value_name = "N")]
    seed: Option<u64>,
}

/// The model cards' values by mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Preset {
    /// `thinking` or `instruct`, as the template decides; greedy for the model inside the program.
    Auto,
    /// The most likely token, always.
    Greedy,
    /// Thinking, general tasks.
    Thinking,
    /// Thinking, precise coding.
    Coding,
    /// Not thinking, general tasks.
    Instruct,
    /// Not thinking, reasoning tasks.
    Reasoning,
}

impl SamplingArgs {
    /// The settings for an answer that starts with thinking or not. `is_embedded` is the tiny
    /// model, whose answers are to be exact.
    pub(super) fn settings(
        &self,
        is_thinking: bool,
        is_embedded: bool,
    ) -> Result<SamplerSettings, Failure> {
        let preset = match self.preset {
            Preset::Auto if is_embedded => Preset::Greedy,
            Preset::Auto if is_thinking => Preset::Thinking,
            Preset::Auto => Preset::Instruct,
            chosen => chosen,
        };
        let (temperature, top_p, top_k, presence_penalty) = match preset {
            Preset::Auto | Preset::Greedy => (0.0, 1.0, 0, 0.0),
            Preset::Thinking => (1.0, 0.95, 20, 1.5),
            Preset::Coding => (0.6, 0.95, 20, 0.0),
            Preset::Instruct => (0.7, 0.8, 20, 1.5),
            Preset::Reasoning => (1.0, 1.0, 40, 2.0),
        };
        let base = SamplerSettings::default();
        let settings = SamplerSettings {
            temperature: self.temperature.unwrap_or(temperature),
            top_k: self.top_k.unwrap_or(top_k),
            top_p: self.top_p.unwrap_or(top_p),
            min_p: self.min_p.unwrap_or(base.min_p),
            repeat_penalty: self.repeat_penalty.unwrap_or(base.repeat_penalty),
            presence_penalty: self.presence_penalty.unwrap_or(presence_penalty),
            frequency_penalty: self.frequency_penalty.unwrap_or(base.frequency_penalty),
            penalty_window: self.repeat_last_n.unwrap_or(base.penalty_window),
            seed: self.seed.unwrap_or_else(clock_seed),
        };
        settings.validate().map_err(Failure::Usage)?;
        Ok(settings)
    }
}

/// A seed that differs from run to run.
fn clock_seed() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |time| time.as_nanos() as u64)
}
