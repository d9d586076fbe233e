//! The tier as its users see it: stored, found again, evicted, shared.

mod faults;
mod kill;
mod model;

use std::path::Path;

use tensor::StateSnapshot;

use super::*;

pub(super) const SHAPE: Shape = Shape {
    page_tokens: 4,
    page_bytes: 24,
    state_bytes: 16,
    hidden_bytes: 8,
    logits_bytes: 12,
};

pub(super) fn settings(folder: &Path) -> DiskSettings {
    DiskSettings {
        folder: folder.to_owned(),
        budget_bytes: 1 << 20,
        queue_bytes: 1 << 20,
        chain_boundaries: 100,
        identity: Identity::new(&[("model", b"test")]),
        shape: SHAPE,
    }
}

/// The bytes that the device would have for these tokens: they depend on all of them.
fn bytes_for(tokens: &[Key], what: &str, count: usize) -> Vec<u8> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(what.as_bytes());
    for token in tokens {
        hasher.update(&token.to_bits().to_le_bytes());
    }
    let mut out = vec![0; count];
    hasher.finalize_xof().fill(&mut out);
    out
}

fn values_for(tokens: &[Key], what: &str, bytes: usize) -> Vec<f32> {
    bytes_for(tokens, what, bytes)
        .chunks_exact(4)
        .map(|b| f32::from(b[0]) + f32::from(b[1]) / 256.0)
        .collect()
}

fn page(tokens: &[Key], index: usize) -> Vec<u8> {
    let end = ((index + 1) * SHAPE.page_tokens).min(tokens.len());
    bytes_for(&tokens[..end], "page", SHAPE.page_bytes)
}

/// Some have a hidden row, some logits, by their length.
fn snapshot(tokens: &[Key]) -> Snapshot {
    let row =
        |is_there: bool, what, bytes| is_there.then(|| values_for(tokens, what, bytes).into());
    Snapshot {
        state: Arc::new(StateSnapshot {
            values: values_for(tokens, "state", SHAPE.state_bytes).into(),
        }),
        hidden: row(tokens.len().is_multiple_of(3), "hidden", SHAPE.hidden_bytes),
        logits: row(tokens.len().is_multiple_of(2), "logits", SHAPE.logits_bytes),
    }
}

/// Stores the boundary behind `tokens`; returns how many whole pages had to be written, or `None`
/// if it is not wanted.
pub(super) fn put_as(tier: &mut DiskTier, tokens: &[Key], kind: BoundaryKind) -> Option<usize> {
    let offer = Offer {
        keys: tokens,
        kind,
        occasion: Occasion::Made,
    };
    if !tier.wants(&offer) {
        return None;
    }
    let whole = tokens.len() / SHAPE.page_tokens;
    let mut written = 0;
    let mut read = |index| {
        written += usize::from(index < whole);
        Ok(page(tokens, index))
    };
    let pages = tokens.len().div_ceil(SHAPE.page_tokens);
    tier.store(&offer, &snapshot(tokens), pages, &mut read)
        .unwrap();
    tier.flush();
    Some(written)
}

pub(super) fn put(tier: &mut DiskTier, tokens: &[Key]) -> Option<usize> {
    put_as(tier, tokens, BoundaryKind::EndOfMessage(3))
}

/// Reads the longest stored prefix, checks every byte, and returns its tokens.
pub(super) fn get(tier: &mut DiskTier, tokens: &[Key]) -> usize {
    while let Found::Entry { id, tokens: count } = tier.find(tokens, 0) {
        let loaded = loop {
            match tier.load(id) {
                Load::Ready(loaded) => break Some(loaded),
                Load::Gone => break None,
                Load::Pending => {}
            }
        };
        if let Some(loaded) = loaded {
            let prefix = &tokens[..count];
            let pages = count.div_ceil(SHAPE.page_tokens);
            let expected: Vec<_> = (0..pages).map(|index| page(prefix, index)).collect();
            assert_eq!(loaded.pages, expected, "pages of {count} tokens");
            assert_eq!(loaded.snapshot, snapshot(prefix));
            return count;
        }
    }
    0
}

pub(super) fn tokens(seed: u32, count: usize) -> Vec<Key> {
    (0..count as u32).map(|i| Key::text(i * 7 + seed)).collect()
}

pub(super) fn files_in(settings: &DiskSettings) -> Vec<PathBuf> {
    let folder = settings.folder.join(folder::name(&settings.identity));
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some())
        .collect();
    files.sort();
    files
}

#[test]
fn entries_are_found_again_also_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path());
    let all = tokens(0, 23);
    let mut tier = DiskTier::open(&settings).unwrap();
    assert_eq!(get(&mut tier, &all), 0);
    // Boundaries on and off the border of a page, and within the first page.
    for count in [3, 8, 10, 22] {
        put(&mut tier, &all[..count]).unwrap();
    }
    for restarted in [false, true] {
        if restarted {
            drop(tier);
            tier = DiskTier::open(&settings).unwrap();
        }
        // A prompt of which all is stored needs the logits too; at 3 tokens there are none.
        for (asked, expected) in [(2, 0), (3, 0), (4, 3), (9, 8), (10, 10), (21, 10), (23, 22)] {
            assert_eq!(get(&mut tier, &all[..asked]), expected, "{asked} tokens");
        }
        let mut other = all.clone();
        other[9] = Key::media(5);
        assert_eq!(get(&mut tier, &other), 8);
        assert_eq!(put(&mut tier, &all[..10]), None, "known");
        assert_eq!(
            tier.find(&all[..11], 10),
            Found::Nothing,
            "no longer than asked"
        );
    }
}

