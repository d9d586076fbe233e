//! Reads the model's output: what is reasoning, what is answer, what calls a tool.
//!
//! [`OutputParser`] takes the text as it arrives, cut anywhere, and tells [`OutputEvent`]s. It is
//! tolerant: whatever the model writes ends up somewhere, and nothing it writes is an error. The
//! rules, with examples, are in `docs/output.md`.
//!
//! How it works: `lexer` finds tags, `reader` knows whether they stand in reasoning or
//! answer, `candidate` follows what may be a call, `trial` does so where calls are doubtful.
//! The two forms of calls are read by `xml_call` and `json_call`, which write the arguments'
//! JSON with `value` and `json_text`. All of them go forward one token or character at a time
//! and never look at text twice, but for a trial's, so that time is linear and cuts cannot
//! matter.

mod call;
mod candidate;
mod collected;
mod event;
mod fence;
mod json_call;
mod json_text;
mod lexer;
mod options;
mod parser;
mod reader;
mod schema;
mod tool_grammar;
mod trial;
mod value;
mod value_rules;
mod xml_call;

pub use collected::{Output, ToolCall};
pub use event::{CallOutcome, Ending, OutputEvent};
pub use options::{CallMode, OutputOptions, ReasoningFormat, UnknownReasoningFormat};
pub use parser::OutputParser;
pub use schema::ToolSchemas;
pub use tool_grammar::{ToolForm, ToolGrammar, ToolGrammarError};
