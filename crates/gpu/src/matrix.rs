//! Weights on the device, and how they get there.

use formats::DType;
use tensor::{MlpWeights, OpError, StoredExperts, StoredMatrix};

use crate::args::{self, KernelArgs};
use crate::driver::{Handle, Memory};
use crate::fillers::helpers_for;
use crate::formats_on_device::{self, Planes};
use crate::gpu::Gpu;
use crate::parts::{Coming, Parts};

/// A weight `[rows, cols]`.
pub struct Matrix {
    pub(crate) layout: Layout,
    pub(crate) memory: Memory,
}

/// f32 parameters.
pub struct Vector {
    pub(crate) len: usize,
    pub(crate) memory: Memory,
}

/// All experts of a layer, each in one piece: gate, up, down.
pub struct Experts {
    pub(crate) count: usize,
    /// Of an expert.
    pub(crate) bytes: usize,
    /// Layouts, and where in an expert's bytes they begin.
    pub(crate) gate: (Layout, usize),
    pub(crate) up: (Layout, usize),
    pub(crate) down: (Layout, usize),
    pub(crate) memory: Memory,
}

/// How a matrix lies in its memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) dtype: DType,
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    /// Offsets of the planes after the first, of a quantised type.
    planes: [usize; 3],
    /// Bytes of a row, padded, of a plain type.
    pub(crate) row_bytes: usize,
    pub(crate) bytes: usize,
}

/// Who puts weights into pinned memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Threads {
    /// The caller: others have to compute meanwhile.
    Caller,
    /// Several, if it is much.
    Several,
}

/// Where planes and matrices begin, that all loads are aligned and none shares a line.
const ALIGNMENT: usize = 256;

impl Layout {
    pub(crate) fn new(stored: &StoredMatrix) -> Option<Self> {
        let (rows, cols) = (stored.rows(), stored.cols());
        let dtype = match stored.scales() {
            None => formats_on_device::on_device(stored.dtype()),
            // Kernels know nothing of these.
            Some(_) => DType::F32,
        };
        // Kernels count both in i32.
        i32::try_from(rows).and(i32::try_from(cols)).ok()?;
        let mut layout = Self {
            dtype,
            rows,
            cols,
            planes: [0; 3],
            row_bytes: 0,
            bytes: 0,
        };
        match formats_on_device::planes(dtype) {
            Some(Planes(per_eight)) => {
                let mut end = 0usize;
                for (index, bytes) in per_eight.into_iter().enumerate() {
                    if index > 0 {
                        layout.planes[index - 1] = end;
                    }
                    let plane = rows.checked_mul(cols / 32 * bytes / 8)?;
                    end = end
                        .checked_add(plane)?
                        .checked_next_multiple_of(ALIGNMENT)?;
                }
                layout.bytes = end;
            }
            None => {
                layout.row_bytes = dtype.row_bytes(cols)?.next_multiple_of(16);
                let bytes = rows.checked_mul(layout.row_bytes)?;
                layout.bytes = bytes.checked_next_multiple_of(ALIGNMENT)?;
            }
        }
        Some(layout)
    }

    /// Whether products read codes of activations.
    pub(crate) fn is_quantised(&self) -> bool {
        self.row_bytes == 0
    }

    /// As kernels take it, beginning `offset` bytes into a memory.
    pub(crate) fn args(&self, memory: &Memory, offset: usize) -> args::Matrix {
        args::Matrix {
            codes: memory.part(offset, self.bytes),
            high: self.planes[0] as u64,
            scales: self.planes[1] as u64,
            blocks: self.planes[2] as u64,
            rows: self.rows as i32,
            cols: self.cols as i32,
            format: formats_on_device::number(self.dtype) as i32,
            row_bytes: self.row_bytes as i32,
        }
    }
}

impl Matrix {
    pub(crate) fn args(&self) -> args::Matrix {
        self.layout.args(&self.memory, 0)
    }

    /// Outputs of `y = W x`.
    pub fn rows(&self) -> usize {
        self.layout.rows
    }

    /// Inputs of `y = W x`.
    pub fn cols(&self) -> usize {
        self.layout.cols
    }

    /// The device's memory that it takes.
    pub fn bytes(&self) -> usize {
        self.memory.bytes()
    }
}

fn too_large(stored: &StoredMatrix) -> OpError {
    OpError::Memory(format!(
        "tensor {}: [{}, {}] is too large for a GPU",
        stored.name,
        stored.rows(),
        stored.cols()
    ))
}

impl Gpu {
    pub(crate) fn matrix(&self, stored: &StoredMatrix) -> Result<Matrix, OpError> {
        let layout = Layout::new(stored).ok_or_else(|| too_large(stored))?;
        let memory = self.pool.allocate(layout.bytes)?;
        let coming = Coming {
            stored,
            layout,
            to: &memory,
            offset: 0,
        };
        stored.will_need();
        self.bring(&[coming], Threads::Several)?;
        self.wait_for_copies()?;
        Ok(Matrix { layout, memory })
    }

