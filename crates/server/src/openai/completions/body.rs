//! What the bodies of all paths have that go on with a text.

use serde::Deserialize;
use text::TokenId;

use super::super::format::FormatFields;
use super::super::lenient::OneOrMany;
use crate::ask::{Ask, Format, PromptAsk, SamplingAsk};
use crate::error::ApiError;

/// Fields beside the prompt.
#[derive(Debug, Deserialize)]
pub(crate) struct TextFields {
    pub(crate) model: Option<String>,
    stream: Option<bool>,
    stop: Option<OneOrMany>,
    cache_prompt: Option<bool>,
    #[serde(flatten)]
    format: FormatFields,
    #[serde(flatten)]
    sampling: SamplingAsk,
}

/// What they ask for.
pub(crate) struct TextAsk {
    format: Format,
    sampling: SamplingAsk,
    stop: Vec<String>,
    cache: bool,
}

impl TextFields {
    pub(crate) fn is_streamed(&self) -> bool {
        self.stream == Some(true)
    }

    /// What they ask for.
    ///
    /// # Errors
    /// When they make no sense.
    pub(crate) fn read(self) -> Result<TextAsk, ApiError> {
        Ok(TextAsk {
            format: self.format.read()?,
            sampling: self.sampling,
            stop: self.stop.map(OneOrMany::into_list).unwrap_or_default(),
            cache: self.cache_prompt.unwrap_or(true),
        })
    }
}

impl TextAsk {
    /// The same for one prompt.
    pub(crate) fn ask(&self, prompt: PromptAsk, max_tokens: Option<usize>) -> Ask {
        Ask {
            format: self.format.clone(),
            sampling: self.sampling.clone(),
            stop: self.stop.clone(),
            cache: self.cache,
            max_tokens,
            ..Ask::new(prompt)
        }
    }
}

/// One prompt or several, as text or tokens.
#[derive(Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "expected text, a list of token ids, or a list of either as a prompt"
)]
pub(crate) enum WirePrompt {
    Text(String),
    Tokens(Vec<TokenId>),
    Texts(Vec<String>),
    ManyTokens(Vec<Vec<TokenId>>),
}

impl WirePrompt {
    /// As a list.
    pub(crate) fn list(self) -> Vec<PromptAsk> {
        match self {
            Self::Text(text) => vec![PromptAsk::Text(text)],
            Self::Tokens(tokens) => vec![PromptAsk::Tokens(tokens)],
            Self::Texts(texts) => texts.into_iter().map(PromptAsk::Text).collect(),
            Self::ManyTokens(lists) => lists.into_iter().map(PromptAsk::Tokens).collect(),
        }
    }
}
