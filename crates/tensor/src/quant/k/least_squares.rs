//! What both searches share: weights, rounding and sums.

/// How much each value's squared error counts: more for larger values, `rms + |x|`.
///
/// Large weights move outputs more than their share of the squared error says. This is the compromise
/// that ggml made for its K types; plain weights would make the plain error a little smaller.
pub(super) fn weights<const LEN: usize>(values: &[f32; LEN]) -> [f32; LEN] {
    let rms = (sum(&values.map(|x| x * x)) / LEN as f32).sqrt();
    values.map(|x| rms + x.abs())
}

/// Rounds to nearest even and clamps.
///
/// The clamp comes first, so that huge numbers stay in the range where the two additions round; on
/// any processor they are quicker than the library's function.
#[inline(always)]
pub(super) fn clamp_round(value: f32, low: f32, high: f32) -> f32 {
    const MAGIC: f32 = 12_582_912.0; // 1.5 * 2^23: here the spacing of f32 is 1
    (value.clamp(low, high) + MAGIC) - MAGIC
}

/// The scale, or where f16 would round it to zero the smallest number of f16 with its sign.
///
/// A coarse scale is better than none: tiny values then still reach the nearest of its multiples.
pub(super) fn smallest_f16(scale: f32) -> f32 {
    const SMALLEST: f32 = 1.0 / 16_777_216.0;
    if scale == 0.0 || scale.abs() >= SMALLEST {
        scale
    } else {
        SMALLEST.copysign(scale)
    }
}

/// The sum in eight lanes, which vectorises where a sum in order cannot.
#[inline(always)]
pub(super) fn sum<const LEN: usize>(terms: &[f32; LEN]) -> f32 {
    let (chunks, rest) = terms.as_chunks::<8>();
    let mut lanes = [0.0; 8];
    for chunk in chunks {
        for (lane, term) in lanes.iter_mut().zip(chunk) {
            *lane += term;
        }
    }
    lanes.iter().sum::<f32>() + rest.iter().sum::<f32>()
}

/// The sum of `f(i)` over the places of a group.
#[inline(always)]
pub(super) fn sum_of<const LEN: usize>(f: impl Fn(usize) -> f32) -> f32 {
    sum(&std::array::from_fn::<f32, LEN, _>(f))
}
