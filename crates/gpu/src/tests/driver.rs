//! The driver-shaped inside: events, graphs, pinned memory, memory that runs out.

use std::path::Path;
use std::sync::Arc;

use formats::DType;
use tensor::{AttentionShape, OpError, Ops, Tensor};

use super::{Random, assert_same, attention, gpu, gpu_with, read, standin_options, upload};
use crate::args::{self, KernelArgs};
use crate::{Asked, Device, Driver, Event, Gpu, GpuError, Nvrtc, Options, nvrtc};

#[test]
fn without_a_driver_there_is_a_message() {
    let nowhere = Path::new("/nowhere/libcuda.so.1");
    let Err(error) = Driver::open(Some(nowhere), 0) else {
        panic!("a driver was found in /nowhere");
    };
    assert!(matches!(error, GpuError::NoDriver { .. }));
    assert!(error.to_string().contains("CPU"));
}

#[test]
fn without_a_compiler_there_is_a_message() {
    let Some(alone) = gpu() else { return };
    let Some(options) = standin_options() else {
        return;
    };
    let without = Gpu::open(Options {
        compiler: Some("/nowhere/libnvrtc.so".into()),
        ..options.clone()
    });
    let error = without.unwrap().prepare().unwrap_err();
    assert!(matches!(error, GpuError::NoCompiler { .. }), "{error}");
    // What was compiled before is found without one.
    let folder = super::build_folder().join(format!("cache-{}", std::process::id()));
    let cached = |compiler: &Path| Options {
        compiler: Some(compiler.to_owned()),
        cache: Some(folder.clone()),
        ..options.clone()
    };
    let compiler = options.compiler.clone().unwrap();
    Gpu::open(cached(&compiler)).unwrap().prepare().unwrap();
    Gpu::open(cached(Path::new("/nowhere")))
        .unwrap()
        .prepare()
        .unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(matches!(
        Driver::open(options.driver.as_deref(), 1),
        Err(GpuError::NoDevice {
            ordinal: 1,
            count: 1
        })
    ));
    drop(alone);
}

#[test]
fn a_library_that_is_no_compiler_does_not_end_the_search() {
    let Some(_alone) = gpu() else { return };
    let Some(compiler) = standin_options().and_then(|options| options.compiler) else {
        return;
    };
    let others = ["/nowhere/libnvrtc.so".into(), "libm.so.6".into()];
    assert!(Nvrtc::best(&others, None).is_none());
    let [first, second] = others;
    let nvrtc = Nvrtc::best(&[first, second, compiler], None).unwrap();
    assert_eq!(nvrtc.version(), (13, 0));
}

#[test]
fn the_newest_compiler_that_the_driver_goes_with_is_taken() {
    let versions = [(12, 4), (13, 0), (12, 9), (13, 1), (12, 8)];
    let best = |driver| {
        let all = versions.into_iter();
        all.max_by_key(|version| nvrtc::rank(*version, driver))
    };
    assert_eq!(best(Some(12_080)), Some((12, 9)));
    assert_eq!(best(Some(13_000)), Some((13, 1)));
    assert_eq!(best(None), Some((13, 1)));
    assert_eq!(best(Some(11_040)), Some((13, 1)), "the driver says why not");
}

#[test]
fn devices_that_are_too_old_are_refused() {
    let device = |capability| Device {
        name: "a GPU".into(),
        capability,
        multiprocessors: 1,
        memory_bytes: 1,
        driver_version: 12_040,
    };
    assert!(device((7, 5)).check().is_ok() && device((12, 0)).check().is_ok());
    assert!(device((9, 0)).check_overlap().is_ok() && device((12, 0)).check_overlap().is_ok());
    for old in [(7, 5), (8, 9)] {
        let error = device(old).check_overlap().unwrap_err();
        assert!(error.to_string().contains("from 9.0"), "{error}");
    }
    for old in [(6, 1), (7, 0), (7, 2)] {
        let error = device(old).check().unwrap_err();
        assert!(matches!(error, GpuError::TooOld { .. }));
        let text = error.to_string();
        assert!(text.contains("7.5") && text.contains("CPU"), "{text}");
    }
}

