//! Renders conversations that templates refuse, and ones whose last message goes on.
//!
//! Clients send system messages in the middle, several at the start, none from a user. Published
//! templates raise errors then. A conversation that a template takes as it is, is rendered as it
//! is. One that it refuses is rearranged: a message that the template would not take goes through
//! it as one that it takes, with a key for its content, and the key's turn is made into the right
//! one afterwards. So every message stays in its place, and what was rendered before it stays the
//! beginning of the prompt.

use minijinja::Environment;
use minijinja::value::Serde;
use serde_json::{Map, Value, json};

use super::environment;
use super::error::TemplateError;

/// The variable that asks to go on with the last message, as the reference calls it.
pub(super) const CONTINUE_LAST: &str = "continue_final_message";

const TURN_START: &str = "<|im_start|>";
const TURN_END: &str = "<|im_end|>\n";

/// Renders the variables' conversation.
pub(super) fn render(
    environment: &Environment<'_>,
    mut variables: Map<String, Value>,
) -> Result<String, TemplateError> {
    let keys = Keys::unused_in(&variables);
    let is_open = variables.get(CONTINUE_LAST) == Some(&Value::Bool(true))
        && open_last(&mut variables, &keys.end());
    let rendered = match environment::render(environment, Serde(&variables).into()) {
        Err(error @ (TemplateError::Raised { .. } | TemplateError::Failed { .. })) => {
            rearranged(environment, variables, &keys).ok_or(error)?
        }
        rendered => rendered?,
    };
    if !is_open {
        return Ok(rendered);
    }
    match rendered.find(&keys.end()) {
        Some(end) => Ok(rendered[..end].to_owned()),
        None => Err(TemplateError::Failed {
            message: "the last message is not part of the prompt, so it cannot be continued"
                .to_owned(),
            line: 0,
        }),
    }
}

/// Text that the conversation does not hold.
struct Keys {
    prefix: String,
}

impl Keys {
    fn unused_in(variables: &Map<String, Value>) -> Self {
        let text = serde_json::to_string(variables).unwrap_or_default();
        let mut prefix = "\u{FFFE}".to_owned();
        // Each is longer than the one before, and the text has an end.
        while text.contains(&prefix) {
            prefix.push('\u{FFFE}');
        }
        Self { prefix }
    }

    fn end(&self) -> String {
        format!("{}end", self.prefix)
    }

    fn message(&self, index: usize) -> String {
        format!("{}{index}.", self.prefix)
    }
}

/// Puts the key where the last message, an assistant's, goes on. One without words, or with calls
/// behind them, cannot go on: then a new turn follows. Returns whether the key is there.
fn open_last(variables: &mut Map<String, Value>, key: &str) -> bool {
    let Some(Value::Array(messages)) = variables.get_mut("messages") else {
        return false;
    };
    let Some(last) = messages.last_mut().filter(|m| m["role"] == "assistant") else {
        return false;
    };
    if last.get("tool_calls").is_some() {
        return false;
    }
    for field in ["content", "reasoning_content"] {
        if let Some(Value::String(text)) = last.get_mut(field)
            && !text.is_empty()
        {
            text.push_str(key);
            variables.insert("add_generation_prompt".to_owned(), Value::Bool(false));
            return true;
        }
    }
    let is_empty = last["content"].is_null() || last["content"] == "";
    if is_empty {
        messages.pop();
        variables.insert("add_generation_prompt".to_owned(), Value::Bool(true));
    }
    false
}

/// The conversation, rearranged as described above; `None` if that does not help.
fn rearranged(
    environment: &Environment<'_>,
    mut variables: Map<String, Value>,
    keys: &Keys,
) -> Option<String> {
    let Value::Array(messages) = variables.remove("messages")? else {
        return None;
    };
    let mut messages = merge_first(messages);
    let first = usize::from(messages.first().is_some_and(|m| m["role"] == "system"));
    let mut placed = Vec::new();
    for (index, message) in messages.iter_mut().enumerate() {
        if message["content"].is_null() {
            message["content"] = json!("");
        }
        let role = message["role"].as_str().unwrap_or_default();
        match role {
            "system" if index >= first => {
                let content = message["content"].as_str()?.trim().to_owned();
                let key = keys.message(index);
                // Templates take such a message for a tool's result, not for a question.
                let result = format!("<tool_response>{key}</tool_response>");
                *message = json!({"role": "user", "content": result});
                placed.push((result, content));
            }
            "system" | "user" | "assistant" | "tool" => {}
            _ => message["role"] = json!("user"),
        }
    }
    let is_question = |message: &Value| {
        let is_result = |text: &str| placed.iter().any(|(result, _)| result == text);
        message["role"] == "user" && !message["content"].as_str().is_some_and(is_result)
    };
    let lacks_question = !messages.is_empty() && !messages.iter().any(is_question);
    let question = keys.message(messages.len());
    if lacks_question {
        messages.insert(first, json!({"role": "user", "content": question}));
    }
    variables.insert("messages".to_owned(), Value::Array(messages));
    let mut text = environment::render(environment, Serde(&variables).into()).ok()?;
    if lacks_question {
        let at = text.find(&question)?;
        let start = text[..at].rfind(TURN_START)?;
        let end = at + text[at..].find(TURN_END)? + TURN_END.len();
        text.replace_range(start..end, "");
    }
    for (result, content) in placed {
        let at = text.find(&result)?;
        let before = text[..at].strip_suffix("user\n")?.len();
        let system = format!("system\n{content}");
        text.replace_range(before..at + result.len(), &system);
    }
    Some(text)
}

/// Joins the system messages that a conversation begins with.
fn merge_first(messages: Vec<Value>) -> Vec<Value> {
    let mut merged: Vec<Value> = Vec::with_capacity(messages.len());
    for message in messages {
        match merged.as_mut_slice() {
            [first] if first["role"] == "system" && message["role"] == "system" => {
                let texts = [&first["content"], &message["content"]];
                let texts: Vec<&str> = texts
                    .iter()
                    .filter_map(|text| text.as_str())
                    .map(str::trim)
                    .filter(|text| !text.is_empty())
                    .collect();
                let joined = texts.join("\n\n");
                first["content"] = Value::String(joined);
            }
            _ => merged.push(message),
        }
    }
    merged
}
