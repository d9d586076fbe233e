//! Weights on their way: in slots, by several threads, and when the driver fails.

use formats::{DType, SharedBytes};
use libloading::Library;
use proptest::prelude::*;
use tensor::{Ops, StoredMatrix};

use super::{Random, assert_same, cases, gpu, read, standin_options};
use crate::Gpu;
use crate::copies::Copies;
use crate::driver::Memory;
use crate::fillers::helpers_for;
use crate::matrix::{Layout, Matrix};
use crate::parts::{Coming, Parts};

const TYPES: [DType; 7] = [
    DType::Q4_K,
    DType::Q8_0,
    DType::Q6_K,
    DType::BF16,
    DType::F16,
    DType::F32,
    // Held as f32.
    DType::Q5_1,
];

/// Values of some type, whose rows may need padding.
fn stored(random: &mut Random, rows: usize) -> StoredMatrix {
    let dtype = TYPES[random.index(TYPES.len())];
    let cols = match dtype.block_len() {
        1 => 1 + random.index(1500),
        len => len * (1 + random.index(3)),
    };
    random.matrix(dtype, rows, cols)
}

/// Memory for matrices, which are yet to come.
fn places(gpu: &Gpu, stored: &[StoredMatrix]) -> Vec<Matrix> {
    let place = |stored| {
        let layout = Layout::new(stored).unwrap();
        gpu.use_layout(&layout);
        let memory = gpu.driver().allocate(layout.bytes).unwrap();
        Matrix { layout, memory }
    };
    stored.iter().map(place).collect()
}

fn bring(
    gpu: &Gpu,
    copies: &Copies,
    (stored, places): (&[StoredMatrix], &[Matrix]),
    helpers: usize,
) -> Result<(), crate::GpuError> {
    let matrices = stored.iter().zip(places);
    let matrices: Vec<_> = matrices
        .map(|(stored, place)| Coming {
            stored,
            layout: place.layout,
            to: &place.memory,
            offset: 0,
        })
        .collect();
    let repack = gpu.repack_for(&matrices).unwrap();
    // SAFETY: it is that kernel.
    unsafe { copies.bring(Parts::of(&matrices), helpers, repack) }
}

/// What came is what was stored, row by row.
fn assert_came(gpu: &Gpu, stored: &StoredMatrix, found: &Matrix) {
    let rows: Vec<u32> = (0..stored.rows() as u32).collect();
    let found = read(gpu, gpu.embed(found, &rows).unwrap());
    let what = format!("{} [{}, {}]", stored.dtype(), stored.rows(), stored.cols());
    assert_same(&what, found.data(), &stored.decode());
}

fn bytes_of(gpu: &Gpu, memory: &Memory) -> Vec<u8> {
    let mut bytes = vec![0; memory.bytes()];
    gpu.driver().download(memory, 0, &mut bytes).unwrap();
    bytes
}

proptest! {
    #![proptest_config(cases(12))]

    #[test]
    fn matrices_come_whole_whatever_the_slots_and_threads(seed: u64, slot in 8..15usize, helpers in 0..5usize) {
        let Some(gpu) = gpu() else { return Ok(()) };
        let mut random = Random::new(seed);
        let copies = Copies::of_slots(gpu.driver(), (1 << slot) - random.index(100)).unwrap();
        // The second time, slots and stages are used again.
        for _ in 0..2 {
            let stored: Vec<_> = (0..1 + random.index(6))
                .map(|_| {
                    let rows = random.index(40);
                    stored(&mut random, rows)
                })
                .collect();
            let places = places(&gpu, &stored);
            bring(&gpu, &copies, (&stored, &places), helpers).unwrap();
            gpu.driver().wait_for(&copies.mark().unwrap()).unwrap();
            for (stored, found) in stored.iter().zip(&places) {
                assert_came(&gpu, stored, found);
            }
        }
    }
}

