//! Which of a repository's files are the model that is wanted. Only names are looked at.

use std::collections::BTreeSet;
use std::path::Path;

use formats::gguf::SplitName;

use super::name::Wanted;
use crate::foreign::nearest;

/// The types to take where none is named, the best first: those that are small and hardly worse than
/// what they were made of, then better ones, then worse ones, then what no type was chosen for.
pub(super) const USUAL: [&str; 24] = [
    "Q4_K_M",
    "Q4_K_XL",
    "Q4_K_S",
    "MXFP4_MOE",
    "MXFP4",
    "IQ4_NL",
    "IQ4_XS",
    "Q4_1",
    "Q4_0",
    "Q5_K_M",
    "Q5_K_XL",
    "Q5_K_S",
    "Q6_K",
    "Q8_0",
    "Q3_K_XL",
    "Q3_K_L",
    "Q3_K_M",
    "IQ3_M",
    "Q3_K_S",
    "IQ3_S",
    "Q2_K",
    "BF16",
    "F16",
    "F32",
];

/// Files that make a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Choice {
    /// All of them; the first of a split model is its first part.
    pub(super) files: Vec<String>,
    /// The model is the folder that they are in.
    pub(super) is_folder: bool,
}

/// The files that are wanted among those of a repository.
///
/// # Errors
/// Why there are none, with what there is instead.
pub(super) fn choose(files: &[String], wanted: &Wanted) -> Result<Choice, String> {
    let models: Vec<&String> = files.iter().filter(|path| is_model(path)).collect();
    let file = match wanted {
        Wanted::File(path) => match files.iter().find(|file| *file == path) {
            Some(file) => file,
            None => return Err(missing("file", path, models.iter().map(|path| &***path))),
        },
        Wanted::Type(kind) => match of_type(&models, kind) {
            Some(file) => file,
            None => return Err(no_type(files, kind, &types(&models))),
        },
        Wanted::Usual if models.is_empty() => {
            let checkpoint = checkpoint(files);
            return checkpoint.ok_or_else(|| "there is no model in it that runs here".to_owned());
        }
        Wanted::Usual => {
            let usual = USUAL.iter().find_map(|kind| of_type(&models, kind));
            usual.unwrap_or(models[0])
        }
    };
    Ok(Choice {
        files: parts(file, files)?,
        is_folder: false,
    })
}

/// The types that there are among a repository's files, in their order of size as far as their names
/// tell it.
pub(super) fn all_types(files: &[String]) -> BTreeSet<String> {
    let models: Vec<&String> = files.iter().filter(|path| is_model(path)).collect();
    types(&models)
}

/// What reads images (`mmproj`), which runs beside a model.
pub(super) fn image_readers(files: &[String]) -> impl Iterator<Item = &String> {
    files
        .iter()
        .filter(|path| is_gguf(path) && name_of(path).contains("mmproj"))
}

/// Whether a file is a model: of a split one only the first part is.
fn is_model(path: &str) -> bool {
    let name = name_of(path);
    let is_first = SplitName::parse(Path::new(&name)).is_none_or(|split| split.part == 0);
    let is_other = ["mmproj", "imatrix"]
        .iter()
        .any(|other| name.contains(other));
    is_gguf(path) && is_first && !is_other
}

fn is_gguf(path: &str) -> bool {
    name_of(path).ends_with(".gguf")
}

/// In small letters.
fn name_of(path: &str) -> String {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.to_ascii_lowercase()
}

/// The model of a type, the plainest if there are several.
fn of_type<'f>(models: &[&'f String], kind: &str) -> Option<&'f String> {
    let kind = kind.to_ascii_lowercase();
    let likeness = |path: &str| -> Option<usize> {
        let own = type_of(path).map(|own| own.to_ascii_lowercase());
        match own {
            Some(own) if own == kind => Some(0),
            Some(own) if own.strip_prefix("ud-") == Some(&kind) => Some(1),
            _ => has_word(&path.to_ascii_lowercase(), &kind).then_some(2),
        }
    };
    let alike = models
        .iter()
        .filter_map(|path| Some((likeness(path)?, path.len(), *path)));
    alike.min().map(|(_, _, path)| path)
}

/// Whether a word stands in a path by itself: `f16` is not in `bf16`, nor `q4_k` in `q4_k_m`.
fn has_word(path: &str, word: &str) -> bool {
    let is_inner = |c: char| c.is_ascii_alphanumeric();
    path.match_indices(word).any(|(at, _)| {
        let (before, after) = (&path[..at], &path[at + word.len()..]);
        !before.ends_with(is_inner) && !after.starts_with(|c| is_inner(c) || c == '_')
    })
}

