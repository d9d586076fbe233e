//! Completions as they come.

use std::sync::Arc;

use serde_json::{Value, json};
use text::Tokenizer;

use super::super::{error_body, usage};
use super::logprobs::Lists;
use super::request::Form;
use super::response::Head;
use crate::answer::{AnswerEvent, Figures, Finish};
use crate::error::ApiError;
use crate::http::{Encoder, data};

/// Writes answers' events as pieces of completions.
pub(super) struct CompletionStream {
    head: Head,
    form: Form,
    tokenizer: Arc<Tokenizer>,
    figures: Figures,
    /// Of the prompt whose answers are being written.
    of_prompt: Figures,
    unfinished: usize,
    lists: Vec<Lists>,
}

impl CompletionStream {
    pub(super) fn new(head: Head, form: Form, tokenizer: Arc<Tokenizer>) -> Self {
        let answers = form.prompts.len() * form.choices;
        Self {
            head,
            tokenizer,
            figures: Figures::default(),
            of_prompt: Figures::default(),
            unfinished: form.choices,
            lists: (0..answers).map(|_| Lists::default()).collect(),
            form,
        }
    }

    fn piece(&mut self, choice: usize, text: &str, end: Option<&str>, out: &mut String) {
        let wanted = self.form.logprobs.is_some();
        let lists = self
            .lists
            .get_mut(choice)
            .filter(|lists| wanted && !lists.is_empty());
        let logprobs = lists.map(Lists::take);
        let piece = json!({
            "index": choice,
            "text": text,
            "logprobs": logprobs,
            "finish_reason": end,
        });
        data(&self.head.with(&[piece]), out);
    }

    /// The prompt, as the first piece of each of its answers.
    fn echo(&mut self, prompt: &[u32], first: usize, out: &mut String) {
        let text = self
            .form
            .prompts
            .get(first / self.form.choices.max(1))
            .cloned();
        for choice in first..first + self.form.choices {
            if let (Some(lists), Some(&token)) = (self.lists.get_mut(choice), prompt.first()) {
                lists.first(self.tokenizer.token_bytes(token).unwrap_or_default());
            }
            self.piece(choice, text.as_deref().unwrap_or_default(), None, out);
        }
    }

    fn finish(&mut self, choice: usize, finish: &Finish, out: &mut String) {
        self.of_prompt.add(&finish.figures);
        self.unfinished = self.unfinished.saturating_sub(1);
        if self.unfinished == 0 {
            self.unfinished = self.form.choices;
            let figures = std::mem::take(&mut self.of_prompt);
            self.figures.join(&figures);
        }
        self.piece(choice, "", Some(usage::finish_reason(finish.reason)), out);
    }
}

impl Encoder for CompletionStream {
    fn event(&mut self, event: AnswerEvent, out: &mut String) {
        match event {
            AnswerEvent::Prompt {
                first_choice,
                tokens,
            } if self.form.echoes => {
                self.echo(&tokens, first_choice, out);
            }
            AnswerEvent::PromptLogprobs {
                first_choice,
                tokens,
            } => {
                for choice in first_choice..first_choice + self.form.choices {
                    if let Some(lists) = self.lists.get_mut(choice) {
                        tokens.iter().for_each(|token| lists.push(token));
                    }
                    self.piece(choice, "", None, out);
                }
            }
            AnswerEvent::Token { choice, logprob } => {
                if let Some(lists) = self.lists.get_mut(choice) {
                    lists.push(&logprob);
                }
            }
            AnswerEvent::Content { choice, text } => self.piece(choice, &text, None, out),
            AnswerEvent::Finished { choice, finish } => self.finish(choice, &finish, out),
            _ => {}
        }
    }

    fn end(&mut self, out: &mut String) {
        if self.form.tells_usage {
            let mut piece = self.head.with(&[]);
            piece["usage"] = usage::usage(&self.figures);
            data(&piece, out);
        }
        out.push_str("data: [DONE]\n\n");
    }

    fn failed(&mut self, error: &ApiError, out: &mut String) {
        let body: Value = error_body(error);
        data(&body, out);
        out.push_str("data: [DONE]\n\n");
    }
}
