//! The op contract on NVIDIA GPUs: CUDA C++ kernels, compiled when they are first needed, and the driver.
//!
//! Start with [`Gpu`], the backend. `kernels/*.cu` are the kernels, one file per family; `ops` launches
//! them, one file per family too. `driver` is the narrow, driver-shaped inside: memory, copies, launches,
//! events, graphs, over a driver library that is opened when the program runs. `nvrtc` compiles, `image_cache`
//! keeps what was compiled. `standin` is a driver for tests that runs the same kernels on the CPU.
//!
//! What every kernel keeps, as on the CPU: a value depends on its own row alone and is summed in one fixed
//! order, whatever the number of rows, the splits of a context or the kernel it fell to. Activations are
//! rounded to signed bytes, 32 to a scale, where weights are quantised.
//!
//! This crate names no layer, model, file or request.
#![expect(
    unsafe_code,
    reason = "calls into the driver and the compiler, which are C libraries"
)]

mod args;
mod batch;
mod copies;
mod driver;
mod error;
mod fillers;
mod formats_on_device;
mod gpu;
mod image_cache;
mod kernels;
mod matrix;
mod memory;
mod nvrtc;
mod ops;
mod parts;
mod pool;
#[cfg(any(test, feature = "standin"))]
pub mod standin;
mod tensor_on_device;
#[cfg(test)]
mod tests;
mod uploads;

pub use driver::{Asked, Device, Driver, Event, Pinned};
pub use error::GpuError;
pub use formats_on_device::on_device as held_as;
pub use gpu::{Gpu, Options};
pub use kernels::{Budget, DEPENDENT, PROGRAMS, Program};
pub use matrix::{Experts, Matrix, Vector};
pub use memory::PagesAndStates;
pub use nvrtc::{Compiled, Nvrtc};
pub use ops::{Room, Routing, Slots};
pub use tensor_on_device::Activations;
