//! `/v1/responses`, against the tiny model.

use crate::common::client::post;
use crate::common::{Server, sse};
use serde_json::{Value, json};

const PATH: &str = "/v1/responses";

/// The response, which has to be the same streamed and not.
fn both(server: &Server, body: &Value) -> Value {
    let mut whole = post(server.address, PATH, body).ok();
    let mut streamed = body.clone();
    streamed["stream"] = json!(true);
    let events = sse::events(&post(server.address, PATH, &streamed).text());
    for (number, event) in events.iter().enumerate() {
        let name = event.name.clone().unwrap();
        let event = event.json();
        assert_eq!(event["type"], name);
        assert_eq!(event["sequence_number"], number);
    }
    check_deltas(&events);
    let mut last = events.last().unwrap().json()["response"].take();
    for response in [&mut whole, &mut last] {
        for path in ["/id", "/created_at", "/usage/input_tokens_details"] {
            response.pointer_mut(path).unwrap().take();
        }
        for item in response["output"].as_array_mut().unwrap() {
            item["id"].take();
            item.as_object_mut().unwrap().remove("call_id");
        }
    }
    assert_eq!(last, whole, "streamed and not");
    whole
}

/// What came in pieces is what the items hold.
fn check_deltas(events: &[sse::Sse]) {
    let mut joined = String::new();
    for event in events.iter().map(sse::Sse::json) {
        let kind = event["type"].as_str().unwrap();
        if kind.ends_with(".delta") {
            joined.push_str(event["delta"].as_str().unwrap());
        }
        let done = event["text"]
            .as_str()
            .or_else(|| event["arguments"].as_str());
        if let (true, Some(done)) = (kind.ends_with(".done"), done) {
            assert_eq!(joined, done, "{kind}");
            joined.clear();
        }
    }
    assert!(joined.is_empty());
}

fn ask(question: &str) -> Value {
    json!({"model": "gpt-5", "input": question, "reasoning": {"effort": "none"}, "store": true})
}

#[test]
fn responses_are_the_same_streamed_and_not() {
    let server = Server::start();
    let response = both(&server, &ask("hello!!"));
    assert_eq!(response["status"], "completed");
    assert_eq!(response["store"], false);
    assert_eq!(response["output"][0]["type"], "message");
    assert_eq!(
        response["output"][0]["content"][0]["text"],
        "Hello! How can I help you?"
    );

    let mut thinking = ask("Say this again: button duck east red bear cat");
    thinking["reasoning"] = json!({"effort": "high"});
    let response = both(&server, &thinking);
    let kinds: Vec<&Value> = response["output"]
        .as_array()
        .unwrap()
        .iter()
        .map(|i| &i["type"])
        .collect();
    assert_eq!(kinds, ["reasoning", "message"]);
    assert_eq!(
        response["output"][0]["content"][0]["text"],
        "I copy the text as it is."
    );

    let mut cut = ask("Say this again: button duck east red bear cat");
    cut["max_output_tokens"] = json!(3);
    let response = both(&server, &cut);
    assert_eq!(response["status"], "incomplete");
    assert_eq!(
        response["incomplete_details"]["reason"],
        "max_output_tokens"
    );
}

#[test]
fn functions_are_called_and_their_outputs_are_read() {
    let server = Server::start();
    let mut body = ask("What is the price of a cup?");
    body["tools"] = json!([
        {"type": "web_search"},
        {
            "type": "function", "name": "price_of", "description": "Get the price of a thing.",
            "parameters": {
                "type": "object",
                "properties": {
                    "thing": {"type": "string"},
                    "color": {"type": "string", "enum": ["red", "green", "blue", "yellow", "white"]},
                },
                "required": ["thing"],
            },
        },
    ]);
    let response = both(&server, &body);
    let call = &response["output"][0];
    assert_eq!(call["type"], "function_call", "{response}");
    assert_eq!(call["name"], "price_of");
    let arguments: Value = serde_json::from_str(call["arguments"].as_str().unwrap()).unwrap();
    assert_eq!(arguments["thing"], "cup");
    body["input"] = json!([
        {"role": "user", "content": [{"type": "input_text", "text": "What is the price of a cup?"}]},
        {"type": "function_call", "call_id": "c", "name": "price_of", "arguments": "{\"thing\": \"cup\"}"},
        {"type": "function_call_output", "call_id": "c", "output": "{\"price\": 24.5}"},
    ]);
    let response = both(&server, &body);
    let text = response["output"][0]["content"][0]["text"]
        .as_str()
        .unwrap();
    assert!(text.contains("24.5"), "{text}");

    body["tool_choice"] = json!("none");
    body["text"] = json!({"format": {
        "type": "json_schema", "name": "n",
        "schema": {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": false},
    }});
    let response = both(&server, &body);
    let text = response["output"][0]["content"][0]["text"]
        .as_str()
        .unwrap();
    let value: Value = serde_json::from_str(text).unwrap();
    assert!(value["n"].is_i64(), "{text}");
}

#[test]
fn nonsense_is_refused() {
    let server = Server::start();
    let check = |body: Value| assert_eq!(post(server.address, PATH, &body).status, 400, "{body}");
    check(json!({}));
    check(json!({"input": []}));
    check(json!({"input": 3}));
    check(json!({"input": "x", "previous_response_id": "resp_1"}));
    check(json!({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}));
}

#[test]
fn likelihoods_are_told_where_they_are_asked_for() {
    let server = Server::start();
    let mut body = ask("Who are you?");
    let part = |response: &Value| response["output"][0]["content"][0].clone();
    assert_eq!(part(&both(&server, &body))["logprobs"], json!([]));
    body["top_logprobs"] = json!(2);
    body["temperature"] = json!(0);
    let part = part(&both(&server, &body));
    let tokens = part["logprobs"].as_array().unwrap();
    let texts = tokens.iter().map(|token| token["token"].as_str().unwrap());
    assert_eq!(texts.collect::<String>(), part["text"].as_str().unwrap());
    for token in tokens {
        assert!(token["logprob"].as_f64().unwrap() <= 0.0, "{token}");
        assert_eq!(token["top_logprobs"].as_array().unwrap().len(), 2);
    }
}
