//! Memory of the device, memory of the host that it copies from and to, and the copies.

use std::ffi::c_void;
use std::sync::Arc;

use super::{Address, Driver, Handle};
use crate::error::GpuError;

/// Memory of a device; given back when dropped, after all work that was asked for.
pub(crate) struct Memory {
    driver: Arc<Driver>,
    address: Address,
    bytes: usize,
}

impl Memory {
    /// Where it begins.
    pub(crate) fn address(&self) -> Address {
        self.address
    }

    /// Its size.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The address `offset` bytes on, of which `bytes` more are inside.
    #[track_caller]
    pub(crate) fn part(&self, offset: usize, bytes: usize) -> Address {
        assert!(
            offset
                .checked_add(bytes)
                .is_some_and(|end| end <= self.bytes),
            "{bytes} bytes at {offset} of {} on the device",
            self.bytes
        );
        self.address + offset as u64
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: it was allocated by this driver and is freed once; the driver waits for work that uses it.
        self.driver
            .give_back(|api| unsafe { (api.free)(self.address) });
    }
}

/// Numbers that any bytes are, in the device's order of bytes and the host's alike.
pub(crate) trait Plain {}
impl Plain for u8 {}
impl Plain for u32 {}
impl Plain for f32 {}

/// Memory of the host that the device reads and writes by itself.
pub struct Pinned {
    driver: Arc<Driver>,
    start: *mut c_void,
    bytes: usize,
}

// SAFETY: it is plain memory that this value alone owns.
unsafe impl Send for Pinned {}

impl Pinned {
    /// Its bytes.
    pub fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: the driver gave as many bytes, page-aligned, and `pinned` zeroed them; `&mut self` is the
        // only way to them, and who asks for copies from them promises to wait for these.
        unsafe { std::slice::from_raw_parts_mut(self.start.cast(), self.bytes) }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // SAFETY: allocated by this driver, freed once.
        self.driver
            .give_back(|api| unsafe { (api.free_pinned)(self.start) });
    }
}

impl Driver {
    /// Memory whose contents are anything. [`Pool::allocate`](crate::pool::Pool::allocate) is for all but
    /// the pool: it gives back what is kept unused.
    pub(crate) fn allocate(self: &Arc<Self>, bytes: usize) -> Result<Memory, GpuError> {
        const OUT_OF_MEMORY: i32 = 2;
        let bytes = bytes.max(1);
        let mut address = 0;
        // SAFETY: the place outlives the call.
        let made = self.call("cuMemAlloc", |api| unsafe {
            (api.allocate)(&raw mut address, bytes)
        });
        match made {
            Ok(()) => Ok(Memory {
                driver: Arc::clone(self),
                address,
                bytes,
            }),
            Err(GpuError::Call {
                code: OUT_OF_MEMORY,
                ..
            }) => Err(GpuError::OutOfMemory {
                bytes,
                available: self.memory()?.0,
            }),
            Err(error) => Err(error),
        }
    }

    /// Host memory that the device can reach, zeroed.
    ///
    /// # Errors
    /// If the system does not have as much.
    pub fn pinned(self: &Arc<Self>, bytes: usize) -> Result<Pinned, GpuError> {
        const PORTABLE: u32 = 1;
        let bytes = bytes.max(1);
        let mut start = std::ptr::null_mut();
        // SAFETY: the place outlives the call.
        self.call("cuMemHostAlloc", |api| unsafe {
            (api.allocate_pinned)(&raw mut start, bytes, PORTABLE)
        })?;
        // SAFETY: as many bytes were allocated.
        unsafe { std::ptr::write_bytes(start.cast::<u8>(), 0, bytes) };
        Ok(Pinned {
            driver: Arc::clone(self),
            start,
            bytes,
        })
    }

    /// Asks for the first `bytes` of pinned memory to be copied to device memory.
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
        unsafe { self.upload_in(self.stream, to, offset, from, bytes) }
    }

    /// The same in the order of any stream.
    ///
    /// # Safety
    /// As [`Driver::upload`].
    pub(super) unsafe fn upload_in(
        &self,
        stream: Handle,
        to: &Memory,
        offset: usize,
        from: &Pinned,
        bytes: usize,
    ) -> Result<(), GpuError> {
        assert!(bytes <= from.bytes, "{bytes} bytes of {}", from.bytes);
        if bytes == 0 {
            return Ok(());
        }
        let to = to.part(offset, bytes);
        // SAFETY: both ranges exist; the caller keeps the host's as it is.
        self.call("cuMemcpyHtoDAsync", |api| unsafe {
            (api.copy_to_device)(to, from.start, bytes, stream.0)
        })
    }

    /// Copies device memory to the host, and waits for it.
    pub(crate) fn download<T: Plain>(
        &self,
        from: &Memory,
        offset: usize,
        to: &mut [T],
    ) -> Result<(), GpuError> {
        if to.is_empty() {
            return Ok(());
        }
        let bytes = size_of_val(to);
        let from = from.part(offset, bytes);
        // SAFETY: both ranges exist, any bytes are values of `T`, and the copy is waited for while they are
        // borrowed.
        self.call("cuMemcpyDtoHAsync", |api| unsafe {
            (api.copy_to_host)(to.as_mut_ptr().cast(), from, bytes, self.stream.0)
        })?;
        self.synchronise()
    }

    /// Copies within the device.
    pub(crate) fn copy(
        &self,
        (to, to_offset): (&Memory, usize),
        (from, from_offset): (&Memory, usize),
        bytes: usize,
    ) -> Result<(), GpuError> {
        if bytes == 0 {
            return Ok(());
        }
        let (to, from) = (to.part(to_offset, bytes), from.part(from_offset, bytes));
        // SAFETY: both ranges exist, and are given back only after all work.
        self.call("cuMemcpyDtoDAsync", |api| unsafe {
            (api.copy_on_device)(to, from, bytes, self.stream.0)
        })
    }

    /// Sets device memory to zeros.
    pub(crate) fn clear(
        &self,
        memory: &Memory,
        offset: usize,
        bytes: usize,
    ) -> Result<(), GpuError> {
        if bytes == 0 {
            return Ok(());
        }
        let at = memory.part(offset, bytes);
        // SAFETY: the range exists, and is given back only after all work.
        self.call("cuMemsetD8Async", |api| unsafe {
            (api.fill)(at, 0, bytes, self.stream.0)
        })
    }
}
