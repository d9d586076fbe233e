//! Tools and how they may be called, as clients write them.

use serde_json::{Value, json};

use crate::ask::{ToolAsk, ToolChoice};
use crate::error::ApiError;

/// The functions among the tools, as the template gets them, in the request's own words: what a
/// client runs by itself is not the model's to call.
///
/// # Errors
/// When a function has no name.
pub(crate) fn functions(
    tools: Option<Vec<Value>>,
    functions: Option<Vec<Value>>,
) -> Result<Vec<Value>, ApiError> {
    let is_function = |tool: &Value| tool.get("type").is_none_or(|kind| kind == "function");
    let mut list: Vec<Value> = tools.unwrap_or_default();
    list.retain(is_function);
    // What came before `tools`.
    let wrapped = functions.unwrap_or_default().into_iter();
    list.extend(wrapped.map(|function| json!({"type": "function", "function": function})));
    for (index, tool) in list.iter().enumerate() {
        let name = tool.pointer("/function/name").and_then(Value::as_str);
        if name.is_none_or(str::is_empty) {
            let why = format!(
                "tool {index} has no name; expected such as {{\"type\": \"function\", \
                 \"function\": {{\"name\": ...}}}}"
            );
            return Err(ApiError::bad("tools", why));
        }
    }
    Ok(list)
}

/// How they may be called.
///
/// # Errors
/// When the choice is none that there is.
pub(super) fn ask(
    tools: &[Value],
    choice: &Value,
    is_parallel: Option<bool>,
) -> Result<ToolAsk, ApiError> {
    let strict = |tool: &Value| tool.pointer("/function/strict") == Some(&Value::Bool(true));
    Ok(ToolAsk {
        choice: read_choice(choice)?,
        is_parallel: is_parallel.unwrap_or(true),
        is_strict: tools.iter().any(strict),
    })
}

fn read_choice(choice: &Value) -> Result<ToolChoice, ApiError> {
    let named = ["/function/name", "/name"]
        .iter()
        .find_map(|path| choice.pointer(path).and_then(Value::as_str));
    let word = choice.as_str().or_else(|| choice["mode"].as_str());
    match (word, named) {
        (Some("auto"), _) => Ok(ToolChoice::Auto),
        (Some("none"), _) => Ok(ToolChoice::None),
        (Some("required" | "any"), _) => Ok(ToolChoice::Required),
        (_, Some(name)) => Ok(ToolChoice::Named(name.to_owned())),
        _ if choice.is_null() => Ok(ToolChoice::Auto),
        _ => {
            let why = format!(
                "{choice} is no choice; there are \"auto\", \"none\", \"required\" and \
                 {{\"type\": \"function\", \"function\": {{\"name\": ...}}}}"
            );
            Err(ApiError::bad("tool_choice", why))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_read() {
        let check = |choice: Value, want: Option<ToolChoice>| {
            assert_eq!(read_choice(&choice).ok(), want, "{choice}");
        };
        check(Value::Null, Some(ToolChoice::Auto));
        check(json!("none"), Some(ToolChoice::None));
        check(json!("required"), Some(ToolChoice::Required));
        let named = Some(ToolChoice::Named("f".to_owned()));
        check(
            json!({"type": "function", "function": {"name": "f"}}),
            named.clone(),
        );
        check(json!({"type": "function", "name": "f"}), named);
        check(json!("maybe"), None);
        check(json!(3), None);
    }

    #[test]
    fn what_is_no_function_is_left_out() {
        let function = json!({"type": "function", "function": {"name": "f"}});
        let tools = vec![json!({"type": "web_search"}), function.clone()];
        let old = vec![json!({"name": "g"})];
        let list = functions(Some(tools), Some(old)).unwrap();
        assert_eq!(list.len(), 2);
        assert_eq!(list[0], function);
        assert!(functions(Some(vec![json!({"function": {}})]), None).is_err());
    }
}
