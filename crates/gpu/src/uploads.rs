//! Bytes on their way to the device.
//!
//! The driver does not promise when an asynchronous copy reads plain host memory. So bytes go by way of a
//! ring of pinned memory, and may change as soon as they were handed over.

use std::sync::{Arc, Mutex, PoisonError};

use crate::driver::{Driver, Event, Memory, Pinned, Stream};
use crate::error::GpuError;

/// Slots of the ring. A step's uploads are few and small, so they do not wait for each other.
const SLOTS: usize = 8;
const SLOT_BYTES: usize = 256 << 10;

/// A device's ring.
pub(crate) struct Uploads {
    driver: Arc<Driver>,
    /// In whose order copies are done, if not that of all work.
    stream: Option<Arc<Stream>>,
    ring: Mutex<Ring>,
}

#[derive(Default)]
struct Ring {
    slots: Vec<Slot>,
    /// The slot that was taken longest ago, once there are all.
    oldest: usize,
}

struct Slot {
    pinned: Pinned,
    /// Reached when the device has read the slot.
    read: Option<Event>,
}

impl Slot {
    /// Waits until the device has read it.
    fn wait(&mut self) -> Result<(), GpuError> {
        self.read.take().map_or(Ok(()), |event| event.wait())
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        // An error has nobody to go to.
        let _ = self.wait();
    }
}

impl Ring {
    /// A slot that the device has read.
    fn take(&mut self, driver: &Arc<Driver>) -> Result<&mut Slot, GpuError> {
        if self.slots.len() < SLOTS {
            let pinned = driver.pinned(SLOT_BYTES)?;
            let slot = Slot { pinned, read: None };
            self.slots.push(slot);
            return Ok(self.slots.last_mut().expect("it was just put there"));
        }
        let slot = &mut self.slots[self.oldest];
        self.oldest = (self.oldest + 1) % SLOTS;
        slot.wait()?;
        Ok(slot)
    }
}

impl Uploads {
    pub(crate) fn new(driver: Arc<Driver>) -> Self {
        Self {
            driver,
            stream: None,
            ring: Mutex::default(),
        }
    }

    /// A ring whose copies are beside other work.
    pub(crate) fn beside(driver: Arc<Driver>, stream: Arc<Stream>) -> Self {
        Self {
            stream: Some(stream),
            ..Self::new(driver)
        }
    }

    /// Copies bytes to device memory, in its order. They may change as soon as this returns.
    pub(crate) fn send(&self, to: &Memory, offset: usize, bytes: &[u8]) -> Result<(), GpuError> {
        // What a slot's event stands for is right at any time.
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        for (index, piece) in bytes.chunks(SLOT_BYTES).enumerate() {
            let slot = ring.take(&self.driver)?;
            slot.pinned.bytes()[..piece.len()].copy_from_slice(piece);
            let at = offset + index * SLOT_BYTES;
            // SAFETY: the slot is neither written nor freed before the event after the copy is reached.
            unsafe {
                match &self.stream {
                    None => self.driver.upload(to, at, &slot.pinned, piece.len())?,
                    Some(stream) => stream.upload(to, at, &slot.pinned, piece.len())?,
                }
            }
            let done = match &self.stream {
                None => Event::record(&self.driver),
                Some(stream) => stream.mark(),
            };
            match done {
                Ok(event) => slot.read = Some(event),
                Err(error) => {
                    // The copy may be on its way all the same.
                    let _ = match &self.stream {
                        None => self.driver.synchronise(),
                        Some(stream) => stream.synchronise(),
                    };
                    return Err(error);
                }
            }
        }
        Ok(())
    }
}
