//! Which file was measured: its size and a hash, so that two results can be told to be of one file.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::xxh64::Xxh64;
use crate::interrupt;

/// The beginning that is always hashed: header and tensor table of most files.
const HEAD: u64 = 1 << 20;
/// The ranges that are sampled of the rest, and their length.
const SAMPLES: u64 = 64;
const SAMPLE: u64 = 64 << 10;

/// How much of the files was hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HashKind {
    /// The size, the first MiB, 64 ranges of 64 KiB evenly over the rest, the last one at the
    /// end; files one after the other.
    Sampled,
    /// Every byte, the files one after the other. Of one file, what `xxhsum -H1` prints.
    Full,
}

impl HashKind {
    /// As results name it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            HashKind::Sampled => "xxh64-sampled",
            HashKind::Full => "xxh64",
        }
    }
}

/// Hashes files.
///
/// # Errors
/// If one cannot be read, or Ctrl-C was pressed.
pub(crate) fn hash_files(paths: &[PathBuf], kind: HashKind) -> anyhow::Result<u64> {
    let mut hash = Xxh64::new();
    for path in paths {
        hash_file(path, kind, &mut hash).with_context(|| format!("hash {}", path.display()))?;
    }
    Ok(hash.finish())
}

fn hash_file(path: &Path, kind: HashKind, hash: &mut Xxh64) -> anyhow::Result<()> {
    let mut file = File::open(path)?;
    let size = file.metadata()?.len();
    if kind == HashKind::Full || size <= HEAD + SAMPLES * SAMPLE {
        if kind == HashKind::Sampled {
            hash.update(&size.to_le_bytes());
        }
        return feed(&mut file, u64::MAX, hash);
    }
    hash.update(&size.to_le_bytes());
    feed(&mut file, HEAD, hash)?;
    let span = size - HEAD - SAMPLE;
    for index in 0..SAMPLES {
        let at = HEAD + (u128::from(span) * u128::from(index) / u128::from(SAMPLES - 1)) as u64;
        file.seek(SeekFrom::Start(at))?;
        feed(&mut file, SAMPLE, hash)?;
    }
    Ok(())
}

/// Hashes at most `count` bytes from where the file stands.
fn feed(file: &mut File, count: u64, hash: &mut Xxh64) -> anyhow::Result<()> {
    let mut buffer = vec![0; 1 << 20];
    let mut rest = count;
    while rest > 0 {
        interrupt::check()?;
        let wanted = buffer
            .len()
            .min(usize::try_from(rest).unwrap_or(usize::MAX));
        let read = match file.read(&mut buffer[..wanted]) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error.into()),
        };
        hash.update(&buffer[..read]);
        rest -= read as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn sampling_sees_head_end_and_size() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let mut bytes = vec![7u8; 8 << 20];
        let mut hash_of = |bytes: &[u8]| {
            file.as_file_mut().set_len(0).unwrap();
            file.seek(SeekFrom::Start(0)).unwrap();
            file.write_all(bytes).unwrap();
            hash_files(&[file.path().to_owned()], HashKind::Sampled).unwrap()
        };
        let plain = hash_of(&bytes);
        assert_eq!(hash_of(&bytes), plain);
        assert_ne!(hash_of(&bytes[..bytes.len() - 1]), plain, "size");
        for at in [0, (1 << 20) - 1, bytes.len() - 1] {
            bytes[at] ^= 1;
            assert_ne!(hash_of(&bytes), plain, "byte {at}");
            bytes[at] ^= 1;
        }
    }

    #[test]
    fn a_full_hash_is_that_of_the_bytes() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"abc").unwrap();
        let hash = hash_files(&[file.path().to_owned()], HashKind::Full).unwrap();
        assert_eq!(hash, 0x44BC_2CF5_AD77_0999);
    }
}
