//! Writes GGUF files tensor by tensor, without ever holding a whole one.

use std::collections::HashSet;
use std::io::{self, BufWriter, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::metadata::Metadata;
use super::split::split_path;
use super::value::{Value, write_string};
use super::{ALIGNMENT_KEY, DEFAULT_ALIGNMENT, MAGIC, VERSION};
use crate::DType;
use crate::replace::{NewFile, replace_all};

/// ggml's names have room for 63 bytes and an end mark.
const MAX_NAME_BYTES: usize = 63;

/// Dimensions a tensor can have in ggml.
const MAX_DIMS: usize = 4;

/// What goes wrong when a file is written.
#[derive(Debug, thiserror::Error)]
#[expect(
    missing_docs,
    reason = "each message says what its variant and fields mean"
)]
pub enum WriteError {
    #[error("tensor {name:?} is added twice")]
    DuplicateTensor { name: String },
    #[error("tensor name {name:?} has {} bytes, expected 1 to {MAX_NAME_BYTES}", name.len())]
    BadName { name: String },
    #[error("tensor {name:?} of type {dtype} cannot have shape {shape:?} in a GGUF file")]
    BadShape {
        name: String,
        dtype: DType,
        shape: Vec<usize>,
    },
    #[error("tensor {name:?} has type {dtype}, which GGUF does not have; convert it first")]
    BadType { name: String, dtype: DType },
    #[error("alignment is {alignment}, expected a power of two")]
    BadAlignment { alignment: u64 },
    #[error("tensor {name:?} was promised {promised} bytes, but {written} were written")]
    WrongSize {
        name: String,
        promised: u64,
        written: u64,
    },
    #[error("tensor {name:?} cannot be produced")]
    Producer {
        name: String,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("the limits allow {parts} parts, at most 65535 can be counted; allow larger parts")]
    TooManyParts { parts: usize },
    #[error("{} cannot be written", path.display())]
    Io { path: PathBuf, source: io::Error },
}

/// When a new part is begun. Every part has at least one tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// One file.
    Never,
    /// Before a part's tensors have more than this many bytes.
    MaxBytes(u64),
    /// After this many tensors.
    MaxTensors(usize),
}

/// A tensor that a file will have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedTensor {
    /// Its name.
    pub name: String,
    /// How its values are stored.
    pub dtype: DType,
    /// Outermost dimension first.
    pub shape: Vec<usize>,
    /// How many bytes must be written for it.
    pub byte_len: u64,
    gguf_id: u32,
}

/// A file to be: its metadata and the list of its tensors.
///
/// ```
/// use tidemill_formats::gguf::{Builder, GgufFile};
/// use tidemill_formats::{DType, SharedBytes};
///
/// let mut builder = Builder::new();
/// builder.set("general.architecture", "example");
/// builder.tensor("weight", DType::F32, &[2, 3])?;
/// let bytes = builder.to_bytes(|_tensor, out| Ok(out.write_all(&[0; 24])?))?;
///
/// let file = GgufFile::from_bytes("example", SharedBytes::from_vec(bytes))?;
/// assert_eq!(file.tensor("weight")?.shape, [2, 3]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Builder {
    metadata: Metadata,
    tensors: Vec<PlannedTensor>,
    names: HashSet<String>,
}

/// What a caller gives to produce a tensor's bytes.
type Produced = Result<(), Box<dyn std::error::Error + Send + Sync>>;

impl Default for Builder {
    fn default() -> Self {
        Self::new()
    }
}

impl Builder {
    /// An empty file.
    pub fn new() -> Self {
        Self {
            metadata: Metadata::new(Path::new("the file to be written")),
            tensors: Vec::new(),
            names: HashSet::new(),
        }
    }

    /// Sets a metadata value, replacing an earlier one. Keys are written in the order in which
    /// they were first set.
    pub fn set(&mut self, key: &str, value: impl Into<Value>) -> &mut Self {
        self.metadata.insert(key.to_owned(), value.into());
        self
    }

    /// Takes a metadata value out.
    pub fn unset(&mut self, key: &str) -> &mut Self {
        self.metadata.remove(key);
        self
    }