#[test]
fn pages_are_written_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut tier = DiskTier::open(&settings(folder.path())).unwrap();
    let all = tokens(0, 40);
    assert_eq!(put(&mut tier, &all[..10]), Some(2));
    assert_eq!(put(&mut tier, &all[..22]), Some(3));
    assert_eq!(put(&mut tier, &all[..23]), Some(0));
    let mut fork = all.clone();
    fork[13] = Key::text(99);
    assert_eq!(put(&mut tier, &fork[..20]), Some(2));
    assert_eq!(get(&mut tier, &fork), 20);
    assert_eq!(get(&mut tier, &all), 23);
}

#[test]
fn a_long_entry_is_split_into_runs() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path());
    let mut tier = DiskTier::open(&settings).unwrap();
    let all = tokens(0, 4 * (2 * format::MAX_RUN_PAGES + 5));
    put(&mut tier, &all).unwrap();
    assert_eq!(files_in(&settings).len(), 3 + 1);
    assert_eq!(get(&mut tier, &all), all.len());
}

#[test]
fn a_growing_conversation_keeps_its_newest_boundaries_and_shared_ones() {
    let folder = tempfile::tempdir().unwrap();
    let settings = DiskSettings {
        chain_boundaries: 2,
        ..settings(folder.path())
    };
    let mut tier = DiskTier::open(&settings).unwrap();
    let all = tokens(0, 40);
    put_as(&mut tier, &all[..6], BoundaryKind::EndOfSystem).unwrap();
    for count in [10, 20, 30, 40] {
        put(&mut tier, &all[..count]).unwrap();
    }
    assert_eq!(tier.stats().boundaries, 3);
    for (asked, expected) in [(29, 6), (30, 30), (39, 30), (40, 40)] {
        assert_eq!(get(&mut tier, &all[..asked]), expected);
    }
}

#[test]
fn who_waits_for_a_reading_does_not_begin_another() {
    let folder = tempfile::tempdir().unwrap();
    let mut tier = DiskTier::open(&settings(folder.path())).unwrap();
    let all = tokens(0, 22);
    put(&mut tier, &all).unwrap();
    let id_of = |found| match found {
        Found::Entry { id, .. } => id,
        other => panic!("{other:?}"),
    };
    let longer = tokens(0, 30);
    let id = id_of(tier.find(&longer, 0));
    // The reader cannot get on while the books are held.
    let store = Arc::clone(&tier.store);
    let books = store.books();
    assert!(matches!(tier.load(id), Load::Pending));
    drop(books);
    assert_eq!(id_of(tier.find(&longer, 0)), id);
    assert_eq!(get(&mut tier, &longer), 22);
    assert_eq!(tier.stats().hits, 1, "it was read once");
}

#[test]
fn the_place_behind_the_last_question_stays() {
    let folder = tempfile::tempdir().unwrap();
    let settings = DiskSettings {
        chain_boundaries: 2,
        ..settings(folder.path())
    };
    let mut tier = DiskTier::open(&settings).unwrap();
    let all = tokens(0, 60);
    put_as(&mut tier, &all[..6], BoundaryKind::EndOfQuestion(0)).unwrap();
    for count in [14, 22, 30] {
        put(&mut tier, &all[..count]).unwrap();
    }
    for (asked, expected) in [(21, 6), (29, 22), (31, 30)] {
        assert_eq!(get(&mut tier, &all[..asked]), expected);
    }
    put_as(&mut tier, &all[..38], BoundaryKind::EndOfQuestion(4)).unwrap();
    for count in [46, 54, 58] {
        put(&mut tier, &all[..count]).unwrap();
    }
    for (asked, expected) in [(37, 0), (53, 38), (60, 58)] {
        assert_eq!(get(&mut tier, &all[..asked]), expected);
    }
}

#[test]
fn the_least_recently_used_go_first_also_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let roomy = settings(folder.path());
    let of = |seed: u32| tokens(seed * 1000, 10);
    let mut tier = DiskTier::open(&roomy).unwrap();
    for seed in 0..4 {
        put(&mut tier, &of(seed)).unwrap();
    }
    assert_eq!(get(&mut tier, &of(0)), 10, "used again");
    let bytes = tier.stats().bytes;
    drop(tier);
    let tight = DiskSettings {
        budget_bytes: bytes * 3 / 4,
        ..roomy
    };
    let mut tier = DiskTier::open(&tight).unwrap();
    let left = |tier: &mut DiskTier| (0..6).map(|s| get(tier, &of(s))).collect::<Vec<_>>();
    assert_eq!(left(&mut tier), [10, 0, 10, 10, 0, 0]);
    put(&mut tier, &of(4)).unwrap();
    assert_eq!(left(&mut tier), [0, 0, 10, 10, 10, 0]);
    assert!(tier.stats().bytes <= tight.budget_bytes);
}

