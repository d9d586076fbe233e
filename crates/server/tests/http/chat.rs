//! `/v1/chat/completions`, against the tiny model.

use crate::common::client::post;
use crate::common::{Server, clock_tool, price_tool, sse};
use serde_json::{Value, json};

const CHAT: &str = "/v1/chat/completions";

/// The message and finish reason of an answer, which has to be the same streamed and not.
fn both(server: &Server, body: &Value) -> (Value, Value) {
    let whole = post(server.address, CHAT, body).ok();
    let choice = &whole["choices"][0];
    let mut message = choice["message"].clone();
    message.as_object_mut().unwrap().remove("refusal");
    let mut streamed = body.clone();
    streamed["stream"] = json!(true);
    streamed["stream_options"] = json!({"include_usage": true});
    let reply = post(server.address, CHAT, &streamed);
    assert_eq!(reply.status, 200, "{}", reply.text());
    let content_type = reply.header("content-type").unwrap();
    assert!(
        content_type.starts_with("text/event-stream"),
        "{content_type}"
    );
    let (mut joined, finish, pieces) = sse::chat(&reply.text());
    for message in [&mut message, &mut joined] {
        let calls = message.get_mut("tool_calls").and_then(Value::as_array_mut);
        for call in calls.into_iter().flatten() {
            let id = call["id"].take();
            assert!(id.as_str().unwrap().starts_with("call_"), "{id}");
        }
    }
    assert_eq!(joined, message, "streamed and not");
    assert_eq!(finish, choice["finish_reason"]);
    let usage = &pieces.last().unwrap()["usage"];
    for count in ["prompt_tokens", "completion_tokens", "total_tokens"] {
        assert_eq!(usage[count], whole["usage"][count], "{count}");
    }
    (message, finish)
}

fn ask(question: &str) -> Value {
    json!({
        "model": "tiny",
        "messages": [{"role": "user", "content": question}],
        "chat_template_kwargs": {"enable_thinking": false},
    })
}

#[test]
fn answers_are_the_same_streamed_and_not() {
    let server = Server::start();
    let (message, finish) = both(&server, &ask("bye"));
    assert_eq!(message, json!({"role": "assistant", "content": "bye!"}));
    assert_eq!(finish, "stop");
    let mut thinking = ask("Say this again: button duck east red bear cat");
    thinking["chat_template_kwargs"] = json!({"enable_thinking": true});
    let (message, finish) = both(&server, &thinking);
    assert_eq!(message["content"], "button duck east red bear cat");
    assert_eq!(message["reasoning_content"], "I copy the text as it is.");
    assert_eq!(finish, "stop");
    thinking["reasoning_format"] = json!("none");
    let (message, _) = both(&server, &thinking);
    let content = message["content"].as_str().unwrap();
    assert!(content.contains("</think>\n\nbutton"), "{content}");
}

#[test]
fn the_right_tool_is_called() {
    let server = Server::start();
    let mut body = ask("What is the price of a cup?");
    body["tools"] = json!([clock_tool(), price_tool(), {"type": "web_search"}]);
    let check = |body: &Value, what: &str| {
        let (message, finish) = both(&server, body);
        let calls = message["tool_calls"].as_array().unwrap();
        assert_eq!(calls.len(), 1, "{what}");
        assert_eq!(calls[0]["function"]["name"], "price_of", "{what}");
        let arguments = calls[0]["function"]["arguments"].as_str().unwrap();
        let arguments: Value = serde_json::from_str(arguments).unwrap();
        assert_eq!(arguments["thing"], "cup", "{what}");
        assert_eq!(finish, "tool_calls", "{what}");
        assert_eq!(message["content"], Value::Null, "{what}");
    };
    check(&body, "auto");
    body["tool_choice"] = json!("required");
    check(&body, "required");
    body["tool_choice"] = json!({"type": "function", "function": {"name": "price_of"}});
    check(&body, "named");
    body["tool_choice"] = json!("auto");
    body["parallel_tool_calls"] = json!(false);
    check(&body, "one at most");
    body["tools"][1]["function"]["strict"] = json!(true);
    check(&body, "strict");

    body["tool_choice"] = json!("none");
    let (message, finish) = both(&server, &body);
    assert_eq!(message.get("tool_calls"), None, "no empty list either");
    assert_eq!(finish, "stop");
    body["tool_choice"] = json!({"type": "function", "function": {"name": "clock"}});
    let (message, _) = both(&server, &body);
    assert_eq!(
        message["tool_calls"][0]["function"]["name"], "clock",
        "forced"
    );
    body["tool_choice"] = json!({"type": "function", "function": {"name": "nothing"}});
    assert_eq!(post(server.address, CHAT, &body).status, 400);
}

