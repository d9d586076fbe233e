//! Valid files with random damage never panic, and never cost more memory than a small multiple
//! of their size. `fuzz/` looks deeper; this runs with every `cargo test`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::error::Error;
use std::io::Write;

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, RngAlgorithm, RngSeed, TestRng, TestRunner};
use tidemill_formats::gguf::{Array, Builder, GgufFile, PlannedTensor, StringArray, Value};
use tidemill_formats::hf::{HfConfig, HfGenerationConfig};
use tidemill_formats::safetensors::Checkpoint;
use tidemill_formats::{DType, SharedBytes};

/// What reading may use at one time, per byte of the file and for small things.
const MEMORY_PER_BYTE: usize = 64;
const MEMORY_AT_LEAST: usize = 64 << 10;

/// Counts what this thread has allocated and not freed, and the most that was at one time.
struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    // At the end of a thread its counters may be gone already.
    let held = HELD.try_with(|held| {
        held.set(held.get() + bytes);
        held.get()
    });
    if let Ok(held) = held {
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(held)));
    }
}

#[expect(unsafe_code, reason = "an allocator can only be wrapped this way")]
// SAFETY: every call is passed on unchanged to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most memory that `work` holds at one time.
fn peak_of(work: impl FnOnce()) -> usize {
    let before = HELD.get();
    PEAK.set(before);
    work();
    (PEAK.get() - before) as usize
}

/// One piece of damage.
#[derive(Debug, Clone)]
enum Damage {
    Byte(Index, u8),
    /// A number where the file may have a count, a length or an offset.
    Number(Index, u64),
    Cut(Index),
    /// Bytes of one place repeated at another.
    Copy(Index, Index, u8),
}

fn damage() -> impl Strategy<Value = Damage> {
    let number = prop_oneof![
        Just(u64::MAX),
        Just(i64::MAX as u64),
        Just(1 << 32),
        (0u32..64).prop_map(|shift| 1u64 << shift),
        0u64..1000,
    ];
    prop_oneof![
        4 => (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Damage::Byte(at, byte)),
        4 => (any::<Index>(), number).prop_map(|(at, number)| Damage::Number(at, number)),
        1 => any::<Index>().prop_map(Damage::Cut),
        1 => (any::<Index>(), any::<Index>(), any::<u8>())
            .prop_map(|(from, to, length)| Damage::Copy(from, to, length)),
    ]
}

fn apply(bytes: &mut Vec<u8>, damage: &Damage) {
    if bytes.is_empty() {
        return;
    }
    let length = bytes.len();
    match damage {
        Damage::Byte(at, byte) => bytes[at.index(length)] = *byte,
        Damage::Number(at, number) => {
            let at = at.index(length);
            let fits = (length - at).min(8);
            bytes[at..at + fits].copy_from_slice(&number.to_le_bytes()[..fits]);
        }
        Damage::Cut(at) => bytes.truncate(at.index(length)),
        Damage::Copy(from, to, count) => {
            let (from, to) = (from.index(length), to.index(length));
            let count = usize::from(*count).min(length - from).min(length - to);
            bytes.copy_within(from..from + count, to);
        }
    }
}

