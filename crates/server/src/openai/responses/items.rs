//! A conversation made of items, as the family's templates see it.

use serde_json::{Value, json};
use text::Message;
use text::template::{Content, FunctionCall, MessageToolCall};

use crate::billing;
use crate::error::ApiError;

/// The messages of `instructions` and `input`.
///
/// # Errors
/// When there are none, or one says something that is no text.
pub(super) fn read(instructions: Option<&str>, input: &Value) -> Result<Vec<Message>, ApiError> {
    let mut messages = Vec::new();
    if let Some(text) = instructions.filter(|text| !text.is_empty()) {
        messages.push(Message::new("system", billing::without_header(text)));
    }
    match input {
        Value::String(text) => messages.push(Message::new("user", text)),
        Value::Array(items) => {
            for item in items {
                add(item, &mut messages)?;
            }
        }
        _ => return Err(ApiError::bad("input", "expected text or a list of items")),
    }
    if messages.is_empty() {
        return Err(ApiError::bad(
            "input",
            "input is empty; expected at least one item",
        ));
    }
    Ok(messages)
}

fn add(item: &Value, messages: &mut Vec<Message>) -> Result<(), ApiError> {
    match item["type"].as_str() {
        Some("message") | None => message(item, messages),
        Some("reasoning") => {
            let thought = text_of(&item["content"])?.filter(|text| !text.is_empty());
            let thought = match thought {
                Some(thought) => Some(thought),
                None => text_of(&item["summary"])?,
            };
            if let Some(thought) = thought.filter(|text| !text.is_empty()) {
                let turn = turn(messages, |turn| {
                    turn.content.is_none() && turn.tool_calls.is_empty()
                });
                turn.reasoning_content
                    .get_or_insert_default()
                    .push_str(&thought);
            }
            Ok(())
        }
        // The model is not offered tools that take text, but another one may have called them.
        Some("function_call" | "custom_tool_call") => {
            let name = item["name"].as_str();
            let name = name.ok_or_else(|| ApiError::bad("input", "a function_call has no name"))?;
            turn(messages, |_| true).tool_calls.push(MessageToolCall {
                id: item["call_id"].as_str().map(str::to_owned),
                kind: Some("function".to_owned()),
                function: FunctionCall {
                    name: name.to_owned(),
                    arguments: arguments(item),
                },
            });
            Ok(())
        }
        Some("function_call_output" | "custom_tool_call_output") => {
            messages.push(Message {
                tool_call_id: item["call_id"].as_str().map(str::to_owned),
                ..Message::new("tool", text_of(&item["output"])?.unwrap_or_default())
            });
            Ok(())
        }
        // Things that ran elsewhere, and names of things that were stored elsewhere.
        Some(_) => Ok(()),
    }
}

/// A call's arguments; what is no JSON is the argument of that name.
fn arguments(call: &Value) -> Value {
    match &call["input"] {
        Value::String(input) => json!({"input": input}),
        _ => call["arguments"].clone(),
    }
}

fn message(item: &Value, messages: &mut Vec<Message>) -> Result<(), ApiError> {
    let role = item["role"].as_str();
    let role = role.ok_or_else(|| ApiError::bad("input", "a message has no role"))?;
    let mut text = text_of(&item["content"])?.unwrap_or_default();
    if matches!(role, "system" | "developer") {
        text = billing::without_header(&text);
    }
    if role == "assistant" {
        let turn = turn(messages, |turn| {
            turn.content.is_none() && turn.tool_calls.is_empty()
        });
        turn.content = Some(Content::Text(text));
    } else {
        messages.push(Message::new(role, text));
    }
    Ok(())
}

/// The assistant's turn that the conversation ends with, if something fits into it, or a new one.
fn turn(messages: &mut Vec<Message>, fits: impl Fn(&Message) -> bool) -> &mut Message {
    let is_open = messages
        .last()
        .is_some_and(|last| last.role == "assistant" && fits(last));
    if !is_open {
        messages.push(Message {
            role: "assistant".to_owned(),
            ..Message::default()
        });
    }
    let last = messages.len() - 1;
    &mut messages[last]
}

fn text_of(content: &Value) -> Result<Option<String>, ApiError> {
    let part = |part: &Value| {
        let text = part["text"].as_str().or_else(|| part["refusal"].as_str());
        text.map(str::to_owned).ok_or_else(|| {
            let kind = part["type"].as_str().unwrap_or("unknown");
            let why = format!("content of the type {kind:?} cannot be read; only text can");
            ApiError::bad("input", why)
        })
    };
    match content {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text.clone())),
        Value::Array(parts) => {
            let texts: Result<Vec<String>, ApiError> = parts.iter().map(part).collect();
            Ok(Some(texts?.concat()))
        }
        other => Ok(Some(other.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_of_a_turn_become_one_message() {
        let items = json!([
            {"role": "user", "content": [{"type": "input_text", "text": "Price?"}]},
            {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm."}]},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Look."}]},
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": "3"},
            {"type": "web_search_call", "id": "w"},
            {"type": "custom_tool_call", "call_id": "d", "name": "patch", "input": "*** Begin"},
            {"type": "custom_tool_call_output", "call_id": "d", "output": "done"},
        ]);
        let messages = read(Some("Be brief."), &items).unwrap();
        let roles: Vec<&str> = messages.iter().map(|m| m.role.as_str()).collect();
        assert_eq!(
            roles,
            ["system", "user", "assistant", "tool", "assistant", "tool"]
        );
        let patch = &messages[4].tool_calls[0].function;
        assert_eq!(patch.arguments, json!({"input": "*** Begin"}));
        assert_eq!(messages[2].reasoning_content.as_deref(), Some("Hm."));
        assert_eq!(messages[2].tool_calls.len(), 1);
        assert!(read(None, &json!([])).is_err());
        assert!(read(None, &json!(4)).is_err());
    }
}
