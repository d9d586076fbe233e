//! Reads the header of one GGUF file and checks that its tensors can lie where it says.
//!
//! A scan goes on after problems that leave the rest readable, so that one pass can report all.

use std::collections::HashMap;
use std::path::Path;

use super::cursor::Cursor;
use super::error::Problem;
use super::metadata::Metadata;
use super::value::Value;
use super::{ALIGNMENT_KEY, DEFAULT_ALIGNMENT, MAGIC};
use crate::sniff::sniff;
use crate::tensor_info::{TensorInfo, TensorType};

/// Dimensions a tensor can have in ggml.
const MAX_DIMS: u32 = 4;

/// What could be read of a file, and what is wrong with it.
pub(super) struct Scan {
    pub(super) version: u32,
    pub(super) metadata: Metadata,
    pub(super) tensors: Vec<TensorInfo>,
    pub(super) problems: Vec<Problem>,
}

/// Scans the bytes of one file; `file` stands for it in errors.
pub(super) fn scan(bytes: &[u8], file: &Path) -> Scan {
    let mut scan = Scan {
        version: 0,
        metadata: Metadata::new(file),
        tensors: Vec::new(),
        problems: Vec::new(),
    };
    let mut cursor = Cursor::new(bytes);
    if let Err(problem) = scan.read_header(&mut cursor, bytes) {
        scan.problems.push(problem);
        return scan;
    }
    scan.check_duplicates();
    scan.check_layout(bytes.len() as u64);
    scan
}

impl Scan {
    /// Reads up to the end of the tensor table. An error means that reading cannot go on.
    fn read_header(&mut self, cursor: &mut Cursor<'_>, bytes: &[u8]) -> Result<(), Problem> {
        if !bytes.starts_with(&MAGIC) {
            return Err(Problem::NotGguf(sniff(bytes)));
        }
        cursor.take(MAGIC.len() as u64, "magic")?;
        self.version = cursor.u32("version")?;
        match self.version {
            2 | 3 => {}
            // The number's low half is zero only if its bytes are the other way round.
            version if version & 0xffff == 0 => return Err(Problem::BigEndian),
            version => return Err(Problem::Version { version }),
        }
        let tensor_count_at = cursor.offset();
        let tensor_count = cursor.u64("tensor count")?;
        // The least entry is an empty key, a type and one byte.
        let key_count = cursor.count(13, "metadata key count")?;
        for _ in 0..key_count {
            self.read_entry(cursor)?;
        }
        let alignment = self.alignment()?;
        // The least tensor is an empty name, no dimensions, a type and an offset.
        let tensor_count = cursor.check_count(tensor_count, 24, "tensor count", tensor_count_at)?;
        self.tensors.reserve_exact(tensor_count);
        for _ in 0..tensor_count {
            self.read_tensor(cursor, alignment)?;
        }
        self.place_tensors(cursor.offset(), alignment);
        Ok(())
    }

