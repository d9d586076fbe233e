//! Speed of the kernels on this machine.
//!
//! ```text
//! cargo bench -p tidemill-cpu --bench kernels -- [threads [filter]]
//! ```
//!
//! Prints the best and the median of many runs of about a millisecond: on a shared machine the
//! best is what the kernel can do, and the distance to the median is the noise. `TIDEMILL_ISA`
//! picks an instruction set. Matrix-vector products "from memory" take turns over weights of 256 MiB,
//! so that no cache holds them, and are to be compared with the first line, plain reading. Weights
//! are copies with their rows interleaved, or those of a file where the name says "stored".
//! What works on sequence memory is in the bench `sequences`.
#![expect(clippy::print_stdout, reason = "a benchmark's result")]

use std::error::Error;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use formats::{DType, SharedBytes};
use tensor::{MlpWeights, MoeWeights, Ops, StoredExperts, StoredMatrix, Tensor};
use tidemill_cpu::{CopySettings, Cpu, Matrix, Pool, default_threads};

const TYPES: [DType; 14] = [
    DType::Q8_0,
    DType::Q4_K,
    DType::Q5_K,
    DType::Q6_K,
    DType::MXFP4,
    DType::Q3_K,
    DType::Q2_K,
    DType::IQ4_XS,
    DType::IQ3_S,
    DType::IQ2_XS,
    DType::BF16,
    DType::F16,
    DType::F32,
    DType::Q4_0,
];
const COLS: usize = 2048;
/// Weights that no cache holds, and what one run reads of them.
const BIG: usize = 256 << 20;
const RUN: usize = 8 << 20;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    // Cargo passes options of the default harness.
    let mut args = std::env::args().skip(1).filter(|arg| !arg.starts_with('-'));
    let threads = args.next().map_or(Ok(default_threads()), |n| n.parse())?;
    let filter = args.next().unwrap_or_default();
    let pool = Arc::new(Pool::new(threads));
    let cpu = Cpu::new(Arc::clone(&pool))?;
    println!("{} threads, {}", cpu.threads(), cpu.isa());
    println!("{:30} {:>10} {:>10}", "", "best", "median");

    let wanted = |name: &str| name.contains(&filter);
    if wanted("read") {
        plain_reading(&pool);
    }
    if wanted("region") {
        let time = measure(|| pool.run(2 * threads, |task| _ = black_box(task)));
        report("region", time, |seconds| (seconds * 1e6, "us"));
    }
    for dtype in TYPES {
        for rows in [1, 2, 4, 8, 16, 512] {
            for (copied, name) in [(true, ""), (false, ", stored")] {
                let name = format!("{dtype} x {rows}{name}");
                if wanted(&format!("{name}.")) {
                    if rows == 1 {
                        from_memory(&cpu, dtype, &name, copied)?;
                    }
                    from_cache(&cpu, dtype, rows, &name, copied)?;
                }
            }
        }
    }
    if wanted("experts") {
        for rows in [1, 4, 64] {
            experts(&cpu, rows)?;
        }
    }
    Ok(())
}

/// Best and median time of a call, over a quarter of a second.
fn measure(mut call: impl FnMut()) -> (Duration, Duration) {
    call();
    let (begin, mut times) = (Instant::now(), Vec::new());
    while times.len() < 5 || begin.elapsed() < Duration::from_millis(250) {
        let start = Instant::now();
        call();
        times.push(start.elapsed());
    }
    times.sort_unstable();
    (times[0], times[times.len() / 2])
}

