//! Every operation, by the unmodified host code on the stand-in, against the scalar reference and against
//! itself on other roads. Where there is no compiler for the stand-in, tests say so and pass. With
//! `TIDEMILL_TEST_GPU` set, the same on this machine's GPU.

mod attention;
mod delta;
mod driver;
mod experts;
mod linear;
mod mutations;
mod norm;
mod rows;
mod sanitized;

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use formats::{DType, SharedBytes};
use proptest::test_runner::{Config, RngSeed};
use tensor::{Batch, OpError, Ops, PageId, StateId, StoredMatrix, Tensor, quant};

use crate::standin::{self, Build};
use crate::{Gpu, Options};

/// The same cases on every run.
pub(crate) fn cases(cases: u32) -> Config {
    let most = std::env::var("PROPTEST_CASES").ok();
    let most = most.and_then(|most| most.parse().ok());
    Config {
        cases: most.map_or(cases, |most: u32| cases.min(most)),
        rng_seed: RngSeed::Fixed(20),
        failure_persistence: None,
        ..Config::default()
    }
}

/// Set for the process that the sanitizer watches.
pub(crate) const SANITIZED: &str = "TIDEMILL_STANDIN_SANITIZED";

/// Where stand-ins are built.
pub(crate) fn build_folder() -> PathBuf {
    let mut folder = std::env::current_exe().expect("a test is a file");
    folder.pop();
    folder.join("standin")
}

/// Whether tests are to run on a real GPU.
pub(crate) fn is_real() -> bool {
    std::env::var_os("TIDEMILL_TEST_GPU").is_some()
}

/// A GPU that one test has for itself: the stand-in has one device and no locks.
pub(crate) struct Alone {
    pub(crate) gpu: Gpu,
    _one: MutexGuard<'static, ()>,
}

impl std::ops::Deref for Alone {
    type Target = Gpu;

    fn deref(&self) -> &Gpu {
        &self.gpu
    }
}

static ONE: Mutex<()> = Mutex::new(());

/// The stand-in, or `None` with a word about it.
pub(crate) fn gpu() -> Option<Alone> {
    let overruns = std::env::var_os(sanitized::OVERRUN).map(|_| sanitized::OVERRUNS);
    gpu_of(&Build {
        sanitized: std::env::var_os(SANITIZED).is_some(),
        mutations: overruns.into_iter().collect(),
    })
}

pub(crate) fn gpu_of(build: &Build) -> Option<Alone> {
    let one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    if is_real() && build.mutations.is_empty() {
        let gpu = Gpu::open(Options::default()).expect("this machine has a GPU");
        return Some(Alone { gpu, _one: one });
    }
    let Some(options) = standin::options(&build_folder(), build).expect("the stand-in compiles")
    else {
        eprintln!("SKIPPED: no g++ to build the stand-in GPU with; kernels were not tested");
        return None;
    };
    Some(Alone {
        gpu: Gpu::open(options).expect("the stand-in opens"),
        _one: one,
    })
}

/// Brings a tensor to a device, runs, and brings what came of it back.
pub(crate) fn upload<O: Ops>(ops: &O, x: &Tensor) -> O::Tensor {
    ops.upload(x.rows(), x.cols(), x.data().to_vec())
        .expect("a tensor has its values")
}

pub(crate) fn read<O: Ops>(ops: &O, x: O::Tensor) -> Tensor {
    ops.read(x).expect("a tensor can be read")
}

/// The rows of a tensor that are named.
pub(crate) fn select(x: &Tensor, rows: &[usize]) -> Tensor {
    let values = rows.iter().flat_map(|row| x.row(*row).to_vec()).collect();
    Tensor::from_vec(rows.len(), x.cols(), values)
}

/// Activations as products with quantised weights see them.
pub(crate) fn rounded(x: &Tensor) -> Tensor {
    let mut out = x.clone();
    for group in out.data_mut().chunks_mut(32) {
        let largest = group.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        let inverse = if largest > 0.0 { 127.0 / largest } else { 0.0 };
        let scale = largest / 127.0;
        for value in group {
            *value = (*value * inverse).round_ties_even().clamp(-127.0, 127.0) * scale;
        }
    }
    out
}

/// Small, fast and always the same.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ x >> 31
    }

    /// Below `end`.
    pub(crate) fn index(&mut self, end: usize) -> usize {
        (self.bits() % end as u64) as usize
    }

    /// Between -1 and 1.
    pub(crate) fn value(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    pub(crate) fn values(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.value()).collect()
    }

    pub(crate) fn tensor(&mut self, rows: usize, cols: usize) -> Tensor {
        Tensor::from_vec(rows, cols, self.values(rows * cols))
    }

    /// A matrix of any type, of random bytes with scales that keep its values below about 1.
    pub(crate) fn matrix(&mut self, dtype: DType, rows: usize, cols: usize) -> StoredMatrix {
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
            quant::encode(dtype, &values, &mut bytes).expect("a type with an encoder");
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
pub(crate) fn batch(spans: &[(usize, usize)], page_tokens: usize) -> Batch {
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
#[track_caller]
pub(crate) fn assert_close(what: &str, found: &[f32], expected: &[f32], tolerance: f32) {
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
#[track_caller]
pub(crate) fn assert_same(what: &str, found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (index, (f, e)) in found.iter().zip(expected).enumerate() {
        assert_eq!(f.to_bits(), e.to_bits(), "{what}: value {index}: {f}, {e}");
    }
}

/// Whether an operation was refused.
pub(crate) fn is_refused<T>(result: Result<T, OpError>) -> bool {
    result.is_err()
}