    fn read_entry(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Problem> {
        let offset = cursor.offset();
        let key = cursor.name("metadata key")?;
        let value = cursor
            .u32("value type")
            .and_then(|type_id| Value::read(cursor, type_id))
            .map_err(|problem| Problem::InKey {
                key: key.to_owned(),
                problem: Box::new(problem),
            })?;
        if !self.metadata.insert(key.to_owned(), value) {
            let key = key.to_owned();
            self.problems.push(Problem::DuplicateKey { key, offset });
        }
        Ok(())
    }

    fn alignment(&self) -> Result<u64, Problem> {
        let Some(value) = self.metadata.value(ALIGNMENT_KEY) else {
            return Ok(DEFAULT_ALIGNMENT);
        };
        match self.metadata.get::<u64>(ALIGNMENT_KEY) {
            Ok(alignment) if alignment.is_power_of_two() => Ok(alignment),
            _ => Err(Problem::BadAlignment {
                found: value.describe(),
            }),
        }
    }

    /// Reads one row of the table. Its `offset` still counts from the start of the data.
    fn read_tensor(&mut self, cursor: &mut Cursor<'_>, alignment: u64) -> Result<(), Problem> {
        let name = cursor.name("tensor name")?.to_owned();
        let dims = cursor.u32("dimension count")?;
        if dims > MAX_DIMS {
            return Err(Problem::TooManyDims { name, dims });
        }
        let mut shape = Vec::with_capacity(dims as usize);
        for _ in 0..dims {
            shape.push(cursor.u64("dimension")?);
        }
        shape.reverse();
        let dtype = TensorType::from_gguf_id(cursor.u32("tensor type")?);
        let offset = cursor.u64("tensor offset")?;
        if offset % alignment != 0 {
            self.problems.push(Problem::Misaligned {
                name: name.clone(),
                offset,
                alignment,
            });
        }
        let (shape, byte_len) = self.measure(&name, dtype, shape);
        self.tensors.push(TensorInfo {
            name,
            dtype,
            shape,
            part: 0,
            offset,
            byte_len,
        });
        Ok(())
    }

    /// The shape in this machine's numbers and the tensor's size, if it can have one.
    fn measure(
        &mut self,
        name: &str,
        dtype: TensorType,
        shape: Vec<u64>,
    ) -> (Vec<usize>, Option<u64>) {
        let dims: Option<Vec<usize>> = shape.iter().map(|&dim| dim.try_into().ok()).collect();
        let size = match (&dims, dtype) {
            (Some(dims), TensorType::Known(dtype)) => {
                let columns = dims.last().copied().unwrap_or(1);
                match dtype.bytes_for(dims) {
                    Some(size) => Ok(Some(size as u64)),
                    None if columns % dtype.block_len() != 0 => {
                        Err("rows are no multiple of the type's block")
                    }
                    None => Err("it would be too large"),
                }
            }
            (Some(_), TensorType::Unknown(_) | TensorType::Unsupported(_)) => Ok(None),
            (None, _) => Err("it would be too large"),
        };
        let byte_len = size.unwrap_or_else(|why| {
            self.problems.push(Problem::BadShape {
                name: name.to_owned(),
                dtype,
                shape,
                why,
            });
            None
        });
        (dims.unwrap_or_default(), byte_len)
    }

    /// Turns offsets within the data into offsets within the file.
    fn place_tensors(&mut self, table_end: u64, alignment: u64) {
        // An impossible sum becomes an offset past every file's end, which is reported as such.
        let data_start = table_end
            .checked_next_multiple_of(alignment)
            .unwrap_or(u64::MAX);
        for tensor in &mut self.tensors {
            tensor.offset = tensor.offset.saturating_add(data_start);
        }
    }

    fn check_duplicates(&mut self) {
        let mut seen = HashMap::with_capacity(self.tensors.len());
        for tensor in &self.tensors {
            if seen.insert(tensor.name.as_str(), ()).is_some() {
                self.problems.push(Problem::DuplicateTensor {
                    name: tensor.name.clone(),
                    other_part: None,
                });
            }
        }
    }

    /// Checks that tensors end within the file and share no bytes.
    fn check_layout(&mut self, length: u64) {
        let mut by_offset: Vec<&TensorInfo> = self.tensors.iter().collect();
        by_offset.sort_by_key(|tensor| tensor.offset);
        let mut cut = Vec::new();
        let mut overlaps = Vec::new();
        // The tensor that reaches furthest among those before.
        let mut furthest: Option<(u64, &str)> = None;
        for tensor in by_offset {
            let start = tensor.offset;
            // Of a tensor of unknown size only the start can be checked.
            let end = tensor.end();
            if end > length {
                cut.push((tensor.name.as_str(), start, end));
            }
            if start == end {
                continue;
            }
            if let Some((other_end, other)) = furthest
                && start < other_end
            {
                overlaps.push(Problem::Overlap {
                    name: tensor.name.clone(),
                    offset: start,
                    other: other.to_owned(),
                    other_end,
                });
            }
            if furthest.is_none_or(|(other_end, _)| end > other_end) {
                furthest = Some((end, &tensor.name));
            }
        }
        if let Some((first, _, _)) = cut.first() {
            let needed = cut.iter().map(|&(_, _, end)| end).max().unwrap_or(length);
            self.problems.push(Problem::Truncated {
                length,
                missing: needed - length,
                cut: cut.len(),
                tensors: self.tensors.len(),
                first: (*first).to_owned(),
            });
        }
        let cut = cut
            .into_iter()
            .map(|(name, start, end)| Problem::TensorCut {
                name: name.to_owned(),
                start,
                end,
                length,
            });
        self.problems.extend(cut);
        self.problems.append(&mut overlaps);
    }
}
