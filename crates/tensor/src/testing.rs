//! What backends test their operations with, against [`crate::Reference`] and against themselves on other
//! roads.

use formats::{DType, SharedBytes};

use crate::{Batch, PageId, StateId, StoredMatrix, Tensor, quant};

/// Random numbers: small, fast and always the same.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// The same numbers for the same seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ x >> 31
    }

    /// Below `end`.
    pub fn index(&mut self, end: usize) -> usize {
        (self.bits() % end as u64) as usize
    }

    /// Between -1 and 1.
    pub fn value(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    /// So many values between -1 and 1.
    pub fn values(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.value()).collect()
    }

    /// `[rows, cols]` of values between -1 and 1.
    pub fn tensor(&mut self, rows: usize, cols: usize) -> Tensor {
        Tensor::from_vec(rows, cols, self.values(rows * cols))
    }

    /// A matrix of any type with values below about 1: random bytes where there are scales, which are chosen
    /// for that, encoded values elsewhere.
    ///
    /// # Panics
    /// If rows are not whole blocks, or the type has no encoder.
    pub fn matrix(&mut self, dtype: DType, rows: usize, cols: usize) -> StoredMatrix {
        let row_bytes = dtype.row_bytes(cols).expect("tests use whole blocks");
        let mut bytes = vec![0; rows * row_bytes];
        let scales: &[(usize, f32)] = match dtype {
            DType::Q8_0 => &[(0, 1.0 / 128.0)],
            DType::Q4_0 => &[(0, 1.0 / 8.0)],
            DType::IQ4_NL => &[(0, 1.0 / 128.0)],
            DType::Q4_K => &[(0, 1.0 / 1000.0), (2, 1.0 / 100.0)],
            DType::Q5_K => &[(0, 1.0 / 2000.0), (2, 1.0 / 100.0)],
            DType::Q6_K => &[(208, 1.0 / 4000.0)],
            DType::Q2_K => &[(80, 1.0 / 45.0), (82, 1.0 / 15.0)],
            DType::Q3_K => &[(108, 1.0 / 120.0)],
            DType::IQ4_XS => &[(0, 1.0 / 4000.0)],
            DType::IQ2_XXS | DType::IQ2_XS | DType::IQ2_S => &[(0, 1.0 / 160.0)],
            DType::IQ3_XXS => &[(0, 1.0 / 500.0)],
            DType::IQ3_S => &[(0, 1.0 / 450.0)],
            _ => &[],
        };
        if dtype == DType::MXFP4 {
            bytes.fill_with(|| self.bits() as u8);
            for block in bytes.chunks_exact_mut(dtype.block_bytes()) {
                block[0] = (118 + self.index(8)) as u8;
            }
        } else if scales.is_empty() {
            let values = self.values(rows * cols);
            match dtype {
                DType::I8 => bytes.fill_with(|| self.bits() as u8),
                // Without the largest exponents, and so without NaN.
                DType::F8_E4M3 => bytes.fill_with(|| (self.bits() & 0xbf) as u8),
                _ => quant::encode(dtype, &values, &mut bytes).expect("a type with an encoder"),
            }
        } else {
            bytes.fill_with(|| self.bits() as u8);
            for block in bytes.chunks_exact_mut(dtype.block_bytes()) {
                for &(at, scale) in scales {
                    let d = half::f16::from_f32(scale * self.value());
                    block[at..at + 2].copy_from_slice(&d.to_le_bytes());
                }
            }
        }
        let name = format!("{dtype} [{rows}, {cols}]");
        StoredMatrix::from_parts(name, dtype, rows, cols, SharedBytes::from_vec(bytes))
            .expect("bytes were made to fit")
    }
}

/// Sequences of a ragged batch: how many tokens each has already, and how many are new.
pub fn batch(spans: &[(usize, usize)], page_tokens: usize) -> Batch {
    let mut batch = Batch::default();
    let mut next_page = 0;
    for (state, &(past, new)) in spans.iter().enumerate() {
        let pages = (past + new).div_ceil(page_tokens) as u32;
        // Backwards, so that pages do not lie in the order of positions.
        let ids = (next_page..next_page + pages).rev().map(PageId).collect();
        next_page += pages;
        batch.push_text(&vec![0; new], past, ids, StateId(state as u32));
    }
    batch
}

/// Fails unless the two are equal up to `tolerance` times the largest expected value.
///
/// # Panics
/// If they are not.
#[track_caller]
pub fn assert_close(what: &str, found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    for (index, (f, e)) in found.iter().zip(expected).enumerate() {
        assert!(
            (f - e).abs() <= tolerance * largest.max(1e-30),
            "{what}: value {index} is {f}, not {e}; the largest is {largest}"
        );
    }
}

/// Fails unless the two are the same bits.
///
/// # Panics
/// If they are not.
#[track_caller]
pub fn assert_same(what: &str, found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (index, (f, e)) in found.iter().zip(expected).enumerate() {
        assert_eq!(f.to_bits(), e.to_bits(), "{what}: value {index}: {f}, {e}");
    }
}