#[test]
fn what_does_not_fit_the_budget_is_not_stored() {
    let folder = tempfile::tempdir().unwrap();
    let settings = DiskSettings {
        budget_bytes: 100,
        ..settings(folder.path())
    };
    let mut tier = DiskTier::open(&settings).unwrap();
    assert_eq!(put(&mut tier, &tokens(0, 400)), None);
    put(&mut tier, &tokens(0, 9));
    assert_eq!(files_in(&settings).len(), 0);
    assert_eq!(get(&mut tier, &tokens(0, 9)), 0);
}

#[test]
fn models_share_a_directory_and_its_budget() {
    let folder = tempfile::tempdir().unwrap();
    let one = settings(folder.path());
    let other = DiskSettings {
        identity: Identity::new(&[("model", b"other")]),
        ..one.clone()
    };
    let prompt = tokens(0, 10);
    {
        let mut tier = DiskTier::open(&one).unwrap();
        put(&mut tier, &prompt).unwrap();
        put(&mut tier, &tokens(1, 10)).unwrap();
    }
    let bytes = {
        let mut tier = DiskTier::open(&other).unwrap();
        assert_eq!(tier.find(&prompt, 0), Found::OtherModel);
        assert_eq!(tier.find(&tokens(7, 10), 0), Found::Nothing);
        put(&mut tier, &prompt).unwrap();
        tier.stats().bytes
    };
    assert_eq!(get(&mut DiskTier::open(&one).unwrap(), &prompt), 10);
    // Room for two entries. By now the first model's second is the oldest, then the other's.
    let tight = DiskSettings {
        budget_bytes: 2 * bytes,
        ..other
    };
    let mut tier = DiskTier::open(&tight).unwrap();
    assert_eq!(get(&mut tier, &prompt), 10);
    put(&mut tier, &tokens(2, 10)).unwrap();
    assert_eq!(get(&mut tier, &prompt), 10);
    assert_eq!(get(&mut tier, &tokens(2, 10)), 10);
    let mut tier = DiskTier::open(&one).unwrap();
    assert_eq!(get(&mut tier, &prompt) + get(&mut tier, &tokens(1, 10)), 0);
}

#[test]
fn a_model_that_is_running_sees_to_its_own_files() {
    let folder = tempfile::tempdir().unwrap();
    let one = settings(folder.path());
    let mut running = DiskTier::open(&one).unwrap();
    put(&mut running, &tokens(0, 10)).unwrap();
    let tight = DiskSettings {
        identity: Identity::new(&[("model", b"other")]),
        budget_bytes: running.stats().bytes * 3 / 2,
        ..one
    };
    let mut tier = DiskTier::open(&tight).unwrap();
    put(&mut tier, &tokens(1, 10));
    assert_eq!(get(&mut tier, &tokens(1, 10)), 0, "no room");
    assert_eq!(get(&mut running, &tokens(0, 10)), 10);
}

#[test]
fn a_second_process_reads_and_leaves_everything_alone() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path());
    let prompt = tokens(0, 10);
    let mut writer = DiskTier::open(&settings).unwrap();
    put(&mut writer, &prompt).unwrap();
    std::fs::write(files_in(&settings)[0].with_extension("partial"), "x").unwrap();
    let before = files_in(&settings);

    let mut reader = DiskTier::open(&settings).unwrap();
    assert_eq!(get(&mut reader, &prompt), 10);
    assert_eq!(put(&mut reader, &tokens(1, 10)), None);
    assert_eq!(files_in(&settings), before);
    // What the writer removes is a miss for the reader.
    for file in files_in(&settings) {
        std::fs::remove_file(file).unwrap();
    }
    assert_eq!(get(&mut reader, &prompt), 0);
    drop((writer, reader));
    let mut next = DiskTier::open(&settings).unwrap();
    assert!(put(&mut next, &tokens(1, 10)).is_some());
}

#[test]
fn some_boundaries_are_written_only_when_the_memory_gives_them_up() {
    let folder = tempfile::tempdir().unwrap();
    let mut tier = DiskTier::open(&settings(folder.path())).unwrap();
    let prompt = tokens(0, 10);
    assert_eq!(put_as(&mut tier, &prompt, BoundaryKind::Spaced), None);
    let evicted = Offer {
        keys: &prompt,
        kind: BoundaryKind::Spaced,
        occasion: Occasion::Evicted,
    };
    assert!(tier.wants(&evicted));
}

#[test]
fn a_full_queue_leaves_entries_out() {
    let folder = tempfile::tempdir().unwrap();
    let settings = DiskSettings {
        queue_bytes: 0,
        ..settings(folder.path())
    };
    let mut tier = DiskTier::open(&settings).unwrap();
    assert_eq!(put(&mut tier, &tokens(0, 9)), None);
    assert_eq!(tier.stats().skipped, 1);
}