#[test]
fn rows_end_where_slots_do_or_one_before_or_behind() {
    let Some(gpu) = gpu() else { return };
    const ROW: usize = 64;
    let mut random = Random::new(11);
    let copies = Copies::of_slots(gpu.driver(), 8 * ROW).unwrap();
    for rows in [0, 1, 7, 8, 9, 15, 16, 17, 16 * 8 - 1, 16 * 8, 16 * 8 + 1] {
        for helpers in [0, 1, 4] {
            let stored = [random.matrix(DType::BF16, rows, ROW / 2)];
            let places = places(&gpu, &stored);
            bring(&gpu, &copies, (&stored, &places), helpers).unwrap();
            gpu.driver().wait_for(&copies.mark().unwrap()).unwrap();
            let found = bytes_of(&gpu, &places[0].memory);
            assert!(found.starts_with(stored[0].bytes()), "{rows} rows");
        }
    }
}

#[test]
fn what_is_under_way_comes_though_nobody_waits() {
    let Some(gpu) = gpu() else { return };
    let mut random = Random::new(12);
    for helpers in [0, 3] {
        let stored = [
            random.matrix(DType::Q4_K, 200, 256),
            random.matrix(DType::BF16, 300, 64),
        ];
        let places = places(&gpu, &stored);
        let copies = Copies::of_slots(gpu.driver(), 4096).unwrap();
        bring(&gpu, &copies, (&stored, &places), helpers).unwrap();
        drop(copies);
        for (stored, found) in stored.iter().zip(&places) {
            assert_came(&gpu, stored, found);
        }
    }
}

/// Has the stand-in refuse the copy or event after so many.
fn refuse_after(calls: u32) {
    let options = standin_options().expect("it was opened before");
    // SAFETY: the library is open, and the function takes a number.
    unsafe {
        let library = Library::new(options.driver.unwrap()).unwrap();
        let refuse: libloading::Symbol<'_, unsafe extern "C" fn(u32)> =
            library.get(b"tidemill_standin_refuse\0").unwrap();
        refuse(calls);
    }
}

#[test]
fn an_error_of_the_driver_spoils_nothing_that_was_asked_for() {
    let Some(gpu) = gpu() else { return };
    if super::is_real() {
        return;
    }
    const COLS: usize = 32;
    let mut random = Random::new(13);
    let mut refused = 0;
    for calls in 1..60 {
        let copies = Copies::of_slots(gpu.driver(), 1024).unwrap();
        let [before, failing, after] =
            [(); 3].map(|()| [random.matrix(DType::BF16, 40 * 16, COLS)]);
        let [first, second, third] = [&before, &failing, &after].map(|stored| places(&gpu, stored));
        bring(&gpu, &copies, (&before, &first), 2).unwrap();
        refuse_after(calls);
        refused += u32::from(bring(&gpu, &copies, (&failing, &second), 2).is_err());
        refuse_after(0);
        bring(&gpu, &copies, (&after, &third), 2).unwrap();
        gpu.driver().wait_for(&copies.mark().unwrap()).unwrap();
        let found = [&first, &second, &third].map(|places| bytes_of(&gpu, &places[0].memory));
        assert_eq!(found[0], before[0].bytes(), "after {calls}");
        assert_eq!(found[2], after[0].bytes(), "after {calls}");
        // What came of the one that failed is its own, and nothing else is there.
        let rows = found[1]
            .chunks(2 * COLS)
            .zip(failing[0].bytes().chunks(2 * COLS));
        for (found, expected) in rows {
            let is_untouched = found.iter().all(|byte| *byte == 0xff);
            assert!(is_untouched || found == expected, "after {calls}");
        }
    }
    assert!(refused > 50, "{refused}");
}

#[test]
fn large_weights_are_loaded_by_several_threads() {
    let Some(gpu) = gpu() else { return };
    let mut random = Random::new(14);
    // Random bytes are values too.
    let (rows, cols) = (2500, 2048);
    let bytes: Vec<u8> = (0..rows * cols / 4)
        .flat_map(|_| random.bits().to_le_bytes())
        .collect();
    let all = bytes.clone();
    let stored = StoredMatrix::from_parts(
        "large".into(),
        DType::BF16,
        rows,
        cols,
        SharedBytes::from_vec(bytes),
    );
    let stored = stored.unwrap();
    assert_eq!(helpers_for(all.len()) > 0, helpers_for(usize::MAX) > 0);
    let found = gpu.load_matrix(stored).unwrap();
    assert!(bytes_of(&gpu, &found.memory) == all);
}
