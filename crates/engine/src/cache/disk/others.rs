//! The folders of other models and settings, which share the directory's budget.

use std::collections::{HashSet, VecDeque};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::folder;
use super::format::VERSION;
use super::index::Tick;
use super::key::ChainKey;
use super::medium::used;
use crate::cache::Key;

/// Their files, the least recently used first, as they were at the start.
#[derive(Debug, Default)]
pub(super) struct Others {
    files: VecDeque<(Tick, PathBuf, u64)>,
    bytes: u64,
    /// The names of their boundaries, and how many whole pages lie before them.
    boundaries: HashSet<String>,
    whole_pages: HashSet<u32>,
}

impl Others {
    /// Lists the folders of `root` but `own`. Those of older versions are removed: this program
    /// cannot read them, and none that could will come back.
    ///
    /// # Errors
    /// If the directory cannot be listed.
    pub(super) fn list(root: &Path, own: &str, may_remove: bool) -> io::Result<Self> {
        let mut files = Vec::new();
        for entry in fs::read_dir(root)? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            let Some((name, version)) = name.and_then(|name| Some((name, version_of(name)?)))
            else {
                continue;
            };
            if name == own {
                continue;
            }
            let here = cache_files(&path);
            if version < VERSION && may_remove {
                remove_older(&path, &here);
            } else {
                files.extend(here);
            }
        }
        files.sort_unstable();
        let names = files
            .iter()
            .filter_map(|(_, path, _)| path.file_name()?.to_str());
        let boundaries: HashSet<String> = names
            .filter(|name| name.ends_with(folder::BOUNDARY))
            .map(str::to_owned)
            .collect();
        let pages = boundaries.iter().filter_map(|name| name.split('-').next());
        Ok(Self {
            whole_pages: pages.filter_map(|pages| pages.parse().ok()).collect(),
            boundaries,
            bytes: files.iter().map(|(.., bytes)| bytes).sum(),
            files: files.into(),
        })
    }

    /// Whether one of them has stored a prefix of `tokens`, going by names: they may lie in
    /// other sizes of pages, and their contents are none of this engine's business.
    pub(super) fn know_prefix(&self, tokens: &[Key], page_tokens: usize) -> bool {
        let is_known = |whole_pages: u32, key, rest: &[Key]| {
            self.whole_pages.contains(&whole_pages)
                && (0..=rest.len().min(page_tokens - 1)).any(|tail| {
                    let name = folder::boundary_name(whole_pages, key, &rest[..tail]);
                    self.boundaries.contains(&name)
                })
        };
        is_known(0, ChainKey::ROOT, tokens)
            || (1..)
                .zip(ChainKey::pages(tokens, page_tokens))
                .any(|(count, key)| is_known(count, key, &tokens[count as usize * page_tokens..]))
    }

    /// Bytes of all of them.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// When the oldest was last used.
    pub(super) fn oldest(&self) -> Option<Tick> {
        self.files.front().map(|(used, ..)| *used)
    }

    /// Removes the oldest, unless a process is working in its folder: that one sees to its own.
    pub(super) fn remove_oldest(&mut self) {
        let Some((_, path, bytes)) = self.files.pop_front() else {
            return;
        };
        let Some(folder) = path.parent() else {
            return;
        };
        match folder::lock(folder) {
            Ok(Some(_lock)) => {
                if fs::remove_file(&path).is_ok() {
                    self.bytes -= bytes;
                }
            }
            _ => self
                .files
                .retain(|(_, other, _)| !other.starts_with(folder)),
        }
    }
}

/// `v1-0123456789abcdef` is of version 1.
fn version_of(folder: &str) -> Option<u32> {
    let (version, identity) = folder.strip_prefix('v')?.split_once('-')?;
    let is_identity = identity.len() == 16 && identity.bytes().all(|b| b.is_ascii_hexdigit());
    is_identity.then(|| version.parse().ok())?
}

fn cache_files(folder: &Path) -> Vec<(Tick, PathBuf, u64)> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let files = entries.flatten().filter_map(|entry| {
        let path = entry.path();
        let extension = path.extension()?.to_str()?;
        let is_ours = [folder::RUN, folder::BOUNDARY].contains(&extension);
        let metadata = is_ours.then(|| entry.metadata().ok())??;
        Some((used(&metadata), path, metadata.len()))
    });
    files.collect()
}

fn remove_older(folder: &Path, files: &[(Tick, PathBuf, u64)]) {
    if let Ok(Some(lock)) = folder::lock(folder) {
        let count = files.len();
        tracing::warn!(
            folder = %folder.display(),
            count,
            "removed cache files that an older version of this program wrote"
        );
        for (_, path, _) in files {
            fs::remove_file(path).ok();
        }
        fs::remove_file(folder.join("lock")).ok();
        drop(lock);
        // Stays if something else lies in it.
        fs::remove_dir(folder).ok();
    }
}
