//! Speed of the operations on sequence memory: attention, the delta rule, copies of states.
//!
//! ```text
//! cargo bench -p tidemill-cpu --bench sequences -- [threads [filter]]
//! ```
//!
//! Shapes are those of the 35B model. Layers take turns, so that no cache holds a layer's states
//! or keys when one token comes back to them. Prints the best and the median of many runs, and the
//! best processor time of the calling thread: on a shared machine, with one thread, that is what
//! the kernel needs. `TIDEMILL_ISA` picks an instruction set.
#![expect(clippy::print_stdout, reason = "a benchmark's result")]
#![expect(unsafe_code, reason = "asks the system for processor time")]

use std::error::Error;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use formats::DType;
use tensor::{
    AttentionShape, Batch, DeltaShape, HeadOrder, HostMemory, MemoryLayout, Ops, PageId, Rotary,
    StateId, Tensor, quant,
};
use tidemill_cpu::{Cpu, Pool, default_threads};

const PAGE_TOKENS: usize = 64;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    // Cargo passes options of the default harness.
    let mut args = std::env::args().skip(1).filter(|arg| !arg.starts_with('-'));
    let threads = args.next().map_or(Ok(default_threads()), |n| n.parse())?;
    let filter = args.next().unwrap_or_default();
    let cpu = Cpu::new(Arc::new(Pool::new(threads)))?;
    println!("{} threads, {}", cpu.threads(), cpu.isa());
    println!("{:28} {:>10} {:>10} {:>10}", "", "best", "median", "cpu");

    let wanted = |name: &str| name.contains(&filter);
    for rows in [1, 4, 64, 512] {
        if wanted(&format!("conv {rows}.")) {
            conv(&cpu, rows)?;
        }
        if wanted(&format!("delta {rows}.")) {
            delta(&cpu, rows, 0)?;
        }
    }
    // One step of speculation: some rows replayed, some held back.
    if wanted("delta 4, 4 replayed.") {
        delta(&cpu, 4, 4)?;
    }
    if wanted("state") {
        state_copies(&cpu)?;
    }
    for dtype in [
        DType::F16,
        DType::BF16,
        DType::Q8_0,
        DType::Q4_0,
        DType::F32,
    ] {
        for (rows, past) in [
            (1, 512),
            (1, 4096),
            (1, 16384),
            (4, 16384),
            (8, 16384),
            (512, 0),
            (512, 16384),
        ] {
            if wanted(&format!("attention {dtype} {rows} at {past}.")) {
                attention(&cpu, dtype, rows, past)?;
            }
        }
        for rows in [1, 512] {
            if wanted(&format!("inputs {dtype} {rows}.")) {
                attention_inputs(&cpu, dtype, rows)?;
            }
        }
    }
    Ok(())
}

/// Times of a call's runs.
struct Times {
    best: Duration,
    median: Duration,
    /// Of the calling thread; zero where the system does not tell.
    cpu: Duration,
}

/// Runs a call for a second. `prepare` makes its input, which is not timed.
fn measure<T>(mut prepare: impl FnMut() -> T, mut call: impl FnMut(T) -> bool) -> Result<Times> {
    let mut is_fine = call(prepare());
    let (begin, mut times, mut cpu) = (Instant::now(), Vec::new(), Duration::MAX);
    while times.len() < 3 || begin.elapsed() < Duration::from_secs(1) {
        let input = prepare();
        let (start, start_cpu) = (Instant::now(), cpu_time());
        is_fine &= call(input);
        times.push(start.elapsed());
        cpu = cpu.min(cpu_time().saturating_sub(start_cpu));
    }
    if !is_fine {
        return Err("an operation failed".into());
    }
    times.sort_unstable();
    Ok(Times {
        best: times[0],
        median: times[times.len() / 2],
        cpu,
    })
}

/// The processor time that this thread has used.
#[cfg(unix)]
fn cpu_time() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the call writes to `time` only.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Not asked for on this system.
#[cfg(not(unix))]
fn cpu_time() -> Duration {
    Duration::ZERO
}

fn report(name: &str, times: &Times) {
    let us = |time: Duration| time.as_secs_f64() * 1e6;
    let (best, median, cpu) = (us(times.best), us(times.median), us(times.cpu));
    println!("{name:28} {best:10.1} {median:10.1} {cpu:10.1} us");
}

fn input(rows: usize, cols: usize) -> Tensor {
    let value = |i: usize| (i * 7919 % 2003) as f32 / 1001.0 - 1.0;
    Tensor::from_vec(rows, cols, (0..rows * cols).map(value).collect())
}

fn layout(
    dtype: DType,
    attention_layers: usize,
    pages: usize,
    delta_layers: usize,
) -> MemoryLayout {
    MemoryLayout {
        attention_layers,
        attention: AttentionShape {
            heads: 16,
            kv_heads: 2,
            head_dim: 256,
        },
        key_type: dtype,
        value_type: dtype,
        page_tokens: PAGE_TOKENS,
        pages,
        delta_layers,
        delta: DeltaShape {
            key_heads: 16,
            value_heads: 32,
            key_dim: 128,
            value_dim: 128,
            conv_taps: 4,
            order: HeadOrder::Grouped,
        },
        states: 1,
        held_rows: 8,
    }
}

fn one_span(rows: usize, past: usize, replay: usize) -> Batch {
    let mut batch = Batch::default();
    let pages = (past + rows).div_ceil(PAGE_TOKENS) as u32;
    batch.push_speculative(
        &vec![0; rows],
        past,
        (0..pages).map(PageId).collect(),
        StateId(0),
        replay,
        replay > 0,
    );
    batch
}