fn report(name: &str, times: (Duration, Duration), rate: impl Fn(f64) -> (f64, &'static str)) {
    let (best, unit) = rate(times.0.as_secs_f64());
    let (median, _) = rate(times.1.as_secs_f64());
    println!("{name:30} {best:10.2} {median:10.2} {unit}");
}

fn plain_reading(pool: &Pool) {
    let words: Vec<u64> = (0..BIG as u64 / 8).collect();
    let mut runs = words.chunks(RUN / 8).cycle();
    let time = measure(|| {
        let chunks = runs.next().map(|run| run.as_chunks::<8192>().0);
        let chunks = chunks.unwrap_or_default();
        pool.run(chunks.len(), |task| {
            black_box(
                chunks[task]
                    .iter()
                    .fold(0, |sum: u64, word| sum.wrapping_add(*word)),
            );
        });
    });
    report("read", time, |seconds| (RUN as f64 / seconds / 1e9, "GB/s"));
}

/// Random blocks with small scales, whatever the type.
fn matrix(dtype: DType, rows: usize, cols: usize) -> Result<StoredMatrix> {
    let mut bytes = vec![0u8; rows * dtype.row_bytes(cols).ok_or("whole blocks")?];
    let mut state = 1u64;
    for byte in &mut bytes {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        // No exponent of any float type becomes large.
        *byte = (state >> 56) as u8 & 0xbf;
    }
    for block in bytes.chunks_exact_mut(dtype.block_bytes()) {
        let scale = [0x00, 0x20];
        match dtype {
            DType::Q8_0 | DType::Q4_0 => block[..2].copy_from_slice(&scale),
            DType::Q4_K | DType::Q5_K => block[..4].copy_from_slice(&[0, 0x20, 0, 0x20]),
            DType::Q6_K => block[208..].copy_from_slice(&scale),
            DType::MXFP4 => block[0] = 120,
            DType::Q3_K => block[108..].copy_from_slice(&scale),
            DType::Q2_K => block[80..].copy_from_slice(&[0, 0x20, 0, 0x20]),
            DType::IQ4_XS | DType::IQ3_S | DType::IQ2_XS => block[..2].copy_from_slice(&scale),
            _ => {}
        }
    }
    let bytes = SharedBytes::from_vec(bytes);
    Ok(StoredMatrix::from_parts(
        dtype.to_string(),
        dtype,
        rows,
        cols,
        bytes,
    )?)
}

fn input(rows: usize, cols: usize) -> Tensor {
    let value = |i: usize| (i % 97) as f32 / 48.0 - 1.0;
    Tensor::from_vec(rows, cols, (0..rows * cols).map(value).collect())
}

/// Matrices as they are, or copies of them.
fn load(cpu: &Cpu, stored: Vec<StoredMatrix>, copied: bool) -> Result<(Cpu, Vec<Matrix>)> {
    let settings = CopySettings {
        huge_pages: true,
        locked: false,
        replaces_file: false,
    };
    let (cpu, copier) = match copied {
        true => {
            let (cpu, copier) = cpu.clone().with_copies(settings);
            (cpu, Some(copier))
        }
        false => (cpu.clone(), None),
    };
    let mut weights = Vec::new();
    for stored in stored {
        let weight = cpu.load_matrix(stored)?;
        // Its first use asks for the copy.
        cpu.linear(&input(1, weight.cols()), [&weight])?;
        weights.push(weight);
    }
    if copier.is_some_and(|copier| !copier.run_once()) {
        return Err("no memory for copies".into());
    }
    Ok((cpu, weights))
}

fn from_memory(cpu: &Cpu, dtype: DType, name: &str, copied: bool) -> Result<()> {
    let x = input(1, COLS);
    let run_rows = RUN / dtype.row_bytes(COLS).ok_or("whole blocks")? / 16 * 16;
    let stored = matrix(dtype, BIG / RUN * run_rows, COLS)?;
    let bytes = (run_rows * stored.row_bytes()) as f64;
    let slices = (0..BIG / RUN).map(|i| stored.slice_rows(i * run_rows..(i + 1) * run_rows));
    let (cpu, weights) = load(cpu, slices.collect(), copied)?;
    let mut turns = weights.iter().cycle();
    let time = measure(|| {
        black_box(turns.next().map(|weight| cpu.linear(&x, [weight]).ok()));
    });
    let name = format!("{name} from memory");
    report(&name, time, |seconds| (bytes / seconds / 1e9, "GB/s"));
    Ok(())
}

fn from_cache(cpu: &Cpu, dtype: DType, rows: usize, name: &str, copied: bool) -> Result<()> {
    let (x, outputs) = (input(rows, COLS), 512);
    let (cpu, weights) = load(cpu, vec![matrix(dtype, outputs, COLS)?], copied)?;
    let time = measure(|| {
        black_box(cpu.linear(&x, [&weights[0]]).ok());
    });
    let products = (outputs * COLS * rows) as f64;
    report(name, time, |seconds| (products / seconds / 1e9, "GMAC/s"));
    Ok(())
}

/// A layer of the 35B model as Q4_K_M stores it, but with 64 experts.
fn experts(cpu: &Cpu, rows: usize) -> Result<()> {
    const WIDTH: usize = 512;
    let stored_mlp = || -> Result<MlpWeights<StoredMatrix>> {
        Ok(MlpWeights {
            gate: matrix(DType::Q4_K, WIDTH, COLS)?,
            up: matrix(DType::Q4_K, WIDTH, COLS)?,
            down: matrix(DType::Q6_K, COLS, WIDTH)?,
        })
    };
    let experts = (0..64).map(|_| stored_mlp()).collect::<Result<Vec<_>>>()?;
    let shared = stored_mlp()?;
    let weights = MoeWeights {
        router: cpu.load_matrix(random_router()?)?,
        top_k: 8,
        renormalise: true,
        experts: cpu.load_experts(StoredExperts { experts })?,
        shared: Some((
            MlpWeights {
                gate: cpu.load_matrix(shared.gate)?,
                up: cpu.load_matrix(shared.up)?,
                down: cpu.load_matrix(shared.down)?,
            },
            cpu.load_matrix(matrix(DType::F32, 1, COLS)?)?,
        )),
    };
    let (mut turn, mut x) = (0, input(rows, COLS));
    let time = measure(|| {
        // Other rows choose other experts.
        turn += 1;
        x.data_mut().rotate_right(turn % 17);
        let routing = cpu.route(&x, &weights.as_ref());
        black_box(
            routing
                .and_then(|routing| cpu.experts(&x, &routing, &weights.as_ref()))
                .ok(),
        );
    });
    report(&format!("experts {rows}"), time, |seconds| {
        (seconds * 1e6, "us")
    });
    Ok(())
}

fn random_router() -> Result<StoredMatrix> {
    let values = input(64, COLS).into_vec().into_iter().enumerate();
    let bytes = values
        .flat_map(|(i, v)| (v * (i % 1013) as f32).to_le_bytes())
        .collect();
    let bytes = SharedBytes::from_vec(bytes);
    Ok(StoredMatrix::from_parts(
        "router".into(),
        DType::F32,
        64,
        COLS,
        bytes,
    )?)
}
