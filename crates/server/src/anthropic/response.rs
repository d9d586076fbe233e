//! Messages as a whole.

use serde_json::{Map, Value, json};

use crate::answer::{CollectedChoice, Figures, Finish, Reason};
use crate::random;

/// What an answer begins with.
#[derive(Debug, Clone)]
pub(super) struct Head {
    pub(super) id: String,
    pub(super) model: String,
}

impl Head {
    pub(super) fn new(model: String) -> Self {
        Self {
            id: random::id("msg_"),
            model,
        }
    }

    /// A message with its blocks.
    pub(super) fn message(&self, content: &[Value], end: (Value, Value), usage: &Value) -> Value {
        json!({
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": content,
            "stop_reason": end.0,
            "stop_sequence": end.1,
            "usage": usage,
        })
    }
}

/// The body of an answer that is not streamed.
pub(super) fn whole(head: &Head, choice: &CollectedChoice) -> Value {
    let mut blocks = Vec::new();
    if !choice.reasoning.is_empty() {
        let signature = signature(&choice.reasoning);
        blocks.push(json!({
            "type": "thinking", "thinking": choice.reasoning, "signature": signature,
        }));
    }
    if !choice.content.is_empty() {
        blocks.push(json!({"type": "text", "text": choice.content}));
    }
    for call in &choice.calls {
        // The arguments are an object's text.
        let input: Value =
            serde_json::from_str(&call.arguments).unwrap_or_else(|_| Map::new().into());
        let id = tool_id(&call.id);
        blocks.push(json!({"type": "tool_use", "id": id, "name": call.name, "input": input}));
    }
    head.message(&blocks, end(&choice.finish), &usage(&choice.finish.figures))
}

/// Why a message ended, and the stop sequence that ended it.
pub(super) fn end(finish: &Finish) -> (Value, Value) {
    let reason = match (finish.reason, &finish.stop_string) {
        (Reason::Length, _) => "max_tokens",
        (Reason::Calls, _) => "tool_use",
        (Reason::Stop, Some(_)) => "stop_sequence",
        (Reason::Stop, None) => "end_turn",
    };
    (json!(reason), json!(finish.stop_string))
}

/// Tokens; those of the prompt that were cached are counted apart.
pub(super) fn usage(figures: &Figures) -> Value {
    json!({
        "input_tokens": figures.prompt.saturating_sub(figures.cached),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": figures.cached,
        "output_tokens": figures.generated,
    })
}

/// Clients keep thinking only with something signed beside it. This one proves nothing.
pub(super) fn signature(thinking: &str) -> String {
    blake3::hash(thinking.as_bytes()).to_hex().to_string()
}

/// A call's id as this dialect writes it.
pub(super) fn tool_id(id: &str) -> String {
    id.replacen("call_", "toolu_", 1)
}
