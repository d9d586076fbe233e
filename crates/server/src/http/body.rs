//! Reads JSON bodies.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::app::App;
use crate::error::{ApiError, ErrorKind};

/// Bodies of so many bytes take milliseconds to be parsed, for which connections do not wait.
const LARGE: usize = 256 << 10;

/// A JSON body, whatever content type it claims: many clients claim none.
pub(crate) struct JsonBody<T>(pub(crate) T);

impl<T: DeserializeOwned + Send + 'static> FromRequest<Arc<App>> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, ApiError> {
        let whole = app.config().body_time;
        let bytes = timeout(whole, Bytes::from_request(request, app)).await;
        let bytes = bytes.map_err(|_| late(whole))?.map_err(unread)?;
        if bytes.len() < LARGE {
            return parse(&bytes).map(Self);
        }
        app.aside(move || parse(&bytes).map(Self)).await?
    }
}

/// The parser stops at 128 levels, so that depth cannot use up the stack.
fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let what = match bytes.trim_ascii_start().first() {
        None => "the body is empty; expected a JSON object".to_owned(),
        Some(b'{') => match serde_json::from_slice(bytes) {
            Ok(body) => return Ok(body),
            Err(error) => format!("the body cannot be used: {error}"),
        },
        // The parser would name a type of ours.
        Some(_) => "the body is not a JSON object".to_owned(),
    };
    Err(ApiError::new(ErrorKind::BadRequest, what))
}

fn late(whole: Duration) -> ApiError {
    let seconds = whole.as_secs_f64();
    let why = format!("the body did not come within {seconds} seconds");
    ApiError::new(ErrorKind::Timeout, why)
}

fn unread(rejection: BytesRejection) -> ApiError {
    if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
        let why = "the body is larger than this server takes; see --max-body-mib";
        return ApiError::new(ErrorKind::TooLarge, why);
    }
    ApiError::new(ErrorKind::BadRequest, rejection.body_text())
}
