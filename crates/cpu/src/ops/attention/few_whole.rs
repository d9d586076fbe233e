//! As `few`, with whole numbers: keys and values are made whole in registers, as they come from their pages.
//!
//! Sums of whole numbers are exact, whatever their order. So scores are summed along the keys, and nothing needs to be
//! turned but the scores; all else is done as in `tile`, in the same order.

use super::PIECE;
use super::few::{Few, MOST_WHOLE as MOST};
use super::pack::{Cached, TILE, with_cached};
use super::tile::{QUERIES, weights};
use super::units::Units;
use super::whole::{self, Whole, WholeKernel};
use crate::dots::words::{Rows, Words};
use crate::prefetch;
use crate::simd::Simd;
use crate::simd::avx512::Avx512;

const LANES: usize = Avx512::LANES;
/// Queries whose sums are kept together.
const GROUP: usize = 2 * QUERIES;
/// Where the number of queries is no multiple of that, groups are half as large.
const MOST_GROUPS: usize = MOST / QUERIES;
/// Vectors of columns whose sums are kept together.
const STRIP: usize = 2;

impl Few<'_> {
    /// As [`Few::attend`], with whole numbers.
    ///
    /// # Safety
    /// The machine must have AVX-512, as [`whole::run`] wants it.
    pub(super) unsafe fn attend_whole(mut self) {
        // SAFETY: as the caller promises.
        unsafe {
            with_cached!(self.keys.dtype, keys => self.score(keys));
            with_cached!(self.values.dtype, values => self.mix(values));
        }
    }

    /// # Safety
    /// As [`Few::attend_whole`].
    unsafe fn score<C: Cached>(&mut self, cached: C) {
        let is_full = self.keys.cols == self.padded;
        // SAFETY: as the caller promises.
        unsafe {
            match (self.visible.len() % GROUP, is_full) {
                (0, true) => whole::run_whole(Scores::<C, GROUP, true>(self, cached)),
                (0, false) => whole::run_whole(Scores::<C, GROUP, false>(self, cached)),
                _ => whole::run_whole(Scores::<C, QUERIES, false>(self, cached)),
            }
        }
    }

    /// # Safety
    /// As [`Few::attend_whole`].
    unsafe fn mix<C: Cached>(&mut self, cached: C) {
        let is_full = self.values.cols == self.padded;
        // SAFETY: as the caller promises.
        unsafe {
            match (self.visible.len() % GROUP, is_full) {
                (0, true) => whole::run_whole(Mix::<C, GROUP, true>(self, cached)),
                (0, false) => whole::run_whole(Mix::<C, GROUP, false>(self, cached)),
                _ => whole::run_whole(Mix::<C, QUERIES, false>(self, cached)),
            }
        }
    }
}

/// `scores[q][k] = query q . key k`, without the queries' scales.
struct Scores<'a, 'b, C, const N: usize, const FULL: bool>(&'a mut Few<'b>, C);

