//! The products of attention: queries with a piece's keys, softmax weights with its values.
//!
//! Both are tiles of [`QUERIES`] queries by [`TILE`] vectors whose sums stay in registers: of the
//! keys' lanes over the head's values, of the values' lanes over the keys, one after the other. So
//! a score and a mixed value are summed in the same order whatever is computed with them.

use super::pack::TILE;
use super::scales::Scale;
use super::units::{UnitKernel, Units, Vector};
use crate::simd::{Simd, exp};

/// Queries of a tile.
pub(super) const QUERIES: usize = 4;

/// What is known of a query after some pieces: the largest score and the sum of the exponentials
/// relative to it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Softmax {
    pub(super) largest: f32,
    pub(super) sum: f32,
}

impl Softmax {
    /// Of no keys.
    pub(super) const EMPTY: Self = Self {
        largest: f32::NEG_INFINITY,
        sum: 0.0,
    };

    /// Whether it is of no keys.
    pub(super) fn is_empty(self) -> bool {
        self.sum == 0.0 && self.largest == f32::NEG_INFINITY
    }

    /// Of the keys of both; also what their mixed values are to be multiplied with before they are
    /// added. One of them must not be empty.
    pub(super) fn merge(self, other: Self) -> (Self, [f32; 2]) {
        let largest = self.largest.max(other.largest);
        let before = (self.largest - largest).exp();
        let new = (other.largest - largest).exp();
        let sum = self.sum * before + other.sum * new;
        (Self { largest, sum }, [before, new])
    }
}

/// What the numbers of rows are multiplied with to be values, where they are whole.
#[derive(Clone, Copy)]
pub(super) struct Scales<'a> {
    pub(super) queries: &'a [f32],
    /// Of a piece.
    pub(super) keys: &'a [f32],
    /// Of a piece.
    pub(super) values: &'a [f32],
}

/// Adds a piece of keys to what queries have so far.
pub(super) struct Attend<'a> {
    /// `1 / sqrt(head_dim)`
    pub(super) scale: f32,
    /// Of a row, in values.
    pub(super) padded: usize,
    /// As [`super::pack`] lays them out; a multiple of [`QUERIES`].
    pub(super) queries: &'a [f32],
    /// How many of the piece's keys each query sees.
    pub(super) visible: &'a [usize],
    pub(super) keys: &'a [f32],
    pub(super) values: &'a [f32],
    pub(super) scales: Scales<'a>,
    pub(super) strip_len: usize,
    /// Room for [`QUERIES`] rows of the piece's scores.
    pub(super) scores: &'a mut [f32],
    /// `[queries, padded]`
    pub(super) mixed: &'a mut [f32],
    /// Per query.
    pub(super) softmax: &'a mut [Softmax],
}

impl UnitKernel for Attend<'_> {
    #[inline(always)]
    fn run<U: Units>(self, u: U) {
        let units = self.padded / U::VALUES;
        let row_len = self.scores.len() / QUERIES;
        let width = TILE * U::S::LANES;
        for first in (0..self.visible.len()).step_by(QUERIES) {
            let mut visible = [0; QUERIES];
            visible.copy_from_slice(&self.visible[first..first + QUERIES]);
            let mut most = 0;
            for count in visible {
                most = if count > most { count } else { most };
            }
            if most == 0 {
                continue;
            }
            let queries = &self.queries[first * units..][..QUERIES * units];
            for start in (0..most).step_by(width) {
                let keys = &self.keys[start * units..][..width * units];
                let scales = &self.scales.keys[start..][..width];
                scores(u, queries, keys, scales, &mut self.scores[start..], row_len);
            }
            let mut factors = [[1.0, 0.0, 1.0]; QUERIES];
            for query in 0..QUERIES {
                let scores = &mut self.scores[query * row_len..][..row_len];
                let scale = match U::WHOLE {
                    true => self.scale * self.scales.queries[first + query],
                    false => self.scale,
                };
                let values = self.scales.values;
                let (found, unit) = weights(u, scores, visible[query], most, scale, values);
                if visible[query] > 0 {
                    let before = self.softmax[first + query];
                    let (after, [old, new]) = before.merge(found);
                    self.softmax[first + query] = after;
                    factors[query] = [old, new, unit];
                }
            }
            let pairs = most.div_ceil(U::VALUES);
            for column in (0..self.padded).step_by(width) {
                let values = &self.values[column / width * self.strip_len..][..pairs * width];
                let mixed = &mut self.mixed[first * self.padded + column..];
                mix(u, self.scores, row_len, values, factors, mixed, self.padded);
            }
        }
    }
}

