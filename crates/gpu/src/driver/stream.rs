//! Work beside the driver's own: a second stream, and how the two wait for each other.

use std::ffi::c_void;
use std::sync::Arc;

use super::memory::{Memory, Pinned};
use super::{Driver, Event, Handle};
use crate::error::GpuError;

/// Work in an order of its own, beside the device's other work. Nothing orders the two but events.
pub(crate) struct Stream {
    driver: Arc<Driver>,
    stream: Handle,
}

impl Stream {
    /// Makes a stream whose kernels, which are short, do not queue behind those of other work.
    pub(crate) fn new(driver: &Arc<Driver>) -> Result<Self, GpuError> {
        const NON_BLOCKING: u32 = 1;
        /// Any below 0 is before the driver's own; the device takes the nearest that it has.
        const PRIORITY: i32 = -1;
        let mut stream = Handle::NONE;
        // SAFETY: the place outlives the call.
        driver.call("cuStreamCreateWithPriority", |api| unsafe {
            (api.create_stream_with_priority)(&raw mut stream.0, NON_BLOCKING, PRIORITY)
        })?;
        Ok(Self {
            driver: Arc::clone(driver),
            stream,
        })
    }

    /// As [`Driver::upload`], in this stream's order.
    ///
    /// # Safety
    /// The pinned memory is neither written nor freed before the copy is done.
    pub(crate) unsafe fn upload(
        &self,
        to: &Memory,
        offset: usize,
        from: &Pinned,
        bytes: usize,
    ) -> Result<(), GpuError> {
        // SAFETY: the caller's promise.
        unsafe { self.driver.upload_in(self.stream, to, offset, from, bytes) }
    }

    /// Asks for a kernel to run in blocks of `threads`, in this stream's order.
    ///
    /// # Safety
    /// `args` is what the kernel takes, every address in it is of memory that lives until the kernel has
    /// run, and is as large as the kernel takes it to be.
    pub(crate) unsafe fn launch<A>(
        &self,
        function: Handle,
        blocks: u32,
        threads: u32,
        args: &A,
    ) -> Result<(), GpuError> {
        let mut pointers = [std::ptr::from_ref(args).cast_mut().cast::<c_void>()];
        // SAFETY: the driver copies the argument before it returns; the rest is the caller's promise.
        self.driver.call("cuLaunchKernel", |api| unsafe {
            (api.launch)(
                function.0,
                blocks,
                1,
                1,
                threads,
                1,
                1,
                0,
                self.stream.0,
                pointers.as_mut_ptr(),
                std::ptr::null_mut(),
            )
        })
    }

    /// Marks the point after all that this stream was asked for.
    pub(crate) fn mark(&self) -> Result<Event, GpuError> {
        Event::record_in(&self.driver, self.stream)
    }

    /// Has what this stream is asked for from now on done after a point of other work.
    pub(crate) fn wait_for(&self, point: &Event) -> Result<(), GpuError> {
        self.driver.wait_in(self.stream, point)
    }

    /// Waits until all that this stream was asked for is done.
    pub(crate) fn synchronise(&self) -> Result<(), GpuError> {
        // SAFETY: the stream lives as long as `self`.
        self.driver.call("cuStreamSynchronize", |api| unsafe {
            (api.synchronise_stream)(self.stream.0)
        })
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // SAFETY: made by this driver, destroyed once; the driver does what was asked for all the same.
        self.driver
            .give_back(|api| unsafe { (api.destroy_stream)(self.stream.0) });
    }
}

impl Driver {
    /// Has the driver's own work, from what is asked for next on, done after a point of another stream.
    pub(crate) fn wait_for(&self, point: &Event) -> Result<(), GpuError> {
        self.wait_in(self.stream, point)
    }

    fn wait_in(&self, stream: Handle, point: &Event) -> Result<(), GpuError> {
        // SAFETY: both were made by this driver; the event may be destroyed before it is reached.
        self.call("cuStreamWaitEvent", |api| unsafe {
            (api.wait_event)(stream.0, point.handle().0, 0)
        })
    }
}
