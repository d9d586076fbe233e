//! Models that were downloaded by other programs: `-hf user/model[:type]` finds them in the caches of
//! Hugging Face's tools and of llama.cpp. Nothing is downloaded.

use std::path::{Path, PathBuf};

use crate::exit::Failure;

/// Where a repository's files may be, and how the files are told from others there.
struct Place {
    folder: PathBuf,
    /// What their names begin with.
    prefix: String,
}

/// The types that are looked for where none is named, as llama.cpp does.
const USUAL: [&str; 2] = ["q4_k_m", "q8_0"];

/// The model of a repository, by a name such as `user/model` or `user/model:Q8_0`.
///
/// # Errors
/// When the name makes no sense, or there is no such model in the caches.
pub(crate) fn find(name: &str) -> Result<PathBuf, Failure> {
    let (repository, kind) = match name.split_once(':') {
        Some((repository, kind)) => (repository, Some(kind.to_ascii_lowercase())),
        None => (name, None),
    };
    let Some((user, model)) = repository.split_once('/').filter(|(user, model)| {
        !user.is_empty() && !model.is_empty() && !model.contains(['/', '\\'])
    }) else {
        let why = format!("-hf {name:?}: expected such as user/model or user/model:Q4_K_M");
        return Err(Failure::Usage(why));
    };
    let places = places(user, model);
    match places.iter().find_map(|place| place.find(kind.as_deref())) {
        Some(path) => Ok(path),
        None => {
            let searched = places
                .iter()
                .map(|place| place.folder.display().to_string());
            let searched: Vec<String> = searched.collect();
            let include = kind.as_deref().unwrap_or("Q4_K_M").to_ascii_uppercase();
            Err(Failure::BadInput(format!(
                "-hf {name}: no such model was downloaded (looked in {}). This program downloads \
                 nothing; `hf download {repository} --include '*{include}*'` does",
                searched.join(", ")
            )))
        }
    }
}

fn places(user: &str, model: &str) -> Vec<Place> {
    let variable = |name: &str| {
        std::env::var_os(name)
            .filter(|v| !v.is_empty())
            .map(PathBuf::from)
    };
    let home = variable("HOME").or_else(|| variable("USERPROFILE"));
    let cache = variable("XDG_CACHE_HOME").or_else(|| Some(home?.join(".cache")));
    let in_cache = |name: &str| cache.as_ref().map(|cache| cache.join(name));
    let hub = variable("HF_HUB_CACHE")
        .or_else(|| Some(variable("HF_HOME")?.join("hub")))
        .or_else(|| in_cache("huggingface/hub"));
    let llama = variable("LLAMA_CACHE").or_else(|| in_cache("llama.cpp"));
    let mut places = Vec::new();
    if let Some(hub) = hub {
        let snapshots = hub
            .join(format!("models--{user}--{model}"))
            .join("snapshots");
        places.push(Place {
            folder: snapshots,
            prefix: String::new(),
        });
    }
    places.extend(llama.map(|folder| Place {
        folder,
        prefix: format!("{user}_{model}_").to_ascii_lowercase(),
    }));
    places
}

impl Place {
    fn find(&self, kind: Option<&str>) -> Option<PathBuf> {
        let mut files = Vec::new();
        let mut checkpoints = Vec::new();
        self.list(&self.folder, 3, &mut files, &mut checkpoints);
        files.sort();
        let named = |kind: &str| files.iter().find(|(name, _)| name.contains(kind));
        let found = match kind {
            Some(kind) => named(kind),
            None => USUAL.into_iter().find_map(named).or(files.first()),
        };
        let checkpoint = checkpoints.into_iter().next().filter(|_| kind.is_none());
        found.map(|(_, path)| path.clone()).or(checkpoint)
    }

    /// Files with weights by their names in small letters, and folders of checkpoints.
    fn list(
        &self,
        folder: &Path,
        depth: usize,
        files: &mut Vec<(String, PathBuf)>,
        checkpoints: &mut Vec<PathBuf>,
    ) {
        let Ok(entries) = std::fs::read_dir(folder) else {
            return;
        };
        for path in entries.flatten().map(|entry| entry.path()) {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let name = name.to_ascii_lowercase();
            if path.is_dir() {
                if depth > 1 {
                    self.list(&path, depth - 1, files, checkpoints);
                }
            } else if name == "config.json" && self.prefix.is_empty() {
                checkpoints.push(folder.to_owned());
            } else if let Some(own) = name.strip_prefix(&self.prefix) {
                let is_later_part = own.contains("-of-") && !own.contains("-00001-of-");
                let is_model = own.ends_with(".gguf") && !own.contains("mmproj");
                if is_model && !is_later_part {
                    files.push((own.to_owned(), path));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_type_that_was_named_or_is_usual_is_found() {
        let folder = tempfile::tempdir().unwrap();
        for file in [
            "abc/m-Q8_0.gguf",
            "abc/m-Q4_K_M-00001-of-00002.gguf",
            "abc/m-Q4_K_M-00002-of-00002.gguf",
            "abc/mmproj-F16.gguf",
            "abc/BF16/m-BF16.gguf",
        ] {
            let path = folder.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let place = Place {
            folder: folder.path().to_owned(),
            prefix: String::new(),
        };
        let check = |kind: Option<&str>, want: Option<&str>| {
            let found = place.find(kind);
            assert_eq!(found, want.map(|want| folder.path().join(want)), "{kind:?}");
        };
        check(None, Some("abc/m-Q4_K_M-00001-of-00002.gguf"));
        check(Some("q8_0"), Some("abc/m-Q8_0.gguf"));
        check(Some("bf16"), Some("abc/BF16/m-BF16.gguf"));
        check(Some("q2_k"), None);
        let other = Place {
            folder: folder.path().join("abc"),
            prefix: "m-q8".to_owned(),
        };
        assert_eq!(
            other.find(None),
            Some(folder.path().join("abc/m-Q8_0.gguf"))
        );
    }

    #[test]
    fn names_that_are_none_are_a_mistake() {
        for name in ["model", "/x", "a/", "a/b/c"] {
            assert!(matches!(find(name), Err(Failure::Usage(_))), "{name}");
        }
    }
}
