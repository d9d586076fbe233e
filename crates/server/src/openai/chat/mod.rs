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
use crate::http::{JsonBody, respond};

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
    let (ask, form) = body.read()?;
    let head = Head::new(app.model().facts().name.clone());
    let answer = app.ask(ask).await?;
    if form.is_streamed {
        return Ok(respond(answer, ChatStream::new(head, form)));
    }
    let collected = collect(answer).await?;
    Ok(Json(response::whole(&head, &form, &collected)).into_response())
}
