//! Responses as they come.

use serde_json::{Map, Value, json};

use super::output::Output;
use crate::answer::AnswerEvent;
use crate::error::ApiError;
use crate::http::{Encoder, StreamForm, named};
use crate::openai::error_body;

/// How responses are streamed.
pub(super) const FORM: StreamForm = StreamForm {
    content_type: "text/event-stream; charset=utf-8",
    has_comments: true,
    failed,
};

/// An error before there is any response.
fn failed(error: &ApiError) -> String {
    let inner = error_body(error)["error"].take();
    let fields = json!({
        "code": inner["code"], "message": error.message, "param": error.param,
    });
    let mut out = String::new();
    emit("error", fields, &mut 0, &mut out);
    out
}

/// Writes an answer's events as those of a response, numbered.
pub(super) struct ResponseStream {
    output: Output,
    number: u64,
}

impl ResponseStream {
    pub(super) fn new(output: Output) -> Self {
        Self { output, number: 0 }
    }

    fn whole(&mut self, kind: &'static str, response: Value, out: &mut String) {
        emit(kind, json!({"response": response}), &mut self.number, out);
    }
}

fn emit(kind: &'static str, fields: Value, number: &mut u64, out: &mut String) {
    let mut event = Map::new();
    event.insert("type".to_owned(), json!(kind));
    event.insert("sequence_number".to_owned(), json!(*number));
    if let Value::Object(fields) = fields {
        event.extend(fields);
    }
    *number += 1;
    named(kind, &event, out);
}

impl Encoder for ResponseStream {
    fn begin(&mut self, out: &mut String) {
        let response = self.output.whole();
        self.whole("response.created", response.clone(), out);
        self.whole("response.in_progress", response, out);
    }

    fn event(&mut self, event: AnswerEvent, out: &mut String) {
        let number = &mut self.number;
        self.output
            .take(event, &mut |kind, fields| emit(kind, fields, number, out));
    }

    fn end(&mut self, out: &mut String) {
        let response = self.output.whole();
        self.whole(self.output.end(), response, out);
    }

    fn failed(&mut self, error: &ApiError, out: &mut String) {
        let response = self.output.failed(error);
        self.whole("response.failed", response, out);
    }
}
