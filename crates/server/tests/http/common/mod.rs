//! A server with the tiny model on a port that the system chooses, and a client of few words.

pub(crate) mod client;
pub(crate) mod sse;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use engine::{
    BackendChoice, EngineSettings, OpenedModel, Scheduler, SchedulerSettings, TokenRules,
};
use serde_json::{Value, json};
use tidemill_server::{
    ApiKeys, Bound, Config, Defaults, ModelFacts, ServeError, ServedModel, Stopper,
};

/// The largest body that the test servers take.
pub(crate) const MAX_BODY: usize = 1 << 20;
/// Tokens of a prompt and its answer.
pub(crate) const CONTEXT: usize = 2048;

/// A running server. Dropping it stops it.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    stopper: Stopper,
    thread: Option<JoinHandle<Result<(), ServeError>>>,
}

impl Server {
    /// One that is open to all.
    pub(crate) fn start() -> Self {
        Self::with(|_, _| {})
    }

    /// One whose settings were changed.
    pub(crate) fn with(change: impl FnOnce(&mut Config, &mut SchedulerSettings)) -> Self {
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/tiny/tidemill-tiny.gguf");
        let opened = OpenedModel::open(&path).unwrap();
        let tokenizer = Arc::new(opened.tokenizer().unwrap());
        let settings = EngineSettings {
            sequences: 4,
            total_tokens: 2 * CONTEXT,
            ..EngineSettings::single(CONTEXT)
        };
        let backend = BackendChoice::cpu(1).unwrap();
        let engine = opened.load(backend, &settings, |_, _| {}).unwrap();
        let mut config = Config {
            port: 0,
            max_body_bytes: MAX_BODY,
            drain: Duration::from_secs(120),
            ..Config::default()
        };
        let mut scheduling = SchedulerSettings::default();
        change(&mut config, &mut scheduling);
        let rules = Arc::new(TokenRules::of(&tokenizer));
        let scheduler =
            Scheduler::new(engine, rules, scheduling).with_tokenizer(Arc::clone(&tokenizer));
        let facts = ModelFacts {
            name: "tiny".to_owned(),
            aliases: vec!["other-name".to_owned()],
            path: path.display().to_string(),
            context: CONTEXT,
            trained_context: opened.config.context_length,
            file_bytes: opened.file_bytes(),
            hidden: opened.config.hidden_size,
            parallel: 4,
        };
        let template = Some(opened.template().unwrap());
        let model = ServedModel::new(facts, tokenizer, template, Defaults::default()).unwrap();
        let bound = Bound::new(scheduler, model, config).unwrap();
        Self {
            address: bound.address(),
            stopper: bound.stopper(),
            thread: Some(std::thread::spawn(move || bound.run())),
        }
    }

    /// One that wants a key.
    pub(crate) fn locked(key: &str) -> Self {
        Self::with(|config, _| config.keys = ApiKeys::new([key]))
    }

    /// Asks it to stop, and returns how it ended once it has.
    pub(crate) fn stop(&mut self) -> Option<Result<(), ServeError>> {
        self.stopper.stop();
        self.thread.take().map(|thread| thread.join().unwrap())
    }

    /// Asks it to stop without waiting.
    pub(crate) fn ask_to_stop(&self) {
        self.stopper.stop();
    }

    /// Waits until nothing is going on.
    pub(crate) fn wait_until_idle(&self) {
        for _ in 0..1200 {
            let slots = client::get(self.address, "/slots").json();
            let busy = |slot: &Value| slot["is_processing"] == true;
            if !slots.as_array().unwrap().iter().any(busy) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("the server is still busy");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Twice: nothing is to be waited for any more.
        self.stopper.stop();
        self.stopper.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A tool that the tiny model knows how to call.
pub(crate) fn price_tool() -> Value {
    json!({"type": "function", "function": {
        "name": "price_of",
        "description": "Get the price of a thing.",
        "parameters": {
            "type": "object",
            "properties": {
                "thing": {"type": "string"},
                "color": {"type": "string", "enum": ["red", "green", "blue", "yellow", "white"]},
            },
            "required": ["thing"],
        },
    }})
}

/// A tool that has nothing to do with the questions of the tests.
pub(crate) fn clock_tool() -> Value {
    json!({"type": "function", "function": {
        "name": "clock",
        "description": "Get the time in a city.",
        "parameters": {
            "type": "object",
            "properties": {"location": {"type": "string"}},
            "required": ["location"],
        },
    }})
}
