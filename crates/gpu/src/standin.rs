//! A driver and a compiler for tests: a library, built by g++ from the kernels and `standin/*`, that runs
//! the kernels on the CPU. The host code does not know the difference.
//!
//! What it checks: results, bounds (with the address sanitizer), alignment, barriers that are missing or
//! that not all threads reach, memory that is used too early. What it cannot: time, registers, the weak
//! ordering of a GPU's memory.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use crate::error::GpuError;
use crate::gpu::Options;
use crate::image_cache::hash_of;
use crate::kernels;

const SOURCES: [(&str, &str); 7] = [
    ("cuda.cpp", include_str!("../standin/cuda.cpp")),
    ("fibre.h", include_str!("../standin/fibre.h")),
    ("kernels.cpp", include_str!("../standin/kernels.cpp")),
    ("nvrtc.cpp", include_str!("../standin/nvrtc.cpp")),
    ("shim.cpp", include_str!("../standin/shim.cpp")),
    ("shim.h", include_str!("../standin/shim.h")),
    ("shim_launch.h", include_str!("../standin/shim_launch.h")),
];

/// What is special about a stand-in.
#[derive(Debug, Clone, Default)]
pub struct Build {
    /// Whether the address sanitizer watches: the program must have been started with its library.
    pub sanitized: bool,
    /// Changes to sources, to see tests notice: file, text, what is in its place.
    pub mutations: Vec<(&'static str, &'static str, &'static str)>,
}

/// Builds run one at a time, and once for each kind.
static BUILDING: Mutex<()> = Mutex::new(());

/// Options that open the stand-in, built below `folder` unless it is there already; `None` if there is no
/// compiler to build it with.
///
/// # Errors
/// If it does not compile, or a mutation does not apply.
pub fn options(folder: &Path, build: &Build) -> Result<Option<Options>, GpuError> {
    let _one = BUILDING.lock();
    let mut sources = kernels::sources();
    sources.extend(SOURCES.map(|(name, text)| (name, text.to_owned())));
    for (file, from, to) in &build.mutations {
        let source = sources.iter_mut().find(|(name, _)| name == file);
        let Some((_, text)) = source.filter(|(_, text)| text.contains(from)) else {
            return Err(GpuError::Standin(format!(
                "{file} does not contain {from:?}"
            )));
        };
        *text = text.replacen(from, to, 1);
    }
    let mut flags: Vec<&str> =
        "-std=c++20 -O2 -ffp-contract=off -fPIC -shared -pthread -DTIDEMILL_SHIM \
        -Wall -Wextra -Werror -Wno-unknown-pragmas"
            .split_whitespace()
            .collect();
    if cfg!(target_arch = "x86_64") {
        // Products of three numbers as one instruction; those machines that run tests have it.
        flags.push("-mfma");
    }
    if build.sanitized {
        flags.extend(["-fsanitize=address", "-g1", "-fno-omit-frame-pointer"]);
    }
    let texts = sources
        .iter()
        .flat_map(|(name, text)| [*name, text.as_str()]);
    let folder = folder.join(format!(
        "standin-{:016x}",
        hash(texts.chain(flags.iter().copied()))
    ));
    let library = folder.join("libcuda.so.1");
    if !library.is_file() {
        let Some(compiler) = find_compiler() else {
            return Ok(None);
        };
        make(&compiler, &folder, &sources, &flags, &library)?;
    }
    Ok(Some(Options {
        driver: Some(library.clone()),
        compiler: Some(library),
        ..Options::default()
    }))
}

/// The library that a program must be started with (`LD_PRELOAD`) for a sanitized build.
pub fn sanitizer_library() -> Option<PathBuf> {
    let mut command = Command::new(find_compiler()?);
    let out = command.arg("-print-file-name=libasan.so").output().ok()?;
    let path = PathBuf::from(String::from_utf8_lossy(&out.stdout).trim());
    path.is_absolute().then_some(path)
}

fn find_compiler() -> Option<String> {
    let works = |name: &&str| {
        let out = Command::new(name).arg("--version").output();
        out.is_ok_and(|out| out.status.success())
    };
    ["g++", "clang++"]
        .iter()
        .find(|name| works(name))
        .map(|name| (*name).to_owned())
}

fn make(
    compiler: &str,
    folder: &Path,
    sources: &[(&str, String)],
    flags: &[&str],
    library: &Path,
) -> Result<(), GpuError> {
    let file = |path: &Path| {
        let path = path.to_owned();
        move |source| GpuError::File { path, source }
    };
    std::fs::create_dir_all(folder).map_err(file(folder))?;
    let mut command = Command::new(compiler);
    command.args(flags).arg("-I").arg(folder);
    for (name, text) in sources {
        let path = folder.join(name);
        std::fs::write(&path, text).map_err(file(&path))?;
        if name.ends_with(".cpp") {
            command.arg(path);
        }
    }
    // Whole whenever it is there, since other processes look for it.
    let part = folder.join(format!("part-{}", std::process::id()));
    let out = command.arg("-o").arg(&part).output();
    let out = out.map_err(|error| GpuError::Standin(error.to_string()))?;
    if !out.status.success() {
        return Err(GpuError::Standin(
            String::from_utf8_lossy(&out.stderr).into_owned(),
        ));
    }
    std::fs::rename(&part, library).map_err(file(library))
}

fn hash<'a>(texts: impl Iterator<Item = &'a str>) -> u64 {
    hash_of(texts.flat_map(|text| text.bytes().chain([0])))
}
