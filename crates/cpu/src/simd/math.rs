//! Functions over whole vectors, the same instructions on each instruction set.

use super::Simd;

/// `e^x` to 0.8 ulp (with fused multiply-add; 1.5 without) where the result is a normal f32.
///
/// Below -87.33 it stays at the smallest normal f32 (about 1.2e-38) and above 88.37 at 2.4e38; a
/// NaN stays one. With x = n ln 2 + r it is 2^n times a polynomial in r that was fitted to
/// 3.1e-9 relative error on |r| <= ln 2 / 2; ln 2 is split in two so that r is exact enough.
#[inline(always)]
pub(crate) fn exp<S: Simd>(s: S, x: S::F) -> S::F {
    const COEFFICIENTS: [f32; 5] = [
        0.001_381_454,
        0.008_368_745,
        0.041_668_39,
        0.166_665_21,
        0.499_999_94,
    ];
    let x = s.max(s.splat(-87.33), x);
    let x = s.min(s.splat(88.37), x);
    let n = s.round(s.mul(x, s.splat(std::f32::consts::LOG2_E)));
    let r = s.mul_sub_from(n, s.splat(0.693_145_75), x);
    let r = s.mul_sub_from(n, s.splat(1.428_606_8e-6), r);
    let mut p = s.splat(COEFFICIENTS[0]);
    for c in &COEFFICIENTS[1..] {
        p = s.mul_add(p, r, s.splat(*c));
    }
    let p = s.mul_add(p, s.mul(r, r), r);
    s.mul(s.add(p, s.splat(1.0)), s.exp2_integral(n))
}

/// `1 / (1 + e^-x)`
#[inline(always)]
pub(crate) fn sigmoid<S: Simd>(s: S, x: S::F) -> S::F {
    let one = s.splat(1.0);
    s.div(one, s.add(one, exp(s, s.sub(s.splat(0.0), x))))
}

/// `x * sigmoid(x)`
#[inline(always)]
pub(crate) fn silu<S: Simd>(s: S, x: S::F) -> S::F {
    s.div(x, s.add(s.splat(1.0), exp(s, s.sub(s.splat(0.0), x))))
}

/// The sum of the squares of a row.
#[inline(always)]
pub(crate) fn sum_of_squares<S: Simd>(s: S, x: &[f32]) -> f32 {
    let mut sum = s.splat(0.0);
    let mut at = 0;
    while at + S::LANES <= x.len() {
        // SAFETY: the vector lies within x.
        let v = unsafe { s.load(x.as_ptr().add(at)) };
        sum = s.mul_add(v, v, sum);
        at += S::LANES;
    }
    if at < x.len() {
        // SAFETY: the rest of x, shorter than a vector.
        let v = unsafe { s.load_first(x.as_ptr().add(at), x.len() - at) };
        sum = s.mul_add(v, v, sum);
    }
    s.sum(sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::{Kernel, MAX_LANES, every_dispatch};

    struct Apply<'a>(&'a [f32], &'a mut [f32]);

    impl Kernel for Apply<'_> {
        type Output = ();

        #[inline(always)]
        fn run<S: Simd>(self, s: S) {
            for (x, y) in self.0.chunks(S::LANES).zip(self.1.chunks_mut(S::LANES)) {
                // SAFETY: the chunks have that many values.
                unsafe {
                    let v = s.load_first(x.as_ptr(), x.len());
                    s.store_first(y.as_mut_ptr(), exp(s, v), y.len());
                }
            }
        }
    }

    #[test]
    fn exp_is_accurate_everywhere() {
        let xs: Vec<f32> = (-87_000..88_300).map(|i| i as f32 / 1000.0).collect();
        for dispatch in every_dispatch() {
            let mut ys = vec![0.0; xs.len()];
            dispatch.run(Apply(&xs, &mut ys));
            for (x, y) in xs.iter().zip(&ys) {
                let exact = f64::from(*x).exp();
                let ulps = (f64::from(*y) / exact - 1.0).abs() * f64::from(1 << 23);
                assert!(
                    ulps < 2.0,
                    "{:?}: exp({x}) = {y}, {ulps} ulp",
                    dispatch.isa()
                );
            }
        }
    }

    #[test]
    fn exp_keeps_its_bounds() {
        for dispatch in every_dispatch() {
            let xs = [
                f32::NEG_INFINITY,
                -1e9,
                -88.0,
                1e9,
                f32::INFINITY,
                f32::NAN,
                0.0,
            ];
            let mut ys = [0.0; MAX_LANES];
            dispatch.run(Apply(&xs, &mut ys[..xs.len()]));
            assert!(ys[..3].iter().all(|y| *y > 0.0 && *y < 1.5e-38));
            assert!(ys[3..5].iter().all(|y| y.is_finite() && *y > 1e38));
            assert!(ys[5].is_nan());
            assert_eq!(ys[6], 1.0);
        }
    }
}
