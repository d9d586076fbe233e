//! An open GGUF model: one file, or all parts of a split one.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use super::error::{GgufError, Problem};
use super::metadata::Metadata;
use super::scan::{Scan, scan};
use super::split::SplitName;
use crate::residence::{LoadOptions, ModelFile, ResidenceError, RunTasks};
use crate::tensor_info::TensorInfo;
use crate::{DType, SharedBytes, StoredTensor};

/// An open GGUF model.
///
/// ```no_run
/// use tidemill_formats::gguf::GgufFile;
///
/// let model = GgufFile::open("Qwen3.5-35B-A3B-Q4_K_M.gguf".as_ref())?;
/// let layers: u32 = model.metadata().get("qwen35moe.block_count")?;
/// let embedding = model.tensor("token_embd.weight")?;
/// println!("{layers} layers, embedding {:?}", embedding.shape);
/// # Ok::<(), tidemill_formats::gguf::GgufError>(())
/// ```
#[derive(Debug, Default)]
pub struct GgufFile {
    version: u32,
    metadata: Metadata,
    tensors: Vec<TensorInfo>,
    index: HashMap<String, usize>,
    parts: Vec<ModelFile>,
}

/// What could be read of a model, with everything that is wrong with it.
#[derive(Debug, Default)]
pub struct Examination {
    /// Whatever could be read. Tensors that lie past the end of a file are listed too; asking for
    /// their bytes is an error.
    pub model: GgufFile,
    /// All problems, the ones to solve first in front.
    pub problems: Vec<GgufError>,
}

impl GgufFile {
    /// Opens a model. Of a split model any part may be given; all are opened.
    ///
    /// # Errors
    /// The first of the problems that [`GgufFile::examine`] would list, other than tensors of an
    /// unknown type: those are an error only when their bytes are asked for.
    pub fn open(path: &Path) -> Result<Self, GgufError> {
        read_parts(path).into_result()
    }

    /// Opens a model that is in memory; `name` stands for the file in errors.
    ///
    /// # Errors
    /// As [`GgufFile::open`].
    pub fn from_bytes(name: &str, bytes: SharedBytes) -> Result<Self, GgufError> {
        read_bytes(name, bytes).into_result()
    }

    /// Reads what can be read of a model and lists all that is wrong with it.
    pub fn examine(path: &Path) -> Examination {
        read_parts(path).with_unusable_tensors()
    }

    /// As [`GgufFile::examine`], for a model that is in memory.
    pub fn examine_bytes(name: &str, bytes: SharedBytes) -> Examination {
        read_bytes(name, bytes).with_unusable_tensors()
    }

    /// The format version of the first part.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The metadata; of a split model that of the first part.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The tensors in the order of the files.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// The row of the tensor table with this name.
    pub fn tensor_info(&self, name: &str) -> Option<&TensorInfo> {
        self.index.get(name).map(|&at| &self.tensors[at])
    }

    /// The tensor with this name.
    ///
    /// # Errors
    /// There is none, its type is unknown, or its bytes are not in the file.
    pub fn tensor(&self, name: &str) -> Result<StoredTensor, GgufError> {
        let info = self.tensor_info(name).ok_or_else(|| {
            let name = name.to_owned();
            self.error(0, Problem::NoSuchTensor { name })
        })?;
        let dtype = self.usable(info)?;
        let bytes = self.bytes_of(info).ok_or_else(|| {
            let problem = Problem::TensorCut {
                name: info.name.clone(),
                start: info.offset,
                end: info.end(),
                length: self.parts[info.part].bytes.len() as u64,
            };
            self.error(info.part, problem)
        })?;
        Ok(StoredTensor {
            name: info.name.clone(),
            dtype,
            shape: info.shape.clone(),
            bytes,
        })
    }

    /// Brings tensors, by their names, into memory, for computing with them. Those that are asked for
    /// afterwards lie where the options say; all others are read from the file as they are used.
    ///
    /// # Errors
    /// If a file cannot be read, memory is short, or locking is not allowed.
    pub fn bring_into_memory(
        &mut self,
        options: LoadOptions,
        run: &RunTasks<'_>,
        is_wanted: &dyn Fn(&str) -> bool,
    ) -> Result<(), ResidenceError> {
        for (number, part) in self.parts.iter_mut().enumerate() {
            let tensors = self.tensors.iter();
            let wanted = tensors.filter(|info| info.part == number && is_wanted(&info.name));
            part.bring_into_memory(wanted, options, run)?;
        }
        Ok(())
    }

    /// The files this model consists of.
    pub fn part_paths(&self) -> impl ExactSizeIterator<Item = &Path> {
        self.parts.iter().map(|part| part.path.as_path())
    }

    /// The size of all files together.
    pub fn file_bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.bytes.len() as u64).sum()
    }

    fn usable(&self, info: &TensorInfo) -> Result<DType, GgufError> {
        info.dtype.known().ok_or_else(|| {
            let problem = Problem::UnknownTensorType {
                name: info.name.clone(),
                dtype: info.dtype,
            };
            self.error(info.part, problem)
        })
    }

    fn bytes_of(&self, info: &TensorInfo) -> Option<SharedBytes> {
        self.parts[info.part].bytes_of(info)
    }

    fn error(&self, part: usize, problem: Problem) -> GgufError {
        let path = self.parts.get(part).map(|part| part.path.clone());
        GgufError::new(path.unwrap_or_default(), problem)
    }
}

/// What a part says about the split, if anything.
struct SplitKeys {
    no: u64,
    count: u64,
    tensors: Option<u64>,
}

