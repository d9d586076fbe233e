//! Work that is recorded once and asked for many times.

use std::sync::Arc;

use super::{Driver, Handle};
use crate::error::GpuError;

/// Recorded work, ready to run.
///
/// It holds addresses, not memory: who launches it keeps that memory.
pub struct Graph {
    driver: Arc<Driver>,
    ready: Handle,
}

/// What was recorded; given back when dropped.
struct Recorded<'a>(&'a Driver, Handle);

impl Drop for Recorded<'_> {
    fn drop(&mut self) {
        // SAFETY: made by this driver, destroyed once.
        let _ = self.0.call("cuGraphDestroy", |api| unsafe {
            (api.destroy_graph)(self.1.0)
        });
    }
}

fn record<E: From<GpuError>>(
    driver: &Driver,
    work: impl FnOnce() -> Result<(), E>,
) -> Result<Recorded<'_>, E> {
    const THREAD_LOCAL: i32 = 1;
    // SAFETY: the stream lives as long as the driver.
    driver.call("cuStreamBeginCapture", |api| unsafe {
        (api.begin_capture)(driver.stream.0, THREAD_LOCAL)
    })?;
    let done = work();
    let mut graph = Handle::NONE;
    // SAFETY: a capture is on; the place outlives the call. It ends also where the work failed.
    driver.call("cuStreamEndCapture", |api| unsafe {
        (api.end_capture)(driver.stream.0, &raw mut graph.0)
    })?;
    let recorded = Recorded(driver, graph);
    done?;
    Ok(recorded)
}

impl Graph {
    /// Records what `work` asks of the driver, without doing it. Work that uploads, downloads or waits
    /// cannot be recorded: what it brings is of this time, not of a launch's.
    ///
    /// # Errors
    /// Those of `work`, and if the driver cannot record it.
    pub fn capture<E: From<GpuError>>(
        driver: &Arc<Driver>,
        work: impl FnOnce() -> Result<(), E>,
    ) -> Result<Self, E> {
        let recorded = record(driver, work)?;
        let mut ready = Handle::NONE;
        // SAFETY: the graph was just recorded; the place outlives the call.
        driver.call("cuGraphInstantiate", |api| unsafe {
            (api.instantiate_graph)(&raw mut ready.0, recorded.1.0, 0)
        })?;
        Ok(Self {
            driver: Arc::clone(driver),
            ready,
        })
    }

    /// Records work of the same shape again, with other arguments.
    ///
    /// # Errors
    /// As [`Graph::capture`], and if the shape differs: then capture a new one.
    pub fn update<E: From<GpuError>>(
        &mut self,
        work: impl FnOnce() -> Result<(), E>,
    ) -> Result<(), E> {
        // `CUgraphExecUpdateResultInfo`: an enum and two pointers.
        let mut result = [0u64; 3];
        let recorded = record(&self.driver, work)?;
        // SAFETY: both graphs live, and the place has the size of the result.
        self.driver.call("cuGraphExecUpdate", |api| unsafe {
            (api.update_graph)(self.ready.0, recorded.1.0, result.as_mut_ptr().cast())
        })?;
        Ok(())
    }

    /// Asks for the recorded work.
    ///
    /// # Safety
    /// All that the work reads and writes is still what it was when it was recorded: no tensor, weight or
    /// page memory of it was dropped, those that were made while recording included, since the pool gives
    /// a dropped tensor's memory to the next.
    ///
    /// # Errors
    /// If the driver fails.
    pub unsafe fn launch(&self) -> Result<(), GpuError> {
        // SAFETY: the graph is ready; the caller keeps its memory.
        self.driver.call("cuGraphLaunch", |api| unsafe {
            (api.launch_graph)(self.ready.0, self.driver.stream.0)
        })
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // SAFETY: made by this driver, destroyed once.
        let _ = self.driver.call("cuGraphExecDestroy", |api| unsafe {
            (api.destroy_ready_graph)(self.ready.0)
        });
    }
}
