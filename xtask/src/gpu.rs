//! The GPU's kernels, without a GPU: compiled for all architectures with budgets of registers, and run on
//! the CPU with the address sanitizer and with faults that tests must notice.
//!
//! NVRTC comes from a pip package into an environment of its own below `target`. A half that cannot be had
//! here is skipped, and the report says so.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::{Outcome, cargo, say, tools};

/// From Turing to Blackwell.
const ARCHITECTURES: [&str; 6] = ["sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_120"];
/// Of those where kernels may wait by themselves for those before them, the ends.
const DEPENDENT: [&str; 2] = ["sm_90", "sm_120"];
/// A driver of the 580 series reads what CUDA 13.0 writes, so kernels must compile with it.
const PACKAGE: &str = "nvidia-cuda-nvrtc==13.0.*";
const LIBRARY: &str = "libnvrtc.so.13";
const ENVIRONMENT: &str = "target/gpu-venv";
/// Programs that passed, by their hashes.
const PASSED: &str = "target/gpu-passed";

/// The check.
pub(crate) fn run() -> Result<Outcome> {
    let compiled = match compiler() {
        Ok(library) => {
            compile(&library)?;
            Ok(())
        }
        Err(error) => Err(format!("kernels were not compiled, no NVRTC: {error:#}")),
    };
    let ran = if tools::on_path(&["g++", "clang++"]).is_some() {
        // Two at a time would build at the same time, and each needs a processor.
        let args = [
            "test",
            "--locked",
            "-p",
            "tidemill-gpu",
            "--lib",
            "--",
            "--ignored",
        ];
        cargo::passes(cargo::command(&args).arg("--test-threads=1"))?;
        Ok(())
    } else {
        Err("kernels were not run, no g++".to_owned())
    };
    match (compiled, ran) {
        (Ok(()), Ok(())) => Ok(Outcome::Passed(format!(
            "compiled for {}; sanitized; every fault noticed",
            ARCHITECTURES.join(", ")
        ))),
        (compiled, ran) => {
            let missing: Vec<String> = [compiled.err(), ran.err()].into_iter().flatten().collect();
            Ok(Outcome::Skipped(missing.join("; ")))
        }
    }
}

fn compile(library: &Path) -> Result<()> {
    std::fs::create_dir_all(PASSED).with_context(|| format!("make {PASSED}"))?;
    let compile = |args: &[&str]| {
        let mut command = cargo::command(&["run", "--quiet", "--locked", "-p", "tidemill-gpu"]);
        command.args(["--example", "compile", "--", "--passed", PASSED]);
        cargo::passes(command.args(args).env("TIDEMILL_NVRTC", library))
    };
    compile(&ARCHITECTURES)?;
    compile(&[&["--dependent"][..], &DEPENDENT].concat())
}

/// The compiler's library: that of the environment, which is made if it is not there.
fn compiler() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("TIDEMILL_NVRTC") {
        return Ok(path.into());
    }
    if let Some(library) = installed() {
        return Ok(library);
    }
    say(&format!("installing {PACKAGE} into {ENVIRONMENT}"));
    quietly(Command::new("python3").args(["-m", "venv", ENVIRONMENT]))?;
    let python = Path::new(ENVIRONMENT).join("bin/python");
    quietly(Command::new(python).args(["-m", "pip", "install", "--quiet", PACKAGE]))?;
    installed().context("the package has no such library")
}

fn installed() -> Option<PathBuf> {
    let pythons = std::fs::read_dir(Path::new(ENVIRONMENT).join("lib")).ok()?;
    let library = |python: std::fs::DirEntry| {
        let folder = python.path().join("site-packages/nvidia/cu13/lib");
        std::path::absolute(folder.join(LIBRARY)).ok()
    };
    pythons
        .flatten()
        .filter_map(library)
        .find(|path| path.is_file())
}

fn quietly(command: &mut Command) -> Result<()> {
    let shown = format!("{command:?}");
    let out = command.stdin(Stdio::null()).output();
    let out = out.with_context(|| format!("start {shown}"))?;
    if !out.status.success() {
        bail!("{shown}: {}", String::from_utf8_lossy(&out.stderr).trim());
    }
    Ok(())
}