impl<C: Cached, const N: usize, const FULL: bool> WholeKernel for Scores<'_, '_, C, N, FULL> {
    #[inline(always)]
    fn run(self, u: Whole) {
        let (few, s) = (self.0, u.simd());
        let (padded, most, cols) = (few.padded, few.most(), few.keys.cols);
        let (units, groups) = (padded / 2, few.visible.len() / N);
        assert!(few.keys.rows.len() <= few.values.rows.len() && groups <= MOST_GROUPS);
        assert!(most <= few.keys.rows.len() && most.next_multiple_of(LANES) <= PIECE);
        assert!(few.queries.len() == groups * N * units && padded.is_multiple_of(TILE * LANES));
        assert!(few.scores.len() == groups * N * PIECE);
        assert!(few.key_units.len() >= 2 * units);
        // What each part of a key asks for of its value: all at once would have to wait.
        let asked = few.values.row_bytes.div_ceil(padded / (2 * LANES));
        // Of each group of queries and of sixteen keys, a row of sums with each of them.
        let mut sums = Sums([0.0; LANES * GROUP * MOST_GROUPS]);
        for first in (0..most).step_by(LANES) {
            let rows = &few.keys.rows[first..most.min(first + LANES)];
            // SAFETY: rows are of `cols` values.
            let scales = unsafe { u.scales_of_keys::<C>(rows, cols) };
            for pair in (0..rows.len()).step_by(2) {
                for k in 0..2 {
                    // The last one may be its own neighbour; its sums are there twice then.
                    let lane = if pair + k < rows.len() {
                        pair + k
                    } else {
                        pair
                    };
                    for at in (0..padded).step_by(2 * LANES) {
                        let from = at / (2 * LANES) * asked;
                        prefetch::into_second(few.values.rows[first + lane].wrapping_add(from));
                        // SAFETY: rows are of `cols` values, and there is room for two keys' units.
                        unsafe {
                            let row = *rows.get_unchecked(lane);
                            let to = few.key_units.as_mut_ptr().add(k * units + at / 2);
                            s.store(to, u.key::<C, FULL>(row, at, cols, scales.factors[lane]));
                        }
                    }
                }
                for group in 0..groups {
                    // SAFETY: keys and queries are `units` units each, whole vectors; there is room for two rows of
                    // sums from any even one of a group on.
                    unsafe {
                        let mut vectors = [s.splat(0.0); 2 * GROUP];
                        let queries = few.queries.as_ptr().add(group * N * units);
                        for at in (0..units).step_by(LANES) {
                            let keys = few.key_units.as_ptr().add(at);
                            let (first, second) = (s.load(keys), s.load(keys.add(units)));
                            for q in 0..N {
                                let query = s.load(queries.add(q * units + at));
                                let (one, other) = (vectors[q], vectors[GROUP + q]);
                                vectors[q] = u.multiply_add(one, first, query);
                                vectors[GROUP + q] = u.multiply_add(other, second, query);
                            }
                        }
                        let place = sums.0.as_mut_ptr().add((group * LANES + pair) * GROUP);
                        s.store(place, u.sums_across(vectors));
                    }
                }
            }
            for group in 0..groups {
                // SAFETY: there are `LANES` rows of sums of each group, and scores are whole vectors by the
                // assertions.
                unsafe {
                    let turned = s.transpose_32(Rows {
                        first: sums.0.as_ptr().add(group * LANES * GROUP).cast(),
                        stride: GROUP * size_of::<f32>(),
                    });
                    let scales = s.load(scales.scales.as_ptr());
                    for q in 0..N {
                        let score = s.mul(u.numbers(s.as_float(turned[q])), scales);
                        let row = (group * N + q) * PIECE;
                        s.store(few.scores.as_mut_ptr().add(row + first), score);
                    }
                }
            }
        }
    }
}

/// Each of so many keys with each query.
#[repr(align(64))]
struct Sums([f32; LANES * GROUP * MOST_GROUPS]);

/// Makes scores weights, then
/// `mixed[q] = mixed[q] * factors[q][0] + factors[q][1] * factors[q][2] * sum over k of weight[q][k] * value[k]`
struct Mix<'a, 'b, C, const N: usize, const FULL: bool>(&'a mut Few<'b>, C);

impl<C: Cached, const N: usize, const FULL: bool> Mix<'_, '_, C, N, FULL> {
    /// The factors of each query, and those of each value.
    #[inline(always)]
    fn weights(&mut self, u: Whole) -> [[f32; 3]; MOST] {
        let few = &mut *self.0;
        let (most, cols) = (few.most(), few.values.cols);
        assert!(most <= few.values.rows.len());
        for (group, rows) in few.values.rows[..most].chunks(LANES).enumerate() {
            // SAFETY: rows are of `cols` values.
            let scales = unsafe { u.scales_of_values::<C>(rows, cols) };
            let group = group * LANES..(group + 1) * LANES;
            few.value_factors[group.clone()].copy_from_slice(&scales.factors);
            few.value_scales[group].copy_from_slice(&scales.scales);
        }
        let mut factors = [[1.0, 0.0, 1.0]; MOST];
        for query in 0..few.visible.len() {
            let scores = &mut few.scores[query * PIECE..][..PIECE];
            let scale = few.scale * few.query_scales[query];
            let visible = few.visible[query];
            let (found, unit) = weights(u, scores, visible, most, scale, few.value_scales);
            if visible > 0 {
                let (after, [old, new]) = few.softmax[query].merge(found);
                few.softmax[query] = after;
                factors[query] = [old, new, unit];
            }
        }
        factors
    }

