//! Blocks of a panel times few inputs, and how blocks are unpacked for more.

use std::marker::PhantomData;

use super::panel::{Format, GROUPS, Panel, Sink};
use super::source::Source;
use super::tile::{
    Codes, Dots, Input, InputsOf, OfInputs, Span, add_block, add_part, begin, most_of,
};
use crate::activations::ActivationGroup;
use crate::simd::{Kernel, Simd};

/// Unpacks blocks of a panel's rows.
pub(crate) struct Unpack<'a, F, B> {
    pub(crate) format: PhantomData<F>,
    pub(crate) rows: B,
    pub(crate) first: usize,
    /// At most as many as a panel takes.
    pub(crate) blocks: usize,
    pub(crate) panel: &'a mut Panel,
}

impl<F: Format, B: Source> Kernel for Unpack<'_, F, B> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        // As below.
        assert!(B::IS_STORED || (S::INTERLEAVES && !F::LAYOUT.is_empty()));
        for block in 0..self.blocks {
            self.panel.first_group = block * GROUPS;
            let rows = self.rows.skip::<S>((self.first + block) * F::BYTES);
            // SAFETY: whoever made this promised it.
            unsafe { F::unpack(s, rows, self.panel) };
            self.panel.ahead = self.panel.ahead.wrapping_add(S::LANES * F::BYTES);
        }
    }
}

/// Adds the products of whole blocks with few inputs to outputs: codes are multiplied while they are in
/// registers, instead of being stored and loaded.
pub(crate) struct Direct<'a, F, B, const T: usize> {
    pub(crate) format: PhantomData<F>,
    pub(crate) rows: B,
    pub(crate) blocks: usize,
    /// `T` of them.
    pub(crate) inputs: &'a [Input],
    pub(crate) span: Span,
    /// Room for factors and products; what is ahead of the first block.
    pub(crate) panel: &'a mut Panel,
}

impl<F: Format, B: Source, const T: usize> Kernel for Direct<'_, F, B, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        // So that no code is made for what nobody calls.
        assert!(T <= F::MOST_DIRECT && T <= most_of::<S>());
        assert!(B::IS_STORED || (S::INTERLEAVES && !F::LAYOUT.is_empty()));
        let inputs = InputsOf::<T>::new(self.inputs, self.span);
        // SAFETY: whoever made this promised that rows, inputs and outputs are as described.
        unsafe {
            let mut sums = inputs.load_sums(s);
            let mut sink = Multiplied {
                panel: self.panel,
                inputs: inputs.groups,
            };
            for block in 0..self.blocks {
                F::unpack(s, self.rows.skip::<S>(block * F::BYTES), &mut sink);
                let factors = OfInputs {
                    panel: sink.panel,
                    groups: sink.inputs,
                };
                add_block::<S, F::Form, T>(s, GROUPS, &factors, &sink, &mut sums);
                for input in &mut sink.inputs {
                    *input = input.wrapping_add(GROUPS);
                }
                sink.panel.ahead = sink.panel.ahead.wrapping_add(S::LANES * F::BYTES);
            }
            inputs.store_sums(s, sums);
        }
    }
}

/// A sink that keeps only the integer products of codes, in the place of the codes.
struct Multiplied<'a, const T: usize> {
    panel: &'a mut Panel,
    inputs: [*const ActivationGroup; T],
}

/// Codes of a part, and its first word's number.
struct InRegisters<I, const WORDS: usize>([I; WORDS], usize);

impl<S: Simd, const WORDS: usize> Codes<S> for InRegisters<S::I, WORDS> {
    #[inline(always)]
    fn word(&self, _s: S, word: usize) -> S::I {
        self.0[word - self.1]
    }
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
            let codes = InRegisters(codes, part * WORDS);
            add_part::<S, F::Form, T>(s, &mut dots, &codes, part, &inputs);
            dots
        };
        for t in 0..T {
            self.panel
                .set_vector(s, (group * 2 + part) * T + t, dots[t]);
        }
    }

    #[inline(always)]
    fn ahead(&self) -> *const u8 {
        self.panel.ahead
    }
}

impl<S: Simd, const T: usize> Dots<S, T> for Multiplied<'_, T> {
    #[inline(always)]
    fn part(&self, s: S, group: usize, part: usize) -> [S::I; T] {
        let mut dots = [s.splat_words(0); T];
        for t in 0..T {
            dots[t] = self.panel.vector(s, (group * 2 + part) * T + t);
        }
        dots
    }
}
