//! What the server is and what it is doing.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use engine::SamplerSettings;
use engine::scheduler::{Phase, RequestStatus};
use serde_json::{Value, json};

use crate::app::App;
use crate::error::{ApiError, ErrorKind};

/// `/health`: the model is loaded before the server listens.
pub(crate) async fn health() -> Json<Value> {
    Json(json!({"status": "ok"}))
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

/// `/props`
pub(crate) async fn props(State(app): State<Arc<App>>) -> Json<Value> {
    let model = app.model();
    let facts = model.facts();
    let template = model.template().map(|template| template.source()).ok();
    Json(json!({
        "default_generation_settings": {
            "n_ctx": facts.context,
            "params": {
                "thinking": sampler(&model.sampling(true)),
                "instruct": sampler(&model.sampling(false)),
            },
        },
        "total_slots": facts.parallel,
        "model_alias": facts.name,
        "model_path": facts.path,
        "chat_template": template,
        "modalities": {"vision": false, "audio": false},
        "build_info": concat!("tidemill ", env!("CARGO_PKG_VERSION")),
    }))
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

/// `/slots`: one entry for each answer in the making, the idle places behind them.
///
/// # Errors
/// When the server was started without it.
pub(crate) async fn slots(State(app): State<Arc<App>>) -> Result<Json<Value>, ApiError> {
    if !app.config().slots {
        let why = "this server was started with --no-slots";
        return Err(ApiError::new(ErrorKind::NotFound, why));
    }
    let figures = app.worker().board().figures();
    let facts = app.model().facts();
    let mut slots: Vec<Value> = figures.answers.iter().map(busy).collect();
    slots.resize_with(slots.len().max(facts.parallel), || json!({"state": "idle"}));
    for (id, slot) in slots.iter_mut().enumerate() {
        slot["id"] = json!(id);
        slot["n_ctx"] = json!(facts.context);
        slot["is_processing"] = json!(slot["state"] != "idle");
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
