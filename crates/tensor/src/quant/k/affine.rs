//! The search for types with a minimum: `d * scale * code - dmin * min`, with all codes from 0 up.
//!
//! First each group of values is fitted by itself. Then the super-block's two scales follow from the
//! largest group, and each group takes the best of the scales and minima that can be stored near its
//! own. Last, the two scales are fitted again to what was chosen, for as long as that helps.

use half::f16;

use super::least_squares::{clamp_round, smallest_f16, sum_of, weights};
use crate::quant::rows::{ScaleOverflow, f16_scale};

/// How often the super-block's scales are fitted again, at most.
const REFITS: usize = 2;

/// What a type can store.
pub(super) struct Limits {
    /// The largest code of a value.
    pub(super) code: f32,
    /// The largest code of a scale or a minimum.
    pub(super) scale: f32,
    /// By how many tenths of a code the range of a group is narrowed (negative) to widened, to find
    /// its best width.
    pub(super) tenths: std::ops::RangeInclusive<i8>,
}

/// A super-block that is encoded, but not packed.
pub(super) struct Fit<const GROUPS: usize, const LEN: usize> {
    pub(super) d: f16,
    pub(super) dmin: f16,
    pub(super) scales: [u8; GROUPS],
    pub(super) mins: [u8; GROUPS],
    pub(super) codes: [[u8; LEN]; GROUPS],
}

/// Encodes a super-block.
pub(super) fn fit<const GROUPS: usize, const LEN: usize>(
    values: &[f32; 256],
    limits: &Limits,
) -> Result<Fit<GROUPS, LEN>, ScaleOverflow> {
    const { assert!(GROUPS * LEN == 256, "the groups make a super-block") };
    let (chunks, _) = values.as_chunks();
    let groups: [_; GROUPS] = std::array::from_fn(|g| Group::new(&chunks[g], limits));
    let lines = groups.each_ref().map(|group| group.best_line(limits));

    let largest = |part: fn(&Line) -> f32| lines.iter().map(part).fold(0.0, f32::max);
    let d = largest(|line| line.scale) / limits.scale;
    let dmin = largest(|line| line.min) / limits.scale;
    let mut best = Choice::near(&groups, &lines, d, dmin, limits)?;
    for _ in 0..REFITS {
        let Some((d, dmin)) = best.refit(&groups) else {
            break;
        };
        let next = Choice::near(&groups, &lines, d, dmin, limits)?;
        if next.error >= best.error {
            break;
        }
        best = next;
    }
    Ok(Fit {
        d: best.d,
        dmin: best.dmin,
        scales: best.scales.map(|scale| scale as u8),
        mins: best.mins.map(|min| min as u8),
        codes: std::array::from_fn(|g| groups[g].codes(best.line(g)).map(|code| code as u8)),
    })
}

/// A group decodes to `scale * code - min`.
#[derive(Clone, Copy)]
struct Line {
    scale: f32,
    min: f32,
}

/// The values of a group and what does not change while it is searched.
struct Group<const LEN: usize> {
    x: [f32; LEN],
    /// The weights of the squared errors.
    w: [f32; LEN],
    /// The sum of `w`.
    w_sum: f32,
    /// The sum of `w * x`.
    wx_sum: f32,
    /// The largest code.
    top: f32,
}

impl<const LEN: usize> Group<LEN> {
    fn new(x: &[f32; LEN], limits: &Limits) -> Self {
        let w = weights(x);
        Self {
            x: *x,
            w,
            w_sum: sum_of::<LEN>(|i| w[i]),
            wx_sum: sum_of::<LEN>(|i| w[i] * x[i]),
            top: limits.code,
        }
    }

    /// The codes that decode nearest to the values.
    #[inline]
    fn codes(&self, line: Line) -> [f32; LEN] {
        let inverse = if line.scale > 0.0 {
            line.scale.recip()
        } else {
            0.0
        };
        self.x
            .map(|x| clamp_round((x + line.min) * inverse, 0.0, self.top))
    }

    #[inline]
    fn error(&self, line: Line) -> f32 {
        let codes = self.codes(line);
        sum_of::<LEN>(|i| {
            let error = line.scale * codes[i] - line.min - self.x[i];
            self.w[i] * error * error
        })
    }

