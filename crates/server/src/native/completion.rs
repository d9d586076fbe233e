//! llama.cpp's `/completion` and `/infill`, as editors use them.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use text::Tokenizer;

use crate::answer::{AnswerEvent, Finish, Reason};
use crate::app::App;
use crate::ask::PromptAsk;
use crate::error::ApiError;
use crate::http::{Encoder, JsonBody, data, respond, with_model};
use crate::openai::{STREAM, TextFields, WirePrompt, bound, error_body, fill};

const FILE: &str = "<|file_sep|>";

/// The body of `/completion`.
#[derive(Debug, Deserialize)]
pub(crate) struct CompletionBody {
    prompt: WirePrompt,
    n_predict: Option<i64>,
    #[serde(flatten)]
    fields: TextFields,
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
    n_predict: Option<i64>,
    #[serde(flatten)]
    fields: TextFields,
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
    let mut prompts = body.prompt.list();
    let Some(prompt) = prompts.pop().filter(|_| prompts.is_empty()) else {
        return Err(ApiError::bad("prompt", "expected one prompt"));
    };
    answer(app, body.fields, body.n_predict, |_| Ok(prompt)).await
}

/// `/infill`
///
/// # Errors
/// As [`completion`], and when the vocabulary has no tokens for gaps.
pub(crate) async fn infill(
    State(app): State<Arc<App>>,
    JsonBody(body): JsonBody<InfillBody>,
) -> Result<Response, ApiError> {
    let InfillBody {
        input_prefix,
        input_suffix,
        prompt,
        input_extra,
        n_predict,
        fields,
    } = body;
    let gap = move |tokenizer: &Tokenizer| {
        let mut text = others(&input_extra, tokenizer);
        text.push_str(&fill::prompt(&input_prefix, &input_suffix, tokenizer)?);
        text.push_str(&prompt);
        Ok(PromptAsk::Text(text))
    };
    answer(app, fields, n_predict, gap).await
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

async fn answer(
    app: Arc<App>,
    fields: TextFields,
    most: Option<i64>,
    prompt: impl FnOnce(&Tokenizer) -> Result<PromptAsk, ApiError> + Send + 'static,
) -> Result<Response, ApiError> {
    let name = fields.model.clone();
    let is_streamed = fields.is_streamed();
    let asked = fields.read()?;
    let most = bound("n_predict", most)?;
    let stream = is_streamed.then_some(STREAM);
    with_model(app, name.as_deref(), stream, async move |app, lease| {
        let prompt = prompt(lease.model().tokenizer())?;
        let mut answer = app.ask(&lease, asked.ask(prompt, most)).await?;
        let mut writer = Writer {
            model: lease.name(),
            content: String::new(),
            finish: None,
        };
        if is_streamed {
            return Ok(respond(answer, writer));
        }
        while let Some(event) = answer.next().await {
            match event {
                AnswerEvent::Failed(error) => return Err(error),
                event => writer.take(event),
            }
        }
        Ok(Json(writer.ended(&writer.content)).into_response())
    })
    .await
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
