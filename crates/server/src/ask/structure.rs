//! Which grammar an answer has to follow, and from where on.

use engine::constraint::{Begin, Grammar};
use serde_json::{Map, Value, json};
use text::TokenId;
use text::output::{ToolForm, ToolGrammar};

use super::{Ask, Format, ToolChoice};
use crate::error::ApiError;

/// Between JSON's tokens, bounded as for answers that are JSON alone.
const WHITE_SPACE: &str = r"[ \t\r\n]{1,128}";

/// The grammar of an answer; `None` for none. `form` is how the model writes calls, `opening` the
/// token that a call begins with.
///
/// # Errors
/// When the tools and their choice do not fit, or a tool cannot be written.
pub(super) fn grammar(
    ask: &Ask,
    form: ToolForm,
    opening: Option<TokenId>,
) -> Result<Option<(Begin, Grammar)>, ApiError> {
    let tools = ask.tools.callable(ask.tool_list())?;
    let is_parallel = ask.tools.is_parallel;
    let calls = |is_opened| Grammar::ToolCalls {
        tools: tools.clone(),
        form,
        is_parallel,
        is_opened,
    };
    if matches!(
        ask.tools.choice,
        ToolChoice::Required | ToolChoice::Named(_)
    ) {
        // A call that has to be made leaves no room for another form of the answer.
        return Ok(Some((Begin::BehindThinking, calls(false))));
    }
    let answer = match &ask.format {
        Format::Free => {
            let is_bound = ask.tools.is_strict || !is_parallel;
            return Ok(match opening {
                Some(token) if is_bound && !tools.is_empty() => {
                    Some((Begin::Behind(token), calls(true)))
                }
                _ => None,
            });
        }
        Format::Grammar(grammar) => return Ok(Some((Begin::BehindThinking, grammar.clone()))),
        Format::JsonObject if tools.is_empty() => Grammar::JsonObject,
        Format::Schema(schema) if tools.is_empty() => Grammar::JsonSchema(schema.clone()),
        Format::JsonObject => calls_or(&json!({"type": "object"}), &tools, form, is_parallel)?,
        Format::Schema(schema) => calls_or(schema, &tools, form, is_parallel)?,
    };
    Ok(Some((Begin::BehindThinking, answer)))
}

/// Either calls of tools, or JSON of a schema.
fn calls_or(
    schema: &Value,
    tools: &[Value],
    form: ToolForm,
    is_parallel: bool,
) -> Result<Grammar, ApiError> {
    let calls = ToolGrammar {
        tools,
        form,
        is_parallel,
        is_opened: false,
    };
    let rules = calls
        .rules()
        .map_err(|error| ApiError::bad("tools", error.to_string()))?
        .replacen("start:", "calls:", 1);
    let mut schema = match schema {
        Value::Object(schema) => schema.clone(),
        _ => Map::new(),
    };
    let options = json!({"whitespace_pattern": WHITE_SPACE, "coerce_one_of": true});
    schema.entry("x-guidance").or_insert(options);
    let schema = Value::Object(schema);
    Ok(Grammar::Lark(format!(
        "start: calls | answer\nanswer: %json {schema}\n{rules}"
    )))
}
