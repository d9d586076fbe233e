//! All models that are served: the one of the command line, those of a folder, and profiles.

use std::ffi::OsString;
use std::path::PathBuf;

use engine::OpenedModel;
use server::{ModelFacts, Offer, Profile};

use super::folder::{self, Found};
use super::profiles::{self, Section};
use super::{PARALLEL, ServeArgs, ServedArgs};
use crate::args;
use crate::exit::Failure;
use crate::hub::HubArgs;
use crate::loading::LoadingArgs;
use crate::model_args::context_of;
use crate::output;

/// What is loaded once, and the manners in which it is served.
#[derive(Debug, Clone)]
pub(super) struct Unit {
    pub(super) loading: LoadingArgs,
    /// Each with its name.
    pub(super) manners: Vec<(Profile, ServedArgs)>,
}

impl Unit {
    /// Reads the model's headers.
    ///
    /// # Errors
    /// When it is damaged.
    pub(super) fn open(&self) -> anyhow::Result<OpenedModel> {
        self.loading.model.open()
    }

    pub(super) fn parallel(&self) -> usize {
        self.loading.scheduling.sequences(PARALLEL)
    }

    fn offer(&self) -> Offer {
        let profiles: Vec<Profile> = self
            .manners
            .iter()
            .map(|(named, _)| named.clone())
            .collect();
        match self.open() {
            Ok(opened) => Offer {
                facts: self.facts(&opened),
                profiles,
                fault: None,
            },
            Err(error) => {
                let names: Vec<&str> = profiles.iter().map(|named| named.name.as_str()).collect();
                output::note(&format!("warning: {}: {error:#}", names.join(", ")));
                Offer {
                    profiles,
                    facts: ModelFacts::default(),
                    fault: Some(format!("{error:#}")),
                }
            }
        }
    }

    pub(super) fn facts(&self, opened: &OpenedModel) -> ModelFacts {
        ModelFacts {
            path: opened.path.display().to_string(),
            context: context_of(self.loading.ctx_size, opened),
            trained_context: opened.config.context_length,
            file_bytes: opened.file_bytes(),
            hidden: opened.config.hidden_size,
            vocabulary: opened.config.vocab_size,
            parallel: self.parallel(),
        }
    }
}

/// All models that are served; the first is the one for names that nobody has.
pub(super) struct Catalog {
    units: Vec<Unit>,
    has_model: bool,
}

impl Catalog {
    /// The models that the command line names.
    ///
    /// # Errors
    /// When the folder or the profiles cannot be read, make no sense, or there is nothing in them.
    pub(super) fn of(args: &ServeArgs) -> anyhow::Result<Self> {
        let several = &args.several;
        let has_others = several.models_dir.is_some() || several.profiles.is_some();
        let named = args.model.loading.model.path()?;
        let has_model = named.is_some() || !has_others;
        let mut catalog = Self {
            units: Vec::new(),
            has_model,
        };
        if has_model {
            let mut served = args.model.clone();
            name_model(&mut served, named);
            let mut names = served.alias.iter().filter(|name| !name.is_empty()).cloned();
            let profile = Profile {
                name: names.next().unwrap_or_else(|| default_name(&served)),
                aliases: names.collect(),
            };
            catalog.add(profile, served)?;
        }
        let mut found = match &several.models_dir {
            Some(folder) => folder::models(folder)?,
            None => Vec::new(),
        };
        let sections = match &several.profiles {
            Some(path) => profiles::read(path)?,
            None => Vec::new(),
        };
        for section in sections {
            let (profile, served) = profile(section, &mut found, several.models_dir.is_some())?;
            catalog.add(profile, served)?;
        }
        for Found { name, path } in found {
            let mut served = args.model.clone();
            name_model(&mut served, Some(path));
            let profile = Profile {
                name,
                aliases: Vec::new(),
            };
            catalog.add(profile, served)?;
        }
        if catalog.units.is_empty() {
            let why = "there is no model in the folder or file that was named";
            return Err(Failure::BadInput(why.to_owned()).into());
        }
        Ok(catalog)
    }

