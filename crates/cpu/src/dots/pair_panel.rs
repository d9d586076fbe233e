//! A panel's codes and factors in the order in which [`Pairs`] wants them.

use super::pairs::{Floats, Ints, Pairs};
use super::panel::{Format, GROUP_WORDS, MOST_GROUPS, Panel, Sink};
use crate::simd::{MAX_LANES, Simd};

/// A panel whose codes and factors are made for pairs.
pub(super) struct Woven<'a, P>(pub(super) P, pub(super) &'a mut Panel);

impl<P: Pairs, F: Format> Sink<P::Simd, F> for Woven<'_, P> {
    #[inline(always)]
    fn scales(&mut self, s: P::Simd, group: usize, part: usize, scales: Floats<P>) {
        let group = self.1.first_group + group;
        self.1
            .set_pair_of_scales(s, group, part, self.0.of_rows(scales));
    }

    #[inline(always)]
    fn mins(&mut self, s: P::Simd, group: usize, part: usize, mins: Floats<P>) {
        let group = self.1.first_group + group;
        self.1
            .set_pair_of_mins(s, group, part, self.0.of_rows(mins));
    }

    #[inline(always)]
    fn codes<const WORDS: usize>(
        &mut self,
        s: P::Simd,
        group: usize,
        part: usize,
        codes: [Ints<P>; WORDS],
    ) {
        let first = (self.1.first_group + group) * GROUP_WORDS + part * WORDS;
        for word in (0..WORDS).step_by(2) {
            let woven = self.0.codes([codes[word], codes[word + 1]]);
            self.1.set_vector(s, first + word, woven[0]);
            self.1.set_vector(s, first + word + 1, woven[1]);
        }
    }

    #[inline(always)]
    fn ahead(&self) -> *const u8 {
        self.1.ahead
    }
}

/// Factors where each part has two vectors of them, in place of one.
impl Panel {
    /// The scales of a part of a group.
    #[inline(always)]
    pub(super) fn pair_of_scales<S: Simd>(&self, s: S, group: usize, part: usize) -> [S::F; 2] {
        let at = pair_at::<S>(group, part);
        // SAFETY: within the scales.
        unsafe { load_pair(s, self.scales.as_ptr().add(at)) }
    }

    /// The minima of a part of a group.
    #[inline(always)]
    pub(super) fn pair_of_mins<S: Simd>(&self, s: S, group: usize, part: usize) -> [S::F; 2] {
        let at = pair_at::<S>(group, part);
        // SAFETY: within the minima.
        unsafe { load_pair(s, self.mins.as_ptr().add(at)) }
    }

    /// Stores the scales of a part.
    #[inline(always)]
    pub(super) fn set_pair_of_scales<S: Simd>(
        &mut self,
        s: S,
        group: usize,
        part: usize,
        scales: [S::F; 2],
    ) {
        let at = pair_at::<S>(group, part);
        // SAFETY: within the scales.
        unsafe { store_pair(s, self.scales.as_mut_ptr().add(at), scales) }
    }

    /// Stores the minima of a part.
    #[inline(always)]
    pub(super) fn set_pair_of_mins<S: Simd>(
        &mut self,
        s: S,
        group: usize,
        part: usize,
        mins: [S::F; 2],
    ) {
        let at = pair_at::<S>(group, part);
        // SAFETY: within the minima.
        unsafe { store_pair(s, self.mins.as_mut_ptr().add(at), mins) }
    }
}

/// Where the two vectors of a part begin. Vectors of instruction sets that have pairs are half as long
/// as the longest ones, so that there is room for them.
#[inline(always)]
fn pair_at<S: Simd>(group: usize, part: usize) -> usize {
    const { assert!(2 * S::LANES <= MAX_LANES) };
    assert!(group < MOST_GROUPS && part < 2);
    (group * 2 + part) * 2 * S::LANES
}

/// # Safety
/// There must be two vectors.
#[inline(always)]
unsafe fn load_pair<S: Simd>(s: S, from: *const f32) -> [S::F; 2] {
    // SAFETY: as the caller promises.
    unsafe { [s.load(from), s.load(from.add(S::LANES))] }
}

/// # Safety
/// There must be room for two vectors.
#[inline(always)]
unsafe fn store_pair<S: Simd>(s: S, to: *mut f32, pair: [S::F; 2]) {
    // SAFETY: as the caller promises.
    unsafe {
        s.store(to, pair[0]);
        s.store(to.add(S::LANES), pair[1]);
    }
}
