//! The names of a split model's parts: `NAME-00002-of-00003.gguf`.

use std::path::{Path, PathBuf};

/// A part's file name, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SplitName {
    folder: PathBuf,
    base: String,
    /// Which part this is, counted from 0.
    pub part: usize,
    /// How many parts there are.
    pub count: usize,
}

impl SplitName {
    /// Takes a part's name apart; `None` if it has another form.
    pub fn parse(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?.strip_suffix(".gguf")?;
        let (rest, count) = name.rsplit_once("-of-")?;
        let (base, part) = rest.rsplit_once('-')?;
        let number = |digits: &str| -> Option<usize> {
            let is_number = digits.len() == 5 && digits.bytes().all(|b| b.is_ascii_digit());
            is_number.then(|| digits.parse().ok())?
        };
        let (part, count) = (number(part)?, number(count)?);
        (part >= 1 && part <= count).then(|| Self {
            folder: path.parent().unwrap_or(Path::new("")).to_owned(),
            base: base.to_owned(),
            part: part - 1,
            count,
        })
    }

    /// The path of part `part`, counted from 0.
    pub fn path_of(&self, part: usize) -> PathBuf {
        split_path(&self.folder.join(&self.base), part, self.count)
    }
}

/// The path of part `part` (counted from 0) of `count`, for a model at `base` (without `.gguf`).
pub fn split_path(base: &Path, part: usize, count: usize) -> PathBuf {
    let mut name = base.as_os_str().to_owned();
    name.push(format!("-{:05}-of-{count:05}.gguf", part + 1));
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart_and_put_together() {
        let name = SplitName::parse(Path::new("dir/m-x-00002-of-00003.gguf")).unwrap();
        assert_eq!((name.part, name.count), (1, 3));
        assert_eq!(name.path_of(0), Path::new("dir/m-x-00001-of-00003.gguf"));
        for other in [
            "m.gguf",
            "m-00000-of-00003.gguf",
            "m-00004-of-00003.gguf",
            "m-1-of-2.gguf",
        ] {
            assert_eq!(SplitName::parse(Path::new(other)), None, "{other}");
        }
    }
}
