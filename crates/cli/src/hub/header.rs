//! The first bytes of files that are elsewhere: enough of each to know its tensors.
//!
//! What was read is written into a file that is as long as the whole one, and has a hole where the weights
//! would be. So everything that reads models reads these too, split ones included.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use formats::SharedBytes;
use formats::gguf::{GgufFile, Problem, SplitName};
use reqwest::blocking::Client;
use reqwest::header::{CONTENT_RANGE, HeaderMap, RANGE};
use reqwest::{StatusCode, Url};
use tempfile::TempDir;

use crate::exit::Failure;
use crate::{interrupt, output};

/// What is asked for first; as much again each time it is not enough. A vocabulary of 250,000 tokens takes
/// about 11 MB.
const FIRST: u64 = 2 << 20;

/// More than any header has.
const MOST: u64 = 256 << 20;

/// How long a connection may be silent.
const SILENCE: Duration = Duration::from_secs(30);

/// A file that can be read from any place.
pub(super) trait ReadAt {
    /// Some bytes from `from` on, at most `most`, and the length of the whole file.
    ///
    /// # Errors
    /// When they cannot be had.
    fn read_at(&mut self, from: u64, most: u64) -> anyhow::Result<(Vec<u8>, u64)>;
}

/// A folder that goes away with what was written into it.
///
/// # Errors
/// When there is no place for one.
pub(crate) fn folder() -> anyhow::Result<TempDir> {
    TempDir::with_prefix("tidemill-plan-").context("make a folder for headers")
}

/// Writes the header of a file to `path`, and the hole behind it.
///
/// # Errors
/// When it cannot be read or written, or has no header of a model.
pub(super) fn write(source: &mut dyn ReadAt, path: &Path) -> anyhow::Result<()> {
    let name = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let mut head = Vec::new();
    let mut want = FIRST;
    let whole = loop {
        interrupt::check()?;
        let from = head.len() as u64;
        let (bytes, whole) = source.read_at(from, want - from)?;
        let came = bytes.len();
        head.extend(bytes);
        if head.len() as u64 >= whole || (came > 0 && has_all(&name, &head)) {
            break whole;
        }
        if came == 0 || head.len() as u64 >= MOST {
            bail!(Failure::BadFile(format!(
                "{name}: no whole header in its first {}",
                output::bytes(head.len() as u64)
            )));
        }
        if head.len() as u64 >= want {
            want = want.saturating_mul(2).min(MOST);
        }
    };
    let write = || -> std::io::Result<()> {
        let mut file = File::create_new(path)?;
        file.write_all(&head)?;
        file.set_len(whole.max(head.len() as u64))
    };
    write().with_context(|| format!("write {}", path.display()))
}

/// Whether a file's beginning has all of its header, or is none that more bytes would mend.
fn has_all(name: &str, head: &[u8]) -> bool {
    fn is_cut(problem: &Problem) -> bool {
        match problem {
            Problem::EndsEarly { .. } | Problem::CountTooLarge { .. } => true,
            Problem::InKey { problem, .. } => is_cut(problem),
            _ => false,
        }
    }
    let found = GgufFile::examine_bytes(name, SharedBytes::from_vec(head.to_vec()));
    !found.problems.iter().any(|error| is_cut(&error.problem))
}

/// The header of the file at an address, and those of the other parts if it is one of several.
///
/// # Errors
/// As [`write()`].
pub(crate) fn of_url(address: &str, folder: &Path) -> anyhow::Result<PathBuf> {
    let wrong = || Failure::Usage(format!("{address:?} is no address of a file"));
    let url = Url::parse(address).map_err(|_| wrong())?;
    let last = url.path_segments().and_then(|mut parts| parts.next_back());
    let name = last.unwrap_or_default().to_owned();
    if !name.ends_with(".gguf") || name.contains(['%', '\\']) {
        let why =
            format!("{address:?} names no .gguf file; headers of others are not read from afar");
        bail!(Failure::Usage(why));
    }
    // The algorithms that the server has, too. A second call changes nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = Client::builder()
        .user_agent(concat!("tidemill/", env!("CARGO_PKG_VERSION")))
        .timeout(SILENCE)
        .build()?;
    let names = match SplitName::parse(Path::new(&name)) {
        Some(split) => (0..split.count).map(|part| split.path_of(part)).collect(),
        None => vec![PathBuf::from(&name)],
    };
    for part in &names {
        let mut url = url.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop().push(&part.to_string_lossy());
        }
        let mut remote = Remote {
            client: &client,
            url,
        };
        write(&mut remote, &folder.join(part))?;
    }
    Ok(folder.join(name))
}

