//! What a client may ask an answer to follow.

use llguidance::api::TopLevelGrammar;
use serde_json::{Map, Value, json};
use text::output::{ToolForm, ToolGrammar};

use super::gbnf;
use super::{ConstraintError, GrammarLimits};

/// A language that an answer has to be in.
#[derive(Debug, Clone, PartialEq)]
pub enum Grammar {
    /// Any JSON object.
    JsonObject,
    /// JSON that a schema allows. Keywords that cannot be enforced are refused.
    JsonSchema(Value),
    /// A regular expression that the whole answer matches.
    Regex(String),
    /// Rules in the form of the Lark toolkit. `%json {...}` may stand in for a rule.
    Lark(String),
    /// Rules in llama.cpp's form.
    Gbnf(String),
    /// Tool calls, in the model's own form.
    ToolCalls {
        /// The tools that may be called, as clients describe them.
        tools: Vec<Value>,
        /// How the model writes calls.
        form: ToolForm,
        /// Whether several calls may follow one another.
        is_parallel: bool,
        /// Whether the first `<tool_call>` was said already.
        is_opened: bool,
    },
}

/// Between JSON's tokens. It is bounded because a model in doubt may else write spaces for ever.
const WHITE_SPACE: &str = r"[ \t\r\n]{1,128}";

impl Grammar {
    pub(super) fn compiled_from(
        &self,
        limits: &GrammarLimits,
    ) -> Result<TopLevelGrammar, ConstraintError> {
        match self {
            Self::JsonObject => Ok(of_schema(&json!({"type": "object"}))),
            Self::JsonSchema(schema) => {
                limits.check(&schema.to_string())?;
                Ok(of_schema(schema))
            }
            Self::Regex(pattern) => {
                limits.check(pattern)?;
                Ok(TopLevelGrammar::from_regex(pattern))
            }
            Self::Lark(rules) => {
                limits.check(rules)?;
                Ok(TopLevelGrammar::from_lark(rules.clone()))
            }
            Self::Gbnf(rules) => {
                limits.check(rules)?;
                let rules = gbnf::to_lark(rules)?;
                limits.check(&rules)?;
                Ok(TopLevelGrammar::from_lark(rules))
            }
            Self::ToolCalls {
                tools,
                form,
                is_parallel,
                is_opened,
            } => {
                let grammar = ToolGrammar {
                    tools,
                    form: *form,
                    is_parallel: *is_parallel,
                    is_opened: *is_opened,
                };
                let rules = grammar.rules()?;
                limits.check(&rules)?;
                Ok(TopLevelGrammar::from_lark(rules))
            }
        }
    }
}

fn of_schema(schema: &Value) -> TopLevelGrammar {
    let mut schema = match schema {
        Value::Object(schema) => schema.clone(),
        // `true` allows anything; `false` has no words and is refused when it is compiled.
        Value::Bool(false) => Map::from_iter([("not".to_owned(), json!({}))]),
        _ => Map::new(),
    };
    let options = json!({"whitespace_pattern": WHITE_SPACE, "coerce_one_of": true});
    schema.entry("x-guidance").or_insert(options);
    TopLevelGrammar::from_json_schema(Value::Object(schema))
}
