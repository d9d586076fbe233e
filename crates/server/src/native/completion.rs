//! llama.cpp's `/completion` and `/infill`, as editors use them.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use text::{TokenId, Tokenizer};

use crate::answer::{AnswerEvent, Finish, Reason};
use crate::app::App;
use crate::ask::{Ask, PromptAsk, SamplingAsk};
use crate::error::ApiError;
use crate::http::{Encoder, JsonBody, data, respond};
use crate::openai::{FormatFields, OneOrMany, bound, error_body, fill};

const FILE: &str = "<|file_sep|>";

/// What both bodies have.
#[derive(Debug, Deserialize)]
pub(crate) struct Rest {
    n_predict: Option<i64>,
    stream: Option<bool>,
    stop: Option<OneOrMany>,
    cache_prompt: Option<bool>,
    #[serde(flatten)]
    format: FormatFields,
    #[serde(flatten)]
    sampling: SamplingAsk,
}

/// The body of `/completion`.
#[derive(Debug, Deserialize)]
pub(crate) struct CompletionBody {
    prompt: WirePrompt,
    #[serde(flatten)]
    rest: Rest,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum WirePrompt {
    Text(String),
    Tokens(Vec<TokenId>),
}

/// The body of `/infill`: text before and behind a gap, what was typed in it so far, and other files.
#[derive(Debug, Deserialize)]
pub(crate) struct InfillBody {
    #[serde(default)]
    input_prefix: String,
    #[serde(default)]
    input_suffix: String,
    #[serde(default)]
    prompt: String,
    #[serde(default)]
    input_extra: Vec<Extra>,
    #[serde(flatten)]
    rest: Rest,
}

#[derive(Debug, Deserialize)]
struct Extra {
    #[serde(default)]
    filename: String,
    text: String,
}

/// `/completion`
///
/// # Errors
/// When the request makes no sense, does not fit, or too much is waiting.
pub(crate) async fn completion(
    State(app): State<Arc<App>>,
    JsonBody(body): JsonBody<CompletionBody>,
) -> Result<Response, ApiError> {
    let prompt = match body.prompt {
        WirePrompt::Text(text) => PromptAsk::Text(text),
        WirePrompt::Tokens(tokens) => PromptAsk::Tokens(tokens),
    };
    answer(&app, prompt, body.rest).await
}

/// `/infill`
///
/// # Errors
/// As [`completion`], and when the vocabulary has no tokens for gaps.
pub(crate) async fn infill(
    State(app): State<Arc<App>>,
    JsonBody(body): JsonBody<InfillBody>,
) -> Result<Response, ApiError> {
    let tokenizer = app.model().tokenizer();
    let mut text = others(&body.input_extra, tokenizer);
    text.push_str(&fill::prompt(
        &body.input_prefix,
        &body.input_suffix,
        tokenizer,
    )?);
    text.push_str(&body.prompt);
    answer(&app, PromptAsk::Text(text), body.rest).await
}

/// Other files, as the family's models were shown them.
fn others(extra: &[Extra], tokenizer: &Tokenizer) -> String {
    if tokenizer.id_of(FILE).is_none() {
        return extra
            .iter()
            .map(|file| format!("{}\n", file.text))
            .collect();
    }
    let file = |file: &Extra| format!("{FILE}{}\n{}\n", file.filename, file.text);
    let mut text: String = extra.iter().map(file).collect();
    if !text.is_empty() {
        text.push_str(FILE);
        text.push('\n');
    }
    text
}

async fn answer(app: &App, prompt: PromptAsk, rest: Rest) -> Result<Response, ApiError> {
    let ask = Ask {
        format: rest.format.read()?,
        sampling: rest.sampling,
        max_tokens: bound(rest.n_predict),
        stop: rest.stop.map(OneOrMany::into_list).unwrap_or_default(),
        cache: rest.cache_prompt.unwrap_or(true),
        ..Ask::new(prompt)
    };
    let mut answer = app.ask(ask).await?;
    let mut writer = Writer {
        model: app.model().facts().name.clone(),
        content: String::new(),
        finish: None,
    };
    if rest.stream == Some(true) {
        return Ok(respond(answer, writer));
    }
    while let Some(event) = answer.next().await {
        match event {
            AnswerEvent::Failed(error) => return Err(error),
            event => writer.take(event),
        }
    }
    Ok(Json(writer.ended(&writer.content)).into_response())
}

struct Writer {
    model: String,
    content: String,
    finish: Option<Finish>,
}

impl Writer {
    fn take(&mut self, event: AnswerEvent) {
        match event {
            AnswerEvent::Content { text, .. } => self.content.push_str(&text),
            AnswerEvent::Finished { finish, .. } => self.finish = Some(finish),
            _ => {}
        }
    }

    /// The last object, with what the answer cost.
    fn ended(&self, content: &str) -> Value {
        let mut last = json!({
            "index": 0, "content": content, "stop": true, "model": self.model,
        });
        if let Some(finish) = &self.finish {
            let figures = &finish.figures;
            last["stop_type"] = json!(match (finish.reason, &finish.stop_string) {
                (Reason::Length, _) => "limit",
                (_, Some(_)) => "word",
                (_, None) => "eos",
            });
            last["stopping_word"] = json!(finish.stop_string.as_deref().unwrap_or_default());
            last["tokens_predicted"] = json!(figures.generated);
            last["tokens_evaluated"] = json!(figures.prompt);
            last["tokens_cached"] = json!(figures.cached);
            last["timings"] = figures.timings();
        }
        last
    }
}

impl Encoder for Writer {
    fn event(&mut self, event: AnswerEvent, out: &mut String) {
        if let AnswerEvent::Content { text, .. } = &event {
            data(&json!({"index": 0, "content": text, "stop": false}), out);
        }
        if let AnswerEvent::Finished { .. } = &event {
            self.take(event);
        }
    }

    fn end(&mut self, out: &mut String) {
        data(&self.ended(""), out);
    }

    fn failed(&mut self, error: &ApiError, out: &mut String) {
        data(&error_body(error), out);
    }
}
