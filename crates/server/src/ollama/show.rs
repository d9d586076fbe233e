//! What there is, for Ollama's clients.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::time;
use crate::app::App;

/// `/api/version`: one that its clients take for new enough.
pub(crate) async fn version() -> Json<Value> {
    Json(json!({"version": "0.14.0", "server": concat!("tidemill ", env!("CARGO_PKG_VERSION"))}))
}

/// `/api/tags`: the model under its names.
pub(crate) async fn tags(State(app): State<Arc<App>>) -> Json<Value> {
    Json(json!({"models": models(&app)}))
}

/// `/api/ps`: the same, as it is always loaded.
pub(crate) async fn running(State(app): State<Arc<App>>) -> Json<Value> {
    let mut models = models(&app);
    for model in &mut models {
        model["size_vram"] = json!(0);
        model["context_length"] = json!(app.model().facts().context);
    }
    Json(json!({"models": models}))
}

/// `/api/show`: whatever name is asked for, it is this model.
pub(crate) async fn show(State(app): State<Arc<App>>) -> Json<Value> {
    let model = app.model();
    let facts = model.facts();
    let template = model.template().map(|template| template.source()).ok();
    let mut capabilities = vec!["completion"];
    if template.is_some_and(|source| source.contains("tools")) {
        capabilities.push("tools");
    }
    if model.thinking_tokens().is_some() {
        capabilities.push("thinking");
    }
    Json(json!({
        "modified_at": time::text_of(app.started()),
        "template": template,
        "details": details(),
        "model_info": {
            "general.architecture": "qwen35moe",
            "general.name": facts.name,
            "qwen35moe.context_length": facts.context,
            "qwen35moe.embedding_length": facts.hidden,
        },
        "capabilities": capabilities,
    }))
}

fn models(app: &App) -> Vec<Value> {
    let facts = app.model().facts();
    let names = std::iter::once(&facts.name).chain(&facts.aliases);
    let digest = blake3::hash(facts.path.as_bytes()).to_hex();
    names
        .map(|name| {
            json!({
                "name": name,
                "model": name,
                "modified_at": time::text_of(app.started()),
                "size": facts.file_bytes,
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