#[test]
fn memory_that_runs_out_is_an_error() {
    let Some(gpu) = gpu() else { return };
    let (free, total) = gpu.driver().memory().unwrap();
    assert!(free <= total && total == gpu.driver().device().memory_bytes);
    let kept = gpu.tensor(100, 1000).unwrap();
    assert!(gpu.driver().memory().unwrap().0 < free);
    let huge = gpu.tensor(total / 32, 4);
    assert!(huge.is_ok(), "half of it");
    assert!(matches!(gpu.tensor(total / 32, 8), Err(OpError::Memory(_))));
    drop(huge);
    // What the pool kept is given back where another size needs it.
    assert!(gpu.tensor(total / 32, 6).is_ok());
    drop(kept);
}

#[test]
fn weights_and_pages_get_what_the_pool_keeps() {
    const LITTLE: usize = 16 << 20;
    // Of the pool, which is not used where tensors are apart.
    if super::are_apart() {
        return;
    }
    let Some(gpu) = gpu() else { return };
    let free = || gpu.driver().memory().unwrap().0;
    let fill = || {
        let mut kept = Vec::new();
        while free() > LITTLE {
            kept.push(gpu.take(free() / 4 * 3).unwrap());
        }
    };
    fill();
    assert!(free() <= LITTLE, "dropped tensors stay in the pool");
    drop(gpu.load_vector(vec![0.0; LITTLE / 2]).unwrap());
    fill();
    let shape = AttentionShape {
        heads: 2,
        kv_heads: 1,
        head_dim: 32,
    };
    let layout = attention::layout(shape, DType::F16, 16);
    let memory = gpu.new_memory(&layout).unwrap();
    assert!(free() > LITTLE, "nothing is kept of loading weights");
    drop(memory);
}

#[test]
fn events_are_reached_in_order() {
    let Some(gpu) = gpu() else { return };
    let x = upload(&*gpu, &Random::new(1).tensor(2, 32));
    let event = Event::record(gpu.driver()).unwrap();
    // The stand-in puts work off as long as it can; a GPU may be done.
    assert!(super::is_real() || !event.is_reached().unwrap());
    event.wait().unwrap();
    assert!(event.is_reached().unwrap());
    drop(x);
}

/// Adds `y` to `x` so many times, with other tensors in between: the sums, and what was asked for.
fn add_often(gpu: &Gpu, (x, y): (&Tensor, &Tensor), times: usize) -> (Tensor, Vec<Asked>) {
    let weight = gpu.load_vector(vec![1.0; x.cols()]).unwrap();
    let (mut sum, addend) = (upload(gpu, x), upload(gpu, y));
    let asked = (0..times).map(|_| {
        let before = gpu.driver().asked();
        for _ in 0..10 {
            gpu.add_norm(&mut sum, Some(&addend), &weight, 1e-6)
                .unwrap();
        }
        // Something else that is asked for sends what was gathered.
        Event::record(gpu.driver()).unwrap();
        gpu.driver().asked().since(&before)
    });
    let asked = asked.collect();
    (read(gpu, sum), asked)
}

#[test]
fn launches_that_come_again_are_one_call() {
    // Tensors that are apart are elsewhere each time, so no launch comes again.
    if super::are_apart() {
        return;
    }
    let Some(gpu) = gpu() else { return };
    let mut random = Random::new(2);
    let (x, y) = (random.tensor(3, 64), random.tensor(3, 64));
    let mut expected = x.clone();
    for _ in 0..50 {
        for (value, add) in expected.data_mut().iter_mut().zip(y.data()) {
            *value += add;
        }
    }
    let of = |calls, changes| Asked {
        kernels: 10,
        calls,
        changes,
        overlapping: 0,
    };
    let (sum, asked) = add_often(&gpu, (&x, &y), 5);
    assert_same("fifty times", sum.data(), expected.data());
    assert_eq!(asked, [of(10, 0), of(1, 0), of(1, 0), of(1, 0), of(1, 0)]);
    // Other rows are another grid, and elsewhere in memory: a graph of its own.
    let kept = gpu.take(100).unwrap();
    let (few, more) = (random.tensor(2, 64), random.tensor(2, 64));
    let (_, asked) = add_often(&gpu, (&few, &more), 2);
    assert_eq!(asked, [of(1, 0); 2]);
    drop(kept);
    gpu.driver().launch_one_by_one();
    let (sum, asked) = add_often(&gpu, (&x, &y), 5);
    assert_same("one by one", sum.data(), expected.data());
    assert_eq!(asked, [of(10, 0); 5]);
}

