//! The conversations that clients send: all of them are rendered, each message in its place.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use serde_json::{Value, json};
use tidemill_text::{ChatRequest, ChatTemplate, Message, ThinkingState};

/// As strict as the published template, and of its form.
const STRICT: &str = "\
{%- macro text(content) %}
    {%- if content is string %}{{- content }}
    {%- elif content is not none and content is not undefined %}
        {{- raise_exception('Unexpected content.') }}
    {%- endif %}
{%- endmacro %}
{%- set ns = namespace(last=-1) %}
{%- for message in messages %}
    {%- if message.role == 'user' and not message.content.startswith('<tool_response>') %}
        {%- set ns.last = loop.index0 %}
    {%- endif %}
{%- endfor %}
{%- if ns.last < 0 %}{{- raise_exception('No user query found in messages.') }}{%- endif %}
{%- for message in messages %}
    {%- if message.role == 'system' and not loop.first %}
        {{- raise_exception('System message must be at the beginning.') }}
    {%- elif message.role not in ['system', 'user', 'assistant', 'tool'] %}
        {{- raise_exception('Unexpected message role.') }}
    {%- endif %}
    {{- '<|im_start|>' + ('user' if message.role == 'tool' else message.role) + '\\n' }}
    {%- if message.role == 'assistant' and loop.index0 > ns.last %}
        {{- '<think>\\n' + (message.reasoning_content or '')|trim + '\\n</think>\\n\\n' }}
    {%- endif %}
    {%- if message.role == 'tool' %}{{- '<tool_response>\\n' }}{%- endif %}
    {{- text(message.content)|trim }}
    {%- for call in message.tool_calls or [] %}
        {{- '<tool_call>\\n<function=' + call.function.name + '>\\n' }}
        {%- for key, value in call.function.arguments|items %}
            {{- '<parameter=' + key + '>\\n' ~ value ~ '\\n</parameter>\\n' }}
        {%- endfor %}
        {{- '</function>\\n</tool_call>' }}
    {%- endfor %}
    {%- if message.role == 'tool' %}{{- '\\n</tool_response>' }}{%- endif %}
    {{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n<think>\\n' }}{%- endif %}";

fn request(messages: Value) -> ChatRequest {
    let messages: Vec<Message> = serde_json::from_value(messages).unwrap();
    ChatRequest::new(messages)
}

/// What is rendered in front of the answer.
fn check(messages: Value, want: &str) {
    let rendered = ChatTemplate::new(STRICT)
        .unwrap()
        .render(&request(messages));
    assert_eq!(
        rendered.unwrap(),
        format!("{want}<|im_start|>assistant\n<think>\n")
    );
}

/// A turn.
fn turn(role: &str, text: &str) -> String {
    format!("<|im_start|>{role}\n{text}<|im_end|>\n")
}

#[test]
fn system_messages_stay_where_they_are() {
    let (hi, be, now) = (
        turn("user", "Hi"),
        turn("system", "Be."),
        turn("system", "Now."),
    );
    check(
        json!([
            {"role": "system", "content": "Be."},
            {"role": "user", "content": "Hi"},
            {"role": "system", "content": " Now. "},
        ]),
        &format!("{be}{hi}{now}"),
    );
    check(
        json!([
            {"role": "user", "content": "Hi"},
            {"role": "developer", "content": [{"type": "text", "text": "Now."}]},
            {"role": "user", "content": "Hi"},
            {"role": "system", "content": "Now."},
        ]),
        &format!("{hi}{now}{hi}{now}"),
    );
    // Those at the start are one.
    check(
        json!([
            {"role": "system", "content": "Be."},
            {"role": "developer", "content": "Now."},
            {"role": "user", "content": "Hi"},
        ]),
        &format!("{}{hi}", turn("system", "Be.\n\nNow.")),
    );
}

#[test]
fn a_system_message_is_no_question() {
    // The reasoning between question and answer stays, as it does without the message.
    check(
        json!([
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": null, "reasoning_content": "hm", "tool_calls": [
                {"function": {"name": "f", "arguments": "{\"a\": 1}"}},
            ]},
            {"role": "tool", "content": [{"type": "text", "text": "1"}, {"text": "2"}]},
            {"role": "system", "content": "Now."},
        ]),
        &[
            turn("user", "Hi"),
            turn(
                "assistant",
                "<think>\nhm\n</think>\n\n<tool_call>\n<function=f>\n<parameter=a>\n1\n\
                 </parameter>\n</function>\n</tool_call>",
            ),
            turn("user", "<tool_response>\n12\n</tool_response>"),
            turn("system", "Now."),
        ]
        .concat(),
    );
}

#[test]
fn nobody_need_ask() {
    check(
        json!([{"role": "system", "content": "Be."}]),
        &turn("system", "Be."),
    );
    let hello = turn("assistant", "<think>\n\n</think>\n\nHello.");
    check(
        json!([{"role": "assistant", "content": "Hello."}, {"role": "system", "content": "Be."}]),
        &format!("{hello}{}", turn("system", "Be.")),
    );
}

