//! What every command that computes understands: which model, where, with how much memory.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use anyhow::Context;
use clap::{Args, ValueEnum};
use engine::{BackendChoice, Engine, EngineSettings, KvTypes, OpenedModel};
use formats::{DType, LoadOptions};
use serde::Deserialize;
use serde_json::{Map, Value};
use tensor::Reference;

use crate::args::Global;
use crate::exit::Failure;
use crate::fit::{FitArgs, Steps};
use crate::hub::{self, HubArgs, HubError};
use crate::nvidia;
use crate::output;
use crate::placement::PlacementArgs;
use crate::rope::RopeArgs;

/// Which model.
#[derive(Debug, Clone, PartialEq, Args)]
pub(crate) struct ModelArgs {
    /// A GGUF file, any part of a split one, or the folder of a Hugging Face checkpoint.
    #[arg(short, long, value_name = "PATH", env = "TIDEMILL_MODEL")]
    pub(crate) model: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) hub: HubArgs,
    /// Where to compute.
    #[arg(long, value_name = "NAME", default_value = "cpu")]
    pub(crate) backend: Backend,
    #[command(flatten)]
    load: LoadArgs,
    #[command(flatten)]
    placement: PlacementArgs,
    #[command(flatten)]
    rope: RopeArgs,
}

/// How a model's files come into memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Args)]
pub(crate) struct LoadArgs {
    /// Keep the model, or what of it is not on a GPU, from being swapped out or dropped from memory.
    #[arg(long)]
    mlock: bool,
    /// Read the model, or what of it is not on a GPU, into memory of its own instead of sharing the system's
    /// copy of the file: slower to start and as much memory again, but no file is needed afterwards.
    #[arg(long)]
    no_mmap: bool,
    /// Use weights as the file has them. Otherwise they are copied into the order in which this
    /// machine reads them best, while the model answers already, if there is memory for a copy.
    #[arg(long)]
    no_repack: bool,
    #[command(flatten)]
    pub(crate) fit: FitArgs,
}

impl LoadArgs {
    pub(crate) fn options(self) -> LoadOptions {
        LoadOptions {
            mmap: !self.no_mmap,
            mlock: self.mlock,
            repack: !self.no_repack,
            ..LoadOptions::default()
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Backend {
    /// The SIMD kernels of this machine.
    Cpu,
    /// NVIDIA GPUs, with the CPU for what they have no room for. Their kernels were tested on a CPU, never yet
    /// on a GPU.
    Gpu,
    /// Plain loops: slow, and what all else is judged by.
    Reference,
}

/// How keys and values are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum CacheType {
    F32,
    F16,
    Bf16,
    #[value(name = "q8_0")]
    Q8_0,
    #[value(name = "q4_0")]
    Q4_0,
}

impl From<CacheType> for DType {
    fn from(kind: CacheType) -> Self {
        match kind {
            CacheType::F32 => Self::F32,
            CacheType::F16 => Self::F16,
            CacheType::Bf16 => Self::BF16,
            CacheType::Q8_0 => Self::Q8_0,
            CacheType::Q4_0 => Self::Q4_0,
        }
    }
}

/// Memory for keys and values.
#[derive(Debug, Clone, PartialEq, Args)]
pub(crate) struct CacheArgs {
    /// How keys are kept.
    #[arg(
        long,
        value_name = "TYPE",
        default_value = "f16",
        visible_alias = "ctk"
    )]
    pub(crate) cache_type_k: CacheType,
    /// How values are kept.
    #[arg(
        long,
        value_name = "TYPE",
        default_value = "f16",
        visible_alias = "ctv"
    )]
    pub(crate) cache_type_v: CacheType,
}

impl CacheArgs {
    pub(crate) fn types(&self) -> KvTypes {
        KvTypes {
            key: self.cache_type_k.into(),
            value: self.cache_type_v.into(),
        }
    }
}

/// The threads that compute; started when they are first needed.
pub(crate) struct Threads {
    count: usize,
    pool: OnceLock<Arc<cpu::Pool>>,
}

impl Threads {
    pub(crate) fn new(global: &Global) -> Self {
        Self {
            count: global.threads().get(),
            pool: OnceLock::new(),
        }
    }

    fn pool(&self) -> Arc<cpu::Pool> {
        let pool = || Arc::new(cpu::Pool::new(self.count));
        Arc::clone(self.pool.get_or_init(pool))
    }
}

/// A model that computes.
pub(crate) struct Loaded {
    pub(crate) engine: Engine,
    /// How it rounds ([`BackendChoice::numerics`]).
    pub(crate) numerics: String,
    /// Where, for further models.
    pub(crate) device: Device,
}

/// Where models compute, and how their files come into memory.
pub(crate) struct Device {
    kind: Kind,
    load: LoadArgs,
    placement: PlacementArgs,
}

enum Kind {
    Reference,
    Cpu(cpu::Cpu, Arc<cpu::Pool>),
    /// With the processor beside it.
    Gpu(Vec<gpu::Gpu>, cpu::Cpu, Arc<cpu::Pool>),
}

impl Device {
    /// One of a kind, on threads that several can share.
    ///
    /// # Errors
    /// If there is none.
    pub(crate) fn open(
        kind: Backend,
        pool: impl FnOnce() -> Arc<cpu::Pool>,
        load: LoadArgs,
        placement: PlacementArgs,
    ) -> anyhow::Result<Self> {
        if kind != Backend::Gpu {
            placement.tell_unused();
        }
        let kind = match kind {
            Backend::Reference => Kind::Reference,
            Backend::Cpu => {
                let pool = pool();
                Kind::Cpu(cpu::Cpu::new(Arc::clone(&pool))?, pool)
            }
            Backend::Gpu => {
                let pool = pool();
                let gpus = nvidia::open(placement.devices())?;
                Kind::Gpu(gpus, cpu::Cpu::new(Arc::clone(&pool))?, pool)
            }
        };
        Ok(Self {
            kind,
            load,
            placement,
        })
    }

