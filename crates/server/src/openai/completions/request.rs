//! What a client of completions writes.

use serde::Deserialize;

use super::super::lenient::bound;
use super::body::{TextFields, WirePrompt};
use super::fill;
use crate::ask::{Ask, PromptAsk};
use crate::error::ApiError;
use crate::model::ServedModel;

/// Tokens of an answer where a request does not say, as this path has always had it.
const MAX_TOKENS: i64 = 16;
/// The most prompts of a request.
const MOST_PROMPTS: usize = 128;

/// The body. Fields that are not here mean nothing to this server.
#[derive(Debug, Deserialize)]
pub(crate) struct CompletionBody {
    prompt: WirePrompt,
    /// Text behind the gap that is to be filled.
    suffix: Option<String>,
    max_tokens: Option<i64>,
    n: Option<usize>,
    stream_options: Option<StreamOptions>,
    /// Log-probabilities of so many likeliest tokens beside the chosen one.
    logprobs: Option<usize>,
    /// Whether the answer begins with the prompt; with `logprobs` those of its tokens are told too.
    echo: Option<bool>,
    #[serde(flatten)]
    pub(super) fields: TextFields,
}

#[derive(Debug, Default, Clone, Copy, Deserialize)]
struct StreamOptions {
    include_usage: Option<bool>,
}

/// How the answer is written.
#[derive(Debug, Clone)]
pub(super) struct Form {
    pub(super) is_streamed: bool,
    pub(super) tells_usage: bool,
    /// For how many of the likeliest tokens log-probabilities are told.
    pub(super) logprobs: Option<usize>,
    pub(super) echoes: bool,
    /// For each prompt its text, if that is echoed.
    pub(super) prompts: Vec<String>,
    /// Answers to each prompt.
    pub(super) choices: usize,
}

impl CompletionBody {
    /// What is asked for, a prompt at a time, and how it is to be written.
    ///
    /// # Errors
    /// When it makes no sense.
    pub(super) fn read(self, model: &ServedModel) -> Result<(Vec<Ask>, Form), ApiError> {
        let prompts = self.prompt.list();
        if prompts.is_empty() || prompts.len() > MOST_PROMPTS {
            let why = format!(
                "expected 1 to {MOST_PROMPTS} prompts, got {}",
                prompts.len()
            );
            return Err(ApiError::bad("prompt", why));
        }
        let echoes = self.echo == Some(true);
        let mut form = Form {
            is_streamed: self.fields.is_streamed(),
            tells_usage: self.stream_options.unwrap_or_default().include_usage == Some(true),
            logprobs: self.logprobs,
            echoes,
            prompts: Vec::new(),
            choices: self.n.unwrap_or(1),
        };
        let fields = self.fields.read()?;
        let max_tokens = bound("max_tokens", self.max_tokens.or(Some(MAX_TOKENS)))?;
        // Editors send an empty one where there is no gap.
        let suffix = self.suffix.filter(|suffix| !suffix.is_empty());
        let mut asks = Vec::new();
        for prompt in prompts {
            form.prompts.push(match echoes {
                true => text_of(&prompt, model)?,
                false => String::new(),
            });
            let prompt = match (prompt, &suffix) {
                (prompt, None) => prompt,
                (PromptAsk::Text(text), Some(suffix)) => {
                    PromptAsk::Text(fill::prompt(&text, suffix, model.tokenizer())?)
                }
                (_, Some(_)) => {
                    let why = "a suffix needs a prompt that is text";
                    return Err(ApiError::bad("suffix", why));
                }
            };
            asks.push(Ask {
                choices: form.choices,
                logprobs: self.logprobs,
                prompt_logprobs: self.logprobs.filter(|_| echoes),
                ..fields.ask(prompt, max_tokens)
            });
        }
        Ok((asks, form))
    }
}

fn text_of(prompt: &PromptAsk, model: &ServedModel) -> Result<String, ApiError> {
    match prompt {
        PromptAsk::Text(text) => Ok(text.clone()),
        PromptAsk::Tokens(tokens) => model
            .tokenizer()
            .decode(tokens, text::tokenizer::Decode::Everything)
            .map_err(|error| ApiError::bad("prompt", error.to_string())),
        PromptAsk::Chat(_) => Err(ApiError::bad("prompt", "a conversation is no text")),
    }
}
