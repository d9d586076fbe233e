//! From logits to a token.
//!
//! [`SamplerSettings`] say how a request wants its tokens chosen, [`TokenRules`] what the model's
//! rows are, and a [`Sampler`] chooses: it removes what may not be chosen (a grammar's [`Mask`],
//! ends that come too early), adds the logit bias, runs the chain of [`Stage`]s in the order of the
//! settings, and draws.
//!
//! **Randomness.** The token at place `i` of an answer is drawn with numbers that depend on the
//! seed and on `i` alone. So an answer is the same whatever was computed beside it, and the same
//! with and without speculation: to verify drafted tokens, choose from each row in order and stop
//! behind the first that is not the drafted one. The tokens are then those that plain decoding
//! would have chosen, which keeps the distribution for drafts of any kind.
//!
//! [`Sampler::choose`] changes nothing that later choices see; [`Sampler::accept`] does. So nothing
//! has to be undone for drafted tokens that were refused.
//!
//! Knows nothing of text: stop strings are [`crate::stop`]'s, grammars [`crate::constraint`]'s.

mod candidates;
mod cuts;
mod dry;
mod error;
mod logprobs;
mod loops;
mod mask;
mod penalties;
mod presets;
mod random;
mod rules;
mod sampler;
mod settings;
mod stage;

pub use dry::DryBreakers;
pub use error::SettingsError;
pub use logprobs::{Logprobs, LogprobsOf, TokenLogprobs};
pub use loops::{argmax, most_likely};
pub use mask::Mask;
pub use presets::{PRESETS, Preset, preset};
pub use rules::TokenRules;
pub use sampler::{Choice, Sampler};
pub use settings::{Dry, SamplerSettings, Xtc};
pub use stage::Stage;
