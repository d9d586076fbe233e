//! What can go wrong with a device.

use std::path::PathBuf;

use tensor::OpError;

/// Why a GPU cannot be used, or stopped working.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GpuError {
    /// There is no driver library, or it cannot be opened.
    #[error(
        "no NVIDIA driver was found ({reason}); without one the model runs on the CPU: install the driver, \
         or choose the CPU"
    )]
    NoDriver {
        /// What the system said.
        reason: String,
    },
    /// The library lacks a function.
    #[error("{library} has no {symbol}; update it, CUDA 12.4 or later is needed")]
    Symbol {
        /// Which library.
        library: String,
        /// The function.
        symbol: String,
    },
    /// There is no such device.
    #[error("there is no GPU {ordinal}: the driver knows {count}")]
    NoDevice {
        /// Which was asked for, from 0.
        ordinal: usize,
        /// How many there are.
        count: usize,
    },
    /// The device is older than the kernels can be compiled for.
    #[error(
        "{name} has compute capability {}.{}, and kernels need {}.{} or later (Turing and what came after \
         it); choose another GPU, or the CPU",
        capability.0, capability.1, needed.0, needed.1
    )]
    TooOld {
        /// As the driver calls it.
        name: String,
        /// What it can do.
        capability: (u32, u32),
        /// What it would have to.
        needed: (u32, u32),
    },
    /// The device cannot bring a kernel to where those before it still run.
    #[error(
        "{name} has compute capability {}.{}, and kernels overlap from 9.0 (Hopper) on",
        capability.0, capability.1
    )]
    NoOverlap {
        /// As the driver calls it.
        name: String,
        /// What it can do.
        capability: (u32, u32),
    },
    /// The driver refused a call.
    #[error("{call} failed: {reason} (error {code})")]
    Call {
        /// The call.
        call: &'static str,
        /// The driver's number.
        code: i32,
        /// The driver's words.
        reason: String,
    },
    /// Device memory is short.
    #[error(
        "{bytes} bytes of GPU memory cannot be had, {available} are free; use a smaller context, fewer \
         sequences or a smaller quantisation"
    )]
    OutOfMemory {
        /// How many were asked for.
        bytes: usize,
        /// How many are free.
        available: usize,
    },
    /// There is nothing to compile kernels with.
    #[error(
        "the GPU's kernels cannot be compiled: no NVRTC of CUDA 12.4 or later was found ({searched}); install it, for example \
         with `pip install nvidia-cuda-nvrtc`, or name the library in TIDEMILL_NVRTC. Until then the model \
         runs on the CPU only"
    )]
    NoCompiler {
        /// Where it was looked for.
        searched: String,
    },
    /// A kernel does not compile.
    #[error("{program} does not compile for {arch}:\n{log}")]
    Compile {
        /// The source file.
        program: String,
        /// The architecture.
        arch: String,
        /// What the compiler said.
        log: String,
    },
    /// A kernel's arguments are not what the host takes them for.
    #[error("kernel {kernel} takes {kernel_bytes} bytes of arguments, not {host_bytes}")]
    Arguments {
        /// Its name.
        kernel: String,
        /// What the kernel says.
        kernel_bytes: usize,
        /// What the host has.
        host_bytes: usize,
    },
    /// The stand-in could not be built.
    #[error("the stand-in driver cannot be built: {0}")]
    Standin(String),
    /// A file of the cache or of the stand-in.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl From<GpuError> for OpError {
    fn from(error: GpuError) -> Self {
        match error {
            GpuError::OutOfMemory { .. } => Self::Memory(error.to_string()),
            _ => Self::Device {
                device: "gpu",
                message: error.to_string(),
            },
        }
    }
}
