//! Requests for models that may have to be loaded first.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::HeaderValue;
use axum::response::Response;
use tokio::sync::mpsc::{Sender, channel};
use tokio::time::{Instant, interval_at, timeout};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

use super::stream::streamed;
use crate::app::App;
use crate::error::ApiError;
use crate::models::{Lease, Place, Status};

/// For so long a stream that waits for its model sends nothing, not even its status: what fails at
/// once fails with the status that it has.
const PATIENCE: Duration = Duration::from_millis(500);
/// How often it then says how far the model is.
const TELL: Duration = Duration::from_secs(1);

/// How a dialect's streams say what is no part of an answer.
#[derive(Clone, Copy)]
pub(crate) struct StreamForm {
    pub(crate) content_type: &'static str,
    /// Whether lines that begin with a colon are passed over.
    pub(crate) has_comments: bool,
    /// The end, where something failed before the answer began.
    pub(crate) failed: fn(&ApiError) -> String,
}

/// Answers with the model that a request names. Where that has to be loaded first, a stream
/// (`form`) begins at once and says how far it is.
///
/// # Errors
/// When no model has the name, it cannot be loaded, or `answer` fails.
pub(crate) async fn with_model<A, F>(
    app: Arc<App>,
    name: Option<&str>,
    form: Option<StreamForm>,
    answer: A,
) -> Result<Response, ApiError>
where
    A: FnOnce(Arc<App>, Lease) -> F + Send + 'static,
    F: Future<Output = Result<Response, ApiError>> + Send + 'static,
{
    let place = app.models().find(name)?;
    let mut lease = Box::pin(Arc::clone(app.models()).lease(place));
    let Some(form) = form else {
        let lease = lease.await?;
        return answer(app, lease).await;
    };
    if let Ok(lease) = timeout(PATIENCE, &mut lease).await {
        let lease = lease?;
        return answer(app, lease).await;
    }
    let (pieces, received) = channel::<Bytes>(1);
    tokio::spawn(async move {
        let Some(lease) = told(&app, place, form, &mut lease, &pieces).await else {
            return;
        };
        let response = match lease {
            Ok(lease) => answer(app, lease).await,
            Err(error) => Err(error),
        };
        match response {
            Ok(response) => pass_on(response, &pieces).await,
            // A client that has left misses nothing.
            Err(error) => drop(pieces.send((form.failed)(&error).into()).await),
        }
    });
    let body = Body::from_stream(ReceiverStream::new(received).map(Ok::<_, Infallible>));
    let content_type = HeaderValue::from_static(form.content_type);
    Ok(streamed(body, content_type))
}

/// Waits for the model and says how far it is; `None` if the client has left.
async fn told(
    app: &App,
    place: Place,
    form: StreamForm,
    lease: &mut (impl Future<Output = Result<Lease, ApiError>> + Unpin),
    pieces: &Sender<Bytes>,
) -> Option<Result<Lease, ApiError>> {
    let mut ticks = interval_at(Instant::now(), TELL);
    loop {
        tokio::select! {
            lease = &mut *lease => return Some(lease),
            () = pieces.closed() => return None,
            _ = ticks.tick(), if form.has_comments => {
                let comment = comment(&app.models().status(place.model));
                pieces.send(comment.into()).await.ok()?;
            }
        }
    }
}

fn comment(status: &Status) -> String {
    match status {
        Status::Loading { done, total } if *total > 0 => {
            format!(": the model is being loaded, {done} of {total}\n\n")
        }
        Status::Loading { .. } => ": the model waits for room\n\n".to_owned(),
        _ => ": keep-alive\n\n".to_owned(),
    }
}

/// Sends a response's body on.
async fn pass_on(response: Response, pieces: &Sender<Bytes>) {
    let mut body = response.into_body().into_data_stream();
    loop {
        let piece = tokio::select! {
            piece = body.next() => piece,
            () = pieces.closed() => return,
        };
        let Some(Ok(piece)) = piece else {
            return;
        };
        if pieces.send(piece).await.is_err() {
            return;
        }
    }
}
