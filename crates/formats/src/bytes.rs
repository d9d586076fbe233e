//! Byte ranges that share their owner: a memory map or a buffer.
//!
//! A weight of a 20 GB file is a [`SharedBytes`] into the file's map. Cloning and slicing copy
//! nothing; the map lives as long as its last slice.

use std::fs::File;
use std::io;
use std::ops::{Deref, Range};
use std::path::Path;
use std::sync::Arc;

/// A cheap-to-clone, read-only range of bytes that keeps its owner alive.
#[derive(Clone)]
pub struct SharedBytes {
    owner: Arc<dyn AsRef<[u8]> + Send + Sync>,
    range: Range<usize>,
}

impl SharedBytes {
    /// Takes over a buffer.
    pub fn from_vec(bytes: Vec<u8>) -> Self {
        let range = 0..bytes.len();
        Self {
            owner: Arc::new(bytes),
            range,
        }
    }

    /// Refers to bytes that live as long as the program, such as an embedded file.
    pub fn from_static(bytes: &'static [u8]) -> Self {
        Self {
            owner: Arc::new(bytes),
            range: 0..bytes.len(),
        }
    }

    /// Maps a whole file into memory, read-only.
    ///
    /// # Errors
    /// Whatever the operating system says about opening or mapping the file.
    pub fn map_file(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        if file.metadata()?.len() == 0 {
            // Mapping nothing is an error on Linux; an empty file is simply empty here.
            return Ok(Self::from_vec(Vec::new()));
        }
        #[expect(unsafe_code, reason = "the one memory map of the project")]
        // SAFETY: the map is read-only and private to this process. If another program truncates
        // the file while it is mapped, reads past its new end raise SIGBUS: that ends the process
        // and cannot corrupt it. The README tells users not to overwrite a model in use.
        let map = unsafe { memmap2::Mmap::map(&file)? };
        let range = 0..map.len();
        Ok(Self {
            owner: Arc::new(map),
            range,
        })
    }

    /// The part `range` of these bytes, counted from their start; `None` if it does not fit.
    pub fn slice(&self, range: Range<usize>) -> Option<Self> {
        if range.start > range.end || range.end > self.range.len() {
            return None;
        }
        let start = self.range.start + range.start;
        let end = self.range.start + range.end;
        Some(Self {
            owner: Arc::clone(&self.owner),
            range: start..end,
        })
    }
}

impl Deref for SharedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &(*self.owner).as_ref()[self.range.clone()]
    }
}

impl std::fmt::Debug for SharedBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SharedBytes({} bytes)", self.range.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_are_relative_and_checked() {
        let bytes = SharedBytes::from_vec((0..10).collect());
        let part = bytes.slice(2..8).unwrap();
        assert_eq!(&*part.slice(1..3).unwrap(), &[3, 4]);
        assert!(part.slice(0..7).is_none());
        assert_eq!(part.slice(6..6).unwrap().len(), 0);
    }
}
