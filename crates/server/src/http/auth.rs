//! Who may use the server.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::app::App;
use crate::error::{ApiError, ErrorKind};
use crate::page;

/// Hashes of the keys that open the server; without any, it is open. Keys themselves are not kept,
/// and comparing hashes takes the same time wherever they differ.
#[derive(Debug, Clone, Default)]
pub struct ApiKeys {
    hashes: Vec<blake3::Hash>,
}

impl ApiKeys {
    /// These keys; white space around them does not count, and empty ones are none.
    pub fn new<'k>(keys: impl IntoIterator<Item = &'k str>) -> Self {
        let keys = keys
            .into_iter()
            .map(str::trim)
            .filter(|key| !key.is_empty());
        Self {
            hashes: keys.map(|key| blake3::hash(key.as_bytes())).collect(),
        }
    }

    /// Whether anyone may come in.
    pub fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }

    fn open_for(&self, key: &str) -> bool {
        let hash = blake3::hash(key.as_bytes());
        // All are compared, so that time does not tell which one it was.
        let matches = self.hashes.iter().filter(|known| **known == hash);
        matches.count() > 0
    }
}

/// Lets those in who have a key, and everyone to what tells nothing.
pub(super) async fn check(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let keys = &app.config().keys;
    let path = request.uri().path();
    let is_public = path == "/health" || page::is_at(path) || request.method() == Method::OPTIONS;
    if keys.is_empty() || is_public {
        return next.run(request).await;
    }
    match key_in(request.headers()) {
        Some(key) if keys.open_for(key) => next.run(request).await,
        given => {
            let why = match given {
                Some(_) => "the API key is wrong",
                None => "an API key is needed; send `Authorization: Bearer KEY`",
            };
            ApiError::new(ErrorKind::Unauthorized, why).into_response()
        }
    }
}

/// The key that a request brings.
pub(super) fn key_in(headers: &HeaderMap) -> Option<&str> {
    if let Some(value) = headers.get(AUTHORIZATION).and_then(|v| v.to_str().ok()) {
        let (scheme, key) = value.split_once(' ').unwrap_or(("", value));
        if scheme.is_empty() || scheme.eq_ignore_ascii_case("bearer") {
            return Some(key.trim());
        }
    }
    headers
        .get("x-api-key")
        .and_then(|value| value.to_str().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_and_compared() {
        let keys = ApiKeys::new(["one", " two \n", ""]);
        assert!(keys.open_for("one") && keys.open_for("two"));
        assert!(!keys.open_for("three") && !keys.open_for(""));
        assert!(ApiKeys::new([" "]).is_empty());
        let check = |name: &'static str, value: &str, want: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            assert_eq!(key_in(&headers), want, "{name}: {value}");
        };
        check("authorization", "Bearer one", Some("one"));
        check("authorization", "bearer one", Some("one"));
        check("authorization", "Basic one", None);
        check("x-api-key", "one", Some("one"));
    }
}
