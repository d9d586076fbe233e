//! Files written by the format's own Python package are read as it meant them.
//!
//! `make_fixtures.py` writes them.

use std::path::PathBuf;

use tidemill_formats::gguf::{GgufFile, StringArray, Value};
use tidemill_formats::{DType, SharedBytes};

fn fixture(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests/fixtures", name]
        .iter()
        .collect()
}

fn f32s(bytes: &[u8]) -> Vec<f32> {
    let (numbers, rest) = bytes.as_chunks();
    assert!(rest.is_empty());
    numbers
        .iter()
        .map(|&number| f32::from_le_bytes(number))
        .collect()
}

#[test]
fn every_metadata_type_is_read() {
    let file = GgufFile::open(&fixture("python.gguf")).unwrap();
    let expected: [(&str, Value); 18] = [
        ("general.architecture", "example".into()),
        ("test.u8", u8::MAX.into()),
        ("test.i8", i8::MIN.into()),
        ("test.u16", u16::MAX.into()),
        ("test.i16", i16::MIN.into()),
        ("test.u32", u32::MAX.into()),
        ("test.i32", i32::MIN.into()),
        ("test.u64", u64::MAX.into()),
        ("test.i64", i64::MIN.into()),
        ("test.f32", 0.1f32.into()),
        ("test.f64", 0.1f64.into()),
        ("test.bool", true.into()),
        ("test.string", "grüße, 世界".into()),
        (
            "test.strings",
            ["a", "bc", "", "grüße"]
                .into_iter()
                .collect::<StringArray>()
                .into(),
        ),
        ("test.i32s", vec![11, 11, 10, 0].into()),
        ("test.f32s", vec![0.5f32, -2.0].into()),
        ("test.bools", vec![true, false, true].into()),
        ("test.u64s", vec![1u64, 1 << 40].into()),
    ];
    for (key, value) in expected {
        assert_eq!(file.metadata().value(key), Some(&value), "{key}");
    }
}

#[test]
fn tensors_have_their_bytes() {
    let file = GgufFile::open(&fixture("python.gguf")).unwrap();
    let whole = |name: &str| file.tensor(name).unwrap();

    let plain = whole("f32");
    assert_eq!((plain.dtype, &plain.shape[..]), (DType::F32, &[2, 3][..]));
    assert_eq!(f32s(&plain.bytes), [0.0, 0.125, 0.25, 8.0, 8.125, 8.25]);

    let experts = whole("experts");
    assert_eq!(experts.shape, [2, 3, 4]);
    assert_eq!(f32s(&experts.bytes)[23], 23.0);

    for (name, dtype, bytes) in [
        ("f16", DType::F16, 256),
        ("BF16", DType::BF16, 256),
        ("Q8_0", DType::Q8_0, 136),
        ("Q4_0", DType::Q4_0, 72),
    ] {
        let tensor = whole(name);
        assert_eq!(
            (tensor.dtype, &tensor.shape[..]),
            (dtype, &[2, 64][..]),
            "{name}"
        );
        assert_eq!(tensor.bytes.len(), bytes, "{name}");
    }
    // 15.875 in BF16 is 0x417e: the last value of the last row.
    assert_eq!(whole("BF16").bytes[254..], [0x7e, 0x41]);
    // The alignment of 64 is respected.
    assert!(file.tensors().iter().all(|tensor| tensor.offset % 64 == 0));
}

#[test]
fn any_part_opens_a_split_model() {
    for part in 1..=3 {
        let path = fixture(&format!("split-0000{part}-of-00003.gguf"));
        let file = GgufFile::open(&path).unwrap();
        assert_eq!(
            file.metadata().get::<u32>("example.block_count").unwrap(),
            5
        );
        let parts: Vec<_> = file.tensors().iter().map(|tensor| tensor.part).collect();
        assert_eq!(parts, [0, 0, 1, 1, 2]);
        for index in 0..5 {
            let tensor = file.tensor(&format!("t{index}")).unwrap();
            assert_eq!(f32s(&tensor.bytes), [index as f32; 4]);
        }
    }
}

#[test]
fn version_2_has_the_same_layout() {
    let mut bytes = std::fs::read(fixture("python.gguf")).unwrap();
    bytes[4] = 2;
    let file = GgufFile::from_bytes("v2", SharedBytes::from_vec(bytes)).unwrap();
    assert_eq!(file.version(), 2);
    assert_eq!(
        file.metadata().get::<&str>("test.string").unwrap(),
        "grüße, 世界"
    );
}
