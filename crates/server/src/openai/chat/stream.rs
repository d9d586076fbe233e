//! Chats' answers as they come.

use serde_json::{Value, json};

use super::super::{error_body, logprobs, usage};
use super::request::Form;
use super::response::Head;
use crate::answer::{AnswerEvent, Figures, Finish, TokenLogprob};
use crate::error::ApiError;
use crate::http::{Encoder, data};

/// Writes an answer's events as pieces of a chat.
pub(super) struct ChatStream {
    head: Head,
    form: Form,
    figures: Figures,
    /// For each answer what its next piece has to tell beside its text.
    pending: Vec<Pending>,
}

#[derive(Default)]
struct Pending {
    has_begun: bool,
    logprobs: Vec<TokenLogprob>,
}

impl ChatStream {
    pub(super) fn new(head: Head, form: Form) -> Self {
        Self {
            head,
            form,
            figures: Figures::default(),
            pending: Vec::new(),
        }
    }

    fn chunk(&self, choices: &Value) -> Value {
        json!({
            "id": self.head.id,
            "object": "chat.completion.chunk",
            "created": self.head.created,
            "model": self.head.model,
            "choices": choices,
        })
    }

    fn pending(&mut self, choice: usize) -> &mut Pending {
        if self.pending.len() <= choice {
            self.pending.resize_with(choice + 1, Pending::default);
        }
        &mut self.pending[choice]
    }

    fn piece(&mut self, choice: usize, delta: Value, end: Option<&str>) -> Value {
        let tells = self.form.tells_logprobs;
        let told = std::mem::take(&mut self.pending(choice).logprobs);
        let logprobs = (tells && !told.is_empty()).then(|| logprobs::of_chat(&told));
        json!([{
            "index": choice,
            "delta": delta,
            "logprobs": logprobs,
            "finish_reason": end,
        }])
    }

    fn delta(&mut self, choice: usize, delta: Value, out: &mut String) {
        if !std::mem::replace(&mut self.pending(choice).has_begun, true) {
            let first = json!({"role": "assistant", "content": null});
            let told = std::mem::take(&mut self.pending(choice).logprobs);
            let piece = self.piece(choice, first, None);
            self.pending(choice).logprobs = told;
            data(&self.chunk(&piece), out);
        }
        let piece = self.piece(choice, delta, None);
        data(&self.chunk(&piece), out);
    }

    fn finish(&mut self, choice: usize, finish: &Finish, out: &mut String) {
        self.figures.add(&finish.figures);
        if !self.pending(choice).has_begun {
            self.delta(choice, json!({"content": ""}), out);
        }
        let reason = usage::finish_reason(finish.reason);
        let piece = self.piece(choice, json!({}), Some(reason));
        let mut chunk = self.chunk(&piece);
        chunk["timings"] = finish.figures.timings();
        data(&chunk, out);
    }
}

impl Encoder for ChatStream {
    fn event(&mut self, event: AnswerEvent, out: &mut String) {
        match event {
            AnswerEvent::Progress {
                done,
                cached,
                total,
            } => {
                if self.form.tells_progress {
                    let mut chunk = self.chunk(&json!([]));
                    chunk["prompt_progress"] =
                        json!({"total": total, "cache": cached, "processed": done});
                    data(&chunk, out);
                }
            }
            AnswerEvent::Token { choice, logprob } => self.pending(choice).logprobs.push(logprob),
            AnswerEvent::Reasoning { choice, text } => {
                self.delta(choice, json!({"reasoning_content": text}), out);
            }
            AnswerEvent::Content { choice, text } => {
                self.delta(choice, json!({"content": text}), out);
            }
            AnswerEvent::CallStart {
                choice,
                index,
                id,
                name,
            } => {
                let call = json!({
                    "index": index,
                    "id": id,
                    "type": "function",
                    "function": {"name": name, "arguments": ""},
                });
                self.delta(choice, json!({"tool_calls": [call]}), out);
            }
            AnswerEvent::CallArguments {
                choice,
                index,
                json,
            } => {
                let call = json!({"index": index, "function": {"arguments": json}});
                self.delta(choice, json!({"tool_calls": [call]}), out);
            }
            AnswerEvent::Finished { choice, finish } => self.finish(choice, &finish, out),
            AnswerEvent::Prompt { .. }
            | AnswerEvent::PromptLogprobs { .. }
            | AnswerEvent::Started { .. }
            | AnswerEvent::CallEnd { .. }
            | AnswerEvent::Failed(_) => {}
        }
    }

    fn end(&mut self, out: &mut String) {
        if self.form.tells_usage {
            let mut chunk = self.chunk(&json!([]));
            chunk["usage"] = usage::usage(&self.figures);
            data(&chunk, out);
        }
        out.push_str("data: [DONE]\n\n");
    }

    fn failed(&mut self, error: &ApiError, out: &mut String) {
        data(&error_body(error), out);
        out.push_str("data: [DONE]\n\n");
    }
}
