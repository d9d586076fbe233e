//! The functions of the driver library that are used, by their names.
//!
//! The library is opened when the program runs, so that one program serves machines with and without it.

use std::ffi::{c_char, c_void};
use std::path::Path;

use libloading::Library;

use super::Address;
use crate::error::GpuError;

type Pointer = *mut c_void;

/// `CUDA_KERNEL_NODE_PARAMS_v2`: a launch of a graph.
#[repr(C)]
pub(crate) struct KernelNode {
    pub(crate) function: Pointer,
    pub(crate) grid: [u32; 3],
    pub(crate) block: [u32; 3],
    pub(crate) shared_bytes: u32,
    /// Where each argument is.
    pub(crate) args: *mut Pointer,
    /// Another form of arguments.
    pub(crate) extra: *mut Pointer,
    /// In place of a function.
    pub(crate) kernel: Pointer,
    /// The current one if null.
    pub(crate) context: Pointer,
}

/// `CUlaunchConfig`: where and how a kernel runs.
#[repr(C)]
pub(crate) struct LaunchConfig {
    pub(crate) grid: [u32; 3],
    pub(crate) block: [u32; 3],
    pub(crate) shared_bytes: u32,
    pub(crate) stream: Pointer,
    pub(crate) attributes: *const LaunchAttribute,
    pub(crate) attribute_count: u32,
}

/// `CUlaunchAttribute`, of which the value is a number.
#[repr(C, align(8))]
pub(crate) struct LaunchAttribute {
    pub(crate) id: i32,
    pub(crate) padding: u32,
    pub(crate) value: i32,
    /// Of a union of 64 bytes.
    pub(crate) unused: [u32; 15],
}

impl LaunchAttribute {
    /// `CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION`: the kernel waits by itself for the one that its stream has
    /// before it.
    pub(crate) const WAITS_BY_ITSELF: Self = Self {
        id: 6,
        padding: 0,
        value: 1,
        unused: [0; 15],
    };
}

/// `CUgraphEdgeData`: what a node waits for.
#[repr(C)]
pub(crate) struct Edge {
    pub(crate) from_port: u8,
    pub(crate) to_port: u8,
    pub(crate) kind: u8,
    pub(crate) reserved: [u8; 5],
}

impl Edge {
    /// From `CU_GRAPH_KERNEL_NODE_PORT_PROGRAMMATIC`, of `CU_GRAPH_DEPENDENCY_TYPE_PROGRAMMATIC`: as
    /// [`LaunchAttribute::WAITS_BY_ITSELF`].
    pub(crate) const WAITS_BY_ITSELF: Self = Self {
        from_port: 1,
        to_port: 0,
        kind: 1,
        reserved: [0; 5],
    };
}

const _: () = assert!(
    size_of::<LaunchConfig>() == 56 && size_of::<LaunchAttribute>() == 72 && size_of::<Edge>() == 8
);

