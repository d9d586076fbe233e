//! Speculation: tokens are drafted cheaply and verified by the model in one step.
//!
//! Drafts never change an answer. They are deterministic, each row of a step is sampled in order
//! as if it were the only one, and the answer goes on until a sampled token is not the draft. How
//! many drafts are worth verifying is measured, for each sequence and all the time
//! ([`DepthController`]). The reasons are in docs/decisions/0013.

mod acceptance;
mod costs;
mod counts;
mod depth;
mod draft_model;
mod guesser;
mod head;
mod lookup;
mod speculation;
mod trial;
mod widths;

pub use acceptance::{Acceptance, MOST_DRAFTS};
pub use costs::Costs;
pub use counts::{DraftCounts, Tally};
pub use depth::{DepthController, Prospect};
pub use draft_model::{DraftModel, OtherVocabulary};
pub use lookup::{LookedUp, Lookup};
pub use speculation::{Clock, Depth, Oracle, Speculation, SpeculationSettings};
pub use widths::Widths;
