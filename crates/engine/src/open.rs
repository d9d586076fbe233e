//! What lies at a path: a GGUF file (also a split one) or a Hugging Face checkpoint.
//!
//! Opening reads headers only. Weights stay where they are, in the file's memory map, until
//! [`OpenedModel::load`] hands them to a device.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use formats::gguf::{GgufError, GgufFile};
use formats::hf::{HfConfig, HfError};
use formats::residence::{available_memory, displaces_cached_files, fits_copy_of};
use formats::safetensors::{Checkpoint, CheckpointError};
use formats::{LoadOptions, ResidenceError, SharedBytes, TensorInfo};
use hybrid::Place;
use model::bind::{self, BindError};
use model::weights::Part;
use model::{Config, Model, Weights};
use tensor::{OpError, Ops, Reference};
use text::{ChatTemplate, TemplateError, Tokenizer, TokenizerError, Vocabulary};

use crate::engine::Engine;
use crate::error::EngineError;
use crate::on_gpu::OnGpu;
use crate::plan::{Anatomy, Device, Placement, PlanError, place_of};
use crate::runner::OpsRunner;
use crate::settings::EngineSettings;

/// What can go wrong between a path and a model that computes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// There is nothing there, or it cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A folder without a checkpoint.
    #[error(
        "{path} holds no config.json, so it is no Hugging Face checkpoint; give the folder that \
         has it, or a .gguf file"
    )]
    NotACheckpoint {
        /// The folder.
        path: PathBuf,
    },
    /// The GGUF file is wrong.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// The checkpoint's tensors are wrong.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The checkpoint's configuration is wrong.
    #[error(transparent)]
    Hf(#[from] HfError),
    /// The file is sound, the model is not one that we can run.
    #[error("{path} cannot be run")]
    Bind {
        /// The file or folder.
        path: PathBuf,
        /// What is missing or wrong.
        source: BindError,
    },
    /// The vocabulary cannot be used.
    #[error("the vocabulary of {path} cannot be used")]
    Tokenizer {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong.
        source: TokenizerError,
    },
    /// The chat template cannot be used.
    #[error("the chat template of {path} cannot be used")]
    Template {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong.
        source: TemplateError,
    },
    /// The weights could not be brought into memory.
    #[error(transparent)]
    Residence(#[from] ResidenceError),
    /// A device refused.
    #[error(transparent)]
    Op(#[from] OpError),
    /// The memory cannot be used.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// Where a model computes.
#[derive(Debug, Clone)]
pub enum BackendChoice {
    /// The scalar reference: slow, and the judge of all others.
    Reference(Reference),
    /// The CPU with its SIMD kernels.
    Cpu(cpu::Cpu),
    /// NVIDIA GPUs, with the CPU for what is in RAM.
    Gpu(Box<OnGpu>),
}

impl BackendChoice {
    /// The CPU with so many threads of its own.
    ///
    /// # Errors
    /// If the machine lacks what the kernels need.
    pub fn cpu(threads: usize) -> Result<Self, cpu::CpuError> {
        cpu::Cpu::new(Arc::new(cpu::Pool::new(threads))).map(Self::Cpu)
    }

    /// What decides how it rounds: on devices of equal names, equal models give equal bits.
    pub fn numerics(&self) -> String {
        match self {
            Self::Reference(reference) => format!("reference {reference:?}"),
            Self::Cpu(cpu) => format!("cpu {}", cpu.numerics()),
            Self::Gpu(choice) => choice.numerics(),
        }
    }
}

/// Bytes of each of a tensor's samples.
const SAMPLE: usize = 256;

/// Threads that compute for each one that copies weights: one copies 1.5 GB/s.
const THREADS_PER_COPIER: usize = 8;

/// Copies weights as they are used, by threads that end with the model.
fn copy_in_background(copier: &cpu::Copier, threads: usize) {
    for _ in 0..threads.div_ceil(THREADS_PER_COPIER) {
        let copier = copier.clone();
        let thread = std::thread::Builder::new().name("tidemill-copies".into());
        let made = thread.spawn(|| {
            if !copier.run() {
                tracing::warn!(
                    "no memory for more copies of weights; the rest is used as it is stored"
                );
            }
        });
        // Nobody waits for it: the file's bytes give the same answers.
        if let Err(error) = made {
            tracing::warn!("weights are used as they are stored, which is slower: {error}");
        }
    }
}

enum Source {
    Gguf(GgufFile),
    Hf {
        config: Box<HfConfig>,
        checkpoint: Checkpoint,
    },
}

/// A model whose headers are read.
pub struct OpenedModel {
    /// Where it is, for messages.
    pub path: PathBuf,
    /// Its sizes.
    pub config: Config,
    source: Source,
    copies: Option<cpu::CopySettings>,
}

impl OpenedModel {
    /// Opens a GGUF file, any part of a split one, or the folder of a checkpoint.
    ///
    /// # Errors
    /// If it is neither, is damaged, or is not of the family.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let read = |source| OpenError::Read {
            path: path.to_owned(),
            source,
        };
        if !std::fs::metadata(path).map_err(read)?.is_dir() {
            return Self::from_gguf(path.to_owned(), GgufFile::open(path)?);
        }
        if !path.join("config.json").is_file() {
            return Err(OpenError::NotACheckpoint {
                path: path.to_owned(),
            });
        }
        let hf = Box::new(HfConfig::read(path)?);
        let checkpoint = Checkpoint::open(path)?;
        let config = bind::config_from_hf(&hf, &checkpoint).map_err(|source| OpenError::Bind {
            path: path.to_owned(),
            source,
        })?;
        let source = Source::Hf {
            config: hf,
            checkpoint,
        };
        Ok(Self {
            path: path.to_owned(),
            config,
            source,
            copies: None,
        })
    }

    /// Opens a GGUF file that is in memory, such as one inside the program.
    ///
    /// # Errors
    /// If it is damaged or not of the family.
    pub fn from_bytes(name: &str, bytes: SharedBytes) -> Result<Self, OpenError> {
        Self::from_gguf(PathBuf::from(name), GgufFile::from_bytes(name, bytes)?)
    }

    fn from_gguf(path: PathBuf, file: GgufFile) -> Result<Self, OpenError> {
        match bind::config_from_gguf(&file) {
            Ok(config) => Ok(Self {
                path,
                config,
                source: Source::Gguf(file),
                copies: None,
            }),
            Err(source) => Err(OpenError::Bind { path, source }),
        }
    }

    /// The bytes of the model's files.
    pub fn file_bytes(&self) -> u64 {
        match &self.source {
            Source::Gguf(file) => file.file_bytes(),
            Source::Hf { checkpoint, .. } => checkpoint.file_bytes(),
        }
    }

    /// The model's files; one that is in memory is called by the name it was given.
    pub fn files(&self) -> Vec<PathBuf> {
        match &self.source {
            Source::Gguf(file) => file.part_paths().map(Path::to_owned).collect(),
            Source::Hf { checkpoint, .. } => checkpoint.file_paths().map(Path::to_owned).collect(),
        }
    }

    /// What its tensors are called.
    pub fn tensor_names(&self) -> Vec<&str> {
        let tensors = self.tensors().iter();
        tensors.map(|tensor| tensor.name.as_str()).collect()
    }

    fn tensors(&self) -> &[TensorInfo] {
        match &self.source {
            Source::Gguf(file) => file.tensors(),
            Source::Hf { checkpoint, .. } => checkpoint.tensors(),
        }
    }

    /// The model taken apart, for planning.
    ///
    /// # Errors
    /// If a tensor is of an unknown type, or a layer has none.
    pub fn anatomy(&self) -> Result<Anatomy, PlanError> {
        Anatomy::from_table(self.config.clone(), self.tensors())
    }

    /// Tells this model from others: a hash of its sizes, of the list of its tensors, and of samples
    /// of each, since reading all weights would take as long as loading them.
    ///
    /// # Errors
    /// If a tensor lies outside its file.
    pub fn fingerprint(&self) -> Result<[u8; 32], OpenError> {
        let mut hasher = blake3::Hasher::new();
        hasher.update(format!("{:?}", self.config).as_bytes());
        let names: Vec<&str> = match &self.source {
            Source::Gguf(file) => file.tensors().iter().map(|t| t.name.as_str()).collect(),
            Source::Hf { checkpoint, .. } => {
                let tensors = checkpoint.tensors().iter();
                tensors.map(|t| t.name.as_str()).collect()
            }
        };
        for name in names {
            let tensor = match &self.source {
                Source::Gguf(file) => file.tensor(name)?,
                Source::Hf { checkpoint, .. } => checkpoint.tensor(name)?,
            };
            hasher.update(format!("{name} {} {:?}", tensor.dtype, tensor.shape).as_bytes());
            let bytes: &[u8] = &tensor.bytes;
            for at in [
                0,
                bytes.len() / 3,
                bytes.len() / 2,
                bytes.len().saturating_sub(SAMPLE),
            ] {
                hasher.update(&bytes[at..bytes.len().min(at + SAMPLE)]);
            }
        }
        Ok(hasher.finalize().into())
    }

    /// The model's tokenizer.
    ///
    /// # Errors
    /// If it has none, or one of another kind.
    pub fn tokenizer(&self) -> Result<Tokenizer, OpenError> {
        let vocabulary = match &self.source {
            Source::Gguf(file) => Vocabulary::from_gguf(file.metadata()),
            Source::Hf { .. } => Vocabulary::from_hugging_face(&self.path),
        };
        vocabulary
            .and_then(|vocabulary| Tokenizer::new(&vocabulary))
            .map_err(|source| OpenError::Tokenizer {
                path: self.path.clone(),
                source,
            })
    }

    /// The model's chat template.
    ///
    /// # Errors
    /// If it has none, or one that cannot be compiled.
    pub fn template(&self) -> Result<ChatTemplate, OpenError> {
        let template = match &self.source {
            Source::Gguf(file) => ChatTemplate::from_gguf(file.metadata(), None),
            Source::Hf { .. } => ChatTemplate::from_hugging_face(&self.path, None),
        };
        template.map_err(|source| OpenError::Template {
            path: self.path.clone(),
            source,
        })
    }

    /// Brings weights into memory, to be called before [`OpenedModel::load`]: without it they
    /// are read from the file as they are first used. Of those that a placement has on GPUs nothing is kept
    /// in RAM.
    ///
    /// A backend that reads weights faster in another order gets copies of them, where there is
    /// memory for it, made by a thread while the model answers already.
    ///
    /// # Errors
    /// If a file cannot be read, memory is short, or locking is not allowed.
    pub fn bring_into_memory(
        &mut self,
        options: LoadOptions,
        pool: &cpu::Pool,
        placement: Option<&Placement>,
    ) -> Result<(), OpenError> {
        let run = |tasks: usize, task: &(dyn Fn(usize) + Sync)| pool.run(tasks, task);
        let config = &self.config;
        let is_in_ram = |name: &str| {
            let Some(placement) = placement else {
                return true;
            };
            let place = place_of(name, config);
            place.is_some_and(|(block, piece)| placement.of_piece(block, piece) == Device::Ram)
        };
        let used = match placement {
            None => self.file_bytes(),
            Some(_) => {
                let in_ram = self.tensors().iter().filter(|info| is_in_ram(&info.name));
                in_ram.filter_map(|info| info.byte_len).sum()
            }
        };
        if used == 0 {
            return Ok(());
        }
        match &mut self.source {
            Source::Gguf(file) => file.bring_into_memory(options, &run, &is_in_ram)?,
            Source::Hf { checkpoint, .. } => {
                checkpoint.bring_into_memory(options, &run, &is_in_ram)?;
            }
        }
        let fits = options.repack && fits_copy_of(used);
        self.copies = fits.then_some(cpu::CopySettings {
            huge_pages: options.huge_pages,
            locked: options.mlock,
            replaces_file: displaces_cached_files(used),
        });
        Ok(())
    }

    /// Binds the weights and loads them on a device. `progress` is told the layers done and their
    /// number.
    ///
    /// # Errors
    /// If a tensor is missing or wrong, or the device refuses.
    pub fn load(
        &self,
        backend: BackendChoice,
        settings: &EngineSettings,
        progress: impl FnMut(usize, usize),
    ) -> Result<Engine, OpenError> {
        match backend {
            BackendChoice::Reference(ops) => {
                let weights = self.weights()?.load(|_| &ops, progress)?;
                self.engine(ops, weights, settings)
            }
            BackendChoice::Cpu(cpu) => self.with_copies(cpu, |cpu| {
                let weights = self.weights()?.load(|_| &cpu, progress)?;
                self.engine(cpu, weights, settings)
            }),
            BackendChoice::Gpu(choice) => self.with_copies(choice.host.clone(), |cpu| {
                let backend = choice.backend(&self.config, cpu)?;
                let host = backend.loading_to(Place::Host);
                let gpus = 0..choice.gpus.len();
                let gpus: Vec<_> = gpus
                    .map(|number| backend.loading_to(Place::Accelerator(number)))
                    .collect();
                let copied = choice.copied(&backend);
                let place = |part| {
                    if let Part::Experts(layer) = part
                        && let Some(Some(beside)) = copied.get(layer)
                    {
                        return beside;
                    }
                    match choice.place(part) {
                        Place::Accelerator(number) => &gpus[number],
                        Place::Host => &host,
                    }
                };
                let weights = self.weights()?.load(place, progress)?;
                let uses = backend.expert_use();
                let mut engine = self.engine(backend, weights, settings)?;
                engine.expert_use = Some(uses).filter(|_| copied.iter().any(Option::is_some));
                Ok(engine)
            }),
        }
    }

    /// The engine that `load` makes with this CPU, which copies weights as they are used if there is memory
    /// for it.
    fn with_copies(
        &self,
        cpu: cpu::Cpu,
        load: impl FnOnce(cpu::Cpu) -> Result<Engine, OpenError>,
    ) -> Result<Engine, OpenError> {
        let is_too_large = |available| self.file_bytes() > available;
        let reads_ahead = available_memory().is_some_and(is_too_large);
        let cpu = cpu.with_reading_ahead(reads_ahead);
        let Some(copies) = self.copies else {
            return load(cpu);
        };
        let threads = cpu.threads();
        let (cpu, copier) = cpu.with_copies(copies);
        let mut engine = load(cpu)?;
        engine.copies = Some(copier.progress());
        copy_in_background(&copier, threads);
        Ok(engine)
    }

    fn engine<O>(
        &self,
        ops: O,
        weights: Weights<O>,
        settings: &EngineSettings,
    ) -> Result<Engine, OpenError>
    where
        O: Ops + Send + 'static,
        O::Matrix: Send,
        O::Vector: Send,
        O::Experts: Send,
        O::Memory: Send,
    {
        let model = Model::new(self.config.clone(), weights);
        let layout = settings.layout(&self.config);
        let runner = OpsRunner::new(ops, model, &layout)?;
        let vocabulary = self.config.vocab_size;
        Ok(Engine::new(
            Box::new(runner),
            &layout,
            settings.context,
            vocabulary,
        )?)
    }

    /// The weights as they are stored.
    ///
    /// # Errors
    /// If a tensor is missing, has another shape, or a type that cannot be used.
    pub fn weights(&self) -> Result<Weights<Reference>, OpenError> {
        let weights = match &self.source {
            Source::Gguf(file) => bind::weights_from_gguf(file, &self.config),
            Source::Hf { config, checkpoint } => {
                bind::weights_from_checkpoint(checkpoint, config, &self.config)
            }
        };
        weights.map_err(|source| OpenError::Bind {
            path: self.path.clone(),
            source,
        })
    }
}