/// `out[q][k] = query q . key k` for a tile; where they are whole, without the queries' scales.
#[inline(always)]
fn scores<U: Units>(
    u: U,
    queries: &[f32],
    keys: &[f32],
    scales: &[f32],
    out: &mut [f32],
    row_len: usize,
) {
    let s = u.simd();
    let lanes = U::S::LANES;
    let units = queries.len() / QUERIES;
    assert!(keys.len() >= units * TILE * lanes);
    assert!(out.len() >= (QUERIES - 1) * row_len + TILE * lanes);
    assert!(scales.len() >= TILE * lanes);
    let mut sums = [[s.splat(0.0); TILE]; QUERIES];
    let (mut query, mut key) = (queries.as_ptr(), keys.as_ptr());
    for _ in 0..units {
        // SAFETY: each of the queries has `units` units, as many as there are vectors in a tile.
        unsafe {
            let mut k = [s.splat(0.0); TILE];
            for v in 0..TILE {
                k[v] = s.load(key.add(v * lanes));
            }
            for q in 0..QUERIES {
                let value = s.splat(*query.add(q * units));
                for v in 0..TILE {
                    sums[q][v] = u.multiply_add(sums[q][v], k[v], value);
                }
            }
            query = query.add(1);
            key = key.add(TILE * lanes);
        }
    }
    for q in 0..QUERIES {
        for v in 0..TILE {
            // SAFETY: there is room, and there are scales, by the assertions.
            unsafe {
                let mut scores = u.numbers(sums[q][v]);
                if U::WHOLE {
                    scores = s.mul(scores, s.load(scales.as_ptr().add(v * lanes)));
                }
                s.store(out.as_mut_ptr().add(q * row_len + v * lanes), scores);
            }
        }
    }
}

/// Replaces scores with the units of their exponentials relative to the largest: of the first
/// `visible`, then zeros for at least `most`. Whole ones are multiplied with the scales of their values first. Also
/// says what the units are to be multiplied with.
#[inline(always)]
pub(super) fn weights<U: Units>(
    u: U,
    scores: &mut [f32],
    visible: usize,
    most: usize,
    scale: f32,
    scales: &[f32],
) -> (Softmax, f32) {
    let s = u.simd();
    let lanes = U::S::LANES;
    let padded = most.next_multiple_of(2 * lanes);
    assert!(padded <= scores.len());
    assert!(!U::WHOLE || padded <= scales.len());
    let place = scores.as_mut_ptr();
    // What is not seen counts as no score.
    for at in visible..padded {
        scores[at] = f32::NEG_INFINITY;
    }
    let mut largest = s.splat(f32::NEG_INFINITY);
    for at in (0..visible).step_by(lanes) {
        // SAFETY: whole vectors by the assertion.
        unsafe {
            let score = s.mul(s.load(place.add(at)), s.splat(scale));
            s.store(place.add(at), score);
            largest = s.max(largest, score);
        }
    }
    let largest = s.largest(largest);
    let offset = s.splat(largest);
    let mut sum = s.splat(0.0);
    // Of weights times scales.
    let (mut scaled_sum, mut scaled_largest) = (s.splat(0.0), s.splat(0.0));
    for at in (0..most).step_by(2 * lanes) {
        // SAFETY: whole vectors by the assertions; units are written behind what is read.
        unsafe {
            let next = at + lanes;
            let first = seen(s, place.add(at), visible as isize - at as isize, offset);
            let second = seen(s, place.add(next), visible as isize - next as isize, offset);
            sum = s.add(s.add(sum, first), second);
            if U::WHOLE {
                let first = s.mul(first, s.load(scales.as_ptr().add(at)));
                let second = s.mul(second, s.load(scales.as_ptr().add(next)));
                s.store(place.add(at), first);
                s.store(place.add(next), second);
                scaled_sum = s.add(s.add(scaled_sum, first), second);
                scaled_largest = s.max(scaled_largest, s.max(first, second));
            } else {
                u.store_values(place.add(at), first, second);
            }
        }
    }
    let sum = s.sum(sum);
    if !U::WHOLE {
        return (Softmax { largest, sum }, 1.0);
    }
    let unit = Scale::of_weights(s.sum(scaled_sum), s.largest(scaled_largest));
    let factor = s.splat(unit.factor);
    for at in (0..most).step_by(2 * lanes) {
        // SAFETY: likewise.
        unsafe {
            let first = s.mul(s.load(place.add(at)), factor);
            let second = s.mul(s.load(place.add(at + lanes)), factor);
            u.store_values(place.add(at / U::VALUES), first, second);
        }
    }
    (Softmax { largest, sum }, unit.scale)
}

