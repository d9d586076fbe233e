//! Errors in Anthropic's form.

use serde_json::{Map, Value, json};

use crate::error::{ApiError, ErrorKind};

/// The body of an error.
pub(crate) fn error_body(error: &ApiError) -> Value {
    let kind = match error.kind {
        ErrorKind::BadRequest
        | ErrorKind::ContextLength
        | ErrorKind::MethodNotAllowed
        | ErrorKind::Timeout => "invalid_request_error",
        ErrorKind::Unauthorized => "authentication_error",
        ErrorKind::NotFound | ErrorKind::ModelNotFound => "not_found_error",
        ErrorKind::TooLarge => "request_too_large",
        ErrorKind::Busy | ErrorKind::TooOften => "rate_limit_error",
        ErrorKind::Unavailable => "overloaded_error",
        ErrorKind::Internal => "api_error",
    };
    let mut inner = Map::new();
    inner.insert("type".to_owned(), json!(kind));
    inner.insert("message".to_owned(), json!(message(error)));
    for &(name, number) in &error.numbers {
        inner.insert(name.to_owned(), json!(number));
    }
    json!({"type": "error", "error": inner})
}

/// Agents of this dialect look for these words to know that they have to shorten the conversation.
fn message(error: &ApiError) -> String {
    let number = |name: &str| {
        let found = error.numbers.iter().find(|(key, _)| *key == name);
        found.map(|(_, number)| number)
    };
    match (number("n_prompt_tokens"), number("n_ctx")) {
        (Some(prompt), Some(context)) => {
            format!("prompt is too long: {prompt} tokens > {context} maximum")
        }
        _ => error.message.clone(),
    }
}
