//! What is planned for: a file's header, the header of one that is elsewhere, or sizes alone.

use std::path::Path;

use engine::OpenedModel;
use engine::plan::{Anatomy, Block, PlanError, StoredTensorSize};
use formats::gguf::GgufFile;
use model::Config;

use super::PlanArgs;
use super::mixes::{MIXES, Stored};
use crate::exit::Failure;
use crate::export::layout::slots;
use crate::export::{Extras, Mix};
use crate::hub::{self, header};
use crate::synth::presets::{self, Preset};

/// What is planned for.
pub(super) struct Subject {
    pub(super) name: String,
    pub(super) anatomy: Anatomy,
    /// Where its sizes are from.
    pub(super) from: String,
    /// Whether its output head is the embedding.
    is_tied: bool,
}

impl Subject {
    /// The model that was named.
    ///
    /// # Errors
    /// When there is none, or its header is damaged.
    pub(super) fn of(args: &PlanArgs) -> anyhow::Result<Self> {
        let subject = match (&args.model, &args.hub.hf_repo) {
            (_, Some(name)) => {
                let folder = header::folder()?;
                let path = hub::heads(name, &args.hub.fetching, folder.path())?;
                Self::of_file(&path, name)?
            }
            (Some(named), None)
                if named.starts_with("https://") || named.starts_with("http://") =>
            {
                let folder = header::folder()?;
                let path = header::of_url(named, folder.path())?;
                Self::of_file(&path, named)?
            }
            (Some(named), None) if Path::new(named).exists() => {
                Self::of_file(Path::new(named), named)?
            }
            (Some(named), None) => match preset(named) {
                Some((preset, mix)) => Self::of_preset(preset, mix)?,
                None => return Err(unknown(named).into()),
            },
            (None, None) => {
                let opened = crate::embedded::open()?;
                let name = opened.path.display().to_string();
                Self::of_opened(&opened, name, "the program".to_owned())?
            }
        };
        let Some(path) = &args.mmproj else {
            return Ok(subject);
        };
        let file = GgufFile::open(path)?;
        Ok(Self {
            anatomy: subject.anatomy.with_vision(file.tensors())?,
            ..subject
        })
    }

    fn of_file(path: &Path, name: &str) -> anyhow::Result<Self> {
        let opened = OpenedModel::open(path)?;
        Self::of_opened(&opened, name.to_owned(), "its header".to_owned())
    }

    fn of_opened(opened: &OpenedModel, name: String, from: String) -> anyhow::Result<Self> {
        let anatomy = opened.anatomy()?;
        Ok(Self {
            name,
            is_tied: anatomy.is_tied(),
            anatomy,
            from,
        })
    }

    /// A member of the family by its sizes.
    ///
    /// # Errors
    /// Never, as far as the presets are right.
    pub(super) fn of_preset(preset: &Preset, mix: impl Into<Stored>) -> Result<Self, PlanError> {
        let mix = mix.into();
        let config = preset.config(preset.layers, true);
        Ok(Self {
            name: format!("{}:{mix}", preset.name),
            anatomy: of_mix(&config, mix, preset.tied)?,
            from: "its published sizes".to_owned(),
            is_tied: preset.tied,
        })
    }

    /// The same model as each of the mixes would store it.
    ///
    /// # Errors
    /// As [`Subject::of_preset`].
    pub(super) fn mixes(&self) -> Result<Vec<(Stored, Anatomy)>, PlanError> {
        let config = &self.anatomy.config;
        let is_dense = self.anatomy.experts(Block::Layer(0)).is_none();
        let mixes = MIXES.into_iter();
        mixes
            // Without experts it is Q8_0 again.
            .filter(|mix| !(is_dense && *mix == Mix::MXFP4_MOE.into()))
            .map(|mix| {
                let mut anatomy = of_mix(config, mix, self.is_tied)?;
                // What reads images is a file of its own, whatever the model is stored as.
                let groups = self.anatomy.groups.iter();
                let vision = groups.filter(|group| group.block == Block::Vision);
                anatomy.groups.extend(vision.cloned());
                Ok((mix, anatomy))
            })
            .collect()
    }
}

/// A model's tensors as a mix stores them.
pub(super) fn of_mix(
    config: &Config,
    mix: impl Into<Stored>,
    is_tied: bool,
) -> Result<Anatomy, PlanError> {
    let mix = mix.into();
    let extras = Extras {
        head: !is_tied,
        ..Extras::default()
    };
    let tensors = slots(config, extras)
        .into_iter()
        .map(|slot| StoredTensorSize {
            name: slot.name(),
            dtype: mix.dtype(&slot, config, !is_tied),
            shape: slot.shape,
        });
    Anatomy::new(config.clone(), tensors)
}

/// The member of the family that a name such as `35b-a3b` or `35b-a3b:Q8_0` means.
fn preset(name: &str) -> Option<(&'static Preset, Stored)> {
    let (name, mix) = match name.split_once(':') {
        Some((name, mix)) => (name, Stored::named(mix)?),
        None => (name, Mix::Q4_K_M.into()),
    };
    Some((presets::find(name)?, mix))
}

/// What there is, for a name that is neither a file nor a member of the family.
fn unknown(named: &str) -> Failure {
    let names: Vec<&str> = presets::PRESETS.iter().map(|preset| preset.name).collect();
    Failure::BadFile(format!(
        "there is no file {named:?}, and no member of the family has that name; there are {}, each with a \
         type behind it, such as :Q8_0",
        names.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::super::mixes::Quantised;
    use super::*;

    #[test]
    fn members_of_the_family_are_named_with_a_type() {
        let check = |name: &str, want: Option<(&str, Stored)>| {
            let found = preset(name).map(|(preset, mix)| (preset.name, mix));
            assert_eq!(found, want, "{name}");
        };
        check("35B-A3B", Some(("qwen3.5-35b-a3b", Mix::Q4_K_M.into())));
        check("27b:q8_0", Some(("qwen3.5-27b", Mix::Q8_0.into())));
        let small = Stored::Quantised(Quantised::IQ3_XXS);
        check("27b:iq3_xxs", Some(("qwen3.5-27b", small)));
        check("27b:Q9", None);
        check("model.gguf", None);
    }
}
