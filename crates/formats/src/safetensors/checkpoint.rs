//! An open checkpoint of one or many files.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use super::error::{CheckpointError, Problem};
use super::locate::locate;
use super::shard::{Shard, map, scan};
use crate::residence::{LoadOptions, ModelFile, ResidenceError, RunTasks};
use crate::tensor_info::{TensorInfo, TensorType};
use crate::{DType, SharedBytes, StoredTensor};

/// An open checkpoint.
///
/// ```no_run
/// use tidemill_formats::safetensors::Checkpoint;
///
/// let checkpoint = Checkpoint::open("Qwen3.5-35B-A3B".as_ref())?;
/// let norm = checkpoint.tensor("model.language_model.norm.weight")?;
/// println!("{} {:?}", norm.dtype, norm.shape);
/// # Ok::<(), tidemill_formats::safetensors::CheckpointError>(())
/// ```
#[derive(Debug, Default)]
pub struct Checkpoint {
    /// Folder or file, as it was given; named in errors.
    path: PathBuf,
    tensors: Vec<TensorInfo>,
    index: HashMap<String, usize>,
    files: Vec<ModelFile>,
    metadata: Vec<(String, String)>,
}

/// What could be read of a checkpoint, with everything that is wrong with it.
#[derive(Debug, Default)]
pub struct Examination {
    /// Whatever could be read. Tensors that lie past the end of a file are listed too; asking for
    /// their bytes is an error.
    pub checkpoint: Checkpoint,
    /// All problems, the ones to solve first in front.
    pub problems: Vec<CheckpointError>,
}

impl Checkpoint {
    /// Opens a checkpoint: a folder, a file, one of several shards, or their index.
    ///
    /// # Errors
    /// The first of the problems that [`Checkpoint::examine`] would list, other than tensors of
    /// an unsupported type: those are an error only when their bytes are asked for.
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        read_files(path).into_result()
    }

    /// Opens a single file that is in memory; `name` stands for it in errors.
    ///
    /// # Errors
    /// As [`Checkpoint::open`].
    pub fn from_bytes(name: &str, bytes: SharedBytes) -> Result<Self, CheckpointError> {
        read_bytes(name, bytes).into_result()
    }

    /// Reads what can be read of a checkpoint and lists all that is wrong with it.
    pub fn examine(path: &Path) -> Examination {
        read_files(path).with_unusable_tensors()
    }

    /// As [`Checkpoint::examine`], for a file that is in memory.
    pub fn examine_bytes(name: &str, bytes: SharedBytes) -> Examination {
        read_bytes(name, bytes).with_unusable_tensors()
    }

    /// The tensors, file by file in the order of their bytes.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// Type, shape and place of the tensor with this name.
    pub fn tensor_info(&self, name: &str) -> Option<&TensorInfo> {
        self.index.get(name).map(|&at| &self.tensors[at])
    }

    /// Whether there is a tensor with this name.
    pub fn contains(&self, name: &str) -> bool {
        self.index.contains_key(name)
    }

    /// The tensor with this name.
    ///
    /// # Errors
    /// There is none, its type is unsupported, or its bytes are not in the file.
    pub fn tensor(&self, name: &str) -> Result<StoredTensor, CheckpointError> {
        let info = self.tensor_info(name).ok_or_else(|| {
            let name = name.to_owned();
            CheckpointError::new(&self.path, Problem::NoSuchTensor { name })
        })?;
        let dtype = self.usable(info)?;
        let file = &self.files[info.part];
        let bytes = file.bytes_of(info).ok_or_else(|| {
            let problem = Problem::TensorCut {
                name: info.name.clone(),
                start: info.offset,
                end: info.end(),
                length: file.bytes.len() as u64,
            };
            CheckpointError::new(&file.path, problem)
        })?;
        Ok(StoredTensor {
            name: info.name.clone(),
            dtype,
            shape: info.shape.clone(),
            bytes,
        })
    }

    /// Brings tensors, by their names, into memory, for computing with them. Those that are asked for
    /// afterwards lie where the options say; all others are read from the files as they are used.
    ///
    /// # Errors
    /// If a file cannot be read, memory is short, or locking is not allowed.
    pub fn bring_into_memory(
        &mut self,
        options: LoadOptions,
        run: &RunTasks<'_>,
        is_wanted: &dyn Fn(&str) -> bool,
    ) -> Result<(), ResidenceError> {
        for (number, file) in self.files.iter_mut().enumerate() {
            let tensors = self.tensors.iter();
            let wanted = tensors.filter(|info| info.part == number && is_wanted(&info.name));
            file.bring_into_memory(wanted, options, run)?;
        }
        Ok(())
    }

    /// The files this checkpoint consists of.
    pub fn file_paths(&self) -> impl ExactSizeIterator<Item = &Path> {
        self.files.iter().map(|file| file.path.as_path())
    }

    /// The size of all files together.
    pub fn file_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes.len() as u64).sum()
    }

    /// The text pairs of the first file's `__metadata__`, sorted.
    pub fn metadata(&self) -> &[(String, String)] {
        &self.metadata
    }

    fn usable(&self, info: &TensorInfo) -> Result<DType, CheckpointError> {
        let dtype = match info.dtype {
            TensorType::Known(dtype) => return Ok(dtype),
            TensorType::Unsupported(dtype) => dtype,
            TensorType::Unknown(_) => "unknown",
        };
        let name = info.name.clone();
        let problem = Problem::UnsupportedType { name, dtype };
        Err(CheckpointError::new(&self.files[info.part].path, problem))
    }
}

