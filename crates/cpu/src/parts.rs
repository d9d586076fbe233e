//! A buffer that the tasks of one region write in disjoint parts.

use std::marker::PhantomData;
use std::ops::Range;

/// A mutable slice that several threads may write at once, each its own part.
pub(crate) struct Parts<'a, T> {
    start: *mut T,
    len: usize,
    owner: PhantomData<&'a mut [T]>,
}

// SAFETY: a part is handed out as a slice of T to one thread at a time, as the contract of `part`
// demands; that is what T: Send allows.
unsafe impl<T: Send> Sync for Parts<'_, T> {}

impl<'a, T> Parts<'a, T> {
    pub(crate) fn new(all: &'a mut [T]) -> Self {
        Self {
            start: all.as_mut_ptr(),
            len: all.len(),
            owner: PhantomData,
        }
    }

    /// The values at `range`.
    ///
    /// # Panics
    /// If the range is out of bounds.
    ///
    /// # Safety
    /// As long as the slice lives, no other part that overlaps it may be taken.
    #[expect(
        clippy::mut_from_ref,
        reason = "disjointness is the caller's promise; that is what the type is for"
    )]
    pub(crate) unsafe fn part(&self, range: Range<usize>) -> &mut [T] {
        assert!(range.start <= range.end && range.end <= self.len);
        // SAFETY: in bounds by the assertion; unaliased by the caller's promise; the owner's
        // borrow outlives self.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }

    /// The place of value `index` or the end, for kernels that write parts which are no slices.
    ///
    /// # Panics
    /// If it is beyond the end.
    pub(crate) fn at(&self, index: usize) -> *mut T {
        assert!(index <= self.len);
        // SAFETY: within the buffer or at its end, by the assertion.
        unsafe { self.start.add(index) }
    }
}
