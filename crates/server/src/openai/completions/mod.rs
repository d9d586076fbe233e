//! `/v1/completions`: text that goes on, as evaluation harnesses and editors ask for it.

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
use crate::http::{JsonBody, respond_all};
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
    let (asks, form) = body.read(app.model())?;
    let mut answers: Vec<Answer> = Vec::new();
    let mut first = 0;
    for ask in asks {
        let choices = ask.choices;
        answers.push(app.ask(ask).await?.with_first_choice(first));
        first += choices;
    }
    let head = Head::new(app.model().facts().name.clone());
    if form.is_streamed {
        let tokenizer = Arc::clone(app.model().tokenizer());
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
    let tokenizer = app.model().tokenizer();
    Ok(Json(response::whole(&head, &form, &collected, tokenizer)).into_response())
}
