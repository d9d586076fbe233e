//! `/v1/completions`, against the tiny model.

use crate::common::client::post;
use crate::common::{Server, sse};
use serde_json::{Value, json};

const PATH: &str = "/v1/completions";
const PROMPT: &str =
    "<|im_start|>user\nhello!!<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n";

/// The answers, which have to be the same streamed and not.
fn both(server: &Server, body: &Value) -> Vec<Value> {
    let whole = post(server.address, PATH, body).ok();
    let mut streamed = body.clone();
    streamed["stream"] = json!(true);
    streamed["stream_options"] = json!({"include_usage": true});
    let events = sse::events(&post(server.address, PATH, &streamed).text());
    let (done, pieces) = events.split_last().unwrap();
    assert_eq!(done.data, "[DONE]");
    let choices = whole["choices"].as_array().unwrap().clone();
    let mut joined: Vec<Value> = (0..choices.len())
        .map(|index| json!({"index": index, "text": "", "logprobs": null, "finish_reason": null}))
        .collect();
    for piece in pieces.iter().map(sse::Sse::json) {
        if let Some(usage) = piece.get("usage") {
            assert_eq!(usage["total_tokens"], whole["usage"]["total_tokens"]);
        }
        for choice in piece["choices"].as_array().unwrap() {
            let into = &mut joined[choice["index"].as_u64().unwrap() as usize];
            let text = format!(
                "{}{}",
                into["text"].as_str().unwrap(),
                choice["text"].as_str().unwrap()
            );
            into["text"] = json!(text);
            into["finish_reason"] = choice["finish_reason"].clone();
            let Some(lists) = choice["logprobs"].as_object() else {
                continue;
            };
            if into["logprobs"].is_null() {
                into["logprobs"] = json!({});
            }
            for (name, list) in lists {
                let mut all = into["logprobs"][name]
                    .as_array()
                    .cloned()
                    .unwrap_or_default();
                all.extend(list.as_array().unwrap().iter().cloned());
                into["logprobs"][name] = Value::Array(all);
            }
        }
    }
    assert_eq!(joined, choices, "streamed and not");
    choices
}

#[test]
fn text_goes_on() {
    let server = Server::start();
    let body = json!({"prompt": PROMPT, "max_tokens": 40});
    let choices = both(&server, &body);
    assert_eq!(choices[0]["text"], "Hello! How can I help you?");
    assert_eq!(choices[0]["finish_reason"], "stop");
    let many = json!({"prompt": [PROMPT, "one two"], "n": 2, "max_tokens": 5, "echo": true});
    let choices = both(&server, &many);
    assert_eq!(choices.len(), 4);
    assert!(choices[1]["text"].as_str().unwrap().starts_with(PROMPT));
    assert!(choices[2]["text"].as_str().unwrap().starts_with("one two"));
    let ids = post(server.address, "/tokenize", &json!({"content": PROMPT})).ok()["tokens"].clone();
    let by_ids = both(&server, &json!({"prompt": ids, "max_tokens": 40}));
    assert_eq!(by_ids[0]["text"], "Hello! How can I help you?");
    let lists = json!({"prompt": [ids, ids], "max_tokens": 40});
    assert_eq!(both(&server, &lists).len(), 2);
}

#[test]
fn log_probabilities_of_prompts_are_those_of_answers() {
    let server = Server::start();
    let answer = json!({"prompt": PROMPT, "max_tokens": 8, "logprobs": 2});
    let answered = both(&server, &answer).remove(0);
    let text = format!("{PROMPT}{}", answered["text"].as_str().unwrap());
    // What was just answered, read as a prompt.
    let echoed = json!({"prompt": text, "max_tokens": 0, "logprobs": 2, "echo": true});
    let echoed = both(&server, &echoed).remove(0);
    assert_eq!(echoed["text"], text);
    let list = |choice: &Value, name: &str| choice["logprobs"][name].as_array().unwrap().clone();
    let (read, said) = (
        list(&echoed, "token_logprobs"),
        list(&answered, "token_logprobs"),
    );
    assert_eq!(read[0], Value::Null, "nothing is known of the first");
    let first = read.len() - said.len();
    assert_eq!(&read[first..], &said[..], "bit for bit");
    assert_eq!(
        list(&echoed, "tokens")[first..],
        list(&answered, "tokens")[..]
    );
    assert_eq!(
        list(&echoed, "top_logprobs")[first..],
        list(&answered, "top_logprobs")[..]
    );
    let joined: String = list(&echoed, "tokens")
        .iter()
        .map(|t| t.as_str().unwrap())
        .collect();
    assert_eq!(joined, text);
    let offsets = list(&echoed, "text_offset");
    assert_eq!(offsets[first], PROMPT.chars().count());
    // Longer than what is read at once, and with an answer behind.
    let long = json!({"prompt": "word ".repeat(150), "max_tokens": 1, "logprobs": 0, "echo": true});
    let long = both(&server, &long).remove(0);
    let usage = post(
        server.address,
        PATH,
        &json!({"prompt": "word ".repeat(150), "max_tokens": 1}),
    )
    .ok();
    let prompt = usage["usage"]["prompt_tokens"].as_u64().unwrap() as usize;
    assert_eq!(list(&long, "token_logprobs").len(), prompt + 1);
    assert!(
        list(&long, "token_logprobs")[1..]
            .iter()
            .all(|value| value.as_f64() <= Some(0.0))
    );
}

#[test]
fn gaps_are_filled() {
    let server = Server::start();
    let body = json!({"prompt": "one two", "suffix": "four five", "max_tokens": 4});
    let choices = both(&server, &body);
    assert_eq!(choices.len(), 1);
    assert_eq!(
        post(
            server.address,
            PATH,
            &json!({"prompt": [1, 2], "suffix": "x"})
        )
        .status,
        400
    );
    assert_eq!(
        post(server.address, PATH, &json!({"prompt": []})).status,
        400
    );
    assert_eq!(
        post(server.address, PATH, &json!({"prompt": ""})).status,
        400
    );
    assert_eq!(
        post(server.address, PATH, &json!({"prompt": [99_999_999]})).status,
        400
    );
}

#[test]
fn an_empty_suffix_is_none() {
    let server = Server::start();
    let ask = |suffix: Value| {
        let body = json!({
            "prompt": "Tell a story.", "max_tokens": 8, "temperature": 0, "suffix": suffix,
        });
        let answer = post(server.address, "/v1/completions", &body).ok();
        (
            answer["choices"][0]["text"].clone(),
            answer["usage"]["prompt_tokens"].clone(),
        )
    };
    assert_eq!(ask(json!("")), ask(Value::Null));
}
