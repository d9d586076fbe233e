//! A conversation's messages, as clients write them.

use serde::Deserialize;
use serde_json::Value;
use text::Message;
use text::template::{Content, FunctionCall, MessageToolCall};

use crate::billing;
use crate::error::ApiError;

/// One message. What is not named here has no meaning for the prompt.
#[derive(Debug, Deserialize)]
pub(super) struct WireMessage {
    role: String,
    #[serde(default)]
    content: Value,
    #[serde(default)]
    refusal: Option<String>,
    /// What the assistant thought before, as most write it.
    #[serde(default)]
    reasoning_content: Value,
    /// The same, as others write it.
    #[serde(default)]
    reasoning: Value,
    #[serde(default)]
    tool_calls: Option<Vec<WireCall>>,
    /// What came before `tool_calls`.
    #[serde(default)]
    function_call: Option<FunctionCall>,
    #[serde(default)]
    tool_call_id: Option<String>,
    #[serde(default)]
    name: Option<String>,
}

#[derive(Debug, Deserialize)]
struct WireCall {
    #[serde(default)]
    id: Option<String>,
    function: FunctionCall,
}

/// The messages as templates see them.
///
/// # Errors
/// When there are none, or one says something that is no text.
pub(super) fn read(messages: Vec<WireMessage>) -> Result<Vec<Message>, ApiError> {
    if messages.is_empty() {
        let why = "messages is empty; expected at least one";
        return Err(ApiError::bad("messages", why));
    }
    messages.into_iter().map(WireMessage::read).collect()
}

impl WireMessage {
    fn read(self) -> Result<Message, ApiError> {
        let mut text = text_of(&self.content)?;
        if let (None, Some(refusal)) = (&text, self.refusal) {
            text = Some(refusal);
        }
        if matches!(self.role.as_str(), "system" | "developer") {
            text = text.map(|text| billing::without_header(&text));
        }
        let thought = [self.reasoning_content, self.reasoning];
        let reasoning_content = thought
            .iter()
            .filter_map(Value::as_str)
            .find(|text| !text.is_empty())
            .map(str::to_owned);
        let call = |call: WireCall| MessageToolCall {
            id: call.id,
            kind: Some("function".to_owned()),
            function: call.function,
        };
        let mut tool_calls: Vec<MessageToolCall> = self
            .tool_calls
            .unwrap_or_default()
            .into_iter()
            .map(call)
            .collect();
        tool_calls.extend(self.function_call.map(|function| MessageToolCall {
            id: None,
            kind: Some("function".to_owned()),
            function,
        }));
        Ok(Message {
            role: self.role,
            content: text.map(Content::Text),
            reasoning_content,
            tool_calls,
            tool_call_id: self.tool_call_id,
            name: self.name,
        })
    }
}

/// The text of a content: text, parts of text, or nothing.
fn text_of(content: &Value) -> Result<Option<String>, ApiError> {
    let part = |part: &Value| -> Result<String, ApiError> {
        if let Value::String(text) = part {
            return Ok(text.clone());
        }
        if let Some(text) = part.get("text").and_then(Value::as_str) {
            return Ok(text.to_owned());
        }
        if let Some(text) = part.get("refusal").and_then(Value::as_str) {
            return Ok(text.to_owned());
        }
        let kind = part["type"].as_str().unwrap_or("unknown");
        let why = format!("content of the type {kind:?} cannot be read; only text can");
        Err(ApiError::bad("messages", why))
    };
    match content {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text.clone())),
        Value::Array(parts) => {
            let texts: Result<Vec<String>, ApiError> = parts.iter().map(part).collect();
            Ok(Some(texts?.concat()))
        }
        Value::Object(_) => part(content).map(Some),
        other => {
            let why = format!("content is {other}; expected text or a list of parts");
            Err(ApiError::bad("messages", why))
        }
    }
}
