//! `/v1/completions`: text that goes on, as evaluation harnesses and editors ask for it.

mod body;
pub(crate) mod fill;
mod logprobs;
mod request;
mod response;
mod stream;

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};

use crate::answer::{Answer, collect};
use crate::app::App;
use crate::error::ApiError;
use crate::http::{JsonBody, respond_all, with_model};
use crate::models::Lease;
use crate::openai::STREAM;
pub(crate) use body::{TextFields, WirePrompt};
use request::CompletionBody;
use response::Head;
use stream::CompletionStream;

/// Goes on with one or several texts.
///
/// # Errors
/// When the request makes no sense, does not fit, or too much is waiting.
pub(crate) async fn complete(
    State(app): State<Arc<App>>,
    JsonBody(body): JsonBody<CompletionBody>,
) -> Result<Response, ApiError> {
    let name = body.fields.model.clone();
    let stream = body.fields.is_streamed().then_some(STREAM);
    with_model(app, name.as_deref(), stream, async move |app, lease| {
        answer(&app, &lease, body).await
    })
    .await
}

async fn answer(app: &App, lease: &Lease, body: CompletionBody) -> Result<Response, ApiError> {
    let (asks, form) = body.read(lease.model())?;
    let mut answers: Vec<Answer> = Vec::new();
    let mut first = 0;
    for ask in asks {
        let choices = ask.choices;
        answers.push(app.ask(lease, ask).await?.with_first_choice(first));
        first += choices;
    }
    let head = Head::new(lease.name());
    if form.is_streamed {
        let tokenizer = Arc::clone(lease.model().tokenizer());
        return Ok(respond_all(
            answers,
            CompletionStream::new(head, form, tokenizer),
        ));
    }
    let mut collected = Vec::new();
    for answer in answers {
        // They are made side by side; what comes meanwhile waits.
        collected.push(collect(answer).await?);
    }
    let tokenizer = lease.model().tokenizer();
    Ok(Json(response::whole(&head, &form, &collected, tokenizer)).into_response())
}
