//! Blocks of a panel times inputs that are taken two by two: [`tile`](super::tile) and
//! [`direct`](super::direct) once more, where vectors are sums of [`Pairs`].

use std::marker::PhantomData;

use super::pair_panel::Woven;
use super::pairs::{Floats, Ints, Pair, PairGroup, Pairs};
use super::panel::{Form, Format, GROUP_WORDS, GROUPS, Panel, Sink};
use super::source::Source;
use super::tile::{Dots, Factors, Span, add_block};
use super::words::Words;
use crate::simd::{PairKernel, Simd};

/// The most pairs of a tile: what the registers hold.
const MOST_PAIRS: usize = 2;
/// Pairs that are multiplied while codes are in registers.
pub(super) const DIRECT_PAIRS: usize = 2;

/// Unpacks blocks of a panel's rows.
pub(super) struct UnpackForPairs<'a, F, B> {
    pub(super) format: PhantomData<F>,
    pub(super) rows: B,
    pub(super) first: usize,
    /// At most as many as a panel takes.
    pub(super) blocks: usize,
    pub(super) panel: &'a mut Panel,
}

impl<F: Format, B: Source> PairKernel for UnpackForPairs<'_, F, B> {
    #[inline(always)]
    fn run<P: Pairs>(self, pairs: P) {
        let s = pairs.simd();
        if !is_reachable::<P, F, B>() {
            unreachable!("no such panel is made");
        }
        for block in 0..self.blocks {
            self.panel.first_group = block * GROUPS;
            let rows = self.rows.skip::<P::Simd>((self.first + block) * F::BYTES);
            let mut sink = Woven(pairs, &mut *self.panel);
            // SAFETY: whoever made this promised it.
            unsafe { F::unpack(s, rows, &mut sink) };
            let bytes = P::Simd::LANES * F::BYTES;
            self.panel.ahead = self.panel.ahead.wrapping_add(bytes);
        }
    }
}

/// So that no code is made for what nobody calls.
const fn is_reachable<P: Pairs, F: Format, B: Source>() -> bool {
    B::IS_STORED || (<P::Simd as Words>::INTERLEAVES && !F::LAYOUT.is_empty())
}

/// Adds the products of a block that was unpacked into memory to the outputs of all inputs.
pub(super) struct TilesOfPairs<'a, F> {
    pub(super) form: PhantomData<F>,
    pub(super) panel: &'a Panel,
    /// The groups in use; fewer than a block has at the end of short rows.
    pub(super) groups: usize,
    pub(super) pairs: &'a [Pair],
    pub(super) span: Span,
}

impl<F: Form> PairKernel for TilesOfPairs<'_, F> {
    #[inline(always)]
    fn run<P: Pairs>(self, pairs: P) {
        let (mut rest, mut tiles) = (self.pairs, self.pairs.len().div_ceil(MOST_PAIRS));
        while tiles > 0 {
            let count = rest.len().div_ceil(tiles);
            let (tile, others) = rest.split_at(count);
            // SAFETY: whoever made this promised that inputs and outputs are as described.
            unsafe {
                match count {
                    1 => self.tile::<P, 2>(pairs, tile),
                    2 => self.tile::<P, 4>(pairs, tile),
                    _ => unreachable!("no tile is larger"),
                }
            }
            rest = others;
            tiles -= 1;
        }
    }
}

impl<F: Form> TilesOfPairs<'_, F> {
    /// # Safety
    /// Inputs and outputs must exist.
    #[inline(always)]
    unsafe fn tile<P: Pairs, const T: usize>(&self, pairs: P, tile: &[Pair]) {
        let tile = PairsOf::<T>::new(tile, self.span);
        let factors = OfPairs(pairs, self.panel, tile.groups);
        let dots = Unpacked::<F, P, T>(PhantomData, pairs, self.panel, tile.groups);
        // SAFETY: as the caller promises.
        unsafe {
            let mut sums = tile.load_sums(pairs);
            add_block::<P::Simd, F, T>(pairs.simd(), self.groups, &factors, &dots, &mut sums);
            tile.store_sums(pairs, sums);
        }
    }
}

/// `T / 2` pairs at a span. Vectors t and t + 1, with t even, are those of a pair.
struct PairsOf<const T: usize> {
    /// For each vector.
    groups: [*const PairGroup; T],
    outputs: [*mut f32; T],
    rows: usize,
    is_first: bool,
}

impl<const T: usize> PairsOf<T> {
    #[inline(always)]
    fn new(pairs: &[Pair], span: Span) -> Self {
        const { assert!(T.is_multiple_of(2)) };
        let mut groups = [std::ptr::null(); T];
        let mut outputs = [std::ptr::null_mut(); T];
        for t in 0..T {
            groups[t] = pairs[t / 2].groups.wrapping_add(span.group);
            outputs[t] = pairs[t / 2].outputs[t % 2];
            if !outputs[t].is_null() {
                outputs[t] = outputs[t].wrapping_add(span.row);
            }
        }
        Self {
            groups,
            outputs,
            rows: span.rows,
            is_first: span.group == 0,
        }
    }

