//! How a request wants its tokens chosen.

use std::sync::Arc;

use super::{DryBreakers, Logprobs, SettingsError, Stage, TokenRules};

/// How tokens are chosen. The default is greedy, without penalties.
#[derive(Debug, Clone, PartialEq)]
pub struct SamplerSettings {
    /// The steps and their order; those left out do not run. The draw comes last.
    pub samplers: Vec<Stage>,
    /// Divides logits; 0 takes the most likely token, whatever the order of the steps.
    pub temperature: f32,
    /// The temperature moves by up to this with the distribution's entropy; 0 for a fixed one.
    pub temperature_range: f32,
    /// Bends the way from entropy to temperature; 1 for a straight one.
    pub temperature_exponent: f32,
    /// Only this many most likely tokens; 0 for all.
    pub top_k: usize,
    /// Only the fewest tokens that together reach this probability; 1 for all.
    pub top_p: f32,
    /// Only tokens at least this probable relative to the most probable; 0 for all.
    pub min_p: f32,
    /// Only the most typical tokens that together reach this probability; 1 for all.
    pub typical_p: f32,
    /// Only tokens within this many standard deviations of the largest logit; 0 for all.
    pub top_n_sigma: f32,
    /// Excludes top choices.
    pub xtc: Xtc,
    /// Divides (or, below 0, multiplies) the logits of tokens in prompt and answer; 1 for none.
    pub repeat_penalty: f32,
    /// Subtracted from the logits of tokens in the answer.
    pub presence_penalty: f32,
    /// Subtracted as often as a token is in the answer.
    pub frequency_penalty: f32,
    /// How many of the latest tokens the three penalties look at; `None` for all.
    pub penalty_window: Option<usize>,
    /// Turns away from repeated sequences.
    pub dry: Dry,
    /// Added to the logits of these tokens before anything else; negative infinity forbids one.
    pub logit_bias: Vec<(u32, f32)>,
    /// The answer cannot end before it has this many tokens.
    pub min_tokens: usize,
    /// The answer does not end by the model's own choice.
    pub ignore_eos: bool,
    /// Which log-probabilities each choice reports; `None` for none.
    pub logprobs: Option<Logprobs>,
    /// Of the random numbers.
    pub seed: u64,
}

/// "Exclude top choices": with some probability, all tokens above a threshold but the least likely
/// of them are removed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Xtc {
    /// How often it happens; 0 for never.
    pub probability: f32,
    /// Which tokens count as top choices, by their probability.
    pub threshold: f32,
}

/// "Don't repeat yourself": a token that would make a repeated sequence longer is penalised by
/// `multiplier * base ^ (length - allowed_length)`.
#[derive(Debug, Clone, PartialEq)]
pub struct Dry {
    /// The penalty of the shortest sequence that counts; 0 for none.
    pub multiplier: f32,
    /// Growth per token.
    pub base: f32,
    /// Repeated sequences shorter than this cost nothing.
    pub allowed_length: usize,
    /// How many of the latest tokens are searched; `None` for all.
    pub window: Option<usize>,
    /// A repetition ends where one of these stands.
    pub breakers: Arc<DryBreakers>,
}

impl Default for Xtc {
    fn default() -> Self {
        Self {
            probability: 0.0,
            threshold: 0.1,
        }
    }
}

impl Default for Dry {
    fn default() -> Self {
        Self {
            multiplier: 0.0,
            base: 1.75,
            allowed_length: 2,
            window: None,
            breakers: Arc::default(),
        }
    }
}

impl Default for SamplerSettings {
    fn default() -> Self {
        Self {
            samplers: Stage::DEFAULT_ORDER.to_vec(),
            temperature: 0.0,
            temperature_range: 0.0,
            temperature_exponent: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            typical_p: 1.0,
            top_n_sigma: 0.0,
            xtc: Xtc::default(),
            repeat_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            penalty_window: None,
            dry: Dry::default(),
            logit_bias: Vec::new(),
            min_tokens: 0,
            ignore_eos: false,
            logprobs: None,
            seed: 0,
        }
    }
}

