//! The op contract on accelerators and the host beside them: each computes with the weights that it has.
//!
//! [`Hybrid`] is the backend. Weights go to the place that is named while they are loaded
//! ([`Hybrid::loading_to`]); an operation with weights runs where they are, one of sequence memory where
//! its layer's memory is, and activations are copied when they are needed elsewhere. The residual stream is
//! an accelerator's: that of the last layer that has one.
//!
//! A layer whose experts alone are on the host works on both sides at once: the accelerator routes, then
//! computes the shared expert while the host computes those that were chosen. Of experts that are used often
//! the accelerator may keep copies (`expert_cache`); it computes those that were chosen of them. Where many
//! tokens come at a time, all of a layer's experts are copied to the accelerator instead (`streaming`).
//!
//! This crate knows no device: it is generic over [`tensor::Accelerator`] and [`tensor::Host`].

mod activations;
mod expert_cache;
mod experts;
mod hybrid;
mod memory;
mod ops;
mod streaming;
#[cfg(test)]
mod tests;
mod weights;

pub use activations::Activations;
pub use expert_cache::{ExpertCache, ExpertCounts, ExpertUse};
pub use hybrid::{Copying, Hybrid, Place, Places};
pub use memory::Memory;
pub use weights::{Experts, HostExperts, Matrix, Routing, Vector};
