//! Log-probabilities in the form of chats.

use serde_json::{Value, json};

use crate::answer::TokenLogprob;

/// What stands for negative infinity, which JSON cannot write.
const NEVER: f32 = -9999.0;

/// The `logprobs` of a choice or of a piece of one.
pub(super) fn of_chat(tokens: &[TokenLogprob]) -> Value {
    json!({"content": listed(tokens), "refusal": null})
}

/// The same without what is around it.
pub(super) fn listed(tokens: &[TokenLogprob]) -> Vec<Value> {
    let token = |token: &TokenLogprob| {
        let top = token
            .top
            .iter()
            .map(|(_, bytes, logprob)| one(bytes, *logprob));
        let top: Vec<Value> = top.collect();
        let mut entry = one(&token.bytes, token.logprob);
        entry["top_logprobs"] = Value::Array(top);
        entry
    };
    tokens.iter().map(token).collect()
}

fn one(bytes: &[u8], logprob: f32) -> Value {
    json!({
        "token": String::from_utf8_lossy(bytes),
        "bytes": bytes,
        "logprob": finite(logprob),
    })
}

/// A log-probability that JSON can write.
pub(super) fn finite(logprob: f32) -> f32 {
    if logprob.is_finite() { logprob } else { NEVER }
}