    /// A strip of two neighbouring positions' values, beside each other.
    ///
    /// # Safety
    /// The position must be one of the piece, even, and the strip below `padded`.
    #[inline(always)]
    unsafe fn values(&self, u: Whole, position: usize, column: usize) -> Strip {
        let few = &*self.0;
        // The last one may be its own neighbour, with a weight of zero.
        let next = if position + 1 < few.values.rows.len() {
            position + 1
        } else {
            position
        };
        let mut values = [u.simd().splat(0.0); STRIP];
        // SAFETY: as the caller promises, there are such rows, with factors, and they are of `cols` values.
        unsafe {
            let rows = [
                *few.values.rows.get_unchecked(position),
                *few.values.rows.get_unchecked(next),
            ];
            let factors = [
                *few.value_factors.get_unchecked(position),
                *few.value_factors.get_unchecked(next),
            ];
            for v in 0..STRIP {
                let at = column + v * LANES;
                values[v] = u.values::<C, FULL>(rows, at, few.values.cols, factors);
            }
        }
        values
    }
}

/// Units of a strip.
type Strip = [<Avx512 as Words>::F; STRIP];

impl<C: Cached, const N: usize, const FULL: bool> WholeKernel for Mix<'_, '_, C, N, FULL> {
    #[inline(always)]
    fn run(mut self, u: Whole) {
        let factors = self.weights(u);
        let s = u.simd();
        let (padded, most, count) = (self.0.padded, self.0.most(), self.0.visible.len());
        let (width, groups) = (STRIP * LANES, count / N);
        assert!(most <= self.0.values.rows.len() && most <= PIECE && count <= MOST);
        assert!(self.0.scores.len() == count * PIECE && self.0.value_factors.len() >= PIECE);
        assert!(self.0.mixed.len() == count * padded && padded.is_multiple_of(width));
        assert!(self.0.strip.len() >= PIECE / 2 * width);
        // Each strip asks for a part of what is ahead.
        let asked = self.0.ahead.row_bytes.div_ceil(padded / width);
        for column in (0..padded).step_by(width) {
            let from = column / width * asked;
            for group in 0..groups {
                let mut sums = [[s.splat(0.0); STRIP]; N];
                for position in (0..most).step_by(2) {
                    // SAFETY: there are such positions and strips, a unit of weights for each two positions, and room
                    // for the strip's units.
                    unsafe {
                        let kept = self.0.strip.as_mut_ptr().add(position / 2 * width);
                        let mut values = [s.splat(0.0); STRIP];
                        if group == 0 {
                            let ahead = &self.0.ahead;
                            ahead.prefetch_part(position, from, from + asked);
                            ahead.prefetch_part(position + 1, from, from + asked);
                            values = self.values(u, position, column);
                            if groups > 1 {
                                for v in 0..STRIP {
                                    s.store(kept.add(v * LANES), values[v]);
                                }
                            }
                        } else {
                            for v in 0..STRIP {
                                values[v] = s.load(kept.add(v * LANES));
                            }
                        }
                        let weight = self.0.scores.as_ptr().add(group * N * PIECE + position / 2);
                        for q in 0..N {
                            let weight = s.splat(*weight.add(q * PIECE));
                            for v in 0..STRIP {
                                sums[q][v] = u.multiply_add(sums[q][v], values[v], weight);
                            }
                        }
                    }
                }
                for q in 0..N {
                    let query = group * N + q;
                    let [before, new, unit] = factors[query];
                    for v in 0..STRIP {
                        // SAFETY: a query's mixed values are whole strips by the assertions.
                        unsafe {
                            let at = query * padded + column + v * LANES;
                            let place = self.0.mixed.as_mut_ptr().add(at);
                            let old = s.mul(s.load(place), s.splat(before));
                            let sum = s.mul(u.numbers(sums[q][v]), s.splat(unit));
                            s.store(place, s.mul_add(sum, s.splat(new), old));
                        }
                    }
                }
            }
        }
    }
}
