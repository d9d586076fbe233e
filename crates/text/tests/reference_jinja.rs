//! Small templates against what the reference renders from them (`tests/jinja/make_cases.py`).

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use serde_json::Value;
use tidemill_text::{ChatRequest, ChatTemplate, Message};

/// Where we differ, with the reason. An entry that no longer differs fails the test.
const KNOWN_DIFFERENCES: &[(&str, &str)] = &[
    (
        "{{ '%s-%d' % ('a', 5) }}",
        "the engine has no `%` on text; its `format` filter does the same",
    ),
    (
        "{% for x in none %}{% endfor %}",
        "the engine counts `none` as an empty list in loops, an error in Python",
    ),
];

fn render(template: &str, data: &Value) -> Result<String, String> {
    let mut variables = data.as_object().unwrap().clone();
    let messages: Vec<Message> =
        serde_json::from_value(variables.remove("messages").unwrap()).unwrap();
    let mut request = ChatRequest::new(messages);
    request.variables = variables;
    ChatTemplate::new(template)
        .and_then(|template| template.render(&request))
        .map_err(|error| error.to_string())
}

#[test]
fn snippets_render_as_the_reference_does() {
    let file: Value = serde_json::from_str(include_str!("jinja/cases.json")).unwrap();
    let mut differences = Vec::new();
    for case in file["cases"].as_array().unwrap() {
        let template = case["template"].as_str().unwrap();
        let rendered = render(template, &file["data"]);
        let is_equal = match (case["want"].as_str(), &rendered) {
            (Some(want), Ok(text)) => want == text,
            (None, Err(_)) => true,
            _ => false,
        };
        let is_known = KNOWN_DIFFERENCES
            .iter()
            .any(|(known, _)| *known == template);
        if is_equal == is_known {
            differences.push(format!("{template:?}\n  want {case}\n  have {rendered:?}"));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}
