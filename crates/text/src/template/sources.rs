//! Finds a model's chat templates: in GGUF metadata, a file, or a Hugging Face folder.

use std::io;
use std::path::Path;

use formats::gguf::{Metadata, StringArray};
use serde::Deserialize;

use super::{ChatTemplate, TemplateError};

const GGUF_KEY: &str = "tokenizer.chat_template";

/// The name that a template without one goes by where several are listed.
const DEFAULT_NAME: &str = "default";

/// `chat_template` in `tokenizer_config.json`: one, or several with names.
#[derive(Deserialize)]
#[serde(untagged)]
enum Templates {
    One(String),
    Named(Vec<NamedTemplate>),
}

#[derive(Deserialize)]
struct NamedTemplate {
    name: String,
    template: String,
}

/// The part of `tokenizer_config.json` that matters here.
#[derive(Deserialize)]
struct Config {
    chat_template: Option<Templates>,
}

impl ChatTemplate {
    /// The template in a GGUF file: `tokenizer.chat_template`, or `tokenizer.chat_template.NAME`.
    ///
    /// # Errors
    /// When there is none of that name, or it has a mistake.
    pub fn from_gguf(metadata: &Metadata, name: Option<&str>) -> Result<Self, TemplateError> {
        let key = match name {
            Some(name) => format!("{GGUF_KEY}.{name}"),
            None => GGUF_KEY.to_owned(),
        };
        let Some(source) = metadata.find::<&str>(&key)? else {
            let prefix = format!("{GGUF_KEY}.");
            let names = metadata.iter().filter_map(|(key, _)| {
                let is_default = key == GGUF_KEY;
                is_default
                    .then_some("a default one")
                    .or_else(|| key.strip_prefix(&prefix))
            });
            return Err(not_found(name, "the GGUF metadata", names));
        };
        let mut template = Self::new(source)?;
        for (variable, key) in [
            ("bos_token", "tokenizer.ggml.bos_token_id"),
            ("eos_token", "tokenizer.ggml.eos_token_id"),
        ] {
            let tokens = metadata.find::<&StringArray>("tokenizer.ggml.tokens")?;
            if let (Some(id), Some(tokens)) = (metadata.find::<usize>(key)?, tokens)
                && let Some(text) = tokens.get(id)
            {
                template.set_variable(variable, text);
            }
        }
        Ok(template)
    }

    /// The template in a file of its own.
    ///
    /// # Errors
    /// When the file cannot be read or has a mistake.
    pub fn from_file(path: &Path) -> Result<Self, TemplateError> {
        let source = std::fs::read_to_string(path).map_err(|source| TemplateError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::new(&source)
    }

    /// The template in a Hugging Face folder: `chat_template.jinja` (with a name,
    /// `additional_chat_templates/NAME.jinja`), or else in `tokenizer_config.json`.
    ///
    /// # Errors
    /// When there is none of that name, or it has a mistake.
    pub fn from_hugging_face(folder: &Path, name: Option<&str>) -> Result<Self, TemplateError> {
        let own_file = match name {
            // A name is part of a path here: it must not lead out of the folder.
            Some(name) if name.contains(['/', '\\']) => None,
            Some(name) => Some(format!("additional_chat_templates/{name}.jinja")),
            None => Some("chat_template.jinja".to_owned()),
        };
        if let Some(file) = own_file
            && let Some(source) = read_if_present(&folder.join(file))?
        {
            return Self::new(&source);
        }

        let path = folder.join("tokenizer_config.json");
        let place = folder.display().to_string();
        let Some(json) = read_if_present(&path)? else {
            return Err(not_found(name, &place, []));
        };
        let config: Config = serde_json::from_str(&json).map_err(|source| TemplateError::Json {
            what: path.display().to_string(),
            source,
        })?;
        match (config.chat_template, name) {
            (Some(Templates::One(source)), None) => Self::new(&source),
            (Some(Templates::One(_)), _) => Err(not_found(name, &place, ["a default one"])),
            (Some(Templates::Named(all)), _) => {
                let wanted = name.unwrap_or(DEFAULT_NAME);
                match all.iter().find(|template| template.name == wanted) {
                    Some(found) => Self::new(&found.template),
                    None => Err(not_found(name, &place, all.iter().map(|t| t.name.as_str()))),
                }
            }
            (None, _) => Err(not_found(name, &place, [])),
        }
    }
}

fn not_found<'a>(
    name: Option<&str>,
    place: &str,
    names: impl IntoIterator<Item = &'a str>,
) -> TemplateError {
    let names: Vec<_> = names.into_iter().collect();
    TemplateError::NotFound {
        name: name.map(str::to_owned),
        place: place.to_owned(),
        available: match names.as_slice() {
            [] => "none".to_owned(),
            names => names.join(", "),
        },
    }
}

fn read_if_present(path: &Path) -> Result<Option<String>, TemplateError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(TemplateError::Read {
            path: path.to_owned(),
            source,
        }),
    }
}
