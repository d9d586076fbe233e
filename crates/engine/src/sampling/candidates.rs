//! The tokens that are still in the running.
//!
//! At first that is the whole vocabulary, and its logits stay where they are: a pass over them
//! costs some ten microseconds, a list of them a hundred times that. The first cut makes a short
//! list, most likely token first, and everything after it works on the list.

use std::cmp::Ordering;

use tensor::Likely;

use super::Mask;
use super::loops::{BLOCK, GROUP, exp, largest, sum_exp};

/// A token and its logit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Candidate {
    pub(super) token: u32,
    pub(super) logit: f32,
}

impl Candidate {
    /// More likely ones first; of equals, the lower token.
    pub(super) fn order(&self, other: &Self) -> Ordering {
        let by_logit = other.logit.total_cmp(&self.logit);
        by_logit.then(self.token.cmp(&other.token))
    }
}

/// Masks with fewer tokens than this make a list at once.
const SHORT: usize = 4096;

/// The candidates of one choice.
pub(super) struct Candidates<'a> {
    /// The whole vocabulary's logits. Not used once there is a list.
    all: &'a mut [f32],
    /// `all` is still to be divided by this.
    divisor: f32,
    /// Sorted by [`Candidate::order`]. No logit is NaN or negative infinity.
    list: &'a mut Vec<Candidate>,
    is_list: bool,
    /// The sums over `all`, if they are known.
    mass: Option<Mass>,
}

/// The unnormalised probabilities of the whole vocabulary, `e^((logit - largest) / divisor)`.
struct Mass {
    largest: f32,
    /// Summed by blocks of [`BLOCK`] tokens.
    blocks: Vec<f64>,
    total: f64,
}

impl<'a> Candidates<'a> {
    /// All tokens of a vocabulary. `list` lends its memory.
    pub(super) fn new(all: &'a mut [f32], list: &'a mut Vec<Candidate>) -> Self {
        list.clear();
        Self {
            all,
            divisor: 1.0,
            list,
            is_list: false,
            mass: None,
        }
    }

    /// These alone; no logit is NaN or negative infinity.
    pub(super) fn of(likely: impl Iterator<Item = Likely>, list: &'a mut Vec<Candidate>) -> Self {
        list.clear();
        list.extend(likely.map(|Likely { token, logit }| Candidate {
            token,
            // The two zeros are equal, as they are where all logits are compared.
            logit: logit + 0.0,
        }));
        list.sort_unstable_by(Candidate::order);
        Self {
            all: &mut [],
            divisor: 1.0,
            list,
            is_list: true,
            mass: None,
        }
    }

    /// Leaves only what the mask allows.
    pub(super) fn keep_allowed(&mut self, mask: &Mask) {
        if mask.count() > SHORT {
            mask.apply(self.all);
            return;
        }
        let all = &*self.all;
        let allowed = mask.tokens().filter_map(|token| {
            let logit = *all.get(token as usize)?;
            (logit > f32::NEG_INFINITY).then_some(Candidate { token, logit })
        });
        self.list.extend(allowed);
        self.list.sort_unstable_by(Candidate::order);
        self.is_list = true;
    }

    /// Removes tokens; does nothing if that would leave none.
    pub(super) fn remove(&mut self, tokens: &[u32]) {
        if self.is_list {
            if self.list.iter().any(|c| !tokens.contains(&c.token)) {
                self.list.retain(|c| !tokens.contains(&c.token));
            }
            return;
        }
        let mut saved = Vec::with_capacity(tokens.len());
        for &token in tokens {
            if let Some(logit) = self.all.get_mut(token as usize) {
                saved.push((token, std::mem::replace(logit, f32::NEG_INFINITY)));
            }
        }
        if largest(self.all) == f32::NEG_INFINITY {
            // Backwards, in case a token was listed twice.
            for (token, logit) in saved.into_iter().rev() {
                self.all[token as usize] = logit;
            }
        }
        self.mass = None;
    }

