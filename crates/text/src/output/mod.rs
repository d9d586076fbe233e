//! Reads the model's output: what is reasoning, what is answer, what calls a tool.
//!
//! All of it is tolerant. Whatever the model writes ends up somewhere, and nothing it writes is
//! an error.

mod coerce;
mod reasoning;
mod tool_calls;

pub use reasoning::{Part, PartKind, ReasoningSplitter};
pub use tool_calls::{Answer, ToolCall, parse_tool_calls};
