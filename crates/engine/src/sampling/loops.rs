//! Passes over a whole vocabulary, written so that compilers turn them into vector code.
//!
//! Each sums in one fixed order, so that equal logits give equal bits.

use tensor::Likely;

/// Values that are worked on side by side.
const LANES: usize = 16;
/// Logits whose exponentials are summed in f32 before the sum goes into an f64.
pub(super) const BLOCK: usize = 4096;
/// Logits that are compared with something at once, before any of them is looked at.
pub(super) const GROUP: usize = 64;

/// The index of the largest logit; the lowest of equals. 0 if all are NaN.
pub fn argmax(logits: &[f32]) -> u32 {
    let (mut best, mut first) = (f32::NEG_INFINITY, 0);
    for (group, start) in logits.chunks(GROUP).zip((0..).step_by(GROUP)) {
        let of_group = largest(group);
        if of_group > best {
            (best, first) = (of_group, start);
        }
    }
    // It is in the group found, unless nothing is above negative infinity.
    let at = logits[first..].iter().position(|&logit| logit == best);
    at.map_or(0, |at| first + at) as u32
}

/// The most likely of a list: the first of equals. 0 if there is none.
pub fn most_likely(list: &[Likely]) -> u32 {
    let by_logit = |a: &&Likely, b: &&Likely| {
        let by_logit = (a.logit + 0.0).total_cmp(&(b.logit + 0.0));
        by_logit.then(b.token.cmp(&a.token))
    };
    list.iter()
        .max_by(by_logit)
        .map_or(0, |likely| likely.token)
}

/// The largest logit; negative infinity if there is none. NaN counts as none.
pub(super) fn largest(logits: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let (chunks, rest) = logits.as_chunks::<LANES>();
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for chunk in chunks {
        for (lane, &logit) in lanes.iter_mut().zip(chunk) {
            *lane = larger(*lane, logit);
        }
    }
    lanes
        .into_iter()
        .chain(rest.iter().copied())
        .fold(f32::NEG_INFINITY, larger)
}

/// `e^x` for `x <= 0`, within 3e-7 of it; 0 for what is next to nothing and for NaN.
#[inline]
pub(super) fn exp(x: f32) -> f32 {
    /// Adding it moves an integer into the low bits of the mantissa.
    const MAGIC: f32 = 12_582_912.0;
    // ln 2 as the sum of a part with few bits and the rest, so that n * LN2_HIGH is exact.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let clamped = if x > -87.0 { x } else { -87.0 };
    let shifted = clamped * std::f32::consts::LOG2_E + MAGIC;
    let n = shifted - MAGIC;
    let r = clamped - n * LN2_HIGH - n * LN2_LOW;
    // Taylor's series is as good as any on |r| <= ln(2) / 2.
    let series = 1.0
        + r * (1.0
            + r * (0.5
                + r * (1.666_666_7e-1
                    + r * (4.166_666_8e-2 + r * (8.333_334e-3 + r * 1.388_889e-3)))));
    // 2^n: n sits in the low bits of `shifted`, the exponent's place is from bit 23 on.
    let scale = f32::from_bits(shifted.to_bits().wrapping_add(127) << 23);
    if x > -87.0 { series * scale } else { 0.0 }
}

/// The sum of `e^((logit - largest) / divisor)` over at most [`BLOCK`] logits.
pub(super) fn sum_exp(logits: &[f32], largest: f32, divisor: f32) -> f64 {
    let scale = 1.0 / divisor;
    let (chunks, rest) = logits.as_chunks::<LANES>();
    let mut lanes = [0.0f32; LANES];
    for chunk in chunks {
        for (lane, &logit) in lanes.iter_mut().zip(chunk) {
            *lane += exp((logit - largest) * scale);
        }
    }
    for (lane, &logit) in lanes.iter_mut().zip(rest) {
        *lane += exp((logit - largest) * scale);
    }
    lanes.into_iter().map(f64::from).sum()
}

/// Of all logits above negative infinity: how many there are, their mean and standard deviation.
pub(super) fn moments(logits: &[f32]) -> (usize, f64, f64) {
    let finite = |logit: f32| logit.is_finite();
    let count = logits.iter().filter(|&&logit| finite(logit)).count();
    if count == 0 {
        return (0, 0.0, 0.0);
    }
    let sum = sum_lanes(
        logits,
        |logit| {
            if finite(logit) { f64::from(logit) } else { 0.0 }
        },
    );
    let mean = sum / count as f64;
    let squares = sum_lanes(logits, |logit| {
        let off = f64::from(logit) - mean;
        if finite(logit) { off * off } else { 0.0 }
    });
    (count, mean, (squares / count as f64).sqrt())
}

/// The sum of a function of each logit.
#[inline]
fn sum_lanes(logits: &[f32], of: impl Fn(f32) -> f64) -> f64 {
    let (chunks, rest) = logits.as_chunks::<LANES>();
    let mut lanes = [0.0f64; LANES];
    for chunk in chunks {
        for (lane, &logit) in lanes.iter_mut().zip(chunk) {
            *lane += of(logit);
        }
    }
    let rest = rest.iter().map(|&logit| of(logit));
    lanes.into_iter().chain(rest).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn exponentials_are_close() {
        let mut worst = 0.0f64;
        for step in 0..870_000 {
            let x = -(step as f32) * 1e-4;
            let want = f64::from(x).exp();
            worst = worst.max((f64::from(exp(x)) - want).abs() / want);
        }
        assert!(worst < 3e-7, "{worst:e}");
        assert_eq!(exp(0.0), 1.0);
        for none in [-87.0, -1e30, f32::NEG_INFINITY, f32::NAN] {
            assert_eq!(exp(none), 0.0, "{none}");
        }
    }

    #[test]
    fn the_lowest_of_equals_wins() {
        assert_eq!(argmax(&[1.0, 3.0, 3.0]), 1);
        assert_eq!(argmax(&[f32::NAN, 0.0, f32::NAN]), 1);
        assert_eq!(argmax(&[f32::NAN; 3]), 0);
        assert_eq!(argmax(&[f32::NEG_INFINITY; 3]), 0);
        assert_eq!(argmax(&[]), 0);
        assert_eq!(argmax(&[f32::NAN, f32::NEG_INFINITY]), 1);
        let mut long = vec![1.0; 10 * GROUP];
        for at in [GROUP, 3 * GROUP + 5, 10 * GROUP - 1] {
            long[at] = 2.0;
        }
        assert_eq!(argmax(&long) as usize, GROUP);
    }

    proptest! {
        #[test]
        fn passes_agree_with_plain_loops(
            logits in prop::collection::vec(-30.0f32..30.0, 1..300), divisor in 0.1f32..4.0,
        ) {
            let best = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            prop_assert_eq!(largest(&logits), best);
            prop_assert_eq!(logits[argmax(&logits) as usize], best);
            let plain: f64 = logits.iter().map(|&l| f64::from((l - best) / divisor).exp()).sum();
            let fast = sum_exp(&logits, best, divisor);
            prop_assert!((fast - plain).abs() < 1e-5 * plain, "{} {}", fast, plain);
        }
    }
}
