//! What an instruction set needs for integer products with two inputs at once: an instruction that multiplies
//! eight codes of each of two rows with eight activations of each of two inputs, and adds to four sums.
//!
//! Two vectors together have the sums of all rows with both inputs, woven in an order that only the instruction
//! set knows. Factors come in the same order, so that everything between the first product and the last
//! sum is done value by value, with the operations of [`Simd`] and in their order: the same bits.

use super::panel::Form;
use super::tile::Input;
use super::words::{Bias, Words};
use crate::activations::{ActivationGroup, GROUP};
use crate::simd::Simd;

/// Vectors of f32 of the instruction set that pairs are an addition to.
pub(crate) type Floats<P> = <<P as Pairs>::Simd as Words>::F;
/// Its vectors of words.
pub(crate) type Ints<P> = <<P as Pairs>::Simd as Words>::I;

/// The proof that the machine multiplies pairs, and the operations.
pub(crate) trait Pairs: Copy {
    /// The instruction set for all else.
    type Simd: Simd;

    /// Its proof.
    fn simd(self) -> Self::Simd;

    /// Two words of codes, one behind the other in each row, as [`Pairs::dot`] wants them.
    fn codes(self, words: [Ints<Self>; 2]) -> [Ints<Self>; 2];

    /// A factor of each row, for both inputs.
    fn of_rows(self, rows: Floats<Self>) -> [Floats<Self>; 2];

    /// A factor of each input, for all rows. They come as first, second, first, second.
    fn of_inputs(self, inputs: &[f32; 4]) -> [Floats<Self>; 2];

    /// As [`Words::begin`], from the two inputs' sums as in [`Pairs::of_inputs`].
    fn begin(self, bias: Bias, bias_sums: &[u32; 4]) -> [Ints<Self>; 2];

    /// Adds the products of two words of codes and eight activations of the first input, behind
    /// which are eight of the second.
    fn dot(
        self,
        bias: Bias,
        sums: [Ints<Self>; 2],
        codes: [Ints<Self>; 2],
        activations: &[i8; 16],
    ) -> [Ints<Self>; 2];

    /// The sums with each input, woven.
    fn weave(self, inputs: [Floats<Self>; 2]) -> [Floats<Self>; 2];

    /// Undoes [`Pairs::weave`].
    fn part(self, woven: [Floats<Self>; 2]) -> [Floats<Self>; 2];
}

/// A group of two inputs: what one form of weights wants to know of it, side by side.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct PairGroup {
    /// Eight codes of the first and eight of the second, four times.
    pub(super) codes: [[i8; 16]; GROUP / 8],
    /// Of the first, the second, and both again.
    pub(super) scales: [f32; 4],
    /// In the same order for each part: the bits of the sum of its codes for weights with minima, for others
    /// what their bias wants to know of it.
    pub(super) parts: [[u32; 4]; 2],
}

impl PairGroup {
    /// What only fills a place.
    const NONE: Self = Self {
        codes: [[0; 16]; GROUP / 8],
        scales: [0.0; 4],
        parts: [[0; 4]; 2],
    };

    /// Two groups, for weights of a form.
    pub(super) fn of<F: Form>(first: &ActivationGroup, second: &ActivationGroup) -> Self {
        // There is room for one of the two, and no form wants both.
        const { assert!(!F::MINS || F::BIAS.of_codes == 0) };
        let mut codes = [[0; 16]; GROUP / 8];
        for run in 0..GROUP / 8 {
            codes[run][..8].copy_from_slice(&first.codes[8 * run..8 * run + 8]);
            codes[run][8..].copy_from_slice(&second.codes[8 * run..8 * run + 8]);
        }
        let mut parts = [[0; 4]; 2];
        for part in 0..F::PARTS {
            let of = |group| {
                if F::MINS {
                    F::sum(group, part).to_bits()
                } else {
                    F::bias_sum(group, part) as u32
                }
            };
            parts[part] = [of(first), of(second), of(first), of(second)];
        }
        Self {
            codes,
            scales: [first.scale, second.scale, first.scale, second.scale],
            parts,
        }
    }
}

/// Two inputs, and where their outputs go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pair {
    /// All their groups.
    pub(super) groups: *const PairGroup,
    /// The place of the stripe's first row. The second may be nowhere: then there is no such input.
    pub(super) outputs: [*mut f32; 2],
}

/// Inputs two by two, with room for them that is used again.
#[derive(Debug, Default)]
pub(super) struct Paired {
    groups: Vec<PairGroup>,
    pairs: Vec<Pair>,
}

impl Paired {
    /// Brings inputs of `groups` groups together for weights of a form. If their number is odd, the last
    /// one is its own neighbour.
    ///
    /// Done by each stripe for itself, since it is neighbours in the stripe's own list of tokens that meet. That is
    /// some twenty instructions a group and pair, of which each of the stripe's panels needs forty or more.
    ///
    /// # Safety
    /// The inputs must have so many groups.
    pub(super) unsafe fn fill<F: Form>(&mut self, inputs: &[Input], groups: usize) -> &[Pair] {
        // As with single inputs, an odd number of lines from one to the next, or nearly so.
        let stride = groups | 1;
        self.groups.clear();
        self.pairs.clear();
        self.groups.reserve(inputs.len().div_ceil(2) * stride);
        for pair in inputs.chunks(2) {
            let (first, second) = (pair[0], pair[pair.len() - 1]);
            for group in 0..groups {
                // SAFETY: as the caller promises.
                let of = |input: Input| unsafe { &*input.groups.add(group) };
                self.groups.push(PairGroup::of::<F>(of(first), of(second)));
            }
            self.groups
                .resize(self.groups.len() + stride - groups, PairGroup::NONE);
            self.pairs.push(Pair {
                groups: std::ptr::null(),
                outputs: [
                    first.output,
                    pair.get(1)
                        .map_or(std::ptr::null_mut(), |second| second.output),
                ],
            });
        }
        for (pair, groups) in self.pairs.iter_mut().zip(self.groups.chunks_exact(stride)) {
            pair.groups = groups.as_ptr();
        }
        &self.pairs
    }
}
