//! What people write: `owner/model` or `owner/model:Q4_K_M`.

use std::fmt;
use std::str::FromStr;

use super::HubError;

/// A repository of models. Its names are safe as names of folders and in addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Repository {
    pub(super) owner: String,
    pub(super) model: String,
}

/// Which of a repository's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// The usual type, [`super::choose::USUAL`].
    Usual,
    /// The weights of this type, such as `Q8_0`.
    Type(String),
    /// The file of this path.
    File(String),
}

/// A repository, and which of its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ModelName {
    pub(super) repository: Repository,
    pub(super) wanted: Wanted,
}

/// More than any name has.
const LONGEST: usize = 96;

impl Repository {
    fn new(owner: &str, model: &str) -> Option<Self> {
        (is_name(owner) && is_name(model)).then(|| Self {
            owner: owner.to_owned(),
            model: model.to_owned(),
        })
    }

    /// That of a folder in the cache, such as `models--owner--model`.
    pub(super) fn of_folder(name: &str) -> Option<Self> {
        let (owner, model) = name.strip_prefix("models--")?.split_once("--")?;
        Self::new(owner, model)
    }

    /// Its folder in the cache.
    pub(super) fn folder(&self) -> String {
        format!("models--{}--{}", self.owner, self.model)
    }
}

/// Letters, digits and `-_.`, without what could lead out of a folder or be taken for its seams.
fn is_name(text: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    (1..=LONGEST).contains(&text.len())
        && text.chars().all(is_plain)
        && !text.contains("--")
        && !text.contains("..")
        && !text.starts_with(['-', '.'])
        && !text.ends_with(['-', '.'])
}

impl ModelName {
    /// The same repository, and the file of this path in it.
    pub(super) fn with_file(self, path: &str) -> Self {
        Self {
            wanted: Wanted::File(path.to_owned()),
            ..self
        }
    }
}

impl FromStr for ModelName {
    type Err = HubError;

    fn from_str(text: &str) -> Result<Self, HubError> {
        let wrong = || HubError::Name(text.to_owned());
        let (repository, wanted) = match text.split_once(':') {
            Some((_, "")) => return Err(wrong()),
            Some((repository, kind)) => (repository, Wanted::Type(kind.to_owned())),
            None => (text, Wanted::Usual),
        };
        let parts = repository.split_once('/');
        let repository = parts.and_then(|(owner, model)| Repository::new(owner, model));
        let repository = repository.ok_or_else(wrong)?;
        Ok(Self { repository, wanted })
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.owner, self.model)
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let repository = &self.repository;
        match &self.wanted {
            Wanted::Usual => write!(f, "{repository}"),
            Wanted::Type(kind) => write!(f, "{repository}:{kind}"),
            Wanted::File(path) => write!(f, "{repository}, {path}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_an_owner_a_model_and_a_type() {
        let check = |text: &str, want: Option<(&str, Wanted)>| {
            let found: Option<ModelName> = text.parse().ok();
            let found = found.map(|name| (name.repository.folder(), name.wanted));
            let want = want.map(|(folder, wanted)| (folder.to_owned(), wanted));
            assert_eq!(found, want, "{text:?}");
        };
        check("a/b", Some(("models--a--b", Wanted::Usual)));
        check(
            "some-one/Qwen3.5_x:UD-Q4_K_XL",
            Some((
                "models--some-one--Qwen3.5_x",
                Wanted::Type("UD-Q4_K_XL".to_owned()),
            )),
        );
        for wrong in [
            "model", "/x", "a/", "a/b/c", "a/b:", "../b", "a/..", "a/.b", "a\\b/c", "a/b c",
            "a--b/c", "", "a/b\0",
        ] {
            check(wrong, None);
        }
        check(&format!("a/{}", "b".repeat(97)), None);
    }

    #[test]
    fn folders_are_read_back() {
        let name = Repository::of_folder("models--a--b-c").unwrap();
        assert_eq!(name.to_string(), "a/b-c");
        for wrong in ["datasets--a--b", "models--a", "models--a--..", "x"] {
            assert_eq!(Repository::of_folder(wrong), None, "{wrong}");
        }
    }
}
