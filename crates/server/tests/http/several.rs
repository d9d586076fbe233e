//! Several models: loaded when they are asked for, unloaded when others need their place, and never
//! while somebody uses them.

use std::time::Duration;

use crate::common::client::{get, post, send};
use crate::common::{Server, sse, tiny, usual};
use serde_json::{Value, json};
use tidemill_server::{
    Config, Defaults, KeptLoaded, LoadError, LoadedModel, Loader, Loading, ModelLimits,
};

const CHAT: &str = "/v1/chat/completions";
const NAMES: [&str; 6] = ["one", "two", "broken", "slow", "late", "mad"];

/// The tiny model under several names, of which some are troublesome.
struct Troublesome;

impl Loader for Troublesome {
    fn load(&self, model: usize, mut loading: Loading<'_>) -> Result<LoadedModel, LoadError> {
        let name = NAMES[model];
        if name == "broken" {
            return Err("its header is damaged".into());
        }
        assert!(name != "mad", "something that nobody thought of");
        loading.make_room()?;
        if name == "slow" || name == "late" {
            for part in 0..15 {
                loading.progress()(part, 15);
                std::thread::sleep(Duration::from_millis(100));
            }
        }
        if name == "late" {
            return Err("its last tensor is missing".into());
        }
        let defaults = Defaults::default();
        tiny::load(name, defaults, Default::default(), loading.progress())
    }
}

fn server(change: impl FnOnce(&mut ModelLimits)) -> Server {
    let mut limits = ModelLimits::default();
    change(&mut limits);
    let config = Config {
        models: limits,
        ..usual()
    };
    let offers = NAMES.iter().map(|&name| tiny::offer(&[name])).collect();
    Server::of(offers, Troublesome, config)
}

