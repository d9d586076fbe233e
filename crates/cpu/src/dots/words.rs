//! What an instruction set needs for integer dot products: vectors of 32-bit words, or of four
//! times as many bytes. Kept apart from [`Simd`](crate::simd::Simd) because it is about how weights
//! are stored and multiplied, not about arithmetic on values.

/// The bytes of weight rows: row i begins at `first + i * stride`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rows {
    pub(crate) first: *const u8,
    pub(crate) stride: usize,
}

impl Rows {
    /// Where row `row` begins.
    #[inline(always)]
    pub(crate) fn row(self, row: usize) -> *const u8 {
        self.first.wrapping_add(row * self.stride)
    }

    /// The same rows, some bytes further on.
    #[inline(always)]
    pub(crate) fn skip(self, bytes: usize) -> Self {
        let first = self.first.wrapping_add(bytes);
        Self { first, ..self }
    }
}

/// One instruction set's operations on vectors of `LANES` words.
///
/// Functions that take [`Rows`] read from `LANES` of them, and lane i belongs to row i.
pub(crate) trait Words: Copy {
    /// A vector of f32 lanes.
    type F: Copy;
    /// A vector of words.
    type I: Copy;
    /// Whether interleaved rows are faster than rows as they are stored.
    const INTERLEAVES: bool;
    /// Whether [`Words::dot_short`] is faster than [`Words::dot`].
    const HAS_SHORT_SUMS: bool;
    /// Whether [`Words::dot_four`] is faster than as many [`Words::dot`].
    const HAS_DOTS_OF_FOUR: bool;

    /// # Safety
    /// `from` must point to a vector, aligned to its size.
    unsafe fn load_words(self, from: *const u8) -> Self::I;

    /// # Safety
    /// `to` must point to room for a vector, aligned to its size.
    unsafe fn store_words(self, to: *mut u8, words: Self::I);

    /// A vector of words from anywhere.
    ///
    /// # Safety
    /// `from` must point to `4 * LANES` bytes; no alignment is needed.
    unsafe fn read_words(self, from: *const u8) -> Self::I;

    /// 16 bits for each lane, zeros above them.
    ///
    /// # Safety
    /// `from` must point to `2 * LANES` bytes; no alignment is needed.
    unsafe fn read_halves(self, from: *const u8) -> Self::I;

    /// A byte for each lane, zeros above it.
    ///
    /// # Safety
    /// `from` must point to `LANES` bytes.
    unsafe fn read_bytes(self, from: *const u8) -> Self::I;

    /// All bytes `byte`.
    fn splat_bytes(self, byte: u8) -> Self::I;
    /// All words `word`.
    fn splat_words(self, word: u32) -> Self::I;
    /// `a & b`
    fn and(self, a: Self::I, b: Self::I) -> Self::I;
    /// `a | b`
    fn or(self, a: Self::I, b: Self::I) -> Self::I;
    /// The sum of words.
    fn add_words(self, a: Self::I, b: Self::I) -> Self::I;
    /// The sum of bytes.
    fn add_bytes(self, a: Self::I, b: Self::I) -> Self::I;
    /// Words shifted left.
    fn shift_left(self, a: Self::I, bits: u32) -> Self::I;
    /// Words shifted right, zeros coming in.
    fn shift_right(self, a: Self::I, bits: u32) -> Self::I;
    /// Signed words shifted right.
    fn shift_right_signed(self, a: Self::I, bits: u32) -> Self::I;
    /// A table for [`Words::lookup`].
    fn table(self, entries: &[u8; 16]) -> Self::I;
    /// For each byte, which must be below 16, the entry of a table.
    fn lookup(self, table: Self::I, indices: Self::I) -> Self::I;

    /// Bytes, negated where the lane's `signs` say so: bit `4 * word + i` is that of byte i. `word` is
    /// below 8.
    fn negate(self, bytes: Self::I, signs: Self::I, word: usize) -> Self::I;

    /// The values of signed words.
    fn to_float(self, words: Self::I) -> Self::F;
    /// The f32 whose bits the words are.
    fn as_float(self, words: Self::I) -> Self::F;
    /// The values of the half-precision numbers in the words' low halves.
    fn half_to_float(self, words: Self::I) -> Self::F;

