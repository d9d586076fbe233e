//! Ollama's dialect, for tools that know no other.

mod keep_alive;
mod lines;
mod request;
mod show;
mod time;

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

pub(crate) use show::{running, show, tags, version};

use crate::answer::AnswerEvent;
use crate::app::App;
use crate::ask::Ask;
use crate::error::ApiError;
use crate::http::{JsonBody, StreamForm, respond, with_model};
use crate::models::{KeptLoaded, Lease};
use lines::{Form, Lines};
use request::{About, ChatBody, GenerateBody};

/// How answers are streamed.
const STREAM: StreamForm = StreamForm {
    content_type: "application/x-ndjson",
    has_comments: false,
    failed,
};

fn failed(error: &ApiError) -> String {
    format!("{}\n", error_body(error))
}

/// `/api/chat`
///
/// # Errors
/// When the request makes no sense, does not fit, or too much is waiting.
pub(crate) async fn chat(
    State(app): State<Arc<App>>,
    JsonBody(body): JsonBody<ChatBody>,
) -> Result<Response, ApiError> {
    let about = body.about()?;
    let ask = body.read()?;
    let Some(ask) = ask else {
        return without_question(app, about, Form::Chat).await;
    };
    let stream = about.is_streamed.then_some(STREAM);
    let name = about.model.clone();
    with_model(app, name.as_deref(), stream, async move |app, lease| {
        answer(&app, &lease, ask, about, Form::Chat).await
    })
    .await
}

/// `/api/generate`
///
/// # Errors
/// As [`chat`].
pub(crate) async fn generate(
    State(app): State<Arc<App>>,
    JsonBody(body): JsonBody<GenerateBody>,
) -> Result<Response, ApiError> {
    let about = body.about()?;
    if !body.asks() {
        return without_question(app, about, Form::Generate).await;
    }
    let stream = about.is_streamed.then_some(STREAM);
    let name = about.model.clone();
    with_model(app, name.as_deref(), stream, async move |app, lease| {
        let ask = body.read(lease.model())?;
        answer(&app, &lease, ask, about, Form::Generate).await
    })
    .await
}

/// The body of an error.
pub(crate) fn error_body(error: &ApiError) -> Value {
    json!({"error": error.message})
}

async fn answer(
    app: &App,
    lease: &Lease,
    ask: Ask,
    about: About,
    form: Form,
) -> Result<Response, ApiError> {
    let mut answer = app.ask(lease, ask).await?;
    if let Some(kept) = about.kept {
        lease.keep(kept);
    }
    let mut lines = Lines::new(lease.name(), form);
    if about.is_streamed {
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

/// A request without a question asks for the model to be loaded, or to be unloaded.
async fn without_question(app: Arc<App>, about: About, form: Form) -> Result<Response, ApiError> {
    let place = app.models().find(about.model.as_deref())?;
    if about.kept == Some(KeptLoaded::For(Duration::ZERO)) {
        app.models().unload(place.model);
        let name = about.model.unwrap_or_default();
        return Ok(Json(lines::without_answer(&name, form, "unload")).into_response());
    }
    let lease = Arc::clone(app.models()).lease(place).await?;
    if let Some(kept) = about.kept {
        lease.keep(kept);
    }
    Ok(Json(lines::without_answer(&lease.name(), form, "load")).into_response())
}
