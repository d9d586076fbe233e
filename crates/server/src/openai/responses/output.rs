//! The items of a response, and the events that tell how they come about.

use serde_json::{Map, Value, json};

use super::super::logprobs;
use super::request::Form;
use crate::answer::{AnswerEvent, Finish, Reason, TokenLogprob};
use crate::error::ApiError;
use crate::{app, random};

/// A response while it is made.
pub(super) struct Output {
    id: String,
    created: u64,
    form: Form,
    /// Items that are complete.
    items: Vec<Value>,
    open: Option<Open>,
    /// Tokens whose text has not come yet, where log-probabilities were asked for.
    tokens: Vec<TokenLogprob>,
    finish: Option<Finish>,
}

/// The item that is being made.
struct Open {
    kind: Kind,
    id: String,
    /// Thoughts, text or arguments.
    text: String,
    /// Of a message.
    logprobs: Vec<Value>,
    /// Of a call.
    name: String,
    call_id: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Reasoning,
    Message,
    Call,
}

/// Takes an event: its type, and its fields but type and number.
pub(super) type Emit<'e> = &'e mut dyn FnMut(&'static str, Value);

impl Output {
    pub(super) fn new(form: Form) -> Self {
        Self {
            id: random::id("resp_"),
            created: app::now(),
            form,
            items: Vec::new(),
            open: None,
            tokens: Vec::new(),
            finish: None,
        }
    }

    /// Takes the next event of the answer.
    pub(super) fn take(&mut self, event: AnswerEvent, emit: Emit<'_>) {
        match event {
            AnswerEvent::Reasoning { text, .. } => {
                self.text(
                    Kind::Reasoning,
                    &text,
                    "response.reasoning_text.delta",
                    emit,
                );
            }
            AnswerEvent::Content { text, .. } => {
                self.text(Kind::Message, &text, "response.output_text.delta", emit);
            }
            AnswerEvent::CallStart { id, name, .. } => {
                self.close("completed", emit);
                let open = Open {
                    name,
                    call_id: id,
                    ..Open::new(Kind::Call)
                };
                self.begin(open, emit);
            }
            AnswerEvent::CallArguments { json, .. } => {
                let index = self.items.len();
                if let Some(open) = &mut self.open {
                    open.text.push_str(&json);
                    let delta = json!({"item_id": open.id, "output_index": index, "delta": json});
                    emit("response.function_call_arguments.delta", delta);
                }
            }
            AnswerEvent::CallEnd { .. } => {
                self.tokens.clear();
                self.close("completed", emit);
            }
            AnswerEvent::Token { logprob, .. } => self.tokens.push(logprob),
            AnswerEvent::Finished { finish, .. } => {
                let status = status_of(&finish);
                self.close(status, emit);
                self.finish = Some(finish);
            }
            _ => {}
        }
    }

    fn text(&mut self, kind: Kind, text: &str, delta: &'static str, emit: Emit<'_>) {
        if self.open.as_ref().is_none_or(|open| open.kind != kind) {
            self.close("completed", emit);
            self.begin(Open::new(kind), emit);
        }
        let index = self.items.len();
        let logprobs = logprobs::listed(&std::mem::take(&mut self.tokens));
        if let Some(open) = &mut self.open {
            open.text.push_str(text);
            let mut fields = json!({
                "item_id": open.id, "output_index": index, "content_index": 0, "delta": text,
            });
            if kind == Kind::Message {
                fields["logprobs"] = json!(logprobs);
                open.logprobs.extend(logprobs);
            }
            emit(delta, fields);
        }
    }

    fn begin(&mut self, open: Open, emit: Emit<'_>) {
        let index = self.items.len();
        let mut item = open.item("in_progress");
        if open.kind == Kind::Message {
            item["content"] = json!([]);
        }
        emit(
            "response.output_item.added",
            json!({"output_index": index, "item": item}),
        );
        if open.kind != Kind::Call {
            let part = json!({
                "item_id": open.id, "output_index": index, "content_index": 0, "part": open.part(),
            });
            emit("response.content_part.added", part);
        }
        self.open = Some(open);
    }

    fn close(&mut self, status: &str, emit: Emit<'_>) {
        let Some(open) = self.open.take() else {
            return;
        };
        let index = self.items.len();
        let place = json!({"item_id": open.id, "output_index": index});
        let with = |fields: Value| merged(&place, fields);
        match open.kind {
            Kind::Call => emit(
                "response.function_call_arguments.done",
                with(json!({"name": open.name, "arguments": open.text})),
            ),
            Kind::Message => emit(
                "response.output_text.done",
                with(json!({"content_index": 0, "text": open.text, "logprobs": open.logprobs})),
            ),
            Kind::Reasoning => emit(
                "response.reasoning_text.done",
                with(json!({"content_index": 0, "text": open.text})),
            ),
        }
        if open.kind != Kind::Call {
            let part = with(json!({"content_index": 0, "part": open.part()}));
            emit("response.content_part.done", part);
        }
        let item = open.item(status);
        emit(
            "response.output_item.done",
            json!({"output_index": index, "item": item}),
        );
        self.items.push(item);
    }

    /// The response as it is now.
    pub(super) fn whole(&self) -> Value {
        let status = self.finish.as_ref().map_or("in_progress", status_of);
        let is_cut = status == "incomplete";
        let mut response = json!({
            "id": self.id,
            "object": "response",
            "created_at": self.created,
            "status": status,
            "error": null,
            "incomplete_details": is_cut.then(|| json!({"reason": "max_output_tokens"})),
            "output": self.items,
            "reasoning": {"effort": null, "summary": null},
            "usage": self.finish.as_ref().map(usage),
        });
        if let Value::Object(fields) = &mut response {
            fields.extend(self.form.repeated.clone());
        }
        response
    }

    /// The type of the event that the response ends with.
    pub(super) fn end(&self) -> &'static str {
        match self.finish.as_ref().map(status_of) {
            Some("incomplete") => "response.incomplete",
            _ => "response.completed",
        }
    }

    /// The response where something failed.
    pub(super) fn failed(&self, error: &ApiError) -> Value {
        let mut response = self.whole();
        response["status"] = json!("failed");
        response["error"] = json!({"code": "server_error", "message": error.message});
        response
    }
}