impl SplitKeys {
    fn read(metadata: &Metadata) -> Result<Option<Self>, GgufError> {
        let Some(count) = metadata.find("split.count")?.filter(|&count| count > 1) else {
            return Ok(None);
        };
        Ok(Some(Self {
            no: metadata.find("split.no")?.unwrap_or(0),
            count,
            tensors: metadata.find("split.tensors.count")?,
        }))
    }
}

fn read_bytes(name: &str, bytes: SharedBytes) -> Examination {
    let path = PathBuf::from(name);
    let scanned = scan(&bytes, &path);
    let mut examination = Examination::default();
    examination.add_part(ModelFile::new(path, bytes), scanned);
    examination
}

/// Opens the file, and the other parts when it is one of several.
fn read_parts(path: &Path) -> Examination {
    let given = match ModelFile::open(path).map_err(Problem::Io) {
        Ok(given) => given,
        Err(problem) => return Examination::of_problem(GgufError::new(path, problem)),
    };
    let scanned = scan(&given.bytes, path);
    let keys = match SplitKeys::read(&scanned.metadata) {
        Ok(keys) => keys,
        Err(error) => return Examination::of_problem(error),
    };
    match (keys, SplitName::parse(path)) {
        (Some(keys), Some(name)) => read_split(&name, keys.tensors, given, scanned),
        (Some(keys), None) => {
            let problem = Problem::SplitName { count: keys.count };
            let mut examination = Examination::of_problem(GgufError::new(path, problem));
            examination.add_part(given, scanned);
            examination
        }
        (None, _) => {
            let mut examination = Examination::default();
            examination.add_part(given, scanned);
            examination
        }
    }
}

/// Opens all parts of a split model, of which `given` is open already.
fn read_split(
    name: &SplitName,
    expected_tensors: Option<u64>,
    given: ModelFile,
    scanned: Scan,
) -> Examination {
    let mut examination = Examination::default();
    let mut given = Some((given, scanned));
    let mut is_complete = true;
    for number in 0..name.count {
        if number == name.part
            && let Some((part, scanned)) = given.take()
        {
            examination.add_part(part, scanned);
            continue;
        }
        let path = name.path_of(number);
        let problem = match ModelFile::open(&path).map_err(Problem::Io) {
            Ok(part) => {
                let scanned = scan(&part.bytes, &path);
                examination.add_part(part, scanned);
                continue;
            }
            Err(Problem::Io(error)) if error.kind() == io::ErrorKind::NotFound => {
                Problem::MissingPart {
                    part: number + 1,
                    count: name.count,
                }
            }
            Err(problem) => problem,
        };
        is_complete = false;
        examination.problems.push(GgufError::new(&path, problem));
        examination
            .model
            .parts
            .push(ModelFile::new(path, SharedBytes::from_vec(Vec::new())));
    }
    let found = examination.model.tensors.len();
    if let Some(expected) = expected_tensors
        && is_complete
        && expected != found as u64
    {
        let problem = Problem::WrongTensorCount { expected, found };
        let error = examination.model.error(0, problem);
        examination.problems.push(error);
    }
    examination
}

impl Examination {
    fn of_problem(problem: GgufError) -> Self {
        Self {
            problems: vec![problem],
            ..Self::default()
        }
    }

    /// Adds the next part and what was found in it.
    fn add_part(&mut self, part: ModelFile, scanned: Scan) {
        let number = self.model.parts.len();
        let problems = scanned.problems.into_iter();
        self.problems
            .extend(problems.map(|problem| GgufError::new(&part.path, problem)));
        self.check_split_keys(number, &part.path, &scanned.metadata);
        if number == 0 {
            self.model.version = scanned.version;
            self.model.metadata = scanned.metadata;
        }
        self.model.parts.push(part);
        for mut tensor in scanned.tensors {
            tensor.part = number;
            let at = self.model.tensors.len();
            if let Some(before) = self.model.index.insert(tensor.name.clone(), at) {
                let other = self.model.tensors[before].part;
                // Within one part the scan has reported it.
                if other != number {
                    let problem = Problem::DuplicateTensor {
                        name: tensor.name.clone(),
                        other_part: Some(other),
                    };
                    self.problems.push(self.model.error(number, problem));
                }
            }
            self.model.tensors.push(tensor);
        }
    }

    /// Checks that a part of a split model is the part that its name says.
    fn check_split_keys(&mut self, number: usize, path: &Path, metadata: &Metadata) {
        let Some(name) = SplitName::parse(path) else {
            return;
        };
        let keys = match SplitKeys::read(metadata) {
            // A name may look like a part's without being one.
            Ok(None) if number == 0 => return,
            Ok(keys) => keys,
            Err(error) => return self.problems.push(error),
        };
        let (found_no, found_count) =
            keys.map_or((0, 0), |keys| (keys.no.saturating_add(1), keys.count));
        if (found_no, found_count) != (name.part as u64 + 1, name.count as u64) {
            let problem = Problem::WrongPart {
                found_no,
                found_count,
                no: name.part + 1,
                count: name.count,
            };
            self.problems.push(GgufError::new(path, problem));
        }
    }

    fn with_unusable_tensors(mut self) -> Self {
        let tensors = self.model.tensors.iter();
        let problems = tensors.filter_map(|tensor| self.model.usable(tensor).err());
        let problems: Vec<_> = problems.collect();
        self.problems.extend(problems);
        self
    }

    fn into_result(mut self) -> Result<GgufFile, GgufError> {
        if self.problems.is_empty() {
            return Ok(self.model);
        }
        Err(self.problems.swap_remove(0))
    }
}