    /// Changes the logits of `tokens`, which are all for which `change` changes anything.
    pub(super) fn adjust(
        &mut self,
        tokens: impl Iterator<Item = u32>,
        change: impl Fn(u32, f32) -> f32,
    ) {
        if self.is_list {
            for candidate in self.list.iter_mut() {
                candidate.logit = change(candidate.token, candidate.logit);
            }
            self.list.retain(|c| c.logit > f32::NEG_INFINITY);
            self.list.sort_unstable_by(Candidate::order);
            return;
        }
        if self.divisor != 1.0 {
            let divisor = std::mem::replace(&mut self.divisor, 1.0);
            self.all.iter_mut().for_each(|logit| *logit /= divisor);
        }
        for token in tokens {
            if let Some(logit) = self.all.get_mut(token as usize) {
                *logit = change(token, *logit);
            }
        }
        self.mass = None;
    }

    /// Divides all logits.
    pub(super) fn divide(&mut self, divisor: f32) {
        if self.is_list {
            self.list.iter_mut().for_each(|c| c.logit /= divisor);
        } else {
            self.divisor *= divisor;
            self.mass = None;
        }
    }

    /// The list, if there is one.
    pub(super) fn list(&mut self) -> Option<&mut Vec<Candidate>> {
        self.is_list.then_some(&mut *self.list)
    }

    /// The whole vocabulary's logits, and what they are still to be divided by.
    pub(super) fn all(&self) -> (&[f32], f32) {
        (self.all, self.divisor)
    }

    /// The list of all tokens whose logit (divided) is not below that of the most likely one by
    /// more than `distance`. There must be no list yet.
    pub(super) fn list_within(&mut self, distance: f32) -> &mut Vec<Candidate> {
        let best = largest(self.all);
        let least = best - distance * self.divisor;
        self.collect(least);
        self.list.sort_unstable_by(Candidate::order);
        self.make_list()
    }

    /// The list of all tokens, of which only the most likely one is in its place, the first. Whoever
    /// asks for it sorts it. There must be no list yet.
    pub(super) fn list_unsorted(&mut self) -> &mut Vec<Candidate> {
        self.collect(f32::MIN);
        let places = 0..self.list.len();
        if let Some(best) = places.min_by(|&a, &b| self.list[a].order(&self.list[b])) {
            self.list.swap(0, best);
        }
        self.make_list()
    }

    /// The list of the `count` most likely tokens. There must be no list yet.
    pub(super) fn list_most_likely(&mut self, count: usize) -> &mut Vec<Candidate> {
        most_likely(self.all, count, self.list);
        self.make_list()
    }

    /// The list of the most likely tokens that together reach `share` of all probability, and
    /// maybe some more. There must be no list yet.
    pub(super) fn list_reaching(&mut self, share: f64) -> &mut Vec<Candidate> {
        let total = self.mass().total;
        // Most distributions have nearly all of their mass close to the top.
        let mut distance = 6.0;
        let best = self.mass().largest;
        loop {
            let least = best - distance * self.divisor;
            self.list.clear();
            self.collect(least);
            let scale = 1.0 / self.divisor;
            let weights = self.list.iter().map(|c| exp((c.logit - best) * scale));
            let sum: f64 = weights.map(f64::from).sum();
            // Beyond 87 there is nothing but zeros.
            if sum >= share * total || distance > 87.0 {
                break;
            }
            distance *= 2.0;
        }
        self.list.sort_unstable_by(Candidate::order);
        self.make_list()
    }

    /// Lists all with a logit of at least this.
    fn collect(&mut self, least: f32) {
        for (group, first) in self.all.chunks(GROUP).zip((0u32..).step_by(GROUP)) {
            // Nearly all groups have none.
            if largest(group) < least {
                continue;
            }
            let wanted = |logit: f32| logit >= least && logit > f32::NEG_INFINITY;
            let listed = group
                .iter()
                .zip(first..)
                .filter(|(logit, _)| wanted(**logit));
            self.list
                .extend(listed.map(|(&logit, token)| Candidate { token, logit }));
        }
    }

    fn make_list(&mut self) -> &mut Vec<Candidate> {
        self.is_list = true;
        if self.divisor != 1.0 {
            let divisor = std::mem::replace(&mut self.divisor, 1.0);
            self.list.iter_mut().for_each(|c| c.logit /= divisor);
        }
        self.list
    }

    /// Forbids tokens of the whole vocabulary. There must be no list yet.
    pub(super) fn forbid(&mut self, tokens: &[Candidate]) {
        for &Candidate { token, .. } in tokens {
            self.all[token as usize] = f32::NEG_INFINITY;
        }
        self.mass = None;
    }

