//! GGUF files: whatever the bytes, reading ends with a model or an error.

#![no_main]

use formats::SharedBytes;
use formats::gguf::{Array, Builder, GgufFile, Value};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let bytes = SharedBytes::from_vec(data.to_vec());
    let examination = GgufFile::examine_bytes("fuzz", bytes.clone());
    for problem in &examination.problems {
        let _ = problem.to_string();
    }
    for tensor in examination.model.tensors() {
        if let Ok(stored) = examination.model.tensor(&tensor.name) {
            assert_eq!(
                stored.dtype.bytes_for(&stored.shape),
                Some(stored.bytes.len())
            );
        }
    }
    if let Ok(model) = GgufFile::from_bytes("fuzz", bytes) {
        assert_eq!(examination.model.tensors(), model.tensors());
        rewrite(&model);
    }
});

/// What was read can be written, and is then read as the same.
fn rewrite(model: &GgufFile) {
    let mut builder = Builder::new();
    let is_kept = |key: &str| !key.starts_with("split.") && key != "general.alignment";
    for (key, value) in model.metadata().iter().filter(|(key, _)| is_kept(key)) {
        builder.set(key, value.clone());
        if let Value::Array(Array::String(strings)) = value {
            let in_order = (0..strings.len()).map(|index| strings.get(index));
            assert!(strings.iter().map(Some).eq(in_order));
        }
    }
    for tensor in model.tensors() {
        if let Some(dtype) = tensor.dtype.known() {
            // Names may be longer than we write them.
            let _ = builder.tensor(&tensor.name, dtype, &tensor.shape);
        }
    }
    let bytes = builder
        .to_bytes(|planned, out| Ok(out.write_all(&model.tensor(&planned.name)?.bytes)?))
        .expect("what was read can be written");
    let again = GgufFile::from_bytes("again", SharedBytes::from_vec(bytes))
        .expect("what was written can be read");
    for planned in builder.tensors() {
        let (before, after) = (model.tensor(&planned.name), again.tensor(&planned.name));
        let (before, after) = (before.expect("as above"), after.expect("as above"));
        assert_eq!(*before.bytes, *after.bytes);
        assert_eq!(before.shape, after.shape);
    }
}
