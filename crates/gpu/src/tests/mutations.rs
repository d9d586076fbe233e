//! Tests that cannot fail are worth nothing: kernels with a fault each, of which each must be noticed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use super::{
    Gpu, attention, build_folder, copies, delta, experts, linear, norm, on_all_processors,
};
use crate::standin::{self, Build};

/// A fault: its file, what is replaced by what, and the check that is to notice.
type Fault = (&'static str, &'static str, &'static str, fn(&Gpu));

const FAULTS: [Fault; 31] = [
    // A barrier that is missing.
    (
        "norm.cu",
        "    sync_block();\n    float total",
        "    float total",
        |gpu| norm::check_add_norm(gpu, 1, 3, 640),
    ),
    (
        "experts.cu",
        "    sync_block();\n    // Eight lanes",
        "    // Eight lanes",
        |gpu| experts::check(gpu, 3, 3),
    ),
    (
        "delta.cu",
        "        sync_block();\n#pragma unroll 1\n        for (int index = 0; index < count",
        "#pragma unroll 1\n        for (int index = 0; index < count",
        |gpu| delta::check(gpu, 3, &[9]),
    ),
    (
        "matmul.cuh",
        "            sync_block();\n#pragma unroll 1",
        "#pragma unroll 1",
        |gpu| linear::check_products(gpu, 2, 40, 1.0),
    ),
    (
        "tile_split.cuh",
        "            sync_block();\n            int low",
        "            int low",
        |gpu| linear::check_products(gpu, 2, 40, 1.0),
    ),
    (
        "tile_floats.cuh",
        "            sync_block();\n#pragma unroll 1\n            for (int four",
        "#pragma unroll 1\n            for (int four",
        |gpu| linear::check_products(gpu, 2, 40, 1.0),
    ),
    (
        "expert_tiles.cu",
        "    sync_block();\n#pragma unroll",
        "#pragma unroll",
        |gpu| experts::check(gpu, 3, 40),
    ),
    (
        "attention_tiles.cuh",
        "wait_for_copies<1>();\n        sync_block();",
        "wait_for_copies<1>();",
        |gpu| attention::check(gpu, 2, &[(600, 2)]),
    ),
    // A copy that nobody waits for.
    (
        "attention_tiles.cuh",
        "        wait_for_copies<0>();\n",
        "",
        |gpu| attention::check(gpu, 3, &[(600, 2)]),
    ),
    // A key that is seen too early, and values that are not there but count.
    (
        "attention_tiles.cuh",
        "key < queries[q].end",
        "key <= queries[q].end",
        |gpu| attention::check(gpu, 2, &[(600, 2)]),
    ),
    (
        "attention_tiles.cuh",
        "uint4 zeros = {0, 0, 0, 0}",
        "uint4 zeros = {~0u, 0, 0, 0}",
        |gpu| attention::check(gpu, 2, &[(600, 2)]),
    ),
    // An order between streams that nothing makes.
    (
        "cuda.cpp",
        "    ask(stream, nullptr, *static_cast<Event*>(event));\n",
        "    (void)stream, (void)event;\n",
        |gpu| (1..9).for_each(|seed| copies::check_slots(gpu, seed, 3)),
    ),
    (
        "cuda.cpp",
        "    ask(stream, nullptr, *static_cast<Event*>(event));\n",
        "    (void)stream, (void)event;\n",
        |gpu| (1..9).for_each(|seed| copies::check_rooms(gpu, seed)),
    ),
    (
        "cuda.cpp",
        "return mark->is_reached ? OK : NOT_READY;",
        "return OK;",
        |gpu| (1..9).for_each(|seed| copies::check_slots(gpu, seed, 3)),
    ),
    // What another computes is added all the same.
    (
        "experts.cu",
        "if (is_elsewhere(args, args.chosen[pair])) continue;\n        const int at",
        "const int at",
        |gpu| (1..9).for_each(|seed| copies::check_slots(gpu, seed, 3)),
    ),
    // Off by one.
    (
        "attention_tiles.cuh",
        "first < part.end; first += TILE_KEYS",
        "first + 1 < part.end; first += TILE_KEYS",
        |gpu| attention::check(gpu, 2, &[(608, 1)]),
    ),
    (
        "attention_tiles.cuh",
        "next > queries[q].end",
        "next >= queries[q].end",
        |gpu| attention::check(gpu, 2, &[(0, 300)]),
    ),
    ("formats.cuh", "low[1]) << 8", "low[1]) << 7", |gpu| {
        linear::check_products(gpu, 2, 2, 1.0)
    }),
    (
        "dot.cuh",
        "g < groups; g += TEAM",
        "g + 1 < groups; g += TEAM",
        |gpu| linear::check_products(gpu, 2, 2, 1.0),
    ),
    // Pairs that are left out: between tiles of an expert, and the last one of a tile.
    (
        "experts.cu",
        "left -= tile.count;",
        "left -= tile.count + 1;",
        |gpu| (1..9).for_each(|seed| experts::check(gpu, seed, 40)),
    ),
    (
        "matmul.cuh",
        "if (slot < count) {",
        "if (slot < count - 1) {",
        |gpu| experts::check(gpu, 3, 40),
    ),
    // The last value of a run.
    (
        "tile_floats.cuh",
        "is_aligned, cols - at,",
        "is_aligned, cols - at - 1,",
        |gpu| linear::check_products(gpu, 2, 40, 1.0),
    ),
    (
        "expert_tiles.cu",
        "smaller(index, tile.count - 1)",
        "larger(0, smaller(index, tile.count - 2))",
        |gpu| experts::check(gpu, 3, 40),
    ),
    (
        "attention.cu",
        "(split + 1) * length",
        "(split + 1) * length - 1",
        |gpu| attention::check(gpu, 2, &[(600, 2)]),
    ),
    (
        "delta.cu",
        "span.hold ? 0 : span.rows",
        "span.hold ? 1 : span.rows",
        |gpu| (1..6).for_each(|seed| delta::check_held(gpu, seed)),
    ),
    // A term that is lost.
    (
        "experts.cu",
        "sum = fmaf(args.weights[pair], product[0], sum)",
        "sum = product[0]",
        |gpu| experts::check(gpu, 3, 3),
    ),
    (
        "split.cuh",
        "if (p == 0) multiply",
        "if (p < 0) multiply",
        |gpu| linear::check_products(gpu, 2, 2, 1.0),
    ),
    // Strands in another order, and an input that takes its neighbour's place.
    (
        "dot.cuh",
        "products[r] += shuffle(mine, lane + 4, TEAM);\n        products[r] += shuffle(mine, lane + 1, TEAM);",
        "products[r] += shuffle(mine, lane + 1, TEAM);\n        products[r] += shuffle(mine, lane + 4, TEAM);",
        |gpu| (1..9).for_each(|seed| linear::check_same(gpu, seed, 12)),
    ),
    (
        "dot.cuh",
        "at[smaller(pair * 2 + 1, R - 1)]",
        "at[pair * 2]",
        |gpu| linear::check_products(gpu, 2, 2, 1.0),
    ),
    // The wrong neighbour.
    (
        "input.cuh",
        "for (int mask = 4; mask > 0; mask /= 2) largest",
        "for (int mask = 2; mask > 0; mask /= 2) largest",
        |gpu| linear::check_products(gpu, 2, 2, 1.0),
    ),
    (
        "cache.cuh",
        "fabsf(value) == largest ? lane",
        "value == largest ? lane",
        |gpu| attention::check(gpu, 2, &[(600, 2)]),
    ),
];

/// A file, and a text in it that another one takes the place of.
type Mutation = (&'static str, &'static str, &'static str);

/// Kernels with other texts in place of some; `None` where there is nothing to build them with.
fn with(mutations: &[Mutation]) -> Option<Gpu> {
    let build = Build {
        mutations: mutations.to_vec(),
        ..Build::default()
    };
    let options = standin::options(&build_folder(), &build).expect("the stand-in compiles")?;
    // A library of its own, and so a device of its own.
    Some(Gpu::open(options).expect("the stand-in opens"))
}

/// Whether a fault is noticed; `None` where there is nothing to build it with.
fn is_noticed((file, from, to, check): &Fault) -> Option<bool> {
    let gpu = with(&[(*file, *from, *to)])?;
    // In case it is noticed by a crash.
    eprintln!("{file}: {to:?} in place of {from:?}");
    Some(catch_unwind(AssertUnwindSafe(|| check(&gpu))).is_err())
}

#[test]
#[ignore = "builds kernels for each fault; `cargo xtask gpu` runs it"]
fn faults_are_noticed() {
    let started = Instant::now();
    let next = AtomicUsize::new(0);
    let work = || {
        let mut unnoticed = Vec::new();
        while let Some(fault) = FAULTS.get(next.fetch_add(1, Ordering::Relaxed)) {
            let Some(is_noticed) = is_noticed(fault) else {
                eprintln!("SKIPPED: no g++ to build the stand-in GPU with; no fault was made");
                return Vec::new();
            };
            let (file, from, to, _) = fault;
            let word = if is_noticed { "noticed" } else { "NOT NOTICED" };
            let seconds = started.elapsed().as_secs();
            eprintln!("{word} after {seconds} s: {file}: {to:?} in place of {from:?}");
            if !is_noticed {
                unnoticed.push((*file, *from, *to));
            }
        }
        unnoticed
    };
    let unnoticed = on_all_processors(work).concat();
    assert!(unnoticed.is_empty(), "nobody noticed {unnoticed:?}");
}

#[test]
#[ignore = "builds all kernels; `cargo xtask gpu` runs it"]
fn devices_whose_tensor_cores_take_no_bf16_multiply_it_as_f32() {
    let none = ("shim.h", "#define HAS_BF16_PRODUCTS\n", "");
    let Some(gpu) = with(&[none]) else {
        eprintln!("SKIPPED: no g++ to build the stand-in GPU with; older devices were not tested");
        return;
    };
    for rows in [2, 40] {
        linear::check_products(&gpu, 2, rows, 1.0);
        experts::check(&gpu, 3, rows);
    }
    linear::check_same(&gpu, 4, 40);
}
