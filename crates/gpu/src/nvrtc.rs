//! NVIDIA's run-time compiler: a library that is looked for in the usual places.

use std::ffi::{CString, c_char, c_void};
use std::path::{Path, PathBuf};
use std::ptr;

use libloading::Library;

use crate::driver::functions;
use crate::error::GpuError;

type Handle = *mut c_void;

functions! {
    /// The compiler's functions.
    Api of "NVRTC" {
        version = "nvrtcVersion" (*mut i32, *mut i32);
        create = "nvrtcCreateProgram"
            (*mut Handle, *const c_char, *const c_char, i32, *const *const c_char, *const *const c_char);
        destroy = "nvrtcDestroyProgram" (*mut Handle);
        compile = "nvrtcCompileProgram" (Handle, i32, *const *const c_char);
        log_size = "nvrtcGetProgramLogSize" (Handle, *mut usize);
        log = "nvrtcGetProgramLog" (Handle, *mut c_char);
        cubin_size = "nvrtcGetCUBINSize" (Handle, *mut usize);
        cubin = "nvrtcGetCUBIN" (Handle, *mut c_char);
        ptx_size = "nvrtcGetPTXSize" (Handle, *mut usize);
        ptx = "nvrtcGetPTX" (Handle, *mut c_char);
    }
}

/// What came of compiling.
pub struct Compiled {
    /// Machine code for one architecture.
    pub cubin: Vec<u8>,
    /// What it was assembled from.
    pub ptx: String,
    /// What the compiler said, if it was asked to.
    pub log: String,
}

/// The compiler.
pub struct Nvrtc {
    api: Api,
    version: (i32, i32),
    /// A part of it that it opens by name and would not find by itself.
    _builtins: Option<Library>,
}

impl Nvrtc {
    /// Opens the compiler at `path`, or the one at `TIDEMILL_NVRTC`, or the newest of those on the library
    /// path, in CUDA's folder and in Python's packages.
    ///
    /// # Errors
    /// If there is none.
    pub fn open(path: Option<&Path>) -> Result<Self, GpuError> {
        Self::find(path, None)
    }

    /// As [`Nvrtc::open`], but before the newest come those whose images a driver of this CUDA version
    /// ([`Device::driver_version`](crate::Device::driver_version)) takes.
    ///
    /// # Errors
    /// If there is none.
    pub fn open_for(path: Option<&Path>, driver_version: u32) -> Result<Self, GpuError> {
        Self::find(path, Some(driver_version))
    }

    fn find(path: Option<&Path>, driver_version: Option<u32>) -> Result<Self, GpuError> {
        let (named, others) = match path {
            Some(path) => (vec![path.to_owned()], Vec::new()),
            None => {
                let named = std::env::var_os("TIDEMILL_NVRTC").map(PathBuf::from);
                (named.into_iter().collect(), candidates())
            }
        };
        Self::best(&named, driver_version)
            .or_else(|| Self::best(&others, driver_version))
            .ok_or_else(|| {
                let names = named
                    .iter()
                    .chain(&others)
                    .map(|path| path.display().to_string());
                GpuError::NoCompiler {
                    searched: names.collect::<Vec<_>>().join(", "),
                }
            })
    }

    /// The best of those that can be used, the first of equals.
    pub(crate) fn best(paths: &[PathBuf], driver_version: Option<u32>) -> Option<Self> {
        let usable = paths.iter().rev().filter_map(|path| Self::open_at(path));
        usable.max_by_key(|nvrtc| rank(nvrtc.version, driver_version))
    }

    /// The library at `path`, if it is one and has all functions.
    fn open_at(path: &Path) -> Option<Self> {
        let builtins = open_builtins(path);
        // SAFETY: NVRTC may be opened at any time; what its initialisers do is its maker's affair.
        let library = unsafe { Library::new(path) }.ok()?;
        let api = Api::of(library).ok()?;
        let mut version = (0, 0);
        // SAFETY: both places outlive the call.
        let code = unsafe { (api.version)(&raw mut version.0, &raw mut version.1) };
        (code == 0).then_some(Self {
            api,
            version,
            _builtins: builtins,
        })
    }

    /// Major and minor version.
    pub fn version(&self) -> (i32, i32) {
        self.version
    }