/// A file that a server has.
struct Remote<'c> {
    client: &'c Client,
    url: Url,
}

impl ReadAt for Remote<'_> {
    fn read_at(&mut self, from: u64, most: u64) -> anyhow::Result<(Vec<u8>, u64)> {
        let range = format!("bytes={from}-{}", from + most.max(1) - 1);
        let request = self.client.get(self.url.clone()).header(RANGE, range);
        let mut shown = self.url.clone();
        // What is behind it may be a key.
        shown.set_query(None);
        let response = request.send().map_err(reqwest::Error::without_url);
        let response = response.with_context(|| format!("ask for {shown}"))?;
        let whole = match response.status() {
            StatusCode::PARTIAL_CONTENT => content_range(response.headers())
                .filter(|(start, _)| *start == from)
                .map(|(_, whole)| whole),
            // It sends all of it: what is before is passed over.
            StatusCode::OK => response.content_length().filter(|_| from == 0),
            status => bail!("{shown}: status {status}"),
        };
        let Some(whole) = whole else {
            bail!(
                "{shown}: the server does not send parts of files, or not the one that was asked for"
            );
        };
        let mut bytes = Vec::new();
        response.take(most).read_to_end(&mut bytes)?;
        Ok((bytes, whole))
    }
}

/// The first byte's place and the length of the whole file, of `bytes 5-9/10`.
pub(super) fn content_range(headers: &HeaderMap) -> Option<(u64, u64)> {
    let text = headers.get(CONTENT_RANGE)?.to_str().ok()?;
    let (bytes, whole) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, _) = bytes.split_once('-')?;
    Some((first.parse().ok()?, whole.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedded;
    use engine::OpenedModel;

    /// A file in memory that hands out at most so many bytes at a time.
    struct Memory {
        bytes: Vec<u8>,
        most: usize,
        asked: usize,
    }

    impl ReadAt for Memory {
        fn read_at(&mut self, from: u64, most: u64) -> anyhow::Result<(Vec<u8>, u64)> {
            self.asked += 1;
            let rest = &self.bytes[(from as usize).min(self.bytes.len())..];
            let count = rest.len().min(most as usize).min(self.most);
            Ok((rest[..count].to_vec(), self.bytes.len() as u64))
        }
    }

    fn tiny() -> Vec<u8> {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../models/tiny/tidemill-tiny.gguf"
        );
        std::fs::read(path).unwrap()
    }

    #[test]
    fn a_header_is_enough_to_take_a_model_apart() {
        let whole = embedded::open().unwrap().anatomy().unwrap();
        for most in [usize::MAX, 100_000] {
            let folder = folder().unwrap();
            let path = folder.path().join("tiny.gguf");
            let mut source = Memory {
                bytes: tiny(),
                most,
                asked: 0,
            };
            write(&mut source, &path).unwrap();
            let opened = OpenedModel::open(&path).unwrap();
            assert_eq!(opened.anatomy().unwrap(), whole);
            assert_eq!(opened.file_bytes(), tiny().len() as u64);
        }
    }

    #[test]
    fn what_is_no_model_is_refused_when_it_is_opened() {
        let folder = folder().unwrap();
        let path = folder.path().join("page.gguf");
        let mut source = Memory {
            bytes: b"<html>".repeat(1_000_000),
            most: usize::MAX,
            asked: 0,
        };
        write(&mut source, &path).unwrap();
        assert_eq!(source.asked, 1);
        assert!(OpenedModel::open(&path).is_err());
    }

    #[test]
    fn a_source_that_dries_up_is_refused() {
        let folder = folder().unwrap();
        let mut source = Memory {
            bytes: tiny(),
            most: 0,
            asked: 0,
        };
        let error = write(&mut source, &folder.path().join("x.gguf")).unwrap_err();
        assert!(error.to_string().contains("no whole header"), "{error}");
    }

    #[test]
    fn ranges_are_read() {
        let check = |text: &str, want| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_RANGE, text.parse().unwrap());
            assert_eq!(content_range(&headers), want, "{text}");
        };
        check("bytes 0-5/100", Some((0, 100)));
        check("bytes 5-9/10", Some((5, 10)));
        check("bytes 5-9/*", None);
        check("bytes */10", None);
        check("pages 1-2/3", None);
    }
}