#[test]
fn kernels_may_come_while_those_before_them_run() {
    let Some(gpu) = gpu() else { return };
    let mut random = Random::new(4);
    let (x, y) = (random.tensor(3, 64), random.tensor(3, 64));
    let (expected, asked) = add_often(&gpu, (&x, &y), 5);
    assert!(asked.iter().all(|asked| asked.overlapping == 0));
    drop(gpu);
    let dependent = |options| Options {
        dependent: true,
        ..options
    };
    let Some(gpu) = gpu_with(dependent) else {
        return;
    };
    if gpu.no_overlap().is_some() {
        return;
    }
    for one_by_one in [false, true] {
        if one_by_one {
            gpu.driver().launch_one_by_one();
        }
        let (sum, asked) = add_often(&gpu, (&x, &y), 5);
        assert_same("kernels that overlap", sum.data(), expected.data());
        // Tensors that are apart are asked for in between.
        if super::are_apart() {
            continue;
        }
        // All but the first after something else: a copy, an event, what was waited for.
        let overlapping: Vec<u64> = asked.iter().map(|asked| asked.overlapping).collect();
        assert_eq!(overlapping, [9; 5], "one by one: {one_by_one}");
        let calls: u64 = asked.iter().map(|asked| asked.calls).sum();
        assert_eq!(one_by_one, calls == 50, "{calls}");
    }
}

#[test]
fn graphs_are_told_what_changed_and_asked_work_keeps_what_it_had() {
    // Tensors that are apart are elsewhere each time, so no launch comes again.
    if super::are_apart() {
        return;
    }
    let Some(gpu) = gpu() else { return };
    let mut random = Random::new(3);
    let weight = gpu.load_vector(vec![1.0; 64]).unwrap();
    let (x, y) = (random.tensor(3, 64), random.tensor(3, 64));
    let (mut sum, addend) = (upload(&*gpu, &x), upload(&*gpu, &y));
    let mut changes = Vec::new();
    // Nothing waits between the runs, each of which adds once more than the one before.
    for times in 0..6 {
        let before = gpu.driver().asked().changes;
        for index in 0..8 {
            let addend = (index < times).then_some(&addend);
            gpu.add_norm(&mut sum, addend, &weight, 1e-6).unwrap();
        }
        Event::record(gpu.driver()).unwrap();
        changes.push(gpu.driver().asked().changes - before);
    }
    assert_eq!(changes, [0, 0, 1, 1, 1, 1]);
    let mut expected = x;
    for _ in 0..1 + 2 + 3 + 4 + 5 {
        for (value, add) in expected.data_mut().iter_mut().zip(y.data()) {
            *value += add;
        }
    }
    assert_same("fifteen times", read(&*gpu, sum).data(), expected.data());
}

#[test]
fn a_launch_that_is_refused_is_told_once() {
    let Some(gpu) = gpu() else { return };
    if super::is_real() {
        // A real device may be of no more use after that.
        return;
    }
    let function = gpu.kernels.function("add", args::Add::BYTES).unwrap();
    for singly in [false, true] {
        if singly {
            gpu.driver().launch_one_by_one();
        }
        // SAFETY: it does not run.
        let asked = unsafe {
            let write = |bytes: &mut [u8]| args::Add::default().write(bytes);
            gpu.driver()
                .launch(function, [1, 70_000, 1], 32, args::Add::BYTES, write)
        };
        let told = asked.and_then(|()| gpu.driver().synchronise());
        let text = told.unwrap_err().to_string();
        assert!(text.contains("cuLaunchKernel"), "{text}");
        gpu.driver().synchronise().unwrap();
        assert_eq!(read(&*gpu, upload(&*gpu, &Tensor::zeros(1, 32))).rows(), 1);
    }
}

