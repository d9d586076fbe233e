//! The Qwen3.5 family as maths over the op contract.
//!
//! [`Config`] says how large everything is, [`Weights`] holds what was learnt, [`Model`] computes.
//! The crate knows the family's file layouts (one table per format in [`bind`]) but no path,
//! device, thread or request: it is generic over [`tensor::Ops`]. Section numbers in the docs are
//! those of `docs/model.md`.

pub mod bind;
pub mod config;
mod forward;
mod rotary;
pub mod weights;

pub use bind::BindError;
pub use config::{Architecture, Config, FeedForwardKind, LayerKind};
pub use forward::Model;
pub use rotary::{RotaryConfig, Yarn};
pub use weights::{Part, Weights};
