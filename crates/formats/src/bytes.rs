//! Byte ranges that share their owner, a memory map or a buffer, and large memory of our own.
//!
//! A weight of a 20 GB file is a [`SharedBytes`] into the file's map. Cloning and slicing copy
//! nothing; the map lives as long as its last slice. A [`LargeBuffer`] is zeroed memory in huge
//! pages, for what is too large for a `Vec` to be fast.

use std::fs::File;
use std::io;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut, Range};
use std::path::Path;
use std::sync::Arc;

/// A cheap-to-clone, read-only range of bytes that keeps its owner alive.
#[derive(Clone)]
pub struct SharedBytes {
    owner: Arc<Owner>,
    range: Range<usize>,
}

enum Owner {
    Static(&'static [u8]),
    Vec(Vec<u8>),
    File(memmap2::Mmap, File),
    Memory(LargeBuffer<u8>),
}

impl Owner {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Static(bytes) => bytes,
            Self::Vec(bytes) => bytes,
            Self::File(map, _) => map,
            Self::Memory(buffer) => buffer,
        }
    }
}

impl SharedBytes {
    fn all_of(owner: Owner) -> Self {
        Self {
            range: 0..owner.bytes().len(),
            owner: Arc::new(owner),
        }
    }

    /// Takes over a buffer.
    pub fn from_vec(bytes: Vec<u8>) -> Self {
        Self::all_of(Owner::Vec(bytes))
    }

    /// Takes over a large buffer.
    pub fn from_large(buffer: LargeBuffer<u8>) -> Self {
        Self::all_of(Owner::Memory(buffer))
    }

    /// Refers to bytes that live as long as the program, such as an embedded file.
    pub fn from_static(bytes: &'static [u8]) -> Self {
        Self::all_of(Owner::Static(bytes))
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
        Ok(Self::all_of(Owner::File(map, file)))
    }

    /// Whether this is a map of a file, whose pages the system may still have to read.
    pub fn is_mapped(&self) -> bool {
        matches!(*self.owner, Owner::File(..))
    }

    /// Asks the system to map these bytes in huge pages, where it has them in such. A file that
    /// is read for the first time afterwards is cached in huge pages too.
    pub fn prefer_huge_pages(&self) {
        #[cfg(target_os = "linux")]
        self.advise(memmap2::Advice::HugePage);
    }

    /// Waits until the system has these bytes in memory and this process has them mapped, so that
    /// reading them takes no page faults. Does nothing for bytes of our own or on other systems.
    pub fn populate(&self) {
        #[cfg(target_os = "linux")]
        self.advise(memmap2::Advice::PopulateRead);
    }

    /// Asks the system to begin reading these bytes from the file, and does not wait for it.
    pub fn will_need(&self) {
        #[cfg(unix)]
        self.advise(memmap2::Advice::WillNeed);
    }

    /// Advice changes no bytes and what becomes of it is the system's choice: errors say that
    /// it does not know this one.
    #[cfg(unix)]
    fn advise(&self, advice: memmap2::Advice) {
        if let Owner::File(map, _) = &*self.owner {
            let _ = map.advise_range(advice, self.range.start, self.range.len());
        }
    }

    /// Tells the system that these bytes of a mapped file will hardly be read any more: their pages
    /// count no longer as this process's, and may be dropped. Whoever does read them finds them as
    /// they were. Does nothing for bytes of our own.
    pub fn release(&self) {
        #[cfg(unix)]
        if let Owner::File(map, _) = &*self.owner {
            let advice = memmap2::UncheckedAdvice::DontNeed;
            let (start, len) = (self.range.start, self.range.len());
            #[expect(
                unsafe_code,
                reason = "advice that is unsafe for maps that are written"
            )]
            // SAFETY: a read-only map of a file has the file's bytes again after this.
            let _ = unsafe { map.unchecked_advise_range(advice, start, len) };
        }
    }

    /// Asks the system to drop what it keeps in memory of the whole file these bytes are of, except
    /// what a process has mapped and present. Does nothing for bytes of our own.
    pub fn drop_cached_file(&self) {
        #[cfg(target_os = "linux")]
        if let Owner::File(_, file) = &*self.owner {
            // Advice: whether the system takes it is its choice.
            let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed);
        }
    }

    /// Whether both are parts of the same file or buffer.
    pub fn shares_owner(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.owner, &other.owner)
    }

    /// Keeps these bytes in memory as long as their owner lives; of a buffer of our own, all of it.
    ///
    /// # Errors
    /// Whatever the system says: mostly that more would be locked than is allowed.
    pub fn lock(&self) -> io::Result<()> {
        #[cfg(unix)]
        match &*self.owner {
            Owner::File(map, _) => {
                /// Pages are no larger where files are mapped.
                const PAGE: usize = 64 << 10;
                let first = self.range.start - self.range.start % PAGE;
                let pages = &map[first..self.range.end];
                #[expect(unsafe_code, reason = "a call that takes an address")]
                // SAFETY: the map has these bytes; locking them changes none.
                unsafe {
                    rustix::mm::mlock(pages.as_ptr().cast_mut().cast(), pages.len())?;
                }
            }
            Owner::Memory(LargeBuffer { map: Some(map), .. }) => map.lock()?,
            _ => {}
        }
        Ok(())
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
        &self.owner.bytes()[self.range.clone()]
    }
}

