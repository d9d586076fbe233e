//! What the Hub says a repository holds.

use std::path::{Component, Path};

use serde::Deserialize;

/// A repository as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listing {
    /// The name of this state of it, in hex digits.
    pub(super) commit: String,
    pub(super) files: Vec<RemoteFile>,
}

/// A file at the Hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RemoteFile {
    /// Where it is in the repository, with `/` between folders; safe to be joined to a folder.
    pub(super) path: String,
    pub(super) bytes: u64,
    pub(super) digest: Digest,
}

/// What a file's bytes add up to, in small hex digits. It names them in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Digest {
    /// Of large files.
    Sha256(String),
    /// Of small ones: SHA-1 behind a header, as git has it.
    Git(String),
}

impl Digest {
    /// Its digits.
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Sha256(text) | Self::Git(text) => text,
        }
    }
}

#[derive(Deserialize)]
struct Model {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    blob_id: Option<String>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    sha256: String,
    size: u64,
}

/// Reads what the Hub answered. Files of which it tells neither size nor digest are passed over.
///
/// # Errors
/// When it is no such answer, or names what would lead out of the cache.
pub(super) fn read(json: &[u8]) -> Result<Listing, String> {
    let model: Model = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    let commit = digits(&model.sha, 40).ok_or_else(|| format!("{:?} is no commit", model.sha))?;
    let mut files = Vec::new();
    for sibling in model.siblings {
        let path = sibling.rfilename;
        if !is_safe(&path) {
            return Err(format!("{path:?} is no name of a file in a repository"));
        }
        let described = match (sibling.lfs, sibling.size, sibling.blob_id) {
            (Some(Lfs { sha256, size }), ..) => {
                digits(&sha256, 64).map(|digest| (size, Digest::Sha256(digest)))
            }
            (None, Some(size), Some(id)) => digits(&id, 40).map(|id| (size, Digest::Git(id))),
            _ => continue,
        };
        let Some((bytes, digest)) = described else {
            return Err(format!("the checksum of {path:?} is none"));
        };
        files.push(RemoteFile {
            path,
            bytes,
            digest,
        });
    }
    Ok(Listing { commit, files })
}

/// The text in small letters, if it is so many hex digits.
fn digits(text: &str, count: usize) -> Option<String> {
    let is_hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    (text.len() == count && is_hex).then(|| text.to_ascii_lowercase())
}

/// Whether a path stays below the folder that it is joined to, on any system.
fn is_safe(path: &str) -> bool {
    let is_plain = |c: char| !c.is_control() && !matches!(c, '\\' | ':');
    let mut parts = Path::new(path).components();
    !path.is_empty()
        && path.len() <= 1024
        && path.chars().all(is_plain)
        && !path.split('/').any(str::is_empty)
        && parts.all(|part| matches!(part, Component::Normal(_)))
        && path.split('/').all(|part| part != "." && part != "..")
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789ABCDEF01234567";

    fn listing(files: &str) -> Result<Listing, String> {
        read(format!(r#"{{"sha": "{COMMIT}", "siblings": [{files}], "gated": false}}"#).as_bytes())
    }

    #[test]
    fn files_have_sizes_and_digests() {
        let sha = "ab".repeat(32);
        let found = listing(&format!(
            r#"{{"rfilename": "a/b.gguf", "size": 7, "blobId": "{COMMIT}",
                "lfs": {{"sha256": "{sha}", "size": 7, "pointerSize": 134}}}},
               {{"rfilename": "config.json", "size": 5, "blobId": "{COMMIT}"}},
               {{"rfilename": "unknown.txt"}}"#
        ))
        .unwrap();
        assert_eq!(found.commit, COMMIT.to_ascii_lowercase());
        let file = |path: &str, bytes, digest| RemoteFile {
            path: path.to_owned(),
            bytes,
            digest,
        };
        let git = Digest::Git(COMMIT.to_ascii_lowercase());
        assert_eq!(
            found.files,
            [
                file("a/b.gguf", 7, Digest::Sha256(sha)),
                file("config.json", 5, git)
            ]
        );
    }

    #[test]
    fn what_leads_out_of_the_cache_is_refused() {
        for path in [
            "../x",
            "/etc/passwd",
            "a/../../x",
            "a//b",
            "",
            ".",
            "a/.",
            "..",
            "C:/x",
            "a\\\\b",
            "a\\u0000b",
            "a/",
        ] {
            let file = format!(r#"{{"rfilename": "{path}", "size": 5, "blobId": "{COMMIT}"}}"#);
            assert!(listing(&file).is_err(), "{path:?}");
        }
        let odd = r#"{"rfilename": "x", "size": 5, "blobId": "../../x"}"#;
        assert!(listing(odd).unwrap_err().contains("checksum"));
        assert!(read(br#"{"sha": "../x", "siblings": []}"#).is_err());
        assert!(read(b"<html>").is_err());
    }
}
