//! The backend: a pool of threads, an instruction set, and what is done with activations.

use std::sync::{Arc, OnceLock};

use crate::copies::{self, Copier, Copies, CopySettings};
use crate::isa::Isa;
use crate::ops::attention;
use crate::pool::Pool;
use crate::simd::Dispatch;

/// The environment variable that forces an instruction set: `scalar`, `avx2` or `avx512`.
const ISA_VARIABLE: &str = "TIDEMILL_ISA";

/// Fewer simple operations on values than this (about a microsecond's) are not worth a task.
const COST_PER_TASK: usize = 8192;

/// The op contract on this machine's processors.
///
/// ```
/// use std::sync::Arc;
/// use tidemill_cpu::{Cpu, Pool, default_threads};
///
/// let cpu = Cpu::new(Arc::new(Pool::new(default_threads())))?;
/// println!("{} with {} threads", cpu.isa(), cpu.threads());
/// # Ok::<(), tidemill_cpu::CpuError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Cpu {
    pub(crate) pool: Arc<Pool>,
    pub(crate) dispatch: Dispatch,
    pub(crate) activations: Activations,
    pub(crate) reads_ahead: bool,
    pub(crate) copies: Option<Copies>,
}

/// What quantised weights are multiplied with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Activations {
    /// For weights with an integer kernel (most quantised types) activations are rounded to 8 bits
    /// with a scale per 32 values, and attention to a cache of f16 or fewer bits multiplies whole numbers
    /// of 16 bits where the machine adds up pairs of them. Everything else is computed in f32.
    #[default]
    Quantised,
    /// Everything is computed in f32: slower, for telling rounding from mistakes.
    Exact,
}

/// Why a backend could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CpuError {
    /// An instruction set was asked for that the machine does not have.
    #[error("this machine does not have {0}; it can run {best}", best = Isa::detect())]
    IsaMissing(Isa),
    /// The environment names an instruction set we do not know.
    #[error("{ISA_VARIABLE}: {0}")]
    IsaUnknown(String),
}

/// Small f32 parameters.
#[derive(Debug, Clone)]
pub struct Vector {
    pub(crate) values: Vec<f32>,
    /// As a matrix transposed, once it was needed so.
    transposed: OnceLock<Vec<f32>>,
}

impl Vector {
    pub(crate) fn new(values: Vec<f32>) -> Self {
        Self {
            values,
            transposed: OnceLock::new(),
        }
    }

    /// The values as `[values / cols, cols]`, transposed. A vector is used with one shape only.
    pub(crate) fn transposed(&self, cols: usize) -> &[f32] {
        self.transposed.get_or_init(|| {
            let column = |col| self.values.iter().skip(col).step_by(cols).copied();
            (0..cols).flat_map(column).collect()
        })
    }
}

impl Cpu {
    /// A backend on these threads, with the widest instruction set of the machine or the one that
    /// the environment variable `TIDEMILL_ISA` names.
    ///
    /// # Errors
    /// If the variable names one that is unknown or missing.
    pub fn new(pool: Arc<Pool>) -> Result<Self, CpuError> {
        let isa = match std::env::var(ISA_VARIABLE) {
            Ok(name) => name.parse().map_err(CpuError::IsaUnknown)?,
            Err(_) => Isa::detect(),
        };
        Self::with_isa(pool, isa)
    }

    /// A backend on these threads with this instruction set.
    ///
    /// # Errors
    /// If the machine does not have it.
    pub fn with_isa(pool: Arc<Pool>, isa: Isa) -> Result<Self, CpuError> {
        Ok(Self {
            pool,
            dispatch: Dispatch::new(isa).ok_or(CpuError::IsaMissing(isa))?,
            activations: Activations::default(),
            reads_ahead: false,
            copies: None,
        })
    }

    /// The same with another choice about activations. It holds for attention and for matrices
    /// loaded afterwards.
    #[must_use]
    pub fn with_activations(self, activations: Activations) -> Self {
        Self {
            activations,
            ..self
        }
    }

    /// The same for weights that do not all fit into memory: as soon as it is known which experts
    /// are needed, the system is asked to read all of them at once. For weights that are in memory
    /// that would be work for nothing.
    #[must_use]
    pub fn with_reading_ahead(self, reads_ahead: bool) -> Self {
        Self {
            reads_ahead,
            ..self
        }
    }

    /// The same for matrices whose bytes are copied once they are used, into the order in which
    /// kernels read them and into huge pages. The copies are made by whoever runs the [`Copier`];
    /// until then, and where it cannot, the stored bytes are used, with the same results.
    #[must_use]
    pub fn with_copies(self, settings: CopySettings) -> (Self, Copier) {
        let (copies, copier) = copies::channel(self.dispatch, settings);
        let copies = Some(copies);
        (Self { copies, ..self }, copier)
    }

    #[cfg(test)]
    pub(crate) fn without_copies(self) -> Self {
        Self {
            copies: None,
            ..self
        }
    }

    /// The instruction set in use.
    pub fn isa(&self) -> Isa {
        self.dispatch.isa()
    }

    /// Names what decides how it rounds: backends of equal names give equal bits.
    pub fn numerics(&self) -> String {
        let activations = match self.activations {
            Activations::Exact => "exact",
            Activations::Quantised if attention::has_whole_numbers(self) => {
                "quantised, in pairs of 16-bit numbers"
            }
            Activations::Quantised => "quantised",
        };
        format!("{}, activations {activations}", self.isa())
    }

    /// The number of threads in use.
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }

    /// Calls `body` for each row of `row_len` values with its number. As many rows make a task as
    /// it takes to outweigh its cost, a row being worth `row_cost` simple operations on values.
    pub(crate) fn for_rows<T: Send>(
        &self,
        values: &mut [T],
        row_len: usize,
        row_cost: usize,
        body: impl Fn(usize, &mut [T]) + Sync,
    ) {
        if values.is_empty() {
            return;
        }
        let rows_per_task = (COST_PER_TASK / row_cost.max(1)).max(1);
        self.pool
            .run_chunks(values, rows_per_task * row_len, |task, rows| {
                for (index, row) in rows.chunks_mut(row_len).enumerate() {
                    body(task * rows_per_task + index, row);
                }
            });
    }
}