#[test]
fn roles_and_arguments_may_be_odd() {
    let call = |arguments: Value| json!([{"function": {"name": "f", "arguments": arguments}}]);
    let called = |parameter: &str| {
        let calls = format!("<tool_call>\n<function=f>\n{parameter}</function>\n</tool_call>");
        format!("{}{}", turn("assistant", &calls), turn("user", "Hi"))
    };
    for (arguments, parameter) in [
        (json!({"a": 1}), "<parameter=a>\n1\n</parameter>\n"),
        (json!("{\"a\": 1}"), "<parameter=a>\n1\n</parameter>\n"),
        (json!(""), ""),
        (json!(null), ""),
        (
            json!("{\"a\""),
            "<parameter=arguments>\n{\"a\"\n</parameter>\n",
        ),
    ] {
        check(
            json!([
                {"role": "assistant", "content": "", "tool_calls": call(arguments)},
                {"role": "critic", "content": "Hi"},
            ]),
            &called(parameter),
        );
    }
}

#[test]
fn the_last_message_may_go_on() {
    let template = ChatTemplate::new(STRICT).unwrap();
    let check = |last: Value, want: &str| {
        let mut request = request(json!([{"role": "user", "content": "Hi"}, last]));
        request.continue_last = true;
        let rendered = template.render(&request).unwrap();
        assert_eq!(rendered, format!("{}{want}", turn("user", "Hi")));
        ThinkingState::of_prompt(&rendered)
    };
    let state = check(
        json!({"role": "assistant", "content": "It is "}),
        "<|im_start|>assistant\n<think>\n\n</think>\n\nIt is ",
    );
    assert_eq!(state, ThinkingState::Closed);
    let state = check(
        json!({"role": "assistant", "content": "", "reasoning_content": "hm, "}),
        "<|im_start|>assistant\n<think>\nhm, ",
    );
    assert_eq!(state, ThinkingState::Inside);
    check(
        json!({"role": "assistant", "content": ""}),
        "<|im_start|>assistant\n<think>\n",
    );
    // Not asked for, it is closed and a new turn begins.
    let mut request = request(json!([
        {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "It is"},
    ]));
    request.continue_last = false;
    let closed = template.render(&request).unwrap();
    assert!(closed.ends_with("It is<|im_end|>\n<|im_start|>assistant\n<think>\n"));
}

/// None of these may fail with the family's own templates, where they are at hand.
#[test]
fn published_templates_take_them_all() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data");
    let user = json!({"role": "user", "content": "Hi"});
    let parts = json!([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]);
    let call = json!([{"function": {"name": "f", "arguments": "{\"a\": [1], \"b\": \"c\"}"}}]);
    let conversations = [
        json!([{"role": "system", "content": "s"}]),
        json!([{"role": "system", "content": "s"}, {"role": "system", "content": parts}, user]),
        json!([{"role": "developer", "content": parts}, user, {"role": "system", "content": "s"}]),
        json!([{"role": "user", "content": parts}, {"role": "developer", "content": "s"}, user]),
        json!([user, {"role": "assistant", "content": "a"}]),
        json!([user, {"role": "assistant", "content": null, "tool_calls": call},
            {"role": "tool", "content": parts}, {"role": "function", "content": "r"}]),
        json!([user, {"role": "assistant", "content": parts, "reasoning_content": "r",
            "tool_calls": call}, {"role": "tool", "content": "r"}, {"role": "system", "content": "s"}]),
        json!([user, {"role": "assistant", "content": null}, {"role": "critic", "content": "c"}]),
        json!([{"role": "assistant", "content": "a"}]),
        json!([{"role": "tool", "content": "r"}]),
    ];
    for file in [
        "chat-template-qwen3.5.jinja",
        "chat-template-qwen3-coder.jinja",
    ] {
        let Ok(template) = ChatTemplate::from_file(&Path::new(folder).join(file)) else {
            eprintln!("skipped: {file} is not here");
            continue;
        };
        for conversation in &conversations {
            for tools in [
                vec![],
                vec![json!({"type": "function", "function": {"name": "f"}})],
            ] {
                let mut request = request(conversation.clone());
                request.tools = tools;
                let prompt = template.render(&request);
                let prompt = prompt.unwrap_or_else(|e| panic!("{file}: {e}: {conversation}"));
                assert!(!prompt.contains('\u{FFFE}'), "{prompt}");
                // What was rendered before a system message stays the beginning.
                let count = conversation.as_array().unwrap().len();
                if count > 1 && conversation[count - 1]["role"] == "system" {
                    let mut earlier = request.clone();
                    earlier.messages.pop();
                    earlier.add_generation_prompt = false;
                    let earlier = template.render(&earlier).unwrap();
                    assert!(prompt.starts_with(&earlier), "{earlier}\n---\n{prompt}");
                }
            }
        }
    }
}
