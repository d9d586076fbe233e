//! Completions as a whole.

use serde_json::{Value, json};
use text::Tokenizer;

use super::super::usage;
use super::logprobs::Lists;
use super::request::Form;
use crate::answer::{Collected, CollectedChoice, Figures};
use crate::{app, random};

/// What every piece of an answer begins with.
#[derive(Debug, Clone)]
pub(super) struct Head {
    id: String,
    created: u64,
    model: String,
}

impl Head {
    pub(super) fn new(model: String) -> Self {
        Self {
            id: random::id("cmpl-"),
            created: app::now(),
            model,
        }
    }

    pub(super) fn with(&self, choices: &[Value]) -> Value {
        json!({
            "id": self.id,
            "object": "text_completion",
            "created": self.created,
            "model": self.model,
            "choices": choices,
        })
    }
}

/// The body of an answer that is not streamed.
pub(super) fn whole(
    head: &Head,
    form: &Form,
    collected: &[Collected],
    tokenizer: &Tokenizer,
) -> Value {
    let mut figures = Figures::default();
    let mut choices = Vec::new();
    for (answer, prompt) in collected.iter().zip(&form.prompts) {
        figures.join(&answer.figures);
        for choice in &answer.choices {
            let index = choices.len();
            choices.push(one(index, form, prompt, answer, choice, tokenizer));
        }
    }
    let mut body = head.with(&choices);
    body["usage"] = usage::usage(&figures);
    body["timings"] = figures.timings();
    body
}

fn one(
    index: usize,
    form: &Form,
    prompt: &str,
    answer: &Collected,
    choice: &CollectedChoice,
    tokenizer: &Tokenizer,
) -> Value {
    let mut lists = Lists::default();
    let mut text = String::new();
    if form.echoes {
        text.push_str(prompt);
        if let Some(&first) = answer.prompt.first() {
            lists.first(tokenizer.token_bytes(first).unwrap_or_default());
        }
        answer
            .prompt_logprobs
            .iter()
            .for_each(|token| lists.push(token));
    }
    text.push_str(&choice.content);
    choice.logprobs.iter().for_each(|token| lists.push(token));
    json!({
        "index": index,
        "text": text,
        "logprobs": form.logprobs.map(|_| lists.take()),
        "finish_reason": usage::finish_reason(choice.finish.reason),
    })
}