    pub(crate) fn vector(&self, values: &[f32]) -> Result<Vector, OpError> {
        let memory = self.pool.allocate(size_of_val(values))?;
        let bytes: Vec<u8> = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        self.uploads.send(&memory, 0, &bytes)?;
        Ok(Vector {
            len: values.len(),
            memory,
        })
    }

    pub(crate) fn layer_experts(&self, stored: &StoredExperts) -> Result<Experts, OpError> {
        let layouts = expert_layouts(stored)?;
        let count = stored.experts.len();
        let memory = self.pool.allocate(layouts.bytes(count)?)?;
        let experts = layouts.experts(count, memory);
        for MlpWeights { gate, up, down } in &stored.experts {
            [gate, up, down]
                .into_iter()
                .for_each(StoredMatrix::will_need);
        }
        self.bring_experts(&stored.experts, (&experts, 0), Threads::Several)?;
        self.wait_for_copies()?;
        Ok(experts)
    }

    /// Brings experts to their places among others, by the caller and so many threads.
    pub(crate) fn bring_experts(
        &self,
        stored: &[MlpWeights<StoredMatrix>],
        (experts, first): (&Experts, usize),
        threads: Threads,
    ) -> Result<(), OpError> {
        let mut matrices = Vec::with_capacity(3 * stored.len());
        for (index, stored) in stored.iter().enumerate() {
            for (stored, (layout, offset)) in [
                (&stored.gate, &experts.gate),
                (&stored.up, &experts.up),
                (&stored.down, &experts.down),
            ] {
                matrices.push(Coming {
                    stored,
                    layout: *layout,
                    to: &experts.memory,
                    offset: (first + index) * experts.bytes + offset,
                });
            }
        }
        self.bring(&matrices, threads)
    }

    /// Brings matrices to their places, beside other work.
    fn bring(&self, matrices: &[Coming<'_>], threads: Threads) -> Result<(), OpError> {
        let helpers = match threads {
            Threads::Caller => 0,
            Threads::Several => helpers_for(matrices.iter().map(Coming::bytes).sum()),
        };
        let repack = self.repack_for(matrices)?;
        // SAFETY: it is that kernel.
        unsafe { self.copies.bring(Parts::of(matrices), helpers, repack)? };
        Ok(())
    }

    /// What lays out blocks, if there are any, and knows all of their types.
    pub(crate) fn repack_for(&self, matrices: &[Coming<'_>]) -> Result<Option<Handle>, OpError> {
        for matrix in matrices {
            self.use_layout(&matrix.layout);
        }
        if !matrices.iter().any(|matrix| matrix.layout.is_quantised()) {
            return Ok(None);
        }
        let function = self.kernels.function("repack", args::Repack::BYTES)?;
        Ok(Some(function))
    }

    /// Has other work wait for what was brought.
    fn wait_for_copies(&self) -> Result<(), OpError> {
        Ok(self.driver.wait_for(&self.copies.mark()?)?)
    }

    /// Has kernels know the type of a matrix.
    pub(crate) fn use_layout(&self, layout: &Layout) {
        self.kernels
            .use_format(formats_on_device::number(layout.dtype));
    }
}

/// The layouts of a layer's experts, which are all alike.
pub(crate) fn expert_layouts(stored: &StoredExperts) -> Result<ExpertLayouts, OpError> {
    let shape = |expected: &str, found: String| OpError::Shape {
        op: "experts",
        expected: expected.into(),
        found,
    };
    let Some(first) = stored.experts.first() else {
        return Err(shape("at least one expert", "none".into()));
    };
    let all = ExpertLayouts::new(first)?;
    for expert in &stored.experts {
        if ExpertLayouts::new(expert)? != all {
            let found = format!("{} unlike the first", expert.gate.name);
            return Err(shape("experts of one shape and type", found));
        }
    }
    Ok(all)
}

/// Layouts of an expert: gate, up and down, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ExpertLayouts([Layout; 3]);

impl ExpertLayouts {
    pub(crate) fn new(expert: &MlpWeights<StoredMatrix>) -> Result<Self, OpError> {
        let layout = |stored| Layout::new(stored).ok_or_else(|| too_large(stored));
        Ok(Self([
            layout(&expert.gate)?,
            layout(&expert.up)?,
            layout(&expert.down)?,
        ]))
    }

    pub(crate) fn each(&self) -> &[Layout; 3] {
        &self.0
    }

    fn of_one(&self) -> usize {
        self.0.iter().map(|layout| layout.bytes).sum()
    }

    /// Of so many experts.
    pub(crate) fn bytes(&self, count: usize) -> Result<usize, OpError> {
        let bytes = self.of_one().checked_mul(count);
        bytes.ok_or_else(|| OpError::Memory(format!("{count} experts are too large for a GPU")))
    }

    /// As they lie in memory that is large enough for so many.
    pub(crate) fn experts(&self, count: usize, memory: Memory) -> Experts {
        let [gate, up, down] = self.0;
        Experts {
            count,
            bytes: self.of_one(),
            gate: (gate, 0),
            up: (up, gate.bytes),
            down: (down, gate.bytes + up.bytes),
            memory,
        }
    }
}
