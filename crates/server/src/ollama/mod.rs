//! Ollama's dialect, for tools that know no other: the one model that is loaded, under any name.

mod lines;
mod request;
mod show;
mod time;

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

pub(crate) use show::{running, show, tags, version};

use crate::answer::AnswerEvent;
use crate::app::App;
use crate::ask::Ask;
use crate::error::ApiError;
use crate::http::{JsonBody, respond};
use lines::{Form, Lines};
use request::{ChatBody, GenerateBody};

/// `/api/chat`
///
/// # Errors
/// When the request makes no sense, does not fit, or too much is waiting.
pub(crate) async fn chat(
    State(app): State<Arc<App>>,
    JsonBody(body): JsonBody<ChatBody>,
) -> Result<Response, ApiError> {
    match body.read()? {
        (Some(ask), is_streamed) => answer(&app, ask, is_streamed, Form::Chat).await,
        (None, _) => Ok(loaded(&app, Form::Chat)),
    }
}

/// `/api/generate`
///
/// # Errors
/// As [`chat`].
pub(crate) async fn generate(
    State(app): State<Arc<App>>,
    JsonBody(body): JsonBody<GenerateBody>,
) -> Result<Response, ApiError> {
    match body.read(app.model())? {
        (Some(ask), is_streamed) => answer(&app, ask, is_streamed, Form::Generate).await,
        (None, _) => Ok(loaded(&app, Form::Generate)),
    }
}

/// The body of an error.
pub(crate) fn error_body(error: &ApiError) -> Value {
    json!({"error": error.message})
}

async fn answer(app: &App, ask: Ask, is_streamed: bool, form: Form) -> Result<Response, ApiError> {
    let mut answer = app.ask(ask).await?;
    let mut lines = Lines::new(app.model().facts().name.clone(), form);
    if is_streamed {
        return Ok(respond(answer, lines));
    }
    while let Some(event) = answer.next().await {
        match event {
            AnswerEvent::Failed(error) => return Err(error),
            event => drop(lines.take(event)),
        }
    }
    Ok(Json(lines.whole()).into_response())
}

/// A request without a question asks for the model to be loaded, which it is.
fn loaded(app: &App, form: Form) -> Response {
    Json(lines::loaded(&app.model().facts().name, form)).into_response()
}
