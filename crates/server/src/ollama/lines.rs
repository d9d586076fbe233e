//! Answers as lines of JSON.

use serde_json::{Map, Value, json};

use super::{error_body, time};
use crate::answer::{AnswerEvent, Finish, Reason};
use crate::error::ApiError;
use crate::http::{Encoder, push_json};

/// Which of the two paths an answer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// `message`, with calls.
    Chat,
    /// `response`, text alone.
    Generate,
}

/// Writes an answer's events as lines.
pub(super) struct Lines {
    model: String,
    form: Form,
    /// The call whose arguments are coming in.
    call: Option<(String, String)>,
    /// All that was told, for an answer that is not streamed.
    thinking: String,
    content: String,
    calls: Vec<Value>,
    finish: Option<Finish>,
}

impl Lines {
    pub(super) fn new(model: String, form: Form) -> Self {
        Self {
            model,
            form,
            call: None,
            thinking: String::new(),
            content: String::new(),
            calls: Vec::new(),
            finish: None,
        }
    }

    /// Takes the next event; returns a line if it makes one. Calls are told whole.
    pub(super) fn take(&mut self, event: AnswerEvent) -> Option<Value> {
        match event {
            AnswerEvent::Reasoning { text, .. } => {
                self.thinking.push_str(&text);
                Some(self.line(&text, "", &[]))
            }
            AnswerEvent::Content { text, .. } => {
                self.content.push_str(&text);
                Some(self.line("", &text, &[]))
            }
            AnswerEvent::CallStart { name, .. } => {
                self.call = Some((name, String::new()));
                None
            }
            AnswerEvent::CallArguments { json, .. } => {
                if let Some((_, arguments)) = &mut self.call {
                    arguments.push_str(&json);
                }
                None
            }
            AnswerEvent::CallEnd { .. } => {
                let (name, arguments) = self.call.take()?;
                // They are an object's text.
                let arguments: Value =
                    serde_json::from_str(&arguments).unwrap_or_else(|_| Map::new().into());
                let call = json!({"function": {"name": name, "arguments": arguments}});
                self.calls.push(call.clone());
                Some(self.line("", "", &[call]))
            }
            AnswerEvent::Finished { finish, .. } => {
                self.finish = Some(finish);
                None
            }
            _ => None,
        }
    }

    fn line(&self, thinking: &str, content: &str, calls: &[Value]) -> Value {
        let mut line = json!({"model": self.model, "created_at": time::now()});
        match self.form {
            Form::Chat => {
                let mut message = json!({"role": "assistant", "content": content});
                if !thinking.is_empty() {
                    message["thinking"] = json!(thinking);
                }
                if !calls.is_empty() {
                    message["tool_calls"] = json!(calls);
                }
                line["message"] = message;
            }
            Form::Generate => {
                line["response"] = json!(content);
                if !thinking.is_empty() {
                    line["thinking"] = json!(thinking);
                }
            }
        }
        line["done"] = json!(false);
        line
    }

    fn ended(&self, mut line: Value) -> Value {
        line["done"] = json!(true);
        let Some(finish) = &self.finish else {
            return line;
        };
        let figures = &finish.figures;
        let nanoseconds = |time: std::time::Duration| time.as_nanos() as u64;
        let reason = if finish.reason == Reason::Length {
            "length"
        } else {
            "stop"
        };
        line["done_reason"] = json!(reason);
        line["total_duration"] = json!(nanoseconds(figures.prefill + figures.decode));
        line["load_duration"] = json!(0);
        line["prompt_eval_count"] = json!(figures.prompt);
        line["prompt_eval_duration"] = json!(nanoseconds(figures.prefill));
        line["eval_count"] = json!(figures.generated);
        line["eval_duration"] = json!(nanoseconds(figures.decode));
        line
    }

    /// The answer as one object.
    pub(super) fn whole(&self) -> Value {
        self.ended(self.line(&self.thinking, &self.content, &self.calls))
    }
}

/// What a client is told who asks for nothing but the model to be there, or to go.
pub(super) fn without_answer(model: &str, form: Form, done: &str) -> Value {
    let mut line = Lines::new(model.to_owned(), form).line("", "", &[]);
    line["done"] = json!(true);
    line["done_reason"] = json!(done);
    line
}

impl Encoder for Lines {
    fn event(&mut self, event: AnswerEvent, out: &mut String) {
        if let Some(line) = self.take(event) {
            push_json(&line, out);
            out.push('\n');
        }
    }

    fn end(&mut self, out: &mut String) {
        push_json(&self.ended(self.line("", "", &[])), out);
        out.push('\n');
    }

    fn failed(&mut self, error: &ApiError, out: &mut String) {
        push_json(&error_body(error), out);
        out.push('\n');
    }

    /// Its clients take every line for an object.
    fn keep_alive(&self) -> Option<&'static str> {
        None
    }

    fn content_type(&self) -> &'static str {
        "application/x-ndjson"
    }
}
