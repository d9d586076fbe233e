//! Renders stored conversations with the family's published templates, where these are at hand.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use serde_json::Value;
use tidemill_text::{ChatRequest, ChatTemplate, Message, TemplateError};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data");

/// Template files with the name that the stored results go by.
const TEMPLATES: [(&str, &str); 2] = [
    ("chat-template-qwen3.5.jinja", "qwen35"),
    ("chat-template-qwen3-coder.jinja", "qwen3coder"),
];

fn request(context: &Value) -> ChatRequest {
    let mut variables = context.as_object().unwrap().clone();
    let messages = variables.remove("messages").unwrap();
    let tools = variables.remove("tools").unwrap_or_default();
    let generate = variables.remove("add_generation_prompt");
    ChatRequest {
        messages: serde_json::from_value::<Vec<Message>>(messages).unwrap(),
        tools: tools.as_array().cloned().unwrap_or_default(),
        continue_last: false,
        add_generation_prompt: generate == Some(Value::Bool(true)),
        enable_thinking: variables
            .remove("enable_thinking")
            .and_then(|v| v.as_bool()),
        variables,
    }
}

/// The same conversation with arguments as text, as clients send them.
fn with_arguments_as_text(context: &Value) -> Value {
    let mut context = context.clone();
    for message in context["messages"].as_array_mut().unwrap() {
        let calls = message.get_mut("tool_calls").and_then(Value::as_array_mut);
        for call in calls.into_iter().flatten() {
            let arguments = &mut call["function"]["arguments"];
            *arguments = Value::String(arguments.to_string());
        }
    }
    context
}

/// What the reference refuses and we rearrange; `conversations.rs` has the tests of that.
const REARRANGED: [&str; 3] = [
    "System message must be at the beginning.",
    "No user query found in messages.",
    "Unexpected message role.",
];

fn check(template: &ChatTemplate, context: &Value, want: &str) {
    let rendered = template.render(&request(context));
    match (rendered, want.strip_prefix("ERR ")) {
        (Ok(text), None) => assert_eq!(text, want),
        (Ok(_), Some(refusal)) if REARRANGED.contains(&refusal) => {}
        (Err(TemplateError::Raised { message, line }), Some(want)) => {
            assert_eq!(message, want);
            assert!(line > 0);
        }
        // Other errors are worded by the engine, in its own way.
        (Err(TemplateError::Failed { line, .. }), Some(_)) => assert!(line > 0),
        (rendered, _) => panic!("{rendered:?} instead of {want:?}"),
    }
}

#[test]
fn stored_conversations_render_as_the_reference_does() {
    let cases = Path::new(FOLDER).join("jinja_cases.json");
    let Ok(cases) = std::fs::read_to_string(&cases) else {
        eprintln!("skipped: {} is not here", cases.display());
        return;
    };
    let cases: Vec<Value> = serde_json::from_str(&cases).unwrap();
    let mut checked = 0;
    for (file, name) in TEMPLATES {
        let template = ChatTemplate::from_file(&Path::new(FOLDER).join(file)).unwrap();
        for case in &cases {
            let want = case["want"][name].as_str().unwrap();
            check(&template, &case["ctx"], want);
            check(&template, &with_arguments_as_text(&case["ctx"]), want);
            checked += 1;
        }
    }
    eprintln!("{checked} renderings equal");
}
