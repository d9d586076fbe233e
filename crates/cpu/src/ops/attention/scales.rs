//! Scales of rows of whole numbers, chosen such that no sum of products exceeds 31 bits. Sums are exact then, whatever
//! their order.
//!
//! A score is at most the sum of a query's magnitudes times the key's largest one, and a mixed value at most the sum of
//! the weights times the largest value. So keys and values are scaled to their largest, queries and weights to
//! their sum. A key has 13 bits: where its largest value is four times a usual one, as is usual for 256 of them, that is 11
//! bits for a usual one, as many as f16 has. A value has 15.

/// The largest number of a key, and some room for rounding.
pub(super) const LARGEST_KEY: f32 = 8_190.0;
/// The largest number of a query, a value or a weight, and some room for rounding.
pub(super) const LARGEST: f32 = 32_700.0;
/// The sum of a query's magnitudes, with rounding.
const QUERY_SUM: f32 = 262_000.0;
/// The sum of a piece's weights; with rounding below 2^16.
const WEIGHT_SUM: f32 = 65_000.0;
/// The most values of a row: rounding adds at most half their number to a query's sum.
pub(super) const MOST_VALUES: usize = 16 << 10;
/// What factors of queries, keys and values stay below, so that they can still be multiplied with 2^16.
const MOST_FACTOR: f32 = f32::MAX / 131_072.0;
/// Keys and values are scaled as if their largest were at least this: what is so small has fewer bits, or none.
pub(super) const LEAST: f32 = LARGEST / MOST_FACTOR;

const _: () = assert!(QUERY_SUM as i64 * (LARGEST_KEY as i64 + 1) <= i32::MAX as i64);
const _: () = assert!((WEIGHT_SUM as i64 + super::PIECE as i64 / 2) * (1 << 15) <= i32::MAX as i64);

/// How a row is made whole.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scale {
    /// What its values are multiplied with, before they are rounded.
    pub(super) factor: f32,
    /// What the numbers are multiplied with to be values again.
    pub(super) scale: f32,
}

impl Scale {
    /// Of a query of so many values, from the sum of their magnitudes and the largest.
    #[inline(always)]
    pub(super) fn of_query(sum: f32, largest: f32, cols: usize) -> Self {
        Self::within(sum, largest, QUERY_SUM - cols as f32, MOST_FACTOR)
    }

    /// Of weights, from their sum and the largest.
    #[inline(always)]
    pub(super) fn of_weights(sum: f32, largest: f32) -> Self {
        Self::within(sum, largest, WEIGHT_SUM, f32::MAX)
    }

    /// With which neither the sum nor the largest gets too large; nothing where the factor would.
    #[inline(always)]
    fn within(sum: f32, largest: f32, most: f32, most_factor: f32) -> Self {
        let (of_sum, of_largest) = (most / sum, LARGEST / largest);
        let factor = if of_sum > of_largest {
            of_largest
        } else {
            of_sum
        };
        if factor < most_factor {
            Self {
                factor,
                scale: 1.0 / factor,
            }
        } else {
            // Nothing, or next to it; or what is no number, and stays none. Not a scale of 0, which would make no
            // number of the score of what is not seen.
            Self {
                factor: 0.0,
                scale: 1.0 + sum * 0.0,
            }
        }
    }
}

/// How many rows are scaled together.
pub(super) const TOGETHER: usize = 16;

/// Of some neighbouring rows.
#[derive(Debug, Clone, Copy)]
pub(super) struct RowScales {
    /// What their values are multiplied with, before they are rounded.
    pub(super) factors: [f32; TOGETHER],
    /// What the numbers are multiplied with to be values again.
    pub(super) scales: [f32; TOGETHER],
}

impl RowScales {
    /// Of rows that are used as they are.
    pub(super) const NONE: Self = Self {
        factors: [1.0; TOGETHER],
        scales: [1.0; TOGETHER],
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_sum_nor_largest_gets_too_large() {
        for (sum, largest) in [(1.0, 1.0), (3e38, 1e-3), (1e-30, 1e-30), (5.0, 0.1)] {
            let Scale { factor, scale } = Scale::of_weights(sum, largest);
            assert!(factor * sum <= 65_001.0 && factor * largest <= 32_701.0);
            assert!((factor * scale - 1.0).abs() < 1e-6, "{factor} {scale}");
        }
        for sum in [0.0, 1e-42, 1e-30] {
            let Scale { factor, scale } = Scale::of_query(sum, sum, 256);
            assert_eq!((factor, scale), (0.0, 1.0));
        }
        assert!((LARGEST / LEAST * 65_536.0).is_finite());
        assert!(Scale::of_query(f32::NAN, 1.0, 256).scale.is_nan());
        let infinite = Scale::of_query(f32::INFINITY, f32::INFINITY, 256);
        assert!(!infinite.scale.is_finite());
    }
}
