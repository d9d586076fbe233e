//! The driver, as narrow as the rest of this crate needs it: memory, copies, launches, events, graphs.
//!
//! One [`Driver`] is one device with one stream: all work is done in the order in which it is asked for. Only
//! copies may have a [`Stream`] of their own, beside it.
//! Launches are gathered and go to the driver as graphs (`queue.rs`).
//! Functions that take addresses trust their callers, within this crate, that these are of live memory.

mod api;
mod device;
mod event;
mod graph;
mod memory;
mod queue;
mod stream;

pub use device::Device;
pub use event::Event;
pub use memory::Pinned;
pub use queue::Asked;

pub(crate) use api::functions;
pub(crate) use memory::{Memory, Plain};
pub(crate) use stream::Stream;

use std::cell::Cell;
use std::ffi::{CStr, c_char, c_void};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use api::Api;
use queue::Queue;

use crate::error::GpuError;

/// An address of device memory.
pub(crate) type Address = u64;

/// What the driver gives out to name its things.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Handle(*mut c_void);

// SAFETY: the driver's handles may be used by any thread; who uses them is ordered by `Driver`.
unsafe impl Send for Handle {}
// SAFETY: as above.
unsafe impl Sync for Handle {}

impl Handle {
    const NONE: Self = Self(std::ptr::null_mut());
}

thread_local! {
    /// The context that calls of this thread go to.
    static CURRENT: Cell<*mut c_void> = const { Cell::new(std::ptr::null_mut()) };
}

/// A device, its context and its stream.
pub struct Driver {
    api: Api,
    device: Device,
    ordinal: i32,
    context: Handle,
    stream: Handle,
    /// The library, if not the system's.
    library: Option<PathBuf>,
    queue: Mutex<Queue>,
}

impl Driver {
    /// Opens the driver library (the system's, or that at `library`) and a device's primary context.
    ///
    /// # Errors
    /// If there is no library or no such device, or the driver fails.
    pub fn open(library: Option<&Path>, ordinal: usize) -> Result<Arc<Self>, GpuError> {
        let api = Api::open(library)?;
        // SAFETY: `cuInit` takes a number that must be 0.
        check(&api, "cuInit", unsafe { (api.init)(0) })?;
        let (number, device) = Device::find(&api, ordinal)?;
        let (mut context, mut stream) = (Handle::NONE, Handle::NONE);
        // SAFETY: the device exists, and the places that are written outlive the calls.
        unsafe {
            check(
                &api,
                "cuDevicePrimaryCtxRetain",
                (api.retain_context)(&raw mut context.0, number),
            )?;
            check(
                &api,
                "cuCtxSetCurrent",
                (api.set_current_context)(context.0),
            )?;
            const NON_BLOCKING: u32 = 1;
            check(
                &api,
                "cuStreamCreate",
                (api.create_stream)(&raw mut stream.0, NON_BLOCKING),
            )?;
        }
        CURRENT.set(context.0);
        Ok(Arc::new(Self {
            api,
            device,
            ordinal: number,
            context,
            stream,
            library: library.map(Path::to_owned),
            queue: Mutex::new(Queue::new()),
        }))
    }

    /// What the device is.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Free and total bytes of the device's memory.
    ///
    /// # Errors
    /// If the driver fails.
    pub fn memory(&self) -> Result<(usize, usize), GpuError> {
        let (mut free, mut total) = (0, 0);
        // SAFETY: the two places outlive the call.
        self.call("cuMemGetInfo", |api| unsafe {
            (api.memory_info)(&raw mut free, &raw mut total)
        })?;
        Ok((free, total))
    }

    /// Waits for all work that was asked for.
    ///
    /// # Errors
    /// If that work failed.
    pub fn synchronise(&self) -> Result<(), GpuError> {
        // SAFETY: the stream lives as long as `self`.
        self.call("cuStreamSynchronize", |api| unsafe {
            (api.synchronise_stream)(self.stream.0)
        })
    }

    /// Calls the driver in this device's context, after all launches that were asked for.
    ///
    /// # Errors
    /// Those of the call, and of launches before it.
    fn call(&self, name: &'static str, f: impl FnOnce(&Api) -> i32) -> Result<(), GpuError> {
        self.enter()?;
        self.send_gathered();
        self.failure()?;
        check(&self.api, name, f(&self.api))
    }

    /// Calls the driver to give something back, after all launches that were asked for. What fails of
    /// these is left for the next call to tell.
    fn give_back(&self, f: impl FnOnce(&Api) -> i32) {
        if self.enter().is_ok() {
            self.send_gathered();
            // Nobody can do anything about it.
            let _ = f(&self.api);
        }
    }

    /// Makes this device's context the thread's.
    fn enter(&self) -> Result<(), GpuError> {
        if CURRENT.get() != self.context.0 {
            // SAFETY: the context is held until `self` is dropped.
            let code = unsafe { (self.api.set_current_context)(self.context.0) };
            check(&self.api, "cuCtxSetCurrent", code)?;
            CURRENT.set(self.context.0);
        }
        Ok(())
    }

    /// Makes an image's kernels known. The image is whole: the driver does not ask for its length.
    pub(crate) fn load_module(&self, image: &[u8]) -> Result<Handle, GpuError> {
        let mut module = Handle::NONE;
        // SAFETY: the image is a cubin, or PTX that ends in a zero byte; the driver copies it.
        self.call("cuModuleLoadData", |api| unsafe {
            (api.load_module)(&raw mut module.0, image.as_ptr().cast())
        })?;
        Ok(module)
    }

    /// A kernel of a module, whose one argument has `args_bytes` bytes.
    pub(crate) fn function(
        &self,
        module: Handle,
        name: &CStr,
        args_bytes: usize,
    ) -> Result<Handle, GpuError> {
        let mut function = Handle::NONE;
        // SAFETY: the module is never unloaded, and the name ends in a zero byte.
        self.call("cuModuleGetFunction", |api| unsafe {
            (api.get_function)(&raw mut function.0, module.0, name.as_ptr())
        })?;
        let (mut offset, mut bytes) = (0, 0);
        // SAFETY: the function is of that module; it has at least one parameter.
        self.call("cuFuncGetParamInfo", |api| unsafe {
            (api.parameter_info)(function.0, 0, &raw mut offset, &raw mut bytes)
        })?;
        if (offset, bytes) != (0, args_bytes) {
            return Err(GpuError::Arguments {
                kernel: name.to_string_lossy().into_owned(),
                kernel_bytes: bytes,
                host_bytes: args_bytes,
            });
        }
        Ok(function)
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.forget_graphs();
        // SAFETY: both were made in `open` and nothing else holds them: all that does keeps `self` alive.
        // Errors have nobody to go to.
        self.give_back(|api| unsafe { (api.destroy_stream)(self.stream.0) });
        // SAFETY: as above.
        let _ = unsafe { (self.api.release_context)(self.ordinal) };
        CURRENT.set(std::ptr::null_mut());
    }
}

/// An error unless the driver returned success.
fn check(api: &Api, call: &'static str, code: i32) -> Result<(), GpuError> {
    if code == 0 {
        return Ok(());
    }
    let mut text: *const c_char = std::ptr::null();
    // SAFETY: the driver writes a pointer to a constant string, or leaves it null.
    let reason = unsafe {
        let _ = (api.error_string)(code, &raw mut text);
        if text.is_null() {
            "an unknown error".to_owned()
        } else {
            CStr::from_ptr(text).to_string_lossy().into_owned()
        }
    };
    Err(GpuError::Call { call, code, reason })
}
