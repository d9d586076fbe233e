//! The backend: a device, its kernels and its memory.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use tensor::{OpError, Rotary};

use crate::args::{self, KernelArgs};
use crate::batch::BatchCache;
use crate::copies::Copies;
use crate::driver::{Address, Driver, Plain};
use crate::error::GpuError;
use crate::kernels::Kernels;
use crate::pool::{Buffer, Pool};
use crate::tensor_on_device::{Activations, Codes};
use crate::uploads::Uploads;

/// How a GPU is opened. The default is the system's driver, its first device, and no cache.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Which device, from 0.
    pub ordinal: usize,
    /// The driver library, if not the system's.
    pub driver: Option<PathBuf>,
    /// The compiler library, if not one that is found.
    pub compiler: Option<PathBuf>,
    /// Where compiled kernels are kept for the next start.
    pub cache: Option<PathBuf>,
    /// Launches go to the driver one by one, not as graphs: to see what graphs are good for.
    pub one_by_one: bool,
    /// Kernels are brought to the device while those before them run, and wait there, where driver and device can.
    pub dependent: bool,
    /// Each tensor is an allocation of its own: for tools that see what lies beyond one.
    pub tensors_apart: bool,
}

/// The op contract on a GPU. A clone is the same device, with the same stream.
#[derive(Clone)]
pub struct Gpu {
    pub(crate) driver: Arc<Driver>,
    pub(crate) pool: Arc<Pool>,
    pub(crate) uploads: Arc<Uploads>,
    /// What is brought beside other work.
    pub(crate) copies: Arc<Copies>,
    pub(crate) kernels: Arc<Kernels>,
    /// The batch of the step, on the device.
    pub(crate) batches: Arc<BatchCache>,
    /// How the model's heads are turned, on the device.
    pub(crate) rotary: Arc<RotaryCache>,
    /// Why kernels do not overlap although it was asked for.
    no_overlap: Option<Arc<GpuError>>,
}

/// The last rotation, and its frequencies and axes on the device: a model has one.
pub(crate) type RotaryCache = Mutex<Option<(Rotary, Arc<Buffer>)>>;

/// Values of a group, which share a scale.
pub(crate) const GROUP: usize = 32;
/// Lanes of a warp.
pub(crate) const WARP: usize = 32;

impl Gpu {
    /// Opens a device.
    ///
    /// # Errors
    /// If there is no driver or no such device, or the device is too old. A missing compiler shows when a kernel is first needed,
    /// unless [`Gpu::prepare`] is asked before.
    pub fn open(options: Options) -> Result<Self, GpuError> {
        let driver = Driver::open(options.driver.as_deref(), options.ordinal)?;
        driver.device().check()?;
        if options.one_by_one {
            driver.launch_one_by_one();
        }
        let overlap = options.dependent.then(|| driver.launch_dependently());
        let is_dependent = matches!(overlap, Some(Ok(())));
        Ok(Self {
            pool: Pool::new(Arc::clone(&driver), options.tensors_apart),
            uploads: Arc::new(Uploads::new(Arc::clone(&driver))),
            copies: Arc::new(Copies::new(&driver)?),
            kernels: Arc::new(Kernels::new(
                Arc::clone(&driver),
                options.compiler,
                options.cache,
                is_dependent,
            )),
            no_overlap: overlap.and_then(Result::err).map(Arc::new),
            batches: Arc::default(),
            rotary: Arc::default(),
            driver,
        })
    }

    /// The device's driver.
    pub fn driver(&self) -> &Arc<Driver> {
        &self.driver
    }

    /// Why kernels do not wait by themselves for those before them, if [`Options::dependent`] was asked for in vain.
    pub fn no_overlap(&self) -> Option<&GpuError> {
        self.no_overlap.as_deref()
    }

    /// What decides how it rounds: on devices of equal names, equal models give equal bits.
    pub fn numerics(&self) -> String {
        format!("gpu {}", self.kernels.numerics())
    }

    /// Makes sure that kernels can be had, before anything depends on it.
    ///
    /// # Errors
    /// If they cannot be compiled.
    pub fn prepare(&self) -> Result<(), GpuError> {
        self.kernels
            .function("add_norm", args::AddNorm::BYTES)
            .map(drop)
    }