#[test]
fn bounds_are_numbers_of_tokens_or_none() {
    let server = Server::start();
    let check = |path: &str, field: &str, body: Value| {
        for (most, status) in [(2, 200), (-1, 200), (-2, 200), (-3, 400), (i64::MIN, 400)] {
            let mut body = body.clone();
            match field.split_once('.') {
                Some((outer, inner)) => body[outer] = json!({inner: most}),
                None => body[field] = json!(most),
            }
            let reply = post(server.address, path, &body);
            assert_eq!(
                reply.status,
                status,
                "{path}, {field}: {most}: {}",
                reply.text()
            );
            if status == 400 {
                let said = reply.text();
                assert!(said.contains(&most.to_string()), "{said}");
                assert!(said.contains("-1 for as many as fit"), "{said}");
            }
        }
    };
    let chat = json!({"messages": [{"role": "user", "content": "bye"}], "stream": false});
    check(CHAT, "max_tokens", chat.clone());
    check(CHAT, "max_completion_tokens", chat.clone());
    check("/v1/completions", "max_tokens", json!({"prompt": "bye"}));
    check(
        "/v1/responses",
        "max_output_tokens",
        json!({"input": "bye"}),
    );
    check("/completion", "n_predict", json!({"prompt": "bye"}));
    check("/api/chat", "options.num_predict", chat);
}

#[test]
fn answers_follow_schemas() {
    let server = Server::start();
    let mut body = ask("Where is the red key?");
    let schema = json!({
        "type": "object",
        "properties": {"age": {"type": "integer"}, "name": {"type": "string", "maxLength": 12}},
        "required": ["age", "name"],
        "additionalProperties": false,
    });
    body["response_format"] = json!({"type": "json_schema", "json_schema": {"name": "p", "strict": true, "schema": schema}});
    body["max_tokens"] = json!(200);
    let check = |body: &Value| {
        let (message, finish) = both(&server, body);
        assert_eq!(finish, "stop");
        let content = message["content"].as_str().unwrap();
        let value: Value = serde_json::from_str(content).unwrap();
        assert!(
            value["age"].is_i64() && value["name"].is_string(),
            "{content}"
        );
    };
    check(&body);
    // With tools the answer may be a call instead; this question asks for none.
    body["chat_template_kwargs"] = json!({"enable_thinking": true});
    check(&body);
    body["messages"][0]["content"] = json!("What is the price of a cup?");
    body["tools"] = json!([price_tool()]);
    body["chat_template_kwargs"] = json!({"enable_thinking": false});
    let (message, _) = both(&server, &body);
    assert_eq!(message["tool_calls"][0]["function"]["name"], "price_of");

    let mut words = ask("bye");
    words["structured_outputs"] = json!({"choice": ["left", "right"]});
    let (message, _) = both(&server, &words);
    let content = message["content"].as_str().unwrap();
    assert!(["left", "right"].contains(&content), "{content}");
    words["structured_outputs"] = Value::Null;
    words["response_format"] = json!({"type": "yaml"});
    let refused = post(server.address, CHAT, &words);
    assert_eq!(refused.status, 400);
    assert_eq!(refused.json()["error"]["param"], "response_format");
}

#[test]
fn conversations_of_any_form_are_answered() {
    let server = Server::start();
    let answer = |messages: Value| {
        let body = json!({
            "messages": messages,
            "chat_template_kwargs": {"enable_thinking": false},
            "max_tokens": 40,
        });
        let (message, _) = both(&server, &body);
        message["content"].as_str().unwrap_or_default().to_owned()
    };
    let parts = json!([{"role": "user", "content": [{"type": "text", "text": "by"}, {"type": "text", "text": "e"}]}]);
    assert_eq!(answer(parts), "bye!");
    answer(json!([
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": "Hello!", "tool_calls": null},
        {"role": "system", "content": "Be brief."},
        {"role": "developer", "content": "Be kind."},
        {"role": "user", "content": "bye"},
    ]));
    answer(json!([
        {"role": "system", "content": "x-anthropic-billing-header: cch=1;\nBe brief."},
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "bye"},
    ]));
    answer(json!([{"role": "system", "content": "Only a system message."}]));
    let continued = answer(json!([
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": "Hello! How can"},
    ]));
    assert_eq!(continued, " I help you?");
    answer(json!([
        {"role": "user", "content": "What is the price of a cup?"},
        {"role": "assistant", "content": null, "reasoning": "I look it up.", "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "price_of", "arguments": "{\"thing\": \"cup\"}"}}]},
        {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "{\"price\": 24.5}"}]},
    ]));
}

