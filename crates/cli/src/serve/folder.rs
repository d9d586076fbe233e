//! The models in a folder.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

/// A model in the folder: its name, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) name: String,
    pub(super) path: PathBuf,
}

/// The models in a folder, by name: GGUF files, and folders with one or with a checkpoint. Of a file
/// that is split the first part counts; what reads images (`mmproj`) is no model.
///
/// # Errors
/// When the folder cannot be read.
pub(super) fn models(folder: &Path) -> anyhow::Result<Vec<Found>> {
    let mut found = Vec::new();
    for path in entries(folder)? {
        if path.is_dir() {
            let name = text_of(path.file_name());
            if path.join("config.json").is_file() {
                found.push(Found { name, path });
            } else if let Some(path) = entries(&path)?.into_iter().find(|path| is_model(path)) {
                found.push(Found { name, path });
            }
        } else if is_model(&path) {
            let name = name_of(&path);
            found.push(Found { name, path });
        }
    }
    Ok(found)
}

/// What a model's file is called, without what says that it is split.
pub(super) fn name_of(path: &Path) -> String {
    let stem = text_of(path.file_stem());
    match part_of(&stem) {
        Some((name, _)) => name.to_owned(),
        None => stem,
    }
}

fn entries(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let read = || format!("read the folder {}", folder.display());
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).with_context(read)? {
        paths.push(entry.with_context(read)?.path());
    }
    paths.sort();
    Ok(paths)
}

fn is_model(path: &Path) -> bool {
    let is_gguf = path
        .extension()
        .is_some_and(|end| end.eq_ignore_ascii_case("gguf"));
    let stem = text_of(path.file_stem());
    let is_first = part_of(&stem).is_none_or(|(_, part)| part == 1);
    is_gguf && is_first && !stem.to_ascii_lowercase().starts_with("mmproj")
}

/// The name and number of a part, as in `model-00002-of-00003`.
fn part_of(stem: &str) -> Option<(&str, u32)> {
    let (rest, count) = stem.rsplit_once("-of-")?;
    let (name, part) = rest.rsplit_once('-')?;
    let is_number = |text: &str| text.len() == 5 && text.bytes().all(|b| b.is_ascii_digit());
    (is_number(count) && is_number(part)).then(|| part.parse().ok().map(|part| (name, part)))?
}

fn text_of(name: Option<&std::ffi::OsStr>) -> String {
    name.unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_files_first_parts_and_folders() {
        let folder = tempfile::tempdir().unwrap();
        for file in [
            "b.gguf",
            "a-00001-of-00002.gguf",
            "a-00002-of-00002.gguf",
            "mmproj-b.gguf",
            "notes.txt",
            "checkpoint/config.json",
            "split/m-00001-of-00002.gguf",
            "split/mmproj.gguf",
            "empty/readme.md",
        ] {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let found = models(folder.path()).unwrap();
        let found: Vec<(&str, String)> = found
            .iter()
            .map(|found| {
                let path = found.path.strip_prefix(folder.path()).unwrap();
                (found.name.as_str(), path.display().to_string())
            })
            .collect();
        let want = [
            ("a", "a-00001-of-00002.gguf"),
            ("b", "b.gguf"),
            ("checkpoint", "checkpoint"),
            ("split", "split/m-00001-of-00002.gguf"),
        ];
        assert_eq!(found, want.map(|(name, path)| (name, path.to_owned())));
        assert!(models(&folder.path().join("nowhere")).is_err());
    }
}
