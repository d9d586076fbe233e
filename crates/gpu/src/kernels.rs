//! The kernels: their sources, compiled when they are first needed and kept.
//!
//! A program is compiled for one architecture and for the storage types that the loaded weights have.
//! What was compiled is kept in a folder, under the hash of all that it came from.

use std::collections::HashMap;
use std::ffi::CString;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::driver::{Driver, Handle};
use crate::error::GpuError;
use crate::formats_on_device;
use crate::image_cache::{self, hash_of};
use crate::nvrtc::{Compiled, Nvrtc, fixed_options};

/// The most registers a kernel may use.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// Its name.
    pub kernel: &'static str,
    /// On any architecture. None may spill.
    pub registers: u32,
}

/// A source file and its kernels.
#[derive(Debug)]
pub struct Program {
    /// The file's name.
    pub name: &'static str,
    source: &'static str,
    /// Whether it has a case for each storage type.
    by_format: bool,
    /// Its kernels, with what they may use.
    pub kernels: &'static [Budget],
}

const fn budget(kernel: &'static str, registers: u32) -> Budget {
    Budget { kernel, registers }
}

/// Every program.
pub const PROGRAMS: &[Program] = &[
    Program {
        name: "linear.cu",
        source: include_str!("../kernels/linear.cu"),
        by_format: true,
        kernels: &[
            budget("linear_1", 128),
            budget("linear_2", 168),
            budget("linear_4", 168),
            budget("linear_8", 168),
        ],
    },
    Program {
        name: "matmul.cu",
        source: include_str!("../kernels/matmul.cu"),
        by_format: true,
        kernels: &[budget("matmul_64", 168)],
    },
    Program {
        name: "experts.cu",
        source: include_str!("../kernels/experts.cu"),
        by_format: true,
        kernels: &[
            budget("choose", 48),
            budget("sort_pairs", 48),
            budget("gate_up_1", 128),
            budget("gate_up_8", 232),
            budget("down_and_sum", 128),
            budget("down", 168),
            budget("sum_slots", 64),
        ],
    },
    Program {
        name: "expert_tiles.cu",
        source: include_str!("../kernels/expert_tiles.cu"),
        by_format: true,
        kernels: &[
            budget("gate_up_16", 96),
            budget("gate_up_32", 120),
            budget("gate_up_64", 168),
            budget("down_16", 96),
            budget("down_32", 120),
            budget("down_64", 168),
        ],
    },
    Program {
        name: "rows.cu",
        source: include_str!("../kernels/rows.cu"),
        by_format: true,
        kernels: &[
            budget("embed", 128),
            budget("select_rows", 40),
            budget("concat", 64),
            budget("add", 40),
        ],
    },
    Program {
        name: "best.cu",
        source: include_str!("../kernels/best.cu"),
        by_format: false,
        kernels: &[budget("group_largest", 40), budget("pick_best", 48)],
    },
    Program {
        name: "repack.cu",
        source: include_str!("../kernels/repack.cu"),
        by_format: true,
        kernels: &[budget("repack", 128)],
    },
    Program {
        name: "norm.cu",
        source: include_str!("../kernels/norm.cu"),
        by_format: false,
        kernels: &[
            budget("add_norm", 64),
            budget("gated_norm", 64),
            budget("quantise", 40),
        ],
    },
    Program {
        name: "attention.cu",
        source: include_str!("../kernels/attention.cu"),
        by_format: false,
        kernels: &[
            budget("attention_inputs", 64),
            budget("attention_f32", 168),
            budget("attention_f16", 168),
            budget("attention_bf16", 168),
            budget("attention_q8_0", 168),
            budget("attention_q4_0", 168),
            budget("attention_join", 64),
        ],
    },
    Program {
        name: "attention_tiles_f16.cu",
        source: include_str!("../kernels/attention_tiles_f16.cu"),
        by_format: false,
        kernels: &[
            budget("attention_few_f16", 232),
            budget("attention_many_f16", 255),
        ],
    },
    Program {
        name: "attention_tiles_bf16.cu",
        source: include_str!("../kernels/attention_tiles_bf16.cu"),
        by_format: false,
        kernels: &[
            budget("attention_few_bf16", 232),
            budget("attention_many_bf16", 255),
        ],
    },
    Program {
        name: "attention_tiles_q8_0.cu",
        source: include_str!("../kernels/attention_tiles_q8_0.cu"),
        by_format: false,
        kernels: &[
            budget("attention_few_q8_0", 232),
            budget("attention_many_q8_0", 255),
        ],
    },
    Program {
        name: "attention_tiles_q4_0.cu",
        source: include_str!("../kernels/attention_tiles_q4_0.cu"),
        by_format: false,
        kernels: &[
            budget("attention_few_q4_0", 232),
            budget("attention_many_q4_0", 255),
        ],
    },
    Program {
        name: "delta.cu",
        source: include_str!("../kernels/delta.cu"),
        by_format: false,
        kernels: &[
            budget("causal_conv", 64),
            budget("conv_states", 64),
            budget("delta_rule_32", 128),
            budget("delta_rule_128", 128),
        ],
    },
];

