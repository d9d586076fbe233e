//! The op contract on the CPU: SIMD kernels and the thread pool.
//!
//! Start with [`Cpu`], the backend: it holds a [`Pool`] of threads and the instruction set in use.
//! `ops` has one file per family of operations, `dots` the matrix kernels (weights are used as
//! they lie in the file, or interleaved by `copies`), `simd` the vector operations each instruction
//! set offers.
//!
//! What every kernel here keeps: a value depends on its own row alone. Each output is summed in
//! one fixed order, whatever the number of rows in the batch, the threads or the tile it fell
//! into, so that results are the same bits on every road. Instruction sets differ from each other
//! by rounding.
//!
//! This crate names no layer, model, file or request.
#![expect(
    unsafe_code,
    reason = "SIMD intrinsics and sharing buffers between threads"
)]
#![expect(
    clippy::needless_range_loop,
    reason = "tiles of several arrays are indexed by one number, and unroll so"
)]

mod activations;
pub mod bandwidth;
mod copies;
mod cpu;
mod dots;
mod isa;
mod matrix;
mod ops;
mod parts;
pub mod pool;
mod prefetch;
mod scratch;
mod simd;
#[cfg(test)]
mod tests;
mod topology;

pub use copies::{Copier, CopyProgress, CopySettings};
pub use cpu::{Activations, Cpu, CpuError, Vector};
pub use isa::Isa;
pub use matrix::Matrix;
pub use ops::{Experts, Routing};
pub use pool::Pool;
pub use topology::default_threads;
