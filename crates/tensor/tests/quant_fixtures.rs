//! Every storage type against the results of the `gguf` package, bit for bit.
//!
//! The files are written by `scripts/make_quant_fixtures.py`, which describes them.

use std::collections::BTreeSet;
use std::path::PathBuf;

use formats::DType;
use tidemill_tensor::quant;

/// Decodable types that the `gguf` package does not know, and what tests them instead.
const WITHOUT_FIXTURE: [(DType, &str); 9] = [
    (DType::F64, "rounding of the language; quant_formulas.rs"),
    (DType::I8, "plain numbers; quant_formulas.rs"),
    (DType::I16, "plain numbers; quant_formulas.rs"),
    (DType::I32, "plain numbers; quant_formulas.rs"),
    (DType::I64, "plain numbers; quant_formulas.rs"),
    (DType::Q8_1, "only for activations; quant_formulas.rs"),
    (DType::Q8_K, "only for activations; quant_formulas.rs"),
    (DType::Q1_0, "newer than the package; quant_formulas.rs"),
    (
        DType::F8_E4M3,
        "not of ggml; all 256 values in quant/float.rs",
    ),
];

struct Fixture {
    stored: Vec<u8>,
    decoded: Vec<f32>,
    values: Vec<f32>,
    encoded: Vec<u8>,
}

impl Fixture {
    fn read(dtype: DType) -> Option<Self> {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/quant");
        let file = folder.join(format!("{}.bin", dtype.name().to_lowercase()));
        let bytes = std::fs::read(file).ok()?;
        let mut rest = bytes.as_slice();
        let mut take = |n: usize| rest.split_off(..n).expect("the file is complete");
        let count = |bytes: &[u8]| bytes.iter().rev().fold(0, |n, b| n << 8 | usize::from(*b));
        let row_bytes = |n| dtype.row_bytes(n).expect("the file holds whole blocks");
        let floats = |bytes: &[u8]| -> Vec<f32> {
            let (floats, _) = bytes.as_chunks();
            floats.iter().copied().map(f32::from_le_bytes).collect()
        };

        let decoded_len = count(take(4));
        let stored = take(row_bytes(decoded_len)).to_vec();
        let decoded = floats(take(4 * decoded_len));
        let values_len = count(take(4));
        let values = floats(take(4 * values_len));
        let encoded = take(row_bytes(values_len)).to_vec();
        assert!(
            rest.is_empty(),
            "{dtype}: the file has {} bytes too many",
            rest.len()
        );
        Some(Self {
            stored,
            decoded,
            values,
            encoded,
        })
    }
}

#[test]
fn decoding_is_bit_equal() {
    let mut covered = Vec::new();
    for dtype in DType::all() {
        let Some(fixture) = Fixture::read(dtype) else {
            continue;
        };
        let mut values = vec![0.0; fixture.decoded.len()];
        quant::decode(dtype, &fixture.stored, &mut values).unwrap();
        for (index, (ours, theirs)) in values.iter().zip(&fixture.decoded).enumerate() {
            // Which NaN a product of infinity and zero is depends on the processor.
            let is_same = ours.to_bits() == theirs.to_bits() || ours.is_nan() && theirs.is_nan();
            assert!(is_same, "{dtype} value {index}: {ours:e} for {theirs:e}");
        }
        covered.push(dtype.name());
    }
    println!("decoded bit-equal: {}", covered.join(" "));
}

#[test]
fn encoding_is_bit_equal() {
    let mut covered = Vec::new();
    for dtype in DType::all() {
        let Some(fixture) = Fixture::read(dtype).filter(|f| !f.values.is_empty()) else {
            continue;
        };
        let mut bytes = vec![0; fixture.encoded.len()];
        quant::encode(dtype, &fixture.values, &mut bytes).unwrap();
        let blocks = bytes.chunks(dtype.block_bytes());
        let expected = fixture.encoded.chunks(dtype.block_bytes());
        for (index, (ours, theirs)) in blocks.zip(expected).enumerate() {
            assert_eq!(ours, theirs, "{dtype} block {index}");
        }
        covered.push(dtype.name());
    }
    println!("encoded bit-equal: {}", covered.join(" "));
}

#[test]
fn every_decodable_type_has_a_fixture_or_a_reason() {
    let decodable: BTreeSet<_> = DType::all().filter(|d| quant::can_decode(*d)).collect();
    let mut covered: BTreeSet<_> = DType::all()
        .filter(|dtype| Fixture::read(*dtype).is_some())
        .collect();
    for (dtype, reason) in WITHOUT_FIXTURE {
        assert!(
            covered.insert(dtype),
            "{dtype} has a fixture: drop '{reason}'"
        );
    }
    assert_eq!(covered, decodable);
}
