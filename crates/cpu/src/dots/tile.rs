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

use super::panel::{Form, GROUP_WORDS, Panel};
use super::words::Bias;
use crate::activations::ActivationGroup;
use crate::simd::{Kernel, Simd};

/// The most inputs of a tile: what the registers hold.
pub(super) const fn most_of<S: Simd>() -> usize {
    if S::LANES == 16 { 8 } else { 4 }
}

/// An input, and where its outputs go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Input {
    /// All its groups.
    pub(crate) groups: *const ActivationGroup,
    /// The place of the stripe's first row.
    pub(crate) output: *mut f32,
}

/// Which groups of inputs are meant, and which of their outputs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    /// The first group; if it is not 0, then outputs hold the sum of those before.
    pub(crate) group: usize,
    pub(crate) row: usize,
    pub(crate) rows: usize,
}

/// `T` inputs at a span.
pub(super) struct InputsOf<const T: usize> {
    pub(super) groups: [*const ActivationGroup; T],
    outputs: [*mut f32; T],
    rows: usize,
    is_first: bool,
}

impl<const T: usize> InputsOf<T> {
    /// The first of `inputs`.
    #[inline(always)]
    pub(super) fn new(inputs: &[Input], span: Span) -> Self {
        let mut groups = [std::ptr::null(); T];
        let mut outputs = [std::ptr::null_mut(); T];
        for t in 0..T {
            groups[t] = inputs[t].groups.wrapping_add(span.group);
            outputs[t] = inputs[t].output.wrapping_add(span.row);
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
    pub(super) unsafe fn load_sums<S: Simd>(&self, s: S) -> [S::F; T] {
        let mut sums = [s.splat(0.0); T];
        if !self.is_first {
            for t in 0..T {
                // SAFETY: outputs have room for the rows.
                sums[t] = unsafe { s.load_up_to(self.outputs[t], self.rows) };
            }
        }
        sums
    }

    /// # Safety
    /// The outputs must exist, and nobody else may use them.
    #[inline(always)]
    pub(super) unsafe fn store_sums<S: Simd>(&self, s: S, sums: [S::F; T]) {
        for t in 0..T {
            // SAFETY: outputs have room for the rows.
            unsafe { s.store_up_to(self.outputs[t], sums[t], self.rows) };
        }
    }
}

/// Where the integer products come from. A trait and no closure, because closures are not sure to
/// be inlined, and must be.
pub(super) trait Dots<S: Simd, const T: usize> {
    /// The products of a part, in all vectors.
    fn part(&self, s: S, group: usize, part: usize) -> [S::I; T];
}

/// What the integer products of vector `t` are multiplied with.
pub(super) trait Factors<S: Simd, F: Form> {
    /// The weights' scales of a part, for vectors of even and of odd number.
    fn scales(&self, s: S, group: usize, part: usize) -> [S::F; 2];

    /// Their minima.
    fn mins(&self, s: S, group: usize, part: usize) -> [S::F; 2];

    /// The activations' scales.
    ///
    /// # Safety
    /// The inputs must have the group.
    unsafe fn scale(&self, s: S, group: usize, t: usize) -> S::F;

    /// The sums of the activations' codes of a part.
    ///
    /// # Safety
    /// The inputs must have the group.
    unsafe fn sum(&self, s: S, group: usize, part: usize, t: usize) -> S::F;
}

/// The factors where each vector is an input's.
pub(super) struct OfInputs<'a, const T: usize> {
    pub(super) panel: &'a Panel,
    pub(super) groups: [*const ActivationGroup; T],
}

impl<S: Simd, F: Form, const T: usize> Factors<S, F> for OfInputs<'_, T> {
    #[inline(always)]
    fn scales(&self, s: S, group: usize, part: usize) -> [S::F; 2] {
        [self.panel.scales(s, group, part); 2]
    }

    #[inline(always)]
    fn mins(&self, s: S, group: usize, part: usize) -> [S::F; 2] {
        [self.panel.mins(s, group, part); 2]
    }

    #[inline(always)]
    unsafe fn scale(&self, s: S, group: usize, t: usize) -> S::F {
        // SAFETY: as the caller promises.
        s.splat(unsafe { (*self.groups[t].wrapping_add(group)).scale })
    }

