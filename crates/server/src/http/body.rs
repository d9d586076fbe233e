//! Reads JSON bodies.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::error::{ApiError, ErrorKind};

/// How long a body may take to come.
const WHOLE: Duration = Duration::from_secs(300);

/// A JSON body, whatever content type it claims: many clients claim none.
pub(crate) struct JsonBody<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let bytes = timeout(WHOLE, Bytes::from_request(request, state)).await;
        let bytes = bytes.map_err(|_| late())?.map_err(unread)?;
        parse(&bytes).map(Self)
    }
}

/// The parser stops at 128 levels, so that depth cannot use up the stack.
fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(bytes).map_err(|error| {
        let what = if bytes.is_empty() {
            "the body is empty; expected a JSON object".to_owned()
        } else {
            format!("the body cannot be used: {error}")
        };
        ApiError::new(ErrorKind::BadRequest, what)
    })
}

fn late() -> ApiError {
    let why = format!("the body did not come within {} seconds", WHOLE.as_secs());
    ApiError::new(ErrorKind::Timeout, why)
}

fn unread(rejection: BytesRejection) -> ApiError {
    if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
        let why = "the body is larger than this server takes; see --max-body-mib";
        return ApiError::new(ErrorKind::TooLarge, why);
    }
    ApiError::new(ErrorKind::BadRequest, rejection.body_text())
}