    /// Asks for a kernel to run in blocks of `threads`.
    ///
    /// Nothing runs where a side of the grid is 0.
    ///
    /// # Safety
    /// `args` is what the kernel takes, and its addresses are of memory as large as the kernel uses, that
    /// is given back only through the driver or the pool.
    pub(crate) unsafe fn launch<A: KernelArgs>(
        &self,
        kernel: &'static str,
        grid: [usize; 3],
        threads: usize,
        args: &A,
    ) -> Result<(), OpError> {
        if grid.contains(&0) {
            return Ok(());
        }
        let most = [i32::MAX as usize, 65_535, 65_535];
        if grid.iter().zip(most).any(|(side, most)| *side > most) {
            return Err(OpError::Device {
                device: "gpu",
                message: format!(
                    "{kernel} over {grid:?} blocks is too much at once; use smaller steps"
                ),
            });
        }
        let function = self.kernels.function(kernel, A::BYTES)?;
        let (grid, threads) = (grid.map(|side| side as u32), threads as u32);
        // SAFETY: the caller's promise; the pool and the driver give memory back after work that uses it.
        unsafe {
            self.driver
                .launch(function, grid, threads, A::BYTES, |bytes| args.write(bytes))?;
        }
        Ok(())
    }

    /// Memory of any contents.
    pub(crate) fn take(&self, bytes: usize) -> Result<Buffer, OpError> {
        Ok(self.pool.take(bytes)?)
    }

    /// Numbers on the device.
    pub(crate) fn upload_numbers(&self, numbers: &[u32]) -> Result<Buffer, OpError> {
        let bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
        self.upload_bytes(&bytes)
    }

    /// Bytes on the device.
    pub(crate) fn upload_bytes(&self, bytes: &[u8]) -> Result<Buffer, OpError> {
        let buffer = self.take(bytes.len())?;
        self.send(&buffer, bytes)?;
        Ok(buffer)
    }

    /// Copies bytes to the beginning of a buffer, in the order of all work.
    pub(crate) fn send(&self, to: &Buffer, bytes: &[u8]) -> Result<(), GpuError> {
        let (memory, start) = to.place(bytes.len());
        self.uploads.send(memory, start, bytes)
    }

    /// Copies the beginning of a buffer to the host, and waits for it.
    pub(crate) fn fetch<T: Plain>(&self, from: &Buffer, to: &mut [T]) -> Result<(), GpuError> {
        let (memory, start) = from.place(size_of_val(to));
        self.driver.download(memory, start, to)
    }

    /// Uninitialised activations.
    pub(crate) fn tensor(&self, rows: usize, cols: usize) -> Result<Activations, OpError> {
        let bytes = rows
            .checked_mul(cols)
            .and_then(|values| values.checked_mul(size_of::<f32>()));
        let Some(bytes) = bytes else {
            return Err(OpError::Memory(format!(
                "[{rows}, {cols}] activations are too many"
            )));
        };
        Ok(Activations {
            rows,
            cols,
            values: self.take(bytes)?,
            codes: None,
        })
    }

    /// Room for the codes of `rows` of `cols` values, if rows are whole groups.
    pub(crate) fn codes(&self, rows: usize, cols: usize) -> Result<Option<Codes>, OpError> {
        if !cols.is_multiple_of(GROUP) {
            return Ok(None);
        }
        Ok(Some(Codes {
            codes: self.take(rows * cols)?,
            scales: self.take(rows * (cols / GROUP) * Codes::SCALE_BYTES)?,
        }))
    }

    /// What a product reads: values, and their codes, which are made if no kernel has.
    pub(crate) fn inputs(
        &self,
        x: &Activations,
        needs_codes: bool,
        made: &mut Option<Codes>,
    ) -> Result<args::Inputs, OpError> {
        let values = x.values.address();
        if !needs_codes {
            return Ok(args::Inputs {
                values,
                cols: x.cols as u64,
                ..args::Inputs::default()
            });
        }
        let codes = match &x.codes {
            Some(codes) => codes,
            None => {
                let codes = self.codes(x.rows, x.cols)?.ok_or_else(|| OpError::Shape {
                    op: "linear",
                    expected: "whole groups of 32 values".into(),
                    found: format!("{} columns", x.cols),
                })?;
                let args = args::Quantise {
                    x: values,
                    codes: codes.codes.address(),
                    scales: codes.scales.address(),
                    groups: (x.rows * x.cols / GROUP) as i32,
                };
                let blocks = (x.rows * x.cols / GROUP).div_ceil(32);
                // SAFETY: the codes were made for this tensor's groups.
                unsafe { self.launch("quantise", [blocks, 1, 1], 256, &args)? };
                made.insert(codes)
            }
        };
        Ok(args::Inputs {
            values,
            codes: codes.codes.address(),
            scales: codes.scales.address(),
            cols: x.cols as u64,
        })
    }
}

impl std::fmt::Debug for Gpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Gpu").field(self.driver.device()).finish()
    }
}

/// The addresses of codes, or null ones.
pub(crate) fn code_addresses(codes: Option<&Codes>) -> (Address, Address) {
    codes.map_or((0, 0), |codes| {
        (codes.codes.address(), codes.scales.address())
    })
}
