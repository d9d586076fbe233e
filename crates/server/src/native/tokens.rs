//! Text to tokens and back, and conversations to prompts.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use serde::Deserialize;
use serde_json::{Value, json};
use text::tokenizer::Decode;
use text::{Prompt, SpecialTokens, TokenId};

use super::state::About;
use crate::app::App;
use crate::error::ApiError;
use crate::http::JsonBody;
use crate::model::ServedModel;
use crate::openai::chat::ChatBody;

/// The body of `/tokenize`: llama.cpp's `content`, vLLM's `prompt`, or a conversation.
#[derive(Debug, Deserialize)]
pub(crate) struct TokenizeBody {
    model: Option<String>,
    #[serde(alias = "prompt")]
    content: Option<String>,
    /// Whether `<|im_end|>` in the text is that token.
    parse_special: Option<bool>,
    /// Whether to tell each token's text too.
    #[serde(alias = "return_token_strs")]
    with_pieces: Option<bool>,
    #[serde(flatten)]
    rest: Value,
}

/// `/tokenize`
///
/// # Errors
/// When there is nothing to encode, or it cannot be.
pub(crate) async fn tokenize(
    State(app): State<Arc<App>>,
    JsonBody(body): JsonBody<TokenizeBody>,
) -> Result<Json<Value>, ApiError> {
    let lease = app.lease(body.model.as_deref()).await?;
    let model = Arc::clone(lease.model());
    let work = move || {
        let tokens = tokens_of(&model, &body)?;
        let with_pieces = body.with_pieces == Some(true);
        let mut answer = json!({
            "count": tokens.len(),
            "max_model_len": model.facts().context,
        });
        if with_pieces {
            let pieces = tokens.iter().map(|&id| piece(&model, id));
            answer["token_strs"] = pieces.clone().map(|(_, text)| text).collect();
            let pairs = pieces.map(|(id, text)| json!({"id": id, "piece": text}));
            answer["tokens"] = pairs.collect();
        } else {
            answer["tokens"] = json!(tokens);
        }
        Ok(Json(answer))
    };
    app.aside(work).await?
}

fn tokens_of(model: &ServedModel, body: &TokenizeBody) -> Result<Vec<TokenId>, ApiError> {
    let tokenizer = model.tokenizer();
    if let Some(text) = &body.content {
        let special = match body.parse_special {
            Some(false) => SpecialTokens::AsText,
            _ => SpecialTokens::Parse,
        };
        let encoded = tokenizer.encode(text, special);
        return encoded.map_err(|error| ApiError::bad("content", error.to_string()));
    }
    Ok(rendered(model, body.rest.clone())?.tokens)
}

/// A token as JSON: its text, or its bytes where they are half a character.
fn piece(model: &ServedModel, id: TokenId) -> (TokenId, Value) {
    let bytes = model.tokenizer().token_bytes(id).unwrap_or_default();
    match std::str::from_utf8(bytes) {
        Ok(text) => (id, json!(text)),
        Err(_) => (id, json!(bytes)),
    }
}

/// The body of `/detokenize`.
#[derive(Debug, Deserialize)]
pub(crate) struct DetokenizeBody {
    model: Option<String>,
    tokens: Vec<TokenId>,
}

/// `/detokenize`
///
/// # Errors
/// When an id is outside the vocabulary.
pub(crate) async fn detokenize(
    State(app): State<Arc<App>>,
    JsonBody(body): JsonBody<DetokenizeBody>,
) -> Result<Json<Value>, ApiError> {
    let lease = app.lease(body.model.as_deref()).await?;
    let model = Arc::clone(lease.model());
    let work = move || {
        let decoded = model.tokenizer().decode(&body.tokens, Decode::Everything);
        let text = decoded.map_err(|error| ApiError::bad("tokens", error.to_string()))?;
        Ok(Json(json!({"content": text, "prompt": text})))
    };
    app.aside(work).await?
}

/// `/apply-template`: the prompt of a chat, without answering it.
///
/// # Errors
/// When the conversation makes no sense or the template refuses it.
pub(crate) async fn apply_template(
    State(app): State<Arc<App>>,
    JsonBody(body): JsonBody<Value>,
) -> Result<Json<Value>, ApiError> {
    let lease = app.lease(body["model"].as_str()).await?;
    let model = Arc::clone(lease.model());
    let work = move || {
        let prompt = rendered(&model, body)?;
        Ok(Json(
            json!({"prompt": prompt.text, "tokens": prompt.tokens.len()}),
        ))
    };
    app.aside(work).await?
}

fn rendered(model: &ServedModel, chat: Value) -> Result<Prompt, ApiError> {
    let chat: ChatBody = serde_json::from_value(chat).map_err(|error| {
        let why = format!("the conversation cannot be read: {error}");
        ApiError::bad("messages", why)
    })?;
    let mut chat = chat.into_chat()?;
    model.complete(&mut chat);
    let (template, tokenizer) = (model.template()?, model.tokenizer());
    Ok(Prompt::new(
        template,
        tokenizer,
        &chat,
        SpecialTokens::AsText,
    )?)
}

/// `/tokenizer_info`
///
/// # Errors
/// When no model has the name, or it cannot be loaded.
pub(crate) async fn tokenizer_info(
    State(app): State<Arc<App>>,
    Query(about): Query<About>,
) -> Result<Json<Value>, ApiError> {
    let lease = app.lease(about.model.as_deref()).await?;
    let model = lease.model();
    let tokenizer = model.tokenizer();
    let text = |id: TokenId| tokenizer.decode(&[id], Decode::Everything).ok();
    let ends: Vec<String> = tokenizer
        .stop_tokens()
        .iter()
        .filter_map(|&id| text(id))
        .collect();
    Ok(Json(json!({
        "tokenizer_class": "Qwen2Tokenizer",
        "vocab_size": tokenizer.vocabulary_size(),
        "bos_token": tokenizer.bos_to_add().and_then(text),
        "eos_token": ends.first(),
        "eos_tokens": ends,
        "pad_token": tokenizer.padding().and_then(text),
        "model_max_length": model.facts().context,
        "chat_template": model.template().map(|template| template.source()).ok(),
    })))
}
