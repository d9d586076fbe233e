//! `/v1/models`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use serde_json::{Value, json};

use crate::app::App;
use crate::error::ApiError;
use crate::models::{Place, Profile};

/// The models, loaded or not, each under all its names.
pub(crate) async fn list(State(app): State<Arc<App>>) -> Json<Value> {
    let mut models = Vec::new();
    for (model, offer) in app.models().offers().iter().enumerate() {
        for (profile, named) in offer.profiles.iter().enumerate() {
            let place = Place { model, profile };
            models.extend(named.names().map(|name| describe(&app, place, name)));
        }
    }
    Json(json!({"object": "list", "data": models}))
}

/// One model, by any name that requests may use.
///
/// # Errors
/// When there is none of this name.
pub(crate) async fn one(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let place = app.models().find(Some(&name))?;
    Ok(Json(describe(&app, place, &name)))
}

fn describe(app: &App, place: Place, name: &str) -> Value {
    let Some(offer) = app.models().offers().get(place.model) else {
        return Value::Null;
    };
    let facts = &offer.facts;
    let others = offer.profiles.get(place.profile);
    let others: Vec<&String> = others.map(Profile::names).into_iter().flatten().collect();
    json!({
        "id": name,
        "object": "model",
        "created": app.started(),
        "owned_by": "tidemill",
        "aliases": others,
        "status": app.models().status(place.model).json(),
        "max_model_len": facts.context,
        "context_length": facts.context,
        "architecture": {"input_modalities": ["text"], "output_modalities": ["text"]},
        "meta": {
            "n_ctx": facts.context,
            "n_ctx_train": facts.trained_context,
            "n_vocab": facts.vocabulary,
            "n_embd": facts.hidden,
            "size": facts.file_bytes,
        },
    })
}