/// `e^(score - offset)` of the first `count` scores of a vector, then zeros.
///
/// # Safety
/// `scores` must point to a vector.
#[inline(always)]
unsafe fn seen<S: Simd>(s: S, scores: *const f32, count: isize, offset: S::F) -> S::F {
    if count <= 0 {
        return s.splat(0.0);
    }
    // SAFETY: as the caller promises.
    unsafe {
        let weights = exp(s, s.sub(s.load(scores), offset));
        if count as usize >= S::LANES {
            return weights;
        }
        let mut some = [0.0; crate::simd::MAX_LANES];
        s.store_first(some.as_mut_ptr(), weights, count as usize);
        s.load(some.as_ptr())
    }
}

/// `mixed[q] = mixed[q] * factors[q][0] + factors[q][1] * sum over k of weight[q][k] * value[k]`
/// for a tile of columns; the sum of whole numbers times `factors[q][2]`.
#[inline(always)]
fn mix<U: Units>(
    u: U,
    weights: &[f32],
    row_len: usize,
    values: &[f32],
    factors: [[f32; 3]; QUERIES],
    mixed: &mut [f32],
    mixed_len: usize,
) {
    let s = u.simd();
    let lanes = U::S::LANES;
    let count = values.len() / (TILE * lanes);
    assert!(weights.len() >= (QUERIES - 1) * row_len + count);
    assert!(mixed.len() >= (QUERIES - 1) * mixed_len + TILE * lanes);
    let mut sums = [[s.splat(0.0); TILE]; QUERIES];
    let (mut weight, mut value) = (weights.as_ptr(), values.as_ptr());
    for _ in 0..count {
        // SAFETY: there are `count` units of each query's weights and `count` rows of values.
        unsafe {
            let mut v = [s.splat(0.0); TILE];
            for c in 0..TILE {
                v[c] = s.load(value.add(c * lanes));
            }
            for q in 0..QUERIES {
                let w = s.splat(*weight.add(q * row_len));
                for c in 0..TILE {
                    sums[q][c] = u.multiply_add(sums[q][c], v[c], w);
                }
            }
            weight = weight.add(1);
            value = value.add(TILE * lanes);
        }
    }
    for q in 0..QUERIES {
        let [before, new, unit] = factors[q];
        for c in 0..TILE {
            // SAFETY: there is room by the assertion.
            unsafe {
                let place = mixed.as_mut_ptr().add(q * mixed_len + c * lanes);
                let old: Vector<U> = s.mul(s.load(place), s.splat(before));
                let mut sum = u.numbers(sums[q][c]);
                if U::WHOLE {
                    // Rounded before it is merged, as where pieces are merged later.
                    sum = s.mul(sum, s.splat(unit));
                }
                s.store(place, s.mul_add(sum, s.splat(new), old));
            }
        }
    }
}
