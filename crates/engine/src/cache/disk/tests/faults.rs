//! Damaged files, full disks, foreign files: nothing wrong is served and the next start works.

use std::fs;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::super::medium::partial_path;
use super::*;

/// Two entries of one conversation; the first has a tail and the second none.
fn small_directory() -> (tempfile::TempDir, DiskSettings, Vec<Key>) {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path());
    let all = tokens(0, 12);
    let mut tier = DiskTier::open(&settings).unwrap();
    put(&mut tier, &all[..6]).unwrap();
    put(&mut tier, &all).unwrap();
    drop(tier);
    (folder, settings, all)
}

/// Opens, reads (which compares every byte), stores again and reads again.
fn still_works(settings: &DiskSettings, all: &[Key]) -> usize {
    let mut tier = DiskTier::open(settings).unwrap();
    let found = get(&mut tier, all);
    put(&mut tier, &all[..6]);
    put(&mut tier, all);
    assert_eq!(get(&mut tier, all), all.len());
    found
}

#[test]
fn files_cut_at_any_byte_are_dropped() {
    let (_folder, settings, all) = small_directory();
    for file in files_in(&settings) {
        let whole = fs::read(&file).unwrap();
        for cut in 0..whole.len() {
            fs::write(&file, &whole[..cut]).unwrap();
            assert!(still_works(&settings, &all) < all.len() || is_of_first_entry(&file));
            assert_eq!(fs::read(&file).unwrap(), whole, "{file:?} cut at {cut}");
        }
    }
}

/// The boundary at 6 tokens is not needed to go on from 12.
fn is_of_first_entry(file: &Path) -> bool {
    let name = file.file_name().unwrap().to_str().unwrap();
    name.starts_with("000001-") && name.ends_with("state")
}

#[test]
fn a_flipped_bit_anywhere_is_noticed() {
    let (_folder, settings, all) = small_directory();
    for file in files_in(&settings) {
        let whole = fs::read(&file).unwrap();
        for at in (0..whole.len()).step_by(3) {
            let mut bent = whole.clone();
            bent[at] ^= 1 << (at % 8);
            fs::write(&file, &bent).unwrap();
            assert!(still_works(&settings, &all) < all.len() || is_of_first_entry(&file));
            // Damage in an entry that nobody asked for is found when somebody does.
            fs::write(&file, &whole).unwrap();
        }
    }
}

#[test]
fn damage_while_running_is_noticed() {
    let (_folder, settings, all) = small_directory();
    let mut tier = DiskTier::open(&settings).unwrap();
    for file in files_in(&settings) {
        let whole = fs::read(&file).unwrap();
        let mut bent = whole.clone();
        *bent.last_mut().unwrap() ^= 1;
        fs::write(&file, bent).unwrap();
    }
    assert_eq!(get(&mut tier, &all), 0);
    assert!(tier.stats().unusable >= 1);
}

#[test]
fn foreign_and_older_files_are_never_used() {
    let (_folder, settings, all) = small_directory();
    let own = settings.folder.join(folder::name(&settings.identity));
    // Another model's files under this model's names.
    let other = DiskSettings {
        identity: Identity::new(&[("model", b"other")]),
        ..settings.clone()
    };
    put(&mut DiskTier::open(&other).unwrap(), &all).unwrap();
    for (from, to) in files_in(&other).iter().zip(files_in(&settings)) {
        fs::copy(from, to).unwrap();
    }
    // No cache file, an empty one, a folder of that name, and a file under another's name.
    fs::write(
        own.join("a.state"),
        "something else entirely, and rather long at that",
    )
    .unwrap();
    fs::write(own.join("b.pages"), "").unwrap();
    fs::create_dir(own.join("c.pages")).unwrap();
    let older = settings.folder.join("v0-0123456789abcdef");
    fs::create_dir(&older).unwrap();
    fs::write(older.join("x.state"), "old").unwrap();
    let users_own = settings.folder.join("notes.txt");
    fs::write(&users_own, "mine").unwrap();

    assert_eq!(get(&mut DiskTier::open(&settings).unwrap(), &all), 0);
    fs::remove_dir(own.join("c.pages")).unwrap();
    still_works(&settings, &all);
    assert!(!older.exists());
    assert!(users_own.exists());
    assert_eq!(get(&mut DiskTier::open(&other).unwrap(), &all), all.len());
}

#[test]
fn leftovers_of_killed_writes_are_removed() {
    let (_folder, settings, all) = small_directory();
    let file = files_in(&settings).remove(0);
    let partial = partial_path(&file);
    fs::rename(&file, &partial).unwrap();
    still_works(&settings, &all);
    assert!(!partial.exists());
}

/// A disk that is full after some bytes.
struct Filling {
    left: AtomicUsize,
}

impl Medium for Filling {
    fn write(&self, path: &Path, parts: &[&[u8]]) -> io::Result<()> {
        let whole = parts.concat();
        let left = self.left.load(Ordering::Relaxed);
        if whole.len() <= left {
            self.left.store(left - whole.len(), Ordering::Relaxed);
            return Files.write(path, parts);
        }
        // As far as it goes, and the leftover stays: as if even removing it had failed.
        fs::write(partial_path(path), &whole[..left])?;
        self.left.store(0, Ordering::Relaxed);
        Err(io::Error::from(io::ErrorKind::StorageFull))
    }
}

#[test]
fn a_full_disk_silences_the_tier_and_breaks_nothing() {
    let all = tokens(0, 12);
    for left in (0..1200).step_by(13) {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(folder.path());
        let disk = Filling {
            left: AtomicUsize::new(left),
        };
        let mut tier = DiskTier::open_with(&settings, Box::new(disk)).unwrap();
        for count in [6, 12] {
            put(&mut tier, &all[..count]);
            let found = get(&mut tier, &all[..count]);
            assert!([0, 6, 12].contains(&found));
        }
        let is_full = tier.stats().stored < 2;
        assert_eq!(
            put(&mut tier, &tokens(9, 9)).is_none() && left < 700,
            is_full && left < 700,
            "quiet once it was full"
        );
        let found = get(&mut tier, &all);
        drop(tier);
        assert_eq!(still_works(&settings, &all), found, "{left} bytes left");
        assert!(
            files_in(&settings)
                .iter()
                .all(|f| f.extension().unwrap() != "partial")
        );
    }
}

#[test]
#[cfg(unix)]
fn a_directory_that_cannot_be_written_is_read() {
    use std::os::unix::fs::PermissionsExt;

    let (_folder, settings, all) = small_directory();
    let own = settings.folder.join(folder::name(&settings.identity));
    // A lock that cannot be opened stands for a read-only directory: this also holds for root.
    fs::remove_file(own.join("lock")).unwrap();
    fs::create_dir(own.join("lock")).unwrap();
    fs::set_permissions(&own, fs::Permissions::from_mode(0o555)).unwrap();
    let mut tier = DiskTier::open(&settings).unwrap();
    assert_eq!(get(&mut tier, &all), all.len());
    assert_eq!(put(&mut tier, &tokens(5, 9)), None);
    drop(tier);
    fs::set_permissions(&own, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_directory_that_is_none_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let error = DiskTier::open(&settings(&file)).err().unwrap();
    assert!(error.to_string().contains("file"), "{error}");
}
