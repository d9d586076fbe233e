//! Compiled programs, kept in files.
//!
//! The driver takes an image without its length and would read on past the end of one that was cut short.
//! So a file begins with its image's length and hash, and is not used unless both are right. What one
//! version of the compiler made is in one folder.

use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

const FOLDER: &str = "nvrtc-";

/// The name of the folder for what this version of the compiler made.
pub(crate) fn folder_of((major, minor): (i32, i32)) -> String {
    format!("{FOLDER}{major}.{minor}")
}

/// The newest version of the compiler that there is a folder of.
pub(crate) fn newest(cache: &Path) -> Option<(i32, i32)> {
    let entries = std::fs::read_dir(cache).ok()?.flatten();
    let version = |name: &str| {
        let (major, minor) = name.strip_prefix(FOLDER)?.split_once('.')?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    };
    entries
        .filter_map(|entry| version(entry.file_name().to_str()?))
        .max()
}

/// The image in a file, if it is there and whole.
pub(crate) fn read(path: &Path) -> Option<Vec<u8>> {
    let file = std::fs::read(path).ok()?;
    let (length, rest) = file.split_first_chunk::<8>()?;
    let (hash, image) = rest.split_first_chunk::<8>()?;
    let is_whole = !image.is_empty()
        && u64::from_le_bytes(*length) == image.len() as u64
        && u64::from_le_bytes(*hash) == hash_of(image.iter().copied());
    is_whole.then(|| image.to_vec())
}

/// Writes a file that is whole whenever it is there, after a power cut too.
pub(crate) fn write(path: &Path, image: &[u8]) -> std::io::Result<()> {
    static PARTS: AtomicU32 = AtomicU32::new(0);
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let number = PARTS.fetch_add(1, Ordering::Relaxed);
    let part = path.with_extension(format!("{}-{number}.part", std::process::id()));
    let written = write_part(&part, image).and_then(|()| std::fs::rename(&part, path));
    if written.is_err() {
        let _ = std::fs::remove_file(&part);
    }
    written
}

fn write_part(part: &Path, image: &[u8]) -> std::io::Result<()> {
    let mut file = std::fs::File::create(part)?;
    file.write_all(&(image.len() as u64).to_le_bytes())?;
    file.write_all(&hash_of(image.iter().copied()).to_le_bytes())?;
    file.write_all(image)?;
    // Otherwise the name may reach the disk before the bytes do.
    file.sync_all()
}

/// FNV-1a.
pub(crate) fn hash_of(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
