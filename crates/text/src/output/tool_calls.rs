//! Finds the tool calls in a complete answer, in the family's XML form.
//!
//! ```text
//! <tool_call>
//! <function=NAME>
//! <parameter=KEY>
//! VALUE
//! </parameter>
//! </function>
//! </tool_call>
//! ```

use serde_json::{Map, Value};

use super::coerce::coerce;
use super::reasoning::CALL_OPEN;

const CALL_CLOSE: &str = "</tool_call>";
const FUNCTION_OPEN: &str = "<function=";
const FUNCTION_CLOSE: &str = "</function>";
const PARAMETER_OPEN: &str = "<parameter=";
const PARAMETER_CLOSE: &str = "</parameter>";

/// A function that the model wants called.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolCall {
    /// The function's name, as the model wrote it.
    pub name: String,
    /// Its arguments in the order written, typed by the tool's schema.
    pub arguments: Map<String, Value>,
}

/// An answer without its tool calls, and the calls.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Answer {
    /// The text around the calls, without the white space that separated them.
    pub content: String,
    /// In the order written.
    pub calls: Vec<ToolCall>,
}

/// Takes an answer apart. `tools` are the descriptions that the prompt was made with; they give
/// the arguments their types. What looks like a call but is malformed stays in the content.
pub fn parse_tool_calls(answer: &str, tools: &[Value]) -> Answer {
    let mut content = String::new();
    let mut calls = Vec::new();
    let mut rest = answer;
    while let Some(at) = rest.find(CALL_OPEN) {
        let (before, from_call) = rest.split_at(at);
        match parse_call(&from_call[CALL_OPEN.len()..], tools) {
            Some((call, after)) => {
                content.push_str(before.trim_end());
                calls.push(call);
                rest = after;
            }
            None => {
                content.push_str(before);
                content.push_str(CALL_OPEN);
                rest = &from_call[CALL_OPEN.len()..];
            }
        }
    }
    if calls.is_empty() {
        return Answer {
            content: answer.to_owned(),
            calls,
        };
    }
    content.push_str(rest.trim_end());
    Answer { content, calls }
}

/// A call whose opening tag was taken off, and the text behind it.
fn parse_call<'t>(text: &'t str, tools: &[Value]) -> Option<(ToolCall, &'t str)> {
    let (name, mut rest) = named_tag(text.trim_start(), FUNCTION_OPEN)?;
    let properties = properties_of(name, tools);
    let mut arguments = Map::new();
    loop {
        rest = rest.trim_start();
        if let Some(after) = rest.strip_prefix(FUNCTION_CLOSE) {
            rest = after.trim_start();
            break;
        }
        let (key, body) = named_tag(rest, PARAMETER_OPEN)?;
        let (value, after) = parameter_value(body)?;
        let schema = properties.and_then(|properties| properties.get(key));
        arguments.insert(key.to_owned(), coerce(value, schema));
        rest = after;
    }
    // Generation may stop before the last tag; the call is complete all the same.
    let after = match rest.strip_prefix(CALL_CLOSE) {
        Some(after) => after,
        None if rest.is_empty() => rest,
        None => return None,
    };
    let name = name.to_owned();
    Some((ToolCall { name, arguments }, after))
}

/// `<open=NAME>`: the name and the text behind the tag.
fn named_tag<'t>(text: &'t str, open: &str) -> Option<(&'t str, &'t str)> {
    let (name, rest) = text.strip_prefix(open)?.split_once('>')?;
    let is_name = !name.trim().is_empty() && !name.contains('\n');
    is_name.then(|| (name.trim(), rest))
}

/// The text up to the closing tag, without the one newline on each side that the form has.
///
/// A closing tag counts only if the call goes on properly behind it, so that a value may speak
/// about such tags.
fn parameter_value(body: &str) -> Option<(&str, &str)> {
    let (end, _) = body.match_indices(PARAMETER_CLOSE).find(|(at, tag)| {
        let after = body[at + tag.len()..].trim_start();
        after.starts_with(PARAMETER_OPEN) || after.starts_with(FUNCTION_CLOSE)
    })?;
    let value = &body[..end];
    let value = value.strip_prefix('\n').unwrap_or(value);
    let value = value.strip_suffix('\n').unwrap_or(value);
    Some((value, &body[end + PARAMETER_CLOSE.len()..]))
}

