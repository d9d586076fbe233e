//! Blocks of a panel times some inputs.
//!
//! With activations `a` of [`ActivationGroup`] each group of 32 values adds to an output
//!
//! ```text
//! scale_a * sum over its parts:  scale_w * sum(code_w * code_a)  -  min_w * sum(code_a)
//! ```
//!
//! The sums are exact integers; what is rounded are the products with factors and one f32
//! accumulator, which sees the groups in their order. So a value is the same bits whatever the
//! tile, the number of lanes, or the instruction set (as far as it has a fused multiply-add).

use std::marker::PhantomData;

use super::panel::{Form, Format, GROUP_WORDS, GROUPS, Panel, Sink};
use super::words::Rows;
use crate::activations::ActivationGroup;
use crate::simd::{Kernel, Simd};

/// The most inputs of a tile.
pub(crate) const MAX_INPUTS: usize = 8;

/// Some inputs, and where their outputs go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct InputsOf<const T: usize> {
    /// The groups of each input, from the first block in question on.
    pub(crate) groups: [*const ActivationGroup; T],
    /// Room for `lanes` values each.
    pub(crate) outputs: [*mut f32; T],
    pub(crate) lanes: usize,
    /// Whether the first of all blocks is the first block in question: outputs hold nothing yet.
    pub(crate) is_first: bool,
}

impl<const T: usize> InputsOf<T> {
    /// What was summed so far.
    ///
    /// # Safety
    /// The outputs must exist.
    #[inline(always)]
    unsafe fn load_sums<S: Simd>(&self, s: S) -> [S::F; T] {
        let mut sums = [s.splat(0.0); T];
        if !self.is_first {
            for t in 0..T {
                // SAFETY: outputs have room for the lanes in use.
                sums[t] = unsafe { s.load_up_to(self.outputs[t], self.lanes) };
            }
        }
        sums
    }

    /// # Safety
    /// The outputs must exist, and nobody else may use them.
    #[inline(always)]
    unsafe fn store_sums<S: Simd>(&self, s: S, sums: [S::F; T]) {
        for t in 0..T {
            // SAFETY: outputs have room for the lanes in use.
            unsafe { s.store_up_to(self.outputs[t], sums[t], self.lanes) };
        }
    }
}

/// Where the integer products come from. A trait and no closure, because closures are not sure to
/// be inlined, and must be.
trait Dots<S: Simd, const T: usize> {
    /// The products of a part with all inputs.
    fn part(
        &self,
        s: S,
        group: usize,
        part: usize,
        inputs: &[*const ActivationGroup; T],
    ) -> [S::I; T];
}

/// Adds the groups of a block to the sums.
///
/// # Safety
/// The inputs must have as many groups.
#[inline(always)]
unsafe fn add_block<S: Simd, F: Form, const T: usize>(
    s: S,
    panel: &Panel,
    groups: usize,
    first: &[*const ActivationGroup; T],
    dots: &impl Dots<S, T>,
    sums: &mut [S::F; T],
) {
    for group in 0..groups {
        let mut inputs = *first;
        for input in &mut inputs {
            *input = input.wrapping_add(group);
        }
        let mut products = [s.splat(0.0); T];
        for part in 0..F::PARTS {
            let dots = dots.part(s, group, part, &inputs);
            let scales = panel.scales(s, group, part);
            for t in 0..T {
                let dot = s.to_float(dots[t]);
                products[t] = if part == 0 {
                    s.mul(dot, scales)
                } else {
                    s.mul_add(dot, scales, products[t])
                };
            }
            if F::MINS {
                let mins = panel.mins(s, group, part);
                for t in 0..T {
                    // SAFETY: as the caller promises.
                    let sum = F::sum(unsafe { &*inputs[t] }, part);
                    products[t] = s.mul_sub_from(mins, s.splat(sum), products[t]);
                }
            }
        }
        for t in 0..T {
            // SAFETY: as the caller promises.
            let scale = unsafe { (*inputs[t]).scale };
            sums[t] = s.mul_add(products[t], s.splat(scale), sums[t]);
        }
    }
}

/// The integer products of one part's codes.
///
/// # Safety
/// The inputs must exist.
#[inline(always)]
unsafe fn begin<S: Simd, F: Form, const T: usize>(
    s: S,
    part: usize,
    inputs: &[*const ActivationGroup; T],
) -> [S::I; T] {
    let mut dots = [s.splat_words(0); T];
    for t in 0..T {
        // SAFETY: as the caller promises.
        dots[t] = s.begin(F::BIAS, F::bias_sum(unsafe { &*inputs[t] }, part));
    }
    dots
}

/// Adds the products of the word `word` of a group's codes.
///
/// # Safety
/// The inputs must exist.
#[inline(always)]
unsafe fn add_word<S: Simd, F: Form, const T: usize>(
    s: S,
    dots: &mut [S::I; T],
    codes: S::I,
    word: usize,
    inputs: &[*const ActivationGroup; T],
) {
    for t in 0..T {
        // SAFETY: a group has eight words of four values.
        dots[t] = unsafe {
            let activations = (&raw const (*inputs[t]).codes).cast::<i8>().add(word * 4);
            s.dot(F::BIAS, dots[t], codes, activations)
        };
    }
}

