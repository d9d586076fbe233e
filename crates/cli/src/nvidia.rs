//! The GPU that models compute on, where one is asked for.

use std::path::PathBuf;

use gpu::{Gpu, GpuError, Options};

/// Opens the first GPU, and makes sure that its kernels can be had before a model is loaded.
///
/// # Errors
/// If there is no driver or GPU, or nothing to compile kernels with.
pub(crate) fn open() -> Result<Gpu, GpuError> {
    let gpu = Gpu::open(Options {
        cache: kernels(),
        ..Options::default()
    })?;
    gpu.prepare()?;
    Ok(gpu)
}

/// Where compiled kernels are kept: they are made again where the folder is lost.
fn kernels() -> Option<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let caches = folder("XDG_CACHE_HOME").or_else(|| Some(folder("HOME")?.join(".cache")))?;
    Some(caches.join("tidemill").join("kernels"))
}
