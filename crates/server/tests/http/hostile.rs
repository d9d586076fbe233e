//! Requests that make no sense: the right status, and no harm to others.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::common::client::{self, get, post, send};
use crate::common::{CONTEXT, MAX_BODY, Server};
use serde_json::{Value, json};
use tidemill_server::ApiKeys;

const CHAT: &str = "/v1/chat/completions";

fn user(text: &str) -> Value {
    json!([{"role": "user", "content": text}])
}

fn works(server: &Server) {
    let body = json!({"messages": user("bye"), "max_tokens": 2});
    assert_eq!(post(server.address, CHAT, &body).status, 200);
}

#[test]
fn nonsense_is_refused_and_nobody_is_harmed() {
    let server = Server::start();
    let check = |body: &[u8], status: u16, what: &str| {
        let reply = send(server.address, "POST", CHAT, &[], body).finish();
        assert_eq!(reply.status, status, "{what}: {}", reply.text());
        let error = &reply.json()["error"];
        assert!(
            error["message"].is_string() && error["type"].is_string(),
            "{what}: {error}"
        );
    };
    check(b"", 400, "nothing");
    check(b"{", 400, "half");
    check(b"[]", 400, "a list");
    check(
        b"{\"messages\": \"\xff\xfe\"}",
        400,
        "bytes that are not UTF-8",
    );
    check(&[b'['; 100_000], 400, "depth");
    let deep = format!(
        "{{\"messages\":[],\"x\":{}1{}}}",
        "[".repeat(5000),
        "]".repeat(5000)
    );
    check(deep.as_bytes(), 400, "depth in a field that nobody reads");
    check(&vec![b' '; MAX_BODY + 1], 413, "too large a body");
    let bad = |body: Value, what: &str| check(body.to_string().as_bytes(), 400, what);
    bad(json!({}), "no messages");
    bad(json!({"messages": []}), "empty messages");
    bad(json!({"messages": [{"content": "no role"}]}), "no role");
    bad(json!({"messages": "text"}), "messages as text");
    bad(
        json!({"messages": [{"role": "user", "content": 3}]}),
        "a number as content",
    );
    let image = json!([{"type": "image_url", "image_url": {"url": "data:,"}}]);
    bad(
        json!({"messages": [{"role": "user", "content": image}]}),
        "an image",
    );
    let with = |name: &str, value: Value| {
        let mut body = json!({"messages": user("bye"), "max_tokens": 2});
        body[name] = value;
        body
    };
    bad(with("temperature", json!("hot")), "a wrong type");
    bad(with("temperature", json!(-1)), "out of range");
    bad(with("temperature", json!(1e300)), "not a float");
    bad(
        with("top_logprobs", json!(100_000)),
        "too many log-probabilities",
    );
    let breakers = |list: Vec<String>| {
        let mut body = with("dry_multiplier", json!(0.8));
        body["dry_sequence_breakers"] = json!(list);
        body
    };
    bad(breakers(vec!["x".to_owned(); 1000]), "too many breakers");
    bad(breakers(vec!["x".repeat(1000)]), "too long a breaker");
    bad(with("n", json!(0)), "no answers");
    bad(with("n", json!(1_000_000_000)), "too many answers");
    bad(
        with("stop", json!(vec!["x"; 1000])),
        "too many stop strings",
    );
    bad(
        with("logit_bias", json!({"99999999": 1})),
        "a token that is not there",
    );
    bad(with("logit_bias", json!({"a": 1})), "a bias of no token");
    bad(
        with("tools", json!([{"type": "function"}])),
        "a tool without a name",
    );
    bad(
        with("tool_choice", json!("required")),
        "a call without tools",
    );
    bad(with("grammar", json!("start: (((((")), "a broken grammar");
    let broken = json!({"type": "json_schema", "json_schema": {"schema": {"type": "thing"}}});
    bad(with("response_format", broken), "a schema of no type");
    bad(with("reasoning_effort", json!("huge")), "an unknown effort");
    bad(with("preset", json!("nothing")), "an unknown preset");
    bad(
        with("chat_template_kwargs", json!({"messages": 1})),
        "a reserved variable",
    );
    works(&server);
    for path in ["/props?model=a&model=b", "/v1/models/%ff"] {
        let reply = get(server.address, path);
        assert_eq!(reply.status, 400, "{path}");
        assert!(reply.json()["error"]["message"].is_string(), "{path}");
    }
    assert_eq!(get(server.address, "/nowhere").status, 404);
    assert_eq!(get(server.address, CHAT).status, 405);
    assert_eq!(
        post(
            server.address,
            "/detokenize",
            &json!({"tokens": [99_999_999]})
        )
        .status,
        400
    );
    works(&server);
}

