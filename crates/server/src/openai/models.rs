//! `/v1/models`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use serde_json::{Value, json};

use crate::app::App;

/// The models: the one that is loaded, under each of its names.
pub(crate) async fn list(State(app): State<Arc<App>>) -> Json<Value> {
    let facts = app.model().facts();
    let names = std::iter::once(&facts.name).chain(&facts.aliases);
    let models: Vec<Value> = names.map(|name| describe(&app, name)).collect();
    Json(json!({"object": "list", "data": models}))
}

/// One model: any name leads to the one that is loaded, as in requests.
pub(crate) async fn one(State(app): State<Arc<App>>, Path(name): Path<String>) -> Json<Value> {
    Json(describe(&app, &name))
}

fn describe(app: &App, name: &str) -> Value {
    let model = app.model();
    let facts = model.facts();
    json!({
        "id": name,
        "object": "model",
        "created": app.started(),
        "owned_by": "tidemill",
        "max_model_len": facts.context,
        "context_length": facts.context,
        "architecture": {"input_modalities": ["text"], "output_modalities": ["text"]},
        "meta": {
            "n_ctx": facts.context,
            "n_ctx_train": facts.trained_context,
            "n_vocab": model.tokenizer().vocabulary_size(),
            "n_embd": facts.hidden,
            "size": facts.file_bytes,
        },
    })
}
