//! An output that was read and becomes history is rendered as the model wrote it, so that the
//! tokens it left in the cache serve the next turn.

use std::path::Path;

use crate::shared::{options, tools};
use proptest::prelude::*;
use tidemill_text::output::{CallMode, Ending, Output};
use tidemill_text::template::{Content, FunctionCall, Message, MessageToolCall};
use tidemill_text::{ChatRequest, ChatTemplate, ThinkingState};

/// The family's way to write an assistant's turn, as small as it gets.
const SMALL: &str = "\
{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\\n' }}
{%- if message.role == 'assistant' %}
{{- '<think>\\n' + (message.reasoning_content or '')|trim + '\\n</think>\\n\\n' }}
{%- endif %}
{%- set content = (message.content or '')|trim %}
{{- content }}
{%- for call in message.tool_calls or [] %}
{{- '\\n' if not loop.first else ('\\n\\n' if content else '') }}
{{- '<tool_call>\\n<function=' + call.function.name + '>\\n' }}
{%- for key, value in call.function.arguments|items %}
{{- '<parameter=' + key + '>\\n' }}
{{- value|tojson if value is mapping or (value is sequence and value is not string) else value|string }}
{{- '\\n</parameter>\\n' }}
{%- endfor %}
{{- '</function>\\n</tool_call>' }}
{%- endfor %}
{{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n<think>\\n' }}{%- endif %}";

/// The published template, where it is at hand.
fn published() -> Option<ChatTemplate> {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../../shared/data/chat-template-qwen3.5.jinja"
    );
    ChatTemplate::from_file(Path::new(path)).ok()
}

/// The output as the assistant's message.
fn message(output: &Output) -> Message {
    Message {
        role: "assistant".to_owned(),
        content: Some(Content::Text(output.content.clone())),
        reasoning_content: Some(output.reasoning.clone()),
        tool_calls: output
            .calls
            .iter()
            .map(|call| MessageToolCall {
                id: None,
                kind: Some("function".to_owned()),
                function: FunctionCall {
                    name: call.name.clone(),
                    arguments: call.arguments.clone().into(),
                },
            })
            .collect(),
        ..Message::default()
    }
}

/// Renders a question, lets the model answer with `text`, and renders the answer as history.
fn check(template: &ChatTemplate, text: &str) {
    let mut request = ChatRequest::new(vec![Message::new("user", "Go on.")]);
    request.tools = tools();
    let prompt = template.render(&request).unwrap();
    assert_eq!(ThinkingState::of_prompt(&prompt), ThinkingState::Inside);
    let options = options(ThinkingState::Inside, CallMode::Streamed);
    let output = Output::read(text, options, Ending::Stopped);
    request.messages.push(message(&output));
    request.add_generation_prompt = false;
    let history = template.render(&request).unwrap();
    assert_eq!(history, format!("{prompt}{text}<|im_end|>\n"));
}

#[test]
fn answers_and_calls_come_back_as_they_were() {
    let texts = [
        "hm\n</think>\n\nYes.",
        "hm\n\nstill\n</think>\n\nYes.\n\n1. a\n2. b",
        "hm\n</think>\n\nI write.\n\n<tool_call>\n<function=write>\n<parameter=path>\na b\n\
         </parameter>\n<parameter=content>\n\n  two\n\n</parameter>\n<parameter=count>\n3\n\
         </parameter>\n<parameter=force>\nTrue\n</parameter>\n<parameter=label>\nNone\n\
         </parameter>\n<parameter=options>\n{\"a\": [1, 2.5, null]}\n</parameter>\n</function>\n\
         </tool_call>\n<tool_call>\n<function=list>\n</function>\n</tool_call>",
    ];
    let small = ChatTemplate::new(SMALL).unwrap();
    texts.iter().for_each(|text| check(&small, text));
    match published() {
        Some(template) => texts.iter().for_each(|text| check(&template, text)),
        None => eprintln!("skipped: the published template is not here"),
    }
}

proptest! {
    #[test]
    fn any_text_value_comes_back(
        value in prop_oneof![
            "[ \n\ta-z\"\\\\é]{0,20}",
            // Tags that do not make up the end of a parameter.
            prop::collection::vec(prop::sample::select(vec![
                "</parameter>", "</tool_call>", "<tool_call>", "<think>", "\n", " ", "x", "<",
                "<tool_call>\n<function=f>\n<parameter=path>\n1\n</parameter>\n</function>\n\
                 </tool_call>",
            ]), 0..8).prop_map(|pieces| format!("{}.", pieces.concat())),
        ],
        number in any::<i32>(),
    ) {
        // This alone is an end, with the call going on properly behind it.
        prop_assume!(!value.contains("</parameter>\n<tool_call>"));
        let squeezed: String = value.split_whitespace().collect();
        prop_assume!(!squeezed.contains("</parameter></tool_call>"));
        prop_assume!(!squeezed.contains("</parameter><tool_call>"));
        prop_assume!(!squeezed.contains("</tool_call><tool_call>"));
        check(&ChatTemplate::new(SMALL).unwrap(), &format!(
            "hm\n</think>\n\n<tool_call>\n<function=write>\n<parameter=content>\n{value}\n\
             </parameter>\n<parameter=count>\n{number}\n</parameter>\n</function>\n</tool_call>"
        ));
    }
}
