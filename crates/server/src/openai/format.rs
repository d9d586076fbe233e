//! The form of the answer, as clients ask for it.

use engine::constraint::Grammar;
use serde::Deserialize;
use serde_json::Value;

use crate::ask::Format;
use crate::error::ApiError;

/// The fields that ask for a form. The first that is there counts.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct FormatFields {
    #[serde(default)]
    response_format: Value,
    /// llama.cpp's.
    #[serde(default)]
    json_schema: Value,
    /// llama.cpp's: rules in GBNF, or Lark's.
    grammar: Option<String>,
    /// vLLM's.
    #[serde(default)]
    structured_outputs: Value,
    #[serde(default)]
    guided_json: Value,
    guided_regex: Option<String>,
    guided_grammar: Option<String>,
    guided_choice: Option<Vec<String>>,
}

impl FormatFields {
    /// The form they ask for.
    ///
    /// # Errors
    /// When it is none that there is.
    pub(crate) fn read(self) -> Result<Format, ApiError> {
        match read_response_format(&self.response_format)? {
            Format::Free => {}
            format => return Ok(format),
        }
        let outputs = self.structured_outputs;
        let text = |name: &str| outputs[name].as_str().map(str::to_owned);
        if let Some(schema) = [&self.json_schema, &self.guided_json, &outputs["json"]]
            .into_iter()
            .find(|schema| !schema.is_null())
        {
            return schema_of(schema);
        }
        if let Some(rules) = self.grammar.or(self.guided_grammar).or(text("grammar")) {
            return Ok(Format::Grammar(rules_of(rules)));
        }
        if let Some(regex) = self.guided_regex.or(text("regex")) {
            return Ok(Format::Grammar(Grammar::Regex(regex)));
        }
        let listed = || {
            let choices = outputs["choice"].as_array()?;
            choices
                .iter()
                .map(|c| c.as_str().map(str::to_owned))
                .collect()
        };
        if let Some(choices) = self.guided_choice.or_else(listed) {
            let words = choices
                .iter()
                .map(|choice| Value::String(choice.clone()).to_string());
            let words: Vec<String> = words.collect();
            let rules = format!("start: {}", words.join(" | "));
            return Ok(Format::Grammar(Grammar::Lark(rules)));
        }
        Ok(Format::Free)
    }
}

/// `response_format`, or `text.format` of Responses, whose schema lies one level higher.
pub(super) fn read_response_format(format: &Value) -> Result<Format, ApiError> {
    if format.is_null() {
        return Ok(Format::Free);
    }
    let schema = ["/json_schema/schema", "/schema"]
        .iter()
        .find_map(|path| format.pointer(path))
        .filter(|schema| !schema.is_null());
    match (format["type"].as_str(), schema) {
        (Some("text"), _) => Ok(Format::Free),
        (Some("json_object"), None) => Ok(Format::JsonObject),
        (Some("json_object" | "json_schema"), Some(schema)) => schema_of(schema),
        (Some("json_schema"), None) => {
            let why = "expected {\"type\": \"json_schema\", \"json_schema\": {\"schema\": ...}}";
            Err(ApiError::bad("response_format", why))
        }
        _ => {
            let why = format!(
                "{format} is no form of answers; the types are text, json_object and json_schema"
            );
            Err(ApiError::bad("response_format", why))
        }
    }
}

/// Some clients write the schema as text.
fn schema_of(schema: &Value) -> Result<Format, ApiError> {
    match schema {
        Value::Object(_) | Value::Bool(_) => Ok(Format::Schema(schema.clone())),
        Value::String(text) => serde_json::from_str(text)
            .map(Format::Schema)
            .map_err(|error| ApiError::bad("response_format", format!("the schema: {error}"))),
        other => {
            let why = format!("{other} is no JSON schema; expected an object");
            Err(ApiError::bad("response_format", why))
        }
    }
}

/// The two forms are told apart by how they define a rule.
fn rules_of(rules: String) -> Grammar {
    if rules.contains("::=") {
        Grammar::Gbnf(rules)
    } else {
        Grammar::Lark(rules)
    }
}
