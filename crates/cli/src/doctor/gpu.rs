//! GPUs and what drives them.

use std::fs;
use std::path::{Path, PathBuf};

use super::Finding;
use crate::output;
use crate::plan::gpus;

/// Where libraries are, beside what the environment names.
const FOLDERS: [&str; 7] = [
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib64",
    "/usr/lib",
    "/usr/local/cuda/lib64",
    "/usr/local/cuda/targets/x86_64-linux/lib",
    "/usr/lib/wsl/lib",
];

pub(super) fn findings() -> Vec<Finding> {
    let devices = gpus::found();
    let module = fs::read_to_string("/proc/driver/nvidia/version").ok();
    let mut findings = Vec::new();
    match (&devices, &module) {
        (Ok(devices), _) if !devices.is_empty() => {
            findings.push(Finding::good("GPU driver", devices[0].driver.clone()));
            findings.extend(devices.iter().map(device));
            findings.extend(libraries());
            findings.push(Finding::note(
                "GPU use",
                "only with --backend gpu, by one GPU with the CPU beside it; `tidemill plan` tells what goes where",
            ));
        }
        (Err(why), Some(_)) => findings.push(Finding::warning(
            "GPU driver",
            format!("its module is loaded, but {why}"),
            "install the driver's programs of the same version (nvidia-utils), or in a container start it \
             with --gpus all",
        )),
        (Ok(_), _) => findings.push(Finding::note("GPU", "the driver has none")),
        (Err(why), None) => findings.push(Finding::note("GPU", format!("none: {why}"))),
    }
    findings
}

fn device(found: &gpus::Found) -> Finding {
    let memory = format!(
        "{}, {} of {} free",
        found.name,
        output::bytes(found.free),
        output::bytes(found.total)
    );
    match gpus::find(&found.name) {
        Some(_) => Finding::good("GPU", memory),
        None => Finding::note(
            "GPU",
            format!("{memory}; how fast it reads is not known here: plan with --gpu-bw"),
        ),
    }
}

/// The libraries that kernels are compiled and started with.
fn libraries() -> Vec<Finding> {
    let one = |what, names: &[&str], mend: &str| match find(names) {
        Some(path) => Finding::good(what, path.display().to_string()),
        None => Finding::warning(what, format!("no {}", names[0]), mend),
    };
    vec![
        one(
            "libcuda",
            &["libcuda.so.1", "libcuda.so"],
            "it comes with the driver; in a container start it with --gpus all",
        ),
        one(
            "NVRTC",
            &["libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"],
            "it compiles kernels: install CUDA's toolkit, or `pip install nvidia-cuda-nvrtc`",
        ),
    ]
}

fn find(names: &[&str]) -> Option<PathBuf> {
    let named = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let named = std::env::split_paths(&named).collect::<Vec<_>>();
    let folders = named
        .iter()
        .map(PathBuf::as_path)
        .chain(FOLDERS.iter().map(Path::new));
    let mut paths = folders.flat_map(|folder| names.iter().map(move |name| folder.join(name)));
    paths.find(|path| path.exists())
}
