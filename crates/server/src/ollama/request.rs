//! What Ollama's clients write.

use serde::Deserialize;
use serde_json::Value;
use text::template::{Content, FunctionCall, MessageToolCall};
use text::{ChatRequest, Message};

use super::keep_alive;
use crate::ask::{Ask, Format, PromptAsk, SamplingAsk};
use crate::error::ApiError;
use crate::model::ServedModel;
use crate::models::KeptLoaded;
use crate::openai::{OneOrMany, bound, effort_of, fill, functions};

/// The body of `/api/chat`. Fields that are not here mean nothing to this server.
#[derive(Debug, Deserialize)]
pub(crate) struct ChatBody {
    #[serde(default)]
    messages: Option<Vec<WireMessage>>,
    #[serde(default)]
    tools: Option<Vec<Value>>,
    #[serde(flatten)]
    rest: Rest,
}

/// The body of `/api/generate`.
#[derive(Debug, Deserialize)]
pub(crate) struct GenerateBody {
    #[serde(default)]
    prompt: Option<String>,
    #[serde(default)]
    suffix: Option<String>,
    #[serde(default)]
    system: Option<String>,
    #[serde(default)]
    images: Option<Vec<Value>>,
    /// Whether the prompt is continued as it is.
    raw: Option<bool>,
    #[serde(flatten)]
    rest: Rest,
}

/// What a request says of itself.
#[derive(Debug)]
pub(super) struct About {
    pub(super) model: Option<String>,
    pub(super) is_streamed: bool,
    /// For how long the model stays loaded afterwards.
    pub(super) kept: Option<KeptLoaded>,
}

/// What both have.
#[derive(Debug, Deserialize)]
struct Rest {
    #[serde(alias = "name")]
    model: Option<String>,
    #[serde(default)]
    keep_alive: Value,
    stream: Option<bool>,
    /// `true`, `false` or an effort.
    #[serde(default)]
    think: Value,
    /// `"json"` or a schema.
    #[serde(default)]
    format: Value,
    #[serde(default)]
    options: Option<Options>,
}

#[derive(Debug, Default, Deserialize)]
struct Options {
    num_predict: Option<i64>,
    stop: Option<OneOrMany>,
    #[serde(flatten)]
    sampling: SamplingAsk,
}

#[derive(Debug, Deserialize)]
struct WireMessage {
    role: String,
    #[serde(default)]
    content: Option<String>,
    #[serde(default)]
    thinking: Option<String>,
    #[serde(default)]
    images: Option<Vec<Value>>,
    #[serde(default)]
    tool_calls: Option<Vec<WireCall>>,
    #[serde(default)]
    tool_name: Option<String>,
}

#[derive(Debug, Deserialize)]
struct WireCall {
    function: FunctionCall,
}

impl ChatBody {
    /// For which model it is, and how it is to be answered.
    ///
    /// # Errors
    /// When it makes no sense.
    pub(super) fn about(&self) -> Result<About, ApiError> {
        self.rest.about()
    }

    /// What is asked for, if anything is.
    ///
    /// # Errors
    /// When it makes no sense.
    pub(super) fn read(self) -> Result<Option<Ask>, ApiError> {
        let messages = self.messages.unwrap_or_default();
        if messages.is_empty() {
            return Ok(None);
        }
        let messages: Result<Vec<Message>, ApiError> =
            messages.into_iter().map(WireMessage::read).collect();
        let mut chat = ChatRequest::new(messages?);
        chat.tools = functions(self.tools, None)?;
        chat.continue_last = true;
        self.rest.ask_chat(chat).map(Some)
    }
}

impl GenerateBody {
    /// As [`ChatBody::about`].
    ///
    /// # Errors
    /// When it makes no sense.
    pub(super) fn about(&self) -> Result<About, ApiError> {
        no_images(self.images.as_ref())?;
        self.rest.about()
    }

    /// Whether anything is asked for.
    pub(super) fn asks(&self) -> bool {
        self.prompt
            .as_ref()
            .is_some_and(|prompt| !prompt.is_empty())
    }

    /// What is asked for.
    ///
    /// # Errors
    /// When it makes no sense.
    pub(super) fn read(self, model: &ServedModel) -> Result<Ask, ApiError> {
        let prompt = self.prompt.unwrap_or_default();
        if let Some(suffix) = self.suffix.filter(|suffix| !suffix.is_empty()) {
            let text = fill::prompt(&prompt, &suffix, model.tokenizer())?;
            return self.rest.ask(PromptAsk::Text(text));
        }
        if self.raw == Some(true) {
            return self.rest.ask(PromptAsk::Text(prompt));
        }
        let system = self.system.filter(|text| !text.is_empty());
        let mut messages: Vec<Message> = system
            .map(|text| Message::new("system", text))
            .into_iter()
            .collect();
        messages.push(Message::new("user", prompt));
        self.rest.ask_chat(ChatRequest::new(messages))
    }
}

impl Rest {
    fn about(&self) -> Result<About, ApiError> {
        Ok(About {
            model: self.model.clone(),
            is_streamed: self.stream != Some(false),
            kept: keep_alive::read(&self.keep_alive)?,
        })
    }

    fn ask_chat(self, mut chat: ChatRequest) -> Result<Ask, ApiError> {
        let mut budget = None;
        match &self.think {
            Value::Bool(on) => chat.enable_thinking = Some(*on),
            Value::String(effort) => (chat.enable_thinking, budget) = effort_of(effort)?,
            _ => {}
        }
        Ok(Ask {
            thinking_budget: budget,
            ..self.ask(PromptAsk::Chat(Box::new(chat)))?
        })
    }

    fn ask(self, prompt: PromptAsk) -> Result<Ask, ApiError> {
        let options = self.options.unwrap_or_default();
        let format = match self.format {
            Value::Null => Format::Free,
            Value::String(name) if name.is_empty() => Format::Free,
            Value::String(name) if name == "json" => Format::JsonObject,
            schema @ Value::Object(_) => Format::Schema(schema),
            other => {
                let why = format!("{other} is no format; expected \"json\" or a JSON schema");
                return Err(ApiError::bad("format", why));
            }
        };
        Ok(Ask {
            format,
            sampling: options.sampling,
            max_tokens: bound("num_predict", options.num_predict)?,
            stop: options.stop.map(OneOrMany::into_list).unwrap_or_default(),
            ..Ask::new(prompt)
        })
    }
}

impl WireMessage {
    fn read(self) -> Result<Message, ApiError> {
        no_images(self.images.as_ref())?;
        let call = |call: WireCall| MessageToolCall {
            id: None,
            kind: Some("function".to_owned()),
            function: call.function,
        };
        Ok(Message {
            role: self.role,
            content: self.content.map(Content::Text),
            reasoning_content: self.thinking.filter(|text| !text.is_empty()),
            tool_calls: self
                .tool_calls
                .unwrap_or_default()
                .into_iter()
                .map(call)
                .collect(),
            tool_call_id: None,
            name: self.tool_name,
        })
    }
}

fn no_images(images: Option<&Vec<Value>>) -> Result<(), ApiError> {
    match images {
        Some(images) if !images.is_empty() => {
            let why = "images cannot be read yet; send text only";
            Err(ApiError::bad("images", why))
        }
        _ => Ok(()),
    }
}
