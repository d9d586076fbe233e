//! Bytes on their way to the device.
//!
//! The driver does not promise when an asynchronous copy reads plain host memory. So bytes go by way of a
//! ring of pinned memory, and may change as soon as they were handed over. Weights go another road
//! ([`crate::copies`]).

use std::sync::{Arc, Mutex, PoisonError};

use crate::driver::{Driver, Event, Memory, Pinned};
use crate::error::GpuError;

/// Slots of the ring. A step's uploads are few and small, so they do not wait for each other.
const SLOTS: usize = 8;
const SLOT_BYTES: usize = 256 << 10;

/// A device's ring.
pub(crate) struct Uploads {
    driver: Arc<Driver>,
    ring: Mutex<Ring>,
}

#[derive(Default)]
struct Ring {
    slots: Vec<Slot>,
    /// The slot that was taken longest ago, once there are all.
    oldest: usize,
}

/// Pinned memory that the device reads.
pub(crate) struct Slot {
    pub(crate) pinned: Pinned,
    /// Reached when the device has read it.
    pub(crate) read: Option<Event>,
}

impl Slot {
    pub(crate) fn new(driver: &Arc<Driver>, bytes: usize) -> Result<Self, GpuError> {
        Ok(Self {
            pinned: driver.pinned(bytes)?,
            read: None,
        })
    }

    /// Whether the device has read it.
    pub(crate) fn is_read(&self) -> Result<bool, GpuError> {
        self.read.as_ref().map_or(Ok(true), Event::is_reached)
    }

    /// Waits until the device has read it.
    pub(crate) fn wait(&mut self) -> Result<(), GpuError> {
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
            self.slots.push(Slot::new(driver, SLOT_BYTES)?);
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
            ring: Mutex::default(),
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
                self.driver.upload(to, at, &slot.pinned, piece.len())?;
            }
            match Event::record(&self.driver) {
                Ok(event) => slot.read = Some(event),
                Err(error) => {
                    // The copy may be on its way all the same.
                    let _ = self.driver.synchronise();
                    return Err(error);
                }
            }
        }
        Ok(())
    }
}
