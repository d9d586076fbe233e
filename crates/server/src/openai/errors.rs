//! Errors in OpenAI's form.

use serde_json::{Map, Value, json};

use crate::error::{ApiError, ErrorKind};

/// The body of an error, with its figures beside the message.
pub(crate) fn error_body(error: &ApiError) -> Value {
    let (kind, code) = match error.kind {
        ErrorKind::BadRequest => ("invalid_request_error", Value::Null),
        ErrorKind::ContextLength => ("invalid_request_error", json!("context_length_exceeded")),
        ErrorKind::Unauthorized => ("invalid_request_error", json!("invalid_api_key")),
        ErrorKind::NotFound => ("invalid_request_error", json!("not_found")),
        ErrorKind::ModelNotFound => ("invalid_request_error", json!("model_not_found")),
        ErrorKind::MethodNotAllowed => ("invalid_request_error", json!("method_not_allowed")),
        ErrorKind::Timeout => ("invalid_request_error", json!("request_timeout")),
        ErrorKind::TooLarge => ("invalid_request_error", json!("request_too_large")),
        ErrorKind::Busy => ("rate_limit_error", json!("queue_full")),
        ErrorKind::TooOften => ("rate_limit_error", json!("rate_limit_exceeded")),
        ErrorKind::Unavailable => ("server_error", json!("unavailable")),
        ErrorKind::Internal => ("server_error", Value::Null),
    };
    let mut inner = Map::new();
    inner.insert("message".to_owned(), json!(error.message));
    inner.insert("type".to_owned(), json!(kind));
    inner.insert("param".to_owned(), json!(error.param));
    inner.insert("code".to_owned(), code);
    for &(name, number) in &error.numbers {
        inner.insert(name.to_owned(), json!(number));
    }
    json!({"error": inner})
}
