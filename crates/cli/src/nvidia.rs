//! The GPUs that models compute on, where they are asked for.

use std::path::PathBuf;

use gpu::{Gpu, GpuError, Options};

use crate::output;

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
            one_by_one: is_set_to("TIDEMILL_GPU_GRAPHS", "off"),
            dependent: is_set_to("TIDEMILL_GPU_DEPENDENT", "on"),
            ..Options::default()
        })?;
        if let Some(reason) = gpu.no_overlap() {
            output::note(&format!(
                "TIDEMILL_GPU_DEPENDENT changes nothing on GPU {ordinal}: {reason}"
            ));
        }
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

fn is_set_to(name: &str, value: &str) -> bool {
    std::env::var_os(name).is_some_and(|set| set == value)
}

/// Where compiled kernels are kept: they are made again where the folder is lost.
fn kernels() -> Option<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let caches = folder("XDG_CACHE_HOME").or_else(|| Some(folder("HOME")?.join(".cache")))?;
    Some(caches.join("tidemill").join("kernels"))
}
