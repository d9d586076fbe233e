//! The index against a list that is searched from end to end.

use proptest::prelude::*;

use super::super::format::Rows;
use super::super::index::{CacheFile, Content, FileId, Index};
use super::*;

const PAGE: usize = 2;

#[derive(Debug, Clone)]
enum Act {
    Pages { tokens: Vec<Key>, from: usize },
    Boundary { tokens: Vec<Key>, has_logits: bool },
    Touch { nth: usize },
    RemoveOldest,
    Find { tokens: Vec<Key> },
}

/// Few different tokens, so that prefixes are often shared.
fn prompt() -> impl Strategy<Value = Vec<Key>> {
    prop::collection::vec((0..2u32).prop_map(Key::text), 0..9)
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (prompt(), 0..4usize).prop_map(|(tokens, from)| Act::Pages { tokens, from }),
        4 => (prompt(), any::<bool>())
            .prop_map(|(tokens, has_logits)| Act::Boundary { tokens, has_logits }),
        1 => (0..20usize).prop_map(|nth| Act::Touch { nth }),
        1 => Just(Act::RemoveOldest),
        4 => prompt().prop_map(|tokens| Act::Find { tokens }),
    ]
}

/// What the list knows of a file.
struct Known {
    id: FileId,
    used: u64,
    /// All tokens up to its end, and its first page if it is a run.
    tokens: Vec<Key>,
    first_page: Option<usize>,
    has_logits: bool,
    name: String,
}

impl Known {
    fn holds_page(&self, page: &[Key]) -> bool {
        self.first_page
            .is_some_and(|first| page.len() > first * PAGE && self.tokens.starts_with(page))
    }
}

fn file(content: Content) -> CacheFile {
    CacheFile {
        name: folder::file_name(&content),
        bytes: 10,
        payload_at: 0,
        content,
    }
}

fn keys(tokens: &[Key]) -> Vec<ChainKey> {
    ChainKey::pages(tokens, PAGE).collect()
}

fn find_slowly(known: &[Known], tokens: &[Key]) -> Option<usize> {
    let reachable = |known_boundary: &&Known| {
        let end = known_boundary.tokens.len() / PAGE * PAGE;
        tokens.starts_with(&known_boundary.tokens)
            && (known_boundary.has_logits || known_boundary.tokens.len() < tokens.len())
            && (PAGE..=end)
                .step_by(PAGE)
                .all(|end| known.iter().any(|k| k.holds_page(&tokens[..end])))
    };
    let boundaries = known.iter().filter(|k| k.first_page.is_none());
    boundaries.filter(reachable).map(|k| k.tokens.len()).max()
}

/// For each file whose pages before are there: how many tokens are the same, and what it has next.
fn along_slowly(known: &[Known], tokens: &[Key]) -> Vec<(usize, Option<Key>)> {
    let here = |end: usize| known.iter().any(|k| k.holds_page(&tokens[..end]));
    let whole = (PAGE..=tokens.len())
        .step_by(PAGE)
        .take_while(|&end| here(end))
        .count()
        * PAGE;
    let reaches = |k: &&Known| {
        let first = k.first_page.unwrap_or(k.tokens.len() / PAGE) * PAGE;
        first <= whole && k.tokens.len() >= whole && k.tokens.starts_with(&tokens[..whole])
    };
    let page_of = |k: &Known| match k.first_page {
        Some(_) => k.tokens[..k.tokens.len().min(whole + PAGE)].to_vec(),
        None => k.tokens.clone(),
    };
    let is_close = |k: &&Known| k.first_page.is_some() || k.tokens.len() < whole + PAGE;
    let along = known.iter().filter(reaches).filter(is_close).map(page_of);
    along
        .map(|other| {
            let same = tokens
                .iter()
                .zip(&other)
                .take_while(|(a, b)| a == b)
                .count();
            (
                same,
                other.get(same).filter(|_| same < tokens.len()).copied(),
            )
        })
        .chain([(whole, None)])
        .collect()
}

proptest! {
    #[test]
    fn the_index_finds_what_a_list_finds(acts in prop::collection::vec(act(), 1..60)) {
        let mut index = Index::default();
        let mut known: Vec<Known> = Vec::new();
        for (now, act) in (1..).zip(acts) {
            match act {
                Act::Pages { tokens, from } => {
                    let tokens = tokens[..tokens.len() / PAGE * PAGE].to_vec();
                    let all = keys(&tokens);
                    if from < all.len() {
                        let pages = all[from..].iter().map(|&key| (key, [0; 32])).collect();
                        let file = file(Content::Run {
                            parent: from.checked_sub(1).map_or(ChainKey::ROOT, |at| all[at]),
                            first_page: from as u32,
                            pages,
                            tokens: tokens[from * PAGE..].into(),
                        });
                        let name = file.name.clone();
                        known.retain(|k| k.name != name);
                        let id = index.insert(file, now);
                        known.push(Known { id, used: now, tokens, first_page: Some(from), has_logits: false, name });
                    }
                }
                Act::Boundary { tokens, has_logits } => {
                    let all = keys(&tokens);
                    let file = file(Content::Boundary {
                        pages_key: all.last().copied().unwrap_or(ChainKey::ROOT),
                        whole_pages: all.len() as u32,
                        tail: tokens[all.len() * PAGE..].to_vec(),
                        kind: BoundaryKind::Spaced,
                        rows: Rows { hidden: false, logits: has_logits },
                        sum: [0; 32],
                    });
                    let name = file.name.clone();
                    known.retain(|k| k.name != name);
                    let id = index.insert(file, now);
                    known.push(Known { id, used: now, tokens, first_page: None, has_logits, name });
                }
                Act::Touch { nth } => {
                    if let Some(k) = known.get_mut(nth) {
                        k.used = now;
                        index.touch(&[k.id], now);
                    }
                }
                Act::RemoveOldest => {
                    let oldest = known.iter().map(|k| k.used).min();
                    prop_assert_eq!(index.oldest().map(|(used, _)| used), oldest);
                    if let Some((_, id)) = index.oldest() {
                        index.remove(id);
                        let lost = known.iter().position(|k| k.id == id).unwrap();
                        let removed = known.remove(lost);
                        // The list would find a page in any run that has it; the index forgets a
                        // page with the newest run that had it.
                        known.retain(|k| {
                            let stays = k.first_page.is_none() || removed.first_page.is_none();
                            if !stays { index.remove(k.id); }
                            stays
                        });
                    }
                }
                Act::Find { tokens } => {
                    let found = index.find(&tokens, PAGE);
                    prop_assert_eq!(found.map(|f| f.tokens), find_slowly(&known, &tokens));
                    let (matched, other) = index.parting(&tokens, &keys(&tokens), PAGE);
                    let along = along_slowly(&known, &tokens);
                    prop_assert_eq!(matched, along.iter().map(|(same, _)| *same).max().unwrap_or(0));
                    let others: Vec<_> = along.into_iter().filter(|(same, _)| *same == matched).map(|(_, other)| other).collect();
                    prop_assert!(others.contains(&other) || others.is_empty() && other.is_none());
                    prop_assert!(other.is_some() || others.iter().all(Option::is_none));
                }
            }
            index.assert_consistent();
            prop_assert_eq!(index.bytes(), 10 * known.len() as u64);
        }
    }
}