    /// `ln` of the sum of `e^(logit - largest)`, and the largest logit, over all candidates.
    pub(super) fn log_sum(&mut self) -> (f32, f64) {
        if self.is_list {
            let best = self.list.first().map_or(f32::NEG_INFINITY, |c| c.logit);
            let sum: f64 = weights(self.list).sum();
            return (best, sum.ln());
        }
        let divisor = self.divisor;
        let mass = self.mass();
        (mass.largest / divisor, mass.total.ln())
    }

    fn mass(&mut self) -> &Mass {
        let (all, divisor) = (&*self.all, self.divisor);
        self.mass.get_or_insert_with(|| {
            let largest = largest(all);
            let blocks: Vec<f64> = all
                .chunks(BLOCK)
                .map(|block| sum_exp(block, largest, divisor))
                .collect();
            Mass {
                largest,
                total: blocks.iter().sum(),
                blocks,
            }
        })
    }

    /// The most likely token. `None` if there are no candidates.
    pub(super) fn most_likely(&self) -> Option<u32> {
        if self.is_list {
            return self.list.first().map(|c| c.token);
        }
        let best = super::argmax(self.all);
        let logit = *self.all.get(best as usize)?;
        (logit > f32::NEG_INFINITY).then_some(best)
    }

    /// The token at `uniform` (in [0, 1)) of the way through the distribution: the list in its
    /// order, the whole vocabulary in that of the tokens. `None` if there are no candidates.
    pub(super) fn draw(&mut self, uniform: f64) -> Option<u32> {
        if self.is_list {
            let best = self.most_likely()?;
            let total: f64 = weights(self.list).sum();
            let tokens = self.list.iter().map(|c| c.token);
            return pick(tokens.zip(weights(self.list)), uniform * total).or(Some(best));
        }
        let divisor = self.divisor;
        let mass = self.mass();
        let (largest, mut left) = (mass.largest, uniform * mass.total);
        if largest.is_infinite() {
            return self.most_likely();
        }
        // The last block with any weight takes what rounding leaves over.
        let last = mass.blocks.iter().rposition(|&sum| sum > 0.0)?;
        let mut block = 0;
        while block < last && left >= mass.blocks[block] {
            left -= mass.blocks[block];
            block += 1;
        }
        let first = block * BLOCK;
        let logits = &self.all[first..self.all.len().min(first + BLOCK)];
        let scale = 1.0 / divisor;
        let weighted = (first as u32..)
            .zip(logits)
            .map(|(token, &logit)| (token, f64::from(exp((logit - largest) * scale))));
        pick(weighted, left).or_else(|| self.most_likely())
    }
}

/// Puts the `count` largest logits into `list`, in its order, in one pass.
pub(super) fn most_likely(logits: &[f32], count: usize, list: &mut Vec<Candidate>) {
    list.clear();
    if count == 0 {
        return;
    }
    let room = (2 * count).max(2 * GROUP);
    // The count-th best so far. A later token with the same logit loses.
    let mut threshold = f32::NEG_INFINITY;
    for (group, first) in logits.chunks(GROUP).zip((0u32..).step_by(GROUP)) {
        if largest(group) <= threshold {
            continue;
        }
        for (&logit, token) in group.iter().zip(first..) {
            if logit > threshold {
                list.push(Candidate { token, logit });
            }
        }
        if list.len() > room {
            list.select_nth_unstable_by(count - 1, Candidate::order);
            list.truncate(count);
            threshold = list[count - 1].logit;
        }
    }
    list.sort_unstable_by(Candidate::order);
    list.truncate(count);
}

/// `e^(logit - largest)` for each of a sorted list.
pub(super) fn weights(list: &[Candidate]) -> impl Iterator<Item = f64> + '_ {
    let best = list.first().map_or(0.0, |c| c.logit);
    list.iter().map(move |c| {
        // Of infinitely likely tokens the first is as likely as any.
        let below = if c.logit == best { 0.0 } else { c.logit - best };
        f64::from(exp(below))
    })
}

/// The token at whose weight `left` is used up; the last one with any weight if it never is.
fn pick(weighted: impl Iterator<Item = (u32, f64)>, mut left: f64) -> Option<u32> {
    let mut last = None;
    for (token, weight) in weighted {
        if weight > 0.0 {
            last = Some(token);
            if left < weight {
                break;
            }
            left -= weight;
        }
    }
    last
}
