//! Loads the tiny model.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine::{
    BackendChoice, EngineSettings, OpenedModel, Scheduler, SchedulerSettings, TokenRules,
};
use tidemill_server::{
    Defaults, LoadError, LoadedModel, Loader, Loading, ModelFacts, Offer, Profile, ServedModel,
};

use super::CONTEXT;

/// Loads it so, whatever it is called.
pub(crate) struct Tiny(pub(crate) SchedulerSettings, pub(crate) Shape);

/// Where it is.
pub(crate) fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/tiny/tidemill-tiny.gguf")
}

/// What is known of it, under the first of these names; the others are listed too.
pub(crate) fn offer(names: &[&str]) -> Offer {
    let opened = OpenedModel::open(&path()).unwrap();
    Offer {
        profiles: vec![Profile {
            name: names[0].to_owned(),
            aliases: names[1..].iter().map(|&name| name.to_owned()).collect(),
        }],
        facts: ModelFacts {
            path: path().display().to_string(),
            context: CONTEXT,
            trained_context: opened.config.context_length,
            file_bytes: opened.file_bytes(),
            hidden: opened.config.hidden_size,
            vocabulary: opened.config.vocab_size,
            parallel: 4,
        },
        fault: None,
    }
}

/// How much a model is made to hold.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) sequences: usize,
    pub(crate) total_tokens: usize,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            sequences: 4,
            total_tokens: 2 * CONTEXT,
        }
    }
}

/// The tiny model under a name.
pub(crate) fn load(
    name: &str,
    defaults: Defaults,
    settings: (SchedulerSettings, Shape),
    progress: &dyn Fn(usize, usize),
) -> Result<LoadedModel, LoadError> {
    load_from(&path(), name, defaults, settings, progress)
}

/// The model of a file under a name.
pub(crate) fn load_from(
    path: &Path,
    name: &str,
    defaults: Defaults,
    (scheduling, shape): (SchedulerSettings, Shape),
    progress: &dyn Fn(usize, usize),
) -> Result<LoadedModel, LoadError> {
    let opened = OpenedModel::open(path)?;
    let tokenizer = Arc::new(opened.tokenizer()?);
    let settings = EngineSettings {
        sequences: shape.sequences,
        total_tokens: shape.total_tokens,
        ..EngineSettings::single(CONTEXT)
    };
    let engine = opened.load(BackendChoice::cpu(1)?, &settings, progress)?;
    let rules = Arc::new(TokenRules::of(&tokenizer));
    let scheduler =
        Scheduler::new(engine, rules, scheduling).with_tokenizer(Arc::clone(&tokenizer));
    let template = opened.template().ok();
    let manner = (name.to_owned(), defaults);
    let served = ServedModel::new(offer(&[name]).facts, tokenizer, template, manner)?;
    Ok(LoadedModel {
        scheduler,
        served: vec![served],
    })
}

impl Loader for Tiny {
    fn load(&self, _: usize, mut loading: Loading<'_>) -> Result<LoadedModel, LoadError> {
        loading.make_room()?;
        load(
            "tiny",
            Defaults::default(),
            (self.0, self.1),
            loading.progress(),
        )
    }
}
