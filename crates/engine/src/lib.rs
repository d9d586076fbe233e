//! From a model on disk to tokens: loading, sequences and their memory, sampling.
//!
//! [`open`] finds out what a path holds and binds it; [`Engine`] owns the device's memory and runs
//! batches of sequences; [`Sampler`] chooses tokens; [`Scheduler`] answers requests with all of
//! them. No sockets, clocks or wire formats.

pub mod cache;
mod checkpoint;
pub mod constraint;
mod drafter;
mod engine;
mod error;
mod event;
mod held;
mod on_gpu;
pub mod open;
mod pages;
pub mod plan;
mod request;
mod runner;
pub mod sampling;
pub mod scheduler;
mod settings;
pub mod speculate;
pub mod stop;
#[cfg(test)]
mod toy;

pub use crate::checkpoint::{Checkpoint, HeldPages};
pub use crate::drafter::{Drafter, ToDraft};
pub use crate::engine::{Engine, Run, RunOutputs, SequenceId, Work};
pub use crate::error::EngineError;
pub use crate::event::{Event, FinishReason, Miss, Reuse, ReusedFrom, Usage};
pub use crate::held::{DraftVocabulary, Feed, Guess};
pub use crate::on_gpu::OnGpu;
pub use crate::open::{BackendChoice, OpenError, OpenedModel};
pub use crate::request::{Limits, Request, RequestId, SubmitError};
pub use crate::runner::{OpsRunner, Outputs, Runner, Wanted};
pub use crate::sampling::{Sampler, SamplerSettings, TokenRules, argmax};
pub use crate::scheduler::{Scheduler, SchedulerSettings};
pub use crate::settings::{EngineSettings, KvTypes};
pub use hybrid::ExpertCounts;
