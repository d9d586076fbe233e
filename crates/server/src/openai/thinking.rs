//! Whether and how long the model thinks, as clients ask for it.

use serde::Deserialize;
use serde_json::{Map, Value};
use text::ChatRequest;
use text::output::ReasoningFormat;

use crate::error::ApiError;

/// Tokens of thinking for an effort that bounds it.
const LOW: usize = 1024;
const MEDIUM: usize = 8192;

/// The fields that ask for thinking. Explicit numbers win over words for an effort.
#[derive(Debug, Default, Deserialize)]
pub(super) struct ThinkingFields {
    /// Variables of the template, such as `enable_thinking`.
    #[serde(default)]
    chat_template_kwargs: Option<Map<String, Value>>,
    enable_thinking: Option<bool>,
    /// Tokens; below 0 for no bound.
    #[serde(alias = "thinking_token_budget", alias = "reasoning_budget")]
    thinking_budget: Option<i64>,
    reasoning_effort: Option<String>,
    /// OpenRouter's and Responses': `{"effort": ..., "max_tokens": ..., "enabled": ...}`.
    #[serde(default)]
    reasoning: Value,
    reasoning_format: Option<String>,
}

/// What they ask for beside what went into the conversation.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ThinkingAsk {
    pub(super) budget: Option<usize>,
    pub(super) format: Option<ReasoningFormat>,
}

impl ThinkingFields {
    /// Puts into the conversation what the template has to know.
    ///
    /// # Errors
    /// When a word is none that there is.
    pub(super) fn apply(self, chat: &mut ChatRequest) -> Result<ThinkingAsk, ApiError> {
        chat.variables
            .extend(self.chat_template_kwargs.unwrap_or_default());
        let in_variables = chat.variables.remove("enable_thinking");
        let mut is_on = match in_variables {
            Some(Value::Bool(on)) => Some(on),
            _ => None,
        };
        let effort = self.reasoning_effort.as_deref();
        let effort = effort.or_else(|| self.reasoning["effort"].as_str());
        let mut budget = None;
        if let Some(effort) = effort {
            let (on, tokens) = effort_of(effort)?;
            is_on = is_on.or(on);
            budget = tokens;
        }
        is_on = self.reasoning["enabled"].as_bool().or(is_on);
        is_on = self.enable_thinking.or(is_on);
        let asked = self
            .thinking_budget
            .or_else(|| self.reasoning["max_tokens"].as_i64());
        if asked.is_some() {
            // Below 0 is no bound.
            budget = asked.and_then(|tokens| usize::try_from(tokens).ok());
            if budget == Some(0) {
                is_on = Some(false);
            }
        }
        chat.enable_thinking = is_on.or(chat.enable_thinking);
        let format = match self.reasoning_format {
            None => None,
            Some(name) => Some(
                name.parse()
                    .map_err(|error| ApiError::bad("reasoning_format", format!("{error}")))?,
            ),
        };
        Ok(ThinkingAsk { budget, format })
    }
}

/// Whether to think, and for how many tokens at most.
///
/// # Errors
/// When there is no such effort.
pub(crate) fn effort_of(effort: &str) -> Result<(Option<bool>, Option<usize>), ApiError> {
    match effort {
        "none" | "minimal" => Ok((Some(false), None)),
        "low" => Ok((Some(true), Some(LOW))),
        "medium" => Ok((Some(true), Some(MEDIUM))),
        "high" | "xhigh" | "max" => Ok((Some(true), None)),
        "auto" | "default" => Ok((None, None)),
        other => {
            let why = format!(
                "no effort is called {other:?}; there are none, minimal, low, medium, high and xhigh"
            );
            Err(ApiError::bad("reasoning_effort", why))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(fields: Value, is_on: Option<bool>, budget: Option<usize>) {
        let read: ThinkingFields = serde_json::from_value(fields.clone()).unwrap();
        let mut chat = ChatRequest::new(Vec::new());
        let asked = read.apply(&mut chat).unwrap();
        assert_eq!(
            (chat.enable_thinking, asked.budget),
            (is_on, budget),
            "{fields}"
        );
    }

    #[test]
    fn thinking_is_asked_for_in_many_ways() {
        check(json!({}), None, None);
        check(
            json!({"chat_template_kwargs": {"enable_thinking": false}}),
            Some(false),
            None,
        );
        check(json!({"enable_thinking": true}), Some(true), None);
        check(json!({"reasoning_effort": "none"}), Some(false), None);
        check(json!({"reasoning_effort": "low"}), Some(true), Some(LOW));
        check(
            json!({"reasoning": {"effort": "high", "max_tokens": 7}}),
            Some(true),
            Some(7),
        );
        check(json!({"reasoning": {"enabled": false}}), Some(false), None);
        check(json!({"thinking_budget": 0}), Some(false), Some(0));
        check(
            json!({"thinking_budget": -1, "reasoning_effort": "low"}),
            Some(true),
            None,
        );
        assert!(effort_of("huge").is_err());
    }
}
