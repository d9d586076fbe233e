//! GPUs and what drives them.

use std::fs;

use super::Finding;
use crate::output;
use crate::plan::gpus;

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
                "only with --backend gpu, with the CPU beside it; `tidemill plan` tells what goes where",
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
    let memory = match found.memory {
        Some((total, free)) => format!(
            "{}, {} of {} free",
            found.name,
            output::bytes(free),
            output::bytes(total)
        ),
        None => format!("{}, which does not tell its memory", found.name),
    };
    match gpus::find(&found.name) {
        Some(_) => Finding::good("GPU", memory),
        None => Finding::note(
            "GPU",
            format!("{memory}; how fast it reads is not known here: plan with --gpu-bw"),
        ),
    }
}

/// The libraries that kernels are compiled and started with, opened as a model's load opens them.
fn libraries() -> Vec<Finding> {
    let mut driver_version = u32::MAX;
    let driver = match gpu::Driver::open(None, 0) {
        Ok(driver) => {
            let device = driver.device();
            driver_version = device.driver_version;
            let version = device.driver_version;
            Finding::good(
                "libcuda",
                format!(
                    "CUDA {}.{}, {}",
                    version / 1000,
                    version % 1000 / 10,
                    device.arch()
                ),
            )
        }
        Err(error) => Finding::warning(
            "libcuda",
            error.to_string(),
            "it comes with the driver; in a container start it with --gpus all",
        ),
    };
    let compiler = match gpu::Nvrtc::open_for(None, driver_version) {
        Ok(compiler) => {
            let (major, minor) = compiler.version();
            Finding::good("NVRTC", format!("{major}.{minor}"))
        }
        Err(error) => Finding::warning(
            "NVRTC",
            error.to_string(),
            "it compiles kernels: install CUDA's toolkit, or `pip install nvidia-cuda-nvrtc`",
        ),
    };
    vec![driver, compiler]
}