/// What programs include, but for the header that is written from `tensor`'s books.
const HEADERS: &[(&str, &str)] = &[
    ("attention.cuh", include_str!("../kernels/attention.cuh")),
    (
        "attention_tiles.cuh",
        include_str!("../kernels/attention_tiles.cuh"),
    ),
    ("batch.cuh", include_str!("../kernels/batch.cuh")),
    ("cache.cuh", include_str!("../kernels/cache.cuh")),
    ("compat.cuh", include_str!("../kernels/compat.cuh")),
    ("dot.cuh", include_str!("../kernels/dot.cuh")),
    ("experts.cuh", include_str!("../kernels/experts.cuh")),
    ("formats.cuh", include_str!("../kernels/formats.cuh")),
    ("input.cuh", include_str!("../kernels/input.cuh")),
    ("linear.cuh", include_str!("../kernels/linear.cuh")),
    ("matmul.cuh", include_str!("../kernels/matmul.cuh")),
    ("plain.cuh", include_str!("../kernels/plain.cuh")),
    ("quantised.cuh", include_str!("../kernels/quantised.cuh")),
    ("split.cuh", include_str!("../kernels/split.cuh")),
    ("tile.cuh", include_str!("../kernels/tile.cuh")),
    (
        "tile_floats.cuh",
        include_str!("../kernels/tile_floats.cuh"),
    ),
    ("tile_split.cuh", include_str!("../kernels/tile_split.cuh")),
];
const BOOKS: &str = "codebooks.h";

/// The option that makes kernels wait by themselves for those before them, from 9.0 on.
pub const DEPENDENT: &str = "--define-macro=DEPENDENT";

/// All sources by their names, the written header among them.
#[cfg(any(test, feature = "standin"))]
pub(crate) fn sources() -> Vec<(&'static str, String)> {
    let headers = HEADERS
        .iter()
        .map(|(name, text)| (*name, (*text).to_owned()));
    let programs = PROGRAMS
        .iter()
        .map(|program| (program.name, program.source.to_owned()));
    let all = headers.chain(programs);
    all.chain([(BOOKS, formats_on_device::header())]).collect()
}

impl Program {
    /// Compiles it for an architecture, with further options.
    ///
    /// # Errors
    /// If it does not compile.
    pub fn compile(
        &self,
        nvrtc: &Nvrtc,
        arch: &str,
        options: &[String],
    ) -> Result<Compiled, GpuError> {
        let books = formats_on_device::header();
        let headers = [HEADERS, &[(BOOKS, books.as_str())]].concat();
        nvrtc.compile(self.name, self.source, &headers, arch, options)
    }

    /// A number that changes with everything it is compiled from, but for the compiler.
    pub fn hash(&self, arch: &str, options: &[String]) -> u64 {
        let (books, fixed) = (formats_on_device::header(), fixed_options(arch));
        let texts = HEADERS.iter().flat_map(|(name, text)| [*name, *text]);
        let options = fixed.iter().chain(options).map(String::as_str);
        let all = texts.chain([self.source, &books]).chain(options);
        hash_of(all.flat_map(|text| text.bytes().chain([0])))
    }
}

