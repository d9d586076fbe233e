//! Buffers of sequence memory: in huge pages where they are large.

use std::fmt;
use std::ops::{Deref, DerefMut};

use formats::LargeBuffer;
use formats::bytes::Plain;

use crate::ops::OpError;

/// From this many bytes on, huge pages pay.
const LARGE: usize = 4 << 20;

/// Numbers that were zero when it was made.
pub struct Buffer<T>(Memory<T>);

enum Memory<T> {
    Small(Vec<T>),
    Large(LargeBuffer<T>),
}

impl<T: Plain + Default> Buffer<T> {
    /// `len` zeros. Memory is taken from the system when it is first written.
    ///
    /// # Errors
    /// If the system does not have as much.
    pub fn zeroed(len: usize) -> Result<Self, OpError> {
        if len.saturating_mul(size_of::<T>()) < LARGE {
            return Ok(Self(Memory::Small(vec![T::default(); len])));
        }
        match LargeBuffer::zeroed(len) {
            Ok(buffer) => Ok(Self(Memory::Large(buffer))),
            Err(error) => Err(OpError::Memory(format!(
                "{len} values cannot be had: {error}; use a smaller context or fewer sequences"
            ))),
        }
    }
}

impl<T> From<Vec<T>> for Buffer<T> {
    fn from(values: Vec<T>) -> Self {
        Self(Memory::Small(values))
    }
}

impl<T: Plain> Deref for Buffer<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match &self.0 {
            Memory::Small(values) => values,
            Memory::Large(values) => values,
        }
    }
}

impl<T: Plain> DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        match &mut self.0 {
            Memory::Small(values) => values,
            Memory::Large(values) => values,
        }
    }
}

impl<T: Plain> Clone for Buffer<T> {
    fn clone(&self) -> Self {
        Self(Memory::Small(self.to_vec()))
    }
}

impl<T: Plain + PartialEq> PartialEq for Buffer<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: Plain> fmt::Debug for Buffer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} values)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_and_large_ones_are_alike() {
        for len in [0, 10, LARGE / 4 - 1, LARGE / 4, LARGE] {
            let mut buffer = Buffer::<f32>::zeroed(len).unwrap();
            assert!(buffer.len() == len && buffer.iter().all(|value| *value == 0.0));
            buffer.fill(1.5);
            assert_eq!(buffer, buffer.clone());
            assert_eq!(buffer, Buffer::from(vec![1.5; len]));
        }
        assert!(Buffer::<f32>::zeroed(usize::MAX / 2).is_err());
    }
}
