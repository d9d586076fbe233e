//! What agents and chat pages send, in their shapes: each request is answered properly, and the next
//! one of a conversation finds what was read before.
//!
//! The fixtures were written for this test after the clients' documentation and what their users have
//! reported; no text is theirs.

use std::path::{Path, PathBuf};

use crate::common::client::{Reply, send};
use crate::common::{Server, sse};
use serde_json::Value;

fn fixtures() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/http/fixtures");
    let entries = std::fs::read_dir(folder).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|end| end == "json"));
    paths.sort();
    paths
}

#[test]
fn what_agents_send_is_answered() {
    let paths = fixtures();
    assert!(paths.len() >= 7, "{paths:?}");
    for path in paths {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let fixture: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        // Each in its own, so that nothing is cached but what it sent itself.
        let server = Server::start();
        for (number, turn) in fixture["turns"].as_array().unwrap().iter().enumerate() {
            check(
                &server,
                &format!("{name}, request {number}"),
                &fixture["headers"],
                turn,
            );
        }
        server.wait_until_idle();
    }
}

fn check(server: &Server, what: &str, headers: &Value, turn: &Value) {
    let headers = headers.as_object();
    let headers: Vec<(&str, &str)> = headers
        .into_iter()
        .flatten()
        .map(|(name, value)| (name.as_str(), value.as_str().unwrap()))
        .collect();
    let expect = &turn["expect"];
    let wanted = expect["status"].as_u64().unwrap();
    let Some(path) = turn["post"].as_str() else {
        let path = turn["get"].as_str().unwrap();
        let reply = send(server.address, "GET", path, &headers, b"").finish();
        assert_eq!(u64::from(reply.status), wanted, "{what}: {}", reply.text());
        return;
    };
    let body = &turn["body"];
    let sent = body.to_string();
    let reply = send(server.address, "POST", path, &headers, sent.as_bytes()).finish();
    assert_eq!(u64::from(reply.status), wanted, "{what}: {}", reply.text());
    let path = path.split('?').next().unwrap();
    let cached = match path {
        "/v1/chat/completions" => chat(what, body, &reply),
        "/v1/messages" => message(what, body, &reply),
        "/v1/responses" => response(what, &reply),
        "/v1/completions" => completion(what, body, &reply),
        "/v1/messages/count_tokens" => {
            assert!(reply.json()["input_tokens"].as_u64() > Some(20), "{what}");
            0
        }
        "/api/chat" | "/api/generate" => {
            let text = reply.text();
            let lines: Vec<Value> = text
                .lines()
                .map(|line| serde_json::from_str(line).unwrap())
                .collect();
            let (last, before) = lines.split_last().unwrap();
            assert_eq!(last["done"], true, "{what}: {text}");
            assert!(
                before.iter().all(|line| line["done"] == false),
                "{what}: {text}"
            );
            0
        }
        _ => {
            assert!(reply.json().is_object(), "{what}");
            0
        }
    };
    if expect["cached"] == true {
        assert!(cached > 0, "{what}: nothing was cached");
    }
}

/// Tokens of a chat's prompt that were cached.
fn chat(what: &str, body: &Value, reply: &Reply) -> u64 {
    let (message, finish, usage) = if body["stream"] == true {
        let (message, finish, pieces) = sse::chat(&reply.text());
        let tells = body["stream_options"]["include_usage"] == true;
        let last = pieces.last().unwrap();
        assert_eq!(last["usage"].is_object(), tells, "{what}");
        (message, finish, last["usage"].clone())
    } else {
        let whole = reply.json();
        let choice = &whole["choices"][0];
        let finish = choice["finish_reason"].clone();
        (choice["message"].clone(), finish, whole["usage"].clone())
    };
    let finish = finish.as_str().unwrap();
    assert_eq!(message["role"], "assistant", "{what}");
    let calls = message.get("tool_calls").and_then(Value::as_array);
    assert!(
        calls.is_none_or(|calls| !calls.is_empty()),
        "{what}: {message}"
    );
    match finish {
        "tool_calls" => assert!(calls.is_some(), "{what}: {message}"),
        "stop" | "length" => {
            let says = |key: &str| message[key].as_str().is_some_and(|text| !text.is_empty());
            assert!(
                says("content") || says("reasoning_content") || calls.is_some(),
                "{what}"
            );
        }
        other => panic!("{what}: {other}"),
    }
    usage["prompt_tokens_details"]["cached_tokens"]
        .as_u64()
        .unwrap_or_default()
}

fn message(what: &str, body: &Value, reply: &Reply) -> u64 {
    let message = if body["stream"] == true {
        sse::message(&reply.text())
    } else {
        reply.json()
    };
    assert_eq!(message["type"], "message", "{what}");
    assert!(message["content"].is_array(), "{what}: {message}");
    let reason = message["stop_reason"].as_str().unwrap();
    assert!(
        ["end_turn", "max_tokens", "tool_use"].contains(&reason),
        "{what}: {message}"
    );
    let thinks = message["content"][0]["type"] == "thinking";
    let asked = matches!(
        body["thinking"]["type"].as_str(),
        Some("adaptive" | "enabled")
    );
    assert!(asked || !thinks, "{what}: {message}");
    message["usage"]["cache_read_input_tokens"]
        .as_u64()
        .unwrap()
}

fn response(what: &str, reply: &Reply) -> u64 {
    let events = sse::events(&reply.text());
    let first = events.first().unwrap().json();
    assert_eq!(first["type"], "response.created", "{what}");
    let last = events.last().unwrap().json();
    let kind = last["type"].as_str().unwrap();
    assert!(
        ["response.completed", "response.incomplete"].contains(&kind),
        "{what}: {kind}"
    );
    assert!(last["response"]["output"].is_array(), "{what}");
    let usage = &last["response"]["usage"];
    usage["input_tokens_details"]["cached_tokens"]
        .as_u64()
        .unwrap()
}

fn completion(what: &str, body: &Value, reply: &Reply) -> u64 {
    if body["stream"] == true {
        let events = sse::events(&reply.text());
        let (last, pieces) = events.split_last().unwrap();
        assert_eq!(last.data, "[DONE]", "{what}");
        let piece = pieces.last().unwrap().json();
        assert!(
            piece["choices"][0]["finish_reason"].is_string(),
            "{what}: {piece}"
        );
        return 0;
    }
    let whole = reply.json();
    assert!(whole["choices"][0]["text"].is_string(), "{what}: {whole}");
    let details = &whole["usage"]["prompt_tokens_details"];
    details["cached_tokens"].as_u64().unwrap()
}
