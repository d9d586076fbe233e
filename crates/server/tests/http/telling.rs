//! Paths that tell of the server and its model.

use crate::common::client::{get, post, send};
use crate::common::{CONTEXT, Server};
use serde_json::{Value, json};

fn ask(question: &str) -> Value {
    json!({"messages": [{"role": "user", "content": question}]})
}

#[test]
fn models_and_tokens_are_told() {
    let server = Server::start();
    let models = get(server.address, "/v1/models").ok();
    assert_eq!(models["data"][0]["id"], "tiny");
    assert_eq!(models["data"][1]["id"], "other-name");
    assert_eq!(models["data"][0]["max_model_len"], 2048);
    assert_eq!(models["data"][0]["meta"]["n_ctx"], 2048);
    let one = get(server.address, "/v1/models/claude-sonnet/4").ok();
    assert_eq!(one["id"], "claude-sonnet/4");
    assert_eq!(get(server.address, "/health").ok()["status"], "ok");
    assert_eq!(get(server.address, "/props").ok()["total_slots"], 4);

    let tokens = post(
        server.address,
        "/tokenize",
        &json!({"content": "Hello <|im_end|>"}),
    )
    .ok();
    let ids = tokens["tokens"].as_array().unwrap();
    assert_eq!(tokens["count"], ids.len());
    let text = post(server.address, "/detokenize", &json!({"tokens": ids})).ok();
    assert_eq!(text["content"], "Hello <|im_end|>");
    let plain = json!({"content": "Hello <|im_end|>", "parse_special": false});
    let plain = post(server.address, "/tokenize", &plain).ok();
    assert!(plain["count"].as_u64() > tokens["count"].as_u64());
    let pieces = post(
        server.address,
        "/tokenize",
        &json!({"content": "Hi", "with_pieces": true}),
    );
    assert!(pieces.ok()["tokens"][0]["piece"].is_string());
    let prompt = post(server.address, "/apply-template", &ask("hello!!")).ok();
    assert!(
        prompt["prompt"]
            .as_str()
            .unwrap()
            .starts_with("<|im_start|>user\nhello!!<|im_end|>")
    );
    let counted = post(server.address, "/tokenize", &ask("hello!!")).ok();
    assert_eq!(counted["count"], prompt["tokens"]);
    let info = get(server.address, "/tokenizer_info").ok();
    assert!(info["vocab_size"].as_u64() > Some(1000));
    let ignored = post(
        server.address,
        "/api/event_logging/batch",
        &json!({"events": []}),
    );
    assert_eq!(ignored.status, 200);
}

#[test]
fn requests_keep_their_ids() {
    let server = Server::start();
    let given = [("x-request-id", "mine-1")];
    let reply = send(server.address, "GET", "/health", &given, b"").finish();
    assert_eq!(reply.header("x-request-id"), Some("mine-1"));
    let made = get(server.address, "/health");
    assert!(made.header("x-request-id").unwrap().starts_with("req_"));
}

/// The value of a figure.
fn figure(server: &Server, name: &str) -> f64 {
    let page = get(server.address, "/metrics").text();
    let line = page
        .lines()
        .find(|line| line.starts_with(&format!("{name}{{")));
    let line = line.unwrap_or_else(|| panic!("no {name} in {page}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[test]
fn figures_tell_what_was_done_and_that_all_memory_is_free_again() {
    let server = Server::start();
    let body = json!({"messages": [{"role": "user", "content": "hello!!"}], "max_tokens": 8});
    post(server.address, "/v1/chat/completions", &body).ok();
    let leaving = json!({
        "messages": [{"role": "user", "content": "Tell a story."}],
        "stream": true, "ignore_eos": true, "max_tokens": CONTEXT,
    });
    let leaving = leaving.to_string();
    let path = "/v1/chat/completions";
    let mut stream = send(server.address, "POST", path, &[], leaving.as_bytes());
    assert!(stream.piece().is_some());
    drop(stream);
    server.wait_until_idle();
    assert_eq!(figure(&server, "tidemill:requests_submitted_total"), 2.0);
    assert_eq!(figure(&server, "tidemill:requests_cancelled_total"), 1.0);
    assert_eq!(figure(&server, "vllm:num_requests_running"), 0.0);
    assert_eq!(figure(&server, "vllm:num_requests_waiting"), 0.0);
    assert_eq!(figure(&server, "vllm:kv_cache_usage_perc"), 0.0);
    assert_eq!(figure(&server, "tidemill:pages_held"), 0.0);
    assert_eq!(figure(&server, "tidemill:states_held"), 0.0);
    assert!(figure(&server, "vllm:generation_tokens_total") >= 8.0);
    assert!(figure(&server, "vllm:time_to_first_token_seconds_count") >= 1.0);
    let closed = Server::with(|config, _| (config.slots, config.metrics) = (false, false));
    assert_eq!(get(closed.address, "/metrics").status, 404);
    assert_eq!(get(closed.address, "/slots").status, 404);
}

#[test]
fn the_document_names_paths_that_are_there() {
    let server = Server::start();
    let document = get(server.address, "/openapi.json").ok();
    let paths = document["paths"].as_object().unwrap();
    assert!(paths.len() > 20);
    for (path, methods) in paths {
        for method in methods.as_object().unwrap().keys() {
            let asked = path.replace("{name}", "tiny");
            let method = method.to_uppercase();
            let status = send(server.address, &method, &asked, &[], b"{")
                .finish()
                .status;
            let is_forgotten = path == "/api/event_logging/batch";
            let want = if method == "GET" || is_forgotten {
                200
            } else {
                400
            };
            assert_eq!(status, want, "{method} {path}");
        }
    }
    let text = document.to_string();
    for name in text.split("#/components/schemas/").skip(1) {
        let name = name.split('"').next().unwrap();
        assert!(
            document["components"]["schemas"][name].is_object(),
            "{name}"
        );
    }
}