    /// What was summed so far.
    ///
    /// # Safety
    /// The outputs must exist.
    #[inline(always)]
    unsafe fn load_sums<P: Pairs>(&self, pairs: P) -> [Floats<P>; T] {
        let s = pairs.simd();
        let mut sums = [s.splat(0.0); T];
        if self.is_first {
            return sums;
        }
        for t in 0..T {
            if !self.outputs[t].is_null() {
                // SAFETY: outputs have room for the rows.
                sums[t] = unsafe { s.load_up_to(self.outputs[t], self.rows) };
            }
        }
        for t in (0..T).step_by(2) {
            [sums[t], sums[t + 1]] = pairs.weave([sums[t], sums[t + 1]]);
        }
        sums
    }

    /// # Safety
    /// The outputs must exist, and nobody else may use them.
    #[inline(always)]
    unsafe fn store_sums<P: Pairs>(&self, pairs: P, sums: [Floats<P>; T]) {
        let (s, mut sums) = (pairs.simd(), sums);
        for t in (0..T).step_by(2) {
            [sums[t], sums[t + 1]] = pairs.part([sums[t], sums[t + 1]]);
        }
        for t in 0..T {
            if !self.outputs[t].is_null() {
                // SAFETY: outputs have room for the rows.
                unsafe { s.store_up_to(self.outputs[t], sums[t], self.rows) };
            }
        }
    }
}

/// The factors of pairs.
struct OfPairs<'a, P, const T: usize>(P, &'a Panel, [*const PairGroup; T]);

impl<P: Pairs, F: Form, const T: usize> Factors<P::Simd, F> for OfPairs<'_, P, T> {
    #[inline(always)]
    fn scales(&self, s: P::Simd, group: usize, part: usize) -> [Floats<P>; 2] {
        self.1.pair_of_scales(s, group, part)
    }

    #[inline(always)]
    fn mins(&self, s: P::Simd, group: usize, part: usize) -> [Floats<P>; 2] {
        self.1.pair_of_mins(s, group, part)
    }

    #[inline(always)]
    unsafe fn scale(&self, _s: P::Simd, group: usize, t: usize) -> Floats<P> {
        // SAFETY: as the caller promises.
        let scales = unsafe { &(*self.2[t].wrapping_add(group)).scales };
        self.0.of_inputs(scales)[t % 2]
    }

    #[inline(always)]
    unsafe fn sum(&self, _s: P::Simd, group: usize, part: usize, t: usize) -> Floats<P> {
        // SAFETY: as the caller promises.
        let bits = unsafe { &(*self.2[t].wrapping_add(group)).parts[part] };
        let mut sums = [0.0; 4];
        for input in 0..4 {
            sums[input] = f32::from_bits(bits[input]);
        }
        self.0.of_inputs(&sums)[t % 2]
    }
}

/// What the products of a part begin with.
///
/// # Safety
/// The pairs must exist.
#[inline(always)]
unsafe fn begin<P: Pairs, F: Form, const T: usize>(
    pairs: P,
    part: usize,
    groups: &[*const PairGroup; T],
) -> [Ints<P>; T] {
    let mut dots = [pairs.simd().splat_words(0); T];
    for t in (0..T).step_by(2) {
        // SAFETY: as the caller promises.
        let sums = unsafe { &(*groups[t]).parts[part] };
        [dots[t], dots[t + 1]] = pairs.begin(F::BIAS, sums);
    }
    dots
}

/// Adds the products of two words of a group's codes, the first of which is word `word`.
///
/// # Safety
/// The pairs must exist.
#[inline(always)]
unsafe fn add_words<P: Pairs, F: Form, const T: usize>(
    pairs: P,
    dots: &mut [Ints<P>; T],
    codes: [Ints<P>; 2],
    word: usize,
    groups: &[*const PairGroup; T],
) {
    for t in (0..T).step_by(2) {
        // SAFETY: as the caller promises.
        let activations = unsafe { &(*groups[t]).codes[word / 2] };
        let sums = [dots[t], dots[t + 1]];
        [dots[t], dots[t + 1]] = pairs.dot(F::BIAS, sums, codes, activations);
    }
}

/// Products are computed from codes in memory.
struct Unpacked<'a, F, P, const T: usize>(PhantomData<F>, P, &'a Panel, [*const PairGroup; T]);

