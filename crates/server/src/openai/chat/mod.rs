//! `/v1/chat/completions`.

mod request;
mod response;
mod stream;

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};

use crate::answer::collect;
use crate::app::App;
use crate::error::ApiError;
use crate::http::{JsonBody, respond, with_model};
use crate::openai::STREAM;

pub(crate) use request::ChatBody;
use response::Head;
use stream::ChatStream;

/// Answers a conversation.
///
/// # Errors
/// When the request makes no sense, does not fit, or too much is waiting.
pub(crate) async fn complete(
    State(app): State<Arc<App>>,
    JsonBody(body): JsonBody<ChatBody>,
) -> Result<Response, ApiError> {
    let name = body.model.clone();
    let (ask, form) = body.read()?;
    let stream = form.is_streamed.then_some(STREAM);
    with_model(app, name.as_deref(), stream, async move |app, lease| {
        let head = Head::new(lease.name());
        let answer = app.ask(&lease, ask).await?;
        if form.is_streamed {
            return Ok(respond(answer, ChatStream::new(head, form)));
        }
        let collected = collect(answer).await?;
        Ok(Json(response::whole(&head, &form, &collected)).into_response())
    })
    .await
}
