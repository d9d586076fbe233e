//! Chats' answers as a whole.

use serde_json::{Map, Value, json};

use super::super::{logprobs, usage};
use super::request::Form;
use crate::answer::{Collected, CollectedChoice};
use crate::{app, random};

/// What every piece of an answer begins with.
#[derive(Debug, Clone)]
pub(super) struct Head {
    pub(super) id: String,
    pub(super) created: u64,
    pub(super) model: String,
}

impl Head {
    pub(super) fn new(model: String) -> Self {
        Self {
            id: random::id("chatcmpl-"),
            created: app::now(),
            model,
        }
    }
}

/// The body of an answer that is not streamed.
pub(super) fn whole(head: &Head, form: &Form, collected: &Collected) -> Value {
    let figures = &collected.figures;
    let choice = |(index, choice): (usize, &CollectedChoice)| {
        json!({
            "index": index,
            "message": message(choice),
            "logprobs": form.tells_logprobs.then(|| logprobs::of_chat(&choice.logprobs)),
            "finish_reason": usage::finish_reason(choice.finish.reason),
        })
    };
    let choices: Vec<Value> = collected.choices.iter().enumerate().map(choice).collect();
    json!({
        "id": head.id,
        "object": "chat.completion",
        "created": head.created,
        "model": head.model,
        "choices": choices,
        "usage": usage::usage(figures),
        "timings": figures.timings(),
    })
}

/// Only what is there: many clients take an empty list of calls for a call.
fn message(choice: &CollectedChoice) -> Value {
    let mut message = Map::new();
    message.insert("role".to_owned(), json!("assistant"));
    let is_silent = choice.content.is_empty() && !choice.calls.is_empty();
    let content = (!is_silent).then_some(&choice.content);
    message.insert("content".to_owned(), json!(content));
    message.insert("refusal".to_owned(), Value::Null);
    if !choice.reasoning.is_empty() {
        message.insert("reasoning_content".to_owned(), json!(choice.reasoning));
    }
    if !choice.calls.is_empty() {
        let calls = choice.calls.iter().map(|call| {
            json!({
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            })
        });
        message.insert("tool_calls".to_owned(), calls.collect());
    }
    Value::Object(message)
}