impl<F: Form, P: Pairs, const T: usize> Dots<P::Simd, T> for Unpacked<'_, F, P, T> {
    #[inline(always)]
    fn part(&self, s: P::Simd, group: usize, part: usize) -> [Ints<P>; T] {
        let mut groups = self.3;
        for pair in &mut groups {
            *pair = pair.wrapping_add(group);
        }
        // SAFETY: the pairs exist.
        unsafe {
            let mut dots = begin::<P, F, T>(self.1, part, &groups);
            let words = GROUP_WORDS / F::PARTS;
            for word in (part * words..(part + 1) * words).step_by(2) {
                let at = group * GROUP_WORDS + word;
                let codes = [self.2.vector(s, at), self.2.vector(s, at + 1)];
                add_words::<P, F, T>(self.1, &mut dots, codes, word, &groups);
            }
            dots
        }
    }
}

/// Adds the products of whole blocks with [`DIRECT_PAIRS`] to outputs: codes are multiplied while they are
/// in registers.
pub(super) struct DirectPairs<'a, F, B> {
    pub(super) format: PhantomData<F>,
    pub(super) rows: B,
    pub(super) blocks: usize,
    pub(super) pairs: &'a [Pair; DIRECT_PAIRS],
    pub(super) span: Span,
    /// Room for factors and products; what is ahead of the first block.
    pub(super) panel: &'a mut Panel,
}

impl<F: Format, B: Source> PairKernel for DirectPairs<'_, F, B> {
    #[inline(always)]
    fn run<P: Pairs>(self, pairs: P) {
        const T: usize = 2 * DIRECT_PAIRS;
        if !is_reachable::<P, F, B>() || F::MOST_DIRECT < T {
            unreachable!("these are unpacked into memory");
        }
        let s = pairs.simd();
        let inputs = PairsOf::<T>::new(self.pairs, self.span);
        // SAFETY: whoever made this promised that rows, inputs and outputs are as described.
        unsafe {
            let mut sums = inputs.load_sums(pairs);
            self.panel.first_group = 0;
            let mut sink = Multiplied {
                woven: Woven(pairs, self.panel),
                groups: inputs.groups,
            };
            for block in 0..self.blocks {
                F::unpack(s, self.rows.skip::<P::Simd>(block * F::BYTES), &mut sink);
                let factors = OfPairs(pairs, sink.woven.1, sink.groups);
                add_block::<P::Simd, F::Form, T>(s, GROUPS, &factors, &sink, &mut sums);
                for group in &mut sink.groups {
                    *group = group.wrapping_add(GROUPS);
                }
                let bytes = P::Simd::LANES * F::BYTES;
                sink.woven.1.ahead = sink.woven.1.ahead.wrapping_add(bytes);
            }
            inputs.store_sums(pairs, sums);
        }
    }
}

/// A sink that keeps only the integer products of codes, in the place of the codes.
struct Multiplied<'a, P, const T: usize> {
    woven: Woven<'a, P>,
    groups: [*const PairGroup; T],
}

impl<P: Pairs, F: Format, const T: usize> Sink<P::Simd, F> for Multiplied<'_, P, T> {
    #[inline(always)]
    fn scales(&mut self, s: P::Simd, group: usize, part: usize, scales: Floats<P>) {
        Sink::<P::Simd, F>::scales(&mut self.woven, s, group, part, scales);
    }

    #[inline(always)]
    fn mins(&mut self, s: P::Simd, group: usize, part: usize, mins: Floats<P>) {
        Sink::<P::Simd, F>::mins(&mut self.woven, s, group, part, mins);
    }

    #[inline(always)]
    fn codes<const WORDS: usize>(
        &mut self,
        s: P::Simd,
        group: usize,
        part: usize,
        codes: [Ints<P>; WORDS],
    ) {
        let (pairs, mut groups) = (self.woven.0, self.groups);
        for pair in &mut groups {
            *pair = pair.wrapping_add(group);
        }
        // SAFETY: inputs are as long as weights.
        let dots = unsafe {
            let mut dots = begin::<P, F::Form, T>(pairs, part, &groups);
            for word in (0..WORDS).step_by(2) {
                let woven = pairs.codes([codes[word], codes[word + 1]]);
                let at = part * WORDS + word;
                add_words::<P, F::Form, T>(pairs, &mut dots, woven, at, &groups);
            }
            dots
        };
        for t in 0..T {
            let at = (group * 2 + part) * T + t;
            self.woven.1.set_vector(s, at, dots[t]);
        }
    }

    #[inline(always)]
    fn ahead(&self) -> *const u8 {
        self.woven.1.ahead
    }
}

impl<P: Pairs, const T: usize> Dots<P::Simd, T> for Multiplied<'_, P, T> {
    #[inline(always)]
    fn part(&self, s: P::Simd, group: usize, part: usize) -> [Ints<P>; T] {
        let mut dots = [s.splat_words(0); T];
        for t in 0..T {
            dots[t] = self.woven.1.vector(s, (group * 2 + part) * T + t);
        }
        dots
    }
}
