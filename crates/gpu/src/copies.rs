//! Weights that are brought while the device computes: on a stream of their own, by way of pinned memory of
//! their own.

use std::sync::{Arc, Mutex, PoisonError};

use crate::args;
use crate::driver::{Driver, Event, Handle, Memory, Stream};
use crate::error::GpuError;
use crate::uploads::Uploads;

/// A device's copies.
pub(crate) struct Copies {
    driver: Arc<Driver>,
    stream: Arc<Stream>,
    /// Bytes on their way, in this stream's order.
    pub(crate) uploads: Uploads,
    /// Where blocks lie before they are laid out in planes. Its uses are in the stream's order.
    stage: Mutex<Option<Memory>>,
}

impl Copies {
    /// Blocks that are laid out at a time.
    pub(crate) const STAGE: usize = 4 << 20;

    pub(crate) fn new(driver: &Arc<Driver>) -> Result<Self, GpuError> {
        let stream = Arc::new(Stream::new(driver)?);
        Ok(Self {
            driver: Arc::clone(driver),
            uploads: Uploads::beside(Arc::clone(driver), Arc::clone(&stream)),
            stream,
            stage: Mutex::default(),
        })
    }

    /// Has what is brought from now on come after a point of the device's other work.
    pub(crate) fn after(&self, point: &Event) -> Result<(), GpuError> {
        self.stream.wait_for(point)
    }

    /// The same for all work that was asked for so far.
    pub(crate) fn after_all(&self) -> Result<(), GpuError> {
        self.after(&Event::record(&self.driver)?)
    }

    /// Marks the point at which all that was brought is there.
    pub(crate) fn mark(&self) -> Result<Event, GpuError> {
        self.stream.mark()
    }

    /// Brings blocks and lays them out.
    ///
    /// # Safety
    /// `function` is the kernel that does it, in so many blocks, and `args`, but for where blocks are, what it
    /// takes.
    pub(crate) unsafe fn repack(
        &self,
        function: Handle,
        bytes: &[u8],
        blocks: u32,
        args: args::Repack,
    ) -> Result<(), GpuError> {
        let mut stage = self.stage.lock().unwrap_or_else(PoisonError::into_inner);
        // A single row may be longer.
        if stage
            .as_ref()
            .is_none_or(|stage| stage.bytes() < bytes.len())
        {
            *stage = None;
            *stage = Some(self.driver.allocate(bytes.len().max(Self::STAGE))?);
        }
        let Some(stage) = &*stage else {
            return Ok(());
        };
        self.uploads.send(stage, 0, bytes)?;
        let args = args::Repack {
            blocks: stage.address(),
            ..args
        };
        if blocks > 0 {
            // SAFETY: the stage holds the blocks; the rest is the caller's promise.
            unsafe { self.stream.launch(function, blocks, 128, &args)? };
        }
        Ok(())
    }
}
