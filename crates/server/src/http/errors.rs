//! Errors as responses, in the form that a path's clients read.

use axum::extract::Request;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use crate::error::ApiError;
use crate::{anthropic, ollama, openai};

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
    let Some(error) = response.extensions_mut().remove::<ApiError>() else {
        return response;
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

fn body_for(path: &str, error: &ApiError) -> Value {
    if path.starts_with("/v1/messages") {
        return anthropic::error_body(error);
    }
    if path.starts_with("/api/") {
        return ollama::error_body(error);
    }
    openai::error_body(error)
}
