//! What clients ask for, in one form for all dialects.

mod prepare;
mod sampling;
mod structure;

use engine::constraint::Grammar;
use serde_json::Value;
use text::ChatRequest;
use text::output::ReasoningFormat;

pub(crate) use prepare::{Prepared, Reading};
pub(crate) use sampling::SamplingAsk;

use crate::error::ApiError;

/// What a client asks for. Dialects make it of their JSON.
#[derive(Debug)]
pub(crate) struct Ask {
    pub(crate) prompt: PromptAsk,
    pub(crate) tools: ToolAsk,
    pub(crate) format: Format,
    pub(crate) sampling: SamplingAsk,
    /// The most tokens of thinking.
    pub(crate) thinking_budget: Option<usize>,
    /// Where reasoning goes; `None` for the server's setting.
    pub(crate) reasoning: Option<ReasoningFormat>,
    /// The most tokens of each answer; `None` for as many as fit.
    pub(crate) max_tokens: Option<usize>,
    /// Texts that end an answer.
    pub(crate) stop: Vec<String>,
    /// How many answers.
    pub(crate) choices: usize,
    /// For how many of the likeliest tokens beside the chosen one log-probabilities are told;
    /// `None` for no log-probabilities.
    pub(crate) logprobs: Option<usize>,
    /// The same for the prompt's tokens.
    pub(crate) prompt_logprobs: Option<usize>,
    /// Whether cached prompts may be used.
    pub(crate) cache: bool,
}

/// What is to be answered or continued.
#[derive(Debug)]
pub(crate) enum PromptAsk {
    /// A conversation, through the model's template.
    Chat(Box<ChatRequest>),
    /// Text in which control tokens count.
    Text(String),
    /// Tokens.
    Tokens(Vec<u32>),
}

/// How tools may be called. The tools themselves are in the conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ToolAsk {
    pub(crate) choice: ToolChoice,
    /// Whether several calls may follow one another.
    pub(crate) is_parallel: bool,
    /// Whether calls have to follow the tools' schemas.
    pub(crate) is_strict: bool,
}

/// Whether tools are called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ToolChoice {
    /// As the model likes.
    Auto,
    /// Not at all: what looks like a call is text.
    None,
    /// At least one.
    Required,
    /// This one.
    Named(String),
}

/// What the answer proper has to look like.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Format {
    /// Anything.
    Free,
    /// Any JSON object.
    JsonObject,
    /// JSON of this schema.
    Schema(Value),
    /// As another grammar says.
    Grammar(Grammar),
}

impl Default for ToolAsk {
    fn default() -> Self {
        Self {
            choice: ToolChoice::Auto,
            is_parallel: true,
            is_strict: false,
        }
    }
}

impl Ask {
    /// One answer to a prompt, with all else left to the server.
    pub(crate) fn new(prompt: PromptAsk) -> Self {
        Self {
            prompt,
            tools: ToolAsk::default(),
            format: Format::Free,
            sampling: SamplingAsk::default(),
            thinking_budget: None,
            reasoning: None,
            max_tokens: None,
            stop: Vec::new(),
            choices: 1,
            logprobs: None,
            prompt_logprobs: None,
            cache: true,
        }
    }

    /// The request's tools.
    pub(crate) fn tool_list(&self) -> &[Value] {
        match &self.prompt {
            PromptAsk::Chat(chat) => &chat.tools,
            PromptAsk::Text(_) | PromptAsk::Tokens(_) => &[],
        }
    }
}

impl ToolAsk {
    /// The tools that may be called, of those there are.
    ///
    /// # Errors
    /// When the one that has to be called is not there, or one has to be called and there is none.
    pub(crate) fn callable(&self, tools: &[Value]) -> Result<Vec<Value>, ApiError> {
        let name = match &self.choice {
            ToolChoice::None => return Ok(Vec::new()),
            ToolChoice::Auto => return Ok(tools.to_vec()),
            ToolChoice::Required if tools.is_empty() => {
                let why = "tool_choice asks for a call, and the request has no tools";
                return Err(ApiError::bad("tool_choice", why));
            }
            ToolChoice::Required => return Ok(tools.to_vec()),
            ToolChoice::Named(name) => name,
        };
        let named: Vec<Value> = tools
            .iter()
            .filter(|tool| name_of(tool) == Some(name.as_str()))
            .cloned()
            .collect();
        if named.is_empty() {
            let names: Vec<&str> = tools.iter().filter_map(name_of).collect();
            let why = format!("tool_choice names {name:?}, and the tools are {names:?}");
            return Err(ApiError::bad("tool_choice", why));
        }
        Ok(named)
    }
}

/// The name of a tool, described in the OpenAI form.
fn name_of(tool: &Value) -> Option<&str> {
    tool.pointer("/function/name")
        .or_else(|| tool.get("name"))
        .and_then(Value::as_str)
}
