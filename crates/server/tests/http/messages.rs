//! `/v1/messages`, against the tiny model.

use crate::common::client::{get, post, send};
use crate::common::{Server, sse};
use serde_json::{Value, json};

const PATH: &str = "/v1/messages";

/// The message, which has to be the same streamed and not.
fn both(server: &Server, body: &Value) -> Value {
    let mut whole = post(server.address, PATH, body).ok();
    let mut streamed = body.clone();
    streamed["stream"] = json!(true);
    let reply = post(server.address, PATH, &streamed);
    let mut joined = sse::message(&reply.text());
    for message in [&mut whole, &mut joined] {
        assert!(message["id"].as_str().unwrap().starts_with("msg_"));
        message["id"].take();
        for block in message["content"].as_array_mut().unwrap() {
            if block["type"] == "tool_use" {
                assert!(block["id"].as_str().unwrap().starts_with("toolu_"));
                block["id"].take();
            }
        }
        // The second of two equal requests finds the first one's prompt.
        let usage = &mut message["usage"];
        let read = usage["input_tokens"].as_u64().unwrap();
        let cached = usage["cache_read_input_tokens"].as_u64().unwrap();
        *usage = json!({"prompt": read + cached, "output": usage["output_tokens"]});
    }
    assert_eq!(joined, whole, "streamed and not");
    whole
}

fn ask(question: &str) -> Value {
    json!({
        "model": "claude-sonnet-4-5", "max_tokens": 200,
        "messages": [{"role": "user", "content": question}],
    })
}

/// The tool as this dialect writes it.
fn price_tool() -> Value {
    let mut tool = crate::common::price_tool()["function"].take();
    tool["input_schema"] = tool["parameters"].take();
    tool.as_object_mut().unwrap().remove("parameters");
    tool
}

#[test]
fn messages_are_the_same_streamed_and_not() {
    let server = Server::start();
    let message = both(&server, &ask("hello!!"));
    let text = json!([{"type": "text", "text": "Hello! How can I help you?"}]);
    assert_eq!(message["content"], text);
    assert_eq!(message["stop_reason"], "end_turn");

    let mut thinking = ask("Say this again: button duck east red bear cat");
    thinking["thinking"] = json!({"type": "enabled", "budget_tokens": 1024});
    let message = both(&server, &thinking);
    assert_eq!(message["content"][0]["type"], "thinking");
    assert_eq!(
        message["content"][0]["thinking"],
        "I copy the text as it is."
    );
    assert_eq!(
        message["content"][1]["text"],
        "button duck east red bear cat"
    );

    let mut stopped = ask("Say this again: button duck east red bear cat");
    stopped["stop_sequences"] = json!([" east"]);
    let message = both(&server, &stopped);
    assert_eq!(message["content"][0]["text"], "button duck");
    assert_eq!(message["stop_reason"], "stop_sequence");
    assert_eq!(message["stop_sequence"], " east");
    stopped["max_tokens"] = json!(2);
    assert_eq!(both(&server, &stopped)["stop_reason"], "max_tokens");
}

#[test]
fn tools_are_called_and_their_results_are_read() {
    let server = Server::start();
    let mut body = ask("What is the price of a cup?");
    body["tools"] = json!([price_tool(), {"type": "web_search_20250305", "name": "web_search"}]);
    body["system"] = json!([
        {"type": "text", "text": "x-anthropic-billing-header: cc_version=1; cch=0a1b;"},
        {"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}},
    ]);
    for choice in [
        json!(null),
        json!({"type": "any"}),
        json!({"type": "tool", "name": "price_of"}),
    ] {
        body["tool_choice"] = choice.clone();
        let message = both(&server, &body);
        let blocks = message["content"].as_array().unwrap();
        let call = blocks.last().unwrap();
        assert_eq!(call["type"], "tool_use", "{choice}: {message}");
        assert_eq!(call["name"], "price_of", "{choice}");
        assert_eq!(call["input"]["thing"], "cup", "{choice}");
        assert_eq!(message["stop_reason"], "tool_use", "{choice}");
    }
    body["tool_choice"] = json!({"type": "auto"});
    body["messages"] = json!([
        {"role": "user", "content": "What is the price of a cup?"},
        {"role": "assistant", "content": [
            {"type": "thinking", "thinking": "I look it up.", "signature": "x"},
            {"type": "tool_use", "id": "toolu_1", "name": "price_of", "input": {"thing": "cup"}}]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "{\"price\": 24.5}"}]}]},
    ]);
    let message = both(&server, &body);
    let text = message["content"][0]["text"].as_str().unwrap();
    assert!(text.contains("24.5"), "{text}");
}

#[test]
fn a_rotating_header_leaves_the_cache_alone() {
    let server = Server::start();
    let cached = |number: u32| {
        let mut body = ask("hello!!");
        body["max_tokens"] = json!(2);
        body["system"] = json!([
            {"type": "text", "text": format!("x-anthropic-billing-header: cch={number};")},
            {"type": "text", "text": "You are a helper at the harbour. ".repeat(20)},
        ]);
        let message = post(server.address, PATH, &body).ok();
        message["usage"]["cache_read_input_tokens"]
            .as_u64()
            .unwrap()
    };
    assert_eq!(cached(1), 0);
    assert!(cached(2) > 100);
}

#[test]
fn tokens_are_counted_and_errors_have_their_form() {
    let server = Server::start();
    let body = ask("hello!!");
    let counted = post(server.address, "/v1/messages/count_tokens", &body).ok();
    let message = both(&server, &body);
    assert_eq!(counted["input_tokens"], message["usage"]["prompt"]);

    let refused = post(
        server.address,
        PATH,
        &json!({"messages": [], "max_tokens": 1}),
    );
    assert_eq!(refused.status, 400);
    let error = refused.json();
    assert_eq!(error["type"], "error");
    assert_eq!(error["error"]["type"], "invalid_request_error");
    let long = post(server.address, PATH, &ask(&"word ".repeat(5000)));
    let message = long.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(message.starts_with("prompt is too long: "), "{message}");
    assert_eq!(get(server.address, PATH).json()["type"], "error");
    let broken = send(server.address, "POST", PATH, &[], b"\xff").finish();
    assert_eq!(broken.json()["error"]["type"], "invalid_request_error");
    let locked = Server::locked("secret");
    let refused = post(locked.address, PATH, &body);
    assert_eq!(refused.json()["error"]["type"], "authentication_error");
}
