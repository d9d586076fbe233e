//! Finds a checkpoint's chat template.

use std::io;
use std::path::Path;

use anyhow::Context;
use serde_json::Value;

use crate::exit::Failure;

/// The template in `chat_template.jinja`, or else in `tokenizer_config.json`.
pub(crate) fn read(folder: &Path) -> anyhow::Result<Option<String>> {
    if let Some(template) = read_optional(&folder.join("chat_template.jinja"))? {
        return Ok(Some(template));
    }
    let path = folder.join("tokenizer_config.json");
    let Some(text) = read_optional(&path)? else {
        return Ok(None);
    };
    let config: Value = serde_json::from_str(&text)
        .map_err(|error| Failure::BadFile(format!("{}: {error}", path.display())))?;
    let template = match &config["chat_template"] {
        // Several templates by name; the default one is the model's.
        Value::Array(list) => list
            .iter()
            .find(|entry| entry["name"] == "default")
            .map_or(&Value::Null, |entry| &entry["template"]),
        template => template,
    };
    Ok(template.as_str().map(str::to_owned))
}

fn read_optional(path: &Path) -> anyhow::Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
    }
}
