//! The stages that remove candidates, and the temperature.

use super::candidates::{Candidate, Candidates, weights};
use super::loops::{exp, moments};
use super::settings::Xtc;

/// Keeps the `count` most likely; 0 keeps all.
pub(super) fn top_k(candidates: &mut Candidates<'_>, count: usize) {
    if count == 0 {
        return;
    }
    if let Some(list) = candidates.list() {
        list.truncate(count);
    } else if count < candidates.all().0.len() {
        candidates.list_most_likely(count);
    }
}

/// Keeps the fewest of the most likely that together have `share` of the probability, at least
/// one; 1 keeps all.
pub(super) fn top_p(candidates: &mut Candidates<'_>, share: f32) {
    if share >= 1.0 {
        return;
    }
    let share = f64::from(share);
    let (total, list) = match candidates.list() {
        Some(list) => (weights(list).sum::<f64>(), list),
        None => {
            let (_, log_sum) = candidates.log_sum();
            (log_sum.exp(), candidates.list_reaching(share))
        }
    };
    let mut sum = 0.0;
    let enough = weights(list).position(|weight| {
        sum += weight;
        sum >= share * total
    });
    if let Some(last) = enough {
        list.truncate(last + 1);
    }
}

/// Keeps those with at least `share` of the most likely one's probability; 0 keeps all.
pub(super) fn min_p(candidates: &mut Candidates<'_>, share: f32) {
    if share > 0.0 {
        keep_within(candidates, -share.ln());
    }
}

/// Keeps those whose logit is within `count` standard deviations of the largest; 0 keeps all.
pub(super) fn top_n_sigma(candidates: &mut Candidates<'_>, count: f32) {
    if count <= 0.0 {
        return;
    }
    let deviation = match candidates.list() {
        Some(list) => {
            let logits: Vec<f32> = list.iter().map(|c| c.logit).collect();
            moments(&logits).2
        }
        None => {
            let (all, divisor) = candidates.all();
            moments(all).2 / f64::from(divisor)
        }
    };
    keep_within(candidates, count * deviation as f32);
}

/// Keeps those whose logit is at most `distance` below the largest.
fn keep_within(candidates: &mut Candidates<'_>, distance: f32) {
    match candidates.list() {
        Some(list) => {
            let least = list.first().map_or(0.0, |c| c.logit) - distance;
            let end = list.partition_point(|c| c.logit >= least);
            // Rounding never takes the most likely one.
            list.truncate(end.max(1));
        }
        None => {
            candidates.list_within(distance);
        }
    }
}

/// Keeps the most typical that together have `share` of the probability: those whose surprise
/// (`-ln p`) is closest to what is to be expected (the entropy). 1 keeps all.
pub(super) fn typical(candidates: &mut Candidates<'_>, share: f32) {
    if share >= 1.0 {
        return;
    }
    let list = match candidates.list() {
        Some(list) => list,
        None => candidates.list_unsorted(),
    };
    let Some(best) = list.first().map(|c| c.logit) else {
        return;
    };
    let total: f64 = weights(list).sum();
    let expected = entropy_of(list, total);
    // By deviation; of equals, the more likely first.
    let mut order: Vec<(f64, usize, f64)> = weights(list)
        .zip(list.iter().map(|c| c.logit))
        .enumerate()
        .map(|(index, (weight, logit))| {
            let surprise = f64::from(best - logit) + total.ln();
            ((surprise - expected).abs(), index, weight)
        })
        .collect();
    let mut kept = vec![false; list.len()];
    let (mut sum, mut done, mut next) = (0.0, 0, 256);
    'enough: while done < order.len() {
        let end = next.min(order.len());
        let by_deviation = |a: &(f64, usize, f64), b: &(f64, usize, f64)| {
            let by_likelihood = || list[a.1].order(&list[b.1]);
            a.0.total_cmp(&b.0).then_with(by_likelihood)
        };
        if end < order.len() {
            order[done..].select_nth_unstable_by(end - done, by_deviation);
        }
        order[done..end].sort_unstable_by(by_deviation);
        for &(_, index, weight) in &order[done..end] {
            kept[index] = true;
            sum += weight;
            if sum >= f64::from(share) * total {
                break 'enough;
            }
        }
        (done, next) = (end, next * 4);
    }
    let mut kept = kept.into_iter();
    list.retain(|_| kept.next().unwrap_or(false));
    // What was not kept was never put in order.
    list.sort_unstable_by(Candidate::order);
}

/// With `xtc.probability`, removes all with at least `xtc.threshold` of the probability but the
/// least likely of them. `uniform` decides whether it happens.
pub(super) fn xtc(candidates: &mut Candidates<'_>, xtc: Xtc, uniform: f64) {
    // Above a half there cannot be two.
    if uniform >= f64::from(xtc.probability) || xtc.threshold > 0.5 {
        return;
    }
    let threshold = f64::from(xtc.threshold);
    if let Some(list) = candidates.list() {
        let total: f64 = weights(list).sum();
        let top = weights(list)
            .take_while(|weight| *weight >= threshold * total)
            .count();
        list.drain(..top.saturating_sub(1));
        return;
    }
    let (best, log_sum) = candidates.log_sum();
    let (all, divisor) = candidates.all();
    let least = threshold.ln() + log_sum;
    let mut top: Vec<Candidate> = (0u32..)
        .zip(all)
        .filter(|&(_, &logit)| f64::from(logit / divisor - best) >= least)
        .map(|(token, &logit)| Candidate { token, logit })
        .collect();
    top.sort_unstable_by(Candidate::order);
    top.pop();
    candidates.forbid(&top);
}

/// Divides the logits by a temperature above 0. With a range it is
/// `t - range + 2 * range * (entropy / largest possible entropy) ^ exponent`.
pub(super) fn temperature(candidates: &mut Candidates<'_>, t: f32, range: f32, exponent: f32) {
    let t = if range > 0.0 {
        let (entropy, most) = entropy(candidates);
        let certainty = if most > 0.0 { entropy / most } else { 0.0 };
        let low = (t - range).max(0.0);
        low + (t + range - low) * (certainty as f32).powf(exponent)
    } else {
        t
    };
    // Below this only the most likely token has any weight left.
    const LEAST: f32 = 1e-4;
    candidates.divide(t.max(LEAST));
}

/// The entropy of the distribution, and that of a uniform one over the same tokens.
fn entropy(candidates: &mut Candidates<'_>) -> (f64, f64) {
    if let Some(list) = candidates.list() {
        let total = weights(list).sum();
        return (entropy_of(list, total), (list.len() as f64).ln());
    }
    let (best, log_sum) = candidates.log_sum();
    let (all, divisor) = candidates.all();
    let (mut count, mut expected) = (0usize, 0.0);
    for &logit in all.iter().filter(|logit| **logit > f32::NEG_INFINITY) {
        let below = logit / divisor - best;
        count += 1;
        expected -= f64::from(exp(below) * below);
    }
    (expected / log_sum.exp() + log_sum, (count as f64).ln())
}

fn entropy_of(list: &[Candidate], total: f64) -> f64 {
    let best = list.first().map_or(0.0, |c| c.logit);
    let expected: f64 = weights(list)
        .zip(list)
        .filter(|(weight, _)| *weight > 0.0)
        .map(|(weight, c)| weight * f64::from(best - c.logit))
        .sum();
    expected / total + total.ln()
}
