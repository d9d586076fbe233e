//! Reads server-sent events.

use serde_json::Value;

/// One event: its name, if it has one, and its data.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sse {
    pub(crate) name: Option<String>,
    pub(crate) data: String,
}

impl Sse {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap_or_else(|error| panic!("{error}: {}", self.data))
    }
}

/// The events of a whole body. Comments are skipped.
pub(crate) fn events(body: &str) -> Vec<Sse> {
    assert!(
        body.ends_with("\n\n"),
        "the last event is complete: {body:?}"
    );
    let event = |block: &str| {
        let mut event = Sse {
            name: None,
            data: String::new(),
        };
        for line in block.lines() {
            if let Some(data) = line.strip_prefix("data: ") {
                event.data.push_str(data);
            } else if let Some(name) = line.strip_prefix("event: ") {
                event.name = Some(name.to_owned());
            } else {
                assert!(line.starts_with(':'), "{line:?} is no line of an event");
            }
        }
        event
    };
    let events = body
        .split("\n\n")
        .filter(|block| !block.is_empty())
        .map(event);
    events.filter(|event| !event.data.is_empty()).collect()
}

/// A chat's pieces joined as clients do: the message, its finish reason, and all pieces.
pub(crate) fn chat(body: &str) -> (Value, Value, Vec<Value>) {
    let events = events(body);
    let (last, pieces) = events.split_last().unwrap();
    assert_eq!(last.data, "[DONE]");
    let pieces: Vec<Value> = pieces.iter().map(Sse::json).collect();
    let mut message = serde_json::json!({"role": "assistant", "content": null});
    let mut finish = Value::Null;
    for piece in &pieces {
        let Some(choice) = piece["choices"].get(0) else {
            continue;
        };
        assert!(finish.is_null(), "nothing follows the end: {piece}");
        finish = choice["finish_reason"].clone();
        let delta = choice["delta"].as_object().unwrap();
        for key in ["content", "reasoning_content"] {
            if let Some(text) = delta.get(key).and_then(Value::as_str) {
                let before = message[key].as_str().unwrap_or_default();
                message[key] = Value::String(format!("{before}{text}"));
            }
        }
        for call in delta
            .get("tool_calls")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            join_call(&mut message, call);
        }
    }
    (message, finish, pieces)
}

fn join_call(message: &mut Value, call: &Value) {
    if message["tool_calls"].is_null() {
        message["tool_calls"] = Value::Array(Vec::new());
    }
    let calls = message["tool_calls"].as_array_mut().unwrap();
    let index = call["index"].as_u64().unwrap() as usize;
    if index == calls.len() {
        let mut call = call.clone();
        call.as_object_mut().unwrap().remove("index");
        calls.push(call);
        return;
    }
    let arguments = &mut calls[index]["function"]["arguments"];
    let joined = format!(
        "{}{}",
        arguments.as_str().unwrap(),
        call["function"]["arguments"].as_str().unwrap()
    );
    *arguments = Value::String(joined);
}

/// A message of Anthropic's events, put together as clients do.
pub(crate) fn message(body: &str) -> Value {
    let mut message = Value::Null;
    let mut partial = String::new();
    let mut has_ended = false;
    for event in events(body) {
        let name = event.name.as_deref().unwrap();
        let event = event.json();
        assert_eq!(event["type"], name);
        assert!(!has_ended, "nothing follows the end");
        let index = event["index"].as_u64().map(|index| index as usize);
        match name {
            "message_start" => message = event["message"].clone(),
            "content_block_start" => {
                let blocks = message["content"].as_array_mut().unwrap();
                assert_eq!(index, Some(blocks.len()));
                blocks.push(event["content_block"].clone());
                partial.clear();
            }
            "content_block_delta" => {
                let block = &mut message["content"][index.unwrap()];
                let delta = &event["delta"];
                for key in ["text", "thinking", "signature"] {
                    if let Some(text) = delta[key].as_str() {
                        let joined = format!("{}{text}", block[key].as_str().unwrap());
                        block[key] = serde_json::json!(joined);
                    }
                }
                partial.push_str(delta["partial_json"].as_str().unwrap_or_default());
            }
            "content_block_stop" => {
                let block = &mut message["content"][index.unwrap()];
                if block["type"] == "tool_use" {
                    block["input"] = serde_json::from_str(&partial).unwrap();
                }
            }
            "message_delta" => {
                message["stop_reason"] = event["delta"]["stop_reason"].clone();
                message["stop_sequence"] = event["delta"]["stop_sequence"].clone();
                message["usage"] = event["usage"].clone();
            }
            "message_stop" => has_ended = true,
            "ping" => {}
            other => panic!("unknown event {other}"),
        }
    }
    assert!(has_ended);
    message
}
