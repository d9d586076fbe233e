//! Ollama's paths, against the tiny model.

use crate::common::client::{get, post, send};
use crate::common::{Server, price_tool};
use serde_json::{Value, json};

/// The answer, which has to be the same streamed (as it is by default) and not.
fn both(server: &Server, path: &str, body: &Value) -> Value {
    let reply = post(server.address, path, body);
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(reply.header("content-type"), Some("application/x-ndjson"));
    let text = reply.text();
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let (last, pieces) = lines.split_last().unwrap();
    assert!(pieces.iter().all(|piece| piece["done"] == false));
    let mut joined = last.clone();
    for piece in pieces {
        for path in [
            "/message/content",
            "/message/thinking",
            "/response",
            "/thinking",
        ] {
            if let Some(text) = piece.pointer(path).and_then(Value::as_str) {
                let (inside, name) = path.rsplit_once('/').unwrap();
                let into = joined.pointer_mut(inside).unwrap();
                let before = into[name].as_str().unwrap_or_default();
                into[name] = json!(format!("{before}{text}"));
            }
        }
        for call in piece["message"]["tool_calls"]
            .as_array()
            .into_iter()
            .flatten()
        {
            if joined["message"]["tool_calls"].is_null() {
                joined["message"]["tool_calls"] = json!([]);
            }
            joined["message"]["tool_calls"]
                .as_array_mut()
                .unwrap()
                .push(call.clone());
        }
    }
    let mut body = body.clone();
    body["stream"] = json!(false);
    let mut whole = post(server.address, path, &body).ok();
    for answer in [&mut whole, &mut joined] {
        let fields = answer.as_object_mut().unwrap();
        fields.retain(|name, _| !name.ends_with("duration") && name != "created_at");
    }
    assert_eq!(joined, whole, "streamed and not");
    whole
}

#[test]
fn chats_are_answered() {
    let server = Server::start();
    let body = json!({
        "model": "llama3", "think": false, "messages": [{"role": "user", "content": "hello!!"}],
    });
    let answer = both(&server, "/api/chat", &body);
    assert_eq!(answer["message"]["content"], "Hello! How can I help you?");
    assert_eq!(answer["done_reason"], "stop");
    assert!(answer["eval_count"].as_u64() > Some(0));
    let thinking = json!({
        "messages": [{"role": "user", "content": "Say this again: button duck east red bear cat"}],
        "think": true,
    });
    let answer = both(&server, "/api/chat", &thinking);
    assert_eq!(answer["message"]["thinking"], "I copy the text as it is.");
    let call = json!({
        "messages": [{"role": "user", "content": "What is the price of a cup?"}],
        "think": false, "tools": [price_tool()], "options": {"num_predict": 100},
    });
    let answer = both(&server, "/api/chat", &call);
    let function = &answer["message"]["tool_calls"][0]["function"];
    assert_eq!(function["name"], "price_of");
    assert_eq!(function["arguments"]["thing"], "cup");
    let loaded = post(server.address, "/api/chat", &json!({"model": "x"})).ok();
    assert_eq!(loaded["done_reason"], "load");
}

#[test]
fn text_is_generated() {
    let server = Server::start();
    let body = json!({"prompt": "hello!!", "think": false, "options": {"num_predict": 3}});
    let answer = both(&server, "/api/generate", &body);
    assert_eq!(answer["done_reason"], "length");
    let form = json!({
        "prompt": "hello!!", "think": false,
        "format": {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": false},
    });
    let answer = both(&server, "/api/generate", &form);
    let value: Value = serde_json::from_str(answer["response"].as_str().unwrap()).unwrap();
    assert!(value["n"].is_i64());
    let raw = json!({"prompt": "one two", "raw": true, "options": {"num_predict": 3}});
    both(&server, "/api/generate", &raw);
}

#[test]
fn what_there_is_is_told() {
    let server = Server::start();
    assert!(get(server.address, "/api/version").ok()["version"].is_string());
    let tags = get(server.address, "/api/tags").ok();
    assert_eq!(tags["models"][0]["name"], "tiny");
    let show = post(server.address, "/api/show", &json!({"model": "tiny"})).ok();
    assert_eq!(
        show["capabilities"],
        json!(["completion", "tools", "thinking"])
    );
    assert_eq!(
        get(server.address, "/api/ps").ok()["models"][0]["model"],
        "tiny"
    );
    let broken = send(server.address, "POST", "/api/chat", &[], b"{").finish();
    assert_eq!(broken.status, 400);
    assert!(broken.json()["error"].is_string());
    let image = json!({"messages": [{"role": "user", "content": "x", "images": ["aGk="]}]});
    assert_eq!(post(server.address, "/api/chat", &image).status, 400);
}
