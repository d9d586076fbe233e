//! The search for types without a minimum: `d * scale * code`, with signed scales and codes.
//!
//! Codes reach one step further below zero than above, so a group's scale has the sign that puts its
//! largest magnitude there. The steps are those of [`super::affine`].

use half::f16;

use super::least_squares::{clamp_round, smallest_f16, sum_of, weights};
use crate::quant::rows::{ScaleOverflow, f16_scale, index_of_largest};

/// How often the super-block's scale is fitted again, at most.
const REFITS: usize = 2;

/// What a type can store.
pub(super) struct Limits {
    /// Codes of values go from `-code` to `code - 1`.
    pub(super) code: f32,
    /// Codes of scales go from `-scale` to `scale - 1`.
    pub(super) scale: f32,
}

/// A super-block that is encoded, but not packed.
pub(super) struct Fit {
    pub(super) d: f16,
    pub(super) scales: [i8; 16],
    /// The codes of each group, from 0 up: with their offset.
    pub(super) codes: [[u8; 16]; 16],
}

/// Encodes a super-block.
pub(super) fn fit(values: &[f32; 256], limits: &Limits) -> Result<Fit, ScaleOverflow> {
    let (chunks, _) = values.as_chunks();
    let groups: [Group; 16] = std::array::from_fn(|g| Group {
        x: chunks[g],
        w: weights(&chunks[g]),
        reach: limits.code,
    });
    let scales = groups.each_ref().map(Group::best_scale);

    let largest = scales
        .iter()
        .fold(0.0f32, |a, b| if b.abs() > a.abs() { *b } else { a });
    let mut best = Choice::near(&groups, &scales, -largest / limits.scale, limits)?;
    for _ in 0..REFITS {
        let Some(d) = best.refit(&groups) else {
            break;
        };
        let next = Choice::near(&groups, &scales, d, limits)?;
        if next.error >= best.error {
            break;
        }
        best = next;
    }
    Ok(Fit {
        d: best.d,
        scales: best.scales.map(|scale| scale as i8),
        codes: std::array::from_fn(|g| {
            let codes = groups[g].codes(best.scale(g));
            codes.map(|code| (code + limits.code) as u8)
        }),
    })
}

/// The values of a group, with the weights of their squared errors and how far codes reach.
struct Group {
    x: [f32; 16],
    w: [f32; 16],
    reach: f32,
}

impl Group {
    /// The codes that decode nearest to the values, for `1 / scale`.
    #[inline]
    fn codes_for_inverse(&self, inverse: f32) -> [f32; 16] {
        let (low, high) = (-self.reach, self.reach - 1.0);
        self.x.map(|x| clamp_round(x * inverse, low, high))
    }

    #[inline]
    fn codes(&self, scale: f32) -> [f32; 16] {
        self.codes_for_inverse(if scale == 0.0 { 0.0 } else { scale.recip() })
    }

    #[inline]
    fn error(&self, scale: f32) -> f32 {
        let codes = self.codes(scale);
        sum_of::<16>(|i| {
            let error = scale * codes[i] - self.x[i];
            self.w[i] * error * error
        })
    }

    /// Tries several multiples of the largest magnitude as the far end of the codes, each refined by
    /// least squares.
    fn best_scale(&self) -> f32 {
        let largest = self.x[index_of_largest(&self.x)];
        let mut best = -largest / self.reach;
        if largest == 0.0 {
            return 0.0;
        }
        let Self { x, w, .. } = self;
        let mut least = self.error(best);
        for tenths in -9..=9i8 {
            let inverse = -(self.reach + 0.1 * f32::from(tenths)) / largest;
            let codes = self.codes_for_inverse(inverse);
            let scale = sum_of::<16>(|i| w[i] * x[i] * codes[i])
                / sum_of::<16>(|i| w[i] * codes[i] * codes[i]);
            let error = self.error(scale);
            if error < least {
                (least, best) = (error, scale);
            }
        }
        best
    }
}

/// Scales as they can be stored, and their error.
struct Choice {
    d: f16,
    scales: [f32; 16],
    error: f32,
}

impl Choice {
    /// For each group the best of the three storable scales around its own.
    fn near(
        groups: &[Group; 16],
        scales: &[f32; 16],
        d: f32,
        limits: &Limits,
    ) -> Result<Self, ScaleOverflow> {
        let d = f16_scale(smallest_f16(d))?;
        let mut choice = Self {
            d,
            scales: [0.0; 16],
            error: 0.0,
        };
        if d.to_f32() == 0.0 {
            return Ok(choice);
        }
        let (low, high) = (-limits.scale, limits.scale - 1.0);
        for (g, (group, scale)) in groups.iter().zip(scales).enumerate() {
            let nearest = clamp_round(scale / d.to_f32(), low, high);
            let mut best = (f32::INFINITY, nearest);
            for code in [nearest, nearest - 1.0, nearest + 1.0] {
                if code < low || code > high {
                    continue;
                }
                let error = group.error(d.to_f32() * code);
                if error < best.0 {
                    best = (error, code);
                }
            }
            choice.error += best.0;
            choice.scales[g] = best.1;
        }
        Ok(choice)
    }

    #[inline]
    fn scale(&self, g: usize) -> f32 {
        self.d.to_f32() * self.scales[g]
    }

    /// The scale of the super-block that fits the chosen codes best.
    fn refit(&self, groups: &[Group; 16]) -> Option<f32> {
        let (mut uu, mut xu) = (0.0, 0.0);
        for (g, Group { x, w, .. }) in groups.iter().enumerate() {
            let codes = groups[g].codes(self.scale(g));
            let scale = self.scales[g];
            uu += scale * scale * sum_of::<16>(|i| w[i] * codes[i] * codes[i]);
            xu += scale * sum_of::<16>(|i| w[i] * x[i] * codes[i]);
        }
        (uu > 0.0).then(|| xu / uu)
    }
}