#[test]
fn what_is_wrong_is_named() {
    let server = Server::start();
    let check = |body: Value, param: Option<&str>, part: &str| {
        let reply = post(server.address, CHAT, &body);
        let error = &reply.json()["error"];
        assert_eq!((reply.status, error["param"].as_str()), (400, param));
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(part), "{message}");
    };
    check(json!([1]), None, "not a JSON object");
    let with = |name: &str, value: Value| json!({"messages": user("bye"), name: value});
    let stop = with("stop", json!(["a", null]));
    check(stop, None, "text or a list of texts");
    check(
        with("temperature", json!(-1)),
        Some("temperature"),
        "0 to 100",
    );
    check(
        with("logit_bias", json!({"99999999": 1})),
        Some("logit_bias"),
        "99999999",
    );
}

#[test]
fn prompts_that_do_not_fit_are_refused_with_figures() {
    let server = Server::start();
    let body = json!({"messages": user(&"word ".repeat(2 * CONTEXT))});
    let reply = post(server.address, CHAT, &body);
    assert_eq!(reply.status, 400);
    let error = &reply.json()["error"];
    assert_eq!(error["code"], "context_length_exceeded");
    assert_eq!(error["n_ctx"], CONTEXT);
    assert!(error["n_prompt_tokens"].as_u64().unwrap() > CONTEXT as u64);
    works(&server);
}

#[test]
fn keys_are_asked_for() {
    let server = Server::locked("secret");
    let with = |headers: &[(&str, &str)], path: &str| {
        send(server.address, "GET", path, headers, b"")
            .finish()
            .status
    };
    assert_eq!(with(&[], "/v1/models"), 401);
    assert_eq!(
        with(&[("authorization", "Bearer wrong")], "/v1/models"),
        401
    );
    assert_eq!(
        with(&[("authorization", "Bearer secret")], "/v1/models"),
        200
    );
    assert_eq!(with(&[("x-api-key", "secret")], "/v1/models"), 200);
    assert_eq!(with(&[], "/health"), 200);
    assert_eq!(with(&[], "/nowhere"), 401, "strangers learn nothing");
    let refused = post(server.address, CHAT, &json!({"messages": user("bye")}));
    assert_eq!(refused.status, 401);
    assert_eq!(refused.json()["error"]["code"], "invalid_api_key");
}

#[test]
fn too_many_requests_are_told_to_come_back() {
    let server = Server::with(|_, scheduling| scheduling.queue = 1);
    let long = json!({
        "messages": user("Tell a story about a fox and a lantern."),
        "ignore_eos": true, "stream": true, "max_tokens": 1500,
    });
    let mut streams = Vec::new();
    let mut refused = None;
    for _ in 0..12 {
        let body = long.to_string();
        let stream = send(server.address, "POST", CHAT, &[], body.as_bytes());
        if stream.status == 429 {
            refused = Some(stream.finish());
            break;
        }
        streams.push(stream);
    }
    let refused = refused.unwrap();
    assert!(refused.header("retry-after").is_some());
    assert_eq!(refused.json()["error"]["type"], "rate_limit_error");
    drop(streams);
    server.wait_until_idle();
    works(&server);
}

#[test]
fn whoever_asks_too_often_is_told_when_to_come_back() {
    let limit = |per_minute| std::num::NonZeroU32::new(per_minute);
    let server = Server::with(|config, _| {
        config.rate_limit = limit(2);
        config.keys = ApiKeys::new(["one", "two"]);
    });
    let ask = |key: &str, path: &str| {
        let key = format!("Bearer {key}");
        let body = json!({"messages": user("bye"), "max_tokens": 1});
        let headers = [("authorization", key.as_str())];
        let body = body.to_string();
        send(server.address, "POST", path, &headers, body.as_bytes()).finish()
    };
    assert_eq!(ask("one", CHAT).status, 200);
    assert_eq!(ask("one", CHAT).status, 200);
    let refused = ask("one", CHAT);
    assert_eq!(refused.status, 429);
    let seconds: u32 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=30).contains(&seconds), "{seconds}");
    assert_eq!(refused.json()["error"]["code"], "rate_limit_exceeded");
    let refused = ask("one", "/v1/messages");
    assert_eq!(refused.json()["error"]["type"], "rate_limit_error");
    assert_eq!(ask("two", CHAT).status, 200, "each has its own");
    let key = [("authorization", "Bearer one")];
    let told = send(server.address, "GET", "/v1/models", &key, b"").finish();
    assert_eq!(told.status, 200, "what tells of the server is free");
    let open = Server::with(|config, _| config.rate_limit = limit(1));
    works(&open);
    let body = json!({"messages": user("bye"), "max_tokens": 1});
    assert_eq!(post(open.address, CHAT, &body).status, 429, "one address");
}

