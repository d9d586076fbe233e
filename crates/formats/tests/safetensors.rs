//! Checkpoints are found, opened and checked.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

use tidemill_formats::safetensors::{Checkpoint, write};
use tidemill_formats::{DType, SharedBytes, StoredTensor};

fn fixture(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests/fixtures", name]
        .iter()
        .collect()
}

#[test]
fn a_file_from_python_is_read() {
    let checkpoint = Checkpoint::open(&fixture("python.safetensors")).unwrap();
    let check = |name: &str, dtype, shape: &[usize], bytes: &[u8]| {
        let tensor = checkpoint.tensor(name).unwrap();
        assert_eq!((tensor.dtype, &tensor.shape[..]), (dtype, shape), "{name}");
        assert_eq!(&*tensor.bytes, bytes, "{name}");
    };
    check("half", DType::F16, &[2], &[0, 0x3c, 0, 0xc0]);
    check("wide", DType::I64, &[1], &[7, 0, 0, 0, 0, 0, 0, 0]);
    check("empty", DType::F32, &[0, 4], &[]);
    let weight: Vec<u8> = (0..6)
        .flat_map(|value| (value as f32).to_le_bytes())
        .collect();
    check("weight", DType::F32, &[2, 3], &weight);
    assert_eq!(
        checkpoint.metadata(),
        [("format".to_owned(), "np".to_owned())]
    );

    // A type that we cannot use is listed, and an error only when it is used.
    let odd = checkpoint.tensor_info("odd").unwrap();
    assert_eq!(
        (odd.dtype.to_string(), odd.byte_len),
        ("U16".to_owned(), Some(4))
    );
    let error = checkpoint.tensor("odd").unwrap_err().to_string();
    assert!(error.contains("tensor \"odd\" has the type U16"), "{error}");
}

/// A folder with shards, each with the tensors named.
fn sharded(folder: &Path, shards: &[(&str, &[&str])], index: &str) {
    for (file, names) in shards {
        let tensors: Vec<_> = names
            .iter()
            .map(|name| StoredTensor::from_f32(name, &[2], &[1.0, 2.0]))
            .collect();
        write(&folder.join(file), &tensors).unwrap();
    }
    fs::write(folder.join("model.safetensors.index.json"), index).unwrap();
}

const ONE: &str = "model-00001-of-00002.safetensors";
const TWO: &str = "model-00002-of-00002.safetensors";

fn index_of(pairs: &[(&str, &str)]) -> String {
    let map: serde_json::Map<_, _> = pairs
        .iter()
        .map(|&(tensor, file)| (tensor.to_owned(), file.into()))
        .collect();
    serde_json::json!({ "metadata": { "total_size": 24 }, "weight_map": map }).to_string()
}

#[test]
fn shards_are_opened_by_folder_index_or_any_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let index = index_of(&[("a", ONE), ("b", ONE), ("c", TWO)]);
    sharded(
        folder.path(),
        &[(ONE, &["a", "b"]), (TWO, &["c", "extra"])],
        &index,
    );
    for name in ["", "model.safetensors.index.json", ONE, TWO] {
        let checkpoint = Checkpoint::open(&folder.path().join(name)).unwrap();
        let names: Vec<_> = checkpoint
            .tensors()
            .iter()
            .map(|tensor| &tensor.name)
            .collect();
        // The index decides what belongs to the model.
        assert_eq!(names, ["a", "b", "c"]);
        assert_eq!(checkpoint.tensor("c").unwrap().bytes.len(), 8);
    }
}

#[test]
fn a_folder_with_one_file_needs_no_index() {
    let folder = tempfile::tempdir().unwrap();
    let error = Checkpoint::open(folder.path()).unwrap_err().to_string();
    assert!(
        error.contains("has no model.safetensors.index.json"),
        "{error}"
    );
    for name in ["other.safetensors", "model.safetensors"] {
        let tensor = StoredTensor::from_f32(name, &[], &[1.0]);
        write(&folder.path().join(name), &[tensor]).unwrap();
        assert!(Checkpoint::open(folder.path()).unwrap().contains(name));
    }
    fs::rename(
        folder.path().join("model.safetensors"),
        folder.path().join("another.safetensors"),
    )
    .unwrap();
    let error = Checkpoint::open(folder.path()).unwrap_err().to_string();
    assert!(error.contains("has 2 .safetensors files but no"), "{error}");
}