    #[inline(always)]
    unsafe fn sum(&self, s: S, group: usize, part: usize, t: usize) -> S::F {
        // SAFETY: as the caller promises.
        s.splat(F::sum(
            unsafe { &*self.groups[t].wrapping_add(group) },
            part,
        ))
    }
}

/// Adds the groups of a block to the sums.
///
/// # Safety
/// The inputs must have as many groups.
#[inline(always)]
pub(super) unsafe fn add_block<S: Simd, F: Form, const T: usize>(
    s: S,
    groups: usize,
    factors: &impl Factors<S, F>,
    dots: &impl Dots<S, T>,
    sums: &mut [S::F; T],
) {
    for group in 0..groups {
        let mut products = [s.splat(0.0); T];
        for part in 0..F::PARTS {
            let dots = dots.part(s, group, part);
            let scales = factors.scales(s, group, part);
            for t in 0..T {
                let dot = s.to_float(dots[t]);
                products[t] = if part == 0 {
                    s.mul(dot, scales[t % 2])
                } else {
                    s.mul_add(dot, scales[t % 2], products[t])
                };
            }
            if F::MINS {
                let mins = factors.mins(s, group, part);
                for t in 0..T {
                    // SAFETY: as the caller promises.
                    let sum = unsafe { factors.sum(s, group, part, t) };
                    products[t] = s.mul_sub_from(mins[t % 2], sum, products[t]);
                }
            }
        }
        for t in 0..T {
            // SAFETY: as the caller promises.
            let scale = unsafe { factors.scale(s, group, t) };
            sums[t] = s.mul_add(products[t], scale, sums[t]);
        }
    }
}

/// The integer products of one part's codes.
///
/// # Safety
/// The inputs must exist.
#[inline(always)]
pub(super) unsafe fn begin<S: Simd, F: Form, const T: usize>(
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

/// Adds the products of a part's codes.
///
/// # Safety
/// The inputs must exist.
#[inline(always)]
pub(super) unsafe fn add_part<S: Simd, F: Form, const T: usize>(
    s: S,
    dots: &mut [S::I; T],
    codes: &impl Codes<S>,
    part: usize,
    inputs: &[*const ActivationGroup; T],
) {
    let words = GROUP_WORDS / F::PARTS;
    let first = part * words;
    // SAFETY: as the caller promises.
    unsafe {
        if S::HAS_DOTS_OF_FOUR {
            // Four or eight, and no loop: as one it is not unrolled.
            add_four::<S, T>(s, dots, F::BIAS, codes, first, inputs);
            if words > 4 {
                add_four::<S, T>(s, dots, F::BIAS, codes, first + 4, inputs);
            }
            return;
        }
        for word in (first..first + words).step_by(run_of::<S, F>()) {
            add_run::<S, F, T>(s, dots, codes, word, inputs);
        }
    }
}

/// Adds the products of four words of a group's codes, the first of which is word `first`.
///
/// # Safety
/// The inputs must exist.
#[inline(always)]
unsafe fn add_four<S: Simd, const T: usize>(
    s: S,
    dots: &mut [S::I; T],
    bias: Bias,
    codes: &impl Codes<S>,
    first: usize,
    inputs: &[*const ActivationGroup; T],
) {
    let mut four = [s.splat_words(0); 4];
    for word in 0..4 {
        four[word] = codes.word(s, first + word);
    }
    for t in 0..T {
        // SAFETY: a group has eight words of four values, and these are one of its halves.
        dots[t] = unsafe {
            let activations = (&raw const (*inputs[t]).codes).cast::<i8>().add(first * 4);
            s.dot_four(bias, dots[t], four, activations)
        };
    }
}

/// How many words' products are summed in 16 bits; 1 if they are summed in 32 at once.
const fn run_of<S: Simd, F: Form>() -> usize {
    let most = i16::MAX as usize / (2 * 127 * F::MOST);
    match most {
        _ if !S::HAS_SHORT_SUMS => 1,
        0 | 1 => 1,
        2 | 3 => 2,
        4..8 => 4,
        // As many as the smallest part has, or a group.
        _ if F::PARTS == 2 => 4,
        _ => 8,
    }
}

/// Adds the products of some words of a group's codes, the first of which is word `first`: as many
/// as [`run_of`] says.
///
/// # Safety
/// The inputs must exist.
#[inline(always)]
unsafe fn add_run<S: Simd, F: Form, const T: usize>(
    s: S,
    dots: &mut [S::I; T],
    codes: &impl Codes<S>,
    first: usize,
    inputs: &[*const ActivationGroup; T],
) {
    let run = run_of::<S, F>();
    if run == 1 {
        // SAFETY: as the caller promises.
        unsafe { add_word::<S, F, T>(s, dots, codes.word(s, first), first, inputs) };
        return;
    }
    let mut short = [s.splat_words(0); T];
    for word in first..first + run {
        let codes = codes.word(s, word);
        for t in 0..T {
            // SAFETY: a group has eight words of four values.
            short[t] = unsafe {
                let activations = (&raw const (*inputs[t]).codes).cast::<i8>().add(word * 4);
                s.dot_short(short[t], codes, activations)
            };
        }
    }
    for t in 0..T {
        dots[t] = s.widen(dots[t], short[t]);
    }
}

/// A group's codes by words.
pub(super) trait Codes<S: Simd> {
    /// A word of all rows.
    fn word(&self, s: S, word: usize) -> S::I;
}

/// Codes in memory.
struct InPanel<'a>(&'a Panel, usize);