/// Adds the products of a block that was unpacked into memory to outputs.
pub(crate) struct Tile<'a, F, const T: usize> {
    pub(crate) form: PhantomData<F>,
    pub(crate) panel: &'a Panel,
    /// The groups in use; fewer than a block has at the end of short rows.
    pub(crate) groups: usize,
    pub(crate) inputs: InputsOf<T>,
}

impl<F: Form, const T: usize> Kernel for Tile<'_, F, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let dots = Unpacked::<F>(PhantomData, self.panel);
        let inputs = &self.inputs;
        // SAFETY: whoever made this promised that inputs and outputs are as described.
        unsafe {
            let mut sums = inputs.load_sums(s);
            let panel = self.panel;
            add_block::<S, F, T>(s, panel, self.groups, &inputs.groups, &dots, &mut sums);
            inputs.store_sums(s, sums);
        }
    }
}

/// Products are computed from codes in memory.
struct Unpacked<'a, F>(PhantomData<F>, &'a Panel);

impl<S: Simd, F: Form, const T: usize> Dots<S, T> for Unpacked<'_, F> {
    #[inline(always)]
    fn part(
        &self,
        s: S,
        group: usize,
        part: usize,
        inputs: &[*const ActivationGroup; T],
    ) -> [S::I; T] {
        // SAFETY: the inputs exist.
        unsafe {
            let mut dots = begin::<S, F, T>(s, part, inputs);
            let words = GROUP_WORDS / F::PARTS;
            for word in part * words..(part + 1) * words {
                let codes = self.1.word(s, group, word);
                add_word::<S, F, T>(s, &mut dots, codes, word, inputs);
            }
            dots
        }
    }
}

/// Unpacks blocks of a panel's rows.
pub(crate) struct Unpack<'a, F> {
    pub(crate) format: PhantomData<F>,
    pub(crate) rows: Rows,
    pub(crate) panel: &'a mut Panel,
}

impl<F: Format> Kernel for Unpack<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        // SAFETY: whoever made this promised it.
        unsafe { F::unpack(s, self.rows, self.panel) };
    }
}

/// Adds the products of whole blocks with few inputs to outputs: codes are multiplied while they are in
/// registers, instead of being stored and loaded.
pub(crate) struct Direct<'a, F, const T: usize> {
    pub(crate) format: PhantomData<F>,
    pub(crate) rows: Rows,
    pub(crate) blocks: usize,
    pub(crate) inputs: InputsOf<T>,
    /// Room for factors and products; what is ahead of the first block.
    pub(crate) panel: &'a mut Panel,
}

impl<F: Format, const T: usize> Kernel for Direct<'_, F, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        // SAFETY: whoever made this promised that rows, inputs and outputs are as described.
        unsafe {
            let mut sums = self.inputs.load_sums(s);
            let mut sink = Multiplied {
                panel: self.panel,
                inputs: self.inputs.groups,
            };
            for block in 0..self.blocks {
                F::unpack(s, self.rows.skip(block * F::BYTES), &mut sink);
                let (panel, inputs) = (&*sink.panel, &sink.inputs);
                add_block::<S, F::Form, T>(s, panel, GROUPS, inputs, &sink, &mut sums);
                for input in &mut sink.inputs {
                    *input = input.wrapping_add(GROUPS);
                }
                sink.panel.ahead = sink.panel.ahead.wrapping_add(S::LANES * F::BYTES);
            }
            self.inputs.store_sums(s, sums);
        }
    }
}

/// A sink that keeps only the integer products of codes, in the place of the codes.
struct Multiplied<'a, const T: usize> {
    panel: &'a mut Panel,
    inputs: [*const ActivationGroup; T],
}

impl<S: Simd, F: Format, const T: usize> Sink<S, F> for Multiplied<'_, T> {
    #[inline(always)]
    fn scales(&mut self, s: S, group: usize, part: usize, scales: S::F) {
        self.panel.set_scales(s, group, part, scales);
    }

    #[inline(always)]
    fn mins(&mut self, s: S, group: usize, part: usize, mins: S::F) {
        self.panel.set_mins(s, group, part, mins);
    }

    #[inline(always)]
    fn codes<const WORDS: usize>(&mut self, s: S, group: usize, part: usize, codes: [S::I; WORDS]) {
        let mut inputs = self.inputs;
        for input in &mut inputs {
            *input = input.wrapping_add(group);
        }
        // SAFETY: inputs are as long as weights.
        let dots = unsafe {
            let mut dots = begin::<S, F::Form, T>(s, part, &inputs);
            for word in 0..WORDS {
                let codes = s.prepare(F::Form::BIAS, codes[word]);
                add_word::<S, F::Form, T>(s, &mut dots, codes, part * WORDS + word, &inputs);
            }
            dots
        };
        for t in 0..T {
            self.panel.set_word(s, group, part * T + t, dots[t]);
        }
    }

    #[inline(always)]
    fn ahead(&self) -> *const u8 {
        self.panel.ahead
    }
}

impl<S: Simd, const T: usize> Dots<S, T> for Multiplied<'_, T> {
    #[inline(always)]
    fn part(
        &self,
        s: S,
        group: usize,
        part: usize,
        _inputs: &[*const ActivationGroup; T],
    ) -> [S::I; T] {
        let mut dots = [s.splat_words(0); T];
        for t in 0..T {
            dots[t] = self.panel.word(s, group, part * T + t);
        }
        dots
    }
}
