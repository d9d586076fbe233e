//! Quantised blocks, the op contract and its scalar reference.
//!
//! [`Ops`] is what a device must be able to do; [`Reference`] does it in plain f32 loops and is
//! the judge of every fast kernel. [`quant`] says what the bits of a stored block mean. This crate
//! knows no model, starts no threads and holds no `unsafe`.

pub mod batch;
mod handover;
mod likely;
pub mod matrix;
pub mod memory;
pub mod ops;
pub mod quant;
pub mod reference;
mod tensor;
#[cfg(feature = "testing")]
pub mod testing;

pub use batch::{Batch, PageId, Span, StateId};
pub use handover::{Accelerator, Host};
pub use likely::{Likely, MostLikely};
pub use matrix::StoredMatrix;
pub use memory::{Buffer, HostMemory, MemoryLayout, Slots, StateSnapshot};
pub use ops::{
    AttentionShape, DeltaShape, HeadOrder, MlpWeights, MoeWeights, OpError, Ops, Rotary,
    StoredExperts,
};
pub use reference::{HostRouting, Reference};
pub use tensor::Tensor;
