//! The server with the tiny model, as its clients see it.
#![expect(clippy::unwrap_used, reason = "tests end where they are surprised")]

mod chat;
mod common;
mod completions;
mod hostile;
mod load;
mod messages;
mod ollama;
mod responses;
mod several;
mod telling;
mod tls;