    /// The line that fits these codes best; `None` if they are all equal.
    fn line_through(&self, codes: &[f32; LEN]) -> Option<Line> {
        let Self {
            x,
            w,
            w_sum,
            wx_sum: wx,
            ..
        } = self;
        let wq = sum_of::<LEN>(|i| w[i] * codes[i]);
        let wqq = sum_of::<LEN>(|i| w[i] * codes[i] * codes[i]);
        let wxq = sum_of::<LEN>(|i| w[i] * x[i] * codes[i]);
        let determinant = w_sum * wqq - wq * wq;
        if determinant <= 0.0 {
            return None;
        }
        let scale = (w_sum * wxq - wx * wq) / determinant;
        let min = (wq * wxq - wqq * wx) / determinant;
        if min >= 0.0 {
            Some(Line { scale, min })
        } else {
            let scale = wxq / wqq;
            Some(Line { scale, min: 0.0 })
        }
    }

    /// Tries several widths of the range that the codes span, each refined by least squares.
    fn best_line(&self, limits: &Limits) -> Line {
        let low = self.x.iter().copied().fold(0.0, f32::min);
        let high = self.x.iter().copied().fold(low, f32::max);
        let mut best = Line {
            scale: (high - low) / self.top,
            min: -low,
        };
        if high == low {
            return best;
        }
        let mut least = self.error(best);
        for tenths in limits.tenths.clone() {
            let inverse = (self.top + 0.1 * f32::from(tenths)) / (high - low);
            let codes = self
                .x
                .map(|x| clamp_round((x - low) * inverse, 0.0, self.top));
            let Some(line) = self.line_through(&codes) else {
                continue;
            };
            let error = self.error(line);
            if error < least {
                (least, best) = (error, line);
            }
        }
        best
    }
}

/// Scales and minima as they can be stored, and their error.
struct Choice<const GROUPS: usize> {
    d: f16,
    dmin: f16,
    scales: [f32; GROUPS],
    mins: [f32; GROUPS],
    error: f32,
}

impl<const GROUPS: usize> Choice<GROUPS> {
    /// For each group the best of the nine storable pairs around its line.
    fn near<const LEN: usize>(
        groups: &[Group<LEN>; GROUPS],
        lines: &[Line; GROUPS],
        d: f32,
        dmin: f32,
        limits: &Limits,
    ) -> Result<Self, ScaleOverflow> {
        let mut choice = Self {
            d: f16_scale(smallest_f16(d))?,
            dmin: f16_scale(smallest_f16(dmin))?,
            scales: [0.0; GROUPS],
            mins: [0.0; GROUPS],
            error: 0.0,
        };
        let nearest = |value: f32, unit: f16| {
            let unit = unit.to_f32();
            let code = if unit > 0.0 { value / unit } else { 0.0 };
            clamp_round(code, 0.0, limits.scale)
        };
        for (g, (group, line)) in groups.iter().zip(lines).enumerate() {
            let scale = nearest(line.scale, choice.d);
            let min = nearest(line.min, choice.dmin);
            let mut best = (f32::INFINITY, scale, min);
            for scale in [scale, scale - 1.0, scale + 1.0] {
                for min in [min, min - 1.0, min + 1.0] {
                    let storable = 0.0..=limits.scale;
                    if !storable.contains(&scale) || !storable.contains(&min) {
                        continue;
                    }
                    (choice.scales[g], choice.mins[g]) = (scale, min);
                    let error = group.error(choice.line(g));
                    if error < best.0 {
                        best = (error, scale, min);
                    }
                }
            }
            (choice.scales[g], choice.mins[g]) = (best.1, best.2);
            choice.error += best.0;
        }
        Ok(choice)
    }

    #[inline]
    fn line(&self, g: usize) -> Line {
        Line {
            scale: self.d.to_f32() * self.scales[g],
            min: self.dmin.to_f32() * self.mins[g],
        }
    }

    /// The scales of the super-block that fit the chosen codes best: least squares in two unknowns.
    fn refit<const LEN: usize>(&self, groups: &[Group<LEN>; GROUPS]) -> Option<(f32, f32)> {
        let [mut uu, mut uv, mut vv, mut xu, mut xv] = [0.0; 5];
        for (g, group) in groups.iter().enumerate() {
            let codes = group.codes(self.line(g));
            let (scale, min) = (self.scales[g], self.mins[g]);
            let Group { x, w, .. } = group;
            uu += scale * scale * sum_of::<LEN>(|i| w[i] * codes[i] * codes[i]);
            uv += scale * min * sum_of::<LEN>(|i| w[i] * codes[i]);
            vv += min * min * group.w_sum;
            xu += scale * sum_of::<LEN>(|i| w[i] * x[i] * codes[i]);
            xv += min * group.wx_sum;
        }
        if vv == 0.0 {
            return (uu > 0.0).then(|| (xu / uu, 0.0));
        }
        let determinant = uu * vv - uv * uv;
        let d = (xu * vv - xv * uv) / determinant;
        let dmin = (xu * uv - xv * uu) / determinant;
        (d > 0.0 && dmin > 0.0).then_some((d, dmin))
    }
}
