//! What was stored and had to go, so that a miss can say so, also after a restart.
//!
//! ```text
//! CACHE_DIR/v1-IDENTITY/gone    a line for each: its tokens, and half of its key in hex
//! ```
//!
//! Nothing depends on it but what is said. So it is appended to without being synced, a line that
//! cannot be read is left out, and when it cannot be written nobody is told.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use super::folder::boundary_key;
use super::key::ChainKey;
use super::medium::partial_path;
use crate::cache::Key;

/// How many are remembered, the latest ones.
const MOST: usize = 8192;
/// No line is longer: a number, a space, 32 digits and the line's end.
const LINE_BYTES: usize = 20 + 1 + 32 + 1;

/// Boundaries that had to go.
#[derive(Debug, Default)]
pub(super) struct Gone {
    /// Keys by their tokens.
    keys: BTreeMap<usize, HashSet<String>>,
    order: VecDeque<(usize, String)>,
    /// Where it is written, if it may be.
    path: Option<PathBuf>,
}

impl Gone {
    /// What a folder remembers.
    pub(super) fn read(folder: &Path, may_write: bool) -> Self {
        let path = folder.join("gone");
        let mut gone = Self::default();
        let mut bytes = Vec::new();
        let most = 4 * (MOST * LINE_BYTES) as u64;
        let file = File::open(&path);
        file.and_then(|file| file.take(most).read_to_end(&mut bytes))
            .ok();
        let text = String::from_utf8_lossy(&bytes);
        for line in text.lines() {
            if let Some((tokens, key)) = parsed(line) {
                gone.insert(tokens, key);
            }
        }
        if !may_write {
            return gone;
        }
        if text.lines().count() > gone.order.len() {
            let lines = gone.order.iter().map(|(tokens, key)| line(*tokens, key));
            let partial = partial_path(&path);
            let written = fs::write(&partial, lines.collect::<String>());
            written.and_then(|()| fs::rename(&partial, &path)).ok();
        }
        gone.path = Some(path);
        gone
    }

    /// Notes that a boundary has to go.
    pub(super) fn note(
        &mut self,
        pages_key: ChainKey,
        whole_pages: u32,
        tail: &[Key],
        page: usize,
    ) {
        let tokens = whole_pages as usize * page + tail.len();
        let key = boundary_key(pages_key, tail).short();
        if let Some(path) = &self.path {
            let file = File::options().create(true).append(true).open(path);
            let text = line(tokens, &key);
            file.and_then(|mut file| file.write_all(text.as_bytes()))
                .ok();
        }
        self.insert(tokens, key);
    }

    /// The tokens of the longest boundary of a prompt that had to go, if that has more than `than`.
    /// `pages` are the keys of all of its whole pages.
    pub(super) fn longest(
        &self,
        tokens: &[Key],
        pages: &[ChainKey],
        page: usize,
        than: usize,
    ) -> Option<usize> {
        let lengths = self.keys.range(than + 1..=tokens.len().max(than + 1)).rev();
        let is_there = |&(&length, keys): &(&usize, &HashSet<String>)| {
            let whole = length / page;
            let pages_key = whole.checked_sub(1).map_or(ChainKey::ROOT, |at| pages[at]);
            let tail = &tokens[whole * page..length];
            keys.contains(&boundary_key(pages_key, tail).short())
        };
        let mut lengths = lengths.filter(|(length, _)| **length <= tokens.len());
        lengths.find(is_there).map(|(&length, _)| length)
    }

    fn insert(&mut self, tokens: usize, key: String) {
        if !self.keys.entry(tokens).or_default().insert(key.clone()) {
            return;
        }
        self.order.push_back((tokens, key));
        if self.order.len() > MOST
            && let Some((tokens, key)) = self.order.pop_front()
            && let Some(keys) = self.keys.get_mut(&tokens)
        {
            keys.remove(&key);
            if keys.is_empty() {
                self.keys.remove(&tokens);
            }
        }
    }
}

fn line(tokens: usize, key: &str) -> String {
    format!("{tokens} {key}\n")
}

fn parsed(line: &str) -> Option<(usize, String)> {
    let (tokens, key) = line.split_once(' ')?;
    let is_key = key.len() == 32 && key.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_key.then_some(())?;
    Some((tokens.parse().ok()?, key.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(count: u32) -> Vec<Key> {
        (0..count).map(Key::text).collect()
    }

    fn note(gone: &mut Gone, tokens: &[Key]) {
        let pages: Vec<ChainKey> = ChainKey::pages(tokens, 4).collect();
        let pages_key = pages.last().copied().unwrap_or(ChainKey::ROOT);
        gone.note(pages_key, pages.len() as u32, &tokens[pages.len() * 4..], 4);
    }

    fn longest(gone: &Gone, tokens: &[Key], than: usize) -> Option<usize> {
        let pages: Vec<ChainKey> = ChainKey::pages(tokens, 4).collect();
        gone.longest(tokens, &pages, 4, than)
    }

    #[test]
    fn what_went_is_remembered_over_restarts() {
        let folder = tempfile::tempdir().unwrap();
        let mut gone = Gone::read(folder.path(), true);
        for count in [3, 8, 13] {
            note(&mut gone, &tokens(count));
        }
        // A line that was cut, and one that is none.
        let file = File::options()
            .append(true)
            .open(folder.path().join("gone"));
        let mut file = file.unwrap();
        file.write_all(b"17 0123\nnonsense\n\xff").unwrap();
        for gone in [gone, Gone::read(folder.path(), true)] {
            assert_eq!(longest(&gone, &tokens(20), 0), Some(13));
            assert_eq!(longest(&gone, &tokens(12), 0), Some(8));
            assert_eq!(longest(&gone, &tokens(8), 8), None);
            assert_eq!(longest(&gone, &tokens(2), 0), None);
            let mut other = tokens(20);
            other[2] = Key::text(99);
            assert_eq!(longest(&gone, &other, 0), None);
        }
    }
}