#[test]
fn whoever_leaves_is_cancelled() {
    let server = Server::start();
    let start = |stream: bool, prompt: &str| {
        let body = json!({
            "messages": user(prompt), "stream": stream, "ignore_eos": true, "max_tokens": 1500,
        });
        let body = body.to_string();
        let mut connection = TcpStream::connect(server.address).unwrap();
        let head = format!(
            "POST {CHAT} HTTP/1.1\r\nhost: t\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        connection.write_all(head.as_bytes()).unwrap();
        connection.write_all(body.as_bytes()).unwrap();
        connection
    };
    let busy = || {
        let slots = get(server.address, "/slots").json();
        slots
            .as_array()
            .unwrap()
            .iter()
            .any(|slot| slot["is_processing"] == true)
    };
    let long = "word ".repeat(CONTEXT / 2);
    for (streamed, prompt, wait) in [
        (true, "Tell a story.", true),
        (false, "Tell a story.", true),
        (true, long.as_str(), false),
        (false, long.as_str(), false),
    ] {
        let mut connection = start(streamed, prompt);
        if wait && streamed {
            let mut some = [0; 512];
            assert!(connection.read(&mut some).unwrap() > 0);
        } else if wait {
            let waited = (0..200).any(|_| {
                std::thread::sleep(Duration::from_millis(10));
                busy()
            });
            assert!(waited);
        } else {
            std::thread::sleep(Duration::from_millis(30));
        }
        drop(connection);
        server.wait_until_idle();
    }
    works(&server);
}

#[test]
fn a_client_that_does_not_read_stalls_nobody() {
    let server = Server::start();
    let body = json!({
        "messages": user("Tell a story."), "stream": true, "ignore_eos": true, "max_tokens": 400,
        "logprobs": true, "top_logprobs": 200,
    });
    let slow = send(
        server.address,
        "POST",
        CHAT,
        &[],
        body.to_string().as_bytes(),
    );
    assert_eq!(slow.status, 200);
    works(&server);
    server.wait_until_idle();
    // All of it is still there for whoever takes it in the end.
    let reply = slow.finish();
    let text = reply.text();
    assert!(text.ends_with("data: [DONE]\n\n"));
    assert_eq!(text.matches("\"finish_reason\":\"length\"").count(), 1);
}

#[test]
fn answers_under_way_end_before_the_server_does() {
    let mut server = Server::start();
    let body = json!({
        "messages": user("Tell a story."), "stream": true, "ignore_eos": true, "max_tokens": 300,
    });
    let stream = send(
        server.address,
        "POST",
        CHAT,
        &[],
        body.to_string().as_bytes(),
    );
    assert_eq!(stream.status, 200);
    server.ask_to_stop();
    let reply = stream.finish();
    assert!(reply.text().ends_with("data: [DONE]\n\n"));
    server.stop().unwrap().unwrap();
    assert!(TcpStream::connect(server.address).is_err());
}

#[test]
fn broken_http_is_answered_or_hung_up_on() {
    let server = Server::start();
    for garbage in [
        &b"\x16\x03\x01\x02\x00"[..],
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: 99999999999999999999\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"\r\n\r\n\r\n",
    ] {
        let mut connection = TcpStream::connect(server.address).unwrap();
        connection
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        connection.write_all(garbage).unwrap();
        let _ = connection.shutdown(std::net::Shutdown::Write);
        let mut reply = Vec::new();
        let _ = connection.read_to_end(&mut reply);
    }
    let idle: Vec<TcpStream> = (0..200)
        .map(|_| TcpStream::connect(server.address).unwrap())
        .collect();
    works(&server);
    drop(idle);
    let health = client::get(server.address, "/health");
    assert_eq!(health.status, 200);
}
