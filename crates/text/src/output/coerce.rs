//! Gives a tool call's textual argument the type that the tool's JSON schema asks for.

use serde_json::{Number, Value};

/// The value of `text` for a parameter with this schema. `None`: the tool does not describe it.
///
/// Text that does not fit any of the schema's types stays text: the tool may know what to do
/// with it, and the caller can validate.
pub(super) fn coerce(text: &str, schema: Option<&Value>) -> Value {
    let as_text = || Value::String(text.to_owned());
    let Some(schema) = schema else {
        return as_text();
    };
    let types = types_of(schema);
    if types.is_empty() {
        // Anything goes, so take what is unmistakably JSON for what it is.
        return serde_json::from_str(text.trim()).unwrap_or_else(|_| as_text());
    }
    types
        .iter()
        .find_map(|name| parse_as(name, text.trim()))
        .unwrap_or_else(as_text)
}

/// The types that a schema allows. Empty if it does not say.
fn types_of(schema: &Value) -> Vec<&str> {
    let mut types = Vec::new();
    match &schema["type"] {
        Value::String(one) => types.push(one.as_str()),
        Value::Array(several) => types.extend(several.iter().filter_map(Value::as_str)),
        _ => {}
    }
    for key in ["anyOf", "oneOf"] {
        for alternative in schema[key].as_array().into_iter().flatten() {
            types.extend(alternative["type"].as_str());
        }
    }
    if types.is_empty()
        && let Some(allowed) = schema["enum"].as_array()
        && allowed.iter().all(Value::is_string)
    {
        types.push("string");
    }
    types
}

/// Models write JSON's words or Python's, as templates print the latter.
fn parse_as(name: &str, text: &str) -> Option<Value> {
    match name {
        "null" => matches!(text, "null" | "None").then_some(Value::Null),
        "boolean" => match text {
            "true" | "True" => Some(Value::Bool(true)),
            "false" | "False" => Some(Value::Bool(false)),
            _ => None,
        },
        "integer" => integer(text).map(Value::Number),
        "number" => text.parse().ok().map(Value::Number),
        "object" => serde_json::from_str(text).ok().filter(Value::is_object),
        "array" => serde_json::from_str(text).ok().filter(Value::is_array),
        // "string" and whatever else: text, by not being anything.
        _ => None,
    }
}

/// A whole number, also when it is written as `3.0`.
fn integer(text: &str) -> Option<Number> {
    let number: Number = text.parse().ok()?;
    if !number.is_f64() {
        return Some(number);
    }
    /// Beyond this, a float does not stand for one whole number.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let value = number.as_f64()?;
    let is_whole = value.fract() == 0.0 && value.abs() <= EXACT;
    is_whole.then(|| Number::from(value as i64))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn types_follow_the_schema() {
        let check = |schema: Value, text, want: Value| {
            assert_eq!(coerce(text, Some(&schema)), want, "{text:?} by {schema}");
        };
        check(json!({"type": "string"}), " 12 ", json!(" 12 "));
        check(json!({"type": "string"}), "null", json!("null"));
        check(json!({"type": "integer"}), " 12\n", json!(12));
        check(json!({"type": "integer"}), "3.0", json!(3));
        check(json!({"type": "integer"}), "3.5", json!("3.5"));
        check(json!({"type": "integer"}), "twelve", json!("twelve"));
        check(json!({"type": "number"}), "2.5", json!(2.5));
        check(json!({"type": "number"}), "2", json!(2));
        check(json!({"type": "boolean"}), "True", json!(true));
        check(json!({"type": "array"}), "[1, \"a\"]", json!([1, "a"]));
        check(
            json!({"type": "object"}),
            "{\"b\": 1, \"a\": 2}",
            json!({"b": 1, "a": 2}),
        );
        check(json!({"type": "object"}), "[1]", json!("[1]"));
        check(json!({"type": ["string", "null"]}), "None", json!(null));
        check(
            json!({"anyOf": [{"type": "integer"}, {"type": "string"}]}),
            "7",
            json!(7),
        );
        check(json!({"enum": ["1", "2"]}), "1", json!("1"));
        check(json!({}), "{\"a\": 1}", json!({"a": 1}));
        check(json!({}), "plain", json!("plain"));
        assert_eq!(coerce("12", None), json!("12"));
    }
}