/// The type that a path names, as `Q4_K_M` or `UD-Q4_K_XL`.
fn type_of(path: &str) -> Option<String> {
    let stem = path.strip_suffix(".gguf").unwrap_or(path);
    let words: Vec<&str> = stem.split(['-', '.', '/']).collect();
    let at = words.iter().rposition(|word| type_in(word).is_some())?;
    let kind = type_in(words[at])?.to_ascii_uppercase();
    let is_dynamic = at > 0 && words[at - 1].eq_ignore_ascii_case("UD");
    Some(if is_dynamic {
        format!("UD-{kind}")
    } else {
        kind
    })
}

/// The type at a word's end, which may have been tied to what is before it by `_`.
fn type_in(word: &str) -> Option<&str> {
    let starts = std::iter::once(0).chain(word.match_indices('_').map(|(at, _)| at + 1));
    starts.map(|at| &word[at..]).find(|rest| is_type(rest))
}

fn is_type(word: &str) -> bool {
    let word = word.to_ascii_lowercase();
    let is_quant = ["q", "iq", "tq"].iter().any(|start| {
        let rest = word.strip_prefix(start);
        rest.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    });
    let is_float = ["bf16", "f16", "fp16", "f32", "fp32"].contains(&word.as_str());
    let is_packed = word.starts_with("mxfp4") || word.starts_with("nvfp4");
    is_quant || is_float || is_packed
}

fn types(models: &[&String]) -> BTreeSet<String> {
    models.iter().filter_map(|path| type_of(path)).collect()
}

/// The file, or all parts of it if it is the first of several.
fn parts(file: &str, files: &[String]) -> Result<Vec<String>, String> {
    let Some(split) = SplitName::parse(Path::new(file)) else {
        return Ok(vec![file.to_owned()]);
    };
    let known: BTreeSet<&str> = files.iter().map(String::as_str).collect();
    let mut parts = Vec::new();
    for part in 0..split.count {
        let path = split.path_of(part).to_string_lossy().replace('\\', "/");
        if !known.contains(path.as_str()) {
            return Err(format!("{path} is missing, a part of a split model"));
        }
        parts.push(path);
    }
    Ok(parts)
}

/// The files of a Hugging Face checkpoint, if that is what the repository is.
fn checkpoint(files: &[String]) -> Option<Choice> {
    let is_weights = |path: &str| path.ends_with(".safetensors");
    let is_wanted = |path: &&String| {
        let is_text = [".json", ".jinja", ".txt"]
            .iter()
            .any(|end| path.ends_with(end));
        !path.contains('/') && (is_weights(path) || is_text)
    };
    let chosen: Vec<String> = files.iter().filter(is_wanted).cloned().collect();
    let has_config = chosen.iter().any(|path| path == "config.json");
    let mut weights = chosen.iter().filter(|path| is_weights(path)).peekable();
    let is_whole = weights.peek().is_some() && weights.all(|path| has_all_parts(path, &chosen));
    (has_config && is_whole).then_some(Choice {
        files: chosen,
        is_folder: true,
    })
}

/// Whether all parts of weights in several files are there. Their names are as those of GGUF files.
fn has_all_parts(file: &str, files: &[String]) -> bool {
    let Some(split) = SplitName::parse(&Path::new(file).with_extension("gguf")) else {
        return true;
    };
    let part = |number| split.path_of(number).with_extension("safetensors");
    (0..split.count).all(|number| files.iter().any(|file| Path::new(file) == part(number)))
}

fn no_type(files: &[String], kind: &str, types: &BTreeSet<String>) -> String {
    if types.is_empty() && checkpoint(files).is_some() {
        return format!("it holds a checkpoint and no {kind}; leave {kind:?} away");
    }
    missing("type", kind, types.iter().map(String::as_str))
}

