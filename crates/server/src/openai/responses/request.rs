//! What a client of `/v1/responses` writes.

use serde::Deserialize;
use serde_json::{Map, Value, json};
use text::ChatRequest;

use super::super::format::read_response_format;
use super::super::lenient::bound;
use super::super::thinking::ThinkingFields;
use super::super::tools;
use super::items;
use crate::ask::{Ask, PromptAsk, SamplingAsk};
use crate::error::ApiError;

/// The body. Fields that are not here mean nothing to this server. Nothing is stored, whatever
/// `store` says, and the answer says so.
#[derive(Debug, Deserialize)]
pub(crate) struct ResponsesBody {
    pub(super) model: Option<String>,
    #[serde(default)]
    input: Value,
    instructions: Option<String>,
    previous_response_id: Option<String>,
    #[serde(default)]
    tools: Option<Vec<Value>>,
    #[serde(default)]
    tool_choice: Value,
    parallel_tool_calls: Option<bool>,
    #[serde(default)]
    text: Value,
    max_output_tokens: Option<i64>,
    top_logprobs: Option<usize>,
    stream: Option<bool>,
    #[serde(default)]
    metadata: Value,
    #[serde(flatten)]
    thinking: ThinkingFields,
    #[serde(flatten)]
    sampling: SamplingAsk,
}

/// How the answer is written.
#[derive(Debug)]
pub(super) struct Form {
    pub(super) is_streamed: bool,
    /// What the answer repeats of the request.
    pub(super) repeated: Map<String, Value>,
}

impl Form {
    /// Says which model answers.
    pub(super) fn set_model(&mut self, name: &str) {
        self.repeated.insert("model".to_owned(), json!(name));
    }
}

impl ResponsesBody {
    /// What is asked for, and how it is to be written.
    ///
    /// # Errors
    /// When it makes no sense.
    pub(super) fn read(self) -> Result<(Ask, Form), ApiError> {
        if self.previous_response_id.is_some() {
            let why = "this server stores no responses; send the whole conversation in `input`";
            return Err(ApiError::bad("previous_response_id", why));
        }
        let form = Form {
            is_streamed: self.stream == Some(true),
            repeated: self.repeated(),
        };
        let messages = items::read(self.instructions.as_deref(), &self.input)?;
        let mut chat = ChatRequest::new(messages);
        let functions = self.tools.unwrap_or_default().into_iter();
        let functions = functions
            .filter(|tool| tool["type"] == "function")
            .map(nested);
        chat.tools = tools::functions(Some(functions.collect()), None)?;
        let is_open = chat
            .messages
            .last()
            .is_some_and(|last| last.role == "assistant");
        chat.continue_last = is_open;
        let tools = tools::ask(&chat.tools, &self.tool_choice, self.parallel_tool_calls)?;
        let thinking = self.thinking.apply(&mut chat)?;
        let ask = Ask {
            tools,
            format: read_response_format(&self.text["format"])?,
            sampling: self.sampling,
            thinking_budget: thinking.budget,
            reasoning: thinking.format,
            max_tokens: bound("max_output_tokens", self.max_output_tokens)?,
            logprobs: self.top_logprobs.filter(|&top| top > 0),
            ..Ask::new(PromptAsk::Chat(Box::new(chat)))
        };
        Ok((ask, form))
    }

    fn repeated(&self) -> Map<String, Value> {
        let or = |value: &Value, usual: Value| {
            if value.is_null() {
                usual
            } else {
                value.clone()
            }
        };
        let repeated = json!({
            "model": null,
            "instructions": self.instructions,
            "max_output_tokens": self.max_output_tokens,
            "metadata": or(&self.metadata, json!({})),
            "parallel_tool_calls": self.parallel_tool_calls.unwrap_or(true),
            "previous_response_id": null,
            "store": false,
            "temperature": self.sampling.temperature,
            "top_p": self.sampling.top_p,
            "text": or(&self.text, json!({"format": {"type": "text"}})),
            "tool_choice": or(&self.tool_choice, json!("auto")),
            "tools": self.tools.as_deref().unwrap_or_default(),
            "truncation": "disabled",
        });
        match repeated {
            Value::Object(repeated) => repeated,
            _ => Map::new(),
        }
    }
}

/// A function whose fields stand beside its type, as chats have it.
fn nested(mut tool: Value) -> Value {
    if tool.get("function").is_some() {
        return tool;
    }
    if let Some(fields) = tool.as_object_mut() {
        fields.remove("type");
    }
    json!({"type": "function", "function": tool})
}