/// Memory of the 35B model's states, all touched.
fn states() -> Result<HostMemory> {
    let mut memory = HostMemory::new(&layout(DType::F16, 0, 10, 30))?;
    for layer in 0..30 {
        memory.conv_slots(layer).states.fill(0.5);
        memory.delta_slots(layer).states.fill(0.5);
    }
    Ok(memory)
}

fn conv(cpu: &Cpu, rows: usize) -> Result<()> {
    let mut memory = states()?;
    let shape = memory.layout().delta;
    let taps = cpu.load_vector(vec![0.1; shape.channels() * shape.conv_taps])?;
    let (batch, mut layer) = (one_span(rows, 0, 0), 0);
    let input = input(rows, shape.channels());
    let time = measure(
        || input.clone(),
        |input| {
            layer = (layer + 1) % 30;
            let output = cpu.causal_conv(&mut memory, layer, &batch, &shape, &taps, input);
            black_box(output).is_ok()
        },
    )?;
    report(&format!("conv {rows}"), &time);
    Ok(())
}

fn delta(cpu: &Cpu, rows: usize, replay: usize) -> Result<()> {
    let mut memory = states()?;
    let shape = memory.layout().delta;
    for layer in 0..30 {
        memory.delta_slots(layer).held.fill(0.01);
        memory.delta_slots(layer).counts.fill(replay);
    }
    let (batch, mut layer) = (one_span(rows, 0, replay), 0);
    let per_head = cpu.load_vector(vec![-0.1; shape.value_heads])?;
    let qkv = input(rows, shape.channels());
    let heads = input(rows, shape.value_heads);
    let time = measure(
        || qkv.clone(),
        |qkv| {
            layer = (layer + 1) % 30;
            let (memory, vector) = (&mut memory, &per_head);
            let output = cpu.delta_rule(
                memory, layer, &batch, &shape, qkv, &heads, &heads, vector, vector,
            );
            black_box(output).is_ok()
        },
    )?;
    let name = match replay {
        0 => format!("delta {rows}"),
        _ => format!("delta {rows}, {replay} replayed"),
    };
    report(&name, &time);
    Ok(())
}

fn state_copies(cpu: &Cpu) -> Result<()> {
    let mut memory = states()?;
    println!("state of {} MB", memory.layout().state_bytes() / 1_000_000);
    let time = measure(
        || (),
        |()| black_box(cpu.snapshot(&memory, StateId(0))).is_ok(),
    )?;
    report("state snapshot", &time);
    let snapshot = cpu.snapshot(&memory, StateId(0))?;
    let time = measure(
        || (),
        |()| cpu.restore(&mut memory, StateId(0), &snapshot).is_ok(),
    )?;
    report("state restore", &time);
    Ok(())
}

fn attention(cpu: &Cpu, dtype: DType, rows: usize, past: usize) -> Result<()> {
    const LAYERS: usize = 4;
    let layout = layout(dtype, LAYERS, (past + rows).div_ceil(PAGE_TOKENS), 0);
    let mut memory = HostMemory::new(&layout)?;
    let shape = layout.attention;
    let (key_bytes, _) = layout.row_bytes()?;
    let values = input(61, shape.head_dim);
    let mut encoded = vec![0; 61 * key_bytes];
    quant::encode(dtype, values.data(), &mut encoded)?;
    for layer in 0..LAYERS {
        let (keys, values) = memory.layer_pages(layer);
        for pages in [keys, values] {
            pages.chunks_mut(encoded.len()).for_each(|chunk| {
                chunk.copy_from_slice(&encoded[..chunk.len()]);
            });
        }
    }
    let batch = one_span(rows, past, 0);
    let x = input(rows, shape.heads * shape.head_dim);
    let mut layer = 0;
    let time = measure(
        || (x.clone(), x.clone()),
        |(query, gate)| {
            layer = (layer + 1) % LAYERS;
            let output = cpu.attention(&memory, layer, &batch, &shape, query, gate);
            black_box(output).is_ok()
        },
    )?;
    report(&format!("attention {dtype} {rows} at {past}"), &time);
    Ok(())
}

fn attention_inputs(cpu: &Cpu, dtype: DType, rows: usize) -> Result<()> {
    let layout = layout(dtype, 1, rows.div_ceil(PAGE_TOKENS), 0);
    let mut memory = HostMemory::new(&layout)?;
    let shape = layout.attention;
    let rotary = Rotary {
        frequencies: (0..32).map(|j| 0.7f32.powi(j)).collect(),
        axes: vec![0; 32],
        scale: 1.0,
    };
    let norm = cpu.load_vector(vec![1.0; shape.head_dim])?;
    let batch = one_span(rows, 0, 0);
    let query_gate = input(rows, 2 * shape.heads * shape.head_dim);
    let key = input(rows, shape.kv_heads * shape.head_dim);
    let time = measure(
        || (query_gate.clone(), key.clone(), key.clone()),
        |(query_gate, key, value)| {
            let (memory, norms) = (&mut memory, (&norm, &norm, 1e-6));
            let output = cpu.attention_inputs(
                memory, 0, &batch, &shape, &rotary, norms, query_gate, key, value,
            );
            black_box(output).is_ok()
        },
    )?;
    report(&format!("inputs {dtype} {rows}"), &time);
    Ok(())
}
