//! Structured output: answers that follow a grammar.
//!
//! [`Grammars`] is made once per model and compiles a request's [`Grammar`] into a [`Constraint`],
//! which says after each token which tokens may follow. Finding that out takes from a few
//! microseconds to some milliseconds, so it is done beside the forward pass: the engine starts it
//! when it knows the tokens of a step, and fetches the masks when the step's logits are there.
//!
//! A [`Guide`] steers one answer: it knows whether the model is thinking, ends thinking that takes
//! too long, and lets the constraint begin where the answer or a tool call does.
//!
//! Grammars come from clients and may be hostile. Their size, depth, the work to compile them and
//! the work for each mask are bounded by counting, not by a clock; what goes over a bound ends its
//! own request with an error that says so.

mod automaton;
mod error;
mod factory;
mod gbnf;
mod grammar;
mod guide;
mod limits;
mod masks;
mod thinking;
mod vocabulary;
mod workers;

pub use error::ConstraintError;
pub use factory::Grammars;
pub use gbnf::GbnfError;
pub use grammar::Grammar;
pub use guide::{Begin, Guide};
pub use limits::GrammarLimits;
pub use masks::Constraint;
pub use thinking::{ThinkingBudget, ThinkingTokens};
