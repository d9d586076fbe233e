//! What there is, for Ollama's clients.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde_json::{Value, json};

use super::time;
use crate::app::{self, App};
use crate::error::ApiError;
use crate::http::JsonBody;
use crate::models::{Offer, Profile, Status};

/// Seconds until a model expires that stays until it has to leave.
const FAR_AWAY: u64 = 10 * 365 * 86_400;

/// `/api/version`: one that its clients take for new enough.
pub(crate) async fn version() -> Json<Value> {
    Json(json!({"version": "0.14.0", "server": concat!("tidemill ", env!("CARGO_PKG_VERSION"))}))
}

/// `/api/tags`: the models under their names.
pub(crate) async fn tags(State(app): State<Arc<App>>) -> Json<Value> {
    let offers = app.models().offers().iter();
    let models: Vec<Value> = offers.flat_map(|offer| listed(&app, offer)).collect();
    Json(json!({"models": models}))
}

/// `/api/ps`: those that are loaded.
pub(crate) async fn running(State(app): State<Arc<App>>) -> Json<Value> {
    let mut models = Vec::new();
    for (number, offer) in app.models().offers().iter().enumerate() {
        if !matches!(app.models().status(number), Status::Loaded { .. }) {
            continue;
        }
        let expires = app.models().expires_in(number);
        let expires = expires.map_or(FAR_AWAY, |time| time.as_secs().min(FAR_AWAY));
        let expires = app::now() + expires;
        for mut model in listed(&app, offer) {
            model["size_vram"] = json!(0);
            model["context_length"] = json!(offer.facts.context);
            model["expires_at"] = json!(time::text_of(expires));
            models.push(model);
        }
    }
    Json(json!({"models": models}))
}

/// The body of `/api/show`.
#[derive(Debug, Deserialize)]
pub(crate) struct ShowBody {
    #[serde(alias = "name")]
    model: Option<String>,
}

/// `/api/show`: what a model is. Loads it, as only then its template is known.
///
/// # Errors
/// When there is none of the name, or it cannot be loaded.
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    JsonBody(body): JsonBody<ShowBody>,
) -> Result<Json<Value>, ApiError> {
    let lease = app.lease(body.model.as_deref()).await?;
    let model = lease.model();
    let facts = model.facts();
    let template = model.template().map(|template| template.source()).ok();
    let mut capabilities = vec!["completion"];
    if template.is_some_and(|source| source.contains("tools")) {
        capabilities.push("tools");
    }
    if model.thinking_tokens().is_some() {
        capabilities.push("thinking");
    }
    Ok(Json(json!({
        "modified_at": time::text_of(app.started()),
        "template": template,
        "details": details(),
        "model_info": {
            "general.architecture": "qwen35moe",
            "general.name": model.name(),
            "qwen35moe.context_length": facts.context,
            "qwen35moe.embedding_length": facts.hidden,
        },
        "capabilities": capabilities,
    })))
}

fn listed(app: &App, offer: &Offer) -> Vec<Value> {
    let digest = blake3::hash(offer.facts.path.as_bytes()).to_hex();
    let names = offer.profiles.iter().flat_map(Profile::names);
    names
        .map(|name| {
            json!({
                "name": name,
                "model": name,
                "modified_at": time::text_of(app.started()),
                "size": offer.facts.file_bytes,
                "digest": digest.as_str(),
                "details": details(),
            })
        })
        .collect()
}

fn details() -> Value {
    json!({
        "format": "gguf",
        "family": "qwen35moe",
        "families": ["qwen35moe"],
        "parent_model": "",
        "parameter_size": "",
        "quantization_level": "",
    })
}
