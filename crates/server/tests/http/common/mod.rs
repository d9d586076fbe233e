//! A server with the tiny model on a port that the system chooses, and a client of few words.

pub(crate) mod client;
pub(crate) mod sse;
pub(crate) mod tiny;

use std::net::SocketAddr;
use std::thread::JoinHandle;
use std::time::Duration;

use engine::SchedulerSettings;
use serde_json::{Value, json};
use tidemill_server::{ApiKeys, Bound, Config, Loader, Offer, ServeError, Stopper};
use tiny::{Shape, Tiny};

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
        let mut scheduling = SchedulerSettings::default();
        let mut config = usual();
        change(&mut config, &mut scheduling);
        let is_encrypted = config.tls.is_some();
        let server = Self::of(
            vec![tiny::offer(&["tiny", "other-name"])],
            Tiny(scheduling, Shape::default()),
            config,
        );
        if !is_encrypted {
            server.wait_until_loaded();
        }
        server
    }

    /// One with several models.
    pub(crate) fn of(offers: Vec<Offer>, loader: impl Loader + 'static, config: Config) -> Self {
        let loads_first = offers.len() == 1;
        let bound = Bound::new(offers, Box::new(loader), config).unwrap();
        Self {
            address: bound.address(),
            stopper: bound.stopper(),
            thread: Some(std::thread::spawn(move || bound.run(loads_first))),
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

    fn wait_until_loaded(&self) {
        // Wants no key.
        while client::get(self.address, "/health").status != 200 {
            std::thread::sleep(Duration::from_millis(5));
        }
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

/// Settings of a server for tests.
pub(crate) fn usual() -> Config {
    Config {
        port: 0,
        max_body_bytes: MAX_BODY,
        drain: Duration::from_secs(120),
        ..Config::default()
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