/// Compiled kernels of one device.
pub(crate) struct Kernels {
    driver: Arc<Driver>,
    compiler: Option<PathBuf>,
    /// Where compiled programs are kept; nowhere if none.
    cache: Option<PathBuf>,
    /// Whether kernels wait by themselves for those before them.
    is_dependent: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Bit n: the storage type of number n is in use.
    formats: u64,
    nvrtc: Option<Nvrtc>,
    /// Of the compiler whose images are used: never of two, for what they round may differ.
    version: Option<(i32, i32)>,
    /// By program and types.
    modules: HashMap<(&'static str, u64), Handle>,
    /// By kernel and types.
    functions: HashMap<(&'static str, u64), Handle>,
}

impl Kernels {
    pub(crate) fn new(
        driver: Arc<Driver>,
        compiler: Option<PathBuf>,
        cache: Option<PathBuf>,
        is_dependent: bool,
    ) -> Self {
        Self {
            driver,
            compiler,
            cache,
            is_dependent,
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // What is kept is whole at any time.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a storage type is used, by its number.
    pub(crate) fn use_format(&self, number: u32) {
        self.state().formats |= 1u64.checked_shl(number).unwrap_or(0);
    }

    /// A kernel, whose argument has `args_bytes` bytes, for all storage types in use.
    pub(crate) fn function(
        &self,
        kernel: &'static str,
        args_bytes: usize,
    ) -> Result<Handle, GpuError> {
        let mut state = self.state();
        let program = PROGRAMS
            .iter()
            .find(|program| program.kernels.iter().any(|k| k.kernel == kernel));
        let program = program.expect("kernels are named as their programs list them");
        let formats = if program.by_format { state.formats } else { 0 };
        if let Some(function) = state.functions.get(&(kernel, formats)) {
            return Ok(*function);
        }
        let module = match state.modules.get(&(program.name, formats)) {
            Some(module) => *module,
            None => {
                let module = self.module(&mut state, program, formats)?;
                state.modules.insert((program.name, formats), module);
                module
            }
        };
        let name = CString::new(kernel).unwrap_or_default();
        let function = self.driver.function(module, &name, args_bytes)?;
        state.functions.insert((kernel, formats), function);
        Ok(function)
    }

    /// A program, loaded: kept from before, or compiled now.
    fn module(
        &self,
        state: &mut State,
        program: &Program,
        formats: u64,
    ) -> Result<Handle, GpuError> {
        let arch = self.driver.device().arch();
        let mut options = Vec::new();
        if program.by_format {
            options.push(format!("--define-macro=FORMATS={formats:#x}ull"));
        }
        if self.is_dependent {
            options.push(DEPENDENT.into());
        }
        let version = self.version(state)?;
        let hash = program.hash(&arch, &options);
        let file = format!("{}-{arch}-{hash:016x}.cubin", program.name);
        let path = self.cache.as_ref();
        let path = path.map(|cache| cache.join(image_cache::folder_of(version)).join(file));
        let kept = path.as_ref().and_then(|path| image_cache::read(path));
        // The driver may refuse what another version of it took.
        if let Some(Ok(module)) = kept.map(|image| self.driver.load_module(&image)) {
            return Ok(module);
        }
        let image = program.compile(self.nvrtc(state)?, &arch, &options)?.cubin;
        let module = self.driver.load_module(&image)?;
        if let Some(path) = path {
            // A cache that cannot be written costs time at the next start and nothing else.
            let _ = image_cache::write(&path, &image);
        }
        Ok(module)
    }

    fn nvrtc<'a>(&self, state: &'a mut State) -> Result<&'a Nvrtc, GpuError> {
        match &mut state.nvrtc {
            Some(nvrtc) => Ok(nvrtc),
            none => {
                let driver_version = self.driver.device().driver_version;
                let nvrtc = Nvrtc::open_for(self.compiler.as_deref(), driver_version)?;
                Ok(none.insert(nvrtc))
            }
        }
    }

    /// The version of the compiler; without one, the newest whose images are kept.
    fn version(&self, state: &mut State) -> Result<(i32, i32), GpuError> {
        if let Some(version) = state.version {
            return Ok(version);
        }
        let version = match self.nvrtc(state) {
            Ok(nvrtc) => nvrtc.version(),
            Err(error) => {
                let kept = self.cache.as_deref().and_then(image_cache::newest);
                kept.ok_or(error)?
            }
        };
        Ok(*state.version.insert(version))
    }

    /// What decides how kernels round: the device's architecture, sources, options and the compiler.
    pub(crate) fn numerics(&self) -> String {
        let arch = self.driver.device().arch();
        let hashes = PROGRAMS.iter().map(|program| program.hash(&arch, &[]));
        let hash = hashes.fold(0u64, |all, hash| all.rotate_left(7) ^ hash);
        // Without a compiler and images nothing is computed.
        let (major, minor) = self.version(&mut self.state()).unwrap_or_default();
        format!("{arch} nvrtc {major}.{minor} {hash:016x}")
    }
}
