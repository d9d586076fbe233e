//! Safetensors files: whatever the bytes, reading ends with a checkpoint or an error.

#![no_main]

use formats::SharedBytes;
use formats::safetensors::Checkpoint;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let bytes = SharedBytes::from_vec(data.to_vec());
    let examination = Checkpoint::examine_bytes("fuzz", bytes.clone());
    for problem in &examination.problems {
        let _ = problem.to_string();
    }
    let checkpoint = &examination.checkpoint;
    for tensor in checkpoint.tensors() {
        if let Ok(stored) = checkpoint.tensor(&tensor.name) {
            assert_eq!(
                stored.dtype.bytes_for(&stored.shape),
                Some(stored.bytes.len())
            );
        }
    }
    if let Ok(opened) = Checkpoint::from_bytes("fuzz", bytes) {
        assert_eq!(checkpoint.tensors(), opened.tensors());
    }
});
