//! How tokens are chosen: a preset of the model cards, and flags over it.

use std::sync::Arc;

use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use engine::SamplerSettings;
use engine::sampling::{Dry, DryBreakers, PRESETS, Preset, SettingsError, Stage, Xtc, preset};
use text::Tokenizer;

use crate::exit::Failure;

/// Flags of the sampler.
#[derive(Debug, Clone, Args)]
pub(crate) struct SamplingArgs {
    /// Values to start from.
    #[arg(long, value_name = "NAME", default_value = "auto", value_parser = Base::parser())]
    preset: Base,
    /// The steps and their order, separated by commas (default: penalties,dry,temperature,
    /// top_n_sigma,top_k,typical,top_p,min_p,xtc). Steps that are left out do not run.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    samplers: Option<Vec<Stage>>,
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
    /// Only the most typical tokens that together reach this probability; 1 for all.
    #[arg(long, value_name = "P", visible_alias = "typical-p")]
    typical: Option<f32>,
    /// Only tokens within this many standard deviations of the largest logit; 0 for all.
    #[arg(long, value_name = "N")]
    top_n_sigma: Option<f32>,
    /// How often all top choices but the least likely one are removed; 0 for never.
    #[arg(long, value_name = "P")]
    xtc_probability: Option<f32>,
    /// Which tokens are top choices, by their probability.
    #[arg(long, value_name = "P")]
    xtc_threshold: Option<f32>,
    /// The temperature moves by up to this with the entropy; 0 for a fixed one.
    #[arg(long, value_name = "T")]
    dynatemp_range: Option<f32>,
    /// Bends the way from entropy to temperature.
    #[arg(long, value_name = "F")]
    dynatemp_exp: Option<f32>,
    /// The penalty of going on with a repeated sequence; 0 for none.
    #[arg(long, value_name = "F")]
    dry_multiplier: Option<f32>,
    /// How that penalty grows with each token of the sequence.
    #[arg(long, value_name = "F")]
    dry_base: Option<f32>,
    /// Repeated sequences shorter than this cost nothing.
    #[arg(long, value_name = "N")]
    dry_allowed_length: Option<usize>,
    /// How many tokens back repetitions are looked for (default: everywhere).
    #[arg(long, value_name = "N")]
    dry_penalty_last_n: Option<usize>,
    /// A text that no repetition reaches over; may be given several times (default: line end,
    /// colon, quotation mark and asterisk).
    #[arg(long, value_name = "TEXT")]
    dry_sequence_breaker: Vec<String>,
    /// Added to the logit of a token, such as 123-5 or 123+0.5; may be given several times.
    #[arg(short, long, value_name = "ID+BIAS", value_parser = bias)]
    logit_bias: Vec<(u32, f32)>,
    /// Go on where the model would end.
    #[arg(long)]
    ignore_eos: bool,
    /// The fewest tokens of an answer.
    #[arg(long, value_name = "N")]
    min_tokens: Option<usize>,
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
    pub(crate) fn settings(
        &self,
        is_thinking: bool,
        is_embedded: bool,
        tokenizer: &Tokenizer,
    ) -> Result<SamplerSettings, Failure> {
        let base = self.preset.settings(is_thinking, is_embedded);
        let settings = SamplerSettings {
            samplers: self.samplers.clone().unwrap_or(base.samplers),
            typical_p: self.typical.unwrap_or(base.typical_p),
            top_n_sigma: self.top_n_sigma.unwrap_or(base.top_n_sigma),
            xtc: Xtc {
                probability: self.xtc_probability.unwrap_or(base.xtc.probability),
                threshold: self.xtc_threshold.unwrap_or(base.xtc.threshold),
            },
            temperature_range: self.dynatemp_range.unwrap_or(base.temperature_range),
            temperature_exponent: self.dynatemp_exp.unwrap_or(base.temperature_exponent),
            dry: self.dry(tokenizer),
            logit_bias: self.logit_bias.clone(),
            ignore_eos: self.ignore_eos,
            min_tokens: self.min_tokens.unwrap_or(base.min_tokens),
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

    /// The seed that was asked for.
    pub(crate) fn seed(&self) -> Option<u64> {
        self.seed
    }

    fn dry(&self, tokenizer: &Tokenizer) -> Dry {
        let plain = Dry::default();
        let multiplier = self.dry_multiplier.unwrap_or(plain.multiplier);
        // Looking for breakers goes through the whole vocabulary.
        let breakers = match self.dry_sequence_breaker.as_slice() {
            _ if multiplier == 0.0 => plain.breakers,
            [] => Arc::new(DryBreakers::usual(tokenizer)),
            texts => Arc::new(DryBreakers::of_texts(tokenizer, texts)),
        };
        Dry {
            multiplier,
            base: self.dry_base.unwrap_or(plain.base),
            allowed_length: self.dry_allowed_length.unwrap_or(plain.allowed_length),
            window: self.dry_penalty_last_n.or(plain.window),
            breakers,
        }
    }
}

/// A token id and what is added to its logit: `123-5`, `123+0.5`, `123-inf`.
fn bias(text: &str) -> Result<(u32, f32), String> {
    let parsed = text.find(['+', '-']).and_then(|at| {
        let (token, bias) = text.split_at(at);
        Some((token.parse().ok()?, bias.parse().ok()?))
    });
    parsed.ok_or_else(|| "expected a token id and a number, such as 123-5".to_owned())
}

/// A seed that differs from run to run.
fn clock_seed() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |time| time.as_nanos() as u64)
}