    /// Loads a model, with progress on a terminal's stderr. `progress` is told the parts done and
    /// their number too. Returns how it rounds as well.
    pub(crate) fn load(
        &self,
        opened: &mut OpenedModel,
        (settings, steps): (&EngineSettings, Steps),
        progress: &dyn Fn(usize, usize),
    ) -> anyhow::Result<(Engine, String)> {
        let backend = match &self.kind {
            Kind::Reference => {
                self.load.fit.check(opened, settings, steps)?;
                BackendChoice::Reference(Reference::default())
            }
            Kind::Cpu(cpu, pool) => {
                self.load.fit.check(opened, settings, steps)?;
                opened.bring_into_memory(self.load.options(), pool, None)?;
                BackendChoice::Cpu(cpu.clone())
            }
            Kind::Gpu(gpus, cpu, pool) => {
                let devices = (gpus.clone(), cpu.clone());
                let choice =
                    self.placement
                        .place(devices, opened, (settings, steps), self.load.fit)?;
                let placement = choice.placement.as_ref();
                if placement.is_some() {
                    opened.bring_into_memory(self.load.options(), pool, placement)?;
                }
                BackendChoice::Gpu(Box::new(choice))
            }
        };
        let numerics = backend.numerics();
        let bar = output::step_progress("loading");
        let engine = opened.load(backend, settings, |done, total| {
            bar.set_length(total as u64);
            bar.set_position(done as u64);
            progress(done, total);
        });
        bar.finish_and_clear();
        Ok((engine?, numerics))
    }
}

impl ModelArgs {
    /// Where the model is that was named, if one was.
    ///
    /// # Errors
    /// When it is one of Hugging Face's, and cannot be had.
    pub(crate) fn path(&self) -> Result<Option<PathBuf>, HubError> {
        match &self.hub.hf_repo {
            Some(name) => hub::find(name, &self.hub.fetching).map(Some),
            None => self.hub.fetching.of_no_model().map(|()| self.model.clone()),
        }
    }

    /// Reads the headers of the model that was named, or of the one inside the program.
    pub(crate) fn open(&self) -> anyhow::Result<OpenedModel> {
        let mut opened = match self.path()? {
            Some(path) => OpenedModel::open(&path)?,
            None => crate::embedded::open()?,
        };
        self.rope.apply(&mut opened.config)?;
        Ok(opened)
    }

    /// Loads the model, with progress on a terminal's stderr.
    pub(crate) fn load(
        &self,
        opened: &mut OpenedModel,
        global: &Global,
        wanted: (&EngineSettings, Steps),
    ) -> anyhow::Result<Loaded> {
        let threads = Threads::new(global);
        self.load_on(&threads, opened, wanted, &|_, _| {})
    }

    /// The same, on threads that several models share. `progress` is told the parts done and their
    /// number too.
    pub(crate) fn load_on(
        &self,
        threads: &Threads,
        opened: &mut OpenedModel,
        wanted: (&EngineSettings, Steps),
        progress: &dyn Fn(usize, usize),
    ) -> anyhow::Result<Loaded> {
        let pool = || threads.pool();
        let device = Device::open(self.backend, pool, self.load, self.placement.clone())?;
        let (engine, numerics) = device.load(opened, wanted, progress)?;
        Ok(Loaded {
            engine,
            numerics,
            device,
        })
    }
}

/// Contexts above this are only made when asked for: their memory is large.
const DEFAULT_CONTEXT: usize = 32_768;

/// How long a context is made when so much was asked for, 0 meaning all that the model has. Warns
/// where it is more than that.
pub(crate) fn context_of(asked: Option<usize>, opened: &OpenedModel) -> usize {
    let trained = opened.config.context_length;
    let context = match asked {
        None => trained.min(DEFAULT_CONTEXT),
        Some(0) => trained,
        Some(context) => context,
    };
    if context > trained {
        output::note(&format!(
            "warning: the context of {context} tokens is more than the {trained} the model was \
             trained for; answers past that will be poor"
        ));
    }
    context
}

/// The template's variables of `--chat-template-kwargs`.
///
/// # Errors
/// When it is no JSON object.
pub(crate) fn template_variables(json: Option<&str>) -> anyhow::Result<Map<String, Value>> {
    let Some(json) = json else {
        return Ok(Map::new());
    };
    serde_json::from_str(json).map_err(|error| {
        let why = format!(
            "--chat-template-kwargs: {error}; expected a JSON object such as \
             {{\"enable_thinking\": false}}"
        );
        Failure::Usage(why).into()
    })
}

/// Reads token ids: a JSON list, also inside one more list or under the names that tokenizers use.
pub(crate) fn read_tokens(path: &Path) -> anyhow::Result<Vec<u32>> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("read the token ids in {}", path.display()))?;
    let bad = |why: &str| {
        Failure::BadInput(format!(
            "{}: {why}; expected a JSON list of token ids such as [1, 2, 3]",
            path.display()
        ))
    };
    let json: Value = serde_json::from_str(&text).map_err(|error| bad(&error.to_string()))?;
    let named = ["tokens", "ids", "input_ids"]
        .iter()
        .find_map(|name| json.get(name));
    let list = match named.unwrap_or(&json) {
        Value::Array(one) if matches!(one.as_slice(), [Value::Array(_)]) => &one[0],
        list => list,
    };
    Vec::<u32>::deserialize(list).map_err(|error| bad(&error.to_string()).into())
}
