//! Panels: as many weight rows as a vector has lanes, so that each lane computes an output of its
//! own and nothing is ever summed across lanes.
//!
//! Every weight type with an integer kernel is brought to one form per 256 values of a panel's
//! rows: codes interleaved by words of four, and factors. This happens anew whenever weights are
//! used: a block of a panel is unpacked into a [`Sink`], multiplied with all inputs at hand, and
//! forgotten. Bytes are read as they lie in the file, or from a copy of them in the order in which
//! they are wanted (`source`).

use super::source::Source;
use super::words::Bias;
use crate::activations::{ActivationGroup, GROUP};
use crate::prefetch::{self, LINE};
use crate::simd::{MAX_LANES, Simd};

/// Values of a row that are unpacked at once: the longest block of the weight types.
pub(crate) const BLOCK: usize = 256;
/// Groups of values that share a scale of the activations.
pub(crate) const GROUPS: usize = BLOCK / GROUP;
/// Words of four codes per group.
pub(crate) const GROUP_WORDS: usize = GROUP / 4;

/// A weight type's numbers: value i of a block is `scale[i / p] * (code[i] - bias) - min[i / p]`,
/// with p being 32 or 16.
pub(crate) trait Form {
    /// Scales, and minima if any, per 32 values: 1 or 2.
    const PARTS: usize;
    /// Whether there are minima.
    const MINS: bool;
    /// What was added to codes to make them unsigned.
    const BIAS: Bias;
    /// The largest code, with the bias.
    const MOST: usize;

    /// Minus the bias of the sums times the sum of the activations of a part.
    #[inline(always)]
    fn bias_sum(input: &ActivationGroup, part: usize) -> i32 {
        if Self::PARTS == 1 {
            input.bias
        } else {
            input.half_biases[part]
        }
    }

    /// Makes codes with this form's bias such as products want them.
    #[inline(always)]
    fn prepare<S: Simd>(s: S, codes: S::I) -> S::I {
        s.prepare(Self::BIAS, codes)
    }

    /// The sum of the activations' codes of a part.
    #[inline(always)]
    fn sum(input: &ActivationGroup, part: usize) -> f32 {
        if Self::PARTS == 1 {
            input.sum
        } else {
            input.half_sums[part]
        }
    }
}

/// A [`Form`] as a type: formats that share it share the kernels that multiply.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FormOf<const PARTS: usize, const MINS: bool, const BIAS: u8, const MOST: usize>;

impl<const PARTS: usize, const MINS: bool, const BIAS: u8, const MOST: usize> Form
    for FormOf<PARTS, MINS, BIAS, MOST>
{
    const PARTS: usize = PARTS;
    const MINS: bool = MINS;
    const BIAS: Bias = Bias {
        of_codes: BIAS,
        of_sums: if PARTS == 1 { 128 } else { 32 },
    };
    const MOST: usize = MOST;
}

/// What some consecutive bytes of a row are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// As many words of four bytes.
    Words(usize),
    /// As many pairs of bytes.
    Halves(usize),
    /// As many bytes.
    Bytes(usize),
}

/// A weight type with an integer kernel.
pub(crate) trait Format: Sized {
    /// Bytes per 256 values.
    const BYTES: usize;
    /// In what units [`Format::unpack`] reads them, again and again; nothing if rows are always
    /// read one by one.
    const LAYOUT: &[Unit];
    /// Its numbers' form.
    type Form: Form;
    /// The most inputs that are multiplied while codes are in registers.
    const MOST_DIRECT: usize = 8;

    /// Unpacks 256 values of `S::LANES` rows, in any order.
    ///
    /// # Safety
    /// The rows must have `BYTES` bytes each.
    unsafe fn unpack<S: Simd>(s: S, rows: impl Source, sink: &mut impl Sink<S, Self>);
}

/// Where a block's numbers go. A part is what shares a scale: a group of 32 values, or half of one.
pub(crate) trait Sink<S: Simd, F: Format> {
    /// The scales of a part.
    fn scales(&mut self, s: S, group: usize, part: usize, scales: S::F);

    /// The minima of a part.
    fn mins(&mut self, s: S, group: usize, part: usize, mins: S::F);

    /// All codes of a part, prepared.
    fn codes<const WORDS: usize>(&mut self, s: S, group: usize, part: usize, codes: [S::I; WORDS]);

    /// Where bytes lie that will be wanted soon, as many as are being unpacked.
    fn ahead(&self) -> *const u8;

    /// Asks for the part `step` of `steps` of the bytes that will be wanted soon: in the order in
    /// which they lie, since as many streams as a panel has rows defeat the prefetcher, and
    /// between other work, since only so many requests can be under way. Into the first cache it
    /// was half as fast.
    #[inline(always)]
    fn look_ahead(&self, step: usize, steps: usize) {
        let lines = (S::LANES * F::BYTES).div_ceil(LINE);
        for line in lines * step / steps..lines * (step + 1) / steps {
            prefetch::into_second(self.ahead().wrapping_add(line * LINE));
        }
    }
}