impl Open {
    fn new(kind: Kind) -> Self {
        let prefix = match kind {
            Kind::Reasoning => "rs_",
            Kind::Message => "msg_",
            Kind::Call => "fc_",
        };
        Self {
            kind,
            id: random::id(prefix),
            text: String::new(),
            logprobs: Vec::new(),
            name: String::new(),
            call_id: String::new(),
        }
    }

    fn part(&self) -> Value {
        match self.kind {
            Kind::Reasoning => json!({"type": "reasoning_text", "text": self.text}),
            Kind::Message | Kind::Call => json!({
                "type": "output_text", "text": self.text, "annotations": [],
                "logprobs": self.logprobs,
            }),
        }
    }

    fn item(&self, status: &str) -> Value {
        match self.kind {
            Kind::Reasoning => {
                let is_empty = self.text.is_empty();
                let content = if is_empty {
                    json!([])
                } else {
                    json!([self.part()])
                };
                json!({
                    "id": self.id, "type": "reasoning", "status": status, "summary": [],
                    "content": content, "encrypted_content": null,
                })
            }
            Kind::Message => json!({
                "id": self.id, "type": "message", "status": status, "role": "assistant",
                "content": [self.part()],
            }),
            Kind::Call => json!({
                "id": self.id, "type": "function_call", "status": status, "call_id": self.call_id,
                "name": self.name, "arguments": self.text,
            }),
        }
    }
}

fn status_of(finish: &Finish) -> &'static str {
    match finish.reason {
        Reason::Length => "incomplete",
        Reason::Stop | Reason::Calls => "completed",
    }
}

fn usage(finish: &Finish) -> Value {
    let figures = &finish.figures;
    json!({
        "input_tokens": figures.prompt,
        "input_tokens_details": {"cached_tokens": figures.cached},
        "output_tokens": figures.generated,
        "output_tokens_details": {"reasoning_tokens": figures.reasoning},
        "total_tokens": figures.prompt + figures.generated,
    })
}

fn merged(place: &Value, fields: Value) -> Value {
    let mut all: Map<String, Value> = place.as_object().cloned().unwrap_or_default();
    if let Value::Object(fields) = fields {
        all.extend(fields);
    }
    Value::Object(all)
}
