//! A driver and a compiler for tests: a library, built by g++ from the kernels and `standin/*`, that runs
//! the kernels on the CPU. The host code does not know the difference.
//!
//! What it checks: results, bounds (with the address sanitizer), alignment, barriers that are missing or
//! that not all threads reach, memory that is used too early. What it cannot: time, registers, the weak
//! ordering of a GPU's memory.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::error::GpuError;
use crate::gpu::Options;
use crate::image_cache::hash_of;
use crate::kernels;

const SOURCES: [(&str, &str); 6] = [
    ("cuda.cpp", include_str!("../standin/cuda.cpp")),
    ("fibre.h", include_str!("../standin/fibre.h")),
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

/// A file's name and text.
type Source = (&'static str, String);

/// Options that open the stand-in, built below `folder` unless it is there already; `None` if there is no
/// compiler to build it with. Any number of threads and processes may ask at once: each file is made by one
/// of them, and only those that a change concerns are made again.
///
/// # Errors
/// If it does not compile, or a mutation does not apply.
pub fn options(folder: &Path, build: &Build) -> Result<Option<Options>, GpuError> {
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
    let flags = flags(build);
    let texts = sources
        .iter()
        .flat_map(|(name, text)| [*name, text.as_str()]);
    let own = folder.join(format!(
        "standin-{:016x}",
        hash(texts.chain(flags.iter().copied()))
    ));
    let library = own.join("libcuda.so.1");
    if !library.is_file() {
        let Some(compiler) = find_compiler() else {
            return Ok(None);
        };
        let make = Make {
            compiler,
            flags,
            objects: folder.join("objects"),
            folder: own,
            sources,
        };
        once(&library, |part| make.library(part))?;
    }
    Ok(Some(Options {
        driver: Some(library.clone()),
        compiler: Some(library),
        ..Options::default()
    }))
}

fn flags(build: &Build) -> Vec<&'static str> {
    let mut flags: Vec<&str> = "-std=c++20 -ffp-contract=off -fPIC -pthread -DTIDEMILL_SHIM \
        -Wall -Wextra -Werror -Wno-unknown-pragmas"
        .split_whitespace()
        .collect();
    // What runs little is sooner compiled than it is run faster.
    let runs_little = build.sanitized || !build.mutations.is_empty();
    flags.push(if runs_little { "-O1" } else { "-O2" });
    if cfg!(target_arch = "x86_64") {
        // Products of three numbers as one instruction; those machines that run tests have it.
        flags.push("-mfma");
    }
    if build.sanitized {
        flags.extend(["-fsanitize=address", "-g1", "-fno-omit-frame-pointer"]);
    }
    flags
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

/// How a library comes about.
struct Make {
    compiler: String,
    flags: Vec<&'static str>,
    /// Where what was compiled is kept, whatever library it was for.
    objects: PathBuf,
    /// Of this library alone: its sources.
    folder: PathBuf,
    sources: Vec<Source>,
}

impl Make {
    fn library(&self, part: &Path) -> Result<(), GpuError> {
        for (name, text) in &self.sources {
            let path = self.folder.join(name);
            std::fs::write(&path, text).map_err(file(&path))?;
        }
        let is_unit = |name: &str| name.ends_with(".cu") || name.ends_with(".cpp");
        let units: Vec<&Source> = self.sources.iter().filter(|s| is_unit(s.0)).collect();
        let next = AtomicUsize::new(0);
        let work = || {
            let mut made = Vec::new();
            while let Some(unit) = units.get(next.fetch_add(1, Ordering::Relaxed)) {
                made.push(self.object(unit)?);
            }
            Ok(made)
        };
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let objects: Result<Vec<_>, GpuError> = thread::scope(|scope| {
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            let ended = workers.into_iter().map(|worker| {
                let panicked = |_| Err(GpuError::Standin("a compiler's thread panicked".into()));
                worker.join().unwrap_or_else(panicked)
            });
            ended.collect()
        });
        let mut objects = objects?.concat();
        objects.sort();
        self.run(
            Command::new(&self.compiler).arg("-shared").args(objects),
            part,
        )
    }

    /// A source, compiled: its name says all that it was made of.
    fn object(&self, unit: &Source) -> Result<PathBuf, GpuError> {
        let mut seen = vec![unit];
        let mut index = 0;
        while let Some((_, text)) = seen.get(index) {
            for name in included(text) {
                let header = self.sources.iter().find(|(other, _)| *other == name);
                seen.extend(header.filter(|header| !seen.contains(header)));
            }
            index += 1;
        }
        let texts = seen.iter().flat_map(|(name, text)| [*name, text.as_str()]);
        let hash = hash(texts.chain(self.flags.iter().copied()));
        let object = self.objects.join(format!("{}-{hash:016x}.o", unit.0));
        once(&object, |part| {
            let mut command = Command::new(&self.compiler);
            command
                .args(["-x", "c++", "-c"])
                .arg("-I")
                .arg(&self.folder);
            self.run(command.arg(self.folder.join(unit.0)), part)
        })?;
        Ok(object)
    }

    fn run(&self, command: &mut Command, output: &Path) -> Result<(), GpuError> {
        let out = command.args(&self.flags).arg("-o").arg(output).output();
        let out = out.map_err(|error| GpuError::Standin(error.to_string()))?;
        if out.status.success() {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&out.stderr).into_owned();
        Err(GpuError::Standin(text))
    }
}

/// The files that a source includes by their names.
fn included(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| {
        let name = line.strip_prefix("#include \"")?;
        name.strip_suffix('"')
    })
}

/// Makes a file, unless it is there or another thread or process makes it now: then waits for that. The file
/// is whole whenever it is there.
fn once(path: &Path, make: impl FnOnce(&Path) -> Result<(), GpuError>) -> Result<(), GpuError> {
    if path.is_file() {
        return Ok(());
    }
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(file(folder))?;
    }
    let beside = |end: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(end);
        PathBuf::from(name)
    };
    let lock = beside(".lock");
    let held = std::fs::File::create(&lock).map_err(file(&lock))?;
    held.lock().map_err(file(&lock))?;
    if path.is_file() {
        return Ok(());
    }
    let part = beside(".part");
    make(&part)?;
    std::fs::rename(&part, path).map_err(file(path))
}

fn file(path: &Path) -> impl FnOnce(std::io::Error) -> GpuError {
    let path = path.to_owned();
    move |source| GpuError::File { path, source }
}

fn hash<'a>(texts: impl Iterator<Item = &'a str>) -> u64 {
    hash_of(texts.flat_map(|text| text.bytes().chain([0])))
}