    /// The metadata set so far.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Adds a tensor at the end.
    ///
    /// # Errors
    /// GGUF cannot hold this name, type or shape, or has the name already.
    pub fn tensor(
        &mut self,
        name: &str,
        dtype: DType,
        shape: &[usize],
    ) -> Result<&mut Self, WriteError> {
        let name = name.to_owned();
        if name.is_empty() || name.len() > MAX_NAME_BYTES {
            return Err(WriteError::BadName { name });
        }
        let Some(gguf_id) = dtype.gguf_id() else {
            return Err(WriteError::BadType { name, dtype });
        };
        let byte_len = dtype.bytes_for(shape).filter(|_| shape.len() <= MAX_DIMS);
        let Some(byte_len) = byte_len else {
            let shape = shape.to_vec();
            return Err(WriteError::BadShape { name, dtype, shape });
        };
        if !self.names.insert(name.clone()) {
            return Err(WriteError::DuplicateTensor { name });
        }
        self.tensors.push(PlannedTensor {
            name,
            dtype,
            shape: shape.to_vec(),
            byte_len: byte_len as u64,
            gguf_id,
        });
        Ok(self)
    }

    /// The tensors added so far.
    pub fn tensors(&self) -> &[PlannedTensor] {
        &self.tensors
    }

    /// Writes the file, or the parts of a split model named `NAME-00001-of-00002.gguf`.
    ///
    /// `produce` is called for each tensor in order and must write exactly its bytes. Everything
    /// goes to temporary files beside the target, which take their names only when all is
    /// written: after an error the target is as it was. Returns the files' paths.
    ///
    /// # Errors
    /// A file cannot be written, or a tensor got more or fewer bytes than promised.
    pub fn write(
        &self,
        path: &Path,
        split: Split,
        mut produce: impl FnMut(&PlannedTensor, &mut dyn Write) -> Produced,
    ) -> Result<Vec<PathBuf>, WriteError> {
        let ranges = self.split_ranges(split)?;
        let paths = part_paths(path, ranges.len());
        let mut files = Vec::with_capacity(ranges.len());
        for (part, (range, path)) in ranges.iter().zip(&paths).enumerate() {
            let io_error = |source| WriteError::Io {
                path: path.clone(),
                source,
            };
            let metadata = self.metadata_of_part(part, ranges.len());
            let file = NewFile::create(path).map_err(io_error)?;
            let mut out = BufWriter::with_capacity(1 << 20, file.file());
            self.write_part(&metadata, range.clone(), &mut out, &mut produce)
                .map_err(|failure| failure.at(path))?;
            out.flush().map_err(io_error)?;
            drop(out);
            files.push(file);
        }
        replace_all(files).map_err(|(path, source)| WriteError::Io { path, source })?;
        Ok(paths)
    }

    /// Writes a single file into memory.
    ///
    /// # Errors
    /// As for [`Builder::write`].
    pub fn to_bytes(
        &self,
        mut produce: impl FnMut(&PlannedTensor, &mut dyn Write) -> Produced,
    ) -> Result<Vec<u8>, WriteError> {
        let mut bytes = Vec::new();
        let metadata = self.metadata_of_part(0, 1);
        self.write_part(&metadata, 0..self.tensors.len(), &mut bytes, &mut produce)
            .map_err(|failure| failure.at(Path::new("memory")))?;
        Ok(bytes)
    }

    /// Which tensors go into which part.
    fn split_ranges(&self, split: Split) -> Result<Vec<Range<usize>>, WriteError> {
        let mut ranges = Vec::new();
        let mut start = 0;
        let mut bytes = 0u64;
        for (index, tensor) in self.tensors.iter().enumerate() {
            let is_full = match split {
                Split::Never => false,
                Split::MaxBytes(limit) => bytes.saturating_add(tensor.byte_len) > limit,
                Split::MaxTensors(limit) => index - start >= limit,
            };
            if is_full && index > start {
                ranges.push(start..index);
                start = index;
                bytes = 0;
            }
            bytes = bytes.saturating_add(tensor.byte_len);
        }
        ranges.push(start..self.tensors.len());
        if ranges.len() > usize::from(u16::MAX) {
            let parts = ranges.len();
            return Err(WriteError::TooManyParts { parts });
        }
        Ok(ranges)
    }

    /// The metadata of part `part` of `parts`: the first has everything, the others only say what
    /// they are part of.
    fn metadata_of_part(&self, part: usize, parts: usize) -> Metadata {
        let mut metadata = if part == 0 {
            self.metadata.clone()
        } else {
            let mut metadata = Metadata::default();
            if let Some(alignment) = self.metadata.value(ALIGNMENT_KEY) {
                metadata.insert(ALIGNMENT_KEY.to_owned(), alignment.clone());
            }
            metadata
        };
        // A model read from parts and written whole must not go on saying that it has parts.
        for key in ["split.no", "split.count", "split.tensors.count"] {
            metadata.remove(key);
        }
        if parts > 1 {
            metadata.insert("split.no".to_owned(), (part as u16).into());
            metadata.insert("split.count".to_owned(), (parts as u16).into());
            let tensors = self.tensors.len() as i32;
            metadata.insert("split.tensors.count".to_owned(), tensors.into());
        }
        metadata
    }

