//! What is known of a model before it is loaded, and who loads it.

use std::error::Error;
use std::time::Duration;

use engine::Scheduler;

use crate::model::ServedModel;

/// A model that can be served. It is loaded when a request asks for it.
#[derive(Debug, Clone)]
pub struct Offer {
    /// The manners in which it is served, at least one: all of them share what is loaded.
    pub profiles: Vec<Profile>,
    /// What it is.
    pub facts: ModelFacts,
    /// What is known to be wrong with it.
    pub fault: Option<String>,
}

/// A name under which a model is served, with defaults of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// What clients call it.
    pub name: String,
    /// Further names it is listed under.
    pub aliases: Vec<String>,
}

impl Profile {
    /// All its names.
    pub(crate) fn names(&self) -> impl Iterator<Item = &String> {
        std::iter::once(&self.name).chain(&self.aliases)
    }
}

/// What is known of a model from its files' headers and the server's flags.
#[derive(Debug, Clone, Default)]
pub struct ModelFacts {
    /// Its file or folder.
    pub path: String,
    /// Tokens that a prompt and its answer may have together.
    pub context: usize,
    /// Tokens that it was trained for.
    pub trained_context: usize,
    /// The bytes of its files.
    pub file_bytes: u64,
    /// Values of a hidden row.
    pub hidden: usize,
    /// Tokens of its vocabulary.
    pub vocabulary: usize,
    /// How many requests are answered at once.
    pub parallel: usize,
}

/// Why a model could not be loaded.
pub type LoadError = Box<dyn Error + Send + Sync>;

/// A model that computes.
pub struct LoadedModel {
    /// What drives it.
    pub scheduler: Scheduler,
    /// One for each of its profiles, in their order.
    pub served: Vec<ServedModel>,
}

/// Loads models.
pub trait Loader: Send + Sync {
    /// Loads the model of this number among those offered, on a thread of its own.
    ///
    /// What can be found wrong before memory is needed should be: then room is made for it
    /// ([`Loading::make_room`]).
    ///
    /// # Errors
    /// If it cannot be loaded, and whatever [`Loading::make_room`] says.
    fn load(&self, model: usize, loading: Loading<'_>) -> Result<LoadedModel, LoadError>;
}

/// What a load has to do with those that wait for it, and with other models.
pub struct Loading<'l> {
    pub(super) make_room: &'l mut dyn FnMut() -> Result<(), LoadError>,
    pub(super) progress: &'l dyn Fn(usize, usize),
}

impl<'l> Loading<'l> {
    /// Waits for answers of other models to end, and unloads these, until there is room for one more.
    ///
    /// # Errors
    /// When nobody waits for the model any more, or the server is going down.
    pub fn make_room(&mut self) -> Result<(), LoadError> {
        (self.make_room)()
    }

    /// Takes the parts that are done and their number.
    pub fn progress(&self) -> &'l dyn Fn(usize, usize) {
        self.progress
    }
}

/// How many models are loaded, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct ModelLimits {
    /// The most models that are loaded at once.
    pub most: usize,
    /// The most bytes that the files of loaded models may have together; one may always be loaded.
    pub bytes: Option<u64>,
    /// For how long a model stays loaded that nobody uses.
    pub idle: KeptLoaded,
}

impl Default for ModelLimits {
    fn default() -> Self {
        Self {
            most: 1,
            bytes: None,
            idle: KeptLoaded::Always,
        }
    }
}

/// For how long a model stays loaded that nobody uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeptLoaded {
    /// Until another one needs its place.
    Always,
    /// For this long, if no other one needs its place.
    For(Duration),
}