    /// Compiles a source of this name, which may include `headers` (names and texts).
    ///
    /// # Errors
    /// If it does not compile.
    pub fn compile(
        &self,
        name: &str,
        source: &str,
        headers: &[(&str, &str)],
        arch: &str,
        options: &[String],
    ) -> Result<Compiled, GpuError> {
        let text = |text: &str| CString::new(text.replace('\0', " ")).unwrap_or_default();
        let (source_text, program_name) = (text(source), text(name));
        let texts: Vec<CString> = headers.iter().map(|header| text(header.1)).collect();
        let names: Vec<CString> = headers.iter().map(|header| text(header.0)).collect();
        let fixed = fixed_options(arch);
        let options: Vec<CString> = fixed
            .iter()
            .chain(options)
            .map(|option| text(option))
            .collect();
        let pointers =
            |texts: &[CString]| texts.iter().map(|text| text.as_ptr()).collect::<Vec<_>>();
        let (texts, names) = (pointers(&texts), pointers(&names));
        let option_pointers = pointers(&options);

        let mut program = Program {
            api: &self.api,
            handle: ptr::null_mut(),
        };
        // SAFETY: every pointer is to memory that outlives the calls, strings end in zero bytes, and the
        // counts are those of the lists. Buffers have the sizes that the compiler asked for.
        unsafe {
            let made = (self.api.create)(
                &raw mut program.handle,
                source_text.as_ptr(),
                program_name.as_ptr(),
                headers.len() as i32,
                texts.as_ptr(),
                names.as_ptr(),
            );
            let code = if made == 0 {
                (self.api.compile)(
                    program.handle,
                    option_pointers.len() as i32,
                    option_pointers.as_ptr(),
                )
            } else {
                made
            };
            let text = |bytes: Vec<u8>| {
                let text = String::from_utf8_lossy(&bytes);
                text.trim_end_matches('\0').to_owned()
            };
            let log = text(program.read(self.api.log_size, self.api.log));
            let ptx = text(program.read(self.api.ptx_size, self.api.ptx));
            let cubin = program.read(self.api.cubin_size, self.api.cubin);
            if code != 0 || cubin.is_empty() {
                return Err(GpuError::Compile {
                    program: name.into(),
                    arch: arch.into(),
                    log: format!("{log}(NVRTC error {code})"),
                });
            }
            Ok(Compiled { cubin, ptx, log })
        }
    }
}

/// How well a version of the compiler goes with a driver, which refuses images of a later major version
/// of CUDA than its own.
pub(crate) fn rank(version: (i32, i32), driver_version: Option<u32>) -> (bool, (i32, i32)) {
    let newest_major = driver_version.map_or(i32::MAX, |version| (version / 1000) as i32);
    (version.0 <= newest_major, version)
}

/// What every program is compiled with.
pub(crate) fn fixed_options(arch: &str) -> [String; 3] {
    [
        format!("--gpu-architecture={arch}"),
        // Nothing is fused that the source does not fuse: bits do not depend on what is inlined where.
        "--fmad=false".into(),
        "--std=c++17".into(),
    ]
}

struct Program<'a> {
    api: &'a Api,
    handle: Handle,
}

impl Program<'_> {
    /// One of the results.
    ///
    /// # Safety
    /// The two functions belong together.
    unsafe fn read(
        &self,
        size: unsafe extern "C" fn(Handle, *mut usize) -> i32,
        read: unsafe extern "C" fn(Handle, *mut c_char) -> i32,
    ) -> Vec<u8> {
        let mut bytes = 0;
        // SAFETY: the program lives, the place outlives the call, and the buffer is as large as asked for.
        unsafe {
            if self.handle.is_null() || size(self.handle, &raw mut bytes) != 0 {
                return Vec::new();
            }
            let mut buffer = vec![0; bytes];
            if read(self.handle, buffer.as_mut_ptr().cast()) == 0 {
                buffer
            } else {
                Vec::new()
            }
        }
    }
}

impl Drop for Program<'_> {
    fn drop(&mut self) {
        // SAFETY: made by this compiler, destroyed once; a null handle is refused.
        unsafe { (self.api.destroy)(&raw mut self.handle) };
    }
}

/// Opens the compiler's second library, which lies beside it and which it asks for by name alone.
fn open_builtins(compiler: &Path) -> Option<Library> {
    let folder = compiler.parent()?;
    let entries = std::fs::read_dir(folder).ok()?;
    let is_it = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.starts_with("libnvrtc-builtins.so"))
    };
    let path = entries.flatten().map(|entry| entry.path()).find(is_it)?;
    // SAFETY: as for the compiler itself.
    unsafe { Library::new(path) }.ok()
}

/// Where the compiler may be.
fn candidates() -> Vec<PathBuf> {
    const NAMES: [&str; 3] = ["libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"];
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
    if cfg!(windows) {
        return ["nvrtc64_130_0.dll", "nvrtc64_120_0.dll"]
            .map(PathBuf::from)
            .into();
    }
    let mut found = Vec::from(NAMES.map(PathBuf::from));
    let cuda = ["CUDA_PATH", "CUDA_HOME"]
        .into_iter()
        .filter_map(variable)
        .chain([PathBuf::from("/usr/local/cuda")]);
    let mut folders: Vec<PathBuf> = cuda.map(|folder| folder.join("lib64")).collect();
    let roots = variable("VIRTUAL_ENV").into_iter();
    let roots = roots.chain(variable("HOME").map(|home| home.join(".local")));
    for root in roots.chain(["/usr/local".into(), "/usr".into()]) {
        for python in folders_of(&root.join("lib"), "python3") {
            for packages in ["site-packages", "dist-packages"] {
                let nvidia = python.join(packages).join("nvidia");
                folders.extend(["cu13", "cuda_nvrtc"].map(|name| nvidia.join(name).join("lib")));
            }
        }
    }
    for folder in folders {
        let paths = NAMES.map(|name| folder.join(name));
        found.extend(paths.into_iter().filter(|path| path.is_file()));
    }
    found
}

fn folders_of(parent: &Path, prefix: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
    let is_wanted = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.starts_with(prefix))
    };
    let mut found: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(is_wanted)
        .collect();
    found.sort();
    found
}
