//! A file that has not come whole yet: `DIGEST.incomplete` in the cache, with what is known of where
//! its bytes are from beside it.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256};

use super::HubError;
use super::listing::{Digest, RemoteFile};
use crate::interrupt;

/// Read at once.
const PIECE: usize = 1 << 20;

/// A file in the making. Its bytes are counted and hashed as they come.
pub(super) struct Partial {
    path: PathBuf,
    file: File,
    hash: Context,
    whole: u64,
    digest: Digest,
    bytes: u64,
    /// What the server called the bytes.
    tag: Option<String>,
}

impl Partial {
    /// Goes on with what is there. `progress` takes how many bytes of it were read.
    ///
    /// # Errors
    /// When it cannot be read or made, or on Ctrl-C.
    pub(super) fn open(
        blob: &Path,
        file: &RemoteFile,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Self, HubError> {
        let path = blob.with_added_extension("incomplete");
        let opened = File::options()
            .create(true)
            .read(true)
            .write(true)
            .truncate(false)
            .open(&path);
        let mut partial = Self {
            file: opened.map_err(HubError::write(&path))?,
            hash: hash(&file.digest, file.bytes),
            whole: file.bytes,
            digest: file.digest.clone(),
            bytes: 0,
            tag: fs::read_to_string(tag_path(&path)).ok(),
            path,
        };
        let length = partial.file.metadata().map(|found| found.len());
        if length.map_err(HubError::write(&partial.path))? > file.bytes {
            partial.restart()?;
        }
        partial.read(progress)?;
        Ok(partial)
    }

    /// Hashes what has come before.
    fn read(&mut self, progress: &mut dyn FnMut(u64)) -> Result<(), HubError> {
        let mut piece = vec![0; PIECE];
        loop {
            interrupt::check()?;
            match self.file.read(&mut piece) {
                Ok(0) => return Ok(()),
                Ok(count) => {
                    self.hash.update(&piece[..count]);
                    self.bytes += count as u64;
                    progress(self.bytes);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(HubError::write(&self.path)(error)),
            }
        }
    }

    /// How many bytes have come.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many are to come.
    pub(super) fn rest(&self) -> u64 {
        self.whole - self.bytes
    }

    /// Whether bytes of this name go on where these end. Where one has no name the checksum decides.
    pub(super) fn goes_on_with(&self, tag: Option<&str>) -> bool {
        match (self.tag.as_deref(), tag) {
            (Some(own), Some(other)) => own == other,
            _ => true,
        }
    }

    /// Remembers the name of the bytes that come now.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn set_tag(&mut self, tag: Option<String>) -> Result<(), HubError> {
        if self.tag == tag {
            return Ok(());
        }
        let path = tag_path(&self.path);
        let kept = match &tag {
            Some(tag) => fs::write(&path, tag),
            None => fs::remove_file(&path),
        };
        self.tag = tag;
        kept.map_err(HubError::write(&path))
    }

    /// Puts bytes behind the others; there have to be no more than [`Self::rest`].
    ///
    /// # Errors
    /// When they cannot be written.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), HubError> {
        self.file
            .write_all(bytes)
            .map_err(HubError::write(&self.path))?;
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Throws away what has come.
    ///
    /// # Errors
    /// When it cannot be.
    pub(super) fn restart(&mut self) -> Result<(), HubError> {
        let empty = self.file.set_len(0);
        let empty = empty.and_then(|()| self.file.seek(SeekFrom::Start(0)));
        empty.map_err(HubError::write(&self.path))?;
        self.hash = hash(&self.digest, self.whole);
        self.bytes = 0;
        self.set_tag(None)
    }

    /// The checksum of a file that has come whole, where that is a wrong one.
    pub(super) fn wrong_digest(&self) -> Option<String> {
        let found = self.hash.clone().finish();
        let found: String = found.as_ref().iter().map(|b| format!("{b:02x}")).collect();
        (found != self.digest.text()).then_some(found)
    }

    /// Gives the whole file its name.
    ///
    /// # Errors
    /// When that cannot be done.
    pub(super) fn finish(self, blob: &Path) -> Result<(), HubError> {
        let done = self.file.sync_all();
        let done = done.and_then(|()| fs::rename(&self.path, blob));
        done.map_err(HubError::write(blob))?;
        // It may not be there.
        let _ = fs::remove_file(tag_path(&self.path));
        Ok(())
    }
}

fn tag_path(path: &Path) -> PathBuf {
    path.with_added_extension("etag")
}

/// What git calls a file is hashed with its length before it.
fn hash(digest: &Digest, bytes: u64) -> Context {
    match digest {
        Digest::Sha256(_) => Context::new(&SHA256),
        Digest::Git(_) => {
            let mut hash = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
            hash.update(format!("blob {bytes}\0").as_bytes());
            hash
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(bytes: u64, digest: Digest) -> RemoteFile {
        let path = "m.gguf".to_owned();
        RemoteFile {
            path,
            bytes,
            digest,
        }
    }

    #[test]
    fn it_is_continued_and_known_by_its_checksum() {
        let folder = tempfile::tempdir().unwrap();
        let blob = folder.path().join("blob");
        let sha256 = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
        // As `git hash-object` says.
        let git = "b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0";
        for digest in [
            Digest::Sha256(sha256.to_owned()),
            Digest::Git(git.to_owned()),
        ] {
            let file = file(5, digest);
            let mut partial = Partial::open(&blob, &file, &mut |_| {}).unwrap();
            partial.set_tag(Some("one".to_owned())).unwrap();
            partial.push(b"hel").unwrap();
            drop(partial);
            let mut told = 0;
            let mut partial = Partial::open(&blob, &file, &mut |bytes| told = bytes).unwrap();
            assert_eq!((told, partial.bytes(), partial.rest()), (3, 3, 2));
            assert!(partial.goes_on_with(Some("one")) && partial.goes_on_with(None));
            assert!(!partial.goes_on_with(Some("two")));
            partial.push(b"xx").unwrap();
            assert!(partial.wrong_digest().is_some());
            partial.restart().unwrap();
            assert!(partial.goes_on_with(Some("two")));
            partial.push(b"hello").unwrap();
            assert_eq!(partial.wrong_digest(), None);
            partial.finish(&blob).unwrap();
            assert_eq!(fs::read(&blob).unwrap(), b"hello");
            let left = fs::read_dir(folder.path()).unwrap().count();
            assert_eq!(left, 1, "nothing else is left");
        }
    }

    #[test]
    fn more_than_there_can_be_is_thrown_away() {
        let folder = tempfile::tempdir().unwrap();
        let blob = folder.path().join("blob");
        fs::write(blob.with_added_extension("incomplete"), "too long").unwrap();
        let file = file(5, Digest::Sha256(String::new()));
        assert_eq!(Partial::open(&blob, &file, &mut |_| {}).unwrap().bytes(), 0);
    }
}
