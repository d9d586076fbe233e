//! Answers that are sent as they come.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::HeaderValue;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::Response;
use serde::Serialize;
use tokio::sync::mpsc::{Sender, channel};
use tokio::time::{Instant, interval_at};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

use crate::answer::{Answer, AnswerEvent};
use crate::error::ApiError;

/// After so much silence something is sent that means nothing, so that nobody on the way hangs up.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// Pieces between the answer and a connection that is slower.
const BUFFERED: usize = 32;

/// Writes an answer's events in a dialect.
pub(crate) trait Encoder: Send + 'static {
    /// What the stream begins with.
    fn begin(&mut self, _out: &mut String) {}
    /// The next event; never a failure.
    fn event(&mut self, event: AnswerEvent, out: &mut String);
    /// The end, after all answers.
    fn end(&mut self, out: &mut String);
    /// The end, where something failed.
    fn failed(&mut self, error: &ApiError, out: &mut String);
    /// What may be sent at any time, and means nothing; `None` if the dialect has no such thing.
    fn keep_alive(&self) -> Option<&'static str> {
        Some(": keep-alive\n\n")
    }
    /// The type of the body.
    fn content_type(&self) -> &'static str {
        "text/event-stream; charset=utf-8"
    }
}

/// A response that sends the answer as it comes. When its client leaves, the answer is cancelled.
pub(crate) fn respond(answer: Answer, encoder: impl Encoder) -> Response {
    respond_all(vec![answer], encoder)
}

/// The same for several prompts that are answered side by side and written one after the other:
/// what comes meanwhile waits.
pub(crate) fn respond_all(answers: Vec<Answer>, encoder: impl Encoder) -> Response {
    let content_type = HeaderValue::from_static(encoder.content_type());
    let (pieces, received) = channel(BUFFERED);
    tokio::spawn(drive(answers, encoder, pieces));
    let body = ReceiverStream::new(received).map(|text| Ok::<_, Infallible>(Bytes::from(text)));
    streamed(Body::from_stream(body), content_type)
}

/// A response whose body comes piece by piece.
pub(super) fn streamed(body: Body, content_type: HeaderValue) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, content_type);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // Proxies of one kind hold streams back unless they are told not to.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

async fn drive(answers: Vec<Answer>, mut encoder: impl Encoder, pieces: Sender<String>) {
    let mut out = String::new();
    encoder.begin(&mut out);
    // Something at once: clients that wait for headers and a first byte know that they are heard.
    if let (true, Some(comment)) = (out.is_empty(), encoder.keep_alive()) {
        out.push_str(comment);
    }
    let mut answers = answers.into_iter();
    let Some(mut answer) = answers.next() else {
        return;
    };
    let mut ticks = interval_at(Instant::now() + KEEP_ALIVE, KEEP_ALIVE);
    loop {
        if !out.is_empty() {
            ticks.reset();
            if pieces.send(std::mem::take(&mut out)).await.is_err() {
                return;
            }
        }
        tokio::select! {
            event = answer.next() => match event {
                Some(AnswerEvent::Failed(error)) => {
                    encoder.failed(&error, &mut out);
                    break;
                }
                Some(event) => {
                    encoder.event(event, &mut out);
                }
                None => match answers.next() {
                    Some(next) => answer = next,
                    None => {
                        encoder.end(&mut out);
                        break;
                    }
                },
            },
            _ = ticks.tick() => out.push_str(encoder.keep_alive().unwrap_or_default()),
            () = pieces.closed() => return,
        }
    }
    // A client that has left misses nothing.
    let _ = pieces.send(out).await;
}

/// Writes an event without a name.
pub(crate) fn data(value: &impl Serialize, out: &mut String) {
    out.push_str("data: ");
    push_json(value, out);
    out.push_str("\n\n");
}

/// Writes an event with a name.
pub(crate) fn named(name: &str, value: &impl Serialize, out: &mut String) {
    out.push_str("event: ");
    out.push_str(name);
    out.push('\n');
    data(value, out);
}

/// Writes a value's JSON, which has no line ends.
pub(crate) fn push_json(value: &impl Serialize, out: &mut String) {
    // Our own values have text for keys and finite numbers, so that this cannot fail.
    out.push_str(&serde_json::to_string(value).unwrap_or_default());
}
