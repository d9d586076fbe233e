//! The driver-shaped inside: events, graphs, pinned memory, memory that runs out.

use std::path::Path;
use std::sync::Arc;

use formats::DType;
use tensor::{AttentionShape, OpError, Ops};

use super::{Random, assert_same, attention, gpu, read, standin_options, upload};
use crate::{Device, Driver, Event, Gpu, GpuError, Graph, Nvrtc, Options, nvrtc};

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

#[test]
fn recorded_work_runs_as_often_as_it_is_asked_for() {
    let Some(gpu) = gpu() else { return };
    let mut random = Random::new(2);
    let (x, y) = (random.tensor(3, 64), random.tensor(3, 64));
    let weight = gpu.load_vector(random.values(64)).unwrap();
    let (mut residual, addend) = (upload(&*gpu, &x), upload(&*gpu, &y));
    // Nothing may be allocated while work is recorded: what it makes is in the pool before.
    let room = [(); 2].map(|()| (gpu.tensor(3, 64).unwrap(), gpu.codes(3, 64).unwrap()));
    gpu.prepare().unwrap();
    drop(room);
    let mut made = Vec::new();
    let mut add = || -> Result<(), OpErrorOrGpu> {
        made.push(gpu.add_norm(&mut residual, Some(&addend), &weight, 1e-6)?);
        Ok(())
    };
    let before = gpu.driver().launches();
    let mut graph = Graph::capture(gpu.driver(), &mut add).unwrap();
    // SAFETY: its tensors are kept, those that it made in `made`.
    unsafe { graph.launch().unwrap() };
    graph.update(&mut add).unwrap();
    // SAFETY: as above.
    unsafe { graph.launch().unwrap() };
    assert_eq!(
        gpu.driver().launches() - before,
        2,
        "those that were recorded"
    );
    let mut expected = x;
    for _ in 0..2 {
        for (value, add) in expected.data_mut().iter_mut().zip(y.data()) {
            *value += add;
        }
    }
    assert_same("twice added", read(&*gpu, residual).data(), expected.data());
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

/// Errors of work that is recorded.
#[derive(Debug)]
enum OpErrorOrGpu {
    Op(#[expect(dead_code, reason = "shown when a test fails")] OpError),
    Gpu(#[expect(dead_code, reason = "shown when a test fails")] GpuError),
}

impl From<OpError> for OpErrorOrGpu {
    fn from(error: OpError) -> Self {
        Self::Op(error)
    }
}

impl From<GpuError> for OpErrorOrGpu {
    fn from(error: GpuError) -> Self {
        Self::Gpu(error)
    }
}