/// What there is instead of what was asked for.
fn missing<'n>(what: &str, asked: &str, there: impl Iterator<Item = &'n str>) -> String {
    let there: Vec<&str> = there.collect();
    if there.is_empty() {
        return format!("there is no {what} {asked:?}, and no model either");
    }
    let upper = asked.to_ascii_uppercase();
    let near = nearest(&upper, there.iter().copied());
    let near = near.map_or_else(String::new, |near| format!("; did you mean {near:?}?"));
    let list = there.join(", ");
    format!("there is no {what} {asked:?}, but {list}{near}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &str) -> Vec<String> {
        list.split_whitespace().map(str::to_owned).collect()
    }

    fn check(files: &str, wanted: &str, want: Result<&str, &str>) {
        let wanted = match wanted {
            "" => Wanted::Usual,
            path if path.ends_with(".gguf") => Wanted::File(path.to_owned()),
            kind => Wanted::Type(kind.to_owned()),
        };
        match (choose(&names(files), &wanted), want) {
            (Ok(choice), Ok(want)) => assert_eq!(choice.files.join(" "), want, "{wanted:?}"),
            (Err(why), Err(want)) => assert!(why.contains(want), "{wanted:?}: {why}"),
            (found, _) => panic!("{files:?}, {wanted:?}: {found:?}"),
        }
    }

    #[test]
    fn types_are_read_from_names() {
        let check = |path: &str, want: &str| {
            assert_eq!(type_of(path).unwrap_or_default(), want, "{path}");
        };
        check("Qwen3.5-35B-A3B-Q4_K_M.gguf", "Q4_K_M");
        check("Qwen3.5-35B-A3B.i1-IQ3_XXS.gguf", "IQ3_XXS");
        check("UD-Q4_K_XL/m-UD-Q4_K_XL-00001-of-00002.gguf", "UD-Q4_K_XL");
        check("BF16/model-00001-of-00002.gguf", "BF16");
        check("model_q8_0.gguf", "Q8_0");
        check("m-MXFP4_MOE.gguf", "MXFP4_MOE");
        check("Qwen3.5-4B.gguf", "");
    }

    #[test]
    fn the_type_that_is_named_or_usual_is_chosen() {
        let files = "README.md m-BF16.gguf m-Q4_K_M.gguf m-Q4_K_S.gguf m-Q8_0.gguf m-UD-Q4_K_XL.gguf \
                     mmproj-F16.gguf m.imatrix.gguf";
        check(files, "", Ok("m-Q4_K_M.gguf"));
        check(files, "q8_0", Ok("m-Q8_0.gguf"));
        check(files, "Q4_K_XL", Ok("m-UD-Q4_K_XL.gguf"));
        check(files, "UD-Q4_K_XL", Ok("m-UD-Q4_K_XL.gguf"));
        check(files, "bf16", Ok("m-BF16.gguf"));
        check(files, "f16", Err("no type \"f16\""));
        check(files, "q4_k", Err("did you mean \"Q4_K_M\""));
        check(files, "m-Q8_0.gguf", Ok("m-Q8_0.gguf"));
        check(files, "mmproj-F16.gguf", Ok("mmproj-F16.gguf"));
        check(files, "m-Q8_1.gguf", Err("m-BF16.gguf, m-Q4_K_M.gguf"));
        check("m-Q8_0.gguf m-IQ4_XS.gguf", "", Ok("m-IQ4_XS.gguf"));
        check("m-i1-Q4_K_M.gguf m-Q4_K_M.gguf", "", Ok("m-Q4_K_M.gguf"));
        check("odd.gguf", "", Ok("odd.gguf"));
        check(
            "odd.gguf mtp-Q8_0-special.gguf",
            "special",
            Ok("mtp-Q8_0-special.gguf"),
        );
        check("README.md", "", Err("no model"));
        let readers = names(files);
        let readers: Vec<&String> = image_readers(&readers).collect();
        assert_eq!(readers, ["mmproj-F16.gguf"]);
    }

    #[test]
    fn split_models_are_whole_or_refused() {
        let whole = "Q8_0/m-00001-of-00002.gguf Q8_0/m-00002-of-00002.gguf";
        check(whole, "", Ok(whole));
        check(whole, "Q8_0", Ok(whole));
        let cut = "m-Q8_0-00001-of-00003.gguf m-Q8_0-00002-of-00003.gguf";
        check(cut, "", Err("m-Q8_0-00003-of-00003.gguf is missing"));
        check("m-Q8_0-00001-of-99999.gguf", "", Err("missing"));
    }

    #[test]
    fn checkpoints_are_folders() {
        let files = "README.md config.json model-00001-of-00001.safetensors tokenizer.json \
                     onnx/config.json vocab.txt x.bin";
        let choice = choose(&names(files), &Wanted::Usual).unwrap();
        let want = "config.json model-00001-of-00001.safetensors tokenizer.json vocab.txt";
        assert_eq!((choice.is_folder, choice.files), (true, names(want)));
        check(files, "Q4_K_M", Err("leave \"Q4_K_M\" away"));
        check("config.json", "", Err("no model"));
        check(
            "config.json m-00001-of-00002.safetensors",
            "",
            Err("no model"),
        );
    }
}
