//! Reads little-endian numbers and strings one after the other, never past the end.

use super::error::Problem;

/// Longest key or tensor name we accept; the specification's limit for keys.
pub(super) const MAX_NAME_BYTES: u64 = 65_535;

/// A position in a file's bytes.
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Bytes from the start of the file.
    pub(super) fn offset(&self) -> u64 {
        self.at as u64
    }

    pub(super) fn left(&self) -> u64 {
        (self.bytes.len() - self.at) as u64
    }

    /// The next `count` bytes. `what` names them in the error when the file ends before.
    pub(super) fn take(&mut self, count: u64, what: &'static str) -> Result<&'a [u8], Problem> {
        let taken = usize::try_from(count)
            .ok()
            .and_then(|count| self.at.checked_add(count))
            .and_then(|end| self.bytes.get(self.at..end));
        let Some(taken) = taken else {
            return Err(Problem::EndsEarly {
                what,
                offset: self.offset(),
                needed: count,
                left: self.left(),
            });
        };
        self.at += taken.len();
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Problem> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N as u64, what)?);
        Ok(array)
    }

    pub(super) fn u32(&mut self, what: &'static str) -> Result<u32, Problem> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self, what: &'static str) -> Result<u64, Problem> {
        self.array(what).map(u64::from_le_bytes)
    }

    pub(super) fn string(&mut self, what: &'static str) -> Result<&'a str, Problem> {
        let offset = self.offset();
        let length = self.u64(what)?;
        let bytes = self.take(length, what)?;
        std::str::from_utf8(bytes).map_err(|_| Problem::NotUtf8 { what, offset })
    }

    /// A key or tensor name: a string of bounded length.
    pub(super) fn name(&mut self, what: &'static str) -> Result<&'a str, Problem> {
        let offset = self.offset();
        let name = self.string(what)?;
        if name.len() as u64 > MAX_NAME_BYTES {
            return Err(Problem::NameTooLong {
                what,
                offset,
                length: name.len() as u64,
            });
        }
        Ok(name)
    }

    /// Reads a count of things that take at least `least_bytes` each, and refuses one that cannot
    /// fit in what is left: memory is never reserved for a count that the file only claims.
    pub(super) fn count(&mut self, least_bytes: u64, what: &'static str) -> Result<usize, Problem> {
        let offset = self.offset();
        let count = self.u64(what)?;
        self.check_count(count, least_bytes, what, offset)
    }

    /// The check of [`Cursor::count`] for a count that was read before.
    pub(super) fn check_count(
        &self,
        count: u64,
        least_bytes: u64,
        what: &'static str,
        offset: u64,
    ) -> Result<usize, Problem> {
        if count > self.left() / least_bytes.max(1) {
            return Err(Problem::CountTooLarge {
                what,
                offset,
                count,
                left: self.left(),
            });
        }
        // Fits: the bytes that are left fit in memory.
        Ok(count as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_past_the_end_is_an_error_and_moves_nothing() {
        let mut cursor = Cursor::new(&[1, 0, 0, 0, 9]);
        assert_eq!(cursor.u32("number").unwrap(), 1);
        let error = cursor.u32("other number").unwrap_err();
        assert_eq!(
            error.to_string(),
            "ends early: other number at byte 4 needs 4 bytes, 1 left; download the file again"
        );
        assert_eq!(cursor.left(), 1);
    }

    #[test]
    fn counts_are_capped_by_what_is_left() {
        let mut bytes = 3u64.to_le_bytes().to_vec();
        bytes.extend([0; 23]);
        let error = Cursor::new(&bytes).count(8, "things").unwrap_err();
        assert!(matches!(
            error,
            Problem::CountTooLarge {
                count: 3,
                left: 23,
                ..
            }
        ));
        bytes.push(0);
        assert_eq!(Cursor::new(&bytes).count(8, "things").unwrap(), 3);
    }

    #[test]
    fn lengths_near_the_end_of_the_number_range_do_not_overflow() {
        let mut bytes = u64::MAX.to_le_bytes().to_vec();
        bytes.extend([0; 3]);
        assert!(Cursor::new(&bytes).string("text").is_err());
    }
}
