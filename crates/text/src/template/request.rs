//! A conversation as templates see it.
//!
//! The fields are those of the reference's chat format; the server maps each wire format to them.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::conversation::CONTINUE_LAST;
use super::error::TemplateError;

/// Everything a template renders.
#[derive(Debug, Clone, PartialEq)]
pub struct ChatRequest {
    /// The conversation, oldest message first.
    pub messages: Vec<Message>,
    /// The tools' descriptions as the client gave them; templates print them, key order included.
    pub tools: Vec<Value>,
    /// Whether the prompt ends with the start of the assistant's turn.
    pub add_generation_prompt: bool,
    /// Whether the last message, if it is an assistant's, is to be continued: the prompt ends
    /// where its words do. One without words, or with tool calls, begins a new turn instead.
    pub continue_last: bool,
    /// Whether the model shall think; `None` leaves it to the template.
    pub enable_thinking: Option<bool>,
    /// Further variables for the template, such as `add_vision_id`.
    pub variables: Map<String, Value>,
}

impl ChatRequest {
    /// A conversation without tools that asks for an answer.
    pub fn new(messages: Vec<Message>) -> Self {
        Self {
            messages,
            tools: Vec::new(),
            add_generation_prompt: true,
            continue_last: false,
            enable_thinking: None,
            variables: Map::new(),
        }
    }

    /// The variables of the template. Absent tools are `None`, as in the reference.
    pub(crate) fn context(&self) -> Result<Value, TemplateError> {
        const RESERVED: [&str; 4] = ["messages", "tools", "add_generation_prompt", CONTINUE_LAST];
        if let Some(name) = self
            .variables
            .keys()
            .find(|name| RESERVED.contains(&name.as_str()))
        {
            return Err(TemplateError::ReservedVariable { name: name.clone() });
        }
        let messages = self
            .messages
            .iter()
            .map(Message::for_template)
            .collect::<Result<Vec<_>, _>>()?;
        let tools = match self.tools.as_slice() {
            [] => Value::Null,
            tools => Value::Array(tools.to_vec()),
        };
        let mut context = Map::new();
        context.insert("messages".to_owned(), Value::Array(messages));
        context.insert("tools".to_owned(), tools);
        context.insert("documents".to_owned(), Value::Null);
        context.insert(
            "add_generation_prompt".to_owned(),
            Value::Bool(self.add_generation_prompt),
        );
        if self.continue_last {
            context.insert(CONTINUE_LAST.to_owned(), Value::Bool(true));
        }
        context.extend(self.variables.clone());
        if let Some(thinking) = self.enable_thinking {
            context.insert("enable_thinking".to_owned(), Value::Bool(thinking));
        }
        Ok(Value::Object(context))
    }
}

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user`, `assistant` or `tool`.
    pub role: String,
    /// What was said. May be missing in an assistant's message that only calls tools.
    #[serde(default)]
    pub content: Option<Content>,
    /// What the assistant thought before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_content: Option<String>,
    /// The tools the assistant called.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<MessageToolCall>,
    /// Which call a tool's message answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
    /// Who speaks, or which tool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// What a message says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Content {
    /// Only text.
    Text(String),
    /// Texts, images and videos in order, such as `{"type": "text", "text": ...}`.
    Parts(Vec<Value>),
}

/// A tool call in an assistant's message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MessageToolCall {
    /// Names the call in the tool's answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Always `function`.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// What was called.
    pub function: FunctionCall,
}

/// A function and its arguments.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FunctionCall {
    /// The function's name.
    pub name: String,
    /// An object, or the text of one: clients send either.
    #[serde(default = "no_arguments")]
    pub arguments: Value,
}

fn no_arguments() -> Value {
    Value::Object(Map::new())
}

impl Message {
    /// A message of plain text.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self {
            role: role.into(),
            content: Some(Content::Text(content.into())),
            ..Self::default()
        }
    }

    /// The message as templates want it: arguments are an object, not its text; roles are those
    /// of the family; text that comes in parts is one text.
    fn for_template(&self) -> Result<Value, TemplateError> {
        let mut message = self.clone();
        match message.role.as_str() {
            "developer" => "system".clone_into(&mut message.role),
            "function" => "tool".clone_into(&mut message.role),
            _ => {}
        }
        if let Some(content) = &mut message.content {
            content.join_texts();
        }
        for call in &mut message.tool_calls {
            call.function.make_arguments_object();
        }
        serde_json::to_value(message).map_err(|source| TemplateError::Json {
            what: "a message".to_owned(),
            source,
        })
    }
}

impl Content {
    /// Makes parts that are all text one text.
    fn join_texts(&mut self) {
        let Content::Parts(parts) = self else {
            return;
        };
        let texts: Option<Vec<&str>> = parts.iter().map(|part| part["text"].as_str()).collect();
        if let Some(texts) = texts {
            *self = Content::Text(texts.concat());
        }
    }
}

impl FunctionCall {
    /// Makes arguments an object, which templates go through. Text of an object is parsed; what
    /// is no object at all becomes the only argument, so that the model sees what it wrote.
    fn make_arguments_object(&mut self) {
        let arguments = match std::mem::take(&mut self.arguments) {
            object @ Value::Object(_) => object,
            Value::Null => no_arguments(),
            Value::String(text) if text.trim().is_empty() => no_arguments(),
            Value::String(text) => match serde_json::from_str(&text) {
                Ok(object @ Value::Object(_)) => object,
                _ => only_argument(Value::String(text)),
            },
            other => only_argument(other),
        };
        self.arguments = arguments;
    }
}

fn only_argument(value: Value) -> Value {
    Value::Object(Map::from_iter([("arguments".to_owned(), value)]))
}