/// A table of functions, and the library that has them.
macro_rules! functions {
    ($(#[$about:meta])* $table:ident of $what:literal { $($name:ident = $symbol:literal ($($arg:ty),*);)* }) => {
        $(#[$about])*
        pub(crate) struct $table {
            $(pub(crate) $name: unsafe extern "C" fn($($arg),*) -> i32,)*
            /// Kept open while the functions are used.
            _library: Library,
        }

        impl $table {
            /// Finds all functions in a library.
            pub(crate) fn of(library: Library) -> Result<Self, GpuError> {
                Ok(Self {
                    $($name: {
                        // SAFETY: the type is that of the function in NVIDIA's documentation.
                        let found = unsafe { library.get(concat!($symbol, "\0").as_bytes()) };
                        *found.map_err(|_| GpuError::Symbol {
                            library: $what.into(),
                            symbol: $symbol.into(),
                        })?
                    },)*
                    _library: library,
                })
            }
        }
    };
}
pub(crate) use functions;

functions! {
    /// The driver's functions.
    Api of "the NVIDIA driver" {
        init = "cuInit" (u32);
        error_string = "cuGetErrorString" (i32, *mut *const c_char);
        driver_version = "cuDriverGetVersion" (*mut i32);
        device_count = "cuDeviceGetCount" (*mut i32);
        device = "cuDeviceGet" (*mut i32, i32);
        device_name = "cuDeviceGetName" (*mut c_char, i32, i32);
        device_memory = "cuDeviceTotalMem_v2" (*mut usize, i32);
        device_attribute = "cuDeviceGetAttribute" (*mut i32, i32, i32);
        retain_context = "cuDevicePrimaryCtxRetain" (*mut Pointer, i32);
        release_context = "cuDevicePrimaryCtxRelease_v2" (i32);
        set_current_context = "cuCtxSetCurrent" (Pointer);
        memory_info = "cuMemGetInfo_v2" (*mut usize, *mut usize);
        allocate = "cuMemAlloc_v2" (*mut Address, usize);
        free = "cuMemFree_v2" (Address);
        allocate_pinned = "cuMemHostAlloc" (*mut Pointer, usize, u32);
        free_pinned = "cuMemFreeHost" (Pointer);
        copy_to_device = "cuMemcpyHtoDAsync_v2" (Address, *const c_void, usize, Pointer);
        copy_to_host = "cuMemcpyDtoHAsync_v2" (Pointer, Address, usize, Pointer);
        copy_on_device = "cuMemcpyDtoDAsync_v2" (Address, Address, usize, Pointer);
        fill = "cuMemsetD8Async" (Address, u8, usize, Pointer);
        create_stream = "cuStreamCreate" (*mut Pointer, u32);
        create_stream_with_priority = "cuStreamCreateWithPriority" (*mut Pointer, u32, i32);
        wait_event = "cuStreamWaitEvent" (Pointer, Pointer, u32);
        destroy_stream = "cuStreamDestroy_v2" (Pointer);
        synchronise_stream = "cuStreamSynchronize" (Pointer);
        create_event = "cuEventCreate" (*mut Pointer, u32);
        destroy_event = "cuEventDestroy_v2" (Pointer);
        record_event = "cuEventRecord" (Pointer, Pointer);
        synchronise_event = "cuEventSynchronize" (Pointer);
        query_event = "cuEventQuery" (Pointer);
        load_module = "cuModuleLoadData" (*mut Pointer, *const c_void);
        get_function = "cuModuleGetFunction" (*mut Pointer, Pointer, *const c_char);
        parameter_info = "cuFuncGetParamInfo" (Pointer, usize, *mut usize, *mut usize);
        launch = "cuLaunchKernel" (Pointer, u32, u32, u32, u32, u32, u32, u32, Pointer, *mut Pointer, *mut Pointer);
        create_graph = "cuGraphCreate" (*mut Pointer, u32);
        add_kernel_node = "cuGraphAddKernelNode_v2" (*mut Pointer, Pointer, *const Pointer, usize, *const KernelNode);
        set_kernel_node = "cuGraphExecKernelNodeSetParams_v2" (Pointer, Pointer, *const KernelNode);
        instantiate_graph = "cuGraphInstantiateWithFlags" (*mut Pointer, Pointer, u64);
        launch_graph = "cuGraphLaunch" (Pointer, Pointer);
        destroy_ready_graph = "cuGraphExecDestroy" (Pointer);
        destroy_graph = "cuGraphDestroy" (Pointer);
    }
}

functions! {
    /// What a driver since CUDA 12.3 has for kernels that wait by themselves for those before them.
    Dependent of "the NVIDIA driver" {
        launch = "cuLaunchKernelEx" (*const LaunchConfig, Pointer, *mut Pointer, *mut Pointer);
        add_dependencies = "cuGraphAddDependencies_v2" (Pointer, *const Pointer, *const Pointer, *const Edge, usize);
    }
}

impl Dependent {
    /// Finds them in the library at `path`, or the system's.
    pub(crate) fn open(path: Option<&Path>) -> Result<Self, GpuError> {
        Self::of(library(path)?)
    }
}

impl Api {
    /// Opens the library at `path`, or the system's.
    pub(crate) fn open(path: Option<&Path>) -> Result<Self, GpuError> {
        Self::of(library(path)?)
    }
}

fn library(path: Option<&Path>) -> Result<Library, GpuError> {
    let names: &[&str] = if cfg!(windows) {
        &["nvcuda.dll"]
    } else {
        &["libcuda.so.1", "libcuda.so"]
    };
    let paths = match path {
        Some(path) => vec![path],
        None => names.iter().map(Path::new).collect(),
    };
    let mut reason = String::new();
    for path in paths {
        // SAFETY: the driver's library may be opened at any time; what its initialisers do is its
        // maker's affair.
        match unsafe { Library::new(path) } {
            Ok(library) => return Ok(library),
            Err(error) => reason = format!("{}: {error}", path.display()),
        }
    }
    Err(GpuError::NoDriver { reason })
}
