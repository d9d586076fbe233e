//! Weights on their way to the device, beside its other work.
//!
//! They go by way of pinned memory of their own, which several threads fill ([`crate::fillers`]), in an order
//! of their own. Quantised ones lie on a stage until they are laid out in planes: that is done on a second
//! stream, so that the link does not wait for it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::args;
use crate::driver::{Driver, Event, Handle, Memory, Stream};
use crate::error::GpuError;
use crate::fillers::{self, Source};
use crate::parts::{Part, Parts};
use crate::uploads::Slot;

/// Pinned slots: those that threads fill, those that the device reads, and some in between.
const SLOTS: usize = 16;
/// Bytes of a slot, unless a row is longer: many enough for few calls of the driver, few enough that the
/// device soon has something to do.
const SLOT_BYTES: usize = 1 << 20;
/// While one is laid out, bytes come to the other.
const STAGES: usize = 2;

/// A device's copies.
pub(crate) struct Copies {
    lanes: Mutex<Lanes>,
    driver: Arc<Driver>,
    /// In whose order bytes come, and in whose they are laid out.
    coming: Stream,
    laying: Stream,
}

/// Memory by way of which weights come.
struct Lanes {
    slot_bytes: usize,
    /// Slots that the device reads or has read: the one that was asked to be read first at the front.
    read: VecDeque<Slot>,
    /// Slots that there are, those that are being filled too.
    slots: usize,
    stages: [Option<Stage>; STAGES],
    /// The stage that was used longest ago.
    oldest: usize,
}

/// Where blocks lie before they are laid out.
struct Stage {
    memory: Memory,
    /// The point at which they are.
    laid: Option<Event>,
}

/// A slot and what it is for.
pub(crate) struct Job<'a> {
    slot: Slot,
    parts: Vec<Part<'a>>,
}

impl Copies {
    pub(crate) fn new(driver: &Arc<Driver>) -> Result<Self, GpuError> {
        Self::of_slots(driver, SLOT_BYTES)
    }

    /// By way of slots of this size.
    pub(crate) fn of_slots(driver: &Arc<Driver>, bytes: usize) -> Result<Self, GpuError> {
        Ok(Self {
            lanes: Mutex::new(Lanes::new(bytes)),
            driver: Arc::clone(driver),
            coming: Stream::new(driver)?,
            laying: Stream::new(driver)?,
        })
    }

    /// Has what is brought from now on come after a point of the device's other work.
    pub(crate) fn after(&self, point: &Event) -> Result<(), GpuError> {
        self.coming.wait_for(point)?;
        self.laying.wait_for(point)
    }

    /// The same for all work that was asked for so far.
    pub(crate) fn after_all(&self) -> Result<(), GpuError> {
        self.after(&Event::record(&self.driver)?)
    }

    /// Marks the point at which all that was brought is there.
    pub(crate) fn mark(&self) -> Result<Event, GpuError> {
        self.laying.wait_for(&self.coming.mark()?)?;
        self.laying.mark()
    }

    /// Brings parts of matrices, which the caller and so many threads put into pinned memory. What they are
    /// read from may change as soon as this returns.
    ///
    /// # Safety
    /// `repack` is the kernel that lays out blocks; there is one if any are.
    pub(crate) unsafe fn bring(
        &self,
        parts: Parts<'_>,
        helpers: usize,
        repack: Option<Handle>,
    ) -> Result<(), GpuError> {
        let mut lanes = self.lock();
        if parts.longest_row() > lanes.slot_bytes {
            *lanes = Lanes::new(parts.longest_row());
        }
        let mut bringing = Bringing {
            copies: self,
            lanes: &mut lanes,
            parts,
            repack,
        };
        let brought = fillers::fill_all(&mut bringing, helpers, Job::fill);
        if brought.is_err() {
            lanes.forget_lost();
        }
        brought
    }

    fn lock(&self) -> MutexGuard<'_, Lanes> {
        // What slots' and stages' events stand for is right at any time.
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        lanes.forget_lost();
        lanes
    }

    /// Waits for all of it.
    fn synchronise(&self) -> Result<(), GpuError> {
        self.coming.synchronise()?;
        self.laying.synchronise()
    }
}

impl Lanes {
    fn new(slot_bytes: usize) -> Self {
        Self {
            slot_bytes,
            read: VecDeque::new(),
            slots: 0,
            stages: [None, None],
            oldest: 0,
        }
    }

