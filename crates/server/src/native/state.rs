//! What the server is and what it is doing.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use engine::SamplerSettings;
use engine::scheduler::{Phase, RequestStatus};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::app::App;
use crate::error::{ApiError, ErrorKind};
use crate::models::{Place, Status};

/// `/health`: whether requests are answered at once. While the model of the start is loaded, the
/// status is 503, and requests wait.
pub(crate) async fn health(State(app): State<Arc<App>>) -> Response {
    let mut models = Map::new();
    for (number, offer) in app.models().offers().iter().enumerate() {
        let status = app.models().status(number);
        if let (Some(profile), true) = (offer.profiles.first(), status != Status::Unloaded) {
            models.insert(profile.name.clone(), status.json());
        }
    }
    if app.is_starting() {
        let body = json!({"status": "loading", "models": models});
        return (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response();
    }
    Json(json!({"status": "ok", "models": models})).into_response()
}

/// The part of an address behind the question mark, for paths that tell of one model.
#[derive(Debug, Deserialize)]
pub(crate) struct About {
    /// Its name; without it the first one is meant.
    pub(super) model: Option<String>,
}

/// Takes what a client tells of itself, and forgets it.
pub(crate) async fn ignore() -> Json<Value> {
    Json(json!({}))
}

/// `/openapi.json`: what can be asked, for programs that make clients or tests of it.
pub(crate) async fn openapi() -> Response {
    const DOCUMENT: &str = include_str!("openapi.json");
    ([(CONTENT_TYPE, "application/json")], DOCUMENT).into_response()
}

/// `/props`: what a model is; its sampler and template are known when it is loaded.
///
/// # Errors
/// When no model has the name.
pub(crate) async fn props(
    State(app): State<Arc<App>>,
    Query(about): Query<About>,
) -> Result<Json<Value>, ApiError> {
    let place = app.models().find(about.model.as_deref())?;
    let offer = app.models().offers().get(place.model);
    let profile = offer.and_then(|offer| offer.profiles.get(place.profile));
    let facts = offer.map(|offer| &offer.facts);
    let running = app.models().running(place);
    let model = running.as_ref().map(|(model, _)| model);
    let template = model.and_then(|model| model.template().map(|t| t.source()).ok());
    let params = model.map(|model| {
        json!({
            "thinking": sampler(&model.sampling(true)),
            "instruct": sampler(&model.sampling(false)),
        })
    });
    Ok(Json(json!({
        "default_generation_settings": {
            "n_ctx": facts.map(|facts| facts.context),
            "params": params,
        },
        "total_slots": facts.map(|facts| facts.parallel),
        "model_alias": profile.map(|profile| &profile.name),
        "model_path": facts.map(|facts| &facts.path),
        "status": app.models().status(place.model).json(),
        "chat_template": template,
        "modalities": {"vision": false, "audio": false},
        "build_info": concat!("tidemill ", env!("CARGO_PKG_VERSION")),
    })))
}

fn sampler(settings: &SamplerSettings) -> Value {
    let stages: Vec<String> = settings.samplers.iter().map(ToString::to_string).collect();
    json!({
        "temperature": settings.temperature,
        "top_k": settings.top_k,
        "top_p": settings.top_p,
        "min_p": settings.min_p,
        "typical_p": settings.typical_p,
        "repeat_penalty": settings.repeat_penalty,
        "presence_penalty": settings.presence_penalty,
        "frequency_penalty": settings.frequency_penalty,
        "samplers": stages,
    })
}

/// `/slots`: one entry for each answer in the making, the idle places behind them, model by model.
///
/// # Errors
/// When the server was started without it, or no model has the name.
pub(crate) async fn slots(
    State(app): State<Arc<App>>,
    Query(about): Query<About>,
) -> Result<Json<Value>, ApiError> {
    if !app.config().slots {
        let why = "this server was started with --no-slots";
        return Err(ApiError::new(ErrorKind::NotFound, why));
    }
    let only = match about.model.as_deref() {
        Some(name) => Some(app.models().find(Some(name))?.model),
        None => None,
    };
    let mut slots = Vec::new();
    for model in 0..app.models().offers().len() {
        let place = Place { model, profile: 0 };
        let running = app.models().running(place);
        let Some((served, worker)) = running.filter(|_| only.is_none_or(|only| only == model))
        else {
            continue;
        };
        let facts = served.facts();
        let figures = worker.board().figures();
        let mut own: Vec<Value> = figures.answers.iter().map(busy).collect();
        own.resize_with(own.len().max(facts.parallel), || json!({"state": "idle"}));
        for slot in &mut own {
            slot["model"] = json!(served.name());
            slot["n_ctx"] = json!(facts.context);
            slot["is_processing"] = json!(slot["state"] != "idle");
        }
        slots.append(&mut own);
    }
    for (id, slot) in slots.iter_mut().enumerate() {
        slot["id"] = json!(id);
    }
    Ok(Json(Value::Array(slots)))
}

fn busy(answer: &RequestStatus) -> Value {
    let state = match answer.phase {
        Phase::Waiting => "waiting",
        Phase::Prefill => "prefill",
        Phase::Decode => "decode",
        Phase::Paused => "paused",
    };
    json!({
        "state": state,
        "id_task": answer.request.number(),
        "choice": answer.choice,
        "n_prompt_tokens": answer.prompt,
        "n_past": answer.in_memory,
        "n_decoded": answer.generated,
    })
}
