//! Memory for activations, used again and again. Memory for all else is allocated here too, so that it can
//! have what the pool keeps.
//!
//! Work is done in the order in which it is asked for, so memory may be used again as soon as its tensor is
//! dropped on the host, though the device may not have come so far. A step like the one before it gets the
//! same addresses: always the first that are free. Graphs need not be told anew then.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::driver::{Address, Driver, Memory};
use crate::error::GpuError;

/// Where tensors begin.
const ALIGNMENT: usize = 256;
/// Regions are at least as large as all before them together, from the least to the most.
const LEAST_REGION: usize = 1 << 20;
const MOST_REGION: usize = 64 << 20;

/// Memory of the driver's, in regions that are shared out.
pub(crate) struct Pool {
    driver: Arc<Driver>,
    regions: Mutex<Regions>,
    /// Whether each tensor is memory of its own, for tools that watch over the ends of allocations.
    apart: bool,
}

/// Regions in the order in which they were made.
#[derive(Default)]
struct Regions {
    all: Vec<Region>,
    /// The number of the next.
    next: u64,
}

struct Region {
    number: u64,
    memory: Arc<Memory>,
    /// Free bytes by where they begin. No two pieces touch.
    free: BTreeMap<usize, usize>,
}

/// Memory from the pool, which goes back to it.
pub(crate) struct Buffer {
    pool: Arc<Pool>,
    memory: Arc<Memory>,
    /// Of which region; `None` for memory of its own.
    region: Option<u64>,
    start: usize,
    bytes: usize,
}

impl Region {
    /// The first free bytes that are enough.
    fn take(&mut self, bytes: usize) -> Option<usize> {
        let (&start, &length) = self.free.iter().find(|(_, length)| **length >= bytes)?;
        self.free.remove(&start);
        if length > bytes {
            self.free.insert(start + bytes, length - bytes);
        }
        Some(start)
    }

    fn put_back(&mut self, start: usize, bytes: usize) {
        let (mut start, mut end) = (start, start + bytes);
        if let Some(after) = self.free.remove(&end) {
            end += after;
        }
        if let Some((&before, &length)) = self.free.range(..start).next_back()
            && before + length == start
        {
            start = before;
        }
        self.free.insert(start, end - start);
    }

    fn is_unused(&self) -> bool {
        self.free.get(&0) == Some(&self.memory.bytes())
    }
}

impl Pool {
    pub(crate) fn new(driver: Arc<Driver>, apart: bool) -> Arc<Self> {
        Arc::new(Self {
            driver,
            regions: Mutex::default(),
            apart,
        })
    }

    /// So many bytes, of any contents.
    pub(crate) fn take(self: &Arc<Self>, bytes: usize) -> Result<Buffer, GpuError> {
        if self.apart {
            return Ok(Buffer {
                pool: Arc::clone(self),
                memory: Arc::new(self.allocate(bytes)?),
                region: None,
                start: 0,
                bytes,
            });
        }
        let size = bytes.max(1).next_multiple_of(ALIGNMENT);
        let mut regions = self.regions();
        let found = regions.all.iter_mut().find_map(|region| {
            let start = region.take(size)?;
            Some((region.number, Arc::clone(&region.memory), start))
        });
        let (region, memory, start) = match found {
            Some(found) => found,
            None => self.take_of_new(&mut regions, size)?,
        };
        Ok(Buffer {
            pool: Arc::clone(self),
            memory,
            region: Some(region),
            start,
            bytes,
        })
    }

    /// Of a region that is made for it.
    fn take_of_new(
        &self,
        regions: &mut Regions,
        size: usize,
    ) -> Result<(u64, Arc<Memory>, usize), GpuError> {
        let held: usize = regions.all.iter().map(|region| region.memory.bytes()).sum();
        let wished = held.clamp(LEAST_REGION, MOST_REGION).max(size);
        let memory = match self.driver.allocate(wished) {
            Err(GpuError::OutOfMemory { .. }) => {
                regions.all.retain(|region| !region.is_unused());
                self.driver.allocate(size)?
            }
            made => made?,
        };
        let memory = Arc::new(memory);
        let number = regions.next;
        regions.next += 1;
        let mut region = Region {
            number,
            free: BTreeMap::from([(0, memory.bytes())]),
            memory: Arc::clone(&memory),
        };
        let start = region.take(size).unwrap_or_default();
        regions.all.push(region);
        Ok((number, memory, start))
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

    /// Gives back to the driver the regions of which nothing is in use.
    pub(crate) fn clear(&self) {
        self.regions().all.retain(|region| !region.is_unused());
    }

    fn regions(&self) -> MutexGuard<'_, Regions> {
        self.regions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Buffer {
    pub(crate) fn address(&self) -> Address {
        self.memory.part(self.start, self.bytes)
    }

    /// Its memory, and where in that it begins, for `bytes` of it.
    #[track_caller]
    pub(crate) fn place(&self, bytes: usize) -> (&Memory, usize) {
        assert!(bytes <= self.bytes, "{bytes} bytes of {}", self.bytes);
        (&self.memory, self.start)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let size = self.bytes.max(1).next_multiple_of(ALIGNMENT);
        let mut regions = self.pool.regions();
        let mut all = regions.all.iter_mut();
        if let Some(region) = all.find(|region| Some(region.number) == self.region) {
            region.put_back(self.start, size);
        }
    }
}
