//! The cache of Hugging Face's tools: `blobs` are files by what is in them, `snapshots` their names at
//! each state of a repository, `refs` the states that have names.
//!
//! ```text
//! hub/models--owner--model/refs/main                       COMMIT
//!                         /blobs/DIGEST
//!                         /snapshots/COMMIT/m-Q4_K_M.gguf   -> ../../blobs/DIGEST
//!    /.locks/models--owner--model/DIGEST.lock
//! ```
//!
//! Folders that llama.cpp filled before it used this cache are read as well.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::HubError;
use super::choose;
use super::listing::RemoteFile;
use super::name::Repository;
use crate::{interrupt, output};

/// The state of a repository that is meant where none is named.
const MAIN: &str = "main";

/// How deep files may be in a repository.
const DEEPEST: usize = 4;

/// Files of a repository that are there whole.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) folder: PathBuf,
    /// What each name in the folder begins with.
    prefix: String,
    /// Their paths in the repository.
    pub(super) files: Vec<String>,
}

impl Snapshot {
    /// Where a file of it is.
    pub(super) fn path_of(&self, file: &str) -> PathBuf {
        self.folder.join(format!("{}{file}", self.prefix))
    }
}

/// What the cache has of a repository, the state that was fetched last before others.
pub(super) fn snapshots(cache: &Path, llama: &Path, repository: &Repository) -> Vec<Snapshot> {
    let folder = cache.join(repository.folder());
    let main = fs::read_to_string(folder.join("refs").join(MAIN)).unwrap_or_default();
    let mut states: Vec<(bool, SystemTime, PathBuf)> = folders(&folder.join("snapshots"))
        .map(|path| {
            let is_main = path.file_name().is_some_and(|name| name == main.trim());
            let time = fs::metadata(&path).and_then(|found| found.modified());
            (is_main, time.unwrap_or(SystemTime::UNIX_EPOCH), path)
        })
        .collect();
    states.sort_by(|a, b| b.cmp(a));
    let mut found: Vec<Snapshot> = states
        .into_iter()
        .map(|(.., folder)| Snapshot {
            files: files(&folder, DEEPEST),
            prefix: String::new(),
            folder,
        })
        .collect();
    let prefix = format!("{}_{}_", repository.owner, repository.model);
    let own = files(llama, 1)
        .into_iter()
        .filter_map(|name| name.strip_prefix(&prefix).map(str::to_owned));
    found.push(Snapshot {
        files: own.collect(),
        folder: llama.to_owned(),
        prefix,
    });
    found.retain(|snapshot| !snapshot.files.is_empty());
    found
}

/// The models in the cache and their types, for people.
pub(super) fn models(cache: &Path) -> Vec<String> {
    let mut found: Vec<String> = folders(cache)
        .filter_map(|path| {
            let repository = Repository::of_folder(path.file_name()?.to_str()?)?;
            let snapshots = snapshots(cache, Path::new(""), &repository);
            let files: Vec<String> = snapshots.into_iter().flat_map(|s| s.files).collect();
            let types: Vec<String> = choose::all_types(&files).into_iter().collect();
            (!types.is_empty()).then(|| format!("{repository} ({})", types.join(", ")))
        })
        .collect();
    found.sort();
    found
}

/// Whether there are as many bytes as there should be; their checksum was right when they came.
pub(super) fn is_whole(path: &Path, file: &RemoteFile) -> bool {
    fs::metadata(path).is_ok_and(|found| found.len() == file.bytes)
}

fn folders(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
}

/// The files in a folder, by their paths in it.
fn files(folder: &Path, depth: usize) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let Some(name) = name.to_str() else {
            continue;
        };
        // A link to what is gone is neither.
        if path.is_file() {
            found.push(name.to_owned());
        } else if path.is_dir() && depth > 1 {
            let inner = files(&path, depth - 1);
            found.extend(inner.iter().map(|file| format!("{name}/{file}")));
        }
    }
    found.sort();
    found
}

/// A repository's folder, to be filled.
#[derive(Debug)]
pub(super) struct Place {
    folder: PathBuf,
    locks: PathBuf,
}

impl Place {
    /// Makes the folders.
    ///
    /// # Errors
    /// When they cannot be made.
    pub(super) fn make(cache: &Path, repository: &Repository) -> Result<Self, HubError> {
        let place = Self {
            folder: cache.join(repository.folder()),
            locks: cache.join(".locks").join(repository.folder()),
        };
        for folder in [&place.folder.join("blobs"), &place.locks] {
            fs::create_dir_all(folder).map_err(HubError::write(folder))?;
        }
        Ok(place)
    }

    /// Where the bytes of this digest are.
    pub(super) fn blob(&self, digest: &str) -> PathBuf {
        self.folder.join("blobs").join(digest)
    }

    /// Whether a state has a file, whole.
    pub(super) fn has(&self, commit: &str, file: &RemoteFile) -> bool {
        is_whole(&self.snapshot(commit).join(&file.path), file)
    }

