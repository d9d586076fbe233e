//! Attention of few queries, one row's: keys and values are multiplied as they come from their
//! pages, decoded in registers. Packing them first took longer than multiplying.
//!
//! The sums are those of `tile`, in the same order.

use std::ops::Range;

use super::PIECE;
use super::pack::{Cached, CachedRows, with_cached};
use super::tile::{QUERIES, Softmax, weights};
use super::units::{Single, UnitKind};
use crate::cpu::Cpu;
use crate::dots::words::Rows;
use crate::prefetch::{self, LINE};
use crate::simd::{Kernel, MAX_LANES, Simd};

/// The most queries this is for: as many sums as the registers hold twice.
pub(super) const MOST: usize = 2 * QUERIES;
/// The same with whole numbers, which are made once for all of them.
pub(super) const MOST_WHOLE: usize = 16 * QUERIES;
/// Vectors of columns whose sums are kept together.
const STRIP: usize = 2;
/// Words that are turned at once.
const TURNED: usize = 8;

/// Adds a piece of keys to what some queries have so far.
pub(super) struct Few<'a> {
    /// `1 / sqrt(head_dim)`
    pub(super) scale: f32,
    /// Of a row, in values.
    pub(super) padded: usize,
    /// `[queries, padded / VALUES]` units, [`QUERIES`] or [`MOST`] of them.
    pub(super) queries: &'a [f32],
    /// Of each query, where they are whole.
    pub(super) query_scales: &'a [f32],
    /// How many of the piece's keys each query sees.
    pub(super) visible: &'a [usize],
    pub(super) keys: CachedRows<'a>,
    pub(super) values: CachedRows<'a>,
    /// Keys that will be wanted next, if any.
    pub(super) ahead: CachedRows<'a>,
    /// `[queries, PIECE]`: room for the scores. Their places are known while compiling, so that they need no
    /// registers.
    pub(super) scores: &'a mut [f32],
    /// [`PIECE`]: room for the values' factors and scales, where they are whole.
    pub(super) value_factors: &'a mut [f32],
    pub(super) value_scales: &'a mut [f32],
    /// `[2, padded / VALUES]`: room for two keys' units, where they are whole.
    pub(super) key_units: &'a mut [f32],
    /// Room for a piece's values in a strip of columns, where they are whole.
    pub(super) strip: &'a mut [f32],
    /// `[queries, padded]`
    pub(super) mixed: &'a mut [f32],
    /// Per query.
    pub(super) softmax: &'a mut [Softmax],
}

impl Few<'_> {
    pub(super) fn attend(mut self, kind: UnitKind, cpu: &Cpu) {
        #[cfg(target_arch = "x86_64")]
        if kind == UnitKind::Whole {
            // SAFETY: there are such units only where the backend has found the instructions.
            return unsafe { self.attend_whole() };
        }
        #[cfg(not(target_arch = "x86_64"))]
        debug_assert!(kind == UnitKind::Single, "there are no others here");
        with_cached!(self.keys.dtype, keys => Scores(&mut self).of(cpu, keys));
        let factors = cpu.dispatch.run(Weights(&mut self));
        with_cached!(self.values.dtype, values => Mix(&mut self, factors).of(cpu, values));
    }

    /// How many keys some query sees.
    #[inline(always)]
    pub(super) fn most(&self) -> usize {
        let mut most = 0;
        for &count in self.visible {
            most = if count > most { count } else { most };
        }
        most
    }
}

struct Scores<'a, 'b>(&'a mut Few<'b>);

impl Scores<'_, '_> {
    fn of<C: Cached>(self, cpu: &Cpu, cached: C) {
        match self.0.visible.len() {
            QUERIES => cpu.dispatch.run(ScoresOf::<C, QUERIES>(self.0, cached)),
            MOST => cpu.dispatch.run(ScoresOf::<C, MOST>(self.0, cached)),
            _ => unreachable!("queries come in whole tiles, two at most"),
        }
    }
}

/// `scores[q][k] = query q . key k`
struct ScoresOf<'a, 'b, C, const N: usize>(&'a mut Few<'b>, C);

impl<C: Cached, const N: usize> Kernel for ScoresOf<'_, '_, C, N> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let few = self.0;
        let (lanes, padded, most) = (S::LANES, few.padded, few.most());
        let CachedRows { rows, cols, .. } = few.keys;
        assert!(most <= rows.len() && most.next_multiple_of(lanes) <= PIECE);
        assert!(few.queries.len() == N * padded && padded.is_multiple_of(lanes));
        assert!(few.scores.len() == N * PIECE);
        let mut block = Block([0.0; MAX_LANES * MAX_LANES]);
        for first in (0..most).step_by(lanes) {
            let mut sums = [s.splat(0.0); N];
            for at in (0..padded).step_by(lanes) {
                // Each vector asks for a part of the values: all at once would have to wait.
                let asked = first + lanes * at / padded..first + lanes * (at + lanes) / padded;
                few.values.prefetch_whole(asked);
                // SAFETY: rows are of `cols` values, the block has a vector for each lane, the
                // queries have `padded` values.
                unsafe {
                    for lane in 0..lanes {
                        let values = match rows.get(first + lane) {
                            Some(row) => C::load(s, *row, at, cols),
                            None => s.splat(0.0),
                        };
                        s.store(block.0.as_mut_ptr().add(lane * lanes), values);
                    }
                    for part in (0..lanes).step_by(TURNED) {
                        let turned = s.transpose_32(Rows {
                            first: block.0.as_ptr().add(part).cast(),
                            stride: lanes * size_of::<f32>(),
                        });
                        for index in 0..TURNED {
                            let keys = s.as_float(turned[index]);
                            let query = few.queries.as_ptr().add(at + part + index);
                            for q in 0..N {
                                let value = s.splat(*query.add(q * padded));
                                sums[q] = s.mul_add(keys, value, sums[q]);
                            }
                        }
                    }
                }
            }
            for q in 0..N {
                // SAFETY: rows of scores have whole vectors by the assertions.
                unsafe { s.store(few.scores.as_mut_ptr().add(q * PIECE + first), sums[q]) };
            }
        }
    }
}

