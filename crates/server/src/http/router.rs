//! Which path leads where, and what every request goes through.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{DefaultBodyLimit, Request};
use axum::http::{HeaderName, HeaderValue, Method, Uri};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::Response;
use axum::routing::{MethodRouter, get, post};
use axum::{Router, http};
use tower_http::cors::{AllowOrigin, Any, CorsLayer};

use super::{auth, errors, rate};
use crate::app::App;
use crate::config::Config;
use crate::error::{ApiError, ErrorKind};
use crate::{anthropic, native, ollama, openai, page, random};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// A path and what answers there.
type Route = (&'static str, MethodRouter<Arc<App>>);

/// The paths that programs use. `/openapi.json` names the same, as a test checks.
fn routes() -> Vec<Route> {
    vec![
        ("/v1/chat/completions", post(openai::chat::complete)),
        ("/v1/completions", post(openai::completions::complete)),
        ("/v1/responses", post(openai::responses::respond_to)),
        ("/v1/messages", post(anthropic::messages)),
        ("/v1/messages/count_tokens", post(anthropic::count_tokens)),
        ("/v1/models", get(openai::models::list)),
        ("/v1/models/{*name}", get(openai::models::one)),
        ("/models/load", post(native::load)),
        ("/models/unload", post(native::unload)),
        ("/health", get(native::health)),
        ("/completion", post(native::completion)),
        ("/infill", post(native::infill)),
        ("/openapi.json", get(native::openapi)),
        ("/props", get(native::props)),
        ("/metrics", get(native::metrics)),
        ("/slots", get(native::slots)),
        ("/tokenize", post(native::tokenize)),
        ("/detokenize", post(native::detokenize)),
        ("/tokenizer_info", get(native::tokenizer_info)),
        ("/apply-template", post(native::apply_template)),
        ("/api/chat", post(ollama::chat)),
        ("/api/generate", post(ollama::generate)),
        ("/api/tags", get(ollama::tags)),
        ("/api/ps", get(ollama::running)),
        ("/api/show", post(ollama::show)),
        ("/api/version", get(ollama::version)),
        // Telemetry of a client that people use; it would retry for ever.
        ("/api/event_logging/batch", post(native::ignore)),
    ]
}

/// The same without their versions, as many clients are set up; the document need not repeat them.
fn bare_routes() -> Vec<Route> {
    vec![
        ("/chat/completions", post(openai::chat::complete)),
        ("/completions", post(openai::completions::complete)),
        ("/responses", post(openai::responses::respond_to)),
        ("/models", get(openai::models::list)),
        ("/v1/health", get(native::health)),
    ]
}

/// The server's paths.
pub(crate) fn router(app: Arc<App>) -> Router {
    let mut router = Router::new();
    for (path, answering) in routes().into_iter().chain(bare_routes()) {
        router = router.route(path, answering);
    }
    let cors = cors(app.config());
    let max_body = app.config().max_body_bytes;
    router
        .merge(page::routes())
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::max(max_body))
        .layer(from_fn_with_state(Arc::clone(&app), rate::check))
        .layer(from_fn_with_state(Arc::clone(&app), auth::check))
        .layer(from_fn(errors::write))
        .layer(from_fn(log))
        .layer(cors)
        .with_state(app)
}

async fn not_found(method: Method, uri: Uri) -> ApiError {
    let what = format!("there is nothing at {method} {}", uri.path());
    ApiError::new(ErrorKind::NotFound, what)
}

async fn method_not_allowed(method: Method, uri: Uri) -> ApiError {
    let what = format!("{} is there, but not for {method}", uri.path());
    ApiError::new(ErrorKind::MethodNotAllowed, what)
}

/// Gives each request an id, its client's if it has one, and logs it. Bodies are never logged.
async fn log(mut request: Request, next: Next) -> Response {
    let given = request.headers().get(&REQUEST_ID);
    let id = match given.and_then(|id| id.to_str().ok()) {
        Some(id) if id.len() <= 128 => id.to_owned(),
        _ => random::id("req_"),
    };
    let start = Instant::now();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let value = HeaderValue::from_str(&id).ok();
    if let Some(value) = &value {
        request.headers_mut().insert(REQUEST_ID, value.clone());
    }
    let mut response = next.run(request).await;
    tracing::info!(
        id,
        status = response.status().as_u16(),
        milliseconds = start.elapsed().as_secs_f64() * 1e3,
        "{method} {path}",
    );
    if let Some(value) = value {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response
}

fn cors(config: &Config) -> CorsLayer {
    let origins = &config.cors_origins;
    if origins.is_empty() {
        return CorsLayer::new();
    }
    let allowed = if origins.iter().any(|origin| origin == "*") {
        AllowOrigin::from(Any)
    } else {
        AllowOrigin::list(origins.iter().filter_map(|origin| origin.parse().ok()))
    };
    CorsLayer::new()
        .allow_origin(allowed)
        .allow_methods([http::Method::GET, http::Method::POST])
        .allow_headers(Any)
        .expose_headers([REQUEST_ID])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_names_all_paths_and_no_others() {
        let document = include_str!("../native/openapi.json");
        let document: serde_json::Value = serde_json::from_str(document).unwrap();
        let paths = document["paths"].as_object().unwrap();
        let mut named: Vec<String> = paths.keys().map(|path| path.replace("{", "{*")).collect();
        let routes = routes().into_iter().map(|(path, _)| path.to_owned());
        let mut there: Vec<String> = routes.collect();
        named.sort();
        there.sort();
        assert_eq!(named, there);
    }
}