fn read_bytes(name: &str, bytes: SharedBytes) -> Examination {
    let mut examination = Examination::default();
    examination.checkpoint.path = name.into();
    let shard = scan(&bytes);
    examination.add_file(name.into(), bytes, shard, None);
    examination
}

fn read_files(path: &Path) -> Examination {
    let mut examination = Examination::default();
    examination.checkpoint.path = path.to_owned();
    let layout = match locate(path) {
        Ok(layout) => layout,
        Err(error) => {
            examination.problems.push(error);
            return examination;
        }
    };
    for file in layout.files {
        let name = file
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or("");
        let promised = layout.promised.as_ref();
        let promised = promised
            .and_then(|promised| promised.get(name))
            .map(Vec::as_slice);
        match (map(&file), promised) {
            (Ok(bytes), promised) => {
                let shard = scan(&bytes);
                examination.add_file(file, bytes, shard, promised);
            }
            (Err(Problem::Io(error)), Some([first, rest @ ..]))
                if error.kind() == io::ErrorKind::NotFound =>
            {
                let problem = Problem::MissingShard {
                    tensors: 1 + rest.len(),
                    first: first.clone(),
                };
                examination
                    .problems
                    .push(CheckpointError::new(file, problem));
            }
            (Err(problem), _) => examination
                .problems
                .push(CheckpointError::new(file, problem)),
        }
    }
    examination
}

impl Examination {
    /// Adds what was found in a file: what the index promises of it or, without an index, all.
    fn add_file(
        &mut self,
        path: PathBuf,
        bytes: SharedBytes,
        shard: Shard,
        promised: Option<&[String]>,
    ) {
        let is_readable = !shard.tensors.is_empty() || shard.problems.is_empty();
        let problems = shard.problems.into_iter();
        self.problems
            .extend(problems.map(|problem| CheckpointError::new(&path, problem)));
        let part = self.checkpoint.files.len();
        if part == 0 {
            self.checkpoint.metadata = shard.metadata;
        }
        for mut tensor in shard.tensors {
            // The index lists a tensor's file in sorted order.
            let is_promised = |names: &[String]| names.binary_search(&tensor.name).is_ok();
            if !promised.is_none_or(is_promised) {
                continue;
            }
            tensor.part = part;
            let at = self.checkpoint.tensors.len();
            self.checkpoint.index.insert(tensor.name.clone(), at);
            self.checkpoint.tensors.push(tensor);
        }
        for name in promised.unwrap_or_default() {
            if is_readable && !self.checkpoint.contains(name) {
                let problem = Problem::NotInShard { name: name.clone() };
                self.problems.push(CheckpointError::new(&path, problem));
            }
        }
        self.checkpoint.files.push(ModelFile::new(path, bytes));
    }

    fn with_unusable_tensors(mut self) -> Self {
        let tensors = self.checkpoint.tensors.iter();
        let problems = tensors.filter_map(|tensor| self.checkpoint.usable(tensor).err());
        let problems: Vec<_> = problems.collect();
        self.problems.extend(problems);
        self
    }

    fn into_result(mut self) -> Result<Checkpoint, CheckpointError> {
        if self.problems.is_empty() {
            return Ok(self.checkpoint);
        }
        Err(self.problems.swap_remove(0))
    }
}