impl std::fmt::Debug for SharedBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SharedBytes({} bytes)", self.range.len())
    }
}

/// A type of which any bytes are a value, and whose values are nothing but their bytes.
///
/// # Safety
/// That is what an implementation promises.
#[expect(
    unsafe_code,
    reason = "buffers of several types over one kind of memory"
)]
pub unsafe trait Plain: Copy + Send + Sync + 'static {}

macro_rules! plain {
    ($($type:ty),*) => {$(
        #[expect(unsafe_code, reason = "as the trait")]
        // SAFETY: numbers have no padding and no invalid values.
        unsafe impl Plain for $type {}
    )*};
}

plain!(u8, u16, u32, u64, f32);

/// Zeroed memory straight from the system, in huge pages where it gives them.
///
/// With pages of 4 KiB a core that streams through gigabytes spends a fourth of its time on
/// looking up addresses. The system hands out a page when it is first written, near the thread
/// that does; until then it takes no memory.
pub struct LargeBuffer<T> {
    /// `None` for no values: nothing cannot be mapped.
    map: Option<memmap2::MmapMut>,
    len: usize,
    values: PhantomData<T>,
}

impl<T: Plain> LargeBuffer<T> {
    /// Memory for `len` values, all zero.
    ///
    /// # Errors
    /// If the system does not have as much.
    pub fn zeroed(len: usize) -> io::Result<Self> {
        let bytes = len
            .checked_mul(size_of::<T>())
            .ok_or(io::ErrorKind::OutOfMemory)?;
        let map = match bytes {
            0 => None,
            _ => Some(memmap2::MmapMut::map_anon(bytes)?),
        };
        let buffer = Self {
            map,
            len,
            values: PhantomData,
        };
        #[cfg(target_os = "linux")]
        buffer.advise(memmap2::Advice::HugePage);
        Ok(buffer)
    }

    /// The same in pages of the usual size, for comparison and where huge ones are scarce. To be
    /// called before anything is written.
    #[must_use]
    pub fn in_small_pages(self) -> Self {
        #[cfg(target_os = "linux")]
        self.advise(memmap2::Advice::NoHugePage);
        self
    }

    #[cfg(target_os = "linux")]
    fn advise(&self, advice: memmap2::Advice) {
        if let Some(map) = &self.map {
            // A kernel without huge pages refuses, and small ones are as good.
            let _ = map.advise(advice);
        }
    }
}

impl<T: Plain> Deref for LargeBuffer<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        let Some(map) = &self.map else {
            return &[];
        };
        #[expect(unsafe_code, reason = "the bytes of a map as values")]
        // SAFETY: the map has `len` values' bytes, begins at a page and so is aligned, and any
        // bytes are values of a `Plain` type.
        unsafe {
            std::slice::from_raw_parts(map.as_ptr().cast(), self.len)
        }
    }
}

impl<T: Plain> DerefMut for LargeBuffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        let Some(map) = &mut self.map else {
            return &mut [];
        };
        #[expect(unsafe_code, reason = "the bytes of a map as values")]
        // SAFETY: as in `deref`; the map is borrowed mutably.
        unsafe {
            std::slice::from_raw_parts_mut(map.as_mut_ptr().cast(), self.len)
        }
    }
}

impl<T> std::fmt::Debug for LargeBuffer<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LargeBuffer({} values)", self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_buffer_is_zero_and_holds_what_is_written() {
        for len in [0, 1, 5000, 1 << 20] {
            let mut buffer = LargeBuffer::<f32>::zeroed(len).unwrap();
            assert_eq!(buffer.len(), len);
            assert!(buffer.iter().all(|value| *value == 0.0));
            buffer.fill(1.5);
            assert!(buffer.iter().all(|value| *value == 1.5));
        }
        assert!(LargeBuffer::<u64>::zeroed(usize::MAX / 2).is_err());
    }

    #[test]
    fn released_bytes_are_what_they_were() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bytes");
        let content: Vec<u8> = (0..100_077).map(|i| (i % 253) as u8).collect();
        std::fs::write(&path, &content).unwrap();
        let bytes = SharedBytes::map_file(&path).unwrap();
        let own = SharedBytes::from_vec(content.clone());
        for range in [0..content.len(), 5..9_000, 8_192..8_192, 70_000..100_077] {
            for bytes in [&bytes, &own] {
                let part = bytes.slice(range.clone()).unwrap();
                part.release();
                part.drop_cached_file();
                assert!(**bytes == *content);
            }
        }
    }

    #[test]
    fn slices_are_relative_and_checked() {
        let bytes = SharedBytes::from_vec((0..10).collect());
        let part = bytes.slice(2..8).unwrap();
        assert_eq!(&*part.slice(1..3).unwrap(), &[3, 4]);
        assert!(part.slice(0..7).is_none());
        assert_eq!(part.slice(6..6).unwrap().len(), 0);
    }
}
