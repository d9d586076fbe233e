//! The Anthropic dialect: `/v1/messages` and `/v1/messages/count_tokens`.

mod blocks;
mod errors;
mod request;
mod response;
mod stream;

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use text::{Prompt, SpecialTokens};

pub(crate) use errors::error_body;

use crate::answer::collect;
use crate::app::App;
use crate::error::{ApiError, ErrorKind};
use crate::http::{JsonBody, StreamForm, respond, with_model};
use request::MessagesBody;
use response::Head;
use stream::MessageStream;

/// How messages are streamed.
const STREAM: StreamForm = StreamForm {
    content_type: "text/event-stream; charset=utf-8",
    has_comments: true,
    failed,
};

fn failed(error: &ApiError) -> String {
    format!("event: error\ndata: {}\n\n", error_body(error))
}

/// `/v1/messages`: answers a conversation.
///
/// # Errors
/// When the request makes no sense, does not fit, or too much is waiting.
pub(crate) async fn messages(
    State(app): State<Arc<App>>,
    JsonBody(body): JsonBody<MessagesBody>,
) -> Result<Response, ApiError> {
    let name = body.model.clone();
    let (ask, is_streamed) = body.read()?;
    let stream = is_streamed.then_some(STREAM);
    with_model(app, name.as_deref(), stream, async move |app, lease| {
        let head = Head::new(lease.name());
        let answer = app.ask(&lease, ask).await?;
        if is_streamed {
            return Ok(respond(answer, MessageStream::new(head)));
        }
        let collected = collect(answer).await?;
        match collected.choices.first() {
            Some(choice) => Ok(Json(response::whole(&head, choice)).into_response()),
            None => Err(ApiError::new(ErrorKind::Internal, "there is no answer")),
        }
    })
    .await
}

/// `/v1/messages/count_tokens`: how long a conversation's prompt is.
///
/// # Errors
/// When the conversation makes no sense.
pub(crate) async fn count_tokens(
    State(app): State<Arc<App>>,
    JsonBody(body): JsonBody<MessagesBody>,
) -> Result<Json<Value>, ApiError> {
    let name = body.model.clone();
    let mut chat = body.into_chat()?;
    let lease = app.lease(name.as_deref()).await?;
    let model = Arc::clone(lease.model());
    let work = move || {
        model.complete(&mut chat);
        let (template, tokenizer) = (model.template()?, model.tokenizer());
        let prompt = Prompt::new(template, tokenizer, &chat, SpecialTokens::AsText)?;
        Ok(Json(json!({"input_tokens": prompt.tokens.len()})))
    };
    app.aside(work).await?
}
