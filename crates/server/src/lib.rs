//! HTTP in front of the engine: the wire formats that clients speak.
//!
//! A request's way: a dialect (`openai`, ...) makes an `Ask` of its JSON; `ask` renders, encodes
//! and compiles it; `worker` gives it to the thread that drives the engine; `answer` reads the
//! engine's events as reasoning, content and calls; the dialect writes those as JSON, at once or as
//! they come.
//!
//! The engine knows nothing of this crate: no clock, socket or wire format goes down. Dialects know
//! nothing of the engine but what `Ask` and `AnswerEvent` say.

mod answer;
mod anthropic;
mod app;
mod ask;
mod billing;
mod config;
mod error;
mod http;
mod model;
mod models;
mod native;
mod ollama;
mod openai;
mod page;
mod random;
mod worker;

pub use config::Config;
pub use error::{ApiError, ErrorKind};
pub use http::{ApiKeys, Bound, ServeError, Stopper, TlsError, TlsFiles};
pub use model::{ClientSampling, Defaults, ServedModel};
pub use models::{
    KeptLoaded, LoadError, LoadedModel, Loader, Loading, ModelFacts, ModelLimits, Offer, Profile,
};
