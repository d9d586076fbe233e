//! Where a panel's bytes come from: rows as they lie in the file, or their words side by side.

use super::words::Rows;
use crate::simd::Simd;

/// The bytes of a block of a panel's rows. What is read of each row becomes its lane.
///
/// Methods are generic, and not the trait, so that a kernel can name a source without naming an
/// instruction set.
pub(crate) trait Source: Copy {
    /// Whether rows lie as they are stored.
    const IS_STORED: bool;

    /// The same rows, `bytes` bytes further on in each.
    fn skip<S: Simd>(self, bytes: usize) -> Self;

    /// The next four words.
    ///
    /// # Safety
    /// Each row must have 16 bytes. They must be words in the format's layout.
    unsafe fn words_4<S: Simd>(self, s: S) -> [S::I; 4];

    /// The next eight words.
    ///
    /// # Safety
    /// Each row must have 32 bytes. They must be words in the format's layout.
    unsafe fn words_8<S: Simd>(self, s: S) -> [S::I; 8];

    /// The next 16 bits.
    ///
    /// # Safety
    /// Each row must have 2 bytes. They must be a half in the format's layout.
    unsafe fn half<S: Simd>(self, s: S) -> S::I;

    /// The next byte.
    ///
    /// # Safety
    /// Each row must have a byte. It must be a byte in the format's layout.
    unsafe fn byte<S: Simd>(self, s: S) -> S::I;

    /// The next three words and the 16 bits behind them.
    ///
    /// # Safety
    /// Each row must have 14 bytes, and two before them. They must be three words and a half in the
    /// format's layout.
    unsafe fn words_3_and_half<S: Simd>(self, s: S) -> ([S::I; 3], S::I);

    /// The rows, for formats that read them one by one.
    ///
    /// # Panics
    /// If rows are interleaved, which those of formats without a layout never are.
    fn rows(self) -> Rows;
}

impl Source for Rows {
    const IS_STORED: bool = true;

    #[inline(always)]
    fn skip<S: Simd>(self, bytes: usize) -> Self {
        Rows::skip(self, bytes)
    }

    #[inline(always)]
    unsafe fn words_4<S: Simd>(self, s: S) -> [S::I; 4] {
        // SAFETY: as the caller promises.
        unsafe { s.transpose_16(self) }
    }

    #[inline(always)]
    unsafe fn words_8<S: Simd>(self, s: S) -> [S::I; 8] {
        // SAFETY: as the caller promises.
        unsafe { s.transpose_32(self) }
    }

    #[inline(always)]
    unsafe fn half<S: Simd>(self, s: S) -> S::I {
        // SAFETY: as the caller promises.
        unsafe { s.gather_halves(self) }
    }

    #[inline(always)]
    unsafe fn byte<S: Simd>(self, s: S) -> S::I {
        // SAFETY: as the caller promises.
        unsafe { s.gather_bytes(self) }
    }

    #[inline(always)]
    unsafe fn words_3_and_half<S: Simd>(self, s: S) -> ([S::I; 3], S::I) {
        // Sixteen bytes that end with these.
        let before = Self {
            first: self.first.wrapping_sub(2),
            ..self
        };
        // SAFETY: as the caller promises.
        let [a, b, c, d] = unsafe { s.transpose_16(before) };
        let joined = |a, b| s.or(s.shift_right(a, 16), s.shift_left(b, 16));
        (
            [joined(a, b), joined(b, c), joined(c, d)],
            s.shift_right(d, 16),
        )
    }

    #[inline(always)]
    fn rows(self) -> Rows {
        self
    }
}

/// A panel whose rows are interleaved: byte `at` of all rows' blocks begins at byte `LANES * at`,
/// and each word, half or byte of the format's layout lies beside that of the next row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Interleaved(pub(crate) *const u8);

impl Interleaved {
    #[inline(always)]
    unsafe fn word<S: Simd>(self, s: S, word: usize) -> S::I {
        // SAFETY: as the caller promises.
        unsafe { s.read_words(self.0.wrapping_add(word * 4 * S::LANES)) }
    }
}

impl Source for Interleaved {
    const IS_STORED: bool = false;

    #[inline(always)]
    fn skip<S: Simd>(self, bytes: usize) -> Self {
        Self(self.0.wrapping_add(bytes * S::LANES))
    }

    #[inline(always)]
    unsafe fn words_4<S: Simd>(self, s: S) -> [S::I; 4] {
        let mut words = [s.splat_words(0); 4];
        for index in 0..4 {
            // SAFETY: as the caller promises.
            words[index] = unsafe { self.word(s, index) };
        }
        words
    }

    #[inline(always)]
    unsafe fn words_8<S: Simd>(self, s: S) -> [S::I; 8] {
        let mut words = [s.splat_words(0); 8];
        for index in 0..8 {
            // SAFETY: as the caller promises.
            words[index] = unsafe { self.word(s, index) };
        }
        words
    }

    #[inline(always)]
    unsafe fn half<S: Simd>(self, s: S) -> S::I {
        // SAFETY: as the caller promises.
        unsafe { s.read_halves(self.0) }
    }

    #[inline(always)]
    unsafe fn byte<S: Simd>(self, s: S) -> S::I {
        // SAFETY: as the caller promises.
        unsafe { s.read_bytes(self.0) }
    }

    #[inline(always)]
    unsafe fn words_3_and_half<S: Simd>(self, s: S) -> ([S::I; 3], S::I) {
        // SAFETY: as the caller promises.
        unsafe {
            let words = [self.word(s, 0), self.word(s, 1), self.word(s, 2)];
            (words, self.skip::<S>(12).half(s))
        }
    }

    fn rows(self) -> Rows {
        unreachable!("types whose rows are decoded one by one are not interleaved")
    }
}
