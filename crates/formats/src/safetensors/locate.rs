//! Finds the files that make up a checkpoint.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::error::{CheckpointError, Problem};
use crate::json::{JsonError, read_json};

const INDEX: &str = "model.safetensors.index.json";
const INDEX_END: &str = ".safetensors.index.json";

/// An index with a line for each of 200,000 experts' matrices has 20 MB.
const MAX_INDEX_BYTES: u64 = 64 << 20;

/// The files of a checkpoint and, if there is an index, where each tensor should be.
#[derive(Debug, Default)]
pub(super) struct Layout {
    pub(super) files: Vec<PathBuf>,
    /// The tensors that the index promises, by file.
    pub(super) promised: Option<BTreeMap<String, Vec<String>>>,
}

#[derive(Deserialize)]
struct Index {
    /// From tensor to file.
    weight_map: BTreeMap<String, String>,
}

/// Finds the files of the checkpoint at `path`: a folder, an index, a file, or one of its shards.
pub(super) fn locate(path: &Path) -> Result<Layout, CheckpointError> {
    if path.is_dir() {
        return locate_in_folder(path);
    }
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or("");
    if name.ends_with(INDEX_END) {
        return read_index(path);
    }
    if let Some((base, count)) = shard_name(name).filter(|&(_, count)| count > 1) {
        let index = format!("{base}{INDEX_END}");
        let index_path = path.with_file_name(&index);
        if !index_path.exists() {
            let problem = Problem::NoIndexForShard { count, index };
            return Err(CheckpointError::new(path, problem));
        }
        return read_index(&index_path);
    }
    Ok(Layout::of_file(path))
}

impl Layout {
    fn of_file(path: &Path) -> Self {
        Self {
            files: vec![path.to_owned()],
            promised: None,
        }
    }
}

fn locate_in_folder(folder: &Path) -> Result<Layout, CheckpointError> {
    let index = folder.join(INDEX);
    if index.exists() {
        return read_index(&index);
    }
    let single = folder.join("model.safetensors");
    if single.exists() {
        return Ok(Layout::of_file(&single));
    }
    let io_error = |error| CheckpointError::new(folder, Problem::Io(error));
    let mut found = Vec::new();
    for entry in folder.read_dir().map_err(io_error)? {
        let path = entry.map_err(io_error)?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "safetensors")
        {
            found.push(path);
        }
    }
    match &found[..] {
        [] => Err(CheckpointError::new(folder, Problem::NothingThere)),
        [one] => locate(one),
        many => {
            let count = many.len();
            Err(CheckpointError::new(folder, Problem::NoIndex { count }))
        }
    }
}

fn read_index(path: &Path) -> Result<Layout, CheckpointError> {
    let error = |problem| CheckpointError::new(path, problem);
    let index: Index = read_json(path, MAX_INDEX_BYTES).map_err(|problem| {
        error(match problem {
            JsonError::Io(error) => Problem::Io(error),
            JsonError::TooLarge { length, limit } => Problem::JsonTooLarge { length, limit },
            JsonError::Syntax(message) => Problem::BadIndex(message),
        })
    })?;
    let mut promised: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (tensor, file) in index.weight_map {
        promised.entry(file).or_default().push(tensor);
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut files = Vec::with_capacity(promised.len());
    for name in promised.keys() {
        // A name with a path in it could make us open any file of the machine.
        let is_plain = Path::new(name)
            .file_name()
            .is_some_and(|plain| plain == name.as_str());
        if !is_plain {
            let name = name.clone();
            return Err(error(Problem::BadShardName { name }));
        }
        files.push(folder.join(name));
    }
    if files.is_empty() {
        let message = "its weight_map is empty".to_owned();
        return Err(error(Problem::BadIndex(message)));
    }
    Ok(Layout {
        files,
        promised: Some(promised),
    })
}

/// `model` and 4 for `model-00002-of-00004.safetensors`.
fn shard_name(name: &str) -> Option<(&str, usize)> {
    let (rest, count) = name.strip_suffix(".safetensors")?.rsplit_once("-of-")?;
    let (base, number) = rest.rsplit_once('-')?;
    number.parse::<usize>().ok()?;
    Some((base, count.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shard_names_are_recognised() {
        assert_eq!(
            shard_name("m-a-00002-of-00004.safetensors"),
            Some(("m-a", 4))
        );
        for other in [
            "model.safetensors",
            "a-of-b.safetensors",
            "m-00001-of-00002.gguf",
        ] {
            assert_eq!(shard_name(other), None, "{other}");
        }
    }
}
