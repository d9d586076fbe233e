//! Damaged, truncated and misnamed GGUF files are errors that say where and what to do.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;

use tidemill_formats::gguf::{Builder, GgufFile, Split};
use tidemill_formats::{DType, SharedBytes};

/// A file as it would be written by hand.
#[derive(Clone)]
struct Raw {
    version: u32,
    keys: Vec<Vec<u8>>,
    tensors: Vec<Vec<u8>>,
    data: usize,
    /// Claimed instead of the true ones.
    key_count: Option<u64>,
    tensor_count: Option<u64>,
}

fn string(text: &[u8]) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text].concat()
}

fn key(name: &str, type_id: u32, value: &[u8]) -> Vec<u8> {
    [&string(name.as_bytes())[..], &type_id.to_le_bytes(), value].concat()
}

/// Dimensions in the order of the file.
fn tensor(name: &str, dims: &[u64], type_id: u32, offset: u64) -> Vec<u8> {
    let mut bytes = string(name.as_bytes());
    bytes.extend((dims.len() as u32).to_le_bytes());
    bytes.extend(dims.iter().flat_map(|dim| dim.to_le_bytes()));
    bytes.extend(type_id.to_le_bytes());
    bytes.extend(offset.to_le_bytes());
    bytes
}

impl Raw {
    fn new() -> Self {
        Self {
            version: 3,
            keys: vec![key("k", 4, &7u32.to_le_bytes())],
            tensors: vec![tensor("a", &[8], 0, 0), tensor("b", &[4, 2], 0, 32)],
            data: 64,
            key_count: None,
            tensor_count: None,
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let tensor_count = self.tensor_count.unwrap_or(self.tensors.len() as u64);
        let key_count = self.key_count.unwrap_or(self.keys.len() as u64);
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(self.version.to_le_bytes());
        bytes.extend(tensor_count.to_le_bytes());
        bytes.extend(key_count.to_le_bytes());
        bytes.extend(self.keys.concat());
        bytes.extend(self.tensors.concat());
        bytes.resize(bytes.len().next_multiple_of(32) + self.data, 0);
        bytes
    }

    fn with(change: impl FnOnce(&mut Self)) -> Vec<u8> {
        let mut raw = Self::new();
        change(&mut raw);
        raw.bytes()
    }
}

fn error(bytes: Vec<u8>) -> String {
    let opened = GgufFile::from_bytes("m.gguf", SharedBytes::from_vec(bytes));
    opened.unwrap_err().to_string()
}

#[track_caller]
fn check(bytes: Vec<u8>, expected: &str) {
    assert_eq!(error(bytes), format!("m.gguf: {expected}"));
}

#[test]
fn the_undamaged_file_is_sound() {
    let bytes = SharedBytes::from_vec(Raw::new().bytes());
    let file = GgufFile::from_bytes("m.gguf", bytes).unwrap();
    assert_eq!(file.tensor("b").unwrap().shape, [2, 4]);
    assert_eq!(
        file.tensor("c").unwrap_err().to_string(),
        "m.gguf: has no tensor \"c\""
    );
}

#[test]
fn headers_are_checked() {
    check(
        Raw::with(|raw| raw.version = 1),
        "is GGUF version 1; versions 2 and 3 can be read, convert the model again with a current \
         converter",
    );
    check(
        Raw::with(|raw| raw.version = 3u32.swap_bytes()),
        "is a big-endian GGUF file; only little-endian files can be read, convert the model again \
         without --bigendian",
    );
    check(
        Raw::with(|raw| raw.key_count = Some(u64::MAX)),
        "metadata key count at byte 16 is 18446744073709551615, more than the 168 bytes left \
         could hold; the file is cut off or damaged, download it again",
    );
    check(
        Raw::with(|raw| raw.tensor_count = Some(1 << 60)),
        "tensor count at byte 8 is 1152921504606846976, more than the 151 bytes left could hold; \
         the file is cut off or damaged, download it again",
    );
}

#[test]
fn metadata_is_checked() {
    let with_key = |bytes: Vec<u8>| Raw::with(|raw| raw.keys.push(bytes));
    check(
        with_key(key("k", 4, &[0; 4])),
        "metadata key \"k\" appears twice, again at byte 41",
    );
    check(
        with_key(key("z", 13, &[])),
        "metadata key \"z\": value type 13 at byte 50 is unknown, expected 0 to 12",
    );
    check(
        with_key(key("z", 7, &[2])),
        "metadata key \"z\": boolean at byte 54 is 2, expected 0 or 1",
    );
    check(
        with_key(key("z", 8, &string(&[0xff, 0xfe]))),
        "metadata key \"z\": metadata value at byte 54 is not valid UTF-8; the file is damaged or \
         was written by a broken converter",
    );
    let strings = [&8u32.to_le_bytes()[..], &(1u64 << 40).to_le_bytes()].concat();
    check(
        with_key(key("z", 9, &strings)),
        "metadata key \"z\": array length at byte 58 is 1099511627776, more than the 158 bytes \
         left could hold; the file is cut off or damaged, download it again",
    );
    for alignment in [0u32, 24] {
        check(
            with_key(key("general.alignment", 4, &alignment.to_le_bytes())),
            &format!("alignment is u32 {alignment}, expected a power of two"),
        );
    }
    let long = "x".repeat(70_000);
    check(
        with_key(key(&long, 4, &[0; 4])),
        "metadata key at byte 41 is 70000 bytes long, at most 65535 are allowed",
    );
}

#[test]
fn tensors_are_checked() {
    let with_tensor = |bytes: Vec<u8>| Raw::with(|raw| raw.tensors.push(bytes));
    check(
        with_tensor(tensor("a", &[0], 0, 0)),
        "tensor \"a\" appears twice",
    );
    check(
        with_tensor(tensor("c", &[1; 5], 0, 0)),
        "tensor \"c\" has 5 dimensions, at most 4 are allowed",
    );
    check(
        with_tensor(tensor("c", &[1 << 40, 1 << 40], 0, 64)),
        "tensor \"c\" of type F32 cannot have shape [1099511627776, 1099511627776]: it would be \
         too large",
    );
    check(
        with_tensor(tensor("c", &[33], 8, 64)),
        "tensor \"c\" of type Q8_0 cannot have shape [33]: rows are no multiple of the type's \
         block",
    );
    check(
        with_tensor(tensor("c", &[0], 0, 4)),
        "tensor \"c\" starts at offset 4 of the data, expected a multiple of 32",
    );
    check(
        with_tensor(tensor("c", &[1], 0, 32)),
        "tensor \"c\" starts at byte 192, within tensor \"b\" which ends at 224",
    );
    check(
        with_tensor(tensor("c", &[8], 0, u64::MAX - 31)),
        "is cut off: it has 224 bytes and 1 of 3 tensors need more (18446744073709551391 bytes \
         are missing, first in \"c\"); download the file again",
    );
}

#[test]
fn an_unknown_type_matters_only_when_it_is_used() {
    let bytes = Raw::with(|raw| raw.tensors.push(tensor("c", &[8], 99, 64)));
    let file = GgufFile::from_bytes("m.gguf", SharedBytes::from_vec(bytes.clone())).unwrap();
    assert_eq!(file.tensors()[2].dtype.to_string(), "unknown type 99");
    let expected =
        "m.gguf: tensor \"c\" has an unknown type 99; a newer version of this program may know it";
    assert_eq!(file.tensor("c").unwrap_err().to_string(), expected);
    let examination = GgufFile::examine_bytes("m.gguf", SharedBytes::from_vec(bytes));
    assert_eq!(examination.problems[0].to_string(), expected);
}

#[test]
fn a_truncated_file_lists_what_is_cut() {
    let mut bytes = Raw::new().bytes();
    bytes.truncate(bytes.len() - 40);
    let examination = GgufFile::examine_bytes("m.gguf", SharedBytes::from_vec(bytes));
    let problems: Vec<_> = examination
        .problems
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        problems,
        [
            "m.gguf: is cut off: it has 152 bytes and 2 of 2 tensors need more (40 bytes are \
             missing, first in \"a\"); download the file again",
            "m.gguf: tensor \"a\" lies at bytes 128..160, but the file ends at 152 (8 bytes are \
             missing)",
            "m.gguf: tensor \"b\" lies at bytes 160..192, but the file ends at 152 (32 bytes are \
             missing)",
        ]
    );
    assert!(examination.model.tensor("a").is_err());
}

