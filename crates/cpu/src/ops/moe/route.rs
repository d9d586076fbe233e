//! Which experts a row uses.

use tensor::{MoeWeights, OpError, Tensor};

use super::Routing;
use crate::cpu::Cpu;
use crate::matrix::Matrix;
use crate::ops::linear::linear;

pub(in crate::ops) fn route<E>(
    cpu: &Cpu,
    x: &Tensor,
    weights: &MoeWeights<&Matrix, E>,
) -> Result<Routing, OpError> {
    let [logits] = linear(cpu, x, [weights.router])?;
    let renormalise = weights.renormalise;
    let per_row = weights.top_k.min(logits.cols());
    let mut choices = vec![(0, 0.0); x.rows() * per_row];
    if per_row > 0 {
        // A comparison costs as much as two vector operations.
        let cost = 2 * logits.cols();
        cpu.for_rows(&mut choices, per_row, cost, |row, choices| {
            choose(logits.row(row), renormalise, choices);
        });
    }
    Ok(Routing::even(choices, x.rows(), weights.router.rows()))
}

/// Fills `choices` with the most likely experts and their weights, ties going to the lower index.
fn choose(logits: &[f32], renormalise: bool, choices: &mut [(u32, f32)]) {
    let mut found = 0;
    // The least of those found, once there are enough; almost all are below it.
    let mut bar = None;
    for (expert, &logit) in logits.iter().enumerate() {
        // A negative zero is not below a positive one.
        let logit = logit + 0.0;
        if bar.is_some_and(|bar: f32| bar.total_cmp(&logit).is_ge()) {
            continue;
        }
        // Insert behind all that are not smaller; what falls off the end was too small.
        let place = choices[..found].partition_point(|(_, l)| l.total_cmp(&logit).is_ge());
        found = (found + 1).min(choices.len());
        choices.copy_within(place..found - 1, place + 1);
        choices[place] = (expert as u32, logit);
        if found == choices.len() {
            bar = choices.last().map(|(_, logit)| *logit);
        }
    }
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    for (_, value) in choices.iter_mut() {
        *value = (*value - largest).exp();
    }
    let sum: f32 = if renormalise {
        choices.iter().map(|(_, value)| value).sum()
    } else {
        logits.iter().map(|logit| (logit - largest).exp()).sum()
    };
    for (_, value) in choices {
        *value /= sum;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_likely_are_chosen_whatever_their_order() {
        let mut random = crate::tests::Random::new(7);
        for experts in [1, 2, 7, 64, 256] {
            for _ in 0..50 {
                // Few distinct values, so that there are ties.
                let logits: Vec<f32> = (0..experts)
                    .map(|_| random.index(2 * experts) as f32 / 8.0 - 1.0)
                    .collect();
                let top_k = 1 + random.index(experts.min(10));
                for renormalise in [true, false] {
                    let mut choices = vec![(0, 0.0); top_k];
                    choose(&logits, renormalise, &mut choices);
                    let expected = tensor::reference::choose(&logits, top_k, renormalise);
                    for (found, expected) in choices.iter().zip(expected) {
                        assert_eq!((found.0 as usize, found.1), expected);
                    }
                }
            }
        }
    }
}
