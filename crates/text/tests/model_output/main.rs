//! The parser of the model's output: case by case, by its law, and against the templates.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cases;
mod history;
mod laws;
mod shared;
