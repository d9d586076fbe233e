//! Loading and unloading models by hand, in llama.cpp's form.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::app::App;
use crate::error::ApiError;
use crate::http::JsonBody;

/// The body of both paths.
#[derive(Debug, Deserialize)]
pub(crate) struct ModelBody {
    model: String,
}

/// `/models/load`: answers when the model is loaded.
///
/// # Errors
/// When no model has the name, or it cannot be loaded.
pub(crate) async fn load(
    State(app): State<Arc<App>>,
    JsonBody(body): JsonBody<ModelBody>,
) -> Result<Json<Value>, ApiError> {
    let lease = app.lease(Some(&body.model)).await?;
    Ok(Json(json!({"success": true, "model": lease.name()})))
}

/// `/models/unload`: the model is unloaded as soon as nobody uses it.
///
/// # Errors
/// When no model has the name.
pub(crate) async fn unload(
    State(app): State<Arc<App>>,
    JsonBody(body): JsonBody<ModelBody>,
) -> Result<Json<Value>, ApiError> {
    let place = app.models().find(Some(&body.model))?;
    app.models().unload(place.model);
    Ok(Json(json!({"success": true})))
}