/// Damages `valid` in many ways and reads each with `read`.
fn survives(cases: u32, valid: &[u8], read: fn(Vec<u8>)) {
    let config = Config {
        cases,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(1),
        ..Config::default()
    };
    let rng = TestRng::deterministic_rng(RngAlgorithm::XorShift);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let damages = proptest::collection::vec(damage(), 1..6);
    let outcome = runner.run(&damages, |damages| {
        let mut bytes = valid.to_vec();
        damages.iter().for_each(|damage| apply(&mut bytes, damage));
        let limit = MEMORY_AT_LEAST + MEMORY_PER_BYTE * bytes.len();
        let peak = peak_of(|| read(bytes));
        prop_assert!(
            peak <= limit,
            "{peak} bytes were held, at most {limit} are allowed"
        );
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

fn read_gguf(bytes: Vec<u8>) {
    let bytes = SharedBytes::from_vec(bytes);
    let examination = GgufFile::examine_bytes("m", bytes.clone());
    let model = &examination.model;
    for tensor in model.tensors() {
        if let Ok(stored) = model.tensor(&tensor.name) {
            assert_eq!(
                stored.dtype.bytes_for(&stored.shape),
                Some(stored.bytes.len())
            );
        }
    }
    for problem in &examination.problems {
        assert!(!problem.to_string().is_empty());
    }
    for (_, value) in model.metadata().iter() {
        if let Value::Array(Array::String(strings)) = value {
            let in_order = (0..strings.len()).map(|index| strings.get(index));
            assert!(strings.iter().map(Some).eq(in_order));
        }
    }
    // Opening is stricter than examining, never the other way round.
    if GgufFile::from_bytes("m", bytes).is_err() {
        assert!(!examination.problems.is_empty());
    }
}

fn read_safetensors(bytes: Vec<u8>) {
    let examination = Checkpoint::examine_bytes("m", SharedBytes::from_vec(bytes));
    for tensor in examination.checkpoint.tensors() {
        if let Ok(stored) = examination.checkpoint.tensor(&tensor.name) {
            assert_eq!(
                stored.dtype.bytes_for(&stored.shape),
                Some(stored.bytes.len())
            );
        }
    }
}

fn read_config(bytes: Vec<u8>) {
    if let Ok(config) = HfConfig::parse("config.json", &bytes) {
        assert_eq!(config.text.layer_types.len(), config.text.num_hidden_layers);
    }
    let _ = HfGenerationConfig::parse("generation_config.json", &bytes);
}

fn example_gguf() -> Vec<u8> {
    let mut builder = Builder::new();
    let words = ["a", "bc", "", "grüße"].repeat(10);
    builder
        .set("general.architecture", "qwen35moe")
        .set("qwen35moe.block_count", 4u32)
        .set("list", vec![1i32, 2, 3])
        .set("flags", vec![true, false])
        .set(
            "nested",
            Array::Array(vec![Array::U8(vec![1]), Array::F64(vec![])]),
        )
        .set("words", words.into_iter().collect::<StringArray>());
    for (name, dtype, shape) in [
        ("a", DType::F32, &[3, 2][..]),
        ("b", DType::Q8_0, &[2, 32]),
        ("c", DType::F16, &[2, 2, 2, 2]),
    ] {
        builder.tensor(name, dtype, shape).unwrap();
    }
    let zeros =
        |tensor: &PlannedTensor, out: &mut dyn Write| -> Result<(), Box<dyn Error + Send + Sync>> {
            Ok(out.write_all(&vec![0; tensor.byte_len as usize])?)
        };
    builder.to_bytes(zeros).unwrap()
}

#[test]
fn damaged_gguf_files() {
    survives(6000, &example_gguf(), read_gguf);
}

#[test]
fn damaged_safetensors_files() {
    let valid = include_bytes!("fixtures/python.safetensors");
    survives(6000, valid, read_safetensors);
}

#[test]
fn damaged_configurations() {
    let valid =
        br#"{"model_type": "qwen3_5_moe", "vision_config": {"depth": 2, "patch_size": [4, 4]},
        "text_config": {"num_hidden_layers": 4, "eos_token_id": [1, 2], "num_experts": 16,
        "rope_parameters": {"rope_type": "yarn", "factor": 2.0, "mrope_section": [1, 2, 3]}},
        "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}}"#;
    survives(4000, valid, read_config);
}

#[test]
fn claimed_sizes_cost_nothing() {
    // A header that claims as many keys and tensors as a number can say.
    let mut bytes = b"GGUF\x03\0\0\0".to_vec();
    bytes.extend([0xff; 16]);
    assert!(peak_of(|| read_gguf(bytes)) < MEMORY_AT_LEAST);
    let mut bytes = 100_000_000u64.to_le_bytes().to_vec();
    bytes.extend(b"{}");
    assert!(peak_of(|| read_safetensors(bytes)) < MEMORY_AT_LEAST);
}