    fn add(&mut self, profile: Profile, served: ServedArgs) -> anyhow::Result<()> {
        let known = self.units.iter().flat_map(|unit| &unit.manners);
        if known
            .into_iter()
            .any(|(known, _)| known.name == profile.name)
        {
            let why = format!(
                "two models are called {:?}; give one an alias",
                profile.name
            );
            return Err(Failure::Usage(why).into());
        }
        let same = self
            .units
            .iter_mut()
            .find(|unit| unit.loading == served.loading);
        match same {
            Some(unit) => unit.manners.push((profile, served)),
            None => self.units.push(Unit {
                loading: served.loading.clone(),
                manners: vec![(profile, served)],
            }),
        }
        Ok(())
    }

    /// Whether the first model is loaded at once.
    pub(super) fn loads_first(&self) -> bool {
        self.has_model || self.units.len() == 1
    }

    /// What is offered, and how to load it, in one order.
    pub(super) fn offers(&self) -> (Vec<Offer>, Vec<Unit>) {
        let offers = self.units.iter().map(Unit::offer).collect();
        (offers, self.units.clone())
    }
}

/// A profile's name and flags: those of the command line, and its own over them. Without a model it
/// means the one of its name in the folder, which is then not listed twice, or that of the command
/// line, or where there is neither folder nor model the one inside the program.
fn profile(
    section: Section,
    found: &mut Vec<Found>,
    has_folder: bool,
) -> anyhow::Result<(Profile, ServedArgs)> {
    let Section { name, flags } = section;
    let wrong = |error: clap::Error| {
        let why = error.to_string();
        let why = why
            .trim_start_matches("error: ")
            .lines()
            .next()
            .unwrap_or_default();
        Failure::Usage(format!("the profile {name:?}: {why}"))
    };
    let says = |flag: &str| {
        flags
            .iter()
            .any(|said| said.to_string_lossy().starts_with(flag))
    };
    let (names_path, names_hub) = (says("--model="), says("--hf-repo="));
    let aliases = aliases(&flags);
    let mut served = args::serve_with(flags).map_err(wrong)?.model;
    let same = found.iter().position(|found| found.name == name);
    let path = match same {
        _ if names_path => served.loading.model.model.clone(),
        _ if names_hub => served.loading.model.path()?,
        Some(at) => Some(found.remove(at).path),
        None => served.loading.model.path()?,
    };
    name_model(&mut served, path);
    if served.loading.model.model.is_none() && has_folder {
        let why = format!(
            "the profile {name:?} names no model, nor is there one of its name in the folder; give \
             it `model = PATH`"
        );
        return Err(Failure::Usage(why).into());
    }
    Ok((Profile { name, aliases }, served))
}

/// The further names that a profile gives itself.
fn aliases(flags: &[OsString]) -> Vec<String> {
    let flags = flags.iter().map(|flag| flag.to_string_lossy());
    let mut named = flags.filter_map(|flag| flag.strip_prefix("--alias=").map(str::to_owned));
    let names = named.next_back().unwrap_or_default();
    let names = names.split(',').map(str::trim);
    names
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Says where the model is, however it was named.
fn name_model(served: &mut ServedArgs, path: Option<PathBuf>) {
    served.loading.model.hub = HubArgs::default();
    served.loading.model.model = path;
}

/// What a model is called that has no alias: as its file, or as the one inside the program.
fn default_name(served: &ServedArgs) -> String {
    match &served.loading.model.model {
        Some(path) => {
            let path: PathBuf = path.components().collect();
            if path.is_dir() {
                let name = path.file_name().unwrap_or(path.as_os_str());
                name.to_string_lossy().into_owned()
            } else {
                folder::name_of(&path)
            }
        }
        None => "tidemill-tiny".to_owned(),
    }
}
