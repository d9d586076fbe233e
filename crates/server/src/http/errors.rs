//! Errors as responses, in the form that a path's clients read.

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use crate::error::{ApiError, ErrorKind};
use crate::{anthropic, ollama, openai};

/// The most bytes of what the router says.
const LONGEST_WORDS: usize = 4096;

impl IntoResponse for ApiError {
    /// Without a body yet: `write` knows the path.
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.kind.status());
        let mut response = status
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
            .into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// Writes the bodies of errors.
pub(super) async fn write(request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let mut response = next.run(request).await;
    let (error, response) = match response.extensions_mut().remove::<ApiError>() {
        Some(error) => (error, response),
        None if is_plain_refusal(&response) => plain_refusal(response).await,
        None => return response,
    };
    // Not the message: it may quote what the client wrote.
    tracing::info!("refused: {:?}", error.kind);
    let body = body_for(&path, &error);
    let (mut parts, _) = response.into_parts();
    let json = HeaderValue::from_static("application/json");
    parts.headers.insert(CONTENT_TYPE, json);
    if let Some(seconds) = error.retry_after {
        parts
            .headers
            .insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    Response::from_parts(parts, body.to_string().into())
}

/// Whether the router itself refused something, in words: an address that cannot be read.
fn is_plain_refusal(response: &Response) -> bool {
    let kind = response.headers().get(CONTENT_TYPE);
    let is_plain = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/plain"));
    response.status() == StatusCode::BAD_REQUEST && is_plain
}

async fn plain_refusal(response: Response) -> (ApiError, Response) {
    let (mut parts, body) = response.into_parts();
    parts.headers.remove(CONTENT_LENGTH);
    let words = to_bytes(body, LONGEST_WORDS).await.unwrap_or_default();
    let words = String::from_utf8_lossy(&words).into_owned();
    let error = ApiError::new(ErrorKind::BadRequest, words);
    (error, Response::from_parts(parts, Body::empty()))
}

fn body_for(path: &str, error: &ApiError) -> Value {
    if path.starts_with("/v1/messages") {
        return anthropic::error_body(error);
    }
    if path.starts_with("/api/") {
        return ollama::error_body(error);
    }
    openai::error_body(error)
}