#[test]
fn tensors_share_memory_and_steps_like_those_before_get_the_same() {
    let Some(gpu) = gpu() else { return };
    let sizes = [1000, 1, 70_000, 256, 3 << 20, 12, 5000, 800 << 10];
    let step = || {
        let mut kept = Vec::new();
        let mut places = Vec::new();
        for (index, size) in sizes.into_iter().enumerate() {
            kept.push(gpu.take(size).unwrap());
            places.push(kept.last().unwrap().address());
            if index % 3 == 2 {
                drop(kept.remove(0));
            }
        }
        places
    };
    let first = step();
    if super::are_apart() {
        return;
    }
    let free = gpu.driver().memory().unwrap().0;
    assert!(first.iter().all(|address| address % 256 == 0));
    for _ in 0..5 {
        assert_eq!(step(), first);
    }
    assert_eq!(gpu.driver().memory().unwrap().0, free, "no more is taken");
    // No two of those in use overlap.
    let mut random = Random::new(8);
    let mut kept: Vec<(u64, u64, crate::pool::Buffer)> = Vec::new();
    for _ in 0..2000 {
        if kept.len() > 20 || (!kept.is_empty() && random.index(3) == 0) {
            let index = random.index(kept.len());
            kept.swap_remove(index);
            continue;
        }
        let bytes = 1 + random.index(200_000);
        let buffer = gpu.take(bytes).unwrap();
        let (start, end) = (buffer.address(), buffer.address() + bytes as u64);
        let overlaps = kept.iter().any(|(s, e, _)| start < *e && *s < end);
        assert!(!overlaps);
        kept.push((start, end, buffer));
    }
    let most: usize = 20 * 200_000;
    let taken = free.saturating_sub(gpu.driver().memory().unwrap().0);
    assert!(taken < 2 * most, "{taken} bytes for at most {most}");
    drop(kept);
    gpu.pool.clear();
    assert!(
        gpu.driver().memory().unwrap().0 >= free,
        "all was given back"
    );
}

#[test]
fn pinned_memory_is_plain_memory() {
    let Some(gpu) = gpu() else { return };
    let driver: &Arc<Driver> = gpu.driver();
    let mut pinned = driver.pinned(1000).unwrap();
    assert!(pinned.bytes().iter().all(|byte| *byte == 0));
    pinned.bytes()[999] = 7;
    let device = driver.allocate(1000).unwrap();
    // SAFETY: the copy is waited for at once.
    unsafe { driver.upload(&device, 0, &pinned, 1000).unwrap() };
    driver.synchronise().unwrap();
    let mut back = vec![0; 1000];
    driver.download(&device, 0, &mut back).unwrap();
    assert_eq!(back, pinned.bytes());
}

#[test]
fn uploads_have_read_their_bytes_when_they_return() {
    let Some(gpu) = gpu() else { return };
    // More than the ring has slots, and pieces of all slots.
    let sizes = [1, 999, 64, 3 << 20, 7, 300 << 10, 5, 5, 5, 5, 5, 5, 5, 5, 5];
    let device = gpu.driver().allocate(4 << 20).unwrap();
    let (mut bytes, mut expected) = (vec![0; 4 << 20], Vec::new());
    for (index, size) in sizes.into_iter().enumerate() {
        for (place, byte) in bytes[..size].iter_mut().enumerate() {
            *byte = (place / 1000 + place + index * 37) as u8;
        }
        gpu.uploads
            .send(&device, expected.len(), &bytes[..size])
            .unwrap();
        expected.extend_from_slice(&bytes[..size]);
        bytes[..size].fill(0xee);
    }
    drop(bytes);
    let mut found = vec![0; expected.len()];
    gpu.driver().download(&device, 0, &mut found).unwrap();
    let different = found.iter().zip(&expected).position(|(f, e)| f != e);
    assert_eq!(different, None, "the first byte that is another");
}