/// Blocks that are unpacked before inputs are multiplied with them: few enough that they stay in the
/// first cache, enough that loading and storing outputs costs little.
pub(crate) const BLOCKS_AT_ONCE: usize = 4;

/// Groups of so many blocks.
pub(super) const MOST_GROUPS: usize = GROUPS * BLOCKS_AT_ONCE;

/// A few blocks in memory.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Panel {
    /// `[group, word, lane]` of four codes, in the form that products want.
    codes: [u8; MAX_LANES * BLOCK * BLOCKS_AT_ONCE],
    /// `[group, part, lane]`
    pub(super) scales: [f32; MAX_LANES * MOST_GROUPS * 2],
    /// `[group, part, lane]`, if the format has them.
    pub(super) mins: [f32; MAX_LANES * MOST_GROUPS * 2],
    /// See [`Sink::ahead`].
    pub(crate) ahead: *const u8,
    /// The first group of the block that is being unpacked.
    pub(crate) first_group: usize,
}

impl Panel {
    /// Of unspecified content.
    pub(crate) fn new() -> Self {
        Self {
            codes: [0; MAX_LANES * BLOCK * BLOCKS_AT_ONCE],
            scales: [0.0; MAX_LANES * MOST_GROUPS * 2],
            mins: [0.0; MAX_LANES * MOST_GROUPS * 2],
            ahead: std::ptr::null(),
            first_group: 0,
        }
    }

    /// The vector `index`: with codes, word `index % 8` of group `index / 8` of all rows.
    #[inline(always)]
    pub(crate) fn vector<S: Simd>(&self, s: S, index: usize) -> S::I {
        assert!(index < MOST_GROUPS * GROUP_WORDS);
        // SAFETY: within the codes, which are aligned to the largest vector.
        unsafe { s.load_words(self.codes.as_ptr().add(index * S::LANES * 4)) }
    }

    /// Stores a vector.
    #[inline(always)]
    pub(crate) fn set_vector<S: Simd>(&mut self, s: S, index: usize, value: S::I) {
        assert!(index < MOST_GROUPS * GROUP_WORDS);
        // SAFETY: as in `vector`.
        unsafe { s.store_words(self.codes.as_mut_ptr().add(index * S::LANES * 4), value) };
    }

    /// The scales of a part of a group.
    #[inline(always)]
    pub(crate) fn scales<S: Simd>(&self, s: S, group: usize, part: usize) -> S::F {
        assert!(group < MOST_GROUPS && part < 2);
        // SAFETY: within the scales.
        unsafe { s.load(self.scales.as_ptr().add((group * 2 + part) * S::LANES)) }
    }

    /// The minima of a part of a group.
    #[inline(always)]
    pub(crate) fn mins<S: Simd>(&self, s: S, group: usize, part: usize) -> S::F {
        assert!(group < MOST_GROUPS && part < 2);
        // SAFETY: within the minima.
        unsafe { s.load(self.mins.as_ptr().add((group * 2 + part) * S::LANES)) }
    }

    /// Stores the scales of a part.
    #[inline(always)]
    pub(crate) fn set_scales<S: Simd>(&mut self, s: S, group: usize, part: usize, scales: S::F) {
        assert!(group < MOST_GROUPS && part < 2);
        let at = (group * 2 + part) * S::LANES;
        // SAFETY: within the scales.
        unsafe { s.store(self.scales.as_mut_ptr().add(at), scales) }
    }

    /// Stores the minima of a part.
    #[inline(always)]
    pub(crate) fn set_mins<S: Simd>(&mut self, s: S, group: usize, part: usize, mins: S::F) {
        assert!(group < MOST_GROUPS && part < 2);
        let at = (group * 2 + part) * S::LANES;
        // SAFETY: within the minima.
        unsafe { s.store(self.mins.as_mut_ptr().add(at), mins) }
    }
}

impl<S: Simd, F: Format> Sink<S, F> for Panel {
    #[inline(always)]
    fn scales(&mut self, s: S, group: usize, part: usize, scales: S::F) {
        self.set_scales(s, self.first_group + group, part, scales);
    }

    #[inline(always)]
    fn mins(&mut self, s: S, group: usize, part: usize, mins: S::F) {
        self.set_mins(s, self.first_group + group, part, mins);
    }

    #[inline(always)]
    fn codes<const WORDS: usize>(&mut self, s: S, group: usize, part: usize, codes: [S::I; WORDS]) {
        let first = (self.first_group + group) * GROUP_WORDS + part * WORDS;
        for word in 0..WORDS {
            self.set_vector(s, first + word, codes[word]);
        }
    }

    #[inline(always)]
    fn ahead(&self) -> *const u8 {
        self.ahead
    }
}
