//! Rotary frequencies over three axes, with YaRN (section 10).

use std::f64::consts::PI;

use tensor::Rotary;

/// How positions turn queries and keys.
#[derive(Debug, Clone, PartialEq)]
pub struct RotaryConfig {
    /// The base of the frequencies.
    pub theta: f64,
    /// How many values of a head are turned (R); even.
    pub dims: usize,
    /// How many frequencies follow time, height and width; `None` for plain rotary.
    pub sections: Option<[usize; 3]>,
    /// Stretching to longer contexts.
    pub yarn: Option<Yarn>,
}

/// YaRN's parameters (section 10.3).
#[derive(Debug, Clone, PartialEq)]
pub struct Yarn {
    /// How many times the original context.
    pub factor: f64,
    /// The original context.
    pub original_context: f64,
    /// Rotations per original context above which a frequency stays as it is.
    pub beta_fast: f64,
    /// Rotations below which a frequency is divided by the factor.
    pub beta_slow: f64,
    /// Whether the ramp's ends are rounded outwards to whole frequencies.
    pub truncate: bool,
    /// Multiplies cosine and sine; `None` for `0.1 ln(factor) + 1`.
    pub attention_factor: Option<f64>,
}

impl RotaryConfig {
    /// The frequencies, axes and scale that a device needs.
    pub fn rotary(&self) -> Rotary {
        let half = self.dims / 2;
        let exponent = |j: usize| 2.0 * j as f64 / self.dims as f64;
        let mut frequencies: Vec<f64> = (0..half).map(|j| self.theta.powf(-exponent(j))).collect();
        let mut scale = 1.0;
        if let Some(yarn) = &self.yarn {
            let ramp = yarn.ramp(self.dims, self.theta);
            for (j, frequency) in frequencies.iter_mut().enumerate() {
                let stretched = *frequency / yarn.factor;
                *frequency = *frequency * (1.0 - ramp[j]) + stretched * ramp[j];
            }
            scale = yarn.attention_factor.unwrap_or_else(|| {
                if yarn.factor > 1.0 {
                    0.1 * yarn.factor.ln() + 1.0
                } else {
                    1.0
                }
            });
        }
        let axis = |j: usize| match self.sections {
            Some([_, height, _]) if j % 3 == 1 && j < 3 * height => 1,
            Some([_, _, width]) if j % 3 == 2 && j < 3 * width => 2,
            _ => 0,
        };
        Rotary {
            frequencies: frequencies.into_iter().map(|f| f as f32).collect(),
            axes: (0..half).map(axis).collect(),
            scale: scale as f32,
        }
    }
}

impl Yarn {
    /// Per frequency, how much of it is stretched: 0 not at all, 1 fully.
    fn ramp(&self, dims: usize, theta: f64) -> Vec<f64> {
        let correction = |beta: f64| {
            dims as f64 * (self.original_context / (2.0 * PI * beta)).ln() / (2.0 * theta.ln())
        };
        let (mut low, mut high) = (correction(self.beta_fast), correction(self.beta_slow));
        if self.truncate {
            (low, high) = (low.floor(), high.ceil());
        }
        let (low, mut high) = (low.max(0.0), high.min(dims as f64 - 1.0));
        if low == high {
            high += 0.001;
        }
        (0..dims / 2)
            .map(|j| ((j as f64 - low) / (high - low)).clamp(0.0, 1.0))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn released() -> RotaryConfig {
        RotaryConfig {
            theta: 1e7,
            dims: 64,
            sections: Some([11, 11, 10]),
            yarn: None,
        }
    }

    #[test]
    fn axes_interleave_as_the_sections_say() {
        let axes = released().rotary().axes;
        let of = |axis| (0..32).filter(|&j| axes[j] == axis).collect::<Vec<_>>();
        assert_eq!(of(0), [0, 3, 6, 9, 12, 15, 18, 21, 24, 27, 30]);
        assert_eq!(of(1), [1, 4, 7, 10, 13, 16, 19, 22, 25, 28, 31]);
        assert_eq!(of(2), [2, 5, 8, 11, 14, 17, 20, 23, 26, 29]);
    }

    #[test]
    fn yarn_keeps_fast_frequencies_and_divides_slow_ones() {
        let yarn = Yarn {
            factor: 4.0,
            original_context: 262_144.0,
            beta_fast: 32.0,
            beta_slow: 1.0,
            truncate: true,
            attention_factor: None,
        };
        let plain = released().rotary();
        let stretched = RotaryConfig {
            yarn: Some(yarn),
            ..released()
        }
        .rotary();
        for j in 0..32 {
            let ratio = plain.frequencies[j] / stretched.frequencies[j];
            match j {
                0..=14 => assert_eq!(ratio, 1.0, "frequency {j}"),
                22.. => assert!((ratio - 4.0).abs() < 1e-5, "frequency {j}: {ratio}"),
                _ => assert!(ratio > 1.0 && ratio < 4.0, "frequency {j}: {ratio}"),
            }
        }
        assert!((stretched.scale - 1.1386).abs() < 1e-4);
    }
}
