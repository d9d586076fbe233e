//! What share of a machine's limits is reached: the only numbers here that are not counted.
//!
//! Those of the CPU were measured (`docs/performance.md`, two Zen 4 cores). Those of GPUs are assumed until
//! they are measured on one, and so are the times that a launch and a crossing take.

/// Of the read bandwidth when one or a few rows are multiplied, weights copied into the order they are
/// read in: 91 % and 86 % measured for Q4_K_M and MXFP4_MOE at a steady pace, 73 to 83 % elsewhere.
pub const CPU_READS: f64 = 0.85;

/// The same where there is no memory for copies: one core read 18 instead of 27 GB/s of Q4_K.
pub const CPU_READS_AS_STORED: f64 = CPU_READS * 18.0 / 27.0;

/// Of the int8 peak, by the rows that share a matrix: "Many inputs" and "One input" of the measurements for
/// few rows, the whole model's prefill of 512 tokens (428 tokens/s of 0.48 x 10^9 multiplications, the rest
/// taken off) for many.
pub fn cpu_multiplies(rows: f64) -> f64 {
    match rows {
        rows if rows < 2.0 => 0.20,
        rows if rows < 4.0 => 0.40,
        _ => 0.49,
    }
}

/// f32 multiplications for each of int8: 16 lanes instead of 64.
pub const F32_OF_INT8: f64 = 0.25;

/// Of the f32 peak in attention over a prompt: 1,190 of 1,416 ms.
pub const CPU_ATTENTION: f64 = 0.84;

/// Of the f32 peak in attention of single rows: 134 x 10^6 multiplications in 2.6 ms on two threads.
pub const CPU_ATTENTION_OF_FEW: f64 = 0.44;

/// Of the f32 peak in the delta rule: 35.5 of 47 us a token and layer.
pub const CPU_DELTA: f64 = 0.75;

/// f32 operations of the delta rule on each value of the state: decay, two sums, update.
pub const DELTA_OPERATIONS: f64 = 4.0;

/// Of a GPU's read bandwidth when one or a few rows are multiplied. Assumed.
pub const GPU_READS: f64 = 0.70;

/// Rows of a step from which on matrices are multiplied on matrix units (`docs/gpu.md`), experts' among them.
pub const GPU_MATRIX_UNITS_FROM: f64 = 9.0;

/// Rows of an expert that its products on matrix units are padded to: a step of 16 tokens, of which each has 8 of
/// 256 experts, has 1.3 rows for an expert and pays for 8, which its bytes hide (1.7 million bytes of Q4_K are
/// read in 2.5 us at 1 TB/s x 0.7; 8 x 3.1 million multiplications take 0.4 us at 330 x 10^12 x 0.2).
pub const GPU_EXPERT_ROWS: f64 = 8.0;

/// Of the int8 peak of a GPU's matrix units. Assumed.
pub const GPU_MATRIX_MULTIPLIES: f64 = 0.20;

/// Of the int8 peak of a GPU's vector units when rows are multiplied. Assumed.
pub const GPU_MULTIPLIES: f64 = 0.40;

/// f32 multiplications for each of int8 on a GPU's vector units: one a lane instead of four at half the rate.
pub const GPU_F32_OF_INT8: f64 = 0.5;

/// Of a GPU's f32 peak in attention on vector units. Assumed.
pub const GPU_ATTENTION: f64 = 0.40;

/// f16 multiplications that are summed in f32, for each of int8, on a GPU's matrix units: a half on those for
/// data centres (312 to 624 x 10^12 on A100), a quarter on GeForce (165 to 660 on RTX 4090).
pub const GPU_F16_OF_INT8: f64 = 0.25;

/// Products of 16 bits for each of a weight of 16 bits with an f32 input, which is split in two (decision 18); three
/// for F16, which is rare.
pub const GPU_HALF_PRODUCTS: f64 = 2.0;

/// Of matrix units' results, those that are of use where up to 8 rows are multiplied with such weights.
pub const GPU_HALF_USED_BY_FEW: f64 = 0.25;

/// Of [`GPU_F16_OF_INT8`] in attention, whose tiles wait for each other four times. Assumed.
pub const GPU_MATRIX_ATTENTION: f64 = 0.20;

/// Of a GPU's f32 peak in the delta rule of a prompt, whose tokens wait for each other: so much that it costs
/// a third of what the 35B's products cost (decision 18). Assumed.
pub const GPU_DELTA: f64 = 0.06;

/// Kernels that a layer launches at most, and those of embedding, last norm and head: counted on the stand-in
/// for the driver (`docs/gpu.md`).
pub const LAUNCHES_PER_LAYER: f64 = 11.0;
/// How many more experts launch where a step has many rows: sorting, three sizes of tiles for gate and up and for
/// down, and sums, in place of two.
pub const LAUNCHES_OF_SORTED: f64 = 6.0;
/// See [`LAUNCHES_PER_LAYER`].
pub const LAUNCHES_AROUND: f64 = 4.0;

/// Seconds from one kernel of a graph to the next beyond what it reads and multiplies. Assumed.
pub const LAUNCH_SECONDS: f64 = 2.5e-6;

/// Of what a PCIe link is said to carry. Assumed.
pub const PCIE_CARRIES: f64 = 0.80;

/// Seconds until the other side of a PCIe link knows that something came. Assumed.
pub const CROSSING_SECONDS: f64 = 10e-6;

/// Of a layer's choices, those that copies of a share of its experts serve. Assumed: as many as where all
/// experts are used alike. Texts use some more than others, so copies of those do better; `bench` tells how
/// much.
pub fn expert_hits(share: f64) -> f64 {
    share
}

/// Seconds of a step for which the link may carry single experts whose copies are to be kept. A step that
/// needs experts in RAM takes ten milliseconds and more, so this is less than a tenth of it, and most of it is
/// beside other work: filling 4 GB of copies takes some 160 steps over 16 lanes of PCIe 4.
pub const EXPERT_COPIES_SECONDS: f64 = 1e-3;

/// What a GPU's driver takes for a program and its kernels. Assumed.
pub const GPU_CONTEXT_BYTES: u64 = 450 << 20;

/// What a GPU's pool of activations may hold beyond what a step needs at once: its last region (`MOST_REGION` of
/// crates/gpu/src/pool.rs), and sums of a context's splits, of which a launch makes as many (`MOST_PARTIAL_BYTES` of
/// its ops/attention.rs). Counted on the stand-in: 134 MB for steps of 512 rows of the 35B model, for which
/// [`Budget::buffers`](super::Budget) counted 70 MB.
pub const GPU_POOL_BYTES: u64 = 128 << 20;

/// RAM that is left to the program itself and to others.
pub const RAM_RESERVE_BYTES: u64 = 512 << 20;
