//! Memory for activations, used again and again: a step makes the same tensors as the step before it.
//! Memory for all else is allocated here too, so that it can have what the pool keeps.
//!
//! Work is done in the order in which it is asked for, so memory may be used again as soon as its tensor is
//! dropped on the host, though the device may not have come so far.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::driver::{Address, Driver, Memory};
use crate::error::GpuError;

/// Free memory by its size.
pub(crate) struct Pool {
    driver: Arc<Driver>,
    free: Mutex<HashMap<usize, Vec<Memory>>>,
}

/// Memory from the pool, which goes back to it.
pub(crate) struct Buffer {
    pool: Arc<Pool>,
    memory: Option<Memory>,
}

impl Pool {
    pub(crate) fn new(driver: Arc<Driver>) -> Arc<Self> {
        Arc::new(Self {
            driver,
            free: Mutex::default(),
        })
    }

    /// At least so many bytes, of any contents.
    pub(crate) fn take(self: &Arc<Self>, bytes: usize) -> Result<Buffer, GpuError> {
        let size = size_of_class(bytes);
        let kept = self.free().get_mut(&size).and_then(Vec::pop);
        let memory = match kept {
            Some(memory) => memory,
            None => self.allocate(size)?,
        };
        Ok(Buffer {
            pool: Arc::clone(self),
            memory: Some(memory),
        })
    }

    /// Memory that does not come back to the pool, of any contents.
    pub(crate) fn allocate(&self, bytes: usize) -> Result<Memory, GpuError> {
        match self.driver.allocate(bytes) {
            Err(GpuError::OutOfMemory { .. }) => {
                // What the pool keeps may be enough.
                self.clear();
                self.driver.allocate(bytes)
            }
            made => made,
        }
    }

    /// Gives back to the driver what is not in use.
    pub(crate) fn clear(&self) {
        self.free().clear();
    }

    fn free(&self) -> MutexGuard<'_, HashMap<usize, Vec<Memory>>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sizes in steps of an eighth, so that few are wasted and many are found again.
fn size_of_class(bytes: usize) -> usize {
    let step = (bytes.next_power_of_two() / 16).max(256);
    bytes.max(1).div_ceil(step) * step
}

impl Buffer {
    pub(crate) fn memory(&self) -> &Memory {
        self.memory
            .as_ref()
            .expect("it is taken out only when dropped")
    }

    pub(crate) fn address(&self) -> Address {
        self.memory().address()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(memory) = self.memory.take() {
            let mut free = self.pool.free();
            free.entry(memory.bytes()).or_default().push(memory);
        }
    }
}