    fn write_part(
        &self,
        metadata: &Metadata,
        range: Range<usize>,
        out: &mut dyn Write,
        produce: &mut dyn FnMut(&PlannedTensor, &mut dyn Write) -> Produced,
    ) -> Result<(), Failure> {
        let alignment = alignment_of(metadata).map_err(Failure::Write)?;
        let tensors = &self.tensors[range];
        let header = header(metadata, tensors, alignment);
        out.write_all(&header)?;
        pad(out, header.len() as u64, alignment)?;
        for tensor in tensors {
            let mut counted = Counted {
                out: &mut *out,
                written: 0,
                promised: tensor.byte_len,
                io_error: None,
            };
            let produced = produce(tensor, &mut counted);
            let Counted {
                written, io_error, ..
            } = counted;
            // A full disk reaches us through the producer; it is not the producer's failure.
            if let Some(error) = io_error {
                return Err(Failure::Io(error));
            }
            if written > tensor.byte_len || (produced.is_ok() && written != tensor.byte_len) {
                return Err(Failure::Write(WriteError::WrongSize {
                    name: tensor.name.clone(),
                    promised: tensor.byte_len,
                    written,
                }));
            }
            if let Err(source) = produced {
                let name = tensor.name.clone();
                return Err(Failure::Write(WriteError::Producer { name, source }));
            }
            pad(out, written, alignment)?;
        }
        Ok(())
    }
}

fn part_paths(path: &Path, parts: usize) -> Vec<PathBuf> {
    if parts == 1 {
        return vec![path.to_owned()];
    }
    let has_extension = path
        .extension()
        .is_some_and(|extension| extension == "gguf");
    let base = if has_extension {
        path.with_extension("")
    } else {
        path.to_owned()
    };
    (0..parts)
        .map(|part| split_path(&base, part, parts))
        .collect()
}

fn alignment_of(metadata: &Metadata) -> Result<u64, WriteError> {
    let alignment = match metadata.value(ALIGNMENT_KEY) {
        None => DEFAULT_ALIGNMENT,
        // ggml reads the key in this type only.
        Some(Value::U32(alignment)) => u64::from(*alignment),
        Some(_) => 0,
    };
    if alignment.is_power_of_two() {
        Ok(alignment)
    } else {
        Err(WriteError::BadAlignment { alignment })
    }
}

/// Everything before the tensors' bytes, without padding.
fn header(metadata: &Metadata, tensors: &[PlannedTensor], alignment: u64) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend(MAGIC);
    out.extend(VERSION.to_le_bytes());
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend((metadata.len() as u64).to_le_bytes());
    for (key, value) in metadata.iter() {
        write_string(&mut out, key);
        out.extend(value.type_id().to_le_bytes());
        value.write(&mut out);
    }
    let mut offset = 0u64;
    for tensor in tensors {
        write_string(&mut out, &tensor.name);
        out.extend((tensor.shape.len() as u32).to_le_bytes());
        for &dim in tensor.shape.iter().rev() {
            out.extend((dim as u64).to_le_bytes());
        }
        out.extend(tensor.gguf_id.to_le_bytes());
        out.extend(offset.to_le_bytes());
        offset = (offset + tensor.byte_len).next_multiple_of(alignment);
    }
    out
}

/// Writes the zeros that bring `length` to a multiple of `alignment`.
fn pad(out: &mut dyn Write, length: u64, alignment: u64) -> io::Result<()> {
    let mut zeros = length.next_multiple_of(alignment) - length;
    while zeros > 0 {
        let now = zeros.min(4096);
        out.write_all(&[0; 4096][..now as usize])?;
        zeros -= now;
    }
    Ok(())
}

/// A failure that does not know its file yet.
enum Failure {
    Io(io::Error),
    Write(WriteError),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Failure {
    fn at(self, path: &Path) -> WriteError {
        match self {
            Self::Io(source) => WriteError::Io {
                path: path.to_owned(),
                source,
            },
            Self::Write(error) => error,
        }
    }
}

/// Passes bytes on, counts them, and refuses more than were promised.
struct Counted<'a> {
    out: &'a mut dyn Write,
    written: u64,
    promised: u64,
    io_error: Option<io::Error>,
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let after = self.written.saturating_add(bytes.len() as u64);
        if after > self.promised {
            self.written = after;
            return Err(io::Error::other("more bytes than the tensor was promised"));
        }
        if let Err(error) = self.out.write_all(bytes) {
            let copy = io::Error::new(error.kind(), error.to_string());
            self.io_error = Some(error);
            return Err(copy);
        }
        self.written = after;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