impl<S: Simd> Codes<S> for InPanel<'_> {
    #[inline(always)]
    fn word(&self, s: S, word: usize) -> S::I {
        self.0.vector(s, self.1 * GROUP_WORDS + word)
    }
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

/// Adds the products of a block that was unpacked into memory to the outputs of all inputs.
pub(crate) struct Tiles<'a, F> {
    pub(crate) form: PhantomData<F>,
    pub(crate) panel: &'a Panel,
    /// The groups in use; fewer than a block has at the end of short rows.
    pub(crate) groups: usize,
    pub(crate) inputs: &'a [Input],
    pub(crate) span: Span,
}

impl<F: Form> Kernel for Tiles<'_, F> {
    type Output = ();

    // Tiles of about the same size, and as large as the registers allow.
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (mut rest, mut tiles) = (self.inputs, self.inputs.len().div_ceil(most_of::<S>()));
        while tiles > 0 {
            let count = rest.len().div_ceil(tiles);
            let (tile, others) = rest.split_at(count);
            // SAFETY: whoever made this promised that inputs and outputs are as described.
            unsafe {
                match count {
                    1 => self.tile::<S, 1>(s, tile),
                    2 => self.tile::<S, 2>(s, tile),
                    3 => self.tile::<S, 3>(s, tile),
                    4 => self.tile::<S, 4>(s, tile),
                    5 if most_of::<S>() == 8 => self.tile::<S, 5>(s, tile),
                    6 if most_of::<S>() == 8 => self.tile::<S, 6>(s, tile),
                    7 if most_of::<S>() == 8 => self.tile::<S, 7>(s, tile),
                    8 if most_of::<S>() == 8 => self.tile::<S, 8>(s, tile),
                    _ => unreachable!("no tile is larger"),
                }
            }
            rest = others;
            tiles -= 1;
        }
    }
}

impl<F: Form> Tiles<'_, F> {
    /// # Safety
    /// Inputs and outputs must exist.
    #[inline(always)]
    unsafe fn tile<S: Simd, const T: usize>(&self, s: S, inputs: &[Input]) {
        let inputs = InputsOf::<T>::new(inputs, self.span);
        let factors = OfInputs {
            panel: self.panel,
            groups: inputs.groups,
        };
        let dots = Unpacked::<F, T>(PhantomData, self.panel, inputs.groups);
        // SAFETY: as the caller promises.
        unsafe {
            let mut sums = inputs.load_sums(s);
            add_block::<S, F, T>(s, self.groups, &factors, &dots, &mut sums);
            inputs.store_sums(s, sums);
        }
    }
}

/// Products are computed from codes in memory.
struct Unpacked<'a, F, const T: usize>(PhantomData<F>, &'a Panel, [*const ActivationGroup; T]);

impl<S: Simd, F: Form, const T: usize> Dots<S, T> for Unpacked<'_, F, T> {
    #[inline(always)]
    fn part(&self, s: S, group: usize, part: usize) -> [S::I; T] {
        let mut inputs = self.2;
        for input in &mut inputs {
            *input = input.wrapping_add(group);
        }
        // SAFETY: the inputs exist.
        unsafe {
            let mut dots = begin::<S, F, T>(s, part, &inputs);
            let codes = InPanel(self.1, group);
            add_part::<S, F, T>(s, &mut dots, &codes, part, &inputs);
            dots
        }
    }
}
