//! Products of pairs in plain Rust, so that what is built on them is tested on every machine. Rows are woven by
//! twos, as in `pairs_neon`.

use super::pairs::Pairs;
use super::words::{Bias, Words};
use crate::simd::scalar::Scalar;

/// Always available.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PlainPairs;

/// Lane i of both: `a0 b0 a1 b1 ...`, in two vectors.
fn zipped<T: Copy + Default>(a: [T; 8], b: [T; 8]) -> [[T; 8]; 2] {
    let mut zipped = [[T::default(); 8]; 2];
    for lane in 0..8 {
        zipped[lane / 4][2 * (lane % 4)] = a[lane];
        zipped[lane / 4][2 * (lane % 4) + 1] = b[lane];
    }
    zipped
}

impl Pairs for PlainPairs {
    type Simd = Scalar;

    fn simd(self) -> Scalar {
        Scalar
    }

    fn codes(self, words: [[u32; 8]; 2]) -> [[u32; 8]; 2] {
        zipped(words[0], words[1])
    }

    fn of_rows(self, rows: [f32; 8]) -> [[f32; 8]; 2] {
        zipped(rows, rows)
    }

    fn of_inputs(self, inputs: &[f32; 4]) -> [[f32; 8]; 2] {
        zipped([inputs[0]; 8], [inputs[1]; 8])
    }

    fn begin(self, bias: Bias, bias_sums: &[u32; 4]) -> [[u32; 8]; 2] {
        let of = |input: usize| Scalar.begin(bias, bias_sums[input] as i32);
        zipped(of(0), of(1))
    }

    fn dot(
        self,
        _bias: Bias,
        sums: [[u32; 8]; 2],
        codes: [[u32; 8]; 2],
        activations: &[i8; 16],
    ) -> [[u32; 8]; 2] {
        let mut sums = sums;
        for (sums, codes) in sums.iter_mut().zip(codes) {
            for (lane, sum) in sums.iter_mut().enumerate() {
                let (row, input) = (lane / 2, lane % 2);
                for byte in 0..8 {
                    let code = codes[2 * row + byte / 4].to_le_bytes()[byte % 4];
                    let product = i32::from(code) * i32::from(activations[8 * input + byte]);
                    *sum = sum.wrapping_add_signed(product);
                }
            }
        }
        sums
    }

    fn weave(self, inputs: [[f32; 8]; 2]) -> [[f32; 8]; 2] {
        zipped(inputs[0], inputs[1])
    }

    fn part(self, woven: [[f32; 8]; 2]) -> [[f32; 8]; 2] {
        let of = |input: usize| std::array::from_fn(|row| woven[row / 4][2 * (row % 4) + input]);
        [of(0), of(1)]
    }
}
