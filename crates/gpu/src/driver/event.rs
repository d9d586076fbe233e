//! Points in the order of work that can be asked about.

use std::sync::Arc;

use super::{Driver, Handle};
use crate::error::GpuError;

/// A point in a device's work.
pub struct Event {
    driver: Arc<Driver>,
    event: Handle,
}

impl Event {
    /// Marks the point after all work that was asked for so far.
    ///
    /// # Errors
    /// If the driver fails.
    pub fn record(driver: &Arc<Driver>) -> Result<Self, GpuError> {
        Self::record_in(driver, driver.stream)
    }

    /// The same for the work of any stream.
    pub(super) fn record_in(driver: &Arc<Driver>, stream: Handle) -> Result<Self, GpuError> {
        const NO_TIMING: u32 = 2;
        let mut event = Handle::NONE;
        // SAFETY: the place outlives the call; the stream lives as long as the driver.
        driver.call("cuEventCreate", |api| unsafe {
            (api.create_event)(&raw mut event.0, NO_TIMING)
        })?;
        let made = Self {
            driver: Arc::clone(driver),
            event,
        };
        // SAFETY: both were made by this driver.
        driver.call("cuEventRecord", |api| unsafe {
            (api.record_event)(event.0, stream.0)
        })?;
        Ok(made)
    }

    pub(super) fn handle(&self) -> Handle {
        self.event
    }

    /// Whether the point was reached.
    ///
    /// # Errors
    /// If the work before it failed.
    pub fn is_reached(&self) -> Result<bool, GpuError> {
        const NOT_READY: i32 = 600;
        // SAFETY: made by this driver.
        match self.driver.call("cuEventQuery", |api| unsafe {
            (api.query_event)(self.event.0)
        }) {
            Ok(()) => Ok(true),
            Err(GpuError::Call {
                code: NOT_READY, ..
            }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Waits for the point.
    ///
    /// # Errors
    /// If the work before it failed.
    pub fn wait(&self) -> Result<(), GpuError> {
        // SAFETY: made by this driver.
        self.driver.call("cuEventSynchronize", |api| unsafe {
            (api.synchronise_event)(self.event.0)
        })
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: made by this driver, destroyed once.
        self.driver
            .give_back(|api| unsafe { (api.destroy_event)(self.event.0) });
    }
}