#[test]
fn bounds_are_kept() {
    let server = Server::start();
    let mut body = ask("Say this again: button duck east red bear cat");
    body["max_completion_tokens"] = json!(3);
    let (message, finish) = both(&server, &body);
    assert_eq!(finish, "length");
    assert!("button duck east red bear cat".starts_with(message["content"].as_str().unwrap()));
    body["max_completion_tokens"] = json!(-1);
    body["stop"] = json!(" east");
    let (message, finish) = both(&server, &body);
    assert_eq!(message["content"], "button duck");
    assert_eq!(finish, "stop");
    body["stop"] = json!(["nothing", "duck"]);
    let (message, _) = both(&server, &body);
    assert_eq!(message["content"], "button ");

    let mut thinking = ask("Say this again: button duck east red bear cat");
    thinking["chat_template_kwargs"] = json!({});
    thinking["thinking_budget"] = json!(2);
    let whole = post(server.address, CHAT, &thinking).ok();
    let message = &whole["choices"][0]["message"];
    let reasoning = message["reasoning_content"].as_str().unwrap();
    assert!(
        reasoning.contains("Considering the limited time"),
        "{reasoning}"
    );
    thinking["thinking_budget"] = json!(0);
    let whole = post(server.address, CHAT, &thinking).ok();
    assert_eq!(
        whole["choices"][0]["message"].get("reasoning_content"),
        None
    );
}

#[test]
fn log_probabilities_fit_the_answer() {
    let server = Server::start();
    let mut body = ask("bye");
    body["logprobs"] = json!(true);
    body["top_logprobs"] = json!(3);
    let whole = post(server.address, CHAT, &body).ok();
    let content = whole["choices"][0]["logprobs"]["content"]
        .as_array()
        .unwrap();
    let text: String = content
        .iter()
        .map(|t| t["token"].as_str().unwrap())
        .collect();
    assert_eq!(text, "bye!");
    for token in content {
        let top = token["top_logprobs"].as_array().unwrap();
        assert_eq!(top.len(), 3);
        assert_eq!(top[0]["token"], token["token"], "greedy");
        assert!(token["logprob"].as_f64().unwrap() <= 0.0);
    }
    body["stream"] = json!(true);
    let (_, _, pieces) = sse::chat(&post(server.address, CHAT, &body).text());
    let streamed: Vec<Value> = pieces
        .iter()
        .filter_map(|piece| {
            piece["choices"][0]["logprobs"]["content"]
                .as_array()
                .cloned()
        })
        .flatten()
        .collect();
    assert_eq!(&streamed, content);
}

#[test]
fn several_answers_and_seeds() {
    let server = Server::start();
    let mut body = ask("Tell a story about a fox and a lantern.");
    body["n"] = json!(3);
    body["temperature"] = json!(1.5);
    body["seed"] = json!(7);
    body["max_tokens"] = json!(24);
    let texts = |whole: &Value| -> Vec<String> {
        let choices = whole["choices"].as_array().unwrap();
        let text = |choice: &Value| choice["message"]["content"].as_str().unwrap().to_owned();
        choices.iter().map(text).collect()
    };
    let first = texts(&post(server.address, CHAT, &body).ok());
    assert_eq!(first.len(), 3);
    assert!(first[0] != first[1] || first[1] != first[2], "{first:?}");
    assert_eq!(
        texts(&post(server.address, CHAT, &body).ok()),
        first,
        "the same seed"
    );
    body["stream"] = json!(true);
    let reply = post(server.address, CHAT, &body).text();
    let mut streamed = vec![String::new(); 3];
    for event in sse::events(&reply)
        .iter()
        .filter(|event| event.data != "[DONE]")
    {
        let piece = event.json();
        let choice = &piece["choices"][0];
        if let Some(text) = choice["delta"]["content"].as_str() {
            streamed[choice["index"].as_u64().unwrap() as usize].push_str(text);
        }
    }
    assert_eq!(streamed, first);
}

#[test]
fn conversations_share_what_they_begin_with() {
    let server = Server::start();
    let system = "You answer questions about the harbour. ".repeat(20);
    let cached = |question: &str| {
        let body = json!({
            "messages": [{"role": "system", "content": system}, {"role": "user", "content": question}],
            "max_tokens": 4,
        });
        let usage = post(server.address, CHAT, &body).ok()["usage"].clone();
        let count = |path: &str| usage.pointer(path).and_then(Value::as_u64).unwrap();
        (
            count("/prompt_tokens_details/cached_tokens"),
            count("/prompt_tokens"),
        )
    };
    assert_eq!(cached("hello").0, 0);
    let (shared, prompt) = cached("Where is the key?");
    assert!(shared > 100 && shared < prompt, "{shared} of {prompt}");
    let (again, prompt) = cached("Where is the key?");
    assert_eq!(again, prompt, "the same question needs no reading");
}
