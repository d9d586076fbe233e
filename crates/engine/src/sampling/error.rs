//! What can be wrong with a request's sampler settings.

use super::Stage;

/// A setting that cannot be used.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// A number outside its bounds, or none at all.
    #[error("{name} is {value}, expected {low} to {high}")]
    OutOfRange {
        /// The setting.
        name: &'static str,
        /// What was given.
        value: f32,
        /// The least that makes sense.
        low: f32,
        /// The most that makes sense.
        high: f32,
    },
    /// A stage that would run twice.
    #[error("{0} appears twice in the order of samplers; name each at most once")]
    TwiceInOrder(Stage),
    /// A word that names no stage.
    #[error("there is no sampler {name:?}; there are {}", Stage::names())]
    UnknownStage {
        /// What was given.
        name: String,
    },
    /// A bias for a token that the model does not have.
    #[error("logit bias names token {token}, and the vocabulary has {vocabulary}")]
    BiasOutsideVocabulary {
        /// The token.
        token: u32,
        /// How many there are.
        vocabulary: usize,
    },
    /// A bias that is not a number, or would make a token infinitely likely.
    #[error("logit bias of token {token} is {bias}, expected a number")]
    BadBias {
        /// The token.
        token: u32,
        /// What was given.
        bias: f32,
    },
    /// More top log-probabilities than anyone can use.
    #[error("{asked} top log-probabilities were asked for, and at most {most} can be")]
    TooManyLogprobs {
        /// What was asked.
        asked: usize,
        /// The bound.
        most: usize,
    },
}

impl SettingsError {
    /// The setting that is wrong, by the name that OpenAI and llama.cpp give it in a request.
    #[must_use]
    pub fn setting(&self) -> &'static str {
        match self {
            Self::OutOfRange { name, .. } => name,
            Self::TwiceInOrder(_) | Self::UnknownStage { .. } => "samplers",
            Self::BiasOutsideVocabulary { .. } | Self::BadBias { .. } => "logit_bias",
            Self::TooManyLogprobs { .. } => "top_logprobs",
        }
    }
}
