//! The GPUs that models compute on, where they are asked for.

use std::path::PathBuf;

use gpu::{Gpu, GpuError, Options};

/// Opens the GPUs of these numbers, or all if there are none, and makes sure that their kernels can be had
/// before a model is loaded.
///
/// # Errors
/// If there is no driver, or not such a GPU, or nothing to compile kernels with.
pub(crate) fn open(numbers: &[usize]) -> Result<Vec<Gpu>, GpuError> {
    let open = |ordinal| {
        let gpu = Gpu::open(Options {
            ordinal,
            cache: kernels(),
            one_by_one: std::env::var_os("TIDEMILL_GPU_GRAPHS")
                .is_some_and(|graphs| graphs == "off"),
            ..Options::default()
        })?;
        gpu.prepare()?;
        Ok(gpu)
    };
    if !numbers.is_empty() {
        return numbers.iter().copied().map(open).collect();
    }
    let mut gpus = vec![open(0)?];
    loop {
        match open(gpus.len()) {
            Ok(gpu) => gpus.push(gpu),
            Err(GpuError::NoDevice { .. }) => return Ok(gpus),
            Err(error) => return Err(error),
        }
    }
}

/// Where compiled kernels are kept: they are made again where the folder is lost.
fn kernels() -> Option<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let caches = folder("XDG_CACHE_HOME").or_else(|| Some(folder("HOME")?.join(".cache")))?;
    Some(caches.join("tidemill").join("kernels"))
}