    /// The folder of a state.
    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.folder.join("snapshots").join(commit)
    }

    /// Keeps all others from fetching the same bytes, here and in Hugging Face's tools. Waits while
    /// others do.
    ///
    /// # Errors
    /// When the lock cannot be made, or on Ctrl-C.
    pub(super) fn lock(&self, digest: &str) -> Result<File, HubError> {
        let path = self.locks.join(format!("{digest}.lock"));
        let file = File::options().create(true).append(true).open(&path);
        let file = file.map_err(HubError::write(&path))?;
        let mut was_told = false;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(HubError::write(&path)(error)),
            }
            if !was_told {
                output::note("another program fetches the same file; waiting for it");
                was_told = true;
            }
            interrupt::check()?;
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Gives a blob its name in a state, of which it may have had another one before.
    ///
    /// # Errors
    /// When the name cannot be made.
    pub(super) fn link(&self, commit: &str, path: &str, digest: &str) -> Result<(), HubError> {
        let name = self.snapshot(commit).join(path);
        let write = HubError::write(&name);
        let link = || -> io::Result<()> {
            if let Some(folder) = name.parent() {
                fs::create_dir_all(folder)?;
            }
            let part = name.with_added_extension(format!("{}.part", std::process::id()));
            point(&part, path.split('/').count(), &self.blob(digest))?;
            fs::rename(&part, &name)
        };
        link().map_err(write)
    }

    /// Says which state is that of now.
    ///
    /// # Errors
    /// When that cannot be written.
    pub(super) fn set_main(&self, commit: &str) -> Result<(), HubError> {
        let path = self.folder.join("refs").join(MAIN);
        let part = path.with_extension(format!("{}.part", std::process::id()));
        let write = || -> io::Result<()> {
            fs::create_dir_all(self.folder.join("refs"))?;
            fs::write(&part, commit)?;
            fs::rename(&part, &path)
        };
        write().map_err(HubError::write(&path))
    }
}

/// Makes a name `depth` folders below a state's lead to a blob: by a link such that the cache can be moved,
/// else as a second name of the same bytes, else (on disks that have neither) as their only one.
fn point(name: &Path, depth: usize, blob: &Path) -> io::Result<()> {
    let up = "../".repeat(depth + 1);
    let digest = blob.file_name().unwrap_or_default();
    link(&Path::new(&up).join("blobs").join(digest), name)
        .or_else(|_| fs::hard_link(blob, name))
        .or_else(|_| fs::rename(blob, name))
}

#[cfg(unix)]
fn link(to: &Path, name: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(to, name)
}

/// Not everybody may make links there.
#[cfg(not(unix))]
fn link(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repository() -> Repository {
        Repository::of_folder("models--a--b").unwrap()
    }

    #[test]
    fn what_was_put_in_is_found() {
        let cache = tempfile::tempdir().unwrap();
        let place = Place::make(cache.path(), &repository()).unwrap();
        for (commit, digest) in [("c1", "d1"), ("c2", "d2"), ("c3", "d3")] {
            fs::write(place.blob(digest), digest).unwrap();
            place.link(commit, "Q8_0/m-Q8_0.gguf", digest).unwrap();
        }
        place.link("c1", "gone.gguf", "nowhere").unwrap();
        place.set_main("c1").unwrap();
        // Again, as another fetch would.
        place.link("c1", "Q8_0/m-Q8_0.gguf", "d2").unwrap();
        let found = snapshots(cache.path(), Path::new("/nowhere"), &repository());
        assert_eq!(found.len(), 3);
        assert_eq!(found[0].folder, place.snapshot("c1"), "main comes first");
        assert_eq!(found[0].files, ["Q8_0/m-Q8_0.gguf"]);
        let path = found[0].path_of(&found[0].files[0]);
        assert_eq!(fs::read_to_string(path).unwrap(), "d2");
        assert_eq!(models(cache.path()), ["a/b (Q8_0)"]);
    }

    #[test]
    fn folders_of_llama_cpp_are_read() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a_b_m-Q8_0.gguf", "x_y_m-Q4_0.gguf"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let found = snapshots(Path::new("/nowhere"), folder.path(), &repository());
        assert_eq!(found[0].files, ["m-Q8_0.gguf"]);
        let path = found[0].path_of("m-Q8_0.gguf");
        assert_eq!(path, folder.path().join("a_b_m-Q8_0.gguf"));
    }

    #[test]
    fn a_lock_is_held_until_it_is_dropped() {
        let cache = tempfile::tempdir().unwrap();
        let place = Place::make(cache.path(), &repository()).unwrap();
        let held = place.lock("d").unwrap();
        let other = std::thread::scope(|scope| {
            let waits = scope.spawn(|| place.lock("d").map(drop));
            std::thread::sleep(Duration::from_millis(50));
            assert!(!waits.is_finished());
            drop(held);
            waits.join().unwrap()
        });
        other.unwrap();
    }
}
