//! How the server behaves.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::http::{ApiKeys, TlsFiles};
use crate::models::ModelLimits;

/// How the server behaves.
#[derive(Debug, Clone)]
pub struct Config {
    /// The address to listen on: a name or number.
    pub host: String,
    /// The port; 0 for one that the system chooses.
    pub port: u16,
    /// What connections are encrypted with; `None` for plain ones.
    pub tls: Option<TlsFiles>,
    /// Who may use it.
    pub keys: ApiKeys,
    /// How many requests of one client are answered in a minute; `None` for any number.
    pub rate_limit: Option<NonZeroU32>,
    /// Whether prompts are logged.
    pub log_prompts: bool,
    /// How long the head of a request may take to come, which is also how long a connection may be
    /// idle.
    pub head_time: Duration,
    /// How long the body of a request may take to come.
    pub body_time: Duration,
    /// The most bytes of a body.
    pub max_body_bytes: usize,
    /// Web pages of these origins may use it; `*` for all.
    pub cors_origins: Vec<String>,
    /// How long answers under way may take when the server is asked to stop.
    pub drain: Duration,
    /// Whether `/slots` tells what is going on.
    pub slots: bool,
    /// Whether `/metrics` tells figures.
    pub metrics: bool,
    /// How many models are loaded, and for how long.
    pub models: ModelLimits,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            host: "127.0.0.1".to_owned(),
            port: 8080,
            tls: None,
            keys: ApiKeys::default(),
            rate_limit: None,
            log_prompts: false,
            head_time: Duration::from_secs(75),
            body_time: Duration::from_secs(300),
            max_body_bytes: 64 << 20,
            cors_origins: Vec::new(),
            drain: Duration::from_secs(30),
            slots: true,
            metrics: true,
            models: ModelLimits::default(),
        }
    }
}