    /// 16 bytes of each row: word w of row i becomes lane i of vector w.
    ///
    /// # Safety
    /// Each row must have 16 bytes.
    unsafe fn transpose_16(self, rows: Rows) -> [Self::I; 4];

    /// 32 bytes of each row: word w of row i becomes lane i of vector w.
    ///
    /// # Safety
    /// Each row must have 32 bytes.
    unsafe fn transpose_32(self, rows: Rows) -> [Self::I; 8];

    /// The first 16 bits of each row.
    ///
    /// # Safety
    /// Each row must have 2 bytes.
    unsafe fn gather_halves(self, rows: Rows) -> Self::I;

    /// The first byte of each row.
    ///
    /// # Safety
    /// Each row must have 1 byte.
    unsafe fn gather_bytes(self, rows: Rows) -> Self::I;

    /// Codes in the form in which [`Words::dot`] wants them. What comes are unsigned bytes: the
    /// codes' values plus `bias.of_codes`. Below 64, unless that bias is above 32.
    fn prepare(self, bias: Bias, codes: Self::I) -> Self::I;

    /// As [`Words::prepare`] for codes that are signed bytes, where the bias is 128.
    fn prepare_signed(self, codes: Self::I) -> Self::I;

    /// What a sum of [`Words::dot`] begins with, so as to make up for the bias of the codes.
    /// `bias_sum` is `-bias.of_sums` times the sum of the activations that will be multiplied.
    fn begin(self, bias: Bias, bias_sum: i32) -> Self::I;

    /// Adds to each lane the products of its four codes and four activations.
    ///
    /// # Safety
    /// `activations` must point to four values.
    unsafe fn dot(
        self,
        bias: Bias,
        sum: Self::I,
        codes: Self::I,
        activations: *const i8,
    ) -> Self::I;

    /// As [`Words::dot`] of four words, one after the other.
    ///
    /// # Safety
    /// `activations` must point to sixteen values.
    #[inline(always)]
    unsafe fn dot_four(
        self,
        bias: Bias,
        sum: Self::I,
        codes: [Self::I; 4],
        activations: *const i8,
    ) -> Self::I {
        let mut sum = sum;
        for word in 0..4 {
            // SAFETY: as the caller promises.
            sum = unsafe { self.dot(bias, sum, codes[word], activations.add(4 * word)) };
        }
        sum
    }

    /// As [`Words::dot`] for unsigned codes, but adds to pairs of 16-bit sums. They must not exceed
    /// their range.
    ///
    /// # Safety
    /// `activations` must point to four values.
    #[inline(always)]
    unsafe fn dot_short(self, sum: Self::I, codes: Self::I, activations: *const i8) -> Self::I {
        let none = Bias {
            of_codes: 0,
            of_sums: 1,
        };
        // SAFETY: as the caller promises.
        unsafe { self.dot(none, sum, codes, activations) }
    }

    /// Adds pairs of 16-bit sums to sums.
    #[inline(always)]
    fn widen(self, sum: Self::I, short: Self::I) -> Self::I {
        self.add_words(sum, short)
    }
}

/// For each byte, within 16, the one that has its bit in [`Words::negate`], by `word / 2`.
pub(crate) static BYTES_OF_SIGNS: [[u8; 16]; 4] = [
    [0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12],
    [1, 1, 1, 1, 5, 5, 5, 5, 9, 9, 9, 9, 13, 13, 13, 13],
    [2, 2, 2, 2, 6, 6, 6, 6, 10, 10, 10, 10, 14, 14, 14, 14],
    [3, 3, 3, 3, 7, 7, 7, 7, 11, 11, 11, 11, 15, 15, 15, 15],
];

/// For each byte of a word its bit in [`Words::negate`].
#[inline(always)]
pub(crate) fn bits_of_signs(word: usize) -> u32 {
    0x0804_0201 << (word % 2 * 4)
}

/// What is added to make signed codes unsigned bytes: 0 or a power of two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bias {
    /// In what a format unpacks.
    pub(crate) of_codes: u8,
    /// In the sums that come with activations. Not 0.
    pub(crate) of_sums: u8,
}
