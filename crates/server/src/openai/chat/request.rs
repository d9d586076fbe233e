//! What a chat's client writes.

use serde::Deserialize;
use serde_json::Value;
use text::ChatRequest;

use super::super::format::FormatFields;
use super::super::lenient::{OneOrMany, bound};
use super::super::messages::{self, WireMessage};
use super::super::thinking::ThinkingFields;
use super::super::tools;
use crate::ask::{Ask, PromptAsk, SamplingAsk};
use crate::error::ApiError;

/// The body. Fields that are not here mean nothing to this server and are passed over: `user`,
/// `metadata`, `store`, `service_tier` and others.
#[derive(Debug, Deserialize)]
pub(crate) struct ChatBody {
    pub(crate) model: Option<String>,
    messages: Vec<WireMessage>,
    #[serde(default)]
    tools: Option<Vec<Value>>,
    #[serde(default)]
    functions: Option<Vec<Value>>,
    #[serde(default)]
    tool_choice: Value,
    #[serde(default)]
    function_call: Value,
    parallel_tool_calls: Option<bool>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    /// llama.cpp's: tell how far the prompt is read.
    return_progress: Option<bool>,
    max_tokens: Option<i64>,
    max_completion_tokens: Option<i64>,
    stop: Option<OneOrMany>,
    n: Option<usize>,
    logprobs: Option<bool>,
    top_logprobs: Option<usize>,
    /// Whether a last message of the assistant is continued (it is, unless this says no).
    continue_final_message: Option<bool>,
    add_generation_prompt: Option<bool>,
    /// llama.cpp's: whether cached prompts may be used.
    cache_prompt: Option<bool>,
    #[serde(flatten)]
    thinking: ThinkingFields,
    #[serde(flatten)]
    format: FormatFields,
    #[serde(flatten)]
    sampling: SamplingAsk,
}

#[derive(Debug, Default, Clone, Copy, Deserialize)]
struct StreamOptions {
    include_usage: Option<bool>,
}

/// How the answer is written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Form {
    pub(super) is_streamed: bool,
    /// Whether a stream's last piece tells what it cost.
    pub(super) tells_usage: bool,
    pub(super) tells_progress: bool,
    pub(super) tells_logprobs: bool,
}

impl ChatBody {
    /// The conversation alone, as `/apply-template` needs it.
    ///
    /// # Errors
    /// When messages or tools make no sense.
    pub(crate) fn into_chat(self) -> Result<ChatRequest, ApiError> {
        let (ask, _) = self.read()?;
        match ask.prompt {
            PromptAsk::Chat(chat) => Ok(*chat),
            PromptAsk::Text(_) | PromptAsk::Tokens(_) => unreachable!("chats are conversations"),
        }
    }

    /// What is asked for, and how it is to be written.
    ///
    /// # Errors
    /// When it makes no sense.
    pub(super) fn read(self) -> Result<(Ask, Form), ApiError> {
        let form = Form {
            is_streamed: self.stream == Some(true),
            tells_usage: self.stream_options.unwrap_or_default().include_usage == Some(true),
            tells_progress: self.return_progress == Some(true),
            tells_logprobs: self.logprobs == Some(true) || self.top_logprobs.is_some(),
        };
        let mut chat = ChatRequest::new(messages::read(self.messages)?);
        chat.tools = tools::functions(self.tools, self.functions)?;
        let is_open = chat
            .messages
            .last()
            .is_some_and(|last| last.role == "assistant");
        let is_closed = self.continue_final_message == Some(false)
            || (self.continue_final_message.is_none() && self.add_generation_prompt == Some(true));
        chat.continue_last = is_open && !is_closed;
        let choice = match &self.tool_choice {
            Value::Null => &self.function_call,
            choice => choice,
        };
        let tools = tools::ask(&chat.tools, choice, self.parallel_tool_calls)?;
        let thinking = self.thinking.apply(&mut chat)?;
        let max_tokens = match self.max_completion_tokens {
            None => bound("max_tokens", self.max_tokens)?,
            most => bound("max_completion_tokens", most)?,
        };
        let ask = Ask {
            tools,
            format: self.format.read()?,
            sampling: self.sampling,
            thinking_budget: thinking.budget,
            reasoning: thinking.format,
            max_tokens,
            stop: self.stop.map(OneOrMany::into_list).unwrap_or_default(),
            choices: self.n.unwrap_or(1),
            logprobs: form.tells_logprobs.then(|| self.top_logprobs.unwrap_or(0)),
            cache: self.cache_prompt.unwrap_or(true),
            ..Ask::new(PromptAsk::Chat(Box::new(chat)))
        };
        Ok((ask, form))
    }
}
