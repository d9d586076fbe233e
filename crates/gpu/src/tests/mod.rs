//! Every operation, by the unmodified host code on the stand-in, against the scalar reference and against
//! itself on other roads. Where there is no compiler for the stand-in, tests say so and pass. With
//! `TIDEMILL_TEST_GPU` set, the same on this machine's GPU.

mod attention;
mod bring;
mod copies;
mod delta;
mod driver;
mod experts;
mod image_cache;
mod linear;
mod mutations;
mod norm;
mod rows;
mod sanitized;
mod scaled;

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use proptest::test_runner::{Config, RngSeed};
pub(crate) use tensor::testing::{Random, assert_close, assert_same, batch};
use tensor::{OpError, Ops, Tensor};

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
/// Set where something watches the ends of allocations.
const APART: &str = "TIDEMILL_TEST_APART";

/// Where stand-ins are built.
pub(crate) fn build_folder() -> PathBuf {
    let mut folder = std::env::current_exe().expect("a test is a file");
    folder.pop();
    folder.join("standin")
}

/// Whether each tensor is an allocation of its own.
pub(crate) fn are_apart() -> bool {
    [SANITIZED, APART]
        .iter()
        .any(|name| std::env::var_os(name).is_some())
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
    gpu_with(|options| options)
}

/// The same, opened with other options.
pub(crate) fn gpu_with(change: impl Fn(Options) -> Options) -> Option<Alone> {
    let overruns = std::env::var_os(sanitized::OVERRUN).map(|_| sanitized::OVERRUNS);
    let build = Build {
        sanitized: std::env::var_os(SANITIZED).is_some(),
        mutations: overruns.into_iter().collect(),
    };
    let one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    if is_real() {
        let options = Options {
            tensors_apart: are_apart(),
            // Tests compile much the same.
            cache: Some(std::env::temp_dir().join("tidemill-test-kernels")),
            ..Options::default()
        };
        let gpu = Gpu::open(change(options)).expect("this machine has a GPU");
        return Some(Alone { gpu, _one: one });
    }
    let Some(options) = standin::options(&build_folder(), &build).expect("the stand-in compiles")
    else {
        eprintln!("SKIPPED: no g++ to build the stand-in GPU with; kernels were not tested");
        return None;
    };
    let options = Options {
        tensors_apart: are_apart(),
        ..options
    };
    Some(Alone {
        gpu: Gpu::open(change(options)).expect("the stand-in opens"),
        _one: one,
    })
}

/// Options that open the stand-in, whatever the tests run on.
pub(crate) fn standin_options() -> Option<Options> {
    let build = Build {
        sanitized: std::env::var_os(SANITIZED).is_some(),
        ..Build::default()
    };
    standin::options(&build_folder(), &build).expect("the stand-in compiles")
}

/// Runs the same on a thread for each processor: what each came to.
pub(crate) fn on_all_processors<T: Send>(work: impl Fn() -> T + Sync) -> Vec<T> {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        let started: Vec<_> = (0..threads).map(|_| scope.spawn(&work)).collect();
        let ended = started.into_iter().map(|thread| thread.join());
        ended
            .map(|result| result.expect("its work is done"))
            .collect()
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

/// Whether an operation was refused.
pub(crate) fn is_refused<T>(result: Result<T, OpError>) -> bool {
    result.is_err()
}