fn ask(model: &str, more: &Value) -> Value {
    let mut body = json!({
        "model": model, "messages": [{"role": "user", "content": "hello!!"}], "max_tokens": 3,
    });
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

fn answers(server: &Server, model: &str) -> Value {
    post(server.address, CHAT, &ask(model, &json!({}))).ok()
}

/// What a model is doing.
fn status(server: &Server, name: &str) -> String {
    let told = get(server.address, &format!("/v1/models/{name}")).ok();
    told["status"]["value"].as_str().unwrap().to_owned()
}

fn waits_for(server: &Server, name: &str, wanted: &str) {
    for _ in 0..400 {
        if status(server, name) == wanted {
            return;
        }
        std::thread::sleep(Duration::from_millis(25));
    }
    panic!("{name} is {}, not {wanted}", status(server, name));
}

#[test]
fn a_request_goes_to_the_model_that_it_names() {
    let server = server(|_| {});
    assert_eq!(status(&server, "one"), "unloaded");
    assert_eq!(answers(&server, "two")["model"], "two");
    assert_eq!(
        (
            status(&server, "one").as_str(),
            status(&server, "two").as_str()
        ),
        ("unloaded", "loaded")
    );
    for (asked, answering) in [
        ("claude-opus-4-5", "one"),
        ("gpt-5", "one"),
        ("openai/one", "one"),
        ("one:latest", "one"),
        ("two", "two"),
    ] {
        assert_eq!(answers(&server, asked)["model"], answering, "{asked}");
    }
    assert_eq!(status(&server, "one"), "unloaded", "there is room for one");
    let refused = post(server.address, CHAT, &ask("three", &json!({})));
    assert_eq!(refused.status, 404);
    let error = &refused.json()["error"];
    assert_eq!(error["code"], "model_not_found");
    assert!(
        error["message"].as_str().unwrap().contains("one, two"),
        "{error}"
    );

    let message = json!({
        "model": "one", "max_tokens": 3, "messages": [{"role": "user", "content": "hello!!"}],
    });
    assert_eq!(
        post(server.address, "/v1/messages", &message).ok()["model"],
        "one"
    );
    let message = json!({"model": "two", "input": "hello!!", "max_output_tokens": 3});
    assert_eq!(
        post(server.address, "/v1/responses", &message).ok()["model"],
        "two"
    );
    let text = json!({"model": "one", "prompt": "hello", "max_tokens": 3});
    assert_eq!(
        post(server.address, "/v1/completions", &text).ok()["model"],
        "one"
    );
    let page = get(server.address, "/metrics").text();
    assert!(
        page.contains("tidemill:model_loaded{model_name=\"one\"} 1"),
        "{page}"
    );
    assert!(
        page.contains("tidemill:model_loaded{model_name=\"two\"} 0"),
        "{page}"
    );
}

#[test]
fn as_many_are_loaded_as_may_be() {
    let server = server(|limits| limits.most = 2);
    answers(&server, "one");
    answers(&server, "two");
    assert_eq!(status(&server, "one"), "loaded");
    answers(&server, "one");
    answers(&server, "slow");
    assert_eq!(status(&server, "one"), "loaded");
    assert_eq!(
        status(&server, "two"),
        "unloaded",
        "it was used least recently"
    );
    let size = tiny::offer(&["x"]).facts.file_bytes;
    let server = self::server(|limits| {
        (limits.most, limits.bytes) = (9, Some(size + size / 2));
    });
    answers(&server, "one");
    answers(&server, "two");
    assert_eq!(
        status(&server, "one"),
        "unloaded",
        "both together are too large"
    );
}

#[test]
fn answers_under_way_keep_their_model() {
    let server = server(|_| {});
    let long = ask(
        "one",
        &json!({"stream": true, "ignore_eos": true, "max_tokens": 400}),
    );
    let long = send(
        server.address,
        "POST",
        CHAT,
        &[],
        long.to_string().as_bytes(),
    );
    assert_eq!(long.status, 200);
    std::thread::scope(|scope| {
        let other = scope.spawn(|| answers(&server, "two"));
        let (_, finish, _) = sse::chat(&long.finish().text());
        assert_eq!(finish, "length");
        assert_eq!(other.join().unwrap()["model"], "two");
    });
    assert_eq!(status(&server, "one"), "unloaded");
}

#[test]
fn many_requests_for_models_that_take_turns_are_all_answered() {
    let server = server(|_| {});
    std::thread::scope(|scope| {
        for client in 0..12 {
            let server = &server;
            scope.spawn(move || {
                for round in 0..4 {
                    let name = NAMES[(client + round) % 2];
                    assert_eq!(answers(server, name)["model"], name);
                }
            });
        }
    });
}

#[test]
fn a_load_that_fails_harms_nobody() {
    let server = server(|_| {});
    answers(&server, "one");
    for stream in [false, true] {
        let body = ask("broken", &json!({"stream": stream}));
        let refused = post(server.address, CHAT, &body);
        assert_eq!(refused.status, 503, "{}", refused.text());
        let message = refused.json()["error"]["message"].clone();
        assert!(
            message.as_str().unwrap().contains("its header is damaged"),
            "{message}"
        );
    }
    assert_eq!(status(&server, "broken"), "failed");
    let mad = post(server.address, CHAT, &ask("mad", &json!({})));
    assert_eq!(mad.status, 503, "not waited for for ever: {}", mad.text());
    assert_eq!(
        status(&server, "one"),
        "loaded",
        "it was not asked to leave"
    );
    // A stream that has begun says it in its last event.
    let late = post(server.address, CHAT, &ask("late", &json!({"stream": true})));
    assert_eq!(late.status, 200);
    let text = late.text();
    assert!(text.contains(": the model is being loaded, "), "{text}");
    assert!(text.contains("its last tensor is missing"), "{text}");
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
    assert_eq!(answers(&server, "one")["model"], "one");
}

#[test]
fn streams_say_how_far_their_model_is() {
    let server = server(|_| {});
    let body = ask("slow", &json!({"stream": true, "max_tokens": 2}));
    let mut stream = send(
        server.address,
        "POST",
        CHAT,
        &[],
        body.to_string().as_bytes(),
    );
    let first = String::from_utf8(stream.piece().unwrap()).unwrap();
    assert!(
        first.starts_with(": the model is being loaded, "),
        "{first}"
    );
    let health = get(server.address, "/health").ok();
    assert_eq!(health["models"]["slow"]["value"], "loading", "{health}");
    let told = get(server.address, "/v1/models/slow").ok();
    assert!(told["status"]["progress"].as_f64().unwrap() < 1.0, "{told}");
    let (_, finish, _) = sse::chat(&stream.finish().text());
    assert_eq!(finish, "length");
    for (path, body) in [
        (
            "/v1/messages",
            json!({"model": "slow", "max_tokens": 2, "stream": true, "messages": [{"role": "user", "content": "x"}]}),
        ),
        (
            "/v1/responses",
            json!({"model": "slow", "max_output_tokens": 2, "stream": true, "input": "x"}),
        ),
        (
            "/api/chat",
            json!({"model": "slow", "options": {"num_predict": 2}, "messages": [{"role": "user", "content": "x"}]}),
        ),
    ] {
        post(server.address, "/models/unload", &json!({"model": "slow"})).ok();
        waits_for(&server, "slow", "unloaded");
        let reply = post(server.address, path, &body);
        assert_eq!(reply.status, 200);
        let end = reply.text();
        let end = end.trim_end().lines().last().unwrap();
        assert!(
            ["message_stop", "response.incomplete", "\"done\":true"]
                .iter()
                .any(|word| end.contains(word)),
            "{path}: {end}"
        );
    }
}

#[test]
fn whoever_leaves_while_a_model_waits_for_room_keeps_nobody_who_was_sent_away() {
    let server = server(|_| {});
    let more = json!({"stream": true, "ignore_eos": true, "max_tokens": 1900});
    let long = ask("one", &more).to_string();
    let mut long = send(server.address, "POST", CHAT, &[], long.as_bytes());
    assert!(long.piece().is_some());
    post(server.address, "/models/unload", &json!({"model": "one"})).ok();
    let body = ask("two", &json!({"stream": true})).to_string();
    let mut waiting = send(server.address, "POST", CHAT, &[], body.as_bytes());
    assert!(waiting.piece().is_some());
    drop(waiting);
    waits_for(&server, "two", "unloaded");
    drop(long);
    waits_for(&server, "one", "unloaded");
}

#[test]
fn whoever_leaves_while_a_model_waits_for_room_makes_nobody_leave() {
    let server = server(|_| {});
    let more = json!({"stream": true, "ignore_eos": true, "max_tokens": 1900});
    let long = ask("one", &more).to_string();
    let long: Vec<_> = (0..4)
        .map(|_| send(server.address, "POST", CHAT, &[], long.as_bytes()))
        .collect();
    let body = ask("two", &json!({"stream": true}));
    let mut waiting = send(
        server.address,
        "POST",
        CHAT,
        &[],
        body.to_string().as_bytes(),
    );
    assert!(waiting.piece().is_some());
    drop(waiting);
    waits_for(&server, "two", "unloaded");
    assert_eq!(answers(&server, "one")["model"], "one");
    drop(long);
    assert_eq!(status(&server, "one"), "loaded");
}

#[test]
fn what_nobody_uses_is_unloaded() {
    let idle = Duration::from_millis(300);
    let server = server(|limits| limits.idle = KeptLoaded::For(idle));
    answers(&server, "one");
    waits_for(&server, "one", "unloaded");
    answers(&server, "one");
    let chat = json!({
        "model": "one", "keep_alive": -1, "stream": false, "options": {"num_predict": 2},
        "messages": [{"role": "user", "content": "hello!!"}],
    });
    post(server.address, "/api/chat", &chat).ok();
    std::thread::sleep(3 * idle);
    assert_eq!(status(&server, "one"), "loaded", "it was asked to stay");
    for seconds in [json!(-1), json!(1e18), json!(1.8e19)] {
        let stay = json!({"model": "one", "keep_alive": seconds});
        post(server.address, "/api/generate", &stay).ok();
        let running = get(server.address, "/api/ps").ok();
        assert_eq!(running["models"][0]["name"], "one");
        let expires = running["models"][0]["expires_at"].as_str().unwrap();
        assert!(expires.starts_with("20"), "some years from now: {expires}");
    }
    let bye = post(
        server.address,
        "/api/generate",
        &json!({"model": "one", "keep_alive": 0}),
    )
    .ok();
    assert_eq!(bye["done_reason"], "unload");
    waits_for(&server, "one", "unloaded");
    assert_eq!(get(server.address, "/api/ps").ok()["models"], json!([]));
    assert_eq!(get(server.address, "/slots").ok(), json!([]));
    assert_eq!(
        get(server.address, "/props?model=one").ok()["status"]["value"],
        "unloaded"
    );
    assert_eq!(get(server.address, "/health").status, 200);
    let tags = get(server.address, "/api/tags").ok();
    assert_eq!(tags["models"].as_array().unwrap().len(), NAMES.len());
}