/// The schemas of a function's parameters. Tools come wrapped (`{"function": ...}`) or bare.
fn properties_of<'t>(name: &str, tools: &'t [Value]) -> Option<&'t Map<String, Value>> {
    tools
        .iter()
        .map(|tool| tool.get("function").unwrap_or(tool))
        .find(|function| function["name"] == name)
        .and_then(|function| function["parameters"]["properties"].as_object())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn tools() -> Vec<Value> {
        let properties = json!({"n": {"type": "integer"}, "s": {"type": "string"}});
        let parameters = json!({"type": "object", "properties": properties});
        vec![json!({"type": "function", "function": {"name": "f", "parameters": parameters}})]
    }

    fn check(answer: &str, content: &str, calls: &[(&str, Value)]) {
        let parsed = parse_tool_calls(answer, &tools());
        assert_eq!(parsed.content, content, "{answer:?}");
        let found: Vec<_> = parsed
            .calls
            .into_iter()
            .map(|call| (call.name, Value::Object(call.arguments)))
            .collect();
        let want: Vec<_> = calls
            .iter()
            .map(|(name, arguments)| ((*name).to_owned(), arguments.clone()))
            .collect();
        assert_eq!(found, want, "{answer:?}");
    }

    #[test]
    fn finds_calls_and_types_their_arguments() {
        let one = "<tool_call>\n<function=f>\n<parameter=n>\n3\n</parameter>\n\
                   <parameter=s>\n 4\n\n</parameter>\n<parameter=x>\n5\n</parameter>\n\
                   </function>\n</tool_call>";
        let arguments = json!({"n": 3, "s": " 4\n", "x": "5"});
        check(one, "", &[("f", arguments.clone())]);
        check(
            &format!("text\n\n{one}"),
            "text",
            &[("f", arguments.clone())],
        );
        let unknown = "<tool_call><function=g></function></tool_call>";
        check(
            &format!("{one}\n{unknown}\n"),
            "",
            &[("f", arguments), ("g", json!({}))],
        );
        check(
            "<tool_call>\n<function=f>\n</function>\n",
            "",
            &[("f", json!({}))],
        );
    }

    #[test]
    fn values_may_hold_tags() {
        check(
            "<tool_call>\n<function=f>\n<parameter=s>\na </parameter> b\n</tool_call>\n\
             </parameter>\n</function>\n</tool_call>",
            "",
            &[("f", json!({"s": "a </parameter> b\n</tool_call>"}))],
        );
    }

    #[test]
    fn malformed_calls_stay_content() {
        for text in [
            "plain",
            "<tool_call>",
            "<tool_call>\n{\"name\": 1}\n</tool_call>",
            "<tool_call>\n<function=f>\n<parameter=n>\n3\n</function>\n</tool_call>",
            "<tool_call>\n<function=>\n</function>\n</tool_call>",
            "<tool_call>\n<function=f\n></function></tool_call>",
            "<tool_call><function=f></function> and so on",
            " spaces stay \n",
        ] {
            check(text, text, &[]);
        }
        check(
            "<tool_call> broken <tool_call><function=f></function></tool_call>",
            "<tool_call> broken",
            &[("f", json!({}))],
        );
    }

    proptest! {
        #[test]
        fn any_text_is_taken(pieces in prop::collection::vec(
            prop::sample::select(vec![
                CALL_OPEN, CALL_CLOSE, FUNCTION_OPEN, FUNCTION_CLOSE, PARAMETER_OPEN,
                PARAMETER_CLOSE, ">", "f", "\n", "é", "1",
            ]),
            0..30,
        )) {
            let text = pieces.concat();
            let parsed = parse_tool_calls(&text, &tools());
            if parsed.calls.is_empty() {
                prop_assert_eq!(parsed.content, text);
            }
        }
    }
}
