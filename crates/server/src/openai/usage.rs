//! What an answer cost, in OpenAI's form.

use serde_json::{Value, json};

use crate::answer::{Figures, Reason};

/// The `usage` of chats and completions.
pub(super) fn usage(figures: &Figures) -> Value {
    json!({
        "prompt_tokens": figures.prompt,
        "completion_tokens": figures.generated,
        "total_tokens": figures.prompt + figures.generated,
        "prompt_tokens_details": {"cached_tokens": figures.cached},
        "completion_tokens_details": {
            "reasoning_tokens": figures.reasoning,
            "accepted_prediction_tokens": figures.accepted,
            "rejected_prediction_tokens": figures.drafted.saturating_sub(figures.accepted),
        },
    })
}

/// The `finish_reason` of chats and completions.
pub(super) fn finish_reason(reason: Reason) -> &'static str {
    match reason {
        Reason::Stop => "stop",
        Reason::Calls => "tool_calls",
        Reason::Length => "length",
    }
}
