//! Messages as they come: one block after the other.

use serde_json::{Value, json};

use super::error_body;
use super::response::{Head, end, signature, tool_id, usage};
use crate::answer::{AnswerEvent, Figures, Finish};
use crate::error::ApiError;
use crate::http::{Encoder, named};

/// Writes an answer's events as those of a message.
pub(super) struct MessageStream {
    head: Head,
    has_begun: bool,
    /// The block that is open, and the number of those before it.
    open: Option<Block>,
    blocks: usize,
    finish: Option<Finish>,
}

enum Block {
    /// With what was thought so far, which is signed at its end.
    Thinking(String),
    Text,
    Call,
}

impl MessageStream {
    pub(super) fn new(head: Head) -> Self {
        Self {
            head,
            has_begun: false,
            open: None,
            blocks: 0,
            finish: None,
        }
    }

    fn message_start(&mut self, prompt: usize, cached: usize, out: &mut String) {
        self.has_begun = true;
        let figures = Figures {
            prompt,
            cached,
            ..Figures::default()
        };
        let message = self
            .head
            .message(&[], (Value::Null, Value::Null), &usage(&figures));
        emit(json!({"type": "message_start", "message": message}), out);
        out.push_str(PING);
    }

    fn start(&mut self, block: Block, content: &Value, out: &mut String) {
        self.stop(out);
        let index = self.blocks;
        emit(
            json!({"type": "content_block_start", "index": index, "content_block": content}),
            out,
        );
        self.open = Some(block);
    }

    fn delta(&self, delta: &Value, out: &mut String) {
        emit(
            json!({"type": "content_block_delta", "index": self.blocks, "delta": delta}),
            out,
        );
    }

    /// Closes the block that is open.
    fn stop(&mut self, out: &mut String) {
        let Some(block) = self.open.take() else {
            return;
        };
        if let Block::Thinking(thought) = &block {
            let signature = signature(thought);
            self.delta(
                &json!({"type": "signature_delta", "signature": signature}),
                out,
            );
        }
        emit(
            json!({"type": "content_block_stop", "index": self.blocks}),
            out,
        );
        self.blocks += 1;
    }
}

const PING: &str = "event: ping\ndata: {\"type\":\"ping\"}\n\n";

fn emit(event: Value, out: &mut String) {
    let name = event["type"].as_str().unwrap_or_default().to_owned();
    named(&name, &event, out);
}

impl Encoder for MessageStream {
    fn event(&mut self, event: AnswerEvent, out: &mut String) {
        match event {
            AnswerEvent::Started { prompt, cached } => self.message_start(prompt, cached, out),
            AnswerEvent::Reasoning { text, .. } => {
                if !matches!(self.open, Some(Block::Thinking(_))) {
                    let empty = json!({"type": "thinking", "thinking": "", "signature": ""});
                    self.start(Block::Thinking(String::new()), &empty, out);
                }
                self.delta(&json!({"type": "thinking_delta", "thinking": text}), out);
                if let Some(Block::Thinking(thought)) = &mut self.open {
                    thought.push_str(&text);
                }
            }
            AnswerEvent::Content { text, .. } => {
                if !matches!(self.open, Some(Block::Text)) {
                    self.start(Block::Text, &json!({"type": "text", "text": ""}), out);
                }
                self.delta(&json!({"type": "text_delta", "text": text}), out);
            }
            AnswerEvent::CallStart { id, name, .. } => {
                let id = tool_id(&id);
                let call = json!({"type": "tool_use", "id": id, "name": name, "input": {}});
                self.start(Block::Call, &call, out);
            }
            AnswerEvent::CallArguments { json: part, .. } => {
                self.delta(
                    &json!({"type": "input_json_delta", "partial_json": part}),
                    out,
                );
            }
            AnswerEvent::CallEnd { .. } => self.stop(out),
            AnswerEvent::Finished { finish, .. } => self.finish = Some(finish),
            AnswerEvent::Prompt { .. }
            | AnswerEvent::PromptLogprobs { .. }
            | AnswerEvent::Progress { .. }
            | AnswerEvent::Token { .. }
            | AnswerEvent::Failed(_) => {}
        }
    }

    fn end(&mut self, out: &mut String) {
        self.stop(out);
        if let Some(finish) = &self.finish {
            let (reason, sequence) = end(finish);
            emit(
                json!({
                    "type": "message_delta",
                    "delta": {"stop_reason": reason, "stop_sequence": sequence},
                    "usage": usage(&finish.figures),
                }),
                out,
            );
        }
        emit(json!({"type": "message_stop"}), out);
    }

    fn failed(&mut self, error: &ApiError, out: &mut String) {
        named("error", &error_body(error), out);
    }

    /// Before the message has begun, its clients expect nothing else.
    fn keep_alive(&self) -> Option<&'static str> {
        Some(if self.has_begun {
            PING
        } else {
            ": keep-alive\n\n"
        })
    }
}