    /// Counts the slots anew, of which an error or a panic may have taken some.
    fn forget_lost(&mut self) {
        self.slots = self.read.len();
    }

    /// A slot that may be filled, if there is one or it is to wait for one.
    fn slot(&mut self, driver: &Arc<Driver>, wait: bool) -> Result<Option<Slot>, GpuError> {
        let is_read = match self.read.front() {
            Some(slot) => slot.is_read()?,
            None => false,
        };
        if !is_read && self.slots < SLOTS {
            match Slot::new(driver, self.slot_bytes) {
                Ok(slot) => {
                    self.slots += 1;
                    return Ok(Some(slot));
                }
                // The system may not pin as much: those that there are do.
                Err(error) if wait && self.read.is_empty() => return Err(error),
                Err(_) => {}
            }
        }
        if !is_read && !wait {
            return Ok(None);
        }
        let Some(mut slot) = self.read.pop_front() else {
            return Ok(None);
        };
        slot.wait()?;
        Ok(Some(slot))
    }

    /// The stage to be used next, as large as a slot.
    fn stage(&mut self, driver: &Arc<Driver>) -> Result<&mut Stage, GpuError> {
        let stage = &mut self.stages[self.oldest];
        self.oldest = (self.oldest + 1) % STAGES;
        match stage {
            Some(stage) => Ok(stage),
            none => {
                let memory = driver.allocate(self.slot_bytes)?;
                Ok(none.insert(Stage { memory, laid: None }))
            }
        }
    }
}

impl Job<'_> {
    fn fill(&mut self) {
        let bytes = self.slot.pinned.bytes();
        self.parts.iter().for_each(|part| part.write(bytes));
    }
}

/// Parts that are brought.
struct Bringing<'l, 'a> {
    copies: &'l Copies,
    lanes: &'l mut Lanes,
    parts: Parts<'a>,
    repack: Option<Handle>,
}

impl<'a> Source for Bringing<'_, 'a> {
    type Job = Job<'a>;
    type Error = GpuError;

    fn next(&mut self, wait: bool) -> Result<Option<Job<'a>>, GpuError> {
        if self.parts.is_empty() {
            return Ok(None);
        }
        let slot = self.lanes.slot(&self.copies.driver, wait)?;
        Ok(slot.map(|slot| Job {
            parts: self.parts.next(self.lanes.slot_bytes),
            slot,
        }))
    }

    fn take(&mut self, job: Job<'a>) -> Result<(), GpuError> {
        let Job { mut slot, parts } = job;
        match self.ask(&slot, &parts) {
            Ok(read) => {
                slot.read = Some(read);
                self.lanes.read.push_back(slot);
                Ok(())
            }
            Err(error) => {
                // Some of it may be on its way all the same. If the device does not say that it has come,
                // the slot is nobody's for good.
                if self.copies.synchronise().is_err() {
                    std::mem::forget(slot);
                }
                Err(error)
            }
        }
    }
}

impl Bringing<'_, '_> {
    /// Asks the device to read a slot and to lay out what it is for; returns the point at which it was read.
    fn ask(&mut self, slot: &Slot, parts: &[Part<'_>]) -> Result<Event, GpuError> {
        let (coming, laying) = (&self.copies.coming, &self.copies.laying);
        if let [part] = parts
            && !part.is_blocks()
        {
            let (to, at) = part.place();
            // SAFETY: a slot is neither written nor freed before the event after the copy is reached.
            unsafe { coming.upload(to, at, &slot.pinned, part.bytes())? };
            return coming.mark();
        }
        let stage = self.lanes.stage(&self.copies.driver)?;
        if let Some(laid) = &stage.laid {
            coming.wait_for(laid)?;
        }
        let bytes = parts.iter().map(Part::end).max().unwrap_or(0);
        // SAFETY: as above.
        unsafe { coming.upload(&stage.memory, 0, &slot.pinned, bytes)? };
        let read = coming.mark()?;
        laying.wait_for(&read)?;
        for part in parts {
            let args = args::Repack {
                blocks: stage.memory.part(part.start(), part.bytes()),
                ..part.repack()
            };
            let blocks = part.groups().div_ceil(128) as u32;
            if let Some(repack) = self.repack {
                // SAFETY: the stage holds the part's blocks until the event below; the kernel and the matrix
                // were promised.
                unsafe { laying.launch(repack, blocks, 128, &args)? };
            }
        }
        stage.laid = Some(laying.mark()?);
        Ok(read)
    }
}