#[test]
fn incomplete_checkpoints_are_errors() {
    let check = |index: &str, expected: &str| {
        let folder = tempfile::tempdir().unwrap();
        sharded(folder.path(), &[(ONE, &["a"])], index);
        let error = Checkpoint::open(folder.path()).unwrap_err().to_string();
        let error = error.replace(&format!("{}/", folder.path().display()), "");
        assert_eq!(error, expected);
    };
    check(
        &index_of(&[("a", ONE), ("c", TWO), ("d", TWO)]),
        &format!(
            "{TWO}: is missing: 2 tensors are in it, \"c\" for one; download it into the same \
             folder"
        ),
    );
    check(
        &index_of(&[("a", ONE), ("b", ONE)]),
        &format!(
            "{ONE}: has no tensor \"b\", although the index says so; download the checkpoint \
             again, all from one place"
        ),
    );
    let index = "model.safetensors.index.json";
    for name in ["../secret", "/etc/passwd", "..", "a/b", ""] {
        check(
            &index_of(&[("a", name)]),
            &format!(
                "{index}: names the file {name:?}, expected a plain file name in the same folder"
            ),
        );
    }
    check(
        "{\"weight_map\": {}}",
        &format!("{index}: is not the index of a checkpoint: its weight_map is empty"),
    );
    check(
        "{}",
        &format!(
            "{index}: is not the index of a checkpoint: missing field `weight_map` at line 1 \
             column 2"
        ),
    );
}

#[test]
fn a_shard_without_its_index_is_no_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(ONE);
    write(&path, &[StoredTensor::from_f32("a", &[1], &[1.0])]).unwrap();
    let error = Checkpoint::open(&path).unwrap_err().to_string();
    assert!(error.contains("is one of 2 shards"), "{error}");
}

/// A file with this header and so many bytes of data.
fn raw(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    bytes
}

const HEADER: &str = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"BF16","shape":[3],"data_offsets":[8,14]}}"#;

#[test]
fn damaged_files_are_errors() {
    let check = |bytes: Vec<u8>, expected: &str| {
        let opened = Checkpoint::from_bytes("m", SharedBytes::from_vec(bytes));
        assert_eq!(opened.unwrap_err().to_string(), format!("m: {expected}"));
    };
    assert!(Checkpoint::from_bytes("m", SharedBytes::from_vec(raw(HEADER, 14))).is_ok());
    check(
        raw(HEADER, 10),
        "is cut off: it has 127 bytes and 1 of 2 tensors need more (4 bytes are missing, first in \
         \"b\"); download the file again",
    );
    check(
        raw(HEADER, 15),
        "has 1 bytes after its last tensor; download the file again",
    );
    check(
        raw(HEADER, 14)[..50].to_vec(),
        "ends early: the header has 109 bytes, 42 are left; download the file again",
    );
    let mut huge = raw(HEADER, 14);
    huge[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    check(
        huge,
        "header has 18446744073709551615 bytes, at most 100000000 are allowed",
    );
    check(
        b"<html><body>".to_vec(),
        "is not a safetensors file: it is an HTML page; this is a failed download, fetch the file \
         again",
    );
    for (damage, expected) in [
        (
            HEADER.replace("[8,14]", "[9,15]"),
            "header is damaged: invalid offset",
        ),
        (HEADER.replace("[3]", "[4]"), "header is damaged: "),
        (
            HEADER.replace("[3]", "[18446744073709551615,9]"),
            "header is damaged: ",
        ),
        (
            HEADER.replace("BF16", "BF17"),
            "header is damaged: unknown variant",
        ),
        (HEADER.replace("}}", "}"), "header is damaged: EOF"),
    ] {
        let bytes = SharedBytes::from_vec(raw(&damage, 14));
        let error = Checkpoint::from_bytes("m", bytes).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn writing_refuses_what_the_format_lacks() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.safetensors");
    let tensor = StoredTensor::from_f32("a", &[1], &[1.0]);
    let error = write(&path, &[tensor.clone(), tensor.clone()]).unwrap_err();
    assert_eq!(error.to_string(), "tensor \"a\" is added twice");
    let blocked = StoredTensor {
        dtype: DType::Q4_K,
        ..tensor
    };
    let error = write(&path, &[blocked]).unwrap_err();
    assert!(error.to_string().contains("has type Q4_K"), "{error}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}
