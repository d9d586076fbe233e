//! From a model on disk to tokens: loading, sequences and their memory, sampling.
//!
//! [`open`] finds out what a path holds and binds it; [`Engine`] owns the device's memory and runs
//! batches of sequences; [`Sampler`] chooses tokens; [`Generation`] drives one answer. No sockets,
//! clocks or wire formats.

mod engine;
mod generation;
pub mod open;
mod pages;
mod runner;
mod sampler;
mod session;

pub use crate::engine::{
    Checkpoint, Engine, EngineError, EngineSettings, KvTypes, SequenceId, Work,
};
pub use crate::generation::{FinishReason, Generation, GenerationLimits};
pub use crate::open::{BackendChoice, OpenError, OpenedModel};
pub use crate::runner::{OpsRunner, Runner};
pub use crate::sampler::{Sampler, SamplerSettings, argmax};
pub use crate::session::Session;