impl SamplerSettings {
    /// Whether the most likely token is taken, without a draw.
    pub fn is_greedy(&self) -> bool {
        self.temperature <= 0.0 && self.temperature_range <= 0.0
    }

    /// Checks every value that does not depend on the model.
    ///
    /// # Errors
    /// The first value that cannot be used, with its bounds.
    pub fn validate(&self) -> Result<(), SettingsError> {
        for (name, value, low, high) in [
            ("temperature", self.temperature, 0.0, 100.0),
            ("temperature_range", self.temperature_range, 0.0, 100.0),
            ("temperature_exponent", self.temperature_exponent, 0.0, 10.0),
            ("top_p", self.top_p, 0.0, 1.0),
            ("min_p", self.min_p, 0.0, 1.0),
            ("typical_p", self.typical_p, 0.0, 1.0),
            ("top_n_sigma", self.top_n_sigma, 0.0, 100.0),
            ("xtc_probability", self.xtc.probability, 0.0, 1.0),
            ("xtc_threshold", self.xtc.threshold, 0.0, 1.0),
            ("repeat_penalty", self.repeat_penalty, 0.01, 100.0),
            ("presence_penalty", self.presence_penalty, -100.0, 100.0),
            ("frequency_penalty", self.frequency_penalty, -100.0, 100.0),
            ("dry_multiplier", self.dry.multiplier, 0.0, 100.0),
            ("dry_base", self.dry.base, 1.0, 100.0),
        ] {
            // Not `value < low || value > high`: NaN is neither.
            if !(low..=high).contains(&value) {
                return Err(SettingsError::OutOfRange {
                    name,
                    value,
                    low,
                    high,
                });
            }
        }
        for (index, stage) in self.samplers.iter().enumerate() {
            if self.samplers[..index].contains(stage) {
                return Err(SettingsError::TwiceInOrder(*stage));
            }
        }
        if let Some(&(token, bias)) = self
            .logit_bias
            .iter()
            .find(|(_, bias)| bias.is_nan() || *bias == f32::INFINITY)
        {
            return Err(SettingsError::BadBias { token, bias });
        }
        match self.logprobs {
            Some(Logprobs { top, .. }) if top > Logprobs::MOST => {
                Err(SettingsError::TooManyLogprobs {
                    asked: top,
                    most: Logprobs::MOST,
                })
            }
            _ => Ok(()),
        }
    }

    /// As [`Self::validate`], and checks that the tokens named are the model's.
    ///
    /// # Errors
    /// As [`Self::validate`].
    pub fn validate_for(&self, rules: &TokenRules) -> Result<(), SettingsError> {
        self.validate()?;
        let vocabulary = rules.rows();
        match self
            .logit_bias
            .iter()
            .find(|(token, _)| *token as usize >= vocabulary)
        {
            Some(&(token, _)) => Err(SettingsError::BiasOutsideVocabulary { token, vocabulary }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_used_is_named() {
        let check = |change: fn(&mut SamplerSettings), want: &str| {
            let mut settings = SamplerSettings::default();
            change(&mut settings);
            let error = settings.validate_for(&TokenRules::all(10)).unwrap_err();
            assert_eq!(error.to_string(), want);
        };
        check(
            |s| s.temperature = -1.0,
            "temperature is -1, expected 0 to 100",
        );
        check(
            |s| s.typical_p = f32::NAN,
            "typical_p is NaN, expected 0 to 1",
        );
        check(
            |s| s.samplers = vec![Stage::TopK, Stage::TopP, Stage::TopK],
            "top_k appears twice in the order of samplers; name each at most once",
        );
        check(
            |s| s.logit_bias = vec![(3, -1.0), (10, 1.0)],
            "logit bias names token 10, and the vocabulary has 10",
        );
        check(
            |s| s.logit_bias = vec![(3, f32::INFINITY)],
            "logit bias of token 3 is inf, expected a number",
        );
        assert_eq!(SamplerSettings::default().validate(), Ok(()));
    }
}
