//! The header of one safetensors file.

use std::path::Path;

use safetensors::Dtype;
use safetensors::tensor::Metadata;

use super::error::Problem;
use crate::sniff::sniff;
use crate::tensor_info::{TensorInfo, TensorType};
use crate::{DType, SharedBytes};

/// The format's own limit.
const MAX_HEADER_BYTES: u64 = 100_000_000;

/// What could be read of one file, and what is wrong with it.
#[derive(Debug, Default)]
pub(super) struct Shard {
    /// In the order of their offsets.
    pub(super) tensors: Vec<TensorInfo>,
    pub(super) metadata: Vec<(String, String)>,
    pub(super) problems: Vec<Problem>,
}

pub(super) fn map(path: &Path) -> Result<SharedBytes, Problem> {
    SharedBytes::map_file(path).map_err(Problem::Io)
}

pub(super) fn scan(bytes: &[u8]) -> Shard {
    let mut shard = Shard::default();
    if let Err(problem) = shard.read(bytes) {
        shard.problems.push(problem);
    }
    shard
}

impl Shard {
    fn read(&mut self, bytes: &[u8]) -> Result<(), Problem> {
        // A header is a json object and may not start with a space.
        let (Some(&length), Some(b'{')) = (bytes.first_chunk::<8>(), bytes.get(8)) else {
            return Err(Problem::NotSafetensors(sniff(bytes)));
        };
        let length = u64::from_le_bytes(length);
        if length > MAX_HEADER_BYTES {
            return Err(Problem::HeaderTooLarge {
                length,
                limit: MAX_HEADER_BYTES,
            });
        }
        let data_start = 8 + length;
        // Fits: at most 100 MB.
        let Some(header) = bytes.get(8..data_start as usize) else {
            return Err(Problem::HeaderCut {
                needed: length,
                left: bytes.len() as u64 - 8,
            });
        };
        // The library checks that ranges follow each other without gaps and fit their shapes.
        let metadata: Metadata = serde_json::from_slice(header)
            .map_err(|error| Problem::BadHeader(error.to_string()))?;
        if let Some(pairs) = metadata.metadata() {
            let pairs = pairs
                .iter()
                .map(|(key, value)| (key.clone(), value.clone()));
            self.metadata = pairs.collect();
            self.metadata.sort();
        }
        self.list_tensors(&metadata, data_start)?;
        self.check_end(bytes.len() as u64, data_start);
        Ok(())
    }

    fn list_tensors(&mut self, metadata: &Metadata, data_start: u64) -> Result<(), Problem> {
        for name in metadata.offset_keys() {
            let Some(info) = metadata.info(&name) else {
                continue;
            };
            let (start, end) = info.data_offsets;
            let found = end.saturating_sub(start) as u64;
            let dtype = tensor_type(info.dtype);
            // Checked again, because tensors of wrong sizes would be read out of bounds later.
            let expected = dtype.known().map(|dtype| dtype.bytes_for(&info.shape));
            if let Some(expected) = expected
                && expected.map(|expected| expected as u64) != Some(found)
            {
                return Err(Problem::WrongSize {
                    name,
                    dtype: type_name(info.dtype),
                    shape: info.shape.clone(),
                    found,
                    expected: expected.unwrap_or(usize::MAX) as u64,
                });
            }
            self.tensors.push(TensorInfo {
                name,
                dtype,
                shape: info.shape.clone(),
                part: 0,
                offset: data_start.saturating_add(start as u64),
                byte_len: Some(found),
            });
        }
        Ok(())
    }

    fn check_end(&mut self, length: u64, data_start: u64) {
        let end = self.tensors.iter().map(TensorInfo::end).max();
        let end = end.unwrap_or(data_start);
        if end < length {
            let extra = length - end;
            return self.problems.push(Problem::TrailingBytes { extra });
        }
        let cut: Vec<&TensorInfo> = self.tensors.iter().filter(|t| t.end() > length).collect();
        let Some(first) = cut.first() else { return };
        self.problems.push(Problem::Truncated {
            length,
            missing: end - length,
            cut: cut.len(),
            tensors: self.tensors.len(),
            first: first.name.clone(),
        });
        self.problems
            .extend(cut.iter().map(|tensor| Problem::TensorCut {
                name: tensor.name.clone(),
                start: tensor.offset,
                end: tensor.end(),
                length,
            }));
    }
}

fn tensor_type(dtype: Dtype) -> TensorType {
    let known = match dtype {
        Dtype::F64 => DType::F64,
        Dtype::F32 => DType::F32,
        Dtype::F16 => DType::F16,
        Dtype::BF16 => DType::BF16,
        Dtype::F8_E4M3 => DType::F8_E4M3,
        Dtype::I64 => DType::I64,
        Dtype::I32 => DType::I32,
        Dtype::I16 => DType::I16,
        Dtype::I8 => DType::I8,
        Dtype::U8 => DType::U8,
        other => return TensorType::Unsupported(type_name(other)),
    };
    TensorType::Known(known)
}

/// The type in which the library writes `dtype`, if safetensors has it.
pub(super) fn library_type(dtype: DType) -> Option<Dtype> {
    Some(match dtype {
        DType::F64 => Dtype::F64,
        DType::F32 => Dtype::F32,
        DType::F16 => Dtype::F16,
        DType::BF16 => Dtype::BF16,
        DType::F8_E4M3 => Dtype::F8_E4M3,
        DType::I64 => Dtype::I64,
        DType::I32 => Dtype::I32,
        DType::I16 => Dtype::I16,
        DType::I8 => Dtype::I8,
        DType::U8 => Dtype::U8,
        _ => return None,
    })
}

fn type_name(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::BOOL => "BOOL",
        Dtype::F4 => "F4",
        Dtype::F6_E2M3 => "F6_E2M3",
        Dtype::F6_E3M2 => "F6_E3M2",
        Dtype::U8 => "U8",
        Dtype::I8 => "I8",
        Dtype::F8_E5M2 => "F8_E5M2",
        Dtype::F8_E4M3 => "F8_E4M3",
        Dtype::F8_E8M0 => "F8_E8M0",
        Dtype::F8_E4M3FNUZ => "F8_E4M3FNUZ",
        Dtype::F8_E5M2FNUZ => "F8_E5M2FNUZ",
        Dtype::I16 => "I16",
        Dtype::U16 => "U16",
        Dtype::F16 => "F16",
        Dtype::BF16 => "BF16",
        Dtype::I32 => "I32",
        Dtype::U32 => "U32",
        Dtype::F32 => "F32",
        Dtype::C64 => "C64",
        Dtype::F64 => "F64",
        Dtype::I64 => "I64",
        Dtype::U64 => "U64",
        _ => "unknown",
    }
}
