//! Messages made of blocks, as the family's templates see them.

use serde_json::{Value, json};
use text::Message;
use text::template::{Content, FunctionCall, MessageToolCall};

use crate::billing;
use crate::error::ApiError;

/// The system prompt: text, or blocks of text; `None` if it says nothing.
pub(super) fn system(system: &Value) -> Result<Option<Message>, ApiError> {
    let texts = match system {
        Value::Null => return Ok(None),
        Value::String(text) => vec![billing::without_header(text)],
        Value::Array(blocks) => blocks
            .iter()
            .map(|block| text_of(block, "system").map(|text| billing::without_header(&text)))
            .collect::<Result<_, _>>()?,
        _ => return Err(ApiError::bad("system", "expected text or a list of blocks")),
    };
    let texts: Vec<String> = texts.into_iter().filter(|text| !text.is_empty()).collect();
    Ok((!texts.is_empty()).then(|| Message::new("system", texts.join("\n\n"))))
}

/// One message: results of tools are messages of their own.
pub(super) fn message(role: &str, content: &Value) -> Result<Vec<Message>, ApiError> {
    let blocks = match content {
        Value::String(text) => return Ok(vec![Message::new(role, stable(role, text.clone()))]),
        Value::Array(blocks) => blocks,
        _ => {
            let why = "content has to be text or a list of blocks";
            return Err(ApiError::bad("messages", why));
        }
    };
    let mut messages = Vec::new();
    let mut message = Message {
        role: role.to_owned(),
        ..Message::default()
    };
    let mut texts: Vec<String> = Vec::new();
    for block in blocks {
        match block["type"].as_str() {
            Some("thinking") => {
                let thought = block["thinking"].as_str().unwrap_or_default();
                message
                    .reasoning_content
                    .get_or_insert_default()
                    .push_str(thought);
            }
            Some("tool_use") => message.tool_calls.push(call(block)?),
            Some("tool_result") => messages.push(result(block)?),
            // Nobody but its maker can read the one; the others were run elsewhere.
            Some("redacted_thinking" | "server_tool_use" | "web_search_tool_result") => {}
            _ => texts.push(text_of(block, "messages")?),
        }
    }
    if !texts.is_empty() {
        message.content = Some(Content::Text(stable(role, texts.concat())));
    }
    let says_something = message.content.is_some()
        || message.reasoning_content.is_some()
        || !message.tool_calls.is_empty();
    if says_something || messages.is_empty() {
        message.content.get_or_insert(Content::Text(String::new()));
        messages.push(message);
    }
    Ok(messages)
}

/// What system messages say, without what changes with every request.
fn stable(role: &str, text: String) -> String {
    if matches!(role, "system" | "developer") {
        billing::without_header(&text)
    } else {
        text
    }
}

fn call(block: &Value) -> Result<MessageToolCall, ApiError> {
    let name = block["name"].as_str();
    let name = name.ok_or_else(|| ApiError::bad("messages", "a tool_use block has no name"))?;
    Ok(MessageToolCall {
        id: block["id"].as_str().map(str::to_owned),
        kind: Some("function".to_owned()),
        function: FunctionCall {
            name: name.to_owned(),
            arguments: block["input"].clone(),
        },
    })
}

fn result(block: &Value) -> Result<Message, ApiError> {
    let text = match &block["content"] {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(blocks) => {
            let texts: Result<Vec<String>, ApiError> = blocks
                .iter()
                .map(|block| text_of(block, "messages"))
                .collect();
            texts?.concat()
        }
        other => other.to_string(),
    };
    Ok(Message {
        tool_call_id: block["tool_use_id"].as_str().map(str::to_owned),
        ..Message::new("tool", text)
    })
}

fn text_of(block: &Value, field: &'static str) -> Result<String, ApiError> {
    if let Value::String(text) = block {
        return Ok(text.clone());
    }
    let text = block["text"].as_str().or_else(|| {
        let source = &block["source"];
        (source["type"] == "text").then(|| source["data"].as_str())?
    });
    text.map(str::to_owned).ok_or_else(|| {
        let kind = block["type"].as_str().unwrap_or("unknown");
        let why = format!("a block of the type {kind:?} cannot be read; only text can");
        ApiError::bad(field, why)
    })
}

/// The tools in the form that templates show to the model. What the client's maker runs by itself
/// has no schema, and is not the model's to call.
pub(super) fn tools(tools: &[Value]) -> Vec<Value> {
    let functions = tools.iter().filter(|tool| tool["input_schema"].is_object());
    functions
        .map(|tool| {
            let mut function = json!({"name": tool["name"]});
            if tool["description"].is_string() {
                function["description"] = tool["description"].clone();
            }
            function["parameters"] = tool["input_schema"].clone();
            json!({"type": "function", "function": function})
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_become_messages_in_their_order() {
        let content = json!([
            {"type": "tool_result", "tool_use_id": "a", "content": [{"type": "text", "text": "1"}]},
            {"type": "tool_result", "tool_use_id": "b", "content": "2"},
            {"type": "text", "text": "Go on."},
        ]);
        let messages = message("user", &content).unwrap();
        let roles: Vec<&str> = messages.iter().map(|m| m.role.as_str()).collect();
        assert_eq!(roles, ["tool", "tool", "user"]);
        assert_eq!(messages[0].tool_call_id.as_deref(), Some("a"));

        let content = json!([
            {"type": "thinking", "thinking": "Hm.", "signature": "s"},
            {"type": "text", "text": "Look:"},
            {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}},
        ]);
        let messages = message("assistant", &content).unwrap();
        assert_eq!(messages.len(), 1);
        assert_eq!(messages[0].reasoning_content.as_deref(), Some("Hm."));
        assert_eq!(
            messages[0].tool_calls[0].function.arguments,
            json!({"a": 1})
        );
        assert!(message("user", &json!([{"type": "image", "source": {}}])).is_err());
        assert!(message("user", &json!(3)).is_err());
    }

    #[test]
    fn the_system_prompt_keeps_what_stays() {
        let blocks = json!([
            {"type": "text", "text": "x-anthropic-billing-header: cch=1;"},
            {"type": "text", "text": "You are.", "cache_control": {"type": "ephemeral"}},
        ]);
        let system = system(&blocks).unwrap().unwrap();
        assert_eq!(system.content, Some(Content::Text("You are.".to_owned())));
    }
}
