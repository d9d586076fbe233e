//! What [`Builder`] writes is what [`GgufFile`] reads, and failures leave nothing behind.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::error::Error;
use std::fs;
use std::io::Write;
use std::path::Path;

use tidemill_formats::gguf::{Array, Builder, GgufFile, PlannedTensor, Split, Value, WriteError};
use tidemill_formats::{DType, SharedBytes};

/// A file with tensors of awkward sizes.
fn example() -> Builder {
    let mut builder = Builder::new();
    builder
        .set("general.architecture", "example")
        .set("example.list", vec![1u32, 2, 3])
        .set(
            "example.nested",
            Value::Array(Array::Array(vec![
                Array::U8(vec![1]),
                Array::Bool(vec![true]),
            ])),
        );
    for (name, dtype, shape) in [
        ("a", DType::F32, &[3][..]),
        ("b", DType::Q4_K, &[2, 256]),
        ("empty", DType::F32, &[0, 4]),
        ("scalar", DType::I8, &[]),
        ("c", DType::F16, &[2, 3, 4, 5]),
    ] {
        builder.tensor(name, dtype, shape).unwrap();
    }
    builder
}

/// Bytes that tell tensors and positions apart, written in two goes.
fn produce(
    tensor: &PlannedTensor,
    out: &mut dyn Write,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let bytes = content(&tensor.name, tensor.byte_len as usize);
    let (start, end) = bytes.split_at(bytes.len() / 3);
    out.write_all(start)?;
    out.write_all(end)?;
    Ok(())
}

fn content(name: &str, length: usize) -> Vec<u8> {
    let seed = name.as_bytes()[0];
    (0..length).map(|at| seed.wrapping_add(at as u8)).collect()
}

#[track_caller]
fn check_content(file: &GgufFile, builder: &Builder) {
    assert_eq!(file.tensors().len(), builder.tensors().len());
    for planned in builder.tensors() {
        let tensor = file.tensor(&planned.name).unwrap();
        assert_eq!(
            (tensor.dtype, &tensor.shape),
            (planned.dtype, &planned.shape)
        );
        let expected = content(&planned.name, planned.byte_len as usize);
        assert_eq!(&*tensor.bytes, &expected[..], "{}", planned.name);
    }
    for (key, value) in builder.metadata().iter() {
        assert_eq!(file.metadata().value(key), Some(value), "{key}");
    }
}

#[test]
fn one_file() {
    let mut builder = example();
    for alignment in [None, Some(8u32), Some(4096)] {
        if let Some(alignment) = alignment {
            builder.set("general.alignment", alignment);
        }
        let bytes = SharedBytes::from_vec(builder.to_bytes(produce).unwrap());
        let alignment = u64::from(alignment.unwrap_or(32));
        assert_eq!(bytes.len() as u64 % alignment, 0);
        let file = GgufFile::from_bytes("example", bytes).unwrap();
        check_content(&file, &builder);
        assert!(
            file.tensors()
                .iter()
                .all(|tensor| tensor.offset % alignment == 0)
        );
    }
}

#[test]
fn many_files() {
    let builder = example();
    for (split, parts) in [
        (Split::Never, 1),
        (Split::MaxTensors(2), 3),
        (Split::MaxTensors(99), 1),
        (Split::MaxBytes(300), 2),
        // Every part has at least one tensor.
        (Split::MaxBytes(1), 4),
        (Split::MaxTensors(0), 5),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let paths = builder
            .write(&folder.path().join("m.gguf"), split, produce)
            .unwrap();
        assert_eq!(paths.len(), parts, "{split:?}");
        let file = GgufFile::open(&paths[paths.len() - 1]).unwrap();
        check_content(&file, &builder);
        assert_eq!(
            fs::read_dir(folder.path()).unwrap().count(),
            parts,
            "{split:?}"
        );
    }
}

#[test]
fn a_joined_model_no_longer_says_that_it_is_split() {
    let mut builder = example();
    builder.set("split.no", 1u16).set("split.count", 7u16);
    let bytes = SharedBytes::from_vec(builder.to_bytes(produce).unwrap());
    let file = GgufFile::from_bytes("example", bytes).unwrap();
    assert!(
        file.metadata()
            .iter()
            .all(|(key, _)| !key.starts_with("split."))
    );
}

#[test]
fn promises_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("m.gguf");
    fs::write(&target, "as it was").unwrap();
    let check = |length: usize, expected: &str| {
        let error = example()
            .write(&target, Split::Never, |_, out| {
                Ok(out.write_all(&vec![0; length])?)
            })
            .unwrap_err();
        assert_eq!(error.to_string(), expected);
    };
    check(
        11,
        "tensor \"a\" was promised 12 bytes, but 11 were written",
    );
    check(
        13,
        "tensor \"a\" was promised 12 bytes, but 13 were written",
    );

    let error = example().write(&target, Split::Never, |_, _| Err("no weights".into()));
    let error = error.unwrap_err();
    assert_eq!(error.to_string(), "tensor \"a\" cannot be produced");
    assert_eq!(error.source().unwrap().to_string(), "no weights");

    // The target is untouched and no temporary file is left.
    assert_eq!(fs::read_to_string(&target).unwrap(), "as it was");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn what_gguf_cannot_hold_is_refused() {
    let mut builder = example();
    let mut check = |name: &str, dtype, shape: &[usize], expected: &str| {
        let error = builder.tensor(name, dtype, shape).err().unwrap();
        assert_eq!(error.to_string(), expected);
    };
    check("a", DType::F32, &[1], "tensor \"a\" is added twice");
    check(
        "",
        DType::F32,
        &[1],
        "tensor name \"\" has 0 bytes, expected 1 to 63",
    );
    check(
        "f8",
        DType::F8_E4M3,
        &[1],
        "tensor \"f8\" has type F8_E4M3, which GGUF does not have; convert it first",
    );
    for shape in [&[1, 1, 1, 1, 1][..], &[usize::MAX, 8]] {
        check(
            "x",
            DType::F32,
            shape,
            &format!("tensor \"x\" of type F32 cannot have shape {shape:?} in a GGUF file"),
        );
    }
    builder.set("general.alignment", 3u32);
    let error = builder.to_bytes(produce).unwrap_err();
    assert!(matches!(error, WriteError::BadAlignment { alignment: 3 }));
}

#[test]
fn a_folder_that_is_not_there_is_named() {
    let error = example()
        .write(Path::new("/nowhere/m.gguf"), Split::Never, produce)
        .unwrap_err();
    assert_eq!(error.to_string(), "/nowhere/m.gguf cannot be written");
}