/// As many rows' values as a vector has lanes.
#[repr(align(64))]
struct Block([f32; MAX_LANES * MAX_LANES]);

/// Makes scores weights, and says what is to be done with the mixed values before and these.
struct Weights<'a, 'b>(&'a mut Few<'b>);

impl Kernel for Weights<'_, '_> {
    type Output = [[f32; 2]; MOST];

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> [[f32; 2]; MOST] {
        let few = self.0;
        let most = few.most();
        let mut factors = [[1.0, 0.0]; MOST];
        for query in 0..few.visible.len() {
            let scores = &mut few.scores[query * PIECE..][..PIECE];
            let visible = few.visible[query];
            let (found, _) = weights(Single(s), scores, visible, most, few.scale, &[]);
            if few.visible[query] > 0 {
                (few.softmax[query], factors[query]) = few.softmax[query].merge(found);
            }
        }
        factors
    }
}

struct Mix<'a, 'b>(&'a mut Few<'b>, [[f32; 2]; MOST]);

impl Mix<'_, '_> {
    fn of<C: Cached>(self, cpu: &Cpu, cached: C) {
        match self.0.visible.len() {
            QUERIES => cpu
                .dispatch
                .run(MixOf::<C, QUERIES>(self.0, self.1, cached)),
            MOST => cpu.dispatch.run(MixOf::<C, MOST>(self.0, self.1, cached)),
            _ => unreachable!("queries come in whole tiles, two at most"),
        }
    }
}

/// `mixed[q] = mixed[q] * factors[q][0] + factors[q][1] * sum over k of weight[q][k] * value[k]`
struct MixOf<'a, 'b, C, const N: usize>(&'a mut Few<'b>, [[f32; 2]; MOST], C);

impl<C: Cached, const N: usize> Kernel for MixOf<'_, '_, C, N> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (few, factors) = (self.0, self.1);
        let (padded, most) = (few.padded, few.most());
        let CachedRows { rows, cols, .. } = few.values;
        let width = STRIP * S::LANES;
        assert!(most <= rows.len() && few.scores.len() == N * PIECE && most <= PIECE);
        assert!(few.mixed.len() == N * padded && padded.is_multiple_of(width));
        let lines = few.ahead.row_bytes.div_ceil(LINE);
        for column in (0..padded).step_by(width) {
            // Each strip asks for a part of what is ahead.
            let from = lines * column / padded * LINE;
            let to = lines * (column + width) / padded * LINE;
            let mut sums = [[s.splat(0.0); STRIP]; N];
            for position in 0..most {
                few.ahead.prefetch_part(position, from, to);
                // SAFETY: values are of `cols` values; there is a weight for each position.
                unsafe {
                    let row = *rows.get_unchecked(position);
                    let mut values = [s.splat(0.0); STRIP];
                    for v in 0..STRIP {
                        values[v] = C::load(s, row, column + v * S::LANES, cols);
                    }
                    let weight = few.scores.as_ptr().add(position);
                    for q in 0..N {
                        let weight = s.splat(*weight.add(q * PIECE));
                        for v in 0..STRIP {
                            sums[q][v] = s.mul_add(values[v], weight, sums[q][v]);
                        }
                    }
                }
            }
            for q in 0..N {
                let [before, new] = factors[q];
                for v in 0..STRIP {
                    // SAFETY: a query's mixed values are whole strips by the assertions.
                    unsafe {
                        let at = q * padded + column + v * S::LANES;
                        let place = few.mixed.as_mut_ptr().add(at);
                        let old = s.mul(s.load(place), s.splat(before));
                        s.store(place, s.mul_add(sums[q][v], s.splat(new), old));
                    }
                }
            }
        }
    }
}

impl CachedRows<'_> {
    /// Asks for some whole rows, if there are such.
    #[inline(always)]
    fn prefetch_whole(&self, rows: Range<usize>) {
        for index in rows {
            if let Some(row) = self.rows.get(index) {
                for line in (0..self.row_bytes).step_by(LINE) {
                    prefetch::into_second(row.wrapping_add(line));
                }
            }
        }
    }

    /// Asks for the bytes from `from` to `to` of a row, if there is such.
    #[inline(always)]
    pub(super) fn prefetch_part(&self, index: usize, from: usize, to: usize) {
        if let Some(row) = self.rows.get(index) {
            for byte in (from..to).step_by(LINE) {
                prefetch::into_second(row.wrapping_add(byte));
            }
        }
    }
}
