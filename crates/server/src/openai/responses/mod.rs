//! `/v1/responses`. Nothing is stored: every request brings its whole conversation.

mod items;
mod output;
mod request;
mod stream;

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};

use crate::answer::AnswerEvent;
use crate::app::App;
use crate::error::ApiError;
use crate::http::{JsonBody, respond, with_model};
use output::Output;
use request::ResponsesBody;
use stream::ResponseStream;

/// Answers a conversation.
///
/// # Errors
/// When the request makes no sense, does not fit, or too much is waiting.
pub(crate) async fn respond_to(
    State(app): State<Arc<App>>,
    JsonBody(body): JsonBody<ResponsesBody>,
) -> Result<Response, ApiError> {
    let name = body.model.clone();
    let (ask, mut form) = body.read()?;
    let is_streamed = form.is_streamed;
    let stream = is_streamed.then_some(stream::FORM);
    with_model(app, name.as_deref(), stream, async move |app, lease| {
        form.set_model(&lease.name());
        let mut answer = app.ask(&lease, ask).await?;
        let mut output = Output::new(form);
        if is_streamed {
            return Ok(respond(answer, ResponseStream::new(output)));
        }
        while let Some(event) = answer.next().await {
            if let AnswerEvent::Failed(error) = event {
                return Err(error);
            }
            output.take(event, &mut |_, _| {});
        }
        Ok(Json(output.whole()).into_response())
    })
    .await
}
