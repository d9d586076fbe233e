//! The server with the tiny model, as its clients see it.
#![expect(clippy::unwrap_used, reason = "tests end where they are surprised")]

mod agents;
mod chat;
mod common;
mod completions;
mod hostile;
mod idle;
mod load;
mod loris;
mod messages;
mod ollama;
mod overhead;
mod responses;
mod several;
mod telling;
mod tls;
