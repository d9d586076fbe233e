//! What a client of `/v1/messages` writes.

use serde::Deserialize;
use serde_json::Value;
use text::ChatRequest;

use super::blocks;
use crate::ask::{Ask, Format, PromptAsk, SamplingAsk, ToolAsk, ToolChoice};
use crate::error::ApiError;
use crate::openai::effort_of;

/// The body. Fields that are not here mean nothing to this server: `metadata`, `service_tier`,
/// `context_management`, `mcp_servers` and others.
#[derive(Debug, Deserialize)]
pub(crate) struct MessagesBody {
    pub(super) model: Option<String>,
    messages: Vec<WireMessage>,
    #[serde(default)]
    system: Value,
    #[serde(default)]
    tools: Option<Vec<Value>>,
    #[serde(default)]
    tool_choice: Value,
    /// `{"type": "enabled", "budget_tokens": ...}`, `adaptive` or `disabled`. Without it the model
    /// does not think, as clients do not expect blocks that they did not ask for.
    #[serde(default)]
    thinking: Value,
    /// `{"effort": ..., "format": {"type": "json_schema", "schema": ...}}`
    #[serde(default)]
    output_config: Value,
    #[serde(default)]
    output_format: Value,
    max_tokens: Option<usize>,
    stop_sequences: Option<Vec<String>>,
    stream: Option<bool>,
    #[serde(flatten)]
    sampling: SamplingAsk,
}

#[derive(Debug, Deserialize)]
struct WireMessage {
    role: String,
    content: Value,
}

impl MessagesBody {
    /// The conversation alone.
    ///
    /// # Errors
    /// When it makes no sense.
    pub(super) fn into_chat(self) -> Result<ChatRequest, ApiError> {
        self.chat().map(|(chat, _)| chat)
    }

    /// What is asked for, and whether it is to be streamed.
    ///
    /// # Errors
    /// When it makes no sense.
    pub(super) fn read(self) -> Result<(Ask, bool), ApiError> {
        let (chat, budget) = self.chat()?;
        let is_strict = self
            .tools
            .iter()
            .flatten()
            .any(|tool| tool["strict"] == true);
        let tools = ToolAsk {
            choice: choice(&self.tool_choice)?,
            is_parallel: self.tool_choice["disable_parallel_tool_use"] != true,
            is_strict,
        };
        let formats = [&self.output_config["format"], &self.output_format];
        let schema = formats
            .iter()
            .map(|format| &format["schema"])
            .find(|s| s.is_object());
        let ask = Ask {
            tools,
            format: schema.map_or(Format::Free, |schema| Format::Schema(schema.clone())),
            sampling: self.sampling,
            thinking_budget: budget,
            max_tokens: self.max_tokens,
            stop: self.stop_sequences.unwrap_or_default(),
            ..Ask::new(PromptAsk::Chat(Box::new(chat)))
        };
        Ok((ask, self.stream == Some(true)))
    }

    /// The conversation, and for how many tokens the model may think.
    fn chat(&self) -> Result<(ChatRequest, Option<usize>), ApiError> {
        if self.messages.is_empty() {
            let why = "messages is empty; expected at least one";
            return Err(ApiError::bad("messages", why));
        }
        let mut messages: Vec<_> = blocks::system(&self.system)?.into_iter().collect();
        for message in &self.messages {
            messages.extend(blocks::message(&message.role, &message.content)?);
        }
        let mut chat = ChatRequest::new(messages);
        chat.tools = blocks::tools(self.tools.as_deref().unwrap_or_default());
        // A last message of the assistant is always gone on with in this dialect.
        chat.continue_last = true;
        let (is_on, budget) = self.thinking()?;
        chat.enable_thinking = Some(is_on);
        Ok((chat, budget))
    }

    fn thinking(&self) -> Result<(bool, Option<usize>), ApiError> {
        let mut budget = match self.output_config["effort"].as_str() {
            Some(effort) => effort_of(effort)?.1,
            None => None,
        };
        let asked = self.thinking["budget_tokens"].as_u64();
        budget = asked.map(|tokens| tokens as usize).or(budget);
        match self.thinking["type"].as_str() {
            Some("enabled" | "adaptive") => Ok((true, budget)),
            Some("disabled") | None => Ok((false, None)),
            Some(other) => {
                let why = format!("{other:?} is none of enabled, adaptive and disabled");
                Err(ApiError::bad("thinking", why))
            }
        }
    }
}

fn choice(choice: &Value) -> Result<ToolChoice, ApiError> {
    match (choice["type"].as_str(), choice["name"].as_str()) {
        (Some("auto"), _) => Ok(ToolChoice::Auto),
        (Some("none"), _) => Ok(ToolChoice::None),
        (Some("any"), _) => Ok(ToolChoice::Required),
        (Some("tool"), Some(name)) => Ok(ToolChoice::Named(name.to_owned())),
        _ if choice.is_null() => Ok(ToolChoice::Auto),
        _ => {
            let why = format!("{choice} is no choice; the types are auto, any, tool and none");
            Err(ApiError::bad("tool_choice", why))
        }
    }
}