#[test]
fn every_truncation_is_an_error() {
    let whole = Raw::new().bytes();
    for length in 0..whole.len() {
        error(whole[..length].to_vec());
    }
}

#[test]
fn what_is_no_model_is_named() {
    check(
        b"version https://git-lfs.github.com/spec/v1\nsize 99\n".to_vec(),
        "is not a GGUF file: it is a git-lfs pointer, not the file itself (which has 99 bytes); \
         this is a failed download, fetch the file again, for example with `git lfs pull`",
    );
    check(
        b"<!doctype html><title>404".to_vec(),
        "is not a GGUF file: it is an HTML page; this is a failed download, fetch the file again",
    );
    check(
        vec![9; 1000],
        "is not a GGUF file: it has only 1000 bytes; this is a failed download, fetch the file \
         again",
    );
}

/// Writes a model of 3 parts.
fn split_model(folder: &Path) {
    let mut builder = Builder::new();
    builder.set("k", 1u32);
    for name in ["a", "b", "c"] {
        builder.tensor(name, DType::F32, &[2]).unwrap();
    }
    builder
        .write(&folder.join("m.gguf"), Split::MaxTensors(1), |_, out| {
            Ok(out.write_all(&[0; 8])?)
        })
        .unwrap();
}

#[test]
fn split_models_must_be_complete() {
    let folder = tempfile::tempdir().unwrap();
    let part = |number| folder.path().join(format!("m-0000{number}-of-00003.gguf"));
    let check = |given: &Path, at: &Path, expected: &str| {
        let error = GgufFile::open(given).unwrap_err().to_string();
        assert_eq!(error, format!("{}: {expected}", at.display()));
    };
    split_model(folder.path());
    assert_eq!(GgufFile::open(&part(2)).unwrap().tensors().len(), 3);

    let renamed = folder.path().join("renamed.gguf");
    fs::copy(part(1), &renamed).unwrap();
    check(
        &renamed,
        &renamed,
        "is one of 3 parts of a split model, but its name does not end in -00001-of-00003.gguf, \
         so the others cannot be found; give the files their original names",
    );

    fs::rename(part(2), folder.path().join("aside")).unwrap();
    check(
        &part(1),
        &part(2),
        "is missing: it is part 2 of 3 of a split model; download it into the same folder",
    );

    fs::copy(part(3), part(2)).unwrap();
    check(
        &part(1),
        &part(2),
        "says it is part 3 of 3, expected 2 of 3 as in its name; it belongs to another download \
         or was renamed",
    );
}
